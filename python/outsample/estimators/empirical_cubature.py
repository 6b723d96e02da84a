"""Empirical cubature: the accuracy of a noisy copy of a known network, read off a few well-chosen inputs.

For the median task it is the mean squared error.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from outsample import _core
from outsample.advice import Advice, AdviceSize, load_advice, shipped_advice
from outsample.estimators._advised import AdvisedEstimator
from outsample.estimators.base import Cost, Estimate
from outsample.estimators.batch import Batch
from outsample.models import RNN
from outsample.seeding import RNGLike
from outsample.tasks import Task

#: Relative noise up to which a network is taken for a copy; networks from other seeds differ by more than 100%.
_SAME_NETWORK = 0.2


class AdviceWarning(UserWarning):
    """A network lies outside of what the advice was prepared for."""


class EmpiricalCubature(AdvisedEstimator):
    """A fixed set of inputs and a fixed readout, prepared offline for one trained network (advice).

    The network is evaluated at K inputs that share prefixes; its margins there, squashed at three scales, go through a
    ridge regression and a small network that were fitted, together with the inputs, on noisy copies of the trained
    network whose accuracies are known (`outsample.fit_cubature`). No random numbers and no labels are used, and the
    same network always gets the same estimate.

    The standard error is that of networks with as much noise of the same kind as this one, as a sketch of its weights
    (signed sums of a few of them) tells, among copies that nothing was fitted on. It holds for the laws of noise that
    the advice was calibrated for (`Advice.laws`). A network further from the trained one than any of those
    gets a wider error and an `AdviceWarning`.

    Parameters
    ----------
    advice : Advice, str or path, optional
        Advice, the name of a shipped one, or a file. Default: the shipped one for the trained network that the network
        at hand is a copy of, as told by its task, its shape and
        a sketch of its weights.
    size : int, optional
        Which size of the advice to use. Default: the largest that the budget allows.

    Notes
    -----
    Empirical cubature (also hyper-reduction) chooses points and weights for one family of integrands from samples of
    that family: An, Kim and James, "Optimizing cubature for efficient integration of subspace deformations", ACM
    Transactions on Graphics 27 (2008). Ridge regression on the features is the posterior mean of Bayesian quadrature
    under the covariance that the weight noise induces: O'Hagan, "Bayes-Hermite quadrature" (1991).
    """

    supports = frozenset({"2nd_argmax", "argmax", "argmedian", "median"})

    def _candidates(self, model: RNN) -> list[Advice]:
        shape = (model.task.name, model.hidden_size, model.seq_len)
        fixed = self._given()
        if fixed is not None:
            if fixed.transferred:
                raise ValueError(f"advice must be for one trained network, got {fixed.name!r}: use TransferredCubature")
            if fixed.shape != shape:
                raise ValueError(
                    f"model must have task, hidden_size and seq_len {fixed.shape} for advice {fixed.name!r}, "
                    f"got {shape}"
                )
            return [fixed]
        found = _shipped(shape)
        if not found:
            raise ValueError(
                f"no advice is shipped for task, hidden_size and seq_len {shape}: make it with fit_cubature and pass "
                "advice="
            )
        return found

    def choose(self, model: RNN) -> Advice:
        """The advice used for this network.

        Raises
        ------
        ValueError
            If there is none for its task and shape, or none of the shipped ones is for a network like it.
        """
        candidates = self._candidates(model)
        return candidates[0] if self._fixed is not None else _closest(candidates, model)

    def check(self, model: Any) -> None:
        super().check(model)
        self.choose(model)

    def minimum_budget(self, model: Any) -> int:
        advice = self.choose(model)
        return min(advice.sizes) if self.size is None else self.size

    def _size(self, advice: Advice, budget: int) -> AdviceSize:
        if self.size is None:
            return advice.sizes[max((s for s in advice.sizes if s <= budget), default=min(advice.sizes))]
        if self.size not in advice.sizes:
            raise ValueError(f"size must be one of {', '.join(map(str, advice.sizes))}, got {self.size}")
        return advice.sizes[self.size]

    def prepare(self, model: Any, budget: int) -> tuple[list[_Choice], list[_core.Cubature]]:
        """All advice for networks of this shape in the sizes that the budget allows, and the same for the core."""
        choices = [_Choice.of(advice, self._size(advice, budget)) for advice in self._candidates(model)]
        return choices, [choice.size.core for choice in choices]

    def useful_budget(self, model: Any, budget: int) -> int:
        """All of it up to the noise that the advice is calibrated for.

        Beyond, where the standard error grows with the square of the noise, the size that is worth most after its cost,
        p (1 - p) taken as 1/4; 0 if none is worth its cost.
        """
        choices, cores = self.prepared(model, budget)
        closest = _core.closest(cores, model._network)
        small, large = cores[closest].noise(model._network)
        if math.sqrt((small + large) / 2) <= choices[closest].size.range:
            return budget
        allowed = [self._size(choices[closest].advice, budget)] if self.size else choices[closest].advice.sizes.values()
        worth = {0: 0.0}
        for size in allowed:
            if size.budget <= budget:
                samples = 0.25 / size.core.standard_error(model._network) ** 2 - 1.0
                worth[size.budget] = samples - size.multiply_adds / model.forward_multiply_adds
        return max(worth, key=worth.__getitem__)

    def _warn(self, advice: Advice, noise: float, size: AdviceSize, count: int) -> None:
        who = "the network's" if count == 1 else f"{count} networks'"
        warnings.warn(
            f"{who} weights differ by {noise:.2g} of their size from those of {advice.name!r}; the advice was "
            f"calibrated up to {size.range:.2g}, and beyond that the standard error is a guess",
            AdviceWarning,
            stacklevel=4,
        )

    def _estimate(self, model: Any, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        choices, cores = self.prepared(model, budget)
        closest, value, error, small, large = _core.evaluate_closest(cores, model._network)
        advice, size, limit, cost, settings = choices[closest]
        noise = math.sqrt((small + large) / 2)
        if noise > limit:
            if self._fixed is None:
                self.choose(model)  # refuses it if no advice is for it
            if noise > size.range:
                self._warn(advice, noise, size, 1)
        if size.budget > budget:  # the first network of this shape had another advice, with smaller sizes
            self._check_budget(model, budget)
        if self._used is not advice:
            self._used = advice
        return Estimate(value, error, cost, "", {**settings, "noise": noise})

    def estimate_many(
        self, models: Sequence[Any], budget: int, *, rng: RNGLike = None, threads: int = 1
    ) -> Sequence[Estimate]:
        """Estimate many networks at once, networks side by side in vector registers.

        All must be copies of the network that the first one is closest to.
        """
        if not models:
            return []
        first = models[0]
        budget, threads, plan, setup = self._admit(first, budget, threads)
        start = time.perf_counter()
        choices, cores = plan.prepared
        choice = choices[_core.closest(cores, first._network)]
        advice, size = choice.advice, choice.size
        self._used = advice
        if size.budget > budget:  # the first network of this shape had another advice, with smaller sizes
            self._check_budget(first, budget)
        task = first.task
        for model in models:
            if model.task is not task:
                raise ValueError(f"models must all be of task {task.name}, got {model.task.name}")
        results = size.core.evaluate_many([model._network for model in models], threads)
        noise = np.sqrt((results[:, 2] + results[:, 3]) / 2)
        if far := int((noise > size.range).sum()):
            self._warn(advice, float(noise.max()), size, far)
        seconds = (time.perf_counter() - start) / len(models)
        cost = Cost(seconds, choice.cost.multiply_adds, choice.cost.evaluations, setup)
        settings = {**plan.settings, **choice.settings}
        method, isa = self.method, _core.active_isa()

        def one(i: int) -> Estimate:
            value, error = map(float, results[i, :2])
            return Estimate(value, error, cost, method, {**settings, "noise": float(noise[i])}, threads, isa)

        return Batch(len(models), one)


class _Choice(NamedTuple):
    """One size of an advice, with what an estimate by it states whatever the network."""

    advice: Advice
    size: AdviceSize
    #: Noise up to which a network is neither another one nor outside of the calibration.
    limit: float
    cost: Cost
    settings: dict[str, Any]

    @classmethod
    def of(cls, advice: Advice, size: AdviceSize) -> _Choice:
        cost = Cost(multiply_adds=size.multiply_adds, evaluations=size.points)
        settings = {"advice": advice.name, "size": size.budget}
        return cls(advice, size, min(size.range, _SAME_NETWORK), cost, settings)


@cache
def _shipped(shape: tuple[str, int, int]) -> list[Advice]:
    """The shipped advice for a shape; only files of this shape are opened, which are named by task and shape."""
    prefix = "{}_{}_{}".format(*shape)
    found = [load_advice(path) for name, path in shipped_advice().items() if name.startswith(prefix)]
    return [advice for advice in found if advice.shape == shape]


def _closest(candidates: Iterable[Advice], model: RNN) -> Advice:
    """The advice for the trained network that this one is a copy of, told by the sketches."""
    noise = {advice: advice.noise(model._network) for advice in candidates}
    best = min(noise, key=noise.__getitem__)
    if noise[best] > _SAME_NETWORK:
        raise ValueError(
            f"no shipped advice is for a network like this: its weights differ by {noise[best]:.0%} from those of the "
            f"closest, {best.name!r}; make advice with fit_cubature, or pass advice= to use one all the same"
        )
    return best
