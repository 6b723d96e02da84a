"""Gaussian moment propagation in cells: between one normal law per answer and a point rule."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations, permutations
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from outsample import _core, gaussian
from outsample.estimators import _order_statistics as order_statistics
from outsample.estimators._propagation_cost import PropagationCost
from outsample.estimators.base import Cost, Estimate, Estimator
from outsample.estimators.gaussian_propagation import check_settings, counts
from outsample.models import RNN
from outsample.tasks import Task, get_task

Array = NDArray[np.float64]


class CellPropagation(Estimator):
    """A mixture of normal laws over cells of the input space, each pushed through the network step by step.

    A cell fixes which positions hold the inputs that decide the task (for the second-largest: the largest and the
    second-largest), their values, and for every other input one of `bins` equally probable intervals of the normal law
    that is left for it (below the second-largest value; for median tasks also above). Within a cell inputs are
    independent, with the means and variances of their intervals, and the state is kept as a normal law. Cells are
    chosen by a rank-1 lattice over values, intervals and positions, and share the work of common prefixes. One bin is
    order-conditioned Gaussian propagation; with many bins the cells shrink to the points of a lattice rule.
    Deterministic, no standard error.

    Parameters
    ----------
    bins : int, optional
        Intervals per input. Default: grows with the number of cells (see Notes).
    cells : int, optional
        Number of cells. Default: as many as the budget allows.
    order : {2, 1}
        2 keeps the covariance of the state, 1 means and variances only.
    richardson : bool, default False
        Spend half of the cells on half as many bins and extrapolate, taking the error as falling with 1/bins^2.
    precision : {"single", "double"}
        Arithmetic of the propagation.

    Notes
    -----
    The budget buys cells at the cost in `PropagationCost`. Bins, where not given, are about a third of the square root
    of the number of cells, between 8 and 64: coarse cells are biased, fine ones behave as points.

    Every lattice point stands for two cells, of opposite positions of the deciding inputs; with one bin for all 90
    (for ten inputs). More cells per point share more of their prefixes, but points are worth more than cells: with two
    per point the error was three to five times smaller for 1.6 times the work.
    """

    league = "deterministic"
    by_shape = True
    draws = False

    def __init__(
        self,
        *,
        bins: int | None = None,
        cells: int | None = None,
        order: Literal[1, 2] = 2,
        richardson: bool = False,
        precision: Literal["single", "double"] = "single",
    ) -> None:
        self.bins = bins
        self.cells = cells
        self.order = order
        self.richardson = richardson
        self.precision = precision

    @property
    def label(self) -> str:
        bins = "" if self.bins is None else f", {self.bins} bin{'s' if self.bins != 1 else ''}"
        return f"{self.method} (order {self.order}{bins}{', Richardson' if self.richardson else ''})"

    def check(self, model: RNN) -> None:
        super().check(model)
        check_settings(self.order, self.precision)
        for name in ("bins", "cells"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if self.richardson and self.bins is not None and self.bins % 2:
            raise ValueError(f"bins must be even for Richardson extrapolation, got {self.bins}")

    def minimum_budget(self, model: RNN) -> int:
        check_settings(self.order, self.precision)
        cost = PropagationCost(model, self.order, self.precision)
        shares = 2 if self.richardson else 1
        if self.cells is None:
            return shares * cost.forwards(*counts(_cells(model.task.name, model.seq_len, 1, 1).plan))
        return sum(cost.forwards(*counts(cells.plan)) for cells, _ in self._parts(model, 0))

    def prepare(self, model: RNN, budget: int) -> None:
        self._parts(model, budget)

    def _parts(self, model: RNN, budget: int) -> list[tuple[_Cells, float]]:
        """Sets of cells with their weights in the result."""
        name, n = model.task.name, model.seq_len
        shares = 2 if self.richardson else 1
        if self.cells is None:
            cost = PropagationCost(model, self.order, self.precision)
            cells = cells_for_budget(cost, name, n, budget // shares, self.bins)
        else:
            cells = max(self.cells // shares, 1)
        bins = self.bins
        if bins is None:
            bins = 2 * min(32, max(4, round(math.sqrt(cells) / 6)))
        if not self.richardson:
            return [(_cells(name, n, bins, cells), 1.0)]
        return [(_cells(name, n, bins, cells), 4 / 3), (_cells(name, n, bins // 2, cells), -1 / 3)]

    def _estimate(self, model: RNN, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        parts = self._parts(model, budget)
        cost = PropagationCost(model, self.order, self.precision)
        value = 0.0
        for cells, weight in parts:
            result, spread = _core.propagate(
                model._network, cells.plan, self.order, self.precision == "single", threads
            )
            value += weight * float(result.mean() if spread is None else ((result - cells.target) ** 2 + spread).mean())
        if task.quantity == "accuracy":
            value = min(max(value, 0.0), 1.0)  # extrapolation may leave the interval
        return Estimate(
            value=value,
            cost=Cost(
                multiply_adds=sum(cost.multiply_adds(*counts(cells.plan)) for cells, _ in parts),
                evaluations=float(sum(cells.plan.cells for cells, _ in parts)),
            ),
            settings={"bins": [cells.bins for cells, _ in parts], "cells": [cells.plan.cells for cells, _ in parts]},
        )


class _Cells(NamedTuple):
    plan: _core.CellPlan
    target: Any  # per cell, for the median task
    bins: int


def arrangement_count(task_name: str, n: int) -> int:
    """Ways to place the inputs that decide the task, and to choose which of the others are larger."""
    which = order_statistics.pinned(get_task(task_name), n)
    return math.perm(n, which.size) * math.comb(n - which.size, which.above)


#: Cells per lattice point, and the most where there is one bin.
CELLS_PER_POINT, MOST_PER_POINT = 2, 256


def cells_per_point(task_name: str, n: int, bins: int | None) -> int:
    """How many arrangements of its values a lattice point stands for."""
    return min(arrangement_count(task_name, n), MOST_PER_POINT if bins == 1 else CELLS_PER_POINT)


def cells_for_budget(cost: PropagationCost, task_name: str, n: int, budget: int, bins: int | None) -> int:
    """How many cells a budget in forward passes buys: whole lattice points if possible."""
    per_point = cells_per_point(task_name, n, bins)
    points = budget // cost.forwards(*counts(_cells(task_name, n, bins or 2, per_point).plan))
    if points >= 1:
        return points * per_point
    return max(budget // cost.forwards(n - 1, n, 1), 1)


@lru_cache(maxsize=4)
def _arrangements(task_name: str, n: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Rows of symbols (numbers within one lattice point), and labels.

    Symbols: 0 ... count - 1 the deciding inputs, then one per slot (the s-th other input) below, then one per slot
    above.
    """
    which = order_statistics.pinned(get_task(task_name), n)
    others = n - which.size
    rows, labels = [], []
    for positions in permutations(range(n), which.size):
        free = [t for t in range(n) if t not in positions]
        for larger in combinations(range(others), which.above):
            row = np.empty(n, dtype=np.int32)
            row[list(positions)] = np.arange(which.size)
            slots = np.arange(others) + which.size
            slots[list(larger)] += others
            row[free] = slots
            rows.append(row)
            labels.append(positions[which.label])
    return np.array(rows), np.array(labels, dtype=np.int32)


@lru_cache(maxsize=16)
def _cells(task_name: str, n: int, bins: int, cells: int) -> _Cells:
    task = get_task(task_name)
    which = order_statistics.pinned(task, n)
    rows, labels = _arrangements(task_name, n)
    taken = min(cells, cells_per_point(task_name, n, bins))
    others = n - which.size
    u = order_statistics.lattice(max(cells // taken, 1), which.size + others + 1)
    points = len(u)
    v = order_statistics.values(n, which, u[:, : which.size])
    slot = np.floor(u[:, which.size : which.size + others] * bins)

    # Per point: the deciding values, then every slot's interval below and above them.
    mean = np.zeros((points, which.size + 2 * others))
    variance = np.zeros_like(mean)
    mean[:, : which.size] = v
    below = order_statistics.normal_cdf(v[:, -1:])
    above = order_statistics.normal_cdf(-v[:, :1])
    for first, (mass, sign) in enumerate(((below, 1.0), (above, -1.0))):
        ends = [sign * order_statistics.normal_quantile(mass * (slot + k) / bins) for k in (0, 1)]
        law = gaussian.truncated_normal_moments(0.0, 1.0, np.minimum(*ends), np.maximum(*ends))
        columns = slice(which.size + first * others, which.size + (first + 1) * others)
        mean[:, columns], variance[:, columns] = law.mean, law.variance

    # All arrangements if they are few, else evenly spaced ones, starting at a place of the point's own.
    start = u[:, -1:] if taken < len(rows) else np.zeros((points, 1))
    chosen = np.floor((np.arange(taken) + start) * (len(rows) / taken)).astype(int)
    symbols = rows[chosen] + (np.arange(points) * mean.shape[1])[:, None, None]
    accuracy = task.quantity == "accuracy"
    plan = _core.CellPlan(
        symbols.reshape(-1, n).astype(np.int32),
        mean.ravel(),
        variance.ravel(),
        labels[chosen].ravel() if accuracy else None,
    )
    return _Cells(plan, None if accuracy else np.repeat(v.mean(1), taken), bins)
