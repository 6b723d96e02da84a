"""Progress of long runs: a bar on a terminal, nothing in a pipe."""

from __future__ import annotations

import sys
import time
from types import TracebackType


class Progress:
    """Counts finished pieces: ``with Progress(total, "truth") as bar: bar.advance()``.

    Parameters
    ----------
    total : int
        Number of pieces.
    label : str
        Shown before the bar.
    enabled : bool, optional
        Default: whether standard error is a terminal.
    """

    def __init__(self, total: int, label: str, *, enabled: bool | None = None) -> None:
        self.total = total
        self.label = label
        self.done = 0
        self.note = ""
        self.enabled = sys.stderr.isatty() if enabled is None else enabled
        self._started = time.monotonic()
        self._drawn = 0.0

    def __enter__(self) -> Progress:
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.enabled:
            self._draw(force=True)
            sys.stderr.write("\n")
            sys.stderr.flush()

    def advance(self, pieces: int = 1, note: str = "") -> None:
        """Say that more pieces are finished; ``note`` replaces the text behind the bar."""
        self.done += pieces
        self.note = note or self.note
        self._draw()

    def _draw(self, force: bool = False) -> None:
        now = time.monotonic()
        if not self.enabled or (not force and now - self._drawn < 0.1):
            return
        self._drawn = now
        share = min(1.0, self.done / self.total) if self.total else 1.0
        filled = round(24 * share)
        seconds = now - self._started
        left = f", {seconds * (1 - share) / share:.0f} s left" if 0 < share < 1 else f", {seconds:.0f} s"
        sys.stderr.write(f"\r{self.label} [{'#' * filled}{'.' * (24 - filled)}] {share:4.0%}{left} {self.note}\x1b[K")
        sys.stderr.flush()
