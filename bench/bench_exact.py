"""Exact integration: its time, against 10^6 samples of the same network.

The columns of extra_info: cells, multiply-adds, forward equivalents, error bound, difference from sampling in standard
errors, and how many samples plain Monte Carlo draws in the time of one exact answer.
"""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

import outsample as osp

SAMPLES = 10**6


def network(d: int, n: int, task: str) -> osp.RNN:
    """A random network of roughly unit gain."""
    rng = np.random.default_rng(d + n)
    outputs = 1 if task == "median" else n
    weights = rng.normal(size=(d, d)) * math.sqrt(2 / d), rng.normal(size=d), rng.normal(size=(outputs, d))
    return osp.RNN(*weights, task=task, seq_len=n)


@pytest.mark.parametrize("d", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("n", [2, 3])
def test_exact_integration(benchmark, d, n):
    model = network(d, n, "2nd_argmax")
    exact = osp.ExactIntegration()
    found = benchmark(lambda: osp._core.integrate_exactly(model._network, model.task.name))
    start = time.perf_counter()
    sampled = osp.MonteCarlo().estimate(model, SAMPLES, rng=0)
    per_sample = (time.perf_counter() - start) / SAMPLES
    p = found["value"]
    z = (sampled.value - p) / math.sqrt(p * (1 - p) / SAMPLES)
    assert abs(z) < 4.5
    assert abs(found["coverage"] - 1) * 4 * math.pi < 1e-12
    assert found["error_bound"] < 1e-11
    seconds = benchmark.stats.stats.min if benchmark.stats else math.nan
    assert not seconds > 0.1
    benchmark.extra_info.update(
        cells=found["cells"],
        multiply_adds=found["multiply_adds"],
        forwards=exact.minimum_budget(model),
        error_bound=f"{found['error_bound']:.0e}",
        sampling_difference=f"{z:+.2f} s.e.",
        samples_in_the_same_time=round(seconds / per_sample) if benchmark.stats else None,
    )


@pytest.mark.parametrize("n", [2, 3])
def test_median_task(benchmark, n):
    model = network(8, n, "median")
    found = benchmark(lambda: osp._core.integrate_exactly(model._network, model.task.name))
    x = np.random.default_rng(0).normal(size=(SAMPLES, n)).astype(np.float32)
    errors = (model.forward(x)[:, 0] - np.median(x, axis=1)).astype(float) ** 2
    assert abs(errors.mean() - found["value"]) < 4.5 * errors.std() / math.sqrt(SAMPLES)
    benchmark.extra_info.update(cells=found["cells"], multiply_adds=found["multiply_adds"])


@pytest.mark.parametrize(("d", "n"), [(2, 3), (8, 6)])
def test_enumeration(benchmark, d, n):
    rng = np.random.default_rng(d)
    shapes = (n, d), (n, d), (2, 3 * d, d), (2, d, d), (n, d)
    model = osp.Transformer(*(rng.normal(size=shape) for shape in shapes))
    found = benchmark(lambda: osp.Enumeration().estimate(model, n**n))
    sampled = osp.MonteCarlo().estimate(model, 50_000, rng=0)
    p = found.value
    assert abs(sampled.value - p) < 4.5 * math.sqrt(p * (1 - p) / 50_000) + 1e-12
    if benchmark.stats:
        benchmark.extra_info.update(inputs=n**n, ns_per_input=round(1e9 * benchmark.stats.stats.min / n**n))
