"""What a call of `estimate` costs on top of the core, in turns in one process.

pytest bench/bench_overhead.py
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import outsample as osp
from outsample import _core
from outsample.seeding import philox_key
from timing import fastest

#: Calls in one measurement, so that the clock's own time does not matter.
CALLS = 100
SEED = np.random.SeedSequence(0)

Core = Callable[[], float]


def sampling(model: osp.RNN, budget: int) -> tuple[osp.Estimator, Core]:
    key = philox_key(SEED)
    return osp.MonteCarlo(), lambda: _core.count_correct(model._network, model.task.name, budget, key, 0, 1) / budget


def rule(model: osp.RNN, budget: int) -> tuple[osp.Estimator, Core]:
    method = osp.DeterministicCubature()
    _, _, table, cost = method.prepared(model, budget)
    return method, lambda: _core.point_sums(model._network, table.data, True, 1, cost.planned)[0][0]


def advised(model: osp.RNN, budget: int) -> tuple[osp.Estimator, Core]:
    """The advice is told from that of the zoo's other networks by every call."""
    method = osp.EmpiricalCubature()
    core = method.choose(model).sizes[budget].core
    return method, lambda: core.evaluate(model._network)[0]


@pytest.mark.parametrize(
    ("parts", "budget"), [(sampling, 1), (sampling, 256), (rule, 16), (rule, 256), (advised, 8), (advised, 32)]
)
@pytest.mark.benchmark(group="a call from Python, 16 units, 10 steps")
def test_overhead(benchmark, parts, budget):
    trained = osp.zoo.load("2nd_argmax_16_10_1073741824_11")
    model = osp.NoiseEnsemble(trained, scale=0.01, size=1, role="fitting")[0]
    method, core = parts(model, budget)
    assert benchmark(method.estimate, model, budget, rng=SEED).value == core()
    times = fastest(
        {
            "estimate": lambda: [method.estimate(model, budget, rng=SEED) for _ in range(CALLS)],
            "core": lambda: [core() for _ in range(CALLS)],
        }
    )
    estimate, alone = (times[name] / CALLS * 1e6 for name in ("estimate", "core"))
    benchmark.extra_info.update({"estimate us": estimate, "core us": alone, "overhead us": estimate - alone})


@pytest.mark.parametrize("budget", [16, 256, 4096])
@pytest.mark.benchmark(group="combined, 16 units, 10 steps")
def test_combined(benchmark, budget):
    """Against its two parts called one after the other."""
    trained = osp.zoo.load("2nd_argmax_16_10_1073741824_11")
    model = osp.NoiseEnsemble(trained, scale=0.01, size=1, role="fitting")[0]
    both, advice, sampler = osp.Combined(), osp.EmpiricalCubature(), osp.MonteCarlo()
    prior = advice.estimate(model, budget)
    left = budget - math.ceil(prior.cost.multiply_adds / model.forward_multiply_adds)
    merged = benchmark(both.estimate, model, budget, rng=SEED)
    sample = sampler.estimate(model, left, rng=SEED)
    weight = merged.settings["sampling_weight"]
    assert merged.value == pytest.approx((1 - weight) * prior.value + weight * sample.value, rel=1e-12)

    def parts() -> None:
        advice.estimate(model, budget)
        sampler.estimate(model, left, rng=SEED)

    times = fastest(
        {
            "combined": lambda: [both.estimate(model, budget, rng=SEED) for _ in range(CALLS)],
            "parts": lambda: [parts() for _ in range(CALLS)],
        }
    )
    combined, alone = (times[name] / CALLS * 1e6 for name in ("combined", "parts"))
    benchmark.extra_info.update({"combined us": combined, "parts us": alone, "overhead us": combined - alone})
