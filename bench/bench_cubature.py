"""Empirical cubature: margins, their derivatives, and estimates, against plain sampling."""

from __future__ import annotations

import timeit

import numpy as np
import pytest

import outsample as osp
from outsample import _core
from outsample.cubature.labels import label_forwards, labels
from outsample.cubature.points import random_points

D, N = 16, 10
FORWARD = 2624  # multiply-adds of one forward pass
PEAK = "million forward passes per second"


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    return osp.RNN(rng.normal(size=(D, D)) * np.sqrt(2 / D), rng.normal(size=D), rng.normal(size=(N, D)))


@pytest.fixture(scope="module")
def weights(model):
    w = osp.NoiseEnsemble(model, scale=0.01, size=512, role="fitting").weights()
    return np.concatenate([w.W_hh.reshape(512, -1), w.W_hi, w.W_oh.reshape(512, -1)], axis=1)


@pytest.mark.parametrize("branching", [(), (2, 2, 4)], ids=["chain", "tree"])
def test_margins(benchmark, model, weights, branching):
    points = random_points(model.task, N, branching, 128 // max(1, int(np.prod(branching))), np.random.default_rng(1))
    margins = benchmark(points.forest.margins, weights, D, N)
    logits = model.forward(points.inputs)
    base = np.concatenate([model.W_hh.ravel(), model.W_hi, model.W_oh.ravel()])[None]
    at = points.forest.margins(base, D, N)[:, 0]
    own = logits[np.arange(len(points)), points.target]
    logits[np.arange(len(points)), points.target] = -np.inf
    np.testing.assert_allclose(at, own - logits.max(axis=1), rtol=1e-3, atol=1e-3)
    assert margins.shape == (len(points), 512)
    forwards = points.forest.multiply_adds(D, N) / FORWARD * 512
    benchmark.extra_info[PEAK] = round(forwards / benchmark.stats["min"] / 1e6, 2)


def test_tangents(benchmark, model, weights):
    points = random_points(model.task, N, (), 128, np.random.default_rng(1))
    # Where tanh is its argument: twice the first feature, unscaled, is the margin.
    scale, nothing = np.full(128, 1e-5, np.float32), np.empty(0, np.float32)
    coefficients = np.zeros((128, 3, 512), np.float32)
    coefficients[:, 0] = 2e5
    tangents = benchmark(points.forest.tangents, weights, D, N, scale, nothing, coefficients.reshape(384, 512))
    # Euler: a margin is homogeneous of degree one in the input.
    total = (points.x[:, None] * tangents).sum(axis=0)
    np.testing.assert_allclose(total, points.forest.margins(weights, D, N).sum(axis=0), rtol=1e-3)
    benchmark.extra_info[PEAK] = round(128 * 512 / benchmark.stats["min"] / 1e6, 2)


def test_features(benchmark, model, weights):
    points = random_points(model.task, N, (), 128, np.random.default_rng(1))
    scale, shift = np.full((128, 3), 0.3, np.float32), np.zeros(128, np.float32)
    mean, inverse_sd = np.zeros(7 * 128, np.float32), np.ones(7 * 128, np.float32)
    features = benchmark(points.forest.features, weights, D, N, scale, shift, mean, inverse_sd)
    margins = points.forest.margins(weights, D, N)
    np.testing.assert_allclose(features.reshape(128, 7, -1)[:, 5], np.tanh(0.15 * margins) ** 2, atol=1e-5)
    benchmark.extra_info[PEAK] = round(128 * 512 / benchmark.stats["min"] / 1e6, 2)


@pytest.mark.parametrize(("features", "inputs", "units"), [(3600, 1320, 6), (6000, 2700, 0)], ids=["units", "linear"])
def test_jacobian(benchmark, features, inputs, units):
    rng = np.random.default_rng(3)
    phi, tangent, g, slope = (
        rng.standard_normal((rows, 1008), dtype=np.float32) for rows in (features, inputs, units, units)
    )
    root = np.ones(1008, np.float32)
    jacobian = _core.Jacobian(phi, tangent, g, slope, root)
    v = rng.standard_normal(1 + features + units * (2 + features) + inputs, dtype=np.float32)
    hidden = v[1 + features + 2 * units : len(v) - inputs].reshape(units, features)
    rows = np.concatenate([v[None, 1 : 1 + features], hidden])

    def in_numpy():
        out, bias = np.split(v[1 + features : 1 + features + 2 * units], 2)
        through = rows @ phi
        r = v[0] + through[0] + out @ g + bias @ slope + (slope * through[1:]).sum(axis=0)
        r += v[len(v) - inputs :] @ tangent
        back = (phi @ np.concatenate([r[None], slope * r]).T).T
        return np.concatenate([[r.sum()], back[0], g @ r, slope @ r, back[1:].ravel(), tangent @ r])

    got = benchmark(jacobian.normal, v)
    want = in_numpy()
    # The core rounds derivatives to eight bits.
    assert np.abs(got - want).max() < 0.05 * want.std()
    seconds = min(timeit.repeat(in_numpy, number=1, repeat=20))
    benchmark.extra_info["times as fast as numpy"] = round(seconds / benchmark.stats["min"], 2)


def test_labels(benchmark, model, weights):
    found = benchmark(labels, weights, model.task, N, D, 2048, np.random.SeedSequence(2))
    assert found[0] > 0
    forwards = label_forwards(model, 2048) * len(weights)
    benchmark.extra_info[PEAK] = round(forwards / benchmark.stats["min"] / 1e6, 2)


def shipped():
    return [
        pytest.param(name, size, id=f"{name}-{size}")
        for name in osp.shipped_advice()
        for size in osp.load_advice(name).sizes
    ]


@pytest.mark.parametrize(("name", "size"), shipped() or [pytest.param("", 0, marks=pytest.mark.skip("none shipped"))])
@pytest.mark.parametrize("mode", ["single", "batch"])
def test_estimate(benchmark, name, size, mode):
    """Time per network of shipped advice (on random networks: the time does not depend on the weights)."""
    advice = osp.load_advice(name)
    task, d, n = advice.shape
    rng = np.random.default_rng(0)
    networks = [
        osp.RNN(
            rng.normal(size=(d, d)), rng.normal(size=d), rng.normal(size=(osp.get_task(task).output_size(n), d)),
            task=task, seq_len=n,
        )._network
        for _ in range(64)
    ]  # fmt: skip
    core = advice.sizes[size].core
    if mode == "single":
        value, *_ = benchmark(core.evaluate, networks[0])
        per_network = benchmark.stats["min"]
        assert value == pytest.approx(core.evaluate_many(networks[:1])[0, 0], rel=1e-5, abs=1e-3)
    else:
        values = benchmark(core.evaluate_many, networks)
        per_network = benchmark.stats["min"] / 64
        assert values[0, 0] == pytest.approx(core.evaluate(networks[0])[0], rel=1e-5, abs=1e-3)
    forwards = advice.sizes[size].multiply_adds / networks[0].forward_multiply_adds
    benchmark.extra_info["forwards"] = round(forwards, 1)
    benchmark.extra_info["microseconds per network"] = round(per_network * 1e6, 2)
    benchmark.extra_info[PEAK] = round(forwards / per_network / 1e6, 2)
    for law, equivalent in advice.sizes[size].equivalent_samples.items():
        benchmark.extra_info[f"advantage {law}"] = round(equivalent / forwards)


def test_overhead(benchmark):
    """A call of the estimator, everything included, for a network so small that the points cost nothing."""
    rng = np.random.default_rng(1)
    model = osp.RNN(rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=(3, 3)))
    advice = osp.fit_cubature(
        model, noise="mul-0.05", sizes=(4,), networks=256, samples=256, calibration=64, candidates=32
    )
    method = osp.EmpiricalCubature(advice=advice)
    estimate = benchmark(method.estimate, model, 4)
    core = advice.sizes[4].core
    assert estimate.value == core.evaluate(model._network)[0]
    benchmark.extra_info["microseconds per call"] = round(benchmark.stats["min"] * 1e6, 2)
