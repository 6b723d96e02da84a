"""Wall times of many calls, measured in turn in one process so that slow spells of the machine hit all alike."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from outsample._progress import Progress

Key = TypeVar("Key", bound=Hashable)


class Quartiles(NamedTuple):
    """Seconds per call: median and quartiles over the rounds, and how many rounds of how many calls."""

    median: float
    low: float
    high: float
    rounds: int
    calls: int

    def per(self, parts: int) -> Quartiles:
        """The same for one of so many equal parts of a call."""
        return self._replace(median=self.median / parts, low=self.low / parts, high=self.high / parts)


#: Least share of the wall time in which the process had a processor, and how often a measurement is made to get it.
_UNDISTURBED, _ATTEMPTS = 0.97, 5


def _undisturbed(call: Callable[[int], object], indices: range) -> float:
    """Wall time of calling with all indices, from the attempt that other programs disturbed least."""
    best, best_share = math.inf, -1.0
    if len(indices) > 1:
        call(indices[0])  # what other methods have pushed out of the caches comes back
    for _ in range(_ATTEMPTS):
        start, start_cpu = time.perf_counter(), time.process_time()
        for i in indices:
            call(i)
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        if cpu / seconds > best_share:
            best, best_share = seconds, cpu / seconds
        if best_share > _UNDISTURBED:
            break
    return best


def _repeats(call: Callable[[int], object], round_seconds: float) -> int:
    """How many calls take about as long as a round should, found by doubling, which warms up as well."""
    call(0)
    count = 1
    while True:
        start = time.perf_counter()
        for i in range(count):
            call(i)
        seconds = time.perf_counter() - start
        if 2 * seconds >= round_seconds:
            return max(1, math.ceil(count * round_seconds / seconds)) if seconds > 0 else count
        count *= 2


def interleaved(
    calls: Mapping[Key, Callable[[int], object]], rounds: int, round_seconds: float, bar: Progress
) -> dict[Key, Quartiles]:
    """Time calls in turn, round after round, each round in another order.

    So no call always finds the caches as the same other one leaves them. A measurement during which the processor was
    given to another program is made again, a few times if need be.

    Parameters
    ----------
    calls : mapping
        Each is called with 0, 1, 2, ... so that it can go through different models.
    rounds : int
        How often all are timed in turn.
    round_seconds : float
        A call shorter than this is repeated within a round until the round takes about as long.
    bar : Progress
        Advanced once per round and once for the warm-up.
    """
    repeats = {key: _repeats(call, round_seconds) for key, call in calls.items()}
    bar.advance()
    times: dict[Key, list[float]] = {key: [] for key in calls}
    collecting = gc.isenabled()
    gc.disable()
    try:
        order, shuffle = list(calls), random.Random(0).shuffle
        for r in range(rounds):
            shuffle(order)
            for key in order:
                count = repeats[key]
                times[key].append(_undisturbed(calls[key], range(r * count, (r + 1) * count)) / count)
            gc.collect()
            bar.advance()
    finally:
        if collecting:
            gc.enable()
    result = {}
    for key, seconds_per_call in times.items():
        low, median, high = np.percentile(seconds_per_call, [25, 50, 75])
        result[key] = Quartiles(float(median), float(low), float(high), rounds, repeats[key])
    return result


@dataclass(frozen=True)
class SamplingTime:
    """Monte Carlo's wall time as a fixed cost plus a cost per sample.

    Attributes
    ----------
    fixed, per_sample : float
        Seconds.
    samples, seconds : tuple of float
        What the line was fitted to.
    """

    fixed: float
    per_sample: float
    samples: tuple[float, ...]
    seconds: tuple[float, ...]

    @classmethod
    def fit(cls, samples: Sequence[float], seconds: Sequence[float]) -> SamplingTime:
        """Least squares of relative errors, both costs kept from being negative."""
        n, t = np.asarray(samples, dtype=float), np.asarray(seconds, dtype=float)
        rows = np.stack([1 / t, n / t], axis=1)
        fixed, per_sample = np.linalg.lstsq(rows, np.ones(len(t)), rcond=None)[0]
        if fixed < 0:
            fixed, per_sample = 0.0, 1 / np.mean(n / t)
        elif per_sample < 0:
            fixed, per_sample = 1 / np.mean(1 / t), 0.0
        return cls(float(fixed), float(per_sample), tuple(n.tolist()), tuple(t.tolist()))

    def __call__(self, samples: float) -> float:
        """Seconds for this many samples."""
        return self.fixed + self.per_sample * samples
