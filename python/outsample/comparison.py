"""Mean squared error against compute, for many methods on one ensemble of networks: how it is measured."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from outsample import _core
from outsample._build import build_info, source_commit
from outsample._progress import Progress
from outsample._timing import Quartiles, SamplingTime, interleaved
from outsample.estimators import Constant, Estimator, MonteCarlo
from outsample.models import RNN
from outsample.noise import PROTOCOLS, NoiseEnsemble
from outsample.results import BOOTSTRAP_RESAMPLES, LEVEL, Comparison, Measurement, Method, Refusal, jsonable
from outsample.seeding import domain_seed
from outsample.truth import Truth, ground_truth

Mode = Literal["single", "batch"]

#: Forward passes per piece of work.
_PIECE = 2**20
#: Samples at which Monte Carlo's own time is measured, besides the budgets.
_SAMPLING_GRID = (2**4, 2**7, 2**10, 2**13, 2**16, 2**18)
#: Copies and samples of each that the constant is fitted on.
_CONSTANT_COPIES, _CONSTANT_SAMPLES = 256, 2**16


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
                jsonable(e.settings),
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
            "level": LEVEL,
            "bootstrap_resamples": BOOTSTRAP_RESAMPLES,
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


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seven figures: far finer than the errors are known, and half the size in a file."""
    return np.array([float(f"{value:.7g}") for value in values])


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
            None if e.standard_error is None and e.interval is None else list(e.confidence_interval(LEVEL))
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
    made = np.random.SeedSequence(0)  # for all methods alike; in a batch the networks' seeds are part of the time

    def call(estimator: Estimator, budget: int) -> tuple[Callable[[int], object], int]:
        if mode == "single":
            return lambda i: estimator.estimate(models[i % len(models)], budget, rng=made, threads=threads), 1
        some = models[: max(1, min(len(models), 2**22 // budget))]
        return lambda i: estimator.estimate_many(some, budget, rng=0, threads=threads), len(some)

    sampling = MonteCarlo()
    grid = sorted({*_SAMPLING_GRID, *budgets})
    calls = {("", n): call(sampling, n) for n in grid}
    calls |= {(p.label, p.budget): call(p.estimator, p.budget) for p in plans}
    with Progress(rounds + 1, "times") as bar:
        per_call = interleaved({key: c for key, (c, _) in calls.items()}, rounds, seconds, bar)
    per_model = {key: quartiles.per(calls[key][1]) for key, quartiles in per_call.items()}
    line = SamplingTime.fit(grid, [per_model["", n].median for n in grid])
    return {key: quartiles for key, quartiles in per_model.items() if key[0]}, line
