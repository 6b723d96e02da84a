"""Gaussian propagation: time and GFLOP/s per step and instruction set, cost model, sharing, estimator calls.

``pytest bench/bench_gaussian.py``; figures of quality are in the columns of ``--benchmark-json`` under ``extra_info``
and are printed with ``-s``.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

import outsample as osp
from outsample import _core, gaussian
from outsample.estimators._propagation_cost import SLOWNESS, PropagationCost
from outsample.estimators.cell_propagation import _cells

D, N, COMPONENTS = 16, 10, 256
ISAS = osp.build_info()["supported_isas"]


def network(task: str) -> osp.RNN:
    rng = np.random.default_rng(0)
    return osp.RNN(
        rng.normal(size=(D, D)) * np.sqrt(2 / D),
        rng.normal(size=D),
        rng.normal(size=(1 if task == "median" else N, D)),
        task,
        seq_len=N,
    )


def step_flops(order: int) -> float:
    """Floating-point operations of one step of one component, a multiply-add being two."""
    pairs = D * (D - 1) / 2
    unit = 70  # a square root, two reciprocals, an exponential of 6 terms and a polynomial of 11 among them
    if order == 1:
        return 2 * 2 * D * D + unit * D
    return 2 * (D * D + D**3 + D * D * (D + 1) / 2) + unit * D + 19 * pairs


def plan() -> _core.CellPlan:
    """Components that share nothing."""
    rng = np.random.default_rng(1)
    mean, variance = rng.normal(size=(COMPONENTS, N)), rng.uniform(0, 1, (COMPONENTS, N))
    symbols = np.arange(COMPONENTS * N, dtype=np.int32).reshape(COMPONENTS, N)
    return _core.CellPlan(symbols, mean.ravel(), variance.ravel())


def best(call, rounds: int = 30) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("isa", ISAS)
def test_step(benchmark, isa, order, precision):
    """One step of a 16-unit network, amortised over 1,280 components of 10 steps each (the first is the cheap one)."""
    model = network("median")  # one output: reading out costs next to nothing
    cells = plan()
    single = precision == "single"
    with osp.use_isa(isa):
        value, spread = benchmark(_core.propagate, model._network, cells, order, single)
        exact, exact_spread = _core.propagate(model._network, cells, order, False)
        peak = 2 / _core.peak_multiply_add_seconds() / (1 if single else 2)
    np.testing.assert_allclose(value, exact, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(spread, exact_spread, rtol=1e-3, atol=1e-3)
    seconds = benchmark.stats.stats.min / (COMPONENTS * N)
    benchmark.extra_info["ns_per_step"] = seconds * 1e9
    benchmark.extra_info["gflops"] = step_flops(order) / seconds / 1e9
    benchmark.extra_info["share_of_peak"] = step_flops(order) / seconds / peak
    print(
        f"\n{isa} order {order} {precision}: {seconds * 1e9:.0f} ns per step, "
        f"{step_flops(order) / seconds / 1e9:.1f} GFLOP/s, {step_flops(order) / seconds / peak:.0%} of peak"
    )


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("isa", ISAS)
def test_shared_step(benchmark, isa, order):
    """Order-conditioned propagation, whose 90 arrangements share prefixes: per cell and step, reading out included."""
    model = network("2nd_argmax")
    cells = _cells("2nd_argmax", N, 1, 90 * 3).plan
    with osp.use_isa(isa):
        value, _ = benchmark(_core.propagate, model._network, cells, order, True)
        exact, _ = _core.propagate(model._network, cells, order, False)
    np.testing.assert_allclose(value, exact, atol=2e-3)
    per_cell = benchmark.stats.stats.min / cells.cells
    benchmark.extra_info["ns_per_cell_and_step"] = per_cell / N * 1e9
    benchmark.extra_info["steps_made"] = cells.nodes / (cells.cells * N)
    print(
        f"\n{isa} order {order} shared: {per_cell / N * 1e9:.0f} ns per cell and step, "
        f"{cells.nodes / cells.cells / N:.0%} of the steps made"
    )


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("order", [1, 2])
def test_cost_model(order, precision):
    """Time per counted operation over random sampling's time per multiply-add: `_propagation_cost.SLOWNESS`."""
    model = network("2nd_argmax")
    cells = _cells("2nd_argmax", N, 16, 178).plan  # short calls: the least of many is undisturbed
    operations = PropagationCost(model, order, precision).multiply_adds(cells.inner_nodes, cells.nodes, cells.cells)
    samples = 1 << 12
    ratios = []
    for _ in range(9):  # interleaved
        sampling = best(lambda: _core.count_correct(model._network, "2nd_argmax", samples, 1), 15)
        ours = best(lambda: _core.propagate(model._network, cells, order, precision == "single"), 15)
        ratios.append((ours / operations) / (sampling / samples / model.forward_multiply_adds))
    ratio = float(min(ratios))
    print(f"\norder {order} {precision}: slowness {ratio:.2f}, in use {SLOWNESS[order, precision]}")
    assert 0.4 < ratio / SLOWNESS[order, precision] < 3


@pytest.mark.parametrize("method", [osp.GaussianPropagation(order=1), osp.GaussianPropagation(), osp.CellPropagation()])
def test_estimate(benchmark, method):
    """One call with everything in, at 4,096 forward passes or the method's least."""
    model = network("2nd_argmax")
    budget = max(4096, method.minimum_budget(model))
    estimate = benchmark(method.estimate, model, budget)
    assert 0 <= estimate.value <= 1
    sampling = best(lambda: osp.MonteCarlo().estimate(model, budget, rng=0))
    benchmark.extra_info["cells"] = estimate.cost.evaluations
    benchmark.extra_info["time_over_sampling"] = benchmark.stats.stats.min / sampling
    print(
        f"\n{method.label}: {estimate.cost.evaluations:.0f} cells, "
        f"{benchmark.stats.stats.min / sampling:.2f} of the time of {budget} samples"
    )


def test_relu_covariance(benchmark):
    """The exact function, entry by entry in closed form."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(64, 64))
    mean, covariance = rng.normal(size=64), A @ A.T
    result = benchmark(gaussian.relu_covariance, mean, covariance)
    assert np.linalg.eigvalsh(result.covariance).min() > 0
    benchmark.extra_info["ns_per_pair"] = benchmark.stats.stats.min / (64 * 63 / 2) * 1e9


@pytest.mark.parametrize("method", ["genz", "mendell-elston"])
def test_orthant(benchmark, method):
    """Nine dimensions, equal correlations of one half: the answer is one tenth."""
    covariance = 0.5 * (np.eye(9) + np.ones((9, 9)))
    result = benchmark(gaussian.orthant_probability, np.zeros(9), covariance, method, tolerance=1e-4)
    assert abs(result.value - 0.1) < (result.error if method == "genz" else 0.01)
    benchmark.extra_info["error"] = abs(result.value - 0.1)
