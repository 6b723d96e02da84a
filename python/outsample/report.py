"""Comparisons as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outsample.estimators import ConfidenceInterval
    from outsample.results import Comparison, Point


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; the first ``left`` columns are aligned left, the others right."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = (c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        return f"| {' | '.join(padded)} |"

    rule = "|".join("-" * (w + 2) if i < left else "-" * (w + 1) + ":" for i, w in enumerate(widths))
    return "\n".join([line(cells[0]), f"|{rule}|", *(line(row) for row in cells[1:])])


def number(value: float | None) -> str:
    """Three figures, no exponent between 0.01 and a million."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞"
    if value == 0 or 0.01 <= abs(value) < 1e6:
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
        rounded = round(value, 2 - math.floor(math.log10(abs(value)))) if value else 0.0
        return f"{rounded:,.{digits}f}"
    return f"{value:.2e}"


def duration(seconds: float | None) -> str:
    """Seconds with a fitting unit."""
    if seconds is None:
        return "-"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{number(seconds * factor)} {unit}"
    return f"{number(seconds * 1e9)} ns"


def _with_interval(value: float | None, interval: ConfidenceInterval | None) -> str:
    if value is None or interval is None:
        return "-"
    return f"{number(value)} ({number(interval.low)} to {number(interval.high)})"


def _notes(point: Point) -> str:
    notes = []
    if point.limited_by_truth:
        notes.append("limited by truth")
    if point.over_budget:
        notes.append("over budget")
    return ", ".join(notes)


def table(comparison: Comparison, budgets: Iterable[int] | None = None) -> str:
    """All points, one row each."""
    wanted = None if budgets is None else set(budgets)
    header = (
        "method",
        "league",
        "budget",
        "forwards used",
        "MSE (95%)",
        "N_eq (95%)",
        "time",
        "advantage in time (95%)",
        "advantage in multiply-adds (95%)",
        "set-up",
        "95% covers",
        "notes",
    )
    rows = [
        (
            point.label,
            point.league,
            f"{point.budget:,}",
            f"{point.forwards:,.0f}" if point.forwards >= 100 else number(point.forwards),
            _with_interval(point.mse, point.mse_interval),
            _with_interval(point.n_eq, point.n_eq_interval),
            duration(point.seconds),
            _with_interval(point.advantage_time, point.advantage_time_interval),
            _with_interval(point.advantage_multiply_adds, point.advantage_multiply_adds_interval),
            duration(point.setup_seconds) if point.setup_seconds >= 1e-5 else "-",
            "-" if point.coverage is None else f"{point.coverage:.1%}",
            _notes(point),
        )
        for point in comparison.points
        if wanted is None or point.budget in wanted
    ]
    return markdown(header, rows, left=2)


def advantages(comparison: Comparison, in_time: bool = True, budgets: Iterable[int] | None = None) -> str:
    """One row per method, one column per budget: the advantage over Monte Carlo. Stars mark points limited by truth.

    A method that does not use more of a larger budget keeps its figure there.
    """
    chosen = sorted(budgets) if budgets is not None else comparison.settings["budgets"]
    rows = []
    for method in comparison.methods:
        points = {point.budget: point for point in comparison[method.label]}
        if not points:
            continue
        refused = {r.budget for r in comparison.refusals if r.label == method.label}
        cells: list[str] = []
        latest: Point | None = None
        for budget in chosen:
            latest = points.get(budget, latest if budget not in refused else None)
            if latest is None:
                cells.append("-")
                continue
            value = latest.advantage_time if in_time else latest.advantage_multiply_adds
            cells.append(number(value) + ("*" if value and latest.limited_by_truth else ""))
        advice = "-"
        if method.advice is not None:
            advice = f"{method.advice.evaluations:.2g} forwards, {duration(method.advice.seconds)}"
        rows.append((method.label, method.league, advice, *cells))
    return markdown(("method", "league", "advice cost", *(f"{b:,}" for b in chosen)), rows, left=3)


def heading(comparison: Comparison) -> str:
    """What was compared, on what."""
    e, env, settings = comparison.ensemble, comparison.environment, comparison.settings
    noise = f"{e['kind']} weight noise of scale {e['scale']}" if "scale" in e else "a list of networks"
    name = f" (protocol {e['protocol']}, version {e.get('protocol_version', '-')})" if e.get("protocol") else ""
    commit = f", commit {env['commit'][:12]}" if env.get("commit") else ""
    truth = comparison.truth
    lines = [
        (
            f"networks: {e['size']} with {noise}{name}; hidden size {e['hidden_size']}, length {e['seq_len']}, "
            f"task {e['task']}, {e['forward_multiply_adds']} multiply-adds per forward pass"
        ),
        (
            f"truth: mean {truth.values.mean():.4f}, standard deviation over networks {truth.spread:.4f}, "
            f"v = {truth.variance:.4f}, {f'{truth.samples:,} samples each' if truth.samples else 'exact'}"
        ),
        (
            f"outsample {env.get('version')}{commit}, {env.get('compiler')}, {env.get('cpu')}, {env.get('isa')}, "
            f"{settings['threads']} thread{'s' if settings['threads'] != 1 else ''}, {settings['mode']} mode, "
            f"{env.get('date')}"
        ),
    ]
    if comparison.sampling_time is not None:
        line = comparison.sampling_time
        lines.append(f"Monte Carlo's time: {duration(line.fixed)} per call and {duration(line.per_sample)} per sample")
    return "\n".join(f"- {text}" for text in lines)


def report(comparison: Comparison) -> str:
    """The whole comparison."""
    parts = ["# Mean squared error against compute", heading(comparison)]
    if comparison.sampling_time is not None:
        parts += ["## Advantage over Monte Carlo in wall time, by budget (forward passes)", advantages(comparison)]
    parts += [
        "## Advantage over Monte Carlo in multiply-adds, by budget (forward passes)",
        advantages(comparison, in_time=False),
        "A star marks a mean squared error that is limited by the truth's own noise.",
        "## All points",
        table(comparison),
    ]
    if comparison.refusals:
        reasons: dict[tuple[str, str], list[int]] = {}
        for r in comparison.refusals:
            reasons.setdefault((r.label, r.reason), []).append(r.budget)
        rows = [(label, ", ".join(f"{b:,}" for b in bs), why) for (label, why), bs in reasons.items()]
        parts += ["## Refused", markdown(("method", "budgets", "reason"), rows, left=3)]
    return "\n\n".join(parts) + "\n"


def _summary(doc: str | None) -> str:
    """The first sentence of a docstring, on one line."""
    return " ".join((doc or "").strip().split("\n\n")[0].split()).replace("|", "\\|")


def estimators_table() -> str:
    """All methods, from `ESTIMATORS`."""
    from outsample.estimators import ESTIMATORS

    rows = [
        (f"`{name}`", f"`{cls.__name__}`", cls.league, ", ".join(sorted(cls.supports)), _summary(cls.__doc__))
        for name, cls in ESTIMATORS.items()
    ]
    return markdown(("method", "class", "league", "tasks", "what it does"), rows, left=5)


def protocols_table() -> str:
    """All protocols, from `PROTOCOLS`."""
    from outsample.noise import PROTOCOLS

    formula = {"multiplicative": "w (1 + {} z)", "additive": "w + {} z"}
    rows = [
        (f"`{p.name}`", formula[p.kind].format(p.scale), p.purpose, str(p.size), str(p.seed), str(p.version))
        for p in PROTOCOLS.values()
    ]
    return markdown(("protocol", "weight becomes", "purpose", "networks", "seed", "version"), rows, left=3)
