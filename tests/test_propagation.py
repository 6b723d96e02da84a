"""Gaussian moment propagation through the network: kernels and the two estimators."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
from numpy.testing import assert_allclose

import outsample as osp
from conftest import random_rnn
from outsample import _core, gaussian
from outsample.estimators import _order_statistics as order_statistics
from outsample.estimators.cell_propagation import _cells, arrangement_count


def reference_states(model, mean, variance, order):
    """The same recursion in numpy, with exact covariances of rectified units in place of the series."""
    d = model.hidden_size
    W, w = model.W_hh.astype(float), model.W_hi.astype(float)
    b = np.zeros(d) if model.b_h is None else model.b_h.astype(float)
    mu, S = np.zeros(d), np.zeros((d, d))
    states = []
    for t in range(model.seq_len):
        z = W @ mu + w * mean[t] + b
        C = W @ S @ W.T + variance[t] * np.outer(w, w)
        if order == 1:
            mu, v = gaussian.relu_moments(z, np.diag(C))
            S = np.diag(v)
        else:
            C = (C + C.T) / 2
            mu, S = _core.relu_covariance(z[None], C[None])
            mu, S = mu[0], S[0]
        states.append((mu, S))
    return states


def test_order_1_agrees_with_exact_moments(isa):
    for d, n, biases in ((16, 10, False), (5, 4, True), (33, 7, False), (1, 2, True)):
        model = random_rnn(d, n, biases=biases, seed=d)
        rng = np.random.default_rng(d)
        mean, variance = rng.normal(size=(21, n)), rng.uniform(0, 2, (21, n)) * rng.integers(0, 2, (21, n))
        for precision, rtol in (("double", 1e-11), ("single", 2e-4)):
            result = gaussian.propagate(model, mean, variance, order=1, precision=precision)
            scale = 2.0 ** result.exponent[..., None]
            for i in range(21):
                for t, (mu, S) in enumerate(reference_states(model, mean[i], variance[i], 1)):
                    size = mu.max() + np.sqrt(S.max())
                    assert_allclose(result.mean[i, t] * scale[i, t], mu, rtol=rtol, atol=rtol * size)
                    assert_allclose(
                        result.covariance[i, t] * scale[i, t] ** 2, np.diag(S), rtol=rtol, atol=rtol * size**2
                    )


def test_the_first_state_is_exact(isa):
    model = random_rnn(9, 3, seed=4)
    x = np.random.default_rng(0).normal(size=200_000) * 1.5 + 0.4
    h = np.maximum(np.outer(x, model.W_hi.astype(float)), 0)
    result = gaussian.propagate(model, 0.4, 2.25)
    assert_allclose(result.mean[0], h.mean(0), rtol=0.02)
    assert_allclose(result.covariance[0], np.cov(h.T), rtol=0.02, atol=0.005)
    # max(w x, 0) for one and the same x: closed form of the exact function at |rho| = 1.
    w = model.W_hi.astype(float)
    exact = gaussian.relu_covariance(w * 0.4, 2.25 * np.outer(w, w))
    assert_allclose(result.mean[0], exact.mean, rtol=1e-12)
    assert_allclose(result.covariance[0], exact.covariance, rtol=1e-11, atol=1e-13)


def test_one_covariance_step_keeps_its_error_bound(isa):
    # A step from an exactly known state: the second one. The bound is that of `propagate`'s docstring.
    worst = 0.0
    for seed in range(20):
        model = random_rnn(12, 2, seed=seed, biases=seed % 2 == 1)
        w, W = model.W_hi.astype(float), model.W_hh.astype(float)
        b = np.zeros(12) if model.b_h is None else model.b_h.astype(float)
        rng = np.random.default_rng(seed)
        mean, variance = rng.normal(size=2), rng.uniform(0.01, 2, 2)
        result = gaussian.propagate(model, mean, variance)
        z = W @ result.mean[0] + w * mean[1] + b
        C = W @ result.covariance[0] @ W.T + variance[1] * np.outer(w, w)
        exact = gaussian.relu_covariance(z, (C + C.T) / 2)
        assert_allclose(result.mean[1], exact.mean, rtol=1e-11)
        assert_allclose(np.diag(result.covariance[1]), np.diag(exact.covariance), rtol=1e-9)
        s = np.sqrt(np.diag(C))
        a, rho = z / s, C / np.outer(s, s)
        phi = np.exp(-a * a / 2) / np.sqrt(2 * np.pi)
        hermite = [np.ones_like(a), a, a**2 - 1, a**3 - 3 * a]
        five = (s * np.array([order_statistics.normal_cdf(a), *(h * phi for h in hermite)])) ** 2
        left = np.diag(exact.covariance) - (five.T / [1, 2, 6, 24, 120]).sum(1)
        bound = 2 * np.sqrt(np.outer(left, left)) * rho**6
        error = np.abs(result.covariance[1] - exact.covariance)
        assert (error <= bound + 1e-9 * np.outer(s, s)).all()
        worst = max(worst, (error / np.outer(s, s)).max())
    assert 1e-6 < worst < 0.03


def test_single_and_double_agree(isa):
    model = random_rnn(16, 10, seed=1)
    rng = np.random.default_rng(3)
    mean, variance = rng.normal(size=(40, 10)), rng.uniform(0, 1, (40, 10))
    single = gaussian.propagate(model, mean, variance, precision="single")
    double = gaussian.propagate(model, mean, variance)
    size = np.abs(double.mean).max(-1, keepdims=True)
    assert_allclose(single.mean, double.mean, atol=2e-4 * size.max())
    assert_allclose(single.covariance, double.covariance, atol=2e-4 * size.max() ** 2)


def test_instruction_sets_agree():
    model = random_rnn(11, 6, seed=2)
    rng = np.random.default_rng(3)
    mean, variance = rng.normal(size=(37, 6)), rng.uniform(0, 1, (37, 6))
    results = []
    for name in osp.build_info()["supported_isas"]:
        with osp.use_isa(name):
            results.append(gaussian.propagate(model, mean, variance).covariance)
    for result in results[1:]:
        assert_allclose(result, results[0], rtol=1e-9, atol=1e-11)


def test_moments_of_the_state_against_sampling():
    # A wide layer whose units are mostly on, where the state is close to normal.
    d, n = 64, 6
    rng = np.random.default_rng(0)
    model = osp.RNN(
        rng.normal(size=(d, d)) / np.sqrt(d), rng.normal(size=d), rng.normal(size=(n, d)), b_h=np.full(d, 1.0)
    )
    x = rng.normal(size=(100_000, n)).astype(np.float32)
    _, hidden = model.forward(x, hidden_states=True)
    result = gaussian.propagate(model)
    scale = 2.0**result.exponent
    errors = []
    for t in range(n):
        h = hidden[:, t + 1].astype(float)
        errors.append(
            [
                np.linalg.norm(result.mean[t] * scale[t] - h.mean(0)) / np.linalg.norm(h.mean(0)),
                np.linalg.norm(result.covariance[t] * scale[t] ** 2 - np.cov(h.T)) / np.linalg.norm(np.cov(h.T)),
            ]
        )
    assert max(errors[0]) < 0.02  # exact but for the sampling
    assert np.max(errors, axis=0)[0] < 0.015
    assert np.max(errors, axis=0)[1] < 0.12


@pytest.mark.parametrize("order", [1, 2])
def test_covariances_stay_positive_semi_definite(order):
    # Up to the rounding of W S W' where its rows nearly cancel. OUTSAMPLE_PSD_NETWORKS=10000 is the full run.
    models = extreme_networks(int(os.environ.get("OUTSAMPLE_PSD_NETWORKS", "150")), seed=order)
    worst = min(worst_eigenvalue(model, order) for model in models)
    print(f"\norder {order}: worst smallest eigenvalue over largest variance {worst:.1e}")
    assert worst > -1e-8


def extreme_networks(count, seed):
    """Random networks of up to 64 units and 64 steps, with gains and scales over many orders of magnitude."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        d, n = rng.integers(1, 65), rng.integers(2, 65)
        W_hh = rng.normal(size=(d, d)) * 10.0 ** rng.choice([-30, -3, -0.5, 0, 0.5, 3, 30]) / np.sqrt(d)
        if rng.random() < 0.3:  # low rank: correlations of 1
            W_hh = np.outer(W_hh[:, 0], rng.normal(size=d))
        if rng.random() < 0.3:  # rows of very different scale
            W_hh *= 10.0 ** rng.uniform(-4, 4, (d, 1))
        W_hi = rng.normal(size=d) * 10.0 ** rng.choice([-30, 0, 30])
        b_h = rng.normal(size=d) * 10.0 ** rng.choice([-3, 0, 3]) if rng.random() < 0.3 else None
        yield osp.RNN(W_hh, W_hi, rng.normal(size=(n, d)), b_h=b_h)


def worst_eigenvalue(model, order):
    """Smallest eigenvalue of any state's covariance, in units of its largest variance."""
    rng = np.random.default_rng(0)
    n = model.seq_len
    mean, variance = rng.normal(size=(2, n)), rng.uniform(0, 2, (2, n)) * rng.integers(0, 2, (2, n))
    result = gaussian.propagate(model, mean, variance, order=order)
    assert np.isfinite(result.mean).all()
    assert np.isfinite(result.covariance).all()
    assert (result.mean >= 0).all()
    if order == 1:
        return result.covariance.min()
    size = np.maximum(np.diagonal(result.covariance, axis1=-2, axis2=-1).max(-1), 1e-300)
    return (np.linalg.eigvalsh(result.covariance / size[..., None, None]).min(-1)).min()


def test_shared_prefixes_change_nothing(isa):
    model = random_rnn(16, 10, seed=5)
    cells = _cells("2nd_argmax", 10, 1, 270)
    rows = 270
    rng = np.random.default_rng(0)
    # The same cells in another order, and each alone.
    symbols = rng.integers(0, 3, size=(rows, 10)).astype(np.int32)
    mean, variance = rng.normal(size=3), rng.uniform(0, 1, 3)
    labels = rng.integers(0, 10, rows).astype(np.int32)
    shared = _core.CellPlan(symbols, mean, variance, labels)
    alone = _core.CellPlan(symbols, mean, variance, labels, False)
    assert shared.nodes < alone.nodes == rows * 10
    assert cells.plan.nodes < 0.6 * cells.plan.cells * 10
    for order, single in itertools.product((1, 2), (True, False)):
        ours, none = _core.propagate(model._network, shared, order, single)
        assert none is None
        theirs, _ = _core.propagate(model._network, alone, order, single)
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(ours, _core.propagate(model._network, shared, order, single, 3)[0])


def test_probability_of_the_label_agrees_with_the_orthant_function(isa):
    rng = np.random.default_rng(1)
    for d, n in ((8, 5), (3, 2), (20, 9)):
        model = random_rnn(d, n, seed=d)
        mean, variance = rng.normal(size=(12, n)), rng.uniform(0, 1, (12, n))
        labels = rng.integers(0, n, 12).astype(np.int32)
        symbols = np.arange(12 * n, dtype=np.int32).reshape(12, n)
        plan = _core.CellPlan(symbols, mean.ravel(), variance.ravel(), labels)
        ours, _ = _core.propagate(model._network, plan, 2, False)
        state = gaussian.propagate(model, mean, variance)
        for i in range(12):
            W = model.W_oh.astype(float)
            D = np.delete(W[labels[i]] - W, labels[i], axis=0)
            m, S = D @ state.mean[i, -1], D @ state.covariance[i, -1] @ D.T
            expected = gaussian.orthant_probability(m, S, "mendell-elston").value
            assert_allclose(ours[i], expected, rtol=1e-6, atol=1e-9)


def test_points_agree_with_the_forward_pass():
    # No variance: the cell is a point, and its probability is whether the network is right there, ties included.
    model = random_rnn(6, 5, seed=3)
    x = np.random.default_rng(2).normal(size=(300, 5)).astype(np.float32)
    labels = model.task.target(x).astype(np.int32)
    symbols = np.arange(1500, dtype=np.int32).reshape(300, 5)
    plan = _core.CellPlan(symbols, x.ravel().astype(float), np.zeros(1500), labels)
    right = np.argmax(model.forward(x), axis=1) == labels
    for order, single in itertools.product((1, 2), (True, False)):
        np.testing.assert_allclose(_core.propagate(model._network, plan, order, single)[0], right, atol=1e-6)
    dead = osp.RNN(-np.ones((2, 2)), np.zeros(2), np.ones((5, 2)))
    assert set(_core.propagate(dead._network, plan, 2, False)[0][labels == 0]) == {1.0}
    assert_allclose(_core.propagate(dead._network, plan, 2, False)[0][labels > 0], 0.0, atol=1e-6)


@pytest.mark.parametrize("task", ["2nd_argmax", "argmax", "argmedian"])
def test_many_bins_approach_the_truth(task):
    model = random_rnn(6, 5, task, seed=7)
    truth = osp.MonteCarlo().estimate(model, 400_000, rng=0)
    fine = osp.CellPropagation(bins=256, cells=120 * 251).estimate(model, 10**8)
    assert abs(fine.value - truth.value) < 0.02
    assert fine.standard_error is None


def test_median_task_approaches_the_truth():
    for n in (2, 3, 4, 5):
        model = random_rnn(5, n, "median", seed=n)
        x = np.random.default_rng(0).normal(size=(200_000, n)).astype(np.float32)
        truth = np.mean((model.forward(x)[:, 0] - np.median(x, axis=1)) ** 2)
        fine = osp.CellPropagation(bins=128, cells=30_000).estimate(model, 10**9)
        assert abs(fine.value / truth - 1) < 0.08
        one = osp.GaussianPropagation().estimate(model, 10**6)
        assert 0.2 < one.value / truth < 5


def test_one_bin_is_one_law_per_arrangement():
    assert arrangement_count("2nd_argmax", 10) == 90
    assert arrangement_count("argmedian", 5) == 30
    assert arrangement_count("median", 4) == 24
    # With a linear network the Gaussian recursion has nothing to approximate but the rectifier, which never acts.
    d, n = 4, 5
    rng = np.random.default_rng(0)
    W = np.abs(rng.normal(size=(d, d))) / d
    linear = osp.RNN(W, rng.normal(size=d) * 0.1, rng.normal(size=(1, d)), "median", b_h=np.full(d, 50.0), seq_len=n)
    x = rng.normal(size=(300_000, n)).astype(np.float32)
    truth = np.mean((linear.forward(x)[:, 0].astype(float) - np.median(x, axis=1)) ** 2)
    value = osp.CellPropagation(bins=1, cells=30 * 101).estimate(linear, 10**8).value
    assert abs(value / truth - 1) < 1e-3


def test_richardson_extrapolates():
    model = random_rnn(6, 5, seed=7)
    coarse, fine = (osp.CellPropagation(bins=b, cells=600).estimate(model, 10**8).value for b in (4, 8))
    both = osp.CellPropagation(bins=8, cells=1200, richardson=True).estimate(model, 10**8)
    assert_allclose(both.value, min(1.0, fine + (fine - coarse) / 3), rtol=1e-12)
    assert both.settings["bins"] == [8, 4]


def test_budgets_are_kept():
    model = random_rnn(16, 10, seed=0)
    for estimator in (osp.GaussianPropagation(order=1), osp.GaussianPropagation(), osp.CellPropagation()):
        least = estimator.minimum_budget(model)
        estimator.estimate(model, least)
        with pytest.raises(ValueError, match="budget must be at least"):
            estimator.estimate(model, least - 1)
    cells = [osp.CellPropagation().estimate(model, b).cost.evaluations for b in (300, 3_000, 30_000)]
    assert cells == sorted(cells)
    assert cells[0] < cells[-1]


def test_lattice_points_are_one_per_interval():
    for count, size in ((1, 1), (2, 2), (90, 89), (509, 509)):
        u = order_statistics.lattice(count, 7)
        assert u.shape == (size, 7)
        for column in u.T:
            assert_allclose(np.sort(column), (np.arange(size) + 0.5) / size)


def test_order_statistics_against_sampling():
    rng = np.random.default_rng(0)
    x = -np.sort(-rng.normal(size=(200_000, 5)), axis=1)
    for rank in (1, 2, 3):
        first, second = order_statistics.moments(5, rank)
        assert abs(first - x[:, rank - 1].mean()) < 0.01
        assert abs(second - (x[:, rank - 1] ** 2).mean()) < 0.02
    u = order_statistics.lattice(10_007, 2)
    v = order_statistics.values(5, order_statistics.Pinned(2, 2, 0), u)
    assert_allclose(np.corrcoef(v.T)[0, 1], np.corrcoef(x[:, 1:3].T)[0, 1], atol=0.01)
    assert_allclose(v.mean(0), x[:, 1:3].mean(0), atol=0.01)


@pytest.mark.parametrize(
    ("estimator", "text"),
    [
        (osp.GaussianPropagation(order=3), "order must be 1 or 2"),
        (osp.GaussianPropagation(precision="half"), "precision must be"),
        (osp.CellPropagation(bins=0), "bins must be a positive integer"),
        (osp.CellPropagation(cells=2.5), "cells must be a positive integer"),
        (osp.CellPropagation(bins=3, richardson=True), "bins must be even"),
    ],
)
def test_bad_settings(estimator, text):
    with pytest.raises(ValueError, match=text):
        estimator.estimate(random_rnn(4, 3), 10**6)


def test_subnormal_numbers_still_count_after_propagation(isa):
    # Kernels take them for 0; the caller's arithmetic must not.
    model = random_rnn(16, 10)
    osp.CellPropagation().estimate(model, budget=256)
    gaussian.propagate(model)
    assert np.float32(1e-40) * np.float32(0.5) > 0
    assert (np.full(64, 1e-310) * 0.5 > 0).all()
