"""Benchmarks: `pytest bench`. Figures that a benchmark puts into `extra_info` are printed as columns."""

from __future__ import annotations

import os

# One thread each, whatever a method is compared with; read when the library is loaded.
for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import pytest  # noqa: E402

import outsample as osp  # noqa: E402


def pytest_report_header() -> str:
    info = osp.build_info()
    return f"outsample {info['version']}, {info['compiler']}, isa {info['isa']}, {info['cpu']}, {info['cores']} cores"


@pytest.fixture(params=osp.build_info()["supported_isas"])
def isa(request):
    """Runs a benchmark once per instruction set that this machine has."""
    with osp.use_isa(request.param):
        yield request.param


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def pytest_terminal_summary(terminalreporter) -> None:
    """One table per group of benchmarks: a line each, a column for every figure."""
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    groups: dict[str, list] = {}
    for bench in session.benchmarks if session else []:
        if bench.extra_info:
            groups.setdefault(bench.group or bench.fullname.split("::")[0], []).append(bench)
    for group, benches in groups.items():
        columns = list(dict.fromkeys(column for b in benches for column in b.extra_info))
        rows = [["", *columns]]
        rows += [[b.name, *(_text(b.extra_info.get(c, "")) for c in columns)] for b in benches]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        terminalreporter.section(f"figures: {group}", sep="-")
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
            terminalreporter.write_line("  ".join(cells))
