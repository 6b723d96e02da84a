"""Mean squared error against compute, for many methods on one ensemble of networks.

Terms: p is the true accuracy of a network, v the mean over the ensemble of p(1-p). A method's mean squared error (MSE)
at a budget is the mean over networks (and over repeats, if it is random) of (estimate - p)². Its *equivalent samples*
are N_eq = v / MSE: Monte Carlo with N samples has N_eq = N. Its *advantage* is the compute that Monte Carlo needs for
the same MSE divided by the compute of the method, in wall time or in multiply-adds, which are never mixed.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from outsample import _core
from outsample._build import build_info, source_commit
from outsample._cache import write_atomically
from outsample._progress import Progress
from outsample._timing import Quartiles, SamplingTime, interleaved
from outsample.estimators import AdviceCost, ConfidenceInterval, Constant, Estimator, MonteCarlo
from outsample.models import RNN
from outsample.noise import PROTOCOLS, NoiseEnsemble
from outsample.seeding import domain_seed
from outsample.truth import Truth, ground_truth

Mode = Literal["single", "batch"]

SCHEMA = "outsample-comparison"
SCHEMA_VERSION = 1

#: Forward passes per piece of work.
_PIECE = 2**20
#: Samples at which Monte Carlo's own time is measured, besides the budgets.
_SAMPLING_GRID = (2**4, 2**7, 2**10, 2**13, 2**16, 2**18)
#: Copies and samples of each that the constant is fitted on.
_CONSTANT_COPIES, _CONSTANT_SAMPLES = 256, 2**16
_BOOTSTRAP = 2000
_LEVEL = 0.95


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
        resamples = rng.multinomial(size, np.full(size, 1 / size), size=_BOOTSTRAP) / size
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
        return {name: _jsonable(value) for name, value in record.items()}

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
    low, high = np.percentile(values, [50 * (1 - _LEVEL), 50 * (1 + _LEVEL)])
    return float(low), float(high)


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seven figures: far finer than the errors are known, and half the size in a file."""
    return np.array([float(f"{value:.7g}") for value in values])


def _jsonable(value: Any) -> Any:
    """The same with None for infinity, which JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _jsonable(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_jsonable(v) for v in value]
    if isinstance(value, np.generic):
        return _jsonable(value.item())
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def compare(
    estimators: Sequence[Estimator],
    ensemble: Sequence[RNN],
    budgets: Sequence[int],
    *,
    truth_samples: int = 2**22,
    truth: Truth | None = None,
    repeats: int = 4,
    mode: Mode = "single",
    threads: int = 1,
    rounds: int = 30,
    round_seconds: float = 0.005,
    constant: bool = True,
    cache: bool | str | os.PathLike[str] = True,
    folder: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    seed: int = 0,
) -> Comparison:
    """Measure mean squared error against compute.

    Monte Carlo always takes part, because everything is judged by it, and so does the constant (the mean accuracy of
    other noisy copies), because a method below it has learned nothing.

    Parameters
    ----------
    estimators : sequence of Estimator
        The methods.
    ensemble : NoiseEnsemble, or sequence of RNN of one shape and task
        The networks.
    budgets : sequence of int
        In forward passes.
    truth_samples : int, default 2**22
        Samples per network that the truth is made from.
    truth : Truth, optional
        A truth that is known already, such as ``Truth.exact(...)``.
    repeats : int, default 4
        Estimates per network of methods that are random.
    mode : {"single", "batch"}, default "single"
        Whether wall times are of one network per call or of many.
    threads : int, default 1
        Threads that methods may use.
    rounds : int, default 30
        Rounds of timing, each of which times all methods in turn; 0 measures no times.
    round_seconds : float, default 0.005
        Calls shorter than this are repeated within a round.
    constant : bool, default True
        Whether to add the constant. It needs a `NoiseEnsemble` and an accuracy.
    cache : bool or path, default True
        Where the truth is kept; see `ground_truth`.
    folder : path, optional
        Run folder: finished pieces are appended to ``pieces.jsonl`` there, and a run that was interrupted goes on from
        them.
    executor : concurrent.futures.Executor, optional
        Runs truth and estimates, with the same result as without. Times are always measured in this process.
    seed : int, default 0
        Seed of the random methods.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of its range. A method that refuses a budget or the network is no
        error: it is recorded with its reason.
    """
    for name, value, least in (("repeats", repeats, 1), ("threads", threads, 1), ("rounds", rounds, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if mode not in ("single", "batch"):
        raise ValueError(f"mode must be one of single, batch, got {mode!r}")
    budgets = sorted({int(b) for b in budgets})
    if not budgets or budgets[0] < 1:
        raise ValueError(f"budgets must be at least 1, got {budgets[0] if budgets else 'none'}")
    models = list(ensemble)
    if not models:
        raise ValueError("ensemble must hold at least one network, got none")
    if truth is not None and len(truth) != len(models):
        raise ValueError(f"truth must be of {len(models)} networks, got {len(truth)}")
    chosen = _labelled(estimators)
    if truth is None:
        truth = ground_truth(models, truth_samples, cache=cache, executor=executor)
    if constant and isinstance(ensemble, NoiseEnsemble) and models[0].task.quantity == "accuracy":
        copies = replace(ensemble, role="fitting", size=_CONSTANT_COPIES)
        chosen["constant"] = Constant.fit(copies, samples=_CONSTANT_SAMPLES)
    if not any(type(e) is MonteCarlo for e in chosen.values()):
        chosen = {MonteCarlo().label: MonteCarlo(), **chosen}

    refusals: list[Refusal] = []
    plans: list[_Plan] = []
    for label, estimator in chosen.items():
        random = _is_random(estimator, models, budgets)
        for budget in budgets:
            try:
                estimator.check(models[0])
                minimum = estimator.minimum_budget(models[0])
                if budget < minimum:
                    raise ValueError(f"budget must be at least {minimum} for method {estimator.method}, got {budget}")
                start = time.perf_counter()
                estimator.prepare(models[0], budget)
                plans.append(
                    _Plan(label, estimator, budget, repeats if random else 1, time.perf_counter() - start, random)
                )
            except ValueError as error:
                refusals.append(Refusal(label, budget, str(error)))

    measured = _measure(plans, models, truth, seed, threads, refusals, executor, _Run(folder, ensemble, models, seed))
    plans = [p for p in plans if (p.label, p.budget) in measured]
    sampling_time = None
    if rounds:
        times, sampling_time = _time(plans, models, budgets, mode, threads, rounds, round_seconds)
        measured = {key: replace(m, seconds=times[key]) for key, m in measured.items()}
    return Comparison(
        ensemble=_described(ensemble, models),
        truth=truth,
        methods=tuple(
            Method(
                label,
                e.method,
                e.league,
                _jsonable(e.settings),
                e.advice_cost,
                any(p.random for p in plans if p.label == label),
            )
            for label, e in chosen.items()
        ),
        measurements=tuple(measured.values()),
        refusals=tuple(refusals),
        sampling_time=sampling_time,
        settings={
            "budgets": budgets,
            "truth_samples": truth.samples,
            "repeats": repeats,
            "mode": mode,
            "threads": threads,
            "rounds": rounds,
            "round_seconds": round_seconds,
            "seed": seed,
            "level": _LEVEL,
            "bootstrap_resamples": _BOOTSTRAP,
        },
        environment={
            **build_info(),
            "commit": source_commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


def _labelled(estimators: Sequence[Estimator]) -> dict[str, Estimator]:
    """Methods by label; two of one label are told apart by their settings."""
    for estimator in estimators:
        if not isinstance(estimator, Estimator):
            raise TypeError(f"estimators must be Estimator objects, got {estimator!r}")
    labels = [e.label for e in estimators]
    chosen: dict[str, Estimator] = {}
    for estimator, label in zip(estimators, labels, strict=True):
        if labels.count(label) > 1:
            label += f" ({', '.join(f'{k}={v}' for k, v in estimator.settings.items())})"
        if label in chosen:
            raise ValueError(f"estimators must differ in label or settings, got {label!r} twice")
        chosen[label] = estimator
    return chosen


def _described(ensemble: Sequence[RNN], models: list[RNN]) -> dict[str, Any]:
    first = models[0]
    if isinstance(ensemble, NoiseEnsemble):
        described = ensemble.settings
        if protocol := PROTOCOLS.get(ensemble.protocol):
            described["protocol_version"] = protocol.version
    else:
        digests = hashlib.sha256("".join(m.digest for m in models).encode()).hexdigest()
        described = {
            "kind": "list",
            "size": len(models),
            "digests": digests,
            "task": first.task.name,
            "hidden_size": first.hidden_size,
            "seq_len": first.seq_len,
        }
    return {**described, "forward_multiply_adds": first.forward_multiply_adds}


@dataclass(frozen=True)
class _Plan:
    """One method at one budget, to be measured."""

    label: str
    estimator: Estimator
    budget: int
    repeats: int
    setup_seconds: float
    random: bool


def _is_random(estimator: Estimator, models: list[RNN], budgets: list[int]) -> bool:
    """Whether the method's answers depend on the seed; asked of a few networks at the smallest budget that works."""
    if estimator.league != "with advice":
        return estimator.league == "sampling"
    for budget in budgets:
        try:
            first, second = ([estimator.estimate(m, budget, rng=s).value for m in models[:8]] for s in (0, 1))
        except ValueError:
            continue
        return first != second
    return False


def _evaluate(estimator: Estimator, models: list[RNN], budget: int, seed: int, piece: _Piece, threads: int) -> Any:
    """Estimates of some networks: the piece of work that an executor runs."""
    # The children that estimate_many spawns start at the piece's first network, so results do not depend on the cut.
    domain = domain_seed("estimation", seed, budget, piece.repeat)
    rng = np.random.SeedSequence(domain.entropy, spawn_key=domain.spawn_key, n_children_spawned=piece.start)
    try:
        estimates = list(estimator.estimate_many(models, budget, rng=rng, threads=threads))
    except ValueError as error:
        return {"refused": str(error)}
    values = [float(e.value) for e in estimates]
    if not np.isfinite(values).all():
        return {"refused": f"estimate is {next(v for v in values if not math.isfinite(v))}"}
    return {
        "values": values,
        "intervals": [
            None if e.standard_error is None and e.interval is None else list(e.confidence_interval(_LEVEL))
            for e in estimates
        ],
        "evaluations": sum(e.cost.evaluations for e in estimates),
        "multiply_adds": sum(e.cost.multiply_adds for e in estimates),
    }


@dataclass(frozen=True)
class _Piece:
    plan: int
    repeat: int
    start: int
    stop: int


def _pieces(plans: list[_Plan], size: int) -> Iterator[_Piece]:
    for index, plan in enumerate(plans):
        step = min(size, max(1, _PIECE // plan.budget))
        for repeat in range(plan.repeats):
            for start in range(0, size, step):
                yield _Piece(index, repeat, start, min(size, start + step))


class _Run:
    """The run folder: finished pieces under keys that say all they are a function of."""

    def __init__(
        self, folder: str | os.PathLike[str] | None, ensemble: Sequence[RNN], models: list[RNN], seed: int
    ) -> None:
        self.path = None if folder is None else Path(folder) / "pieces.jsonl"
        described = json.dumps(_described(ensemble, models), sort_keys=True)
        self._base = f"{described} {build_info()['version']} {_core.active_isa()} {seed}"
        self._found: dict[str, Any] = {}
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    record = json.loads(line)
                    self._found[record["key"]] = record["result"]
                except (ValueError, KeyError, TypeError):
                    continue  # the line that an interruption cut off

    def _key(self, plan: _Plan, piece: _Piece) -> str:
        cls = type(plan.estimator)
        try:
            source = inspect.getsource(cls)
        except (OSError, TypeError):
            source = ""
        text = (
            f"{self._base} {cls.__module__}.{cls.__qualname__} {plan.estimator!r} {source} "
            f"{plan.budget} {piece.repeat} {piece.start} {piece.stop}"
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def find(self, plan: _Plan, piece: _Piece) -> Any:
        return self._found.get(self._key(plan, piece)) if self._found else None

    def keep(self, plan: _Plan, piece: _Piece, result: Any) -> None:
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps({"key": self._key(plan, piece), "result": result}) + "\n")


def _measure(
    plans: list[_Plan],
    models: list[RNN],
    truth: Truth,
    seed: int,
    threads: int,
    refusals: list[Refusal],
    executor: Executor | None,
    run: _Run,
) -> dict[tuple[str, int], Measurement]:
    """Run all pieces and pool them."""
    pieces = list(_pieces(plans, len(models)))
    results: dict[_Piece, Any] = {}

    def finish(piece: _Piece, result: Any) -> None:
        results[piece] = result
        plan = plans[piece.plan]
        bar.advance((piece.stop - piece.start) * plan.budget, note=plan.label)

    def arguments(piece: _Piece) -> tuple[Any, ...]:
        plan = plans[piece.plan]
        return plan.estimator, models[piece.start : piece.stop], plan.budget, seed, piece, threads

    with Progress(sum((p.stop - p.start) * plans[p.plan].budget for p in pieces), "estimates") as bar:
        to_do = []
        for piece in pieces:
            found = run.find(plans[piece.plan], piece)
            if found is None:
                to_do.append(piece)
            else:
                finish(piece, found)
        if executor is None:
            for piece in to_do:
                result = _evaluate(*arguments(piece))
                run.keep(plans[piece.plan], piece, result)
                finish(piece, result)
        else:
            jobs = {executor.submit(_evaluate, *arguments(piece)): piece for piece in to_do}
            try:
                for job in as_completed(jobs):
                    run.keep(plans[jobs[job].plan], jobs[job], job.result())
                    finish(jobs[job], job.result())
            except BaseException:
                for job in jobs:
                    job.cancel()
                raise

    measured: dict[tuple[str, int], Measurement] = {}
    before: dict[str, tuple[NDArray[np.float64], float]] = {}
    for index, plan in enumerate(plans):
        own = [(piece, results[piece]) for piece in pieces if piece.plan == index]
        if refused := next((r["refused"] for _, r in own if "refused" in r), None):
            refusals.append(Refusal(plan.label, plan.budget, refused))
            continue
        values = np.concatenate([r["values"] for _, r in own]).reshape(plan.repeats, len(models))
        errors = values - truth.values
        multiply_adds = sum(r["multiply_adds"] for _, r in own) / values.size
        # A method that does not use more of a larger budget has one point, not many.
        if not plan.random:
            same = plan.label in before and before[plan.label][1] == multiply_adds
            if same and np.array_equal(before[plan.label][0], values):
                continue
            before[plan.label] = values, multiply_adds
        held = [
            low <= truth.values[piece.start + i] <= high
            for piece, r in own
            for i, interval in enumerate(r["intervals"])
            if interval is not None
            for low, high in (interval,)
        ]
        measured[plan.label, plan.budget] = Measurement(
            plan.label,
            plan.budget,
            _rounded((errors**2).mean(axis=0)),
            float(errors.mean()),
            float(np.mean(held)) if len(held) == values.size else None,
            sum(r["evaluations"] for _, r in own) / values.size,
            multiply_adds,
            setup_seconds=plan.setup_seconds,
        )
    return measured


def _time(
    plans: list[_Plan], models: list[RNN], budgets: list[int], mode: Mode, threads: int, rounds: int, seconds: float
) -> tuple[dict[tuple[str, int], Quartiles], SamplingTime]:
    """Wall time per network of every plan, and Monte Carlo's as a line, all measured in turn."""
    rng = np.random.SeedSequence(0)  # made beforehand, for all methods alike

    def call(estimator: Estimator, budget: int) -> tuple[Callable[[int], object], int]:
        if mode == "single":
            return lambda i: estimator.estimate(models[i % len(models)], budget, rng=rng, threads=threads), 1
        some = models[: max(1, min(len(models), 2**22 // budget))]
        return lambda i: estimator.estimate_many(some, budget, rng=rng, threads=threads), len(some)

    sampling = MonteCarlo()
    grid = sorted({*_SAMPLING_GRID, *budgets})
    calls = {("", n): call(sampling, n) for n in grid}
    calls |= {(p.label, p.budget): call(p.estimator, p.budget) for p in plans}
    with Progress(rounds + 1, "times") as bar:
        per_call = interleaved({key: c for key, (c, _) in calls.items()}, rounds, seconds, bar)
    per_model = {key: quartiles.per(calls[key][1]) for key, quartiles in per_call.items()}
    line = SamplingTime.fit(grid, [per_model["", n].median for n in grid])
    return {key: quartiles for key, quartiles in per_model.items() if key[0]}, line
