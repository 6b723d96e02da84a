"""Transferred cubature: empirical cubature for a network that nothing was fitted on."""

from __future__ import annotations

import math
import time
import warnings
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from outsample import _core
from outsample.advice import Advice, AdviceSize, load_advice, shipped_advice
from outsample.estimators._advised import AdvisedEstimator
from outsample.estimators.base import Cost, Estimate
from outsample.estimators.batch import Batch
from outsample.estimators.empirical_cubature import AdviceWarning
from outsample.models import RNN
from outsample.seeding import RNGLike
from outsample.tasks import Task


@dataclass(frozen=True)
class _Known:
    """The accuracies that an advice was fitted on, and the error of a size by its estimate."""

    low: float
    high: float
    estimates: list[float]
    errors: list[float]  # at these estimates, in units of sqrt(p (1 - p)), and in straight lines between

    def stated(self, value: float) -> tuple[float, float]:
        """An accuracy, and an error, which grows with the distance from what is known."""
        # numpy's interpolation would take several times as long as all of an estimate's Python.
        k = bisect(self.estimates, value, 1, len(self.estimates) - 1) if len(self.estimates) > 1 else 0
        left, right = self.estimates[k - 1], self.estimates[k]
        share = min(max((value - left) / (right - left), 0.0), 1.0) if left < right else 1.0
        relative = (1 - share) * self.errors[k - 1] + share * self.errors[k]
        inside = min(max(value, self.low), self.high)
        return min(max(value, 0.0), 1.0), math.hypot(relative * math.sqrt(inside * (1 - inside)), value - inside)


_Choice = tuple[AdviceSize, Cost, dict[str, Any], _Known]


class TransferredCubature(AdvisedEstimator):
    """A fixed set of inputs and a fixed readout, prepared offline on *other* networks of the same task and shape.

    As in `EmpiricalCubature` the network is evaluated at inputs that share prefixes, and its margins there, squashed at
    three scales, are read out. Inputs and readout were fitted on noisy copies of many trained networks from other seeds
    (`outsample.cubature.transfer.fit_transferred`), so margins are divided by their own mean size, and single points'
    weights are shrunk towards equal ones. No random numbers are used.

    The standard error of an estimate p is sqrt(p (1 - p) / N), N being the number of random samples with the same mean
    squared error in cross-validation over trained networks, each estimated by a fit that has seen none of its copies.
    N depends on p, and where it is so high that the network may be better than all that the advice was fitted on, N is
    at most that of the best quarter of them, estimated by a fit on the others. It holds on average over networks
    trained like those in the advice's record. An estimate outside of the accuracies that the advice was fitted on gets
    a wider error and an `AdviceWarning`.

    Parameters
    ----------
    advice : Advice, str or path, optional
        Transferred advice, the name of a shipped one, or a file. Default: the shipped one for the task and shape.
    size : int, optional
        Which size of the advice to use. Default: the largest that the budget allows.

    Notes
    -----
    The readout is a ridge regression, the posterior mean of Bayesian quadrature under the covariance over networks:
    O'Hagan, "Bayes-Hermite quadrature" (1991). Copies of one network that lie in both the fitted and the tested part
    would make its error look smaller than it is: Stone, "Cross-validatory choice and assessment of statistical
    predictions", J. R. Stat. Soc. B 36 (1974), here with whole networks left out.
    """

    supports = frozenset({"2nd_argmax", "argmax", "argmedian"})

    def choose(self, model: RNN) -> Advice:
        """The advice used for networks of this task and shape.

        Raises
        ------
        ValueError
            If there is none, or the given one is for others.
        """
        shape = (model.task.name, model.hidden_size, model.seq_len)
        advice = self._given() or _shipped(shape)
        if advice is None:
            raise ValueError(
                f"no transferred advice is shipped for task, hidden_size and seq_len {shape}: make it with "
                "outsample.cubature.transfer.fit_transferred and pass advice="
            )
        if not advice.transferred:
            raise ValueError(f"advice must be transferred advice, got {advice.name!r}, which is for one network")
        if advice.shape != shape:
            raise ValueError(
                f"model must have task, hidden_size and seq_len {advice.shape} for advice {advice.name!r}, got {shape}"
            )
        self._used = advice
        return advice

    def check(self, model: Any) -> None:
        super().check(model)
        self.choose(model)

    def minimum_budget(self, model: Any) -> int:
        return min(self.choose(model).sizes) if self.size is None else self.size

    def prepare(self, model: Any, budget: int) -> _Choice:
        """The size that is used, what it costs, what an estimate says of it, and the accuracies it is good for."""
        advice = self.choose(model)
        budgets = [s for s in advice.sizes if s <= budget] if self.size is None else [self.size]
        if budgets[-1] not in advice.sizes:
            raise ValueError(f"size must be one of {', '.join(map(str, advice.sizes))}, got {self.size}")
        size = advice.sizes[budgets[-1]]
        cost = Cost(multiply_adds=size.multiply_adds, evaluations=size.points)
        size.core  # noqa: B018 - made here rather than in the first estimate
        low, high = advice.record["accuracies"]
        known = _Known(low, high, *size.arrays["error_by_estimate"].tolist())
        return size, cost, {"advice": advice.name, "size": size.budget}, known

    def _estimate(self, model: Any, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        size, cost, settings, known = self.prepared(model, budget)
        value = size.core.evaluate(model._network)[0]
        if not known.low <= value <= known.high:
            _warn(value, known, 1)
        value, error = known.stated(value)
        return Estimate(value, error, cost, "", settings)

    def estimate_many(
        self, models: Sequence[Any], budget: int, *, rng: RNGLike = None, threads: int = 1
    ) -> Sequence[Estimate]:
        """Estimate many networks of one shape at once, networks side by side in vector registers."""
        if not models:
            return []
        budget, threads, plan, setup = self._admit(models[0], budget, threads)
        start = time.perf_counter()
        size, cost, settings, known = self.prepared(models[0], budget)
        for model in models:
            if model.task is not models[0].task:
                raise ValueError(f"models must all be of task {models[0].task.name}, got {model.task.name}")
        results = size.core.evaluate_many([model._network for model in models], threads)
        seconds = (time.perf_counter() - start) / len(models)
        cost = Cost(seconds, cost.multiply_adds, cost.evaluations, setup)
        settings = {**plan.settings, **settings}
        method, isa = self.method, _core.active_isa()
        values = results[:, 0]
        if len(outside := values[(values < known.low) | (values > known.high)]):
            _warn(float(outside[0]), known, len(outside))

        def one(i: int) -> Estimate:
            value, error = known.stated(float(values[i]))
            return Estimate(value, error, cost, method, dict(settings), threads, isa)

        return Batch(len(models), one)


def _warn(value: float, known: _Known, count: int) -> None:
    what = "an estimate" if count == 1 else f"{count} estimates, one of them"
    warnings.warn(
        f"{what} of {value:.2g} lies outside of the accuracies {known.low:.2g} to {known.high:.2g} that the advice was "
        "fitted on; the standard error is a guess there",
        AdviceWarning,
        stacklevel=4,
    )


@cache
def _shipped(shape: tuple[str, int, int]) -> Advice | None:
    name = "transferred_{}_{}_{}".format(*shape)
    return load_advice(name) if name in shipped_advice() else None
