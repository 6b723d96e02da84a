"""Empirical cubature: the accuracy of a noisy copy of a known network, read off a few well-chosen inputs."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from outsample import _core
from outsample.advice import Advice, AdviceSize, load_advice, shipped_advice
from outsample.estimators.base import AdviceCost, Cost, Estimate, Estimator, _integer
from outsample.models import RNN
from outsample.seeding import RNGLike
from outsample.tasks import Task

#: Relative noise up to which a network is taken for a copy; networks from other seeds differ by more than 100%.
_SAME_NETWORK = 0.2


class AdviceWarning(UserWarning):
    """A network lies outside of what the advice was prepared for."""


class EmpiricalCubature(Estimator):
    """A fixed set of inputs and a fixed readout, prepared offline for one trained network (advice).

    The network is evaluated at K inputs that share prefixes; its margins there, squashed at three scales, go through a
    ridge regression and a small network that were fitted, together with the inputs, on noisy copies of the trained
    network whose accuracies are known (`outsample.fit_cubature`). No random numbers and no labels are used, and the
    same network always gets the same estimate.

    The standard error is that of networks with as much noise of the same kind as this one, as a sketch of its weights
    (signed sums of a few of them) tells, among copies that nothing was fitted on. It holds for the laws of noise that
    the advice was fitted on, which the advice's record lists. A network further from the trained one than any of those
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

    league = "with advice"
    supports = frozenset({"2nd_argmax", "argmax", "argmedian"})
    needs_no_biases = True

    def __init__(self, *, advice: Advice | str | Path | None = None, size: int | None = None) -> None:
        self.advice = advice
        self.size = size
        self._fixed: Advice | None = None
        self._used: Advice | None = None
        self._plans: dict[tuple[str, int, int], dict[Advice, tuple[AdviceSize, _core.Cubature]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_plans": {}}  # the core's objects do not travel between processes

    @property
    def settings(self) -> dict[str, Any]:
        advice = self.advice
        return {"advice": advice.name if isinstance(advice, Advice) else advice and str(advice), "size": self.size}

    @property
    def advice_cost(self) -> AdviceCost | None:
        """What making the advice took that was used last; None before it is known which one that is."""
        advice = self._advice() or self._used
        return None if advice is None else AdviceCost(advice.record["forwards"], advice.record["seconds"])

    def _advice(self) -> Advice | None:
        if self._fixed is None and self.advice is not None:
            self._fixed = self.advice if isinstance(self.advice, Advice) else load_advice(self.advice)
        return self._fixed

    def _candidates(self, model: RNN) -> list[Advice]:
        shape = (model.task.name, model.hidden_size, model.seq_len)
        fixed = self._advice()
        if fixed is not None:
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

    def _plan(self, model: RNN, budget: int) -> tuple[Advice, AdviceSize]:
        advice = self._used = self.choose(model)
        return advice, self._size(advice, budget)

    def prepare(self, model: Any, budget: int) -> None:
        self._plan(model, budget)[1].core  # noqa: B018 - arranged for the core on first use

    def _warn(self, advice: Advice, noise: float, size: AdviceSize, count: int) -> None:
        who = "the network's" if count == 1 else f"{count} networks'"
        warnings.warn(
            f"{who} weights differ by {noise:.2g} of their size from those of {advice.name!r}; the advice was "
            f"calibrated up to {size.range:.2g}, and beyond that the standard error is a guess",
            AdviceWarning,
            stacklevel=4,
        )

    def estimate(self, model: Any, budget: int, *, rng: RNGLike = None, threads: int = 1) -> Estimate:
        # The method is so fast that the general path would take longer than the estimate; the core still checks the
        # network's shape.
        start = time.perf_counter()
        plans = self._plans.get((model.task.name, model.hidden_size, budget)) if isinstance(model, RNN) else None
        if plans is None or threads != 1:
            return super().estimate(model, budget, rng=rng, threads=threads)
        advice = next(iter(plans)) if self._fixed is not None else _closest(plans, model)
        size, core = plans[advice]
        value, small, large = core.evaluate(model._network)
        error = size.error(small, large)
        noise = math.sqrt((small + large) / 2)
        if noise > size.range:
            self._warn(advice, noise, size, 1)
        cost = Cost(time.perf_counter() - start, size.multiply_adds, size.points)
        settings = {"advice": advice.name, "size": size.budget, "noise": noise}
        return Estimate(value, error, cost, self.method, settings, 1, _core.active_isa())

    def _estimate(self, model: Any, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        advice, size = self._plan(model, budget)
        sizes = {other: self._size(other, budget) for other in self._candidates(model)}
        self._plans[task.name, model.hidden_size, budget] = {a: (s, s.core) for a, s in sizes.items()}
        value, small, large = size.core.evaluate(model._network)
        noise = math.sqrt((small + large) / 2)
        if noise > size.range:
            self._warn(advice, noise, size, 1)
        return Estimate(
            value=value,
            standard_error=size.error(small, large),
            cost=Cost(multiply_adds=size.multiply_adds, evaluations=size.points),
            settings={"advice": advice.name, "size": size.budget, "noise": noise},
        )

    def estimate_many(
        self, models: Sequence[Any], budget: int, *, rng: RNGLike = None, threads: int = 1
    ) -> Sequence[Estimate]:
        """Estimate many networks at once, networks side by side in vector registers.

        All must be copies of the network that the first one is closest to. The result is a sequence that makes its
        `Estimate` objects when they are asked for.
        """
        if not models:
            return []
        before = time.perf_counter()
        first = models[0]
        self.check(first)
        assert isinstance(first, RNN)  # as check says
        budget = _integer(budget, "budget", 1)
        threads = _integer(threads, "threads", 1)
        minimum = self.minimum_budget(first)
        if budget < minimum:
            raise ValueError(f"budget must be at least {minimum} for method {self.method}, got {budget}")
        advice, size = self._plan(first, budget)
        core = size.core
        start = time.perf_counter()
        for model in models:
            if model.task is not first.task:
                raise ValueError(f"models must all be of task {first.task.name}, got {model.task.name}")
        results = core.evaluate_many([model._network for model in models], threads)
        errors = size.errors(results[:, 1], results[:, 2])
        noise = np.sqrt((results[:, 1] + results[:, 2]) / 2)
        if far := int((noise > size.range).sum()):
            self._warn(advice, float(noise.max()), size, far)
        settings = {"advice": advice.name, "size": size.budget}
        seconds = (time.perf_counter() - start) / len(models)
        cost = Cost(seconds, size.multiply_adds, size.points, start - before)
        return _Batch(results[:, 0], errors, noise, cost, self.method, settings, threads, _core.active_isa())


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


class _Batch(Sequence[Estimate]):
    """Estimates of many networks, kept as arrays."""

    def __init__(
        self,
        values: NDArray[np.float64],
        errors: NDArray[np.float64],
        noise: NDArray[np.float64],
        cost: Cost,
        method: str,
        settings: dict[str, Any],
        threads: int,
        isa: str,
    ) -> None:
        self._values, self._errors, self._noise, self._settings = values, errors, noise, settings
        self._common = (method, threads, isa)
        self._cost = cost

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, index: int) -> Estimate: ...
    @overload
    def __getitem__(self, index: slice) -> list[Estimate]: ...
    def __getitem__(self, index: int | slice) -> Estimate | list[Estimate]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        method, threads, isa = self._common
        settings = {**self._settings, "noise": float(self._noise[index])}
        value, error = float(self._values[index]), float(self._errors[index])
        return Estimate(value, error, self._cost, method, settings, threads, isa)
