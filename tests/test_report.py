"""Tables and figures."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn
from outsample._timing import Quartiles, SamplingTime
from outsample.plots import FIGURES
from outsample.report import duration, markdown, number
from outsample.results import Measurement, Method, Refusal


def made(times: bool = True) -> osp.Comparison:
    """A comparison with known figures: v = 0.16, Monte Carlo as in theory, a method 10 times better, the constant."""
    rng = np.random.default_rng(0)
    truth = osp.Truth(np.full(100, 0.8), np.full(100, 1e-4), np.full(100, 0.16), 2**22)
    methods = [
        Method("monte-carlo", "monte-carlo", "sampling", {}, None, True),
        Method("better", "better", "with advice", {"k": 3}, osp.AdviceCost(4e9, 300.0), False),
        Method("constant", "constant", "with advice", {}, osp.AdviceCost(1e6, 0.5), False),
    ]
    measurements = []
    for label, gain, budgets in (
        ("monte-carlo", 1, (16, 256, 4096)),
        ("better", 10, (256, 4096)),
        ("constant", 2, (16,)),
    ):
        for budget in budgets:
            errors = 0.16 / (gain * budget) * rng.chisquare(50, size=100) / 50 + 1e-8
            seconds = Quartiles(1e-5 + 1e-7 * budget, 1e-5, 1e-3, 30, 4) if times else None
            measurements.append(Measurement(label, budget, errors, 0.0, 0.95, budget, 1000.0 * budget, seconds, 0.1))
    return osp.Comparison(
        {"kind": "multiplicative", "scale": 0.01, "size": 100, "hidden_size": 4, "seq_len": 3, "task": "argmax",
         "forward_multiply_adds": 1000, "protocol": "mul-0.01", "protocol_version": 1},
        truth, tuple(methods), tuple(measurements), (Refusal("better", 16, "budget must be at least 64"),),
        SamplingTime(1e-5, 1e-7, (1.0, 2.0), (1.0, 2.0)) if times else None,
        {"budgets": [16, 256, 4096], "threads": 1, "mode": "single"},
        {"version": "0", "commit": "abcdef0123456789"},
    )  # fmt: skip


def test_figures_follow_from_their_definitions():
    result = made()
    for point in result["monte-carlo"]:
        assert point.n_eq == pytest.approx(point.budget, rel=0.1)
        assert point.advantage_multiply_adds == pytest.approx(1, rel=0.1)
        assert point.advantage_time == pytest.approx(1, rel=0.1)
    for point in result["better"]:
        assert point.n_eq == pytest.approx(10 * point.budget, rel=0.1)
        assert point.advantage_multiply_adds == pytest.approx(10, rel=0.1)
        expected = (1e-5 + 1e-7 * point.n_eq) / (1e-5 + 1e-7 * point.budget)
        assert point.advantage_time == pytest.approx(expected)
        low, high = point.advantage_time_interval
        assert low < point.advantage_time < high
    assert not result["better"][0].limited_by_truth
    assert result["better"][1].mse == pytest.approx(0.16 / 40960, rel=0.1)


def test_the_report_says_everything():
    text = made().report()
    assert "v = 0.1600" in text
    assert "protocol mul-0.01, version 1" in text
    assert "commit abcdef012345" in text
    assert "4e+09 forwards, 300 s" in text
    assert "| better | 16      | budget must be at least 64 |" in text
    rows = [line for line in text.splitlines() if line.startswith("| better ")]
    # In the tables of advantages: nothing where it refused, then its figures, and the constant's figure is carried on.
    assert rows[0].split("|")[4].strip() == "-"
    assert float(rows[1].split("|")[5]) == pytest.approx(10, rel=0.1)
    constant = next(line for line in text.splitlines() if line.startswith("| constant "))
    assert len({cell.strip() for cell in constant.split("|")[4:7]}) == 1
    assert made().table([256]).count("\n") == 3  # header, rule, Monte Carlo and the better method


def test_without_times_there_is_no_table_of_times():
    text = made(times=False).report()
    assert "in wall time, by budget" not in text
    assert "in multiply-adds, by budget" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.5, "0.500"), (12.345, "12.3"), (999.9, "1,000"), (12345, "12,300"), (1.5e7, "1.50e+07"),
        (1.234e-5, "1.23e-05"), (None, "-"), (math.inf, "∞"), (math.nan, "-"), (-2.5, "-2.50"),
    ],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text


def test_durations():
    assert [duration(s) for s in (2.5, 2.5e-3, 2.5e-6, 2.5e-9, None)] == [
        "2.50 s",
        "2.50 ms",
        "2.50 µs",
        "2.50 ns",
        "-",
    ]


def test_tables_are_aligned():
    assert markdown(("a", "b"), [("x", "1"), ("long", "22")]).splitlines() == [
        "| a    |   b |",
        "|------|----:|",
        "| x    |   1 |",
        "| long |  22 |",
    ]


@pytest.mark.parametrize("x", FIGURES)
def test_figures_are_drawn(x, tmp_path):
    path = tmp_path / "figure.png"
    made().plot(path, x)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000


def test_points_limited_by_truth_and_single_points_are_drawn(tmp_path):
    model = random_rnn(3, 3)
    ensemble = osp.NoiseEnsemble(model, scale=0.1, size=4)
    result = osp.compare([], ensemble, [4096], truth_samples=100, rounds=1, round_seconds=0, cache=False)
    assert result["monte-carlo"][0].limited_by_truth
    for x in FIGURES:
        result.plot(tmp_path / f"{x}.svg", x)


def test_bad_figures(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="x must be one of time, multiply-adds, advantage, got 'flops'"):
        made().plot(tmp_path / "x.png", "flops")
    with pytest.raises(ValueError, match="without times"):
        made(times=False).plot(tmp_path / "x.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "outsample\[plot\]"'):
        made().plot(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
