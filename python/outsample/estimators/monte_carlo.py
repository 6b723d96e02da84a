"""Random sampling, the baseline that every method is judged by."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from outsample import _core
from outsample.estimators.base import (
    ConfidenceInterval,
    Cost,
    Estimate,
    Estimator,
    _integer,
    networks_of_one_shape,
)
from outsample.estimators.batch import Batch
from outsample.models import RNN, Model
from outsample.seeding import RNGLike, child_keys, philox_key, seed_sequence
from outsample.tasks import Task
from outsample.transformer import Transformer

#: A user's own quantity: inputs (count, n) and logits (count, outputs) to one number per sample, shape (count,).
SampleFunction: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.float32]], ArrayLike]

_NAMED = ("accuracy", "cross_entropy", "mean_squared_error")

#: Samples per call of a user's function: small enough for the cache, large enough to hide the calls.
_BATCH = 1 << 14


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> ConfidenceInterval:
    """Wilson's score interval for a probability.

    Parameters
    ----------
    successes, trials : int
        Counts.
    level : float, default 0.95
        Confidence level.

    Returns
    -------
    ConfidenceInterval
        Its low end is exactly 0 without successes, its high end exactly 1 without failures.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927) 209-212. Chosen over Clopper-Pearson's after L. D. Brown, T. T. Cai and
    A. DasGupta, "Interval estimation for a binomial proportion", Statistical Science 16 (2001) 101-133.
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = successes / trials
    shrink = 1 / (1 + z * z / trials)
    centre = shrink * (p + z * z / (2 * trials))
    half = shrink * z * math.sqrt(p * (1 - p) / trials + (z / (2 * trials)) ** 2)
    return ConfidenceInterval(
        0.0 if successes == 0 else centre - half,
        1.0 if successes == trials else centre + half,
    )


class MonteCarlo(Estimator):
    """Plain random sampling: the mean over as many random inputs as the budget has forward passes.

    Random numbers, normals, network, right answer and sum are one loop in C++. The result is a function of the seed
    and the instruction set: the number of threads does not change it.

    For the accuracy the standard error is sqrt(p (1 - p) / N), and the interval Wilson's. With no failure or no
    success at all, where that formula gives 0, the standard error is the one at p = (k + 1/2) / (N + 1). For other
    quantities the standard error is the sample's standard deviation over sqrt(N), None for a single sample.

    Parameters
    ----------
    quantity : str or callable, optional
        What is averaged: ``"accuracy"``, ``"cross_entropy"`` (-ln of the softmax probability of the right position) or
        ``"mean_squared_error"`` (the median task's own), or a function of inputs (count, n) and logits
        (count, outputs), both float32, that returns one real number per sample, shape (count,). Default: the
        accuracy, or the mean squared error for the median task.
    """

    league = "sampling"
    supports = frozenset({"2nd_argmax", "argmax", "argmedian", "median", "longest_cycle"})
    by_shape = True

    def __init__(self, *, quantity: str | SampleFunction | None = None) -> None:
        self.quantity = quantity

    @property
    def label(self) -> str:
        return self.method if self.quantity is None else f"{self.method} ({self.settings['quantity']})"

    @property
    def settings(self) -> dict[str, Any]:
        """Constructor arguments; a function by its name."""
        quantity = self.quantity
        return {"quantity": getattr(quantity, "__name__", repr(quantity)) if callable(quantity) else quantity}

    def check(self, model: Model) -> None:
        """Raise if the quantity does not exist for the network's task."""
        super().check(model)
        quantity = self.quantity
        if isinstance(model, Transformer) and quantity not in (None, "accuracy"):
            raise ValueError(f"quantity must be accuracy for a Transformer, got {self.settings['quantity']!r}")
        if quantity is None or callable(quantity):
            return
        if not isinstance(quantity, str):
            raise TypeError(f"quantity must be a string or a callable, got {type(quantity).__name__}")
        if quantity not in _NAMED:
            raise ValueError(f"quantity must be one of {', '.join(_NAMED)} or a callable, got {quantity!r}")
        if (quantity == "mean_squared_error") != (model.task.quantity == "mean_squared_error"):
            raise ValueError(f"quantity {quantity} is not defined for task {model.task.name}")

    def prepare(self, model: Model, budget: int) -> Cost:
        """The cost, which depends on nothing else."""
        return Cost(multiply_adds=float(budget * model.forward_multiply_adds), evaluations=float(budget))

    def _estimate(self, model: RNN | Transformer, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        cost = self.prepared(model, budget)
        quantity = task.quantity if self.quantity is None else self.quantity
        if not isinstance(model, RNN):
            return _fraction(cost, model.count_correct(budget, rng=rng, threads=threads), budget)
        key = philox_key(rng)
        if quantity == "accuracy":
            return _fraction(cost, _core.count_correct(model._network, task.name, budget, key, 0, threads), budget)
        if callable(quantity):
            return _mean(cost, *_sums(quantity, model, budget, key, threads), budget)
        return _mean(cost, *_core.sample_moments(model._network, task.name, budget, key, 0, threads), budget)

    def estimate_many(
        self, models: Sequence[Model], budget: int, *, rng: RNGLike = None, threads: int = 1
    ) -> Sequence[Estimate]:
        """Estimate many networks, with the same results as one by one; model i gets the i-th child of ``rng``.

        Accuracies of networks of one shape and task are counted in one call of the core. Each estimate then has an
        equal share of that call's wall time.
        """
        networks = networks_of_one_shape(models)
        if networks is None or (self.quantity or networks[0].task.quantity) != "accuracy":
            return super().estimate_many(models, budget, rng=rng, threads=threads)
        budget, threads, plan, setup = self._admit(networks[0], budget, threads)
        keys = child_keys(rng, len(networks))
        start = time.perf_counter()
        counts = _core.count_correct_many(
            [m._network for m in networks], networks[0].task.name, budget, keys, 0, threads
        )
        seconds, isa = (time.perf_counter() - start) / len(networks), _core.active_isa()

        def one(i: int) -> Estimate:
            result = _fraction(plan.prepared, int(counts[i]), budget)
            return self._completed(result, plan, seconds, setup, threads, isa)

        return Batch(len(networks), one)


def _fraction(cost: Cost, correct: int, samples: int) -> Estimate:
    p = correct / samples
    spread = p if 0 < correct < samples else (correct + 0.5) / (samples + 1)
    return Estimate(
        value=p,
        standard_error=math.sqrt(spread * (1 - spread) / samples),
        cost=cost,
        interval=partial(wilson_interval, correct, samples),
    )


def _mean(cost: Cost, total: float, squares: float, samples: int) -> Estimate:
    mean = total / samples
    error = None
    if samples > 1:
        error = math.sqrt(max(squares - total * mean, 0.0) / (samples - 1) / samples)
    return Estimate(value=mean, standard_error=error, cost=cost)


def _sums(function: SampleFunction, model: RNN, samples: int, key: int, threads: int) -> tuple[float, float]:
    """Sum and sum of squares of a user's function over the sampler's own inputs."""
    sums: list[float] = []
    squares: list[float] = []
    for first in range(0, samples, _BATCH):
        count = min(_BATCH, samples - first)
        x = _core.normals(key, first, count, model.seq_len, threads)
        values = np.asarray(function(x, model.forward(x, threads=threads)))
        if values.shape != (count,):
            raise ValueError(f"quantity must return an array of shape ({count},), got {values.shape}")
        if values.dtype.kind not in "biuf":
            raise TypeError(f"quantity must return real numbers, got dtype {values.dtype}")
        values = values.astype(np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"quantity must return finite numbers, got {values[~np.isfinite(values)][0]}")
        sums.append(float(values.sum()))
        squares.append(float(np.square(values).sum()))
    return math.fsum(sums), math.fsum(squares)


def confusion_matrix(model: RNN, samples: int, *, rng: RNGLike = None, threads: int = 1) -> NDArray[np.int64]:
    """Count random inputs by right position and prediction.

    Parameters
    ----------
    model : RNN
        A network of the argmax family.
    samples : int
        Number of inputs. The same ``rng`` and as many samples in `MonteCarlo` use the same inputs, so the trace is
        its number of correct answers.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness.
    threads : int, default 1
        Number of threads; does not change the result.

    Returns
    -------
    ndarray, shape (n, n), int64
        Rows: right position; columns: prediction. Sums to ``samples``.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range, or the task has no right position (median).
    """
    estimator = MonteCarlo(quantity="accuracy")
    estimator.check(model)
    samples = _integer(samples, "samples", 1)
    threads = _integer(threads, "threads", 1)
    return _core.count_confusion(model._network, model.task.name, samples, philox_key(seed_sequence(rng)), 0, threads)
