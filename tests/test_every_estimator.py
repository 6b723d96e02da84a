"""What holds for every method in `ESTIMATORS`. A new one is tested by being registered."""

from __future__ import annotations

import inspect
import itertools
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn

SHAPES = ((4, 3), (16, 10), (2, 2))

pytestmark = pytest.mark.parametrize("name", osp.ESTIMATORS)


def works(estimator: osp.Estimator, model: osp.models.Model) -> bool:
    try:
        estimator.check(model)
    except ValueError:
        return False
    return True


def random_transformer(seed: int) -> osp.Transformer:
    rng = np.random.default_rng(seed)
    shapes = ((3, 2), (3, 2), (2, 6, 2), (2, 2, 2), (3, 2))
    return osp.Transformer(*(rng.normal(size=shape) for shape in shapes))


@cache
def networks(name: str) -> tuple[osp.models.Model, ...]:
    """Networks of one shape that the method works with: random ones, or noisy copies of the one that is shipped."""
    estimator = osp.ESTIMATORS[name]()
    for task, (d, n) in itertools.product(osp.TASKS, SHAPES):
        if "advice" in estimator.settings:
            break  # advice is for trained networks
        if task == "longest_cycle":
            found = tuple(random_transformer(seed) for seed in range(12))
        elif task == "argmedian" and n % 2 == 0:
            continue
        else:
            found = tuple(osp.NoiseEnsemble(random_rnn(d, n, task, seed=2), scale=0.01, size=12, seed=4))
        if works(estimator, found[0]):
            return found
    try:
        shipped = osp.zoo.load("2nd_argmax", hidden_size=16, seq_len=10)
        estimator.check(shipped)
    except ValueError as error:  # advice is made after the networks that it is for
        pytest.skip(str(error))
    return tuple(osp.NoiseEnsemble(shipped, scale=0.01, size=12, seed=4))


def network(name: str) -> osp.models.Model:
    return networks(name)[0]


def truth_of(models: tuple[osp.models.Model, ...]) -> osp.Truth:
    if models[0].task.inputs == "gaussian":
        return osp.ground_truth(models, 2**17, cache=False)
    n = models[0].seq_len
    x = np.array(list(itertools.product(range(n), repeat=n)))
    return osp.Truth.exact([(m.forward(x).argmax(axis=1) == m.task.target(x)).mean() for m in models])


def made(name: str, at_least: int = 256) -> tuple[osp.Estimator, int]:
    """The method with its defaults and a budget that is enough for it."""
    estimator = osp.ESTIMATORS[name]()
    return estimator, max(at_least, estimator.minimum_budget(network(name)))


def result(estimate: osp.Estimate) -> tuple[float, float | None, float, float]:
    """All of an estimate but the time that it took."""
    return estimate.value, estimate.standard_error, estimate.cost.multiply_adds, estimate.cost.evaluations


def test_it_is_described(name):
    cls = osp.ESTIMATORS[name]
    assert cls.method == name
    assert cls.league in ("sampling", "deterministic", "with advice")
    assert cls.supports <= set(osp.TASKS)
    assert inspect.getdoc(cls)
    assert cls.__name__ in osp.__all__
    assert getattr(osp, cls.__name__) is cls


def test_settings_are_the_constructors_arguments(name):
    estimator = osp.ESTIMATORS[name]()
    parameters = inspect.signature(type(estimator)).parameters
    assert list(estimator.settings) == list(parameters)
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    again = type(estimator)(**estimator.settings)
    assert repr(again) == repr(estimator)
    assert repr(estimator).startswith(f"{type(estimator).__name__}(")


def test_the_same_seed_gives_the_same_for_any_threads(name):
    estimator, budget = made(name, 3000)
    first = estimator.estimate(network(name), budget, rng=7)
    assert result(first) == result(estimator.estimate(network(name), budget, rng=7, threads=2))
    assert first.method == name
    assert (first.threads, first.isa) == (1, osp.build_info()["isa"])
    other = estimator.estimate(network(name), budget, rng=8)
    if estimator.league == "deterministic":
        assert result(first) == result(other)
    if estimator.league == "sampling":
        assert first.value != other.value


def test_a_batch_gives_the_same_as_single_networks(name):
    estimator, budget = made(name)
    models = networks(name)[:5]
    batch = estimator.estimate_many(models, budget, rng=3)
    seeds = np.random.SeedSequence(3).spawn(len(models))
    single = [estimator.estimate(m, budget, rng=s) for m, s in zip(models, seeds, strict=True)]
    # Up to the order of float32 additions, where a batch has networks side by side in vectors.
    for one, other in zip(batch, single, strict=True):
        assert [x for x in result(one) if x is not None] == pytest.approx(
            [x for x in result(other) if x is not None], rel=1e-5
        )
    threaded = estimator.estimate_many(models, budget, rng=3, threads=2)
    assert [result(e) for e in threaded] == [result(e) for e in batch]
    assert {e.method for e in batch} == {name}
    assert estimator.estimate_many([], budget) == []


def test_two_python_threads_do_not_disturb_each_other(name):
    estimator, budget = made(name)
    models = networks(name)[:4] * 4
    alone = [result(estimator.estimate(m, budget, rng=1)) for m in models]
    with ThreadPoolExecutor(2) as pool:
        assert [result(e) for e in pool.map(lambda m: estimator.estimate(m, budget, rng=1), models)] == alone


def test_it_pickles(name):
    estimator, budget = made(name)
    again = pickle.loads(pickle.dumps(estimator))
    assert repr(again) == repr(estimator)
    model = network(name)
    assert result(again.estimate(model, budget, rng=1)) == result(estimator.estimate(model, budget, rng=1))


def test_it_says_what_it_used_and_keeps_to_its_budget(name):
    estimator, least = made(name, 1)
    model = network(name)
    for budget in (least, 4 * least + 3, 5000 + least):
        estimate = estimator.estimate(model, budget, rng=0)
        assert 0 <= estimate.cost.multiply_adds <= budget * model.forward_multiply_adds * (1 + 1e-9)
        assert estimate.cost.evaluations >= 0
        assert estimate.cost.seconds > 0
        assert math.isfinite(estimate.value)
        if estimate.standard_error is not None:
            assert 0 <= estimate.standard_error < math.inf
            low, high = estimate.confidence_interval(0.9)
            assert low <= estimate.value <= high
        assert isinstance(str(estimate), str)


def test_it_estimates_the_truth(name):
    """Within its stated error where it states one; otherwise at least not further off with more to spend."""
    estimator, budget = made(name, 2**12)
    models = networks(name)
    truth = truth_of(models)

    def errors(spent: int) -> tuple[np.ndarray, list[osp.Estimate]]:
        estimates = estimator.estimate_many(models, spent, rng=5)
        return np.array([e.value for e in estimates]) - truth.values, estimates

    error, estimates = errors(budget)
    stated = [e.standard_error for e in estimates]
    if None not in stated:
        stated_error = np.hypot(np.array(stated, dtype=float), truth.standard_errors)
        pulls = error / np.maximum(stated_error, 1e-12)
        assert np.abs(pulls).max() < 5
        assert np.sqrt(np.mean(pulls**2)) < 2
    else:
        coarse, _ = errors(max(1, estimator.minimum_budget(network(name))))
        assert np.abs(error).mean() <= np.abs(coarse).mean() + 0.02
    if models[0].task.quantity == "accuracy":
        assert all(0 <= e.value <= 1 for e in estimates)


def test_a_dead_network_answers_the_first_position(name):
    """All logits are 0, the tie goes to position 0, and that is right once in n times."""
    estimator = osp.ESTIMATORS[name]()
    if estimator.league == "with advice":
        pytest.skip("advice holds for the network that it was made for")
    for task, (d, n) in itertools.product(("2nd_argmax", "argmax", "argmedian"), SHAPES):
        if task == "argmedian" and n % 2 == 0:
            continue
        dead = osp.RNN(np.zeros((d, d)), -np.ones(d), np.zeros((n, d)), task=task)
        if not works(estimator, dead):
            continue
        estimate = estimator.estimate(dead, max(2**12, estimator.minimum_budget(dead)), rng=0)
        tolerance = 1e-6 if estimate.standard_error is None else max(1e-9, 5 * estimate.standard_error)
        if estimator.league == "deterministic":
            tolerance = 0.03  # point rules and propagation are not exact here either
        assert estimate.value == pytest.approx(1 / n, abs=tolerance)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"budget": 0}, ValueError, "budget must be at least 1, got 0"),
        ({"budget": -3}, ValueError, "budget must be at least 1, got -3"),
        ({"budget": 1.5}, TypeError, "budget must be an integer, got 1.5"),
        ({"budget": True}, TypeError, "budget must be an integer, got True"),
        ({"threads": 0}, ValueError, "threads must be at least 1, got 0"),
        ({"rng": "seed"}, TypeError, "rng must be None, an int"),
        ({"rng": -1}, ValueError, "rng must be a non-negative integer, got -1"),
        ({"model": "model.pth"}, TypeError, "model must be"),
    ],
)
def test_bad_arguments(name, change, error, message):
    estimator, budget = made(name)
    arguments = {"model": network(name), "budget": budget, "rng": 0, "threads": 1, **change}
    with pytest.raises(error, match=message):
        estimator.estimate(**arguments)


def test_a_budget_below_the_minimum_is_refused(name):
    estimator = osp.ESTIMATORS[name]()
    least = estimator.minimum_budget(network(name))
    estimator.estimate(network(name), least, rng=0)
    if least > 1:
        with pytest.raises(ValueError, match=f"budget must be at least {least} for method {name}, got {least - 1}"):
            estimator.estimate(network(name), least - 1, rng=0)


def test_networks_that_it_cannot_do_are_refused_with_the_reason(name):
    estimator = osp.ESTIMATORS[name]()
    for task in osp.TASKS:
        for biases in (False, True):
            model = random_transformer(0) if task == "longest_cycle" else random_rnn(4, 3, task, biases=biases)
            if task not in estimator.supports:
                with pytest.raises(ValueError, match=f"supports the tasks .*got {task}"):
                    estimator.estimate(model, 10**6, rng=0)
            elif model.has_biases and estimator.needs_no_biases:
                with pytest.raises(ValueError, match="without biases"):
                    estimator.estimate(model, 10**6, rng=0)


def test_an_earlier_call_does_not_wave_a_bad_one_through(name):
    estimator, budget = made(name)
    model = network(name)
    first = result(estimator.estimate(model, budget, rng=1))
    assert result(estimator.estimate(model, np.int64(budget), rng=1)) == first
    with pytest.raises(TypeError, match="budget must be an integer"):
        estimator.estimate(model, float(budget), rng=1)
    with pytest.raises(TypeError, match="threads must be an integer, got True"):
        estimator.estimate(model, budget, rng=1, threads=True)
    with pytest.raises(TypeError, match="rng must be None, an int"):
        estimator.estimate(model, budget, rng="seed")
    with pytest.raises(TypeError, match="model must be"):
        estimator.estimate(np.ones(3), budget)
    if "median" not in estimator.supports:
        d, n = model.hidden_size, model.seq_len
        with pytest.raises(ValueError, match="supports the tasks"):
            estimator.estimate(random_rnn(d, n, "median"), budget)


def test_what_is_kept_does_not_outlive_a_setting(name):
    """Checked and prepared again after an attribute was set; the same for any number of budgets."""
    estimator, budget = made(name)
    model = network(name)
    before = [result(estimator.estimate(model, budget + extra, rng=1)) for extra in range(20)]
    assert [result(estimator.estimate(model, budget + extra, rng=1)) for extra in range(20)] == before
    for setting in estimator.settings:
        setattr(estimator, setting, getattr(estimator, setting))
        assert not estimator._plans
    assert result(estimator.estimate(model, budget, rng=1)) == before[0]
