"""Point rules: their time against plain forward passes and against random sampling, in turns in one process.

The columns of extra_info: nanoseconds per point of the plain rule (forward passes of ready-made points), of random
sampling, of the rule with the exact last input and of conditional Monte Carlo; and the ratios that matter.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

import outsample as osp
from outsample import _core, low_discrepancy
from outsample.point_tables import alike_together, make_table, side_by_side

POINTS = 1 << 12


def network(d: int, n: int) -> osp.RNN:
    """A random network of roughly unit gain."""
    rng = np.random.default_rng(d + n)
    return osp.RNN(rng.normal(size=(d, d)) * np.sqrt(2 / d), rng.normal(size=d), rng.normal(size=(n, d)))


def nanoseconds(functions: dict, rounds: int = 25) -> dict[str, float]:
    """Per point, the minimum over rounds in which the functions take turns."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            best[name] = min(best[name], (time.perf_counter() - start) / POINTS * 1e9)
    return best


def stratified_variance(network, task: str, samples: int, draws: int = 4 * POINTS) -> float:
    """Of one sample of so many, within strata."""
    repeats = draws // samples
    return float(
        np.mean([_core.conditional_sum(network, task, samples // 2, key)[1] for key in range(repeats)]) / samples
    )


@pytest.mark.parametrize("isa", osp.build_info()["supported_isas"])
@pytest.mark.parametrize("of", ["16_10_1073741824_11", (16, 10), (32, 10), (8, 6), (8, 5), (4, 4)], ids=str)
def test_points(benchmark, isa, of):
    """On a network of the zoo, and on random ones."""
    model = osp.zoo.load(f"2nd_argmax_{of}") if isinstance(of, str) else network(*of)
    net, task, n = model._network, model.task, model.seq_len
    x = np.random.default_rng(0).normal(size=(POINTS, n))
    exact = make_table(x[:, :-1], task, exact_last=True)[None]
    plain = make_table(x, task, exact_last=False)[None]
    with osp.use_isa(isa):
        functions = {
            "plain points": lambda: _core.point_sums(net, plain, False),
            "monte carlo": lambda: _core.count_correct(net, task.name, POINTS, 1),
            "exact last": lambda: _core.point_sums(net, exact, True),
            "conditional": lambda: _core.conditional_sum(net, task.name, POINTS // 2, 1),
        }
        ns = nanoseconds(functions)
        values = benchmark.pedantic(functions["exact last"], rounds=3)
        p = _core.conditional_expectations(net, task.name, x[:, :-1].astype(np.float32))
        variance = {samples: stratified_variance(net, task.name, samples) for samples in (256, POINTS)}
    assert values[0][0] == pytest.approx(p.mean(), abs=1e-6)
    if isa == "avx512" and of == (16, 10):  # the shape whose logits stay in registers
        assert ns["exact last"] < 3 * ns["plain points"]
    benchmark.extra_info.update({f"ns {name}": round(value, 1) for name, value in ns.items()})
    benchmark.extra_info.update(
        exact_to_plain=round(ns["exact last"] / ns["plain points"], 2),
        exact_to_sampling=round(ns["exact last"] / ns["monte carlo"], 2),
        conditional_to_sampling=round(ns["conditional"] / ns["monte carlo"], 2),
        variance_ratio=round(float(p.var() / (p.mean() * (1 - p.mean()))), 3),
        **{
            f"variance_ratio_{samples}": round(value / float(p.mean() * (1 - p.mean())), 3)
            for samples, value in variance.items()
        },
    )


@pytest.mark.parametrize("isa", osp.build_info()["supported_isas"])
@pytest.mark.parametrize("name", ["16_10_1073741824_11", "16_6_67108864_0", "6_6_536870912_2"])
def test_order(benchmark, isa, name):
    """The order of points in a table against the one in which they were made, on trained networks."""
    model = osp.zoo.load(f"2nd_argmax_{name}")
    net, inputs = model._network, model.seq_len - 1
    u = low_discrepancy.hammersley(POINTS, low_discrepancy.order_dimensions(inputs))
    x = low_discrepancy.order_inputs(u, inputs)
    ordered = make_table(x, model.task, exact_last=True)
    rows = ordered.transpose(1, 0, 2).reshape(ordered.shape[1], POINTS)
    made = np.empty_like(rows)
    made[:, alike_together(x.astype(np.float32))] = rows
    made = np.ascontiguousarray(made.reshape(rows.shape[0], -1, _core.points_per_group).transpose(1, 0, 2))
    with osp.use_isa(isa):
        functions = {
            "as made": lambda: _core.point_sums(net, made[None], True),
            "in order": lambda: _core.point_sums(net, ordered[None], True),
        }
        ns = nanoseconds(functions)
        values = benchmark.pedantic(functions["in order"], rounds=3)
        assert values[0][0] == pytest.approx(functions["as made"]()[0][0], abs=1e-6)
    benchmark.extra_info.update({f"ns {key}": round(value, 1) for key, value in ns.items()})
    benchmark.extra_info["in_order_to_as_made"] = round(ns["in order"] / ns["as made"], 3)


@pytest.mark.parametrize("isa", osp.build_info()["supported_isas"])
@pytest.mark.parametrize("points", [4, 16, 32])
def test_copies(benchmark, isa, points):
    """Few points in each of ten copies: side by side, against one call of the core for each copy."""
    model = osp.zoo.load("2nd_argmax_16_10_1073741824_11")
    net, copies = model._network, 10
    x = np.random.default_rng(0).normal(size=(copies, points, model.seq_len - 1))
    tables = [make_table(copy, model.task, exact_last=True) for copy in x]
    grouped, flat = np.stack(tables), side_by_side(tables, points)
    repeats = POINTS // points // copies
    with osp.use_isa(isa):
        functions = {
            "a call for each": lambda: [
                [_core.point_sums(net, table[None], True)[0][0] for table in grouped] for _ in range(repeats)
            ],
            "in groups": lambda: [_core.point_sums(net, grouped, True)[0] for _ in range(repeats)],
            "side by side": lambda: [_core.point_sums(net, flat, True, points=points)[0] for _ in range(repeats)],
        }
        ns = nanoseconds(functions)
        values = benchmark.pedantic(functions["side by side"], rounds=3)
        for other in ("a call for each", "in groups"):
            np.testing.assert_allclose(values[0], functions[other]()[0], rtol=1e-6)
    benchmark.extra_info.update({f"ns {key}": round(value, 1) for key, value in ns.items()})
    benchmark.extra_info["side_by_side_to_a_call_for_each"] = round(ns["side by side"] / ns["a call for each"], 3)


@pytest.mark.parametrize("isa", osp.build_info()["supported_isas"])
@pytest.mark.parametrize("name", ["16_10_67108864_1", "8_10_67108864_2", "16_5_67108864_0", "8_5_67108864_0"])
def test_median(benchmark, isa, name):
    """Conditional Monte Carlo of the mean squared error against random sampling, on trained networks."""
    model = osp.zoo.load(f"median_{name}")
    net = model._network
    draws = 1 << 18
    with osp.use_isa(isa):
        functions = {
            "monte carlo": lambda: _core.sample_moments(net, "median", POINTS, 1),
            "conditional": lambda: _core.conditional_sum(net, "median", POINTS // 2, 1),
        }
        ns = nanoseconds(functions)
        benchmark.pedantic(functions["conditional"], rounds=3)
        total, squares = _core.sample_moments(net, "median", draws, 2)
        x = np.random.default_rng(0).normal(size=(draws, model.seq_len - 1)).astype(np.float32)
        p = _core.conditional_expectations(net, "median", x).astype(float)
        stratified = {samples: stratified_variance(net, "median", samples, draws) for samples in (256, POINTS)}
    variance = squares / draws - (total / draws) ** 2
    ratio = ns["conditional"] / ns["monte carlo"]
    benchmark.extra_info.update({f"ns {key}": round(value, 1) for key, value in ns.items()})
    benchmark.extra_info.update(
        conditional_to_sampling=round(ratio, 2),
        variance_ratio=round(float(p.var()) / variance, 3),
        **{f"variance_ratio_{samples}": round(value / variance, 3) for samples, value in stratified.items()},
        time_times_variance=round(ratio * stratified[POINTS] / variance, 2),
    )
