"""Comparisons: what is measured, with which error, and that it can be read back, resumed and spread."""

from __future__ import annotations

import itertools
import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn
from outsample._progress import Progress
from outsample._timing import SamplingTime, interleaved

BUDGETS = (16, 64, 256)


class Oracle(osp.Estimator):
    """Knows the truth up to an error of its own that is the same for every network."""

    league = "deterministic"

    def __init__(self, *, error: float = 0.01) -> None:
        self.error = error

    def _estimate(self, model, task, budget, rng, threads):
        value = osp.ground_truth([model], 2**14, cache=False, threads=1).values[0] + self.error
        return osp.Estimate(value=value, cost=osp.Cost(multiply_adds=0.5 * model.forward_multiply_adds))


class Picky(osp.Estimator):
    """Needs 64 forward passes, gives up at 256."""

    def minimum_budget(self, model):
        return 64

    def _estimate(self, model, task, budget, rng, threads):
        if budget == 256:
            raise ValueError("budget must not be 256, got 256")
        return osp.Estimate(value=math.nan if budget == 128 else 0.5)


def ensemble(size: int = 32) -> osp.NoiseEnsemble:
    return osp.NoiseEnsemble(random_rnn(4, 3, seed=2), scale=0.1, size=size, seed=1)


def run(estimators=(), budgets=BUDGETS, size=32, **changes) -> osp.Comparison:
    settings = {"truth_samples": 2**14, "rounds": 0, "cache": False, "constant": False, **changes}
    return osp.compare(list(estimators), ensemble(size), budgets, **settings)


@pytest.fixture(scope="module")
def timed() -> osp.Comparison:
    return run([Oracle(), Picky()], (16, 64, 128, 256), rounds=3, round_seconds=1e-4)


def test_monte_carlo_is_worth_its_samples():
    """N_eq = N within the error bars, and the intervals hold N about as often as they should."""
    held = []
    for seed in range(12):
        for point in run(size=64, seed=seed, budgets=(16, 128), truth_samples=2**17)["monte-carlo"]:
            low, high = point.n_eq_interval
            held.append(low <= point.budget <= high)
            assert abs(math.log(point.n_eq / point.budget)) < math.log(high / low)  # four standard errors
            assert point.advantage_multiply_adds == pytest.approx(point.n_eq / point.budget)
            assert not point.limited_by_truth
    assert np.mean(held) > 0.75


def test_the_truths_own_variance_is_removed():
    """Judged by a truth of few samples, a method that is exact still has a mean squared error of 0."""
    models = ensemble(256)
    truth = osp.ground_truth(models, 2**17, cache=False)
    exact = {m.digest: v for m, v in zip(models, truth.values, strict=True)}

    class Exact(osp.Estimator):
        def _estimate(self, model, task, budget, rng, threads):
            return osp.Estimate(value=exact[model.digest], standard_error=0.0)

    result = osp.compare([Exact()], models, [16], truth_samples=200, rounds=0, cache=False)
    (point,) = result["exact"]
    raw = result.measurements[1].squared_errors.mean()
    assert raw == pytest.approx(result.truth.noise, rel=0.4)
    assert abs(point.mse) < 0.4 * raw
    assert point.limited_by_truth
    assert point.coverage is None
    assert point.mse_interval.low < 0 < point.mse_interval.high
    assert point.n_eq_interval.high == math.inf


def test_a_known_error_is_measured():
    result = run([Oracle(error=0.1)])
    (point,) = result["oracle"]  # a deterministic method with one answer for all budgets has one point
    assert point.mse == pytest.approx(0.01, rel=0.03)
    assert point.bias == pytest.approx(0.1, abs=0.003)
    assert point.n_eq == pytest.approx(result.truth.variance / 0.01, rel=0.03)
    assert point.n_eq_interval.low < point.n_eq < point.n_eq_interval.high
    assert point.forwards == 0.5
    assert point.advantage_multiply_adds == pytest.approx(point.n_eq / 0.5)


def test_bootstrap_intervals_cover():
    """95% intervals of the mean of squared normals at 64 models hold 1 about as often as they say."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(100):
        truth = osp.Truth.exact(np.full(64, 0.5))
        measurement = osp.comparison.Measurement("x", 1, rng.normal(size=64) ** 2, 0.0, None, 1, 1)
        method = osp.comparison.Method("x", "x", "sampling", {}, None, False)
        made = osp.Comparison({"forward_multiply_adds": 1}, truth, (method,), (measurement,), (), None, {})
        low, high = made.points[0].mse_interval
        held += low <= 1 <= high
    assert 0.86 < held / 100 < 0.98


def test_the_constant_comes_from_other_networks():
    result = run(size=200, constant=True)
    (point,) = result["constant"]
    spread = result.truth.values.var() - result.truth.noise
    assert point.mse == pytest.approx(spread, rel=0.1)
    assert point.advantage_multiply_adds is None
    method = next(m for m in result.methods if m.label == "constant")
    assert method.advice.evaluations == 256 * 2**16
    with pytest.raises(ValueError, match="role 'fitting'"):
        osp.Constant.fit(ensemble())


def test_refusals_are_reported_with_their_reasons(timed):
    refused = {r.budget: r.reason for r in timed.refusals if r.label == "picky"}
    assert refused == {
        16: "budget must be at least 64 for method picky, got 16",
        128: "estimate is nan",
        256: "budget must not be 256, got 256",
    }
    assert [p.budget for p in timed["picky"]] == [64]
    assert "| picky  | 16" in timed.report()


def test_a_method_that_does_not_know_the_task_is_reported():
    class OnlyArgmax(osp.Estimator):
        supports = frozenset({"argmax"})

        def _estimate(self, model, task, budget, rng, threads):
            raise AssertionError

    result = run([OnlyArgmax()], (16,))
    assert "supports the tasks argmax, got 2nd_argmax" in result.refusals[0].reason


def test_times_are_measured(timed):
    assert timed.sampling_time.per_sample > 0
    for point in timed.points:
        assert point.seconds > 0
        assert point.advantage_time > 0
    by_label = {m.label: m.seconds for m in timed.measurements if m.budget == 64}
    assert by_label["monte-carlo"].rounds == 3
    assert by_label["monte-carlo"].low <= by_label["monte-carlo"].median <= by_label["monte-carlo"].high


def test_batch_mode():
    result = run(rounds=2, round_seconds=1e-4, mode="batch")
    assert all(point.seconds > 0 for point in result.points)
    assert result.settings["mode"] == "batch"


def test_threads_executors_and_the_cut_change_nothing(monkeypatch):
    serial = run(size=20)
    with ThreadPoolExecutor(3) as pool:
        spread = run(size=20, executor=pool)
    monkeypatch.setattr("outsample.comparison._PIECE", 300)
    cut = run(size=20)
    threads = run(size=20, threads=2)
    for other in (spread, cut, threads):
        for a, b in zip(serial.measurements, other.measurements, strict=True):
            np.testing.assert_array_equal(a.squared_errors, b.squared_errors)
            assert (a.label, a.budget, a.coverage) == (b.label, b.budget, b.coverage)


def test_repeats_and_seeds_are_independent():
    one, four = run(repeats=1, budgets=(16,)), run(repeats=4, budgets=(16,))
    assert not np.array_equal(one.measurements[0].squared_errors, four.measurements[0].squared_errors)
    other = run(repeats=1, budgets=(16,), seed=1)
    assert not np.array_equal(one.measurements[0].squared_errors, other.measurements[0].squared_errors)


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("outsample.comparison._PIECE", 200)
    whole = run(size=10)
    calls = []
    original = osp.comparison._evaluate

    def interrupted(*args):
        if len(calls) == 7:
            raise KeyboardInterrupt
        calls.append(args)
        return original(*args)

    monkeypatch.setattr("outsample.comparison._evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(size=10, folder=tmp_path)
    kept = (tmp_path / "pieces.jsonl").read_text()
    assert len(kept.splitlines()) == 7
    (tmp_path / "pieces.jsonl").write_text(kept + '{"key": "cut o')  # an interruption in the middle of a line
    finished = []
    monkeypatch.setattr("outsample.comparison._evaluate", lambda *args: finished.append(1) or original(*args))
    again = run(size=10, folder=tmp_path)
    pieces = len((tmp_path / "pieces.jsonl").read_text().splitlines())
    assert len(finished) == pieces - 7
    for a, b in zip(whole.measurements, again.measurements, strict=True):
        np.testing.assert_array_equal(a.squared_errors, b.squared_errors)


def test_saved_and_loaded_are_the_same(timed, tmp_path):
    timed.save(tmp_path / "run.json")
    again = osp.Comparison.load(tmp_path / "run.json")
    assert again.report() == timed.report()
    assert again.to_dict() == timed.to_dict()
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["schema_version"] == 1
    assert {"version", "compiler", "cpu", "isa", "commit", "date"} <= record["environment"].keys()


def test_loading_refuses_other_files(timed, tmp_path):
    path = tmp_path / "run.json"
    for text, message in (
        ("", "not a JSON file"),
        ("[]", "must have schema"),
        ('{"schema": "x"}', "must have schema"),
        (json.dumps({**timed.to_dict(), "schema_version": 99}), "schema_version must be 1, got 99"),
        (json.dumps({**timed.to_dict(), "truth": {}}), "damaged"),
        (json.dumps({**timed.to_dict(), "measurements": [{}]}), "damaged"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            osp.Comparison.load(path)


def test_a_list_of_networks_will_do():
    models = [random_rnn(3, 3, seed=s) for s in range(4)]
    result = osp.compare([], models, [16], truth_samples=1000, rounds=0, cache=False)
    assert [m.label for m in result.methods] == ["monte-carlo"]
    assert result.ensemble["size"] == 4


def test_labels_are_told_apart_by_settings():
    result = run([Oracle(error=0.1), Oracle(error=0.2)], (16,), size=4)
    assert [m.label for m in result.methods][1:3] == ["oracle (error=0.1)", "oracle (error=0.2)"]
    with pytest.raises(ValueError, match="twice"):
        run([Oracle(), Oracle()], (16,), size=4)
    with pytest.raises(KeyError, match="no method 'x'"):
        result["x"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"budgets": []}, ValueError, "budgets must be at least 1, got none"),
        ({"budgets": [0, 16]}, ValueError, "budgets must be at least 1, got 0"),
        ({"mode": "fast"}, ValueError, "mode must be one of single, batch"),
        ({"repeats": 0}, ValueError, "repeats must be at least 1"),
        ({"threads": 0}, ValueError, "threads must be at least 1"),
        ({"estimators": ["monte-carlo"]}, TypeError, "estimators must be Estimator objects"),
        ({"truth": osp.Truth.exact([0.5])}, ValueError, "truth must be of 32 networks, got 1"),
    ],
)
def test_bad_arguments(change, error, message):
    with pytest.raises(error, match=message):
        run(**change)


def test_sampling_time_recovers_a_line():
    n = np.array([16, 128, 1024, 8192, 65536])
    line = SamplingTime.fit(n, 2e-5 + 6e-8 * n)
    assert line.fixed == pytest.approx(2e-5)
    assert line.per_sample == pytest.approx(6e-8)
    assert line(1000) == pytest.approx(8e-5)
    assert SamplingTime.fit(n, 6e-8 * n).fixed == pytest.approx(0, abs=1e-12)
    assert SamplingTime.fit(n, n**1.5 * 1e-9).fixed == 0.0


def test_calls_are_timed_in_turn():
    order = []
    calls = {name: (lambda i, name=name: order.append((i, name))) for name in "abc"}
    quartiles = interleaved(calls, 5, 0.0, Progress(6, "times", enabled=False))
    # Behind the warm-up; a disturbed call is made again.
    rounds = [[name for _, name in group] for _, group in itertools.groupby(order[6:], key=lambda entry: entry[0])]
    orders = [tuple(dict.fromkeys(names)) for names in rounds]
    assert [sorted(names) for names in orders] == [["a", "b", "c"]] * 5
    assert len(set(orders)) > 1
    assert quartiles["a"].calls == 1
    assert quartiles["a"].rounds == 5
