"""Timing of alternatives against each other."""

from __future__ import annotations

import time
from collections.abc import Callable


def fastest(functions: dict[str, Callable[[], object]], rounds: int = 50) -> dict[str, float]:
    """Seconds of each function: the minimum over rounds in which they take turns.

    Turns, because a machine's speed drifts; the minimum, because other work can only add time.
    """
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - start)
    return best
