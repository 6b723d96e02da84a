"""Transferred advice: the relative readout, its fit on several networks, its files, its estimator."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn
from outsample import _core
from outsample.advice import Advice, load_advice, shipped_advice
from outsample.cli import main
from outsample.cubature.labels import label_forwards
from outsample.cubature.rule import gelu
from outsample.cubature.transfer import (
    TransferPlan,
    _error_by_estimate,
    _regression,
    features,
    fit_transferred,
    starting_points,
)

PLAN = TransferPlan(starts=2, siblings=3, decay=0.01, steps=2, copies=24)


def rows(models):
    return np.array([np.concatenate([m.W_hh.ravel(), m.W_hi, m.W_oh.ravel()]) for m in models], dtype=np.float32)


def networks(count, seed=0):
    """Networks that answer by chance or not much better, of accuracies that differ."""
    return [random_rnn(6, 4, seed=seed + i) for i in range(count)]


def fitted(**changes):
    arguments = {"sizes": (12,), "copies": 24, "samples": 512, "folds": 2, "plans": {12: PLAN}, **changes}
    return fit_transferred(networks(6), **arguments)


@pytest.fixture(scope="module")
def advice():
    return fitted()


@pytest.mark.parametrize("units", [0, 3])
def test_relative_readout_is_that_of_numpy(isa, units):
    rng = np.random.default_rng(1)
    task, d, n = osp.get_task("2nd_argmax"), 6, 4
    points = starting_points(task, n, 11, 3)
    count = len(points)
    inverse_scale = rng.uniform(0.5, 2, count).astype(np.float32)
    linear = rng.standard_normal((count, 3)).astype(np.float32)
    hidden = 0.3 * rng.standard_normal((count, 3, units)).astype(np.float32)
    bias, out = rng.standard_normal((2, units)).astype(np.float32)
    cubature = _core.Cubature(
        points.forest, d, n, inverse_scale, linear, 0.25, hidden, bias, out, np.zeros((0, 3), np.int32),
        np.zeros((0, 3), np.float32), np.zeros(0), np.zeros(0), np.array([[0.0, 0, 1, 0, 1]]), np.zeros((3, 2)),
        np.array([0.1]), relative=True,
    )  # fmt: skip
    models = [random_rnn(d, n, seed=i) for i in range(19)]
    margins = points.forest.margins(rows(models), d, n) * inverse_scale[:, None]
    f = features(margins / np.abs(margins).mean(axis=0))
    units_of = gelu(np.einsum("pku,pkn->un", hidden, f) + bias[:, None])[0]
    wanted = 0.25 + np.einsum("pk,pkn->n", linear, f) + out @ units_of
    many = cubature.evaluate_many([m._network for m in models])
    assert many[:, 0] == pytest.approx(wanted, abs=2e-5)
    single = np.array([cubature.evaluate(m._network) for m in models])
    assert single[:, 0] == pytest.approx(wanted, abs=2e-5)
    assert single[:, 1] == pytest.approx(0.1)
    plain = count * 3 * (1 + units) + units + points.forest.multiply_adds(d, n)
    assert cubature.multiply_adds == plain + 2 * count


def test_the_scale_of_the_logits_does_not_matter(advice):
    method = osp.TransferredCubature(advice=advice)
    model = networks(1)[0]
    larger = osp.RNN(model.W_hh, model.W_hi, 1000 * model.W_oh, task=model.task)
    assert method.estimate(larger, 12).value == pytest.approx(method.estimate(model, 12).value, abs=1e-5)


@pytest.mark.filterwarnings("ignore::outsample.AdviceWarning")
def test_a_dead_network_gets_a_finite_estimate(advice):
    dead = osp.RNN(np.zeros((6, 6)), -np.ones(6), np.zeros((4, 6)), task="2nd_argmax")
    estimate = osp.TransferredCubature(advice=advice).estimate(dead, 12)
    assert 0 <= estimate.value <= 1


def test_a_relative_readout_has_no_shift():
    points = starting_points(osp.get_task("2nd_argmax"), 3, 2, 1)
    zero = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="relative must be false where there is a shift"):
        _core.Cubature(
            points.forest, 2, 3, zero, np.zeros((2, 3), np.float32), 0.0, np.zeros((2, 3, 0), np.float32),
            np.zeros(0, np.float32), np.zeros(0, np.float32), np.zeros((0, 3), np.int32),
            np.zeros((0, 3), np.float32), np.zeros(0), np.zeros(0), np.ones((1, 5)), np.zeros((3, 2)), np.ones(1),
            zero, True,
        )  # fmt: skip


def test_starting_points_share_prefixes_and_have_their_answers():
    task = osp.get_task("2nd_argmax")
    points = starting_points(task, 5, 7, 4)
    assert points.level_sizes.tolist() == [7, 7, 7, 7, 28]
    assert (points.target == task.target(points.inputs)).all()
    grouped = points.inputs.reshape(7, 4, 5)
    assert (grouped[:, :, :4] == grouped[:, :1, :4]).all()
    assert (np.diff(grouped[:, :, 4], axis=1) > 0).all()


def test_regression_is_the_normal_equations_solution():
    rng = np.random.default_rng(3)
    free = np.concatenate([np.ones((1, 200)), rng.standard_normal((2, 200))])
    columns, target = rng.standard_normal((30, 200)), rng.standard_normal(200)
    weight, penalty = rng.uniform(0.5, 2, 200), rng.uniform(0.01, 0.1, 30)
    design = np.concatenate([free, columns])
    w = weight / weight.sum()
    gram = (design * w) @ design.T + np.diag(np.concatenate([np.zeros(3), penalty]))
    wanted = np.linalg.solve(gram, (design * w) @ target)
    b_free, b = _regression(free, columns.astype(np.float32), penalty, target, weight)
    assert np.concatenate([b_free, b]) == pytest.approx(wanted, abs=1e-3)


def test_fit_says_where_it_comes_from_and_keeps_to_its_budget(advice):
    record, size = advice.record, advice.sizes[12]
    model = networks(1)[0]
    assert size.multiply_adds <= 12 * model.forward_multiply_adds
    assert [entry["digest"] for entry in record["networks"]] == [m.digest for m in networks(6)]
    assert advice.transferred
    assert advice.shape == ("2nd_argmax", 6, 4)
    assert set(size.equivalent_samples) == set(record["noise"])
    assert record["label_forwards"] == 24 * sum(label_forwards(m, 512) for m in networks(6))
    assert record["forwards"] > record["label_forwards"] > 6 * 24 * 512


def test_fit_does_not_depend_on_threads(advice):
    again = fitted(threads=2)
    for name, array in advice.sizes[12].arrays.items():
        assert (again.sizes[12].arrays[name] == array).all(), name


def test_a_fit_goes_on_from_its_folder(advice, tmp_path, monkeypatch):
    folder = tmp_path / "fit"
    first = fitted(folder=folder, sizes=(12,))
    with pytest.raises(ValueError, match="holds a fit with other settings"):
        fitted(folder=folder, seed=1)

    def nothing(*_args, **_settings):
        raise AssertionError

    monkeypatch.setattr("outsample.cubature.labels.labels", nothing)
    (folder / "size-12.npz").unlink()
    labelled_once = fitted(folder=folder)
    monkeypatch.setattr("outsample.cubature.transfer._fit_size", nothing)
    again = fitted(folder=folder, threads=2)
    assert again.record["seconds"] == labelled_once.record["seconds"]
    for name, array in advice.sizes[12].arrays.items():
        for other in (first, labelled_once, again):
            assert (other.sizes[12].arrays[name] == array).all(), name


def test_the_command(tmp_path, capsys):
    for i, model in enumerate(networks(4)):
        model.save(tmp_path / f"{i}.npz")
    files = [str(tmp_path / f"{i}.npz") for i in range(4)]
    arguments = ["--output", str(tmp_path / "advice.npz"), "--sizes", "6", "--copies", "16", "--samples", "64"]
    arguments += ["--folds", "2", "--noise", "mul-0.01", "--folder", str(tmp_path / "fit")]
    assert main(["fit-transferred", *files, *arguments]) == 0
    text = capsys.readouterr().out
    assert "advice for transferred_2nd_argmax_6_4" in text
    assert "size 6:" in text
    assert "equivalent samples (advantage): mul-0.01" in text
    made = load_advice(tmp_path / "advice.npz")
    assert [entry["digest"] for entry in made.record["networks"]] == [model.digest for model in networks(4)]
    assert main(["fit-transferred", *files, *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["record"]["seconds"] == made.record["seconds"]


def test_groups_are_left_out_together():
    """Copies of a network in both parts would make the error look smaller."""
    models = [m for m in networks(4) for _ in range(2)]
    arguments = {"sizes": (12,), "copies": 24, "samples": 512, "folds": 2, "plans": {12: PLAN}}
    apart = fit_transferred(models, groups=[0, 0, 1, 1, 2, 2, 3, 3], **arguments)
    mixed = fit_transferred(models, groups=[0, 1, 0, 1, 2, 3, 2, 3], **arguments)
    assert apart.record["groups"] == mixed.record["groups"] == 4
    assert apart.sizes[12].arrays["error"] > mixed.sizes[12].arrays["error"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"folds": 1}, "folds must be at least 2, got 1"),
        ({"folds": 7}, "networks must be at least 7, got 6"),
        ({"samples": 8}, "samples must be at least 64, got 8"),
        ({"copies": 2}, "copies must be at least 8, got 2"),
        ({"sizes": (2,)}, "sizes must be at least 4, got 2"),
        ({"groups": [0, 1, 2]}, "groups must have one entry per network, 6, got 3"),
        ({"noise": {"mul": 1.0}}, "a law of noise must be mul-SCALE"),
        (
            {"noise": {"mul-0.01": 1.0, "mul-0.02": 0.01}},
            "copies must be enough for one under each law of noise, got 24",
        ),
        ({"sizes": ()}, "sizes must name at least one size"),
    ],
)
def test_fit_checks_its_arguments(change, text):
    with pytest.raises(ValueError, match=text):
        fitted(**change)


def test_fit_refuses_networks_of_different_shapes():
    with pytest.raises(ValueError, match="networks must have one task and shape"):
        fit_transferred([random_rnn(6, 4), random_rnn(6, 5)], folds=2)
    with pytest.raises(ValueError, match="must be judged by their accuracy"):
        fit_transferred([random_rnn(6, 4, task="median")] * 2, folds=2)
    with pytest.raises(TypeError, match=r"networks must be outsample\.RNN"):
        fit_transferred(["model.pth"])  # type: ignore[list-item]


def test_files_round_trip(advice, tmp_path):
    advice.save(tmp_path / "advice.npz")
    again = load_advice(tmp_path / "advice.npz")
    model = networks(1)[0]
    assert again.transferred
    first, second = (osp.TransferredCubature(advice=a).estimate(model, 12) for a in (advice, tmp_path / "advice.npz"))
    assert (first.value, first.standard_error) == (second.value, second.standard_error)
    broken = Advice({**advice.record, "accuracies": "all"}, advice.sizes)
    broken.save(tmp_path / "broken.npz")
    with pytest.raises(ValueError, match="no good entry 'accuracies'"):
        load_advice(tmp_path / "broken.npz")
    size = advice.sizes[12]
    for table in (np.ones(2), np.ones((2, 2)), np.array([[0.0, 1.0], [0.1, 0.0]])):
        changed = replace(size, arrays={**size.arrays, "error_by_estimate": table})
        Advice(advice.record, {12: changed}).save(tmp_path / "broken.npz")
        with pytest.raises(ValueError, match="size 12 has no good error_by_estimate"):
            load_advice(tmp_path / "broken.npz")


def test_the_two_kinds_of_advice_are_not_mixed_up(advice):
    with pytest.raises(ValueError, match="use TransferredCubature"):
        osp.EmpiricalCubature(advice=advice).estimate(networks(1)[0], 12)
    with pytest.raises(ValueError, match="must be transferred advice, got '2nd_argmax_16_10"):
        osp.TransferredCubature(advice="2nd_argmax_16_10_1073741824_1").estimate(osp.zoo.load(), 512)


def test_networks_of_another_shape_are_refused(advice):
    with pytest.raises(ValueError, match="model must have task, hidden_size and seq_len"):
        osp.TransferredCubature(advice=advice).estimate(random_rnn(5, 4), 12)
    with pytest.raises(ValueError, match="no transferred advice is shipped"):
        osp.TransferredCubature().estimate(random_rnn(5, 4), 12)
    with pytest.raises(ValueError, match="size must be one of 12, got 13"):
        osp.TransferredCubature(advice=advice, size=13).estimate(networks(1)[0], 100)


def test_the_error_depends_on_the_estimate(advice):
    known = advice.sizes[12].arrays["error_by_estimate"]
    assert (known[1, -2:] >= advice.record["equivalent_samples_beyond"]["12"] ** -0.5).all()
    model = networks(1)[0]
    method = osp.TransferredCubature(advice=advice)
    one, many = method.estimate(model, 12), method.estimate_many([model], 12)[0]
    wanted = np.interp(one.value, *known) * np.sqrt(one.value * (1 - one.value))
    assert one.standard_error == pytest.approx(wanted)
    assert many.standard_error == pytest.approx(wanted, rel=1e-3)


def test_the_error_is_measured_where_estimates_are_alike():
    rng = np.random.default_rng(0)
    accuracy = rng.uniform(0.2, 0.8, 20_000)
    relative = np.where(accuracy < 0.5, 0.01, 0.03)
    predicted = accuracy + relative * np.sqrt(accuracy * (1 - accuracy)) * rng.standard_normal(len(accuracy))
    estimate, error = _error_by_estimate(predicted, accuracy, 400.0)
    assert error[:3] == pytest.approx(0.01, rel=0.1)
    assert error[4:6] == pytest.approx(0.03, rel=0.1)
    assert error[6:] == pytest.approx(0.05)
    assert (np.diff(estimate) > 0).all()
    alone = _error_by_estimate(np.full(5, 0.3), np.full(5, 0.3), 4.0)
    assert alone.shape == (2, 1)


def test_outside_of_what_it_was_fitted_on_it_warns(advice):
    narrow = Advice({**advice.record, "accuracies": [0.99, 0.995]}, advice.sizes)
    method, models = osp.TransferredCubature(advice=narrow), networks(3)
    with pytest.warns(osp.AdviceWarning, match="lies outside of the accuracies"):
        one = method.estimate(models[0], 12)
    with pytest.warns(osp.AdviceWarning, match="3 estimates"):
        many = method.estimate_many(models, 12)
    assert one.standard_error >= 0.99 - one.value
    assert many[0].standard_error == pytest.approx(one.standard_error)


def test_record_is_plain_json(advice):
    json.dumps(advice.record)


#: Shipped transferred advice, and networks that it is scored on.
HELD_OUT = {
    "transferred_2nd_argmax_16_10": ("2nd_argmax_16_10_1073741824_1", "2nd_argmax_16_10_1073741824_11"),
    "transferred_2nd_argmax_16_8": ("2nd_argmax_16_8_67108864_0",),
    "transferred_2nd_argmax_8_10": ("2nd_argmax_8_10_536870912_1",),
    "transferred_argmedian_16_11": ("argmedian_16_11_67108864_1",),
}


def test_all_shipped_transferred_advice_is_scored():
    assert {name for name in shipped_advice() if name.startswith("transferred_")} == HELD_OUT.keys()


@pytest.mark.parametrize("name", HELD_OUT)
def test_the_shipped_advice_knows_no_network_that_it_is_scored_on(name):
    digests = {entry["digest"] for entry in load_advice(name).record["networks"]}
    for held_out in HELD_OUT[name]:
        model = osp.zoo.load(held_out)
        assert model.digest not in digests
        assert osp.TransferredCubature().choose(model).name == name


@pytest.mark.parametrize(
    ("held_out", "size"),
    [
        ("2nd_argmax_16_10_1073741824_11", 128),
        ("2nd_argmax_16_8_67108864_0", 128),
        ("2nd_argmax_8_10_536870912_1", 32),
        ("argmedian_16_11_67108864_1", 32),
    ],
)
def test_the_shipped_advice_is_worth_more_than_it_costs(held_out, size):
    """Fitting copies of a network that was not fitted on: several times plain sampling's equivalent samples."""
    model = osp.zoo.load(held_out)
    copies = osp.NoiseEnsemble(model, scale=0.01, size=32, seed=5, role="fitting")
    truth = osp.ground_truth(copies, 2**15, cache=False)
    found = osp.TransferredCubature().estimate_many(list(copies), size)
    error = np.array([e.value for e in found]) - truth.values
    variance = (truth.values * (1 - truth.values)).mean()
    squared = (error**2 - truth.standard_errors**2).mean()
    assert variance / squared > 3 * size
    stated = np.mean([e.standard_error for e in found])
    assert np.sqrt((error**2).mean()) < 1.6 * np.hypot(stated, truth.standard_errors.mean())
