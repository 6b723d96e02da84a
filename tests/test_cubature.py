"""Empirical cubature: kernels, fitting, advice files, estimator, command."""

from __future__ import annotations

import io
import json
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

import outsample as osp
from conftest import random_rnn
from outsample import _core
from outsample._progress import Progress
from outsample.advice import AdviceSize
from outsample.cli import main
from outsample.cubature import Effort, calibration, fit, selection
from outsample.cubature import labels as labelling
from outsample.cubature.blocks import train_in_blocks
from outsample.cubature.copies import label
from outsample.cubature.folder import Folder
from outsample.cubature.gauss_newton import GaussNewton, approximate_inverse
from outsample.cubature.labels import label_forwards, labels, moments, order_statistics_inputs
from outsample.cubature.points import Points, random_points
from outsample.cubature.rule import (
    FEATURES,
    TrainingSet,
    best_outer_layer,
    linear_rule,
    plain_rule,
    with_features,
    with_units,
)
from outsample.cubature.selection import Selection

SMALL = {
    "noise": {"mul-0.05": 2.0, "add-0.03": 1.0},
    "sizes": (4, 12),
    "networks": 1024,
    "samples": 16384,
    "calibration": 512,
    "calibration_samples": 16384,
    "candidates": 256,
    "efforts": {4: Effort((2, 4), 4, 2, 6), 12: Effort((4,), 0, 3, 0)},
}


def rows(models):
    return np.stack([np.concatenate([m.W_hh.ravel(), m.W_hi, m.W_oh.ravel()]) for m in models])


def copies(model, size, scale=0.1):
    return list(osp.NoiseEnsemble(model, scale=scale, size=size, role="fitting"))


def margins_of(model, points):
    logits = model.forward(points.inputs).astype(np.float64)
    k = np.arange(len(points))
    own = logits[k, points.target].copy()
    logits[k, points.target] = -np.inf
    return own - logits.max(axis=1)


def signals_of(model, points):
    """Margin, the right answer's logit, and that less the second-best other one (points, 3)."""
    logits = model.forward(points.inputs).astype(np.float64)
    k = np.arange(len(points))
    own = logits[k, points.target].copy()
    logits[k, points.target] = -np.inf
    return np.stack([margins_of(model, points), own, own - np.sort(logits, axis=1)[:, -2]], axis=1)


def features_of(signals, inverse_scale, shift, count):
    """What the kernel makes of signals (points, 3, networks), in numpy: (points, count, networks)."""
    z = inverse_scale.reshape(len(signals), -1).T[:, :, None]
    first = [np.tanh(t * signals[:, 0] * z[0]) for t in (0.5, 1.5, 4.5)]
    if count > 3:
        first += [np.tanh((signals[:, 1] - shift[:, None]) * z[1]), np.tanh(signals[:, 2] * z[2])]
    if count > 5:
        first += [first[0] ** 2, first[1] ** 2]
    return np.stack(first, axis=1)


def scaling(rng, points, count):
    """Random scales and shifts for so many features per point."""
    scale = rng.random((points, 3) if count > 3 else points).astype(np.float32)
    return scale, rng.standard_normal(points if count > 3 else 0).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return random_rnn(4, 3, seed=3)


@pytest.fixture(scope="module")
def advice(model):
    return osp.fit_cubature(model, **SMALL)


@pytest.mark.parametrize(("d", "n", "branching"), [(16, 10, ()), (5, 4, (2, 3)), (3, 7, (2, 1, 2, 5)), (1, 2, (3,))])
def test_margins_are_those_of_a_plain_forward_pass(isa, d, n, branching):
    model = random_rnn(d, n, seed=1)
    points = random_points(model.task, n, branching, 7, np.random.default_rng(0))
    models = copies(model, 37)
    got = points.forest.margins(rows(models), d, n)
    want = np.stack([margins_of(m, points) for m in models], axis=1)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
    np.testing.assert_array_equal(points.forest.margins(rows(models), d, n, threads=3), got)
    if n < 3:
        with pytest.raises(ValueError, match="outputs must be at least 3"):
            points.forest.signals(rows(models), d, n)
        return
    signals = points.forest.signals(rows(models), d, n)
    want = np.stack([signals_of(m, points) for m in models], axis=2)
    np.testing.assert_allclose(signals, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
    np.testing.assert_array_equal(signals[:, 0], got)


def test_costs_count_shared_prefixes_once():
    model = random_rnn(16, 10)
    chain = random_points(model.task, 10, (), 3, np.random.default_rng(0))
    assert chain.forest.multiply_adds(16, 10) == 3 * model.forward_multiply_adds
    tree = random_points(model.task, 10, (5,), 3, np.random.default_rng(0))
    assert tree.forest.multiply_adds(16, 10) == 3 * model.forward_multiply_adds + 3 * 4 * 176
    assert tree.node_costs(16, 10).sum() == tree.forest.multiply_adds(16, 10)


def test_subset_keeps_points_and_answers():
    task = osp.get_task("2nd_argmax")
    points = random_points(task, 6, (2, 3, 2), 5, np.random.default_rng(1))
    keep = np.array([0, 1, 2, 13, 30, 59])
    part = points.subset(keep)
    np.testing.assert_array_equal(part.inputs, points.inputs[keep])
    np.testing.assert_array_equal(part.target, task.target(part.inputs))
    assert part.forest.leaves == len(keep)


@pytest.mark.parametrize(
    "broken",
    [
        {"level_sizes": np.array([2, 0], np.int32)},
        {"parent": np.array([0, 0, 1, 1], np.int32)},
        {"parent": np.array([0, 0, 0, 0], np.int32)},
        {"parent": np.array([0, 0, 0, 7], np.int32)},
        {"x": np.zeros(3, np.float32)},
        {"target": np.zeros(3, np.int32)},
    ],
)
def test_bad_forests_are_refused(broken):
    good = {
        "level_sizes": np.array([2, 2], np.int32),
        "parent": np.array([0, 0, 0, 1], np.int32),
        "x": np.zeros(4, np.float32),
        "target": np.zeros(2, np.int32),
    }
    _core.Forest(**good)
    with pytest.raises(ValueError, match=r"level_sizes|parent|target"):
        _core.Forest(**{**good, **broken})


@pytest.mark.parametrize("count", FEATURES)
def test_features_are_those_of_numpy_and_tangents_their_differences(isa, count):
    model = random_rnn(6, 5, seed=2)
    points = random_points(model.task, 5, (2, 3), 4, np.random.default_rng(3))
    weights = rows(copies(model, 21))
    rng = np.random.default_rng(4)
    scaled = scaling(rng, len(points), count)
    size = count * len(points)
    coefficients = rng.standard_normal((size, 21)).astype(np.float32)
    mean, inverse_sd = rng.standard_normal(size).astype(np.float32), (rng.random(size) + 0.5).astype(np.float32)

    def values(x):
        return points.moved(x).forest.features(weights, 6, 5, *scaled, mean, inverse_sd, threads=2)

    signals = points.forest.signals(weights, 6, 5).astype(np.float64)
    want = (features_of(signals, *scaled, count).reshape(size, -1) - mean[:, None]) * inverse_sd[:, None]
    np.testing.assert_allclose(values(points.x), want, atol=3e-6)

    through = coefficients * inverse_sd[:, None]
    got = points.forest.tangents(weights, 6, 5, *scaled, through)
    assert (points.forest.tangents(weights, 6, 5, *scaled, through, threads=2) == got).all()
    shared = np.repeat(through[:, :1], 21, axis=1)
    assert (
        points.forest.tangents(weights, 6, 5, *scaled, through[:, 0])
        == points.forest.tangents(weights, 6, 5, *scaled, shared)
    ).all()
    step = 1e-3
    for node in range(len(points.x)):
        x = np.zeros_like(points.x)
        x[node] = step
        ends = [(values(points.x + sign * x).astype(np.float64) * coefficients).sum(0) for sign in (1, -1)]
        difference = (ends[0] - ends[1]) / (2 * step)
        # Margins are piecewise linear: a few networks have a kink inside the step.
        assert np.median(np.abs(difference - got[node])) < 0.01 * np.abs(got).mean()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"inverse_scale": np.ones(4, np.float32)}, "inverse_scale must have 3 entries per point"),
        ({"shift": np.ones(4, np.float32)}, "shift must have one entry per point"),
        ({"mean": np.ones(20, np.float32)}, "features must be 3, 5 or 7 per point, got 4"),
        ({"inverse_sd": np.ones(20, np.float32)}, "mean and inverse_sd must have one entry per feature"),
        ({"outputs": 2}, "3 outputs or more"),
    ],
)
def test_bad_features_are_refused(change, text):
    model = random_rnn(3, 3)
    points = random_points(model.task, 3, (), 5, np.random.default_rng(0))
    good = {
        "weights": rows([model]),
        "hidden_size": 3,
        "outputs": 3,
        "inverse_scale": np.ones((5, 3), np.float32),
        "shift": np.ones(5, np.float32),
        "mean": np.zeros(25, np.float32),
        "inverse_sd": np.ones(25, np.float32),
    }
    points.forest.features(**good)
    change = dict(change)
    if change.get("outputs") == 2:
        points = replace(points, target=np.zeros(5, np.int32))
        change["weights"] = rows([model])[:, :18].copy()
    with pytest.raises(ValueError, match=text):
        points.forest.features(**{**good, **change})


@pytest.mark.parametrize("units", [0, 5, 32])
@pytest.mark.parametrize("branching", [(), (3,), (2, 2, 4)])
@pytest.mark.parametrize("features", FEATURES)
def test_readout_is_that_of_numpy(isa, units, branching, features):
    model = random_rnn(7, 6, seed=5)
    points = random_points(model.task, 6, branching, 11, np.random.default_rng(6))
    count = len(points)
    rng = np.random.default_rng(7)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32) * 0.3

    linear, hidden, bias, out = draw(count, features), draw(count, features, units), draw(units), draw(units)
    inverse_scale, shift = scaling(rng, count, features)
    index = rng.integers(0, 7 * 14, (4, 3)).astype(np.int32)
    sign = rng.choice([-1, 1], (4, 3)).astype(np.float32)
    base, scale = rng.standard_normal(4), rng.random(4) + 0.5
    laws = np.array([[0.3, 0.9, 1.0, 0.5, 1.5], [0.1, -1.2, 0.8, -0.3, 0.7]])
    ranges = np.array([[-1.0, 1.5], [-1.3, 0.8], [-1.2, 0.4]])
    error = np.array([0.02, 0.005])
    core = _core.Cubature(
        points.forest,
        7,
        6,
        inverse_scale,
        linear,
        0.7,
        hidden,
        bias,
        out,
        index,
        sign,
        base,
        scale,
        laws,
        ranges,
        error,
        shift,
    )
    models = copies(model, 19)
    signals = points.forest.signals(rows(models), 7, 6).astype(np.float64)
    f = features_of(signals, inverse_scale, shift, features)
    a = np.einsum("kfu,kfm->um", hidden, f) + bias[:, None]
    want = 0.7 + np.einsum("kf,kfm->m", linear, f) + out @ (a * (1 + np.tanh(0.851 * a)) / 2)
    levels = (((rows(models)[:, index] * sign).sum(axis=2) - base) / scale) ** 2
    networks = [m._network for m in models]
    many = core.evaluate_many(networks)
    np.testing.assert_allclose(many[:, 0], want, atol=1e-5 * count**0.5)
    np.testing.assert_allclose(many[:, 2], levels[:, :2].mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(many[:, 3], levels[:, 2:].mean(axis=1), rtol=1e-4)
    one = np.array([core.evaluate(x) for x in networks])
    np.testing.assert_allclose(one[:, 1], standard_errors(one[:, 2], one[:, 3], laws, ranges, error))
    np.testing.assert_array_equal(core.noise(networks[0]), one[0, 2:])
    np.testing.assert_allclose(one[:, 0], many[:, 0], atol=1e-5 * count**0.5, rtol=1e-4)
    np.testing.assert_allclose(one[:, 1:], many[:, 1:], rtol=1e-4)
    np.testing.assert_array_equal(core.evaluate_many(networks, threads=3), many)
    # Among others, the one whose sketch is nearest; the first if several are.
    far = _core.Cubature(
        points.forest, 7, 6, inverse_scale, linear, 0.7, hidden, bias, out, index, sign, base + 9, scale, laws, ranges,
        error, shift,
    )  # fmt: skip
    for x in networks:
        assert _core.evaluate_closest([far, core, core], x) == (1, *core.evaluate(x))
        assert _core.closest([far, core, core], x) == 1
        assert core.standard_error(x) == core.evaluate(x)[1]
        assert _core.evaluate_closest([far], x) == (0, *far.evaluate(x))
    with pytest.raises(ValueError, match="candidates must hold at least one"):
        _core.evaluate_closest([], networks[0])
    readout = features * count * (1 + units) + units + (2 * count if features == 7 else 0)
    assert core.multiply_adds == points.forest.multiply_adds(7, 6) + readout + 4 * (3 + 2)


def standard_errors(small, large, laws, ranges, error):
    """The core's formula, in numpy."""
    x = np.clip(np.log([small, large]), ranges[:2, :1], ranges[:2, 1:])
    likelihood = []
    for law in laws:
        inverse = np.array([[law[2], 0], [law[3], law[4]]])
        covariance = np.linalg.inv(inverse.T @ inverse)
        likelihood.append(scipy.stats.multivariate_normal(law[:2], covariance).pdf(x.T))
    squared = (likelihood * error[:, None] ** 2).sum(axis=0) / np.sum(likelihood, axis=0)
    return np.sqrt(squared) * np.maximum(1, (small + large) / 2 / np.exp(ranges[2, 1]))


def test_powers_in_the_core_are_those_of_numpy(isa):
    model = random_rnn(5, 4, task="median", seed=5)
    points = random_points(model.task, 4, (3,), 7, np.random.default_rng(6))
    count = len(points)
    rng = np.random.default_rng(7)
    inverse_scale, shift = (rng.random(count).astype(np.float32) + 0.5 for _ in range(2))
    linear = rng.standard_normal((count, 3)).astype(np.float32)
    nothing = np.zeros(0, np.float32)
    core = _core.Cubature(
        points.forest, 5, 1, inverse_scale, linear, 0.7, np.zeros((count, 3, 0), np.float32), nothing, nothing,
        np.zeros((2, 3), np.int32), np.ones((2, 3), np.float32), np.zeros(2), np.ones(2), np.array([[0.0, 0, 1, 0, 1]]),
        np.array([[-9.0, 9]] * 3), np.array([0.1]), shift,
    )  # fmt: skip
    models = copies(model, 19)
    outputs = np.stack([m.forward(points.inputs)[:, 0] for m in models], axis=1).astype(np.float64)
    z = (outputs - shift[:, None]) * inverse_scale[:, None]
    want = 0.7 + np.einsum("kf,fkm->m", linear, np.array([z, z**2, np.tanh(z)]))
    networks = [m._network for m in models]
    np.testing.assert_allclose(core.evaluate_many(networks)[:, 0], want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    np.testing.assert_allclose([core.evaluate(x)[0] for x in networks], want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_median_labels_are_unbiased_and_their_variance_is_that_of_a_sample():
    models = copies(random_rnn(4, 3, task="median", seed=2), 4)
    exact = [osp.ExactIntegration().estimate(m, 10**6).value for m in models]
    seeds = [np.random.SeedSequence(i) for i in range(8)]
    tables = [moments(rows(models), models[0].task, 3, 4, 8192, seed) for seed in seeds]
    first, second = np.mean(tables, axis=0)
    np.testing.assert_allclose(first, exact, rtol=5e-3)
    for model, variance in zip(models, second, strict=True):
        sampled = osp.MonteCarlo().estimate(model, 1 << 18, rng=0).standard_error ** 2 * (1 << 18)
        assert variance == pytest.approx(sampled, rel=0.05)


@pytest.mark.parametrize(
    ("task", "n", "d"),
    [("2nd_argmax", 2, 3), ("2nd_argmax", 3, 16), ("argmax", 2, 1), ("argmax", 3, 5), ("argmedian", 3, 4)],
)
def test_labels_are_unbiased(task, n, d):
    models = copies(random_rnn(d, n, task=task, seed=d), 4)
    exact = [osp.ExactIntegration().estimate(m, 10**6).value for m in models]
    tables = np.array([labels(rows(models), models[0].task, n, d, 500, np.random.SeedSequence(i)) for i in range(64)])
    z = (tables.mean(axis=0) - exact) / (tables.std(axis=0, ddof=1) / 8 + 1e-6)
    assert np.abs(z).max() < 4.5


@pytest.mark.parametrize(
    ("task", "n", "d"), [("2nd_argmax", 10, 16), ("argmax", 6, 7), ("argmedian", 7, 20), ("2nd_argmax", 20, 3)]
)
def test_labels_of_long_sequences_agree_with_plain_sampling(task, n, d):
    models = copies(random_rnn(d, n, task=task, seed=n), 3)
    tables = np.array([labels(rows(models), models[0].task, n, d, 1024, np.random.SeedSequence(i)) for i in range(32)])
    count = 1 << 19
    plain = np.array([_core.count_correct(m._network, task, count, i) for i, m in enumerate(models)]) / count
    z = (tables.mean(axis=0) - plain) / np.sqrt(tables.var(axis=0, ddof=1) / 32 + plain * (1 - plain) / count)
    assert np.abs(z).max() < 4.5


def test_labels_are_worth_several_times_as_many_plain_samples():
    models = list(osp.NoiseEnsemble(osp.zoo.load("2nd_argmax_16_10_1073741824_1"), scale=0.01, size=4, role="fitting"))
    tables = [labels(rows(models), models[0].task, 10, 16, 2048, np.random.SeedSequence(i)) for i in range(64)]
    p = np.mean(tables, axis=0)
    assert np.var(tables, axis=0, ddof=1).mean() < (p * (1 - p)).mean() / 2048 / 3


def test_labels_depend_on_seed_and_not_on_threads_or_other_networks():
    models = copies(random_rnn(6, 5, seed=1), 7)
    arguments = models[0].task, 5, 6, 9000
    got = labels(rows(models), *arguments, np.random.SeedSequence(0))
    np.testing.assert_array_equal(labels(rows(models), *arguments, np.random.SeedSequence(0), threads=3), got)
    np.testing.assert_array_equal(labels(rows(models[2:3]), *arguments, np.random.SeedSequence(0)), got[2:3])
    assert (labels(rows(models), *arguments, np.random.SeedSequence(1)) != got).all()


def test_label_forwards():
    """A label of an accuracy costs all steps but the last, and the walk over the last input's pieces."""
    model = random_rnn(16, 10, seed=3)
    once, point, interval, most, _ = _core.rule_cost(model._network, "2nd_argmax", True)
    forwards = label_forwards(model, 1000) * model.forward_multiply_adds
    assert once + 1000 * (point + interval) < forwards < once + 1000 * (point + most * interval)
    assert label_forwards(random_rnn(4, 3, task="median"), 1000) == 1000


def test_points_of_median_labels_are_standard_normal():
    n = 5
    x = np.concatenate([order_statistics_inputs(n, 4096, np.random.default_rng(s)) for s in range(16)])
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=0.01)
    np.testing.assert_allclose(np.cov(x.T), np.eye(n), atol=0.02)


def training_set(model, size, samples=2048, seed=0):
    models = list(osp.NoiseEnsemble(model, scale=0.05, size=size, seed=seed, role="fitting"))
    d, n = model.hidden_size, model.seq_len
    accuracy = labels(rows(models), model.task, n, d, samples, np.random.SeedSequence(0))
    return TrainingSet(rows(models), accuracy, np.ones(size), d, n)


def test_selection_is_nested_and_within_budget(model):
    data = training_set(model, 512)
    pool = random_points(model.task, 3, (4,), 64, np.random.default_rng(0))
    chosen = Selection(pool, data)
    small, large = (chosen.choose(b * model.forward_multiply_adds) for b in (3, 9))
    for points, budget in ((small, 3), (large, 9)):
        assert points.forest.multiply_adds(4, 3) <= budget * model.forward_multiply_adds
    assert {tuple(p) for p in small.inputs} <= {tuple(p) for p in large.inputs}
    rule = linear_rule(small, data, 1e-3)
    greedy = np.mean((data.predict(rule) - data.accuracy) ** 2)
    others = [random_points(model.task, 3, (), len(small), np.random.default_rng(s)) for s in range(8)]
    errors = [np.mean((data.predict(linear_rule(p, data, 1e-3)) - data.accuracy) ** 2) for p in others]
    assert greedy < np.median(errors)


def test_selection_chooses_alike_with_all_products_and_with_some(model, monkeypatch):
    data = replace(training_set(model, 512), threads=2)
    pool = random_points(model.task, 3, (4,), 64, np.random.default_rng(0))
    budget = 9 * model.forward_multiply_adds
    few = Selection(pool, data).choose(budget)
    monkeypatch.setattr(selection, "_MOST_ROWS", 0)
    np.testing.assert_array_equal(Selection(pool, data).choose(budget).inputs, few.inputs)


def test_gauss_newton_improves_on_networks_that_no_step_sees(model):
    data, watch = training_set(model, 6144, 16384), training_set(model, 1024, 16384, seed=1)
    points = random_points(model.task, 3, (2,), 3, np.random.default_rng(1))
    rule = with_units(linear_rule(points, data, 1e-3), 3, np.random.default_rng(2))
    seen = []
    better = GaussNewton(data).run(rule, 30, watch, lambda step, current, value: seen.append(value))
    assert watch.error(better) / rule.spread**2 == min(seen)
    assert watch.error(better) < 0.8 * watch.error(rule)
    assert not np.array_equal(better.points.x, points.x)


def test_gauss_newton_returns_the_start_if_no_step_helps(model):
    data = training_set(model, 256)
    nothing = replace(data, accuracy=np.random.default_rng(3).permutation(data.accuracy))
    rule = linear_rule(random_points(model.task, 3, (2,), 3, np.random.default_rng(1)), data, 1e-3)
    assert GaussNewton(nothing).run(rule, 4, data) is rule


def test_gauss_newton_does_not_depend_on_threads(model):
    data, watch = training_set(model, 12288), training_set(model, 256, seed=1)
    rule = linear_rule(random_points(model.task, 3, (2,), 3, np.random.default_rng(1)), data, 1e-3)
    one, two = (GaussNewton(replace(data, threads=t)).run(rule, 2, replace(watch, threads=t)) for t in (1, 2))
    assert np.array_equal(one.points.x, two.points.x)
    assert np.array_equal(one.parameters, two.parameters)


def bfloat16(a):
    """Rounded to the nearest float32 whose lower half is zero."""
    bits = np.ascontiguousarray(a, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


# Odd sizes, whole chunks, more networks than a panel holds; as many units as several tiles, and none.
@pytest.mark.parametrize(
    ("features", "inputs", "units", "networks"),
    [(1, 1, 0, 1), (7, 3, 1, 5), (64, 32, 3, 16), (161, 40, 4, 333), (70, 33, 9, 50), (3000, 97, 6, 203)],
)
def test_products_with_the_jacobian_are_those_of_numpy(isa, features, inputs, units, networks):
    rng = np.random.default_rng(6)
    phi, tangent, g, slope = (
        rng.standard_normal((rows, networks)).astype(np.float32) for rows in (features, inputs, units, units)
    )
    root = rng.random(networks).astype(np.float32)
    through = bfloat16(phi)
    hidden = (slope[:, None] * through).reshape(-1, networks)
    columns = np.concatenate([np.ones((1, networks)), through, g, slope, hidden, bfloat16(tangent)]) * root
    jacobian = _core.Jacobian(phi, tangent, g, slope, root)
    along = rng.standard_normal(len(columns)).astype(np.float32)
    v = rng.standard_normal(networks).astype(np.float32)
    for got, want in (
        (jacobian.normal(along), columns @ (columns.T @ along)),
        (jacobian.transposed(v), columns @ v),
    ):
        np.testing.assert_allclose(got, want, rtol=0, atol=3e-5 * np.abs(want).max())


def test_bad_jacobians_are_refused():
    columns, root = np.zeros((2, 3), np.float32), np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="root must have one entry per network"):
        _core.Jacobian(columns, columns, columns, columns, columns)
    for name in ("phi", "tangent", "g", "slope"):
        good = dict.fromkeys(("phi", "tangent", "g", "slope"), columns)
        with pytest.raises(ValueError, match=f"{name} must have shape"):
            _core.Jacobian(**{**good, name: np.zeros((2, 4), np.float32)}, root=root)
    jacobian = _core.Jacobian(columns, columns, columns, columns, root)
    with pytest.raises(ValueError, match=r"v must have shape \(3\)"):
        jacobian.transposed(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match=r"v must have shape \(13\)"):
        jacobian.normal(np.zeros(12, np.float32))


def test_preconditioner_inverts():
    rng = np.random.default_rng(5)
    for shape in ((7, 30), (30, 7)):
        columns = rng.standard_normal(shape).astype(np.float32)
        ridge = rng.uniform(0.5, 1, shape[0])
        v = rng.standard_normal((shape[0], 2)).astype(np.float32)
        want = np.linalg.solve(columns.astype(float) @ columns.T + np.diag(ridge), v)
        apply = approximate_inverse(columns, ridge)
        np.testing.assert_allclose(apply(v), want, rtol=0, atol=1e-5)
        np.testing.assert_allclose(apply(v[:, 0]), want[:, 0], rtol=0, atol=1e-5)


def test_parts_are_whole_trees_and_together_all(model):
    points = random_points(model.task, 5, (2, 3), 23, np.random.default_rng(1))
    parts = points.parts(4, np.random.default_rng(2))
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(points)))
    roots = [set(points.ancestors[part, 0]) for part in parts]
    assert sum(map(len, roots)) == 23
    sizes = [int(points.nodes_of(part).sum()) for part in parts]
    assert sum(sizes) == len(points.x)
    assert max(sizes) - min(sizes) <= 2 * len(points.x) // 23
    assert len(points.parts(99, np.random.default_rng(2))) == 23


@pytest.mark.parametrize("features", FEATURES)
def test_subsets_of_a_rule_add_up_and_go_back(model, features):
    data = training_set(model, 2048)
    points = random_points(model.task, 3, (2,), 6, np.random.default_rng(1))
    rule = linear_rule(points, data, 1e-3, features)
    first, second = points.parts(2, np.random.default_rng(2))
    constant = rule.center + rule.spread * rule.b0
    total = data.predict(rule.subset(first)) + data.predict(rule.subset(second)) - constant
    np.testing.assert_allclose(data.predict(rule), total, atol=1e-5)
    part = rule.subset(first)
    part = replace(part, linear=2 * part.linear, points=part.points.moved(part.points.x + 0.1), b0=part.b0 + 1)
    changed = rule.with_subset(first, part)
    np.testing.assert_array_equal(changed.subset(first).points.x, part.points.x)
    np.testing.assert_array_equal(changed.subset(second).points.x, rule.subset(second).points.x)
    total = data.predict(part) + data.predict(replace(rule.subset(second), b0=0.0)) - rule.center
    np.testing.assert_allclose(data.predict(changed), total, atol=1e-5)


def test_training_in_blocks_improves_on_regression(model):
    data, watch = training_set(model, 8192), training_set(model, 1024, seed=1)
    points = random_points(model.task, 3, (2,), 3, np.random.default_rng(1))
    assert np.ptp(data.predict(plain_rule(points, data))) == 0
    start = linear_rule(points, data.part(slice(512)), 1e-3)
    values = []

    def trained(threads):
        return train_in_blocks(
            start, replace(data, threads=threads), watch, blocks=2, sweeps=2, steps=4, decay=1e-4, batch=4096,
            ridges=(1e-4, 1e-3), rng=np.random.default_rng(3), report=lambda rule, value: values.append(value),
        )  # fmt: skip

    rule = trained(1)
    assert len(values) == 4
    assert watch.error(rule) / rule.spread**2 == pytest.approx(values[-1], rel=1e-3)
    assert watch.error(rule) < 0.9 * watch.error(linear_rule(points, data, 1e-4))
    assert np.array_equal(trained(2).parameters, rule.parameters)


@pytest.mark.parametrize("features", FEATURES)
def test_more_features_do_not_count_at_first(model, features):
    data = training_set(model, 1024)
    points = random_points(model.task, 3, (2,), 6, np.random.default_rng(1))
    rule = linear_rule(points, data, 1e-3)
    richer = with_features(rule, data, features)
    assert len(richer.linear) == features * len(points)
    np.testing.assert_allclose(data.predict(richer), data.predict(rule), atol=1e-6)


def test_best_outer_layer_fits_units_too_and_never_does_worse(model):
    data, watch = training_set(model, 4096), training_set(model, 1024, seed=1)
    points = random_points(model.task, 3, (2,), 6, np.random.default_rng(1))
    rule = with_units(linear_rule(points, data.part(slice(64)), 0.1, 5), 3, np.random.default_rng(2))
    better = best_outer_layer(rule, data, watch, (1e-4,))
    assert watch.error(better) < 0.9 * watch.error(rule)
    assert (better.out != rule.out).all()
    assert np.array_equal(better.hidden, rule.hidden)
    assert best_outer_layer(rule, data, watch, (1e9,)) is rule


def test_fit_end_to_end_against_exact_truth(model, advice):
    ensemble = osp.NoiseEnsemble(model, scale=0.05, size=200, seed=1)
    truth = np.array([osp.ExactIntegration().estimate(m, 10**6).value for m in ensemble])
    plain = (truth * (1 - truth)).mean()
    for budget in advice.sizes:
        method = osp.EmpiricalCubature(advice=advice)
        estimates = method.estimate_many(list(ensemble), budget)
        errors = np.array([e.value for e in estimates]) - truth
        assert estimates[0].settings["size"] == budget
        assert estimates[0].cost.multiply_adds <= budget * model.forward_multiply_adds
        assert plain / np.mean(errors**2) > 20 * budget
        held = [low <= t <= high for (low, high), t in zip((e.confidence_interval() for e in estimates), truth,
                                                           strict=True)]  # fmt: skip
        assert 0.85 < np.mean(held) <= 1
    again = osp.fit_cubature(model, **SMALL, threads=2)
    for budget, size in advice.sizes.items():
        for name, array in size.arrays.items():
            np.testing.assert_array_equal(array, again.sizes[budget].arrays[name])


def test_fit_resumes(model, advice, tmp_path, monkeypatch):
    folder = tmp_path / "fit"
    calls = []
    original = fit._fit_rule

    def stop_at_second(*args):
        calls.append(args[1])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(fit, "_fit_rule", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        osp.fit_cubature(model, **SMALL, folder=folder)
    monkeypatch.setattr(labelling, "labels", lambda *_: pytest.fail("labels are finished"))
    resumed = osp.fit_cubature(model, **SMALL, folder=folder)
    assert calls == [4, 12, 12]
    np.testing.assert_array_equal(resumed.sizes[12].arrays["x"], advice.sizes[12].arrays["x"])
    with pytest.raises(ValueError, match="other settings"):
        osp.fit_cubature(model, **{**SMALL, "candidates": 128}, folder=folder)
    (folder / "size-4.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"size-4\.npz is damaged"):
        osp.fit_cubature(model, **SMALL, folder=folder)


def test_fit_improves_advice(model, advice, tmp_path):
    path = tmp_path / "before.npz"
    advice.save(path)
    settings = {**SMALL, "sizes": (4,), "efforts": {4: Effort((2, 4), 4, 0, 0)}}
    again = osp.fit_cubature(model, **settings, start=path, folder=tmp_path)
    np.testing.assert_array_equal(again.sizes[4].arrays["x"], advice.sizes[4].arrays["x"])
    assert again.record["forwards"] > advice.record["forwards"]
    assert again.record["seconds"] > advice.record["seconds"]
    # Fewer of its points where a richer readout leaves less for them.
    richer = osp.fit_cubature(model, **{**settings, "efforts": {4: Effort((2, 4), 12, 0, 0)}}, start=advice)
    assert 0 < richer.sizes[4].points < advice.sizes[4].points
    assert richer.sizes[4].multiply_adds <= 4 * model.forward_multiply_adds
    with pytest.raises(ValueError, match="other settings"):
        osp.fit_cubature(model, **settings, folder=tmp_path)
    with pytest.raises(ValueError, match="start must be advice for one network of task"):
        osp.fit_cubature(random_rnn(5, 3), **settings, start=advice)
    with pytest.raises(ValueError, match="start must have one of the sizes 5, got"):
        osp.fit_cubature(model, **{**settings, "sizes": (5,)}, start=advice)


def test_the_best_of_several_starts_goes_on(model, monkeypatch):
    taken = []
    original = GaussNewton.run

    def counted(self, rule, steps, watch, report=None):
        found = original(self, rule, steps, watch, report)
        taken.append((steps, self, watch.error(found)))
        return found

    monkeypatch.setattr(GaussNewton, "run", counted)
    plan = Effort((2, 4), 4, 2, 6, starts=3, trial=4)
    osp.fit_cubature(model, **{**SMALL, "sizes": (4,), "efforts": {4: plan}})
    assert [steps for steps, *_ in taken] == [2, 4] * 3 + [2]
    assert sum(steps for steps, *_ in taken) == plan.total_steps
    begun = taken[1:-1:2]
    assert len({newton for _, newton, _ in begun}) == 3
    assert taken[-1][1] is min(begun, key=lambda start: start[2])[1]
    assert taken[-1][2] <= min(error for *_, error in begun)


def test_stages_of_another_version_are_refused(model, tmp_path):
    record = tmp_path / "settings.json"
    settings = {**SMALL, "sizes": (4,), "networks": 256, "samples": 64, "calibration": 64, "calibration_samples": 64,
                "folder": tmp_path}  # fmt: skip
    osp.fit_cubature(model, **settings)
    record.write_text(record.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(ValueError, match="of another version"):
        osp.fit_cubature(model, **settings)


def test_partial_labels_are_finished(model, tmp_path):
    weights = rows(copies(model, 600))
    settings = {"a": 1}
    whole = Folder(tmp_path / "whole", settings)
    bar = Progress(1, "x", enabled=False)
    want, _ = label(model, weights, 256, 3, 1, whole, "set", bar)
    part = Folder(tmp_path / "part", settings)
    half = want.copy()
    half[:, 256:] = np.nan
    part.save("set", halves=half, seconds=5.0)
    got, seconds = label(model, weights, 256, 3, 1, part, "set", bar)
    np.testing.assert_array_equal(got, want)
    assert seconds > 5


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"noise": "mul"}, "law of noise"),
        ({"noise": {"mul-0.1": -1.0}}, "positive shares"),
        ({"networks": 3}, "networks"),
        ({"samples": 2049}, "even"),
        ({"calibration": 31}, "at least 16 copies"),
        ({"calibration_samples": 2049}, "calibration_samples must be even and at least 64, got 2049"),
        ({"sizes": ()}, "sizes"),
        ({"sizes": (0,)}, "sizes"),
        ({"threads": 0}, "threads"),
    ],
)
def test_fit_checks_its_arguments(model, change, text):
    with pytest.raises(ValueError, match=text):
        osp.fit_cubature(model, **{**SMALL, **change})


def test_fit_refuses_other_networks():
    with pytest.raises(TypeError, match="RNN"):
        osp.fit_cubature("model.npz")
    with pytest.raises(ValueError, match="biases"):
        osp.fit_cubature(random_rnn(4, 3, biases=True))


def test_argmedian(tmp_path):
    model = random_rnn(4, 3, task="argmedian", seed=2)
    advice = osp.fit_cubature(model, **{**SMALL, "sizes": (8,)})
    ensemble = osp.NoiseEnsemble(model, scale=0.05, size=50)
    estimates = osp.EmpiricalCubature(advice=advice).estimate_many(list(ensemble), 8)
    truth = [_core.count_correct(m._network, "argmedian", 1 << 21, i) / 2**21 for i, m in enumerate(ensemble)]
    errors = np.array([e.value for e in estimates]) - truth
    assert np.mean(errors**2) < np.var(truth) / 4


def test_files_round_trip(model, advice, tmp_path):
    path = tmp_path / "advice.npz"
    advice.save(path)
    loaded = osp.load_advice(path)
    assert loaded.record["digest"] == model.digest
    assert loaded.shape == ("2nd_argmax", 4, 3)
    a, b = (osp.EmpiricalCubature(advice=x).estimate(model, 12) for x in (advice, path))
    assert a.value == b.value
    assert a.standard_error == b.standard_error
    assert "sizes=(4, 12)" in repr(loaded)


def bad_files(advice):
    def archive(**change):
        arrays = {"record": np.array(json.dumps({**advice.record, "format": 2}))}
        arrays |= {f"sketch/{k}": v for k, v in advice.sizes[4].sketch.items()}
        for budget, size in advice.sizes.items():
            arrays |= {f"{budget}/{k}": v for k, v in size.arrays.items()}
        arrays |= change
        buffer = io.BytesIO()
        np.savez(buffer, **{k: v for k, v in arrays.items() if v is not None}, allow_pickle=True)
        return buffer.getvalue()

    first = advice.sizes[4].arrays
    yield "empty", b""
    yield "text", b"hello"
    yield "cut", archive()[:2000]
    yield "no record", archive(record=None)
    yield "other format", archive(record=np.array(json.dumps({**advice.record, "format": 99})))
    yield "bad record", archive(record=np.array("[1, 2"))
    yield "no name", archive(record=np.array(json.dumps({"format": 2})))
    yield "pickle", archive(**{"4/x": np.array([{}], dtype=object)})
    yield "missing", archive(**{"4/linear": None})
    yield "unknown", archive(**{"4/more": np.zeros(3)})
    yield "not finite", archive(**{"4/x": first["x"] * np.nan})
    yield "short", archive(**{"4/linear": first["linear"][:-1]})
    yield "target", archive(**{"4/target": first["target"] + 9})
    yield "parent", archive(**{"4/parent": first["parent"] + 1})
    yield "error", archive(**{"4/error": first["error"][1:]})
    sketch = advice.sizes[4].sketch
    yield "levels", archive(**{"sketch/levels": sketch["levels"][:, ::-1]})
    yield "laws", archive(**{"sketch/laws": -sketch["laws"]})
    yield "law", archive(**{"sketch/laws": sketch["laws"][:1]})
    yield "sketch", archive(**{"sketch/scale": None})
    yield "index", archive(**{"sketch/index": sketch["index"] + 1000})
    yield "scale", archive(**{"sketch/scale": -sketch["scale"]})


def test_bad_files_are_refused(advice, tmp_path):
    path = tmp_path / "bad.npz"
    for name, data in bad_files(advice):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"bad\.npz"):  # noqa: PT012 - says which one was accepted
            osp.load_advice(path)
            pytest.fail(f"accepted: {name}")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        osp.load_advice(tmp_path / "nowhere.npz")


def test_single_and_batch_agree_for_any_threads(model, advice):
    method = osp.EmpiricalCubature(advice=advice)
    models = copies(model, 40, scale=0.03)
    batch = method.estimate_many(models, 12)
    assert [e.value for e in method.estimate_many(models, 12, threads=3)] == [e.value for e in batch]
    assert [e.value for e in method.estimate_many(models[7:9], 12)] == [e.value for e in batch[7:9]]
    for one, other in zip((method.estimate(m, 12) for m in models), batch, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-6)
        assert one.standard_error == pytest.approx(other.standard_error, rel=1e-4)
        assert one.cost.multiply_adds == other.cost.multiply_adds
    assert method.estimate(models[0], 12, rng=1).value == method.estimate(models[0], 12, rng=2).value
    assert method.estimate_many([], 12) == []


def test_size_follows_budget(model, advice):
    method = osp.EmpiricalCubature(advice=advice)
    assert method.minimum_budget(model) == 4
    assert [method.estimate(model, b).settings["size"] for b in (4, 11, 12, 10**6)] == [4, 4, 12, 12]
    with pytest.raises(ValueError, match="at least 4"):
        method.estimate(model, 3)
    with pytest.raises(ValueError, match="at least 4"):
        method.estimate_many([model], 3)
    assert osp.EmpiricalCubature(advice=advice, size=4).estimate(model, 100).settings["size"] == 4
    with pytest.raises(ValueError, match="size must be one of 4, 12"):
        osp.EmpiricalCubature(advice=advice, size=5).estimate(model, 100)


def test_advice_may_be_replaced(model, advice):
    method = osp.EmpiricalCubature(advice=advice)
    before = method.estimate(model, 12)
    other = osp.fit_cubature(model, **{**SMALL, "sizes": (3,), "seed": 1})
    method.advice = other
    after = method.estimate(model, 12)
    assert (before.settings["size"], after.settings["size"]) == (12, 3)
    assert after.value == osp.EmpiricalCubature(advice=other).estimate(model, 12).value
    assert method.advice_cost.evaluations == other.record["forwards"]


def test_other_networks_are_refused_or_warned_about(model, advice):
    method = osp.EmpiricalCubature(advice=advice)
    with pytest.raises(ValueError, match="advice 'model'"):
        method.estimate(random_rnn(5, 3), 12)
    with pytest.raises(ValueError, match="biases"):
        method.estimate(random_rnn(4, 3, biases=True), 12)
    with pytest.raises(ValueError, match="'median'"):
        method.estimate(random_rnn(4, 3, task="median"), 12)
    with pytest.raises(ValueError, match="no advice is shipped"):
        osp.EmpiricalCubature().estimate(random_rnn(7, 3), 12)
    near = method.estimate(copies(model, 1, scale=0.05)[0], 12)
    with pytest.warns(osp.AdviceWarning, match="weights differ by .* from those of 'model'"):
        far = method.estimate(random_rnn(4, 3, seed=99), 12)
    assert far.standard_error > 2 * near.standard_error


def test_sketch_measures_noise_and_its_kind(advice, model):
    size = advice.sizes[4]
    weights = np.concatenate([model.W_hh.ravel(), model.W_hi, model.W_oh.ravel()])
    chosen = np.abs(weights[size.sketch["index"]])
    half = len(chosen) // 2
    assert chosen[:half].max() <= chosen[half:].min()
    assert chosen.shape == (18, 1)  # single weights
    assert len(np.unique(chosen)) == 18
    assert calibration.sketch_cost(size.sketch) <= model.forward_multiply_adds
    for scale in (0.003, 0.05):
        levels = np.array([size.core.noise(m._network) for m in copies(model, 400, scale)])
        np.testing.assert_allclose(np.sqrt(levels.mean(axis=0)), scale, rtol=0.15)
    additive = osp.NoiseEnsemble(model, "additive", scale=0.03, size=400, role="fitting")
    small, large = np.mean([size.core.noise(m._network) for m in additive], axis=0)
    assert small > 2 * large
    many = size.core.evaluate_many([m._network for m in additive])
    stated = standard_errors(many[:, 2], many[:, 3], size.sketch["laws"], size.sketch["levels"], size.arrays["error"])
    np.testing.assert_allclose(many[:, 1], stated, rtol=1e-5)


def test_sketches_of_large_networks_have_sums_of_three_weights():
    model = random_rnn(8, 5)
    sketch = calibration.make_sketch(model, np.random.default_rng(0))
    assert sketch["index"].shape == (32, 3)
    assert calibration.sketch_cost(sketch) <= 0.5 * model.forward_multiply_adds
    weights = np.concatenate([model.W_hh.ravel(), model.W_hi, model.W_oh.ravel()])
    np.testing.assert_allclose(sketch["sum"], (sketch["sign"] * weights[sketch["index"]]).sum(axis=1), rtol=1e-6)


def test_calibration_under_another_law(model, advice, tmp_path, monkeypatch):
    # Three times the noise that the advice was fitted on: a large error, and stated to be so.
    settings = {"noise": "mul-0.15", "calibration": 512, "samples": 4096, "folder": tmp_path}
    again = osp.calibrate_cubature(model, advice, **settings)
    assert again.laws == ["mul-0.15"]
    assert advice.laws == ["mul-0.05", "add-0.03"]
    assert again.record["forwards"] > advice.record["forwards"]
    ensemble = list(osp.NoiseEnsemble(model, scale=0.15, size=400, seed=5))
    truth = np.array([osp.ExactIntegration().estimate(m, 10**6).value for m in ensemble])
    for budget, size in advice.sizes.items():
        np.testing.assert_array_equal(again.sizes[budget].arrays["x"], size.arrays["x"])
        estimates = osp.EmpiricalCubature(advice=again).estimate_many(ensemble, budget)
        z = [(e.value - t) / e.standard_error for e, t in zip(estimates, truth, strict=True)]
        assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1, abs=0.25)
    monkeypatch.setattr(calibration.labelling, "labels", lambda *_: pytest.fail("labels are finished"))
    osp.calibrate_cubature(model, again, **settings).save(tmp_path / "again.npz")
    loaded = osp.load_advice(tmp_path / "again.npz")
    for budget, size in again.sizes.items():
        np.testing.assert_array_equal(loaded.sizes[budget].arrays["error"], size.arrays["error"])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"noise": "mul"}, "law of noise"),
        ({"calibration": 31}, "calibration must give every law at least 16 copies, got 31"),
        ({"samples": 63}, "samples must be even and at least 64, got 63"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"advice": "transferred_2nd_argmax_16_10"}, "advice must be for this network"),
        ({"model": random_rnn(4, 3, seed=4)}, "advice must be for this network"),
    ],
)
def test_calibration_checks_its_arguments(model, advice, change, text):
    with pytest.raises(ValueError, match=text):
        osp.calibrate_cubature(**{"model": model, "advice": advice, **change})
    with pytest.raises(TypeError, match="RNN"):
        osp.calibrate_cubature("model.npz", advice)


def test_errors_are_free_of_label_noise():
    rng = np.random.default_rng(0)
    law = np.repeat([0, 1], 20000)
    deviation = np.array([1e-2, 2e-3])
    # Two labels share the estimate's error; their own have a part that networks of one table share.
    shared = np.repeat(1e-2 * rng.standard_normal((2, -(-40000 // 64))), 64, axis=1)[:, :40000]
    bias = np.where(law, 0, 5e-3)
    noise = shared + 3e-3 * rng.standard_normal((2, 40000))
    order = rng.permutation(40000)
    errors = (bias + deviation[law] * rng.standard_normal(40000))[order] + noise
    want = np.sqrt(deviation**2 + [5e-3**2, 0])
    assert calibration.root_mean_squared_errors(errors, law[order], 2) == pytest.approx(want, rel=0.1)


def test_fit_of_the_median_task_against_exact_truth(tmp_path):
    model = osp.zoo.load("median", 4, 3)
    settings = {**SMALL, "noise": {"mul-0.02": 1.0, "add-0.01": 1.0}, "folder": tmp_path / "fit"}
    advice = osp.fit_cubature(model, **settings)
    again = osp.fit_cubature(model, **settings)
    advice.save(tmp_path / "median.npz")
    method = osp.EmpiricalCubature(advice=tmp_path / "median.npz")
    ensemble = list(osp.NoiseEnsemble(model, scale=0.02, size=200, seed=1))
    truth = np.array([osp.ExactIntegration().estimate(m, 10**6).value for m in ensemble])
    plain = np.mean([osp.MonteCarlo().estimate(m, 4096, rng=0).standard_error ** 2 * 4096 for m in ensemble])
    calibrated = osp.calibrate_cubature(model, advice, calibration=512, samples=16384)
    for budget, size in advice.sizes.items():
        np.testing.assert_allclose(calibrated.sizes[budget].arrays["error"], size.arrays["error"], rtol=0.5)
        estimates = method.estimate_many(ensemble, budget)
        error = np.array([e.value for e in estimates]) - truth
        z = error / np.array([e.standard_error for e in estimates])
        assert plain / np.mean(error**2) > 20 * budget
        assert (np.abs(z) < 1.96).mean() > 0.88
        np.testing.assert_array_equal(size.arrays["shift"], again.sizes[budget].arrays["shift"])
        one = method.estimate(ensemble[0], budget)
        assert one.value == pytest.approx(estimates[0].value, abs=1e-3 * one.standard_error + 1e-5 * one.value)


def test_every_law_has_its_own_error(model, advice):
    # The sketch tells the laws apart, so the intervals hold under each of them, not only on average.
    ensembles = (
        osp.NoiseEnsemble(model, scale=0.05, size=400, seed=5),
        osp.NoiseEnsemble(model, "additive", scale=0.03, size=400, seed=5),
    )
    for ensemble in ensembles:
        truth = np.array([osp.ExactIntegration().estimate(m, 10**6).value for m in ensemble])
        for budget in advice.sizes:
            estimates = osp.EmpiricalCubature(advice=advice).estimate_many(list(ensemble), budget)
            z = [(e.value - t) / e.standard_error for e, t in zip(estimates, truth, strict=True)]
            assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1, abs=0.25)


def test_methods_travel_between_processes(model, advice):
    method = osp.EmpiricalCubature(advice=advice)
    first = method.estimate(model, 12)
    again = pickle.loads(pickle.dumps(method))
    assert again.estimate(model, 12).value == first.value


def test_settings_can_be_written_down(advice, tmp_path):
    json.dumps(osp.EmpiricalCubature(advice=advice).settings)
    assert osp.EmpiricalCubature(advice=advice).settings["advice"] == "model"
    cost = osp.EmpiricalCubature(advice=advice).advice_cost
    assert cost is not None
    assert cost.evaluations >= (1024 + 512) * 16384
    assert osp.EmpiricalCubature().advice_cost is None


def test_command(model, tmp_path, capsys):
    source, output = tmp_path / "net.npz", tmp_path / "advice.npz"
    np.savez(source, W_hh=model.W_hh, W_hi=model.W_hi, W_oh=model.W_oh)
    arguments = ["fit", str(source), "--output", str(output), "--noise", "mul-0.05", "--sizes", "4",
                 "--networks", "512", "--samples", "512", "--calibration", "128", "--calibration-samples", "512",
                 "--candidates", "64", "--json"]  # fmt: skip
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["sizes"][0]["forwards"] <= 4
    assert osp.load_advice(output).name == "net"
    assert main([*arguments[:2], "--output", "advice.txt"]) == 2
    again = tmp_path / "again.npz"
    arguments = ["calibrate", str(source), str(output), "--output", str(again), "--noise", "mul-0.02", "--calibration",
                 "64", "--samples", "512", "--json"]  # fmt: skip
    assert main(arguments) == 0
    assert list(json.loads(capsys.readouterr().out)["sizes"][0]["equivalent_samples"]) == ["mul-0.02"]
    assert osp.load_advice(again).laws == ["mul-0.02"]


def test_shipped_advice_is_good():
    for name, path in osp.shipped_advice().items():
        advice = osp.load_advice(name)
        assert name.removeprefix("transferred_").startswith("{}_{}_{}".format(*advice.shape))
        assert name.startswith("transferred_") == advice.transferred
        assert path.stat().st_size < 2 << 20
        for size in advice.sizes.values():
            assert isinstance(size, AdviceSize)
            unit = random_rnn(advice.shape[1], advice.shape[2], advice.shape[0]).forward_multiply_adds
            assert size.multiply_adds <= size.budget * unit
            assert min(size.equivalent_samples.values()) > size.budget


def test_points_are_checked_when_advice_is_used(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = Points(np.array([1, 1, 1], np.int32), np.zeros(3, np.int32), np.ones(3, np.float32),
                        np.array([7], np.int32))  # fmt: skip
        with pytest.raises(ValueError, match="target"):
            points.forest.margins(rows([model]), 4, 3)
