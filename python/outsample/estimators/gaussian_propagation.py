"""Gaussian moment propagation: one normal law per answer."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np

from outsample import _core, gaussian
from outsample.estimators import _order_statistics as order_statistics
from outsample.estimators._propagation_cost import PropagationCost
from outsample.estimators.base import Cost, Estimate, Estimator
from outsample.models import RNN
from outsample.tasks import Task, get_task


class GaussianPropagation(Estimator):
    """One normal law per right answer, pushed through the network step by step.

    For the accuracy tasks there are n components: given that position y is the right answer, every input has the mean
    and variance that this condition gives it, and inputs are taken as independent. The hidden state is kept as a normal
    law through every rectifier, and P(label's logit wins) is an orthant probability of the margins (Mendell and
    Elston). For the median task the components are values of the median, and the result is the mean of (output's mean -
    median)^2 + output's variance. Deterministic, no standard error: the error is the model's, not chance's.

    Parameters
    ----------
    order : {2, 1}
        2 keeps the covariance of the state, 1 means and variances only.
    precision : {"single", "double"}
        Arithmetic of the propagation.

    References
    ----------
    .. [1] Alignment Research Center, "Cumulant propagation", arXiv:2605.05179.
    """

    league = "deterministic"
    by_shape = True
    draws = False

    #: Values of the median among which the median task is split.
    NODES = 32

    def __init__(self, *, order: Literal[1, 2] = 2, precision: Literal["single", "double"] = "single") -> None:
        self.order = order
        self.precision = precision

    @property
    def label(self) -> str:
        return f"{self.method} (order {self.order})"

    def check(self, model: RNN) -> None:
        super().check(model)
        check_settings(self.order, self.precision)

    def minimum_budget(self, model: RNN) -> int:
        check_settings(self.order, self.precision)
        plan, _ = _components(model.task.name, model.seq_len, self.NODES)
        return PropagationCost(model, self.order, self.precision).forwards(*counts(plan))

    def prepare(self, model: RNN, budget: int) -> None:
        _components(model.task.name, model.seq_len, self.NODES)

    def _estimate(self, model: RNN, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        plan, target = _components(task.name, model.seq_len, self.NODES)
        result, spread = _core.propagate(model._network, plan, self.order, self.precision == "single", threads)
        value = result.mean() if spread is None else ((result - target) ** 2 + spread).mean()
        return Estimate(
            value=float(value),
            cost=Cost(
                multiply_adds=PropagationCost(model, self.order, self.precision).multiply_adds(*counts(plan)),
                evaluations=float(plan.cells),
            ),
        )


def check_settings(order: Any, precision: Any) -> None:
    """Raise ValueError for settings that the kernels do not know."""
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    if precision not in ("single", "double"):
        raise ValueError(f"precision must be 'single' or 'double', got {precision!r}")


def counts(plan: _core.CellPlan) -> tuple[int, int, int]:
    """Nodes with a step to follow, nodes, and cells: what `PropagationCost` charges for."""
    return plan.inner_nodes, plan.nodes, plan.cells


@lru_cache(maxsize=16)
def _components(task_name: str, n: int, nodes: int) -> tuple[_core.CellPlan, Any]:
    """The components of a task, and for the median task the values of the median."""
    task = get_task(task_name)
    which = order_statistics.pinned(task, n)
    if task.quantity == "accuracy":
        # Sums over all order statistics are 0 and n, so the other inputs have what the label's leaves of them.
        first, second = order_statistics.moments(n, which.rank + which.label)
        others = max(n - 1, 1)
        mean = np.array([first, -first / others])
        variance = np.array([second, (n - second) / others]) - mean**2
        symbols = 1 - np.eye(n, dtype=np.int32)
        return _core.CellPlan(symbols, mean, np.maximum(variance, 0), np.arange(n, dtype=np.int32)), None
    u = order_statistics.lattice(nodes, which.size)
    v = order_statistics.values(n, which, u)
    below, above = n - which.above - which.size, which.above
    low = gaussian.truncated_normal_moments(0.0, 1.0, -np.inf, v[:, -1])
    high = gaussian.truncated_normal_moments(0.0, 1.0, v[:, 0], np.inf)
    mean = (v.sum(1) + below * low.mean + above * high.mean) / n
    second = (v**2).sum(1) + below * (low.variance + low.mean**2) + above * (high.variance + high.mean**2)
    symbols = np.repeat(np.arange(len(v), dtype=np.int32)[:, None], n, axis=1)
    return _core.CellPlan(symbols, mean, np.maximum(second / n - mean**2, 0)), v.mean(1)
