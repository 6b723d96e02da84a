"""What an estimator is: weights and a budget go in, a number with its error and its cost comes out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from time import perf_counter
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

from numpy.random import SeedSequence

from outsample import _core
from outsample.models import RNN, Model
from outsample.seeding import RNGLike, seed_sequence
from outsample.tasks import Task

League = Literal["sampling", "deterministic", "with advice"]


class ConfidenceInterval(NamedTuple):
    """Lower and upper end."""

    low: float
    high: float


class AdviceCost(NamedTuple):
    """What it took, offline and once, to prepare a method's advice.

    Attributes
    ----------
    evaluations : float
        Forward passes spent, labels included.
    seconds : float
        Wall time.
    """

    evaluations: float
    seconds: float


@dataclass(frozen=True, init=False)
class Cost:
    """What an estimate cost.

    Attributes
    ----------
    seconds : float
        Wall time from weights in memory to the number; filled in by `Estimator.estimate`.
    multiply_adds : float
        Multiply-adds, all included.
    evaluations : float
        Points or samples evaluated.
    setup_seconds : float
        Wall time of what does not depend on the weights (tables, advice), not part of ``seconds``.
    """

    seconds: float = math.nan
    multiply_adds: float = 0.0
    evaluations: float = 0.0
    setup_seconds: float = 0.0

    # Written out here and below: what dataclasses make for frozen classes takes three times as long, which counts
    # where an estimate takes microseconds.
    def __init__(
        self,
        seconds: float = math.nan,
        multiply_adds: float = 0.0,
        evaluations: float = 0.0,
        setup_seconds: float = 0.0,
    ) -> None:
        fields = self.__dict__
        fields["seconds"] = seconds
        fields["multiply_adds"] = multiply_adds
        fields["evaluations"] = evaluations
        fields["setup_seconds"] = setup_seconds


_FREE = Cost()


@dataclass(frozen=True, init=False)
class Estimate:
    """An estimated accuracy (or mean squared error), with its error and its cost.

    Attributes
    ----------
    value : float
        The estimate.
    standard_error : float or None
        One standard error; None if the method has no error model. 0 only for a method that is exact.
    cost : Cost
        What it took.
    method : str
        Name of the method; filled in by `Estimator.estimate`.
    settings : mapping
        Settings that the value depends on.
    threads : int
        Threads used.
    isa : str
        Instruction set used.
    interval : callable or None
        Maps a confidence level to an interval, for methods that have a better one than value ± z standard errors
        (a Wilson interval, Student's t).
    """

    value: float
    standard_error: float | None = None
    cost: Cost = _FREE
    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    isa: str = ""
    interval: Any = field(default=None, repr=False, compare=False)

    def __init__(
        self,
        value: float,
        standard_error: float | None = None,
        cost: Cost = _FREE,
        method: str = "",
        settings: Mapping[str, Any] | None = None,
        threads: int = 1,
        isa: str = "",
        interval: Any = None,
    ) -> None:
        fields = self.__dict__
        fields["value"] = value
        fields["standard_error"] = standard_error
        fields["cost"] = cost
        fields["method"] = method
        fields["settings"] = {} if settings is None else settings
        fields["threads"] = threads
        fields["isa"] = isa
        fields["interval"] = interval

    def confidence_interval(self, level: float = 0.95) -> ConfidenceInterval:
        """Two-sided confidence interval.

        Parameters
        ----------
        level : float, default 0.95
            Between 0 and 1, both excluded.

        Raises
        ------
        ValueError
            If ``level`` is out of range, or the method has no error model.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must be between 0 and 1, got {level}")
        if self.interval is not None:
            return ConfidenceInterval(*self.interval(level))
        if self.standard_error is None:
            raise ValueError(f"method {self.method or 'unknown'} states no standard error, so it has no interval")
        half = NormalDist().inv_cdf(0.5 + level / 2) * self.standard_error
        return ConfidenceInterval(self.value - half, self.value + half)

    def __str__(self) -> str:
        error = "(no standard error)" if self.standard_error is None else f"± {self.standard_error:.2g}"
        if not self.standard_error:
            digits = 6 if self.standard_error is None else 15  # unknown, or exact
        else:
            digits = max(1, 1 - math.floor(math.log10(self.standard_error)))
        parts = [
            f"value {self.value:.{digits}f} {error}",
            f"{self.cost.evaluations:.0f} evaluations",
            f"{self.cost.multiply_adds / 1e6:.4g} M multiply-adds",
            f"{self.cost.seconds * 1e3:.3g} ms on {self.threads} thread{'s' if self.threads != 1 else ''}",
            self.isa,
        ]
        return ", ".join(parts)


class _Plan(NamedTuple):
    """What need not be found again for networks of a shape, at a budget: it is checked and prepared for."""

    settings: dict[str, Any]
    prepared: Any


#: Plans that an estimator keeps. They may hold large tables.
_MOST_PLANS = 16


class Estimator(ABC):
    """Base class of all methods.

    Notes
    -----
    A new method is one class with one method:

    >>> class Mine(osp.Estimator):
    ...     '''Shown in tables as "mine".'''
    ...     def _estimate(self, model, task, budget, rng, threads):
    ...         return osp.Estimate(value=0.95)

    `_estimate` gets checked arguments: ``rng`` is a SeedSequence, ``budget`` an int. It returns a new `Estimate`; the
    base class fills in the wall time, the method's name, the number of threads and the instruction set. Class
    attributes say the rest: ``method`` (name in tables; by default the class name in lower case with hyphens),
    ``league``, ``supports`` (names of the tasks), ``needs_no_biases``, ``by_shape``, ``draws``. Override
    `minimum_budget` if one forward pass is not enough, and `prepare` to make tables that do not depend on the weights,
    so that their cost is reported as set-up; `prepared` hands them to `_estimate`. Constructors take keyword arguments
    and only store them.
    """

    method: ClassVar[str] = ""
    league: ClassVar[League] = "deterministic"
    supports: ClassVar[frozenset[str]] = frozenset({"2nd_argmax", "argmax", "argmedian", "median"})
    #: True for methods that rely on logits(c x) = c logits(x).
    needs_no_biases: ClassVar[bool] = False
    #: True for methods of which `check`, `minimum_budget` and `prepare` have the same outcome for all networks of a
    #: shape. They are then called once for each shape and budget; what else the weights decide, `_estimate` sees to.
    by_shape: bool = False
    #: False for methods that draw nothing: where no ``rng`` is given, `_estimate` gets None rather than a seed.
    draws: ClassVar[bool] = True

    # By shape and budget. Replaced, never changed, so that other threads can go on reading.
    _plans: Mapping[tuple[Any, int], _Plan] = MappingProxyType({})

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if not name.startswith("_"):
            self._plans = {}  # made with other settings

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_plans": {}}  # made again rather than sent to other processes

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "method" not in cls.__dict__:
            name = cls.__name__
            cls.method = "".join(f"-{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))

    @property
    def label(self) -> str:
        """Name in tables and plots; methods with settings that matter add them."""
        return self.method

    @property
    def advice_cost(self) -> AdviceCost | None:
        """What preparing the advice took, printed beside every result; None for methods without advice."""
        return None

    @property
    def settings(self) -> dict[str, Any]:
        """Constructor arguments, as stored."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.settings.items())})"

    def minimum_budget(self, model: Any) -> int:
        """Smallest budget, in forward equivalents, that the method can work with."""
        return 1

    def useful_budget(self, model: Any, budget: int) -> int:
        """How much of a budget the method makes good use of for this network, for those who can spend it elsewhere.

        At most ``budget``; 0 if the estimate will be worth fewer random samples than it costs. By default all of it.
        """
        return budget

    def check(self, model: Any) -> None:
        """Raise ValueError if the method cannot work with this network (task, biases, size)."""
        if not isinstance(model, Model):
            raise TypeError(f"model must be an outsample.RNN or outsample.Transformer, got {type(model).__name__}")
        if model.task.name not in self.supports:
            raise ValueError(
                f"method {self.method} supports the tasks {', '.join(sorted(self.supports))}, got {model.task.name}"
            )
        if self.needs_no_biases and model.has_biases:
            raise ValueError(f"method {self.method} needs a network without biases, got one with biases")

    def prepare(self, model: Any, budget: int) -> Any:  # noqa: B027 - optional to override
        """Make whatever does not depend on the weights (only on their shape), so that `estimate` need not."""

    def prepared(self, model: Any, budget: int) -> Any:
        """What `prepare` returns, made once for each shape and budget if the method is `by_shape`."""
        plan = self._plans.get((model.shape, budget))
        return self.prepare(model, budget) if plan is None else plan.prepared

    def estimate(self, model: Model, budget: int, *, rng: RNGLike = None, threads: int = 1) -> Estimate:
        """Estimate the accuracy of a network (its mean squared error for the median task).

        Parameters
        ----------
        model : RNN or Transformer
            The network.
        budget : int
            How many forward passes of this network the method may spend, everything included.
        rng : None, int, SeedSequence or Generator, optional
            Source of randomness; the same one gives the same result for any number of threads. Deterministic methods
            ignore it.
        threads : int, default 1
            Number of threads.

        Returns
        -------
        Estimate

        Raises
        ------
        TypeError
            If an argument is of the wrong kind.
        ValueError
            If the budget is below the method's minimum, or the method cannot work with this network.
        """
        start, setup = perf_counter(), 0.0
        plan = None
        if type(budget) is int and type(threads) is int and threads > 0:
            plan = self._plans.get((getattr(model, "shape", None), budget))
        if plan is None:
            budget, threads, plan, setup = self._admit(model, budget, threads)
        if type(rng) is not SeedSequence and (self.draws or rng is not None):
            rng = seed_sequence(rng)
        result = self._estimate(model, model.task, budget, rng, threads)
        return self._completed(result, plan, perf_counter() - start - setup, setup, threads, _core.active_isa())

    def _check_budget(self, model: Any, budget: int) -> None:
        minimum = self.minimum_budget(model)
        if budget < minimum:
            raise ValueError(f"budget must be at least {minimum} for method {self.method}, got {budget}")

    def _admit(self, model: Any, budget: Any, threads: Any) -> tuple[int, int, _Plan, float]:
        """Check all arguments: budget and threads as int, the plan, and how long preparing took."""
        self.check(model)
        budget = _integer(budget, "budget", 1)
        threads = _integer(threads, "threads", 1)
        plan = self._plans.get((model.shape, budget))
        if plan is not None:
            return budget, threads, plan, 0.0
        self._check_budget(model, budget)
        start = perf_counter()
        plan = _Plan(self.settings, self.prepare(model, budget))
        if self.by_shape:
            kept = self._plans if len(self._plans) < _MOST_PLANS else {}
            self._plans = {**kept, (model.shape, budget): plan}
        return budget, threads, plan, perf_counter() - start

    def estimate_many(
        self, models: Sequence[Any], budget: int, *, rng: RNGLike = None, threads: int = 1
    ) -> Sequence[Estimate]:
        """Estimate many networks; model i gets the i-th child of ``rng``.

        Methods that can do a batch faster than one network after another override this, and return a sequence that
        makes its `Estimate` objects when they are asked for.
        """
        seeds: Sequence[Any] = [None] * len(models) if not self.draws else seed_sequence(rng).spawn(len(models))
        return [self.estimate(m, budget, rng=s, threads=threads) for m, s in zip(models, seeds, strict=True)]

    def _completed(
        self, result: Estimate, plan: _Plan, seconds: float, setup_seconds: float, threads: int, isa: str
    ) -> Estimate:
        """Fill in what the method itself need not say; in place, since the estimate is new and nobody else's."""
        fields = vars(result)
        cost = result.cost
        fields["cost"] = Cost(seconds, cost.multiply_adds, cost.evaluations, cost.setup_seconds + setup_seconds)
        fields["method"] = result.method or self.method
        fields["settings"] = {**plan.settings, **result.settings}
        fields["threads"] = threads
        fields["isa"] = isa
        return result

    @abstractmethod
    def _estimate(self, model: Any, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        """The method itself; see the class docstring."""


def networks_of_one_shape(models: Sequence[Any]) -> list[RNN] | None:
    """The models, if they are recurrent networks of one shape and task, which one call of the core can take."""
    if models and all(isinstance(m, RNN) for m in models) and len({m.shape for m in models}) == 1:
        return list(models)
    return None


def _integer(value: Any, name: str, minimum: int) -> int:
    try:
        result = value.__index__()
    except AttributeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if result < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {result}")
    return int(result)
