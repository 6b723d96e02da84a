"""Figures of a comparison. Needs matplotlib (``pip install "outsample[plot]"``)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outsample.results import Comparison, Point

#: Colours that readers with colour-vision deficiency can tell apart (Okabe and Ito 2008), then a few more.
_COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#7F3C8D", "#8C564B", "#7A9A01", "#4B4B4B"),
)
_MARKERS = "osD^vP<>Xhp*"
_SAMPLING = "monte-carlo"
_FLOOR = "constant"


@dataclass(frozen=True)
class _Axes:
    title: str
    x_label: str
    y_label: str
    x: Callable[[Point], float | None]
    y: Callable[[Point], float | None]
    y_interval: Callable[[Point], tuple[float, float] | None]


def _error(point: Point) -> float:
    """The end of the interval for a point so limited by the truth that nothing is left of its mean squared error."""
    return point.mse if point.mse > 0 else point.mse_interval.high


def _advantage(point: Point) -> float | None:
    value, interval = point.advantage_time, point.advantage_time_interval
    return value if interval is None or value is None or math.isfinite(value) else interval.low


_FIGURES: dict[str, _Axes] = {
    "time": _Axes(
        "Error against wall time",
        "wall time per network (seconds, one estimate)",
        "mean squared error",
        lambda p: p.seconds,
        _error,
        lambda p: p.mse_interval,
    ),
    "multiply-adds": _Axes(
        "Error against multiply-adds",
        "multiply-adds per network",
        "mean squared error",
        lambda p: p.multiply_adds or None,
        _error,
        lambda p: p.mse_interval,
    ),
    "advantage": _Axes(
        "Advantage over Monte Carlo in wall time, at equal error",
        "equivalent samples N_eq = v / MSE",
        "Monte Carlo's time for the same error / method's time",
        lambda p: p.n_eq if math.isfinite(p.n_eq) else p.n_eq_interval.low,
        _advantage,
        lambda p: p.advantage_time_interval,
    ),
}

#: The names of the figures.
FIGURES = tuple(_FIGURES)


def _require_matplotlib() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('drawing needs matplotlib: pip install "outsample[plot]"') from error
    return Figure


def plot(comparison: Comparison, path: str | os.PathLike[str], x: str = "time") -> None:
    """Draw one figure of a comparison; see `Comparison.plot`.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If ``x`` is unknown, or times are asked of a comparison without them.
    """
    if x not in _FIGURES:
        raise ValueError(f"x must be one of {', '.join(FIGURES)}, got {x!r}")
    if x != "multiply-adds" and comparison.sampling_time is None:
        raise ValueError(f"x must be 'multiply-adds' for a comparison without times, got {x!r}")
    figure = _require_matplotlib()(figsize=(9.4, 5.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    shape = _FIGURES[x]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(shape.x_label)
    axes.set_ylabel(shape.y_label)
    axes.set_title(f"{shape.title}\n", loc="left", fontsize=12)
    axes.text(0, 1.02, _subject(comparison), transform=axes.transAxes, fontsize=8.5, color="#555555")
    axes.grid(True, which="major", color="#dddddd", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)

    styles = _styles(comparison)
    drawn: list[Point] = []
    for method in comparison.methods:
        points = [p for p in comparison[method.label] if _drawable(shape.x(p)) and _drawable(shape.y(p))]
        if method.label == _FLOOR:
            # The constant costs next to nothing, so it is a level and not a point.
            _draw_floor(axes, comparison, x)
        elif points:
            drawn += points
            _draw_method(axes, shape, points, styles[method.label])
    limits = (axes.get_xlim(), axes.get_ylim()) if drawn else None
    _draw_reference(axes, comparison, x)
    if limits is not None:  # the reference goes through the points, and does not decide what is shown
        axes.set(xlim=limits[0], ylim=limits[1])
    if x == "advantage":
        _label_plainly(axes.yaxis)
    if any(p.limited_by_truth for p in drawn):
        axes.plot([], [], "o", mfc="white", mec="#666666", color="#666666", label="hollow: limited by truth")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8.5, borderaxespad=0)
    figure.savefig(path)


def _label_plainly(axis: Any) -> None:
    """1, 2, 5, 10, 20, ... instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _drawable(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _subject(comparison: Comparison) -> str:
    e = comparison.ensemble
    name = f"protocol {e['protocol']}" if e.get("protocol") else e["kind"]
    cpu = " ".join(str(comparison.environment.get(k, "")) for k in ("cpu", "isa"))
    shape = f"{e['task']}, hidden size {e['hidden_size']}, sequence length {e['seq_len']}"
    return f"{shape}; {e['size']} networks, {name}; {cpu}, {comparison.settings['mode']} mode".replace("; ,", ";")


def _styles(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Black circles for Monte Carlo; line styles tell the leagues apart."""
    lines = {"sampling": "--", "deterministic": "-", "with advice": "-."}
    styles: dict[str, dict[str, Any]] = {}
    others = 0
    shown = {point.label for point in comparison.points} - {_FLOOR}
    for method in comparison.methods:
        if method.label not in shown:
            continue
        colour, marker = "black", "o"
        if method.label != _SAMPLING:
            colour, marker = _COLOURS[others % len(_COLOURS)], _MARKERS[(others + 1) % len(_MARKERS)]
            others += 1
        styles[method.label] = {
            "color": colour,
            "marker": marker,
            "linestyle": lines[method.league],
            "label": f"{method.label} ({method.league})",
        }
    return styles


def _draw_method(axes: Any, shape: _Axes, points: list[Point], style: dict[str, Any]) -> None:
    points = sorted(points, key=lambda p: p.budget)
    xs = [shape.x(p) for p in points]
    ys = [shape.y(p) for p in points]
    axes.plot(xs, ys, linewidth=1.5, markersize=5, markerfacecolor="none", **style)
    solid = [(x, y) for x, y, p in zip(xs, ys, points, strict=True) if not p.limited_by_truth]
    if solid:
        axes.plot(*zip(*solid, strict=True), style["marker"], color=style["color"], markersize=5)
    bands = [(x, i) for x, p in zip(xs, points, strict=True) if (i := shape.y_interval(p)) is not None]
    # An interval that reaches down to 0 is drawn down to a hundredth of its upper end.
    lows = [max(low, high / 100) for _, (low, high) in bands]
    highs = [high if math.isfinite(high) else low for _, (low, high) in bands]
    if len(bands) > 1:
        axes.fill_between([x for x, _ in bands], lows, highs, color=style["color"], alpha=0.15, linewidth=0)
    elif bands:
        axes.plot([bands[0][0]] * 2, [lows[0], highs[0]], color=style["color"], alpha=0.5, linewidth=2)


def _draw_floor(axes: Any, comparison: Comparison, x: str) -> None:
    point = comparison[_FLOOR][0]
    style = {"color": "#888888", "linestyle": ":", "linewidth": 1.4}
    if x == "advantage":
        axes.axvline(point.n_eq, label=f"constant (N_eq = {point.n_eq:.0f})", **style)
    else:
        axes.axhline(point.mse, label=f"constant (N_eq = {point.n_eq:.0f})", **style)


def _draw_reference(axes: Any, comparison: Comparison, x: str) -> None:
    """What Monte Carlo must do: v / N against its cost, or an advantage of 1."""
    style = {"color": "black", "linewidth": 0.9, "alpha": 0.6, "zorder": 1}
    if x == "advantage":
        axes.axhline(1.0, label="Monte Carlo, by definition", **style)
        return
    v, line = comparison.truth.variance, comparison.sampling_time
    largest = max(n for point in comparison.points for n in (point.budget, point.n_eq) if math.isfinite(n))
    samples = [2.0**k for k in range(2, math.ceil(math.log2(largest)) + 3)]
    if x == "time":
        assert line is not None
        xs = [line(n) for n in samples]
    else:
        xs = [n * comparison.forward_multiply_adds for n in samples]
    axes.plot(xs, [v / n for n in samples], label="Monte Carlo, v / N", **style)
