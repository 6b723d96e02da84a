"""What a comparison found: methods, measurements, refusals, and the points that follow from them.

Terms: p is the true accuracy of a network, v the mean over the ensemble of p(1-p). A method's mean squared error (MSE)
at a budget is the mean over networks (and over repeats, if it is random) of (estimate - p)². Its *equivalent samples*
are N_eq = v / MSE: Monte Carlo with N samples has N_eq = N. Its *advantage* is the compute that Monte Carlo needs for
the same MSE divided by the compute of the method, in wall time or in multiply-adds, which are never mixed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outsample._cache import write_atomically
from outsample._timing import Quartiles, SamplingTime
from outsample.estimators import AdviceCost, ConfidenceInterval
from outsample.seeding import domain_seed
from outsample.truth import Truth

SCHEMA = "outsample-comparison"
SCHEMA_VERSION = 1

BOOTSTRAP_RESAMPLES = 2000
#: Confidence level of every interval.
LEVEL = 0.95


@dataclass(frozen=True)
class Method:
    """What a comparison records of a method."""

    label: str
    method: str
    league: str
    settings: Mapping[str, Any]
    advice: AdviceCost | None
    random: bool


@dataclass(frozen=True)
class Refusal:
    """A method that could not work at a budget, and why."""

    label: str
    budget: int
    reason: str


@dataclass(frozen=True, eq=False)
class Measurement:
    """What was measured of one method at one budget.

    Attributes
    ----------
    label : str
        The method.
    budget : int
        Forward passes allowed.
    squared_errors : ndarray, shape (models,)
        (estimate - truth)², mean over the repeats; the truth's own variance is still in it.
    bias : float
        Mean of estimate - truth.
    coverage : float or None
        Share of the stated 95% intervals that hold the truth; None if the method states none.
    evaluations, multiply_adds : float
        Mean per network, as the method counts them.
    seconds : Quartiles or None
        Wall time per network; None if times were not measured.
    setup_seconds : float
        Wall time of what does not depend on the weights, not in ``seconds``.
    """

    label: str
    budget: int
    squared_errors: NDArray[np.float64]
    bias: float
    coverage: float | None
    evaluations: float
    multiply_adds: float
    seconds: Quartiles | None = None
    setup_seconds: float = 0.0


@dataclass(frozen=True)
class Point:
    """One method at one budget: figures with bootstrap percentile intervals (95%, over models)."""

    label: str
    league: str
    budget: int
    mse: float
    mse_interval: ConfidenceInterval
    n_eq: float
    n_eq_interval: ConfidenceInterval
    limited_by_truth: bool
    forwards: float
    multiply_adds: float
    seconds: float | None
    setup_seconds: float
    advantage_time: float | None
    advantage_time_interval: ConfidenceInterval | None
    advantage_multiply_adds: float | None
    advantage_multiply_adds_interval: ConfidenceInterval | None
    bias: float
    coverage: float | None
    over_budget: bool


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of `compare`.

    Attributes
    ----------
    ensemble : mapping
        What defines the ensemble.
    truth : Truth
        Ground truth per model.
    methods : tuple of Method
        In the order of tables.
    measurements : tuple of Measurement
        Raw figures.
    refusals : tuple of Refusal
        Methods and budgets that did not work, with the reasons.
    sampling_time : SamplingTime or None
        Monte Carlo's own wall time.
    settings : mapping
        Arguments of `compare`.
    environment : mapping
        Version, commit, compiler, processor, instruction set, date.
    """

    ensemble: Mapping[str, Any]
    truth: Truth
    methods: tuple[Method, ...]
    measurements: tuple[Measurement, ...]
    refusals: tuple[Refusal, ...]
    sampling_time: SamplingTime | None
    settings: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def forward_multiply_adds(self) -> int:
        """Multiply-adds of one forward pass, the unit of a budget."""
        return int(self.ensemble["forward_multiply_adds"])

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """All figures, with their intervals."""
        size = len(self.truth)
        rng = np.random.default_rng(domain_seed("bootstrap", size))
        # Row b holds how often each model is in resample b, so that a product gives all resampled means at once. The
        # rows are shared by all methods, and v is resampled along with the errors.
        resamples = rng.multinomial(size, np.full(size, 1 / size), size=BOOTSTRAP_RESAMPLES) / size
        leagues = {method.label: method.league for method in self.methods}
        return tuple(self._point(m, resamples, leagues[m.label]) for m in self.measurements)

    def _point(self, measured: Measurement, resamples: NDArray[np.float64], league: str) -> Point:
        truth, forward = self.truth, self.forward_multiply_adds
        errors = measured.squared_errors - truth.standard_errors**2
        mse = float(errors.mean())
        low, high = _percentiles(resamples @ errors)
        # Ratios are resampled the way round that has no pole where a resampled MSE is 0 or below.
        ratio = _percentiles((resamples @ errors) / (resamples @ truth.sample_variances))
        n_eq = truth.variance / mse if mse > 0 else math.inf
        n_eq_interval = ConfidenceInterval(*(1 / r if r > 0 else math.inf for r in reversed(ratio)))

        def advantage(cost_of_sampling: Callable[[float], float], cost: float) -> tuple[float, ConfidenceInterval]:
            ends = (cost_of_sampling(n) / cost for n in n_eq_interval)
            return cost_of_sampling(n_eq) / cost, ConfidenceInterval(*ends)

        seconds = measured.seconds.median if measured.seconds else None
        in_time, in_multiply_adds = (None, None), (None, None)
        if seconds is not None and self.sampling_time is not None:
            in_time = advantage(self.sampling_time, seconds)  # type: ignore[assignment]
        if measured.multiply_adds > 0:
            in_multiply_adds = advantage(lambda n: n * forward, measured.multiply_adds)  # type: ignore[assignment]
        limited = mse < 3 * truth.noise
        return Point(
            label=measured.label,
            league=league,
            budget=measured.budget,
            mse=mse,
            mse_interval=ConfidenceInterval(low, high),
            n_eq=n_eq,
            n_eq_interval=n_eq_interval,
            limited_by_truth=limited,
            forwards=measured.multiply_adds / forward,
            multiply_adds=measured.multiply_adds,
            seconds=seconds,
            setup_seconds=measured.setup_seconds,
            advantage_time=in_time[0],
            advantage_time_interval=in_time[1],
            advantage_multiply_adds=in_multiply_adds[0],
            advantage_multiply_adds_interval=in_multiply_adds[1],
            bias=measured.bias,
            # An interval cannot be judged by a truth that is no sharper than the estimate.
            coverage=None if limited else measured.coverage,
            over_budget=measured.multiply_adds > 1.000001 * measured.budget * forward,
        )

    def __getitem__(self, label: str) -> list[Point]:
        """The points of one method, by budget."""
        if label not in {method.label for method in self.methods}:
            raise KeyError(f"no method {label!r} here, only {', '.join(m.label for m in self.methods)}")
        return [point for point in self.points if point.label == label]

    def table(self, budgets: Iterable[int] | None = None) -> str:
        """All points as a Markdown table; ``budgets`` restricts it."""
        from outsample.report import table

        return table(self, budgets)

    def report(self) -> str:
        """Everything in Markdown: what was compared, advantages by budget, all points, refusals."""
        from outsample.report import report

        return report(self)

    def plot(self, path: str | os.PathLike[str], x: str = "time") -> None:
        """Draw a figure (needs matplotlib).

        Parameters
        ----------
        path : path
            Where to; the suffix chooses the format.
        x : {"time", "multiply-adds", "advantage"}, default "time"
            MSE against wall time or against multiply-adds, or advantage against equivalent samples.
        """
        from outsample.plots import plot

        plot(self, path, x)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON types. Raw figures, from which `from_dict` makes the rest again, and the points."""
        truth = self.truth
        record = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "environment": dict(self.environment),
            "settings": dict(self.settings),
            "ensemble": dict(self.ensemble),
            "truth": {
                "samples": truth.samples,
                "mean": float(truth.values.mean()),
                "standard_deviation": truth.spread,
                "v": truth.variance,
                "noise": truth.noise,
                "values": truth.values.tolist(),
                "standard_errors": truth.standard_errors.tolist(),
                "sample_variances": truth.sample_variances.tolist(),
            },
            "sampling_time": asdict(self.sampling_time) if self.sampling_time else None,
            "methods": [{**vars(m), "advice": m.advice and m.advice._asdict()} for m in self.methods],
            "measurements": [
                {**vars(m), "squared_errors": m.squared_errors.tolist(), "seconds": m.seconds and m.seconds._asdict()}
                for m in self.measurements
            ],
            "refusals": [vars(r) for r in self.refusals],
            "points": [vars(p) for p in self.points],
        }
        return {name: jsonable(value) for name, value in record.items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Comparison:
        """The inverse of `to_dict`.

        Raises
        ------
        ValueError
            If the record is not a comparison, or of a version that this package does not know.
        """
        if not isinstance(record, Mapping) or record.get("schema") != SCHEMA:
            raise ValueError(f"record must have schema {SCHEMA!r}")
        if record.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"schema_version must be {SCHEMA_VERSION}, got {record.get('schema_version')!r}")
        try:
            return cls._from_record(record)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the record is damaged ({type(error).__name__}: {error})") from None

    @classmethod
    def _from_record(cls, record: Mapping[str, Any]) -> Comparison:
        truth, timing = record["truth"], record["sampling_time"]
        return cls(
            ensemble=record["ensemble"],
            truth=Truth(
                np.array(truth["values"], dtype=np.float64),
                np.array(truth["standard_errors"], dtype=np.float64),
                np.array(truth["sample_variances"], dtype=np.float64),
                truth["samples"],
            ),
            methods=tuple(
                Method(**{**m, "advice": AdviceCost(**m["advice"]) if m["advice"] else None}) for m in record["methods"]
            ),
            measurements=tuple(
                Measurement(
                    **{
                        **m,
                        "squared_errors": np.array(m["squared_errors"]),
                        "seconds": Quartiles(**m["seconds"]) if m["seconds"] else None,
                    }
                )
                for m in record["measurements"]
            ),
            refusals=tuple(Refusal(**r) for r in record["refusals"]),
            sampling_time=SamplingTime(**timing) if timing else None,
            settings=record["settings"],
            environment=record["environment"],
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a JSON file."""
        write_atomically(Path(path), json.dumps(self.to_dict(), allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Comparison:
        """Read a file that `save` wrote."""
        try:
            record = json.loads(Path(path).read_text())
        except ValueError as error:
            raise ValueError(f"{path} is not a JSON file: {error}") from None
        return cls.from_dict(record)


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def jsonable(value: Any) -> Any:
    """The same with None for infinity, which JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: jsonable(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [jsonable(v) for v in value]
    if isinstance(value, np.generic):
        return jsonable(value.item())
    return value if isinstance(value, str | int | float | bool | None) else str(value)
