"""The offline pipeline: from a trained network to advice."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from outsample import _core
from outsample._progress import Progress
from outsample.advice import Advice, AdviceSize, load_advice
from outsample.cubature import labels as labelling
from outsample.cubature.blocks import train_in_blocks
from outsample.cubature.folder import Folder
from outsample.cubature.gauss_newton import GaussNewton
from outsample.cubature.points import Points, random_points
from outsample.cubature.rule import Rule, TrainingSet, best_outer_layer, linear_rule, with_features, with_units
from outsample.cubature.selection import Selection
from outsample.models import RNN
from outsample.noise import NoiseEnsemble, require_fitting
from outsample.seeding import domain_seed

Floats = NDArray[np.float64]

_KINDS: dict[str, Literal["multiplicative", "additive"]] = {"mul": "multiplicative", "add": "additive"}

#: Laws of noise that advice is fitted on by default, with the share of networks of each.
DEFAULT_NOISE: dict[str, float] = {
    "mul-0.01": 0.55,
    "mul-0.006": 0.15,
    "mul-0.003": 0.07,
    "mul-0.02": 0.03,
    "add-0.005": 0.2,
}
DEFAULT_SIZES = (8, 32, 128, 512, 2048)
#: Noisy copies to fit on: as many as five sizes can use in some 20 minutes of two cores.
DEFAULT_NETWORKS = 196608


@dataclass(frozen=True)
class Effort:
    """How one size is fitted.

    Attributes
    ----------
    branching : tuple of int
        Continuations of a candidate's prefix at each of its last steps.
    units : int
        Hidden units of the readout.
    linear_steps, steps : int
        Gauss-Newton steps before and after the hidden units are added.
    starts : int
        How many rules are begun from different candidates.
    trial : int
        Steps with hidden units after which only the best of several starts goes on.
    batch : int
        Networks that the first step is computed from.
    decay : float
        Penalty on the squared weights of the readout during the steps.
    features : int
        Features per point; 3 wherever a network has fewer than three outputs.
    blocks, sweeps : int
        If there is more than one block, the rule is linear and trained in parts (`train_in_blocks`), ``linear_steps``
        in each visit of one, instead of all at once.
    """

    branching: tuple[int, ...]
    units: int
    linear_steps: int
    steps: int
    starts: int = 1
    trial: int = 12
    batch: int = 32768
    decay: float = 1e-4
    features: int = 7
    blocks: int = 1
    sweeps: int = 0

    @property
    def first_steps(self) -> int:
        """Steps with hidden units that every start takes."""
        return min(self.trial, self.steps) if self.starts > 1 else self.steps

    @property
    def total_steps(self) -> int:
        """Gauss-Newton steps of all starts, or of all visits of blocks."""
        if self.blocks > 1:
            return self.blocks * self.sweeps * self.linear_steps
        return self.starts * (self.linear_steps + self.first_steps) + self.steps - self.first_steps


def effort(size: int) -> Effort:
    """What works best at a size: deep trees and a richer readout for small ones."""
    if size <= 64:
        return Effort((2, 2, 2, 2, 2, 2, 8), 8, 6, 40, starts=4 if size <= 16 else 2)
    if size <= 256:
        return Effort((2, 2, 2, 2, 8), 6, 6, 20)
    branching = (2, 4) if size <= 1024 else (2,)
    return Effort(branching, 0, 4, 0, blocks=max(4, size // 256), sweeps=2 if size <= 1024 else 1)


def parse_law(name: str) -> tuple[Literal["multiplicative", "additive"], float]:
    """Kind and scale of a law of noise named like ``mul-0.01`` or ``add-0.005``.

    Raises
    ------
    ValueError
        If the name is of another form.
    """
    prefix, _, number = name.partition("-")
    try:
        scale = float(number)
    except ValueError:
        scale = -1.0
    if prefix not in _KINDS or not 0 < scale < np.inf:
        raise ValueError(f"a law of noise must be mul-SCALE or add-SCALE with a positive scale, got {name!r}")
    return _KINDS[prefix], scale


#: What may name laws of noise.
Noise = Mapping[str, float] | Sequence[str] | str


def mixture(noise: Noise) -> dict[str, float]:
    """Laws of noise with their shares, which add up to one; equal ones if none are given.

    Raises
    ------
    ValueError
        If there is no law, one has another name than `parse_law` reads, or a share is not positive.
    """
    if isinstance(noise, str):
        noise = [noise]
    shares = dict(noise) if isinstance(noise, Mapping) else dict.fromkeys(noise, 1.0)
    if not shares or min(shares.values()) <= 0:
        raise ValueError(f"noise must name at least one law, with positive shares, got {noise!r}")
    for law in shares:
        parse_law(law)
    total = sum(shares.values())
    return {law: share / total for law, share in shares.items()}


@dataclass(eq=False)
class _Labelled:
    """Noisy copies with labels from two independent tables each."""

    weights: NDArray[np.float32]
    law: NDArray[np.int64]
    halves: Floats  # (2, networks)

    @property
    def accuracy(self) -> Floats:
        return np.asarray(self.halves.mean(axis=0))


def noisy_copies(
    model: RNN, laws: Sequence[str], shares: Floats, count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Weights of ``count`` noisy copies in mixed order, and the index of the law of each."""
    ends = np.round(np.cumsum(shares) * count).astype(np.int64)
    sizes = np.diff(ends, prepend=0).astype(np.int64)
    rows = []
    for name, size in zip(laws, sizes, strict=True):
        kind, scale = parse_law(name)
        if size:
            ensemble = NoiseEnsemble(model, kind, scale=scale, size=int(size), seed=seed, role="fitting")
            require_fitting(ensemble)
            w = ensemble.weights()
            rows.append(np.concatenate([w.W_hh.reshape(size, -1), w.W_hi, w.W_oh.reshape(size, -1)], axis=1))
    order = np.random.Generator(np.random.Philox(domain_seed("fitting", seed, 1))).permutation(count)
    return np.concatenate(rows)[order], np.repeat(np.arange(len(laws)), sizes)[order]


def _label(
    model: RNN, weights: NDArray[np.float32], samples: int, seed: int, threads: int, folder: Folder, name: str,
    bar: Progress,
) -> tuple[Floats, float]:  # fmt: skip
    """Accuracies (2, networks) from two tables of ``samples / 2`` points, and the seconds that they took."""
    stored = folder.load(name)
    began = time.monotonic() - (float(stored["seconds"]) if stored else 0.0)
    halves = np.full((2, len(weights)), np.nan) if stored is None else stored["halves"]
    step = labelling.TABLE_NETWORKS
    fresh = 0
    for i in range(0, len(weights), step):
        block = slice(i, i + step)
        if np.isnan(halves[:, block]).any():
            for half in range(2):
                halves[half, block] = labelling.labels(
                    weights[block],
                    model.task,
                    model.seq_len,
                    model.hidden_size,
                    samples // 2,
                    domain_seed("fitting", seed, 2, i, half),
                    threads,
                )
            fresh += 1
            if fresh % 16 == 0:
                folder.save(name, halves=halves, seconds=time.monotonic() - began)
        bar.advance(len(weights[block]))
    seconds = time.monotonic() - began
    if fresh:
        folder.save(name, halves=halves, seconds=seconds)
    return halves, seconds


def _save_rule(folder: Folder, name: str, rule: Rule, seconds: float) -> None:
    p = rule.points
    folder.save(
        name, level_sizes=p.level_sizes, parent=p.parent, x=p.x, target=p.target, scale=rule.scale, mean=rule.mean,
        sd=rule.sd, shift=rule.shift, center=rule.center, spread=rule.spread, b0=rule.b0, linear=rule.linear,
        hidden=rule.hidden, bias=rule.bias, out=rule.out, seconds=seconds,
    )  # fmt: skip


def _load_rule(folder: Folder, name: str) -> tuple[Rule, float] | None:
    a = folder.load(name)
    if a is None:
        return None
    seconds = float(a.pop("seconds"))
    points = Points(a.pop("level_sizes"), a.pop("parent"), a.pop("x"), a.pop("target"))
    center, spread, b0 = (float(a.pop(key)) for key in ("center", "spread", "b0"))
    return Rule(points=points, center=center, spread=spread, b0=b0, **a), seconds


def arrays_of(rule: Rule) -> dict[str, NDArray[Any]]:
    """The rule as advice keeps it: standardisation folded into weights, float32."""
    count = len(rule.points)
    features = len(rule.linear) // count
    linear = rule.spread * rule.linear / rule.sd
    hidden = rule.hidden / rule.sd
    small: dict[str, Any] = {
        "inverse_scale": np.squeeze(1 / rule.scale, axis=1) if rule.scale.shape[1] == 1 else 1 / rule.scale,
        "linear": linear.reshape(count, features),
        "hidden": hidden.reshape(rule.units, count, features).transpose(1, 2, 0),
        "bias": rule.bias - hidden @ rule.mean,
        "out": rule.spread * rule.out,
        "x": rule.points.x,
        "shift": rule.shift,
    }
    return {
        **{key: np.ascontiguousarray(value, dtype=np.float32) for key, value in small.items()},
        "level_sizes": rule.points.level_sizes.astype(np.int32),
        "parent": rule.points.parent.astype(np.int32),
        "target": rule.points.target.astype(np.int32),
        "intercept": np.array(rule.center + rule.spread * rule.b0 - linear @ rule.mean),
    }


#: Points that the variance of a squared error is measured on.
_VARIANCE_SAMPLES = 16384
#: Weights in each sum of the sketch.
_SKETCH_SIZE = 3


def _sketch_groups(model: RNN) -> int:
    """How many sums the sketch has: they cost at most half a forward pass, if 8 do not cost more."""
    return 2 * int(np.clip(model.forward_multiply_adds // (4 * (_SKETCH_SIZE + 2)), 4, 16))


def _sketch_cost(model: RNN) -> int:
    """Multiply-adds of the sketch: its sums, and the squares of their differences."""
    return _sketch_groups(model) * (_SKETCH_SIZE + 2)


def _sketch(weights: NDArray[np.float32], groups: int, rng: np.random.Generator) -> dict[str, Any]:
    """Signed sums of a few weights: half of the groups from the smaller weights, half from the larger ones."""
    order = np.argsort(np.abs(weights))
    order = order[np.abs(weights[order]) > 0]
    if len(order) < 2:
        raise ValueError("model must have weights that are not zero for a cubature to be fitted")
    # Not from the smallest ones: noise of one size would drown them.
    small, large = np.array_split(order[len(order) // 5 :], 2)
    index = np.array(
        [
            rng.choice(part, _SKETCH_SIZE, replace=len(part) < _SKETCH_SIZE)
            for part in (small, large)
            for _ in range(groups // 2)
        ]
    )
    sign = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), index.shape)
    chosen = weights[index].astype(np.float64)
    return {
        "index": index.astype(np.int32),
        "sign": sign,
        "sum": (sign * chosen).sum(axis=1),
        "scale": np.sqrt((chosen**2).sum(axis=1)),
    }


def _log_noise(sketch: Mapping[str, Any], weights: NDArray[np.float32]) -> Floats:
    """Logs of the noise of small weights, of large ones and of their mean, (3, networks), as the core measures it.

    ``weights`` has shape (networks, parameters).
    """
    sums = (weights[:, sketch["index"]].astype(np.float64) * sketch["sign"]).sum(axis=2)
    squared = ((sums - sketch["sum"]) / sketch["scale"]) ** 2
    half = squared.shape[1] // 2
    small, large = squared[:, :half].mean(axis=1), squared[:, half:].mean(axis=1)
    return np.log(np.maximum([small, large, (small + large) / 2], 1e-300))


def _law_table(log_noise: Floats, law: NDArray[np.int64], laws: int) -> Floats:
    """What the sketch shows under each law, as `outsample.advice` describes it, (laws, 5)."""
    rows = []
    for i in range(laws):
        own = log_noise[:2, law == i]
        down = np.linalg.inv(np.linalg.cholesky(np.cov(own) + 1e-9 * np.eye(2)))
        rows.append([*own.mean(axis=1), down[0, 0], down[1, 0], down[1, 1]])
    return np.array(rows)


def _errors(errors: Floats, law: NDArray[np.int64], laws: int) -> Floats:
    """Root mean squared error under each law, from the errors (2, networks) against both labels of each network.

    Networks whose labels come from one table share a part of the labels' errors (on ARC's network a tenth of their
    variance under mul-0.01, a third under mul-0.003); tables are independent. So this part is taken out with the mean
    of each table: what is left gives the variance of the errors, and the mean over all tables the bias. Neither
    is stated to be smaller than what the labels let one see.
    """
    table = np.arange(errors.shape[1]) // labelling.TABLE_NETWORKS
    result = np.empty(laws)
    for i in range(laws):
        own, cell = errors[:, law == i], table[law == i]
        size = np.bincount(cell)
        means = np.stack([np.bincount(cell, row) / np.maximum(size, 1) for row in own])
        product = np.prod(own - means[:, cell], axis=0)
        tables = np.count_nonzero(size)
        free = max(len(cell) - tables, 1)
        variance = max(product.sum() / free, product.std() * np.sqrt(len(cell)) / free)
        bias = max(np.prod(own.mean(axis=1)), np.prod(means[:, size > 0].std(axis=1)) / tables)
        result[i] = np.sqrt(max(variance + bias, 1e-14))
    return result


def _plain_variances(model: RNN, data: _Labelled, laws: int, seed: int, threads: int) -> Floats:
    """Mean under each law of the variance of one plain sample."""
    result = np.zeros(laws)
    for i in range(laws):
        own = data.law == i
        if model.task.quantity == "accuracy":
            p = data.accuracy[own]
            result[i] = (p * (1 - p)).mean()
        else:
            result[i] = labelling.moments(
                data.weights[own][: labelling.TABLE_NETWORKS], model.task, model.seq_len, model.hidden_size,
                _VARIANCE_SAMPLES, domain_seed("fitting", seed, 5, i), threads,
            )[1].mean()  # fmt: skip
    return result


#: Penalties that the last regression is tried with.
_RIDGES = (3e-5, 2e-4, 1e-3)


def _selection_networks(size: int) -> int:
    """Networks that points are chosen by: several for each point."""
    return int(np.clip(64 * size, 4096, max(8192, 6 * size)))


def _fit_rule(
    model: RNN, size: int, plan: Effort, data: TrainingSet, seed: int, candidates: int, bar: Progress,
    given: Points | None = None,
) -> Rule:  # fmt: skip
    """A rule of one size, from the best of several sets of candidates, of which ``given`` points are the first."""
    # Some networks say when to stop, which penalty is best, and which rule.
    cut = len(data) - min(len(data) // 8, 16384)
    used, watch = data.part(slice(cut)), data.part(slice(cut, None))
    features = plan.features if data.outputs >= 3 else 3

    def report(step: int, current: Rule, value: float) -> None:
        bar.advance(note=f"size {size}: {value:.3g}")

    def chosen(start: int) -> tuple[Points, np.random.Generator]:
        rng = np.random.Generator(np.random.Philox(domain_seed("fitting", seed, 3, size, *[start] * (start > 0))))
        if given is not None and start == 0:
            pool = given
        else:
            branching = plan.branching[max(0, len(plan.branching) - model.seq_len + 1) :]
            roots = max(1, candidates // int(np.prod(branching)))
            pool = random_points(model.task, model.seq_len, branching, roots, rng)
        selection = Selection(pool, data.part(slice(_selection_networks(size))))
        # A point's share of the readout, squares included.
        selection.costs[pool.level_begin[-2] :] += features * (1 + plan.units) + 2 * (features == 7)
        points = selection.choose(size * model.forward_multiply_adds - plan.units - _sketch_cost(model))
        bar.advance()
        return points, rng

    def begun(start: int) -> tuple[Rule, GaussNewton]:
        points, rng = chosen(start)
        first = used.part(slice(max(8192, 3 * features * len(points))))
        rule = linear_rule(points, first, ridge=3e-4, features=features)
        newton = GaussNewton(used, decay=plan.decay, batch=plan.batch)
        rule = newton.run(rule, plan.linear_steps, watch, report)
        if plan.units:
            rule = newton.run(with_units(rule, plan.units, rng), plan.first_steps, watch, report)
        return rule, newton

    if plan.blocks > 1:
        points, rng = chosen(0)
        rule = linear_rule(points, used.part(slice(6 * 3 * len(points))), ridge=3e-4)
        return train_in_blocks(
            with_features(rule, used, features), used, watch, blocks=plan.blocks, sweeps=plan.sweeps,
            steps=plan.linear_steps, decay=plan.decay, batch=plan.batch, ridges=_RIDGES, rng=rng,
            report=lambda rule, value: report(0, rule, value),
        )  # fmt: skip
    rule, newton = min((begun(start) for start in range(plan.starts)), key=lambda pair: watch.error(pair[0]))
    rule = newton.run(rule, plan.steps - plan.first_steps, watch, report)
    return best_outer_layer(rule, used, watch, _RIDGES)


def _points_of(size: AdviceSize) -> Points:
    a = size.arrays
    return Points(a["level_sizes"], a["parent"], a["x"], a["target"])


def _starting_advice(start: Advice | str | Path, model: RNN) -> Advice:
    advice = start if isinstance(start, Advice) else load_advice(start)
    shape = (model.task.name, model.hidden_size, model.seq_len)
    if advice.shape != shape or advice.transferred:
        raise ValueError(
            f"start must be advice for one network of task, hidden_size and seq_len {shape}, got {advice!r}"
        )
    return advice


def fit_cubature(
    model: RNN,
    *,
    noise: Noise | None = None,
    sizes: Sequence[int] = DEFAULT_SIZES,
    networks: int = DEFAULT_NETWORKS,
    samples: int = 16384,
    calibration: int = 32768,
    candidates: int = 16384,
    seed: int = 0,
    folder: str | Path | None = None,
    start: Advice | str | Path | None = None,
    threads: int = 1,
    progress: bool | None = None,
    efforts: Mapping[int, Effort] | None = None,
) -> Advice:
    """Prepare advice for noisy copies of a trained network.

    Labels come from randomised quasi-Monte Carlo, points from a greedy choice among random candidates that share
    prefixes, and then points and readout are improved together by damped Gauss-Newton steps. The standard error and the
    reported numbers of equivalent samples come from networks that no other stage has seen. All noise is drawn in the
    role "fitting" (`NoiseEnsemble`), so networks that methods are scored on stay unseen.

    Parameters
    ----------
    model : RNN
        The trained network, without biases.
    noise : mapping of str to float, or sequence of str, or str, optional
        Laws of noise, ``mul-SCALE`` or ``add-SCALE``, with the share of networks of each (equal if not given). Default:
        `DEFAULT_NOISE`.
    sizes : sequence of int, default (8, 32, 128, 512, 2048)
        Budgets, in forward passes, readout included.
    networks : int, default 196608
        Noisy copies to fit on.
    samples : int, default 16384
        Points per label, even.
    calibration : int, default 32768
        Further copies, for the standard error.
    candidates : int, default 16384
        Candidate points per size.
    seed : int, default 0
        Seed of everything random.
    folder : path, optional
        Where finished stages are kept; a fit that is started again with the same arguments goes on from there.
    start : Advice, str or path, optional
        Advice to improve, for this network or one like it: sizes that it has start from its points (those that the
        budget allows) in place of chosen candidates. What it took counts in the record.
    threads : int, default 1
        Threads of the core. Linear algebra runs in numpy's BLAS, which has its own setting
        (``OPENBLAS_NUM_THREADS``).
    progress : bool, optional
        Default: whether standard error is a terminal.
    efforts : mapping of int to Effort, optional
        How single sizes are fitted, in place of `effort`.

    Returns
    -------
    Advice

    Raises
    ------
    TypeError
        If ``model`` is not an RNN.
    ValueError
        If the network has biases, another argument is out of range, ``start`` is for networks of another shape or
        has none of the sizes, or ``folder`` holds a fit with other settings or of another version.
    """
    if not isinstance(model, RNN):
        raise TypeError(f"model must be an outsample.RNN, got {type(model).__name__}")
    if model.has_biases:
        raise ValueError("model must have no biases for a cubature to be fitted, got one with biases")
    if not 2 <= model.seq_len <= labelling.MAX_SEQ_LEN:
        raise ValueError(f"seq_len must be between 2 and {labelling.MAX_SEQ_LEN}, got {model.seq_len}")
    law_shares = mixture(DEFAULT_NOISE if noise is None else noise)
    for name, value, least in (
        ("networks", networks, 256),
        ("samples", samples, 64),
        ("calibration", calibration, 64),
        ("candidates", candidates, 16),
        ("threads", threads, 1),
        ("seed", seed, 0),
        *(("sizes", size, 1) for size in sizes),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if calibration < 16 * len(law_shares):
        raise ValueError(f"calibration must give every law at least 16 copies, got {calibration}")
    if samples % 2:
        raise ValueError(f"samples must be even, got {samples}")
    if not sizes:
        raise ValueError("sizes must name at least one size")
    sizes = sorted(set(sizes))
    plans = {size: (efforts or {}).get(size, effort(size)) for size in sizes}
    laws, shares = list(law_shares), np.array(list(law_shares.values()))
    settings = {
        "digest": model.digest, "noise": law_shares, "networks": networks,
        "samples": samples, "calibration": calibration, "candidates": candidates, "seed": seed,
    }  # fmt: skip
    given: dict[int, Points] = {}
    if start is not None:
        start = _starting_advice(start, model)
        given = {size: _points_of(item) for size, item in start.sizes.items() if size in sizes}
        if not given:
            raise ValueError(f"start must have one of the sizes {', '.join(map(str, sizes))}, got {start!r}")
        settings["start"] = hashlib.sha256(b"".join(p.x.tobytes() for p in given.values())).hexdigest()
    stages = Folder(folder, settings)

    seconds = 0.0
    with Progress(networks + calibration, "labels", enabled=progress) as bar:
        sets = []
        # The error is measured under each law by itself, so all have the same number of copies there.
        equal = np.full(len(laws), 1 / len(laws))
        for name, count, own, share in (
            ("training", networks, 2 * seed, shares),
            ("calibration", calibration, 2 * seed + 1, equal),
        ):
            weights, kinds = noisy_copies(model, laws, share, count, own)
            halves, own_seconds = _label(model, weights, samples, own, threads, stages, name, bar)
            sets.append(_Labelled(weights, kinds, halves))
            seconds += own_seconds
    training, held = sets

    # Every law counts by its share, in units of plain sampling's variance: the goal is the mean of 1 / N_eq.
    accuracy = training.accuracy
    plain = _plain_variances(model, training, len(laws), seed, threads)
    importance = 1 / np.maximum(plain, max(1e-3 * plain.max(), 1e-12))
    data = TrainingSet(
        training.weights, accuracy, importance[training.law], model.hidden_size,
        model.task.output_size(model.seq_len), threads,
    )  # fmt: skip
    test = replace(data, weights=held.weights, accuracy=held.accuracy, importance=np.ones(calibration))
    sketch = _sketch(
        np.concatenate([model.W_hh.ravel(), model.W_hi, model.W_oh.ravel()]),
        _sketch_groups(model),
        np.random.Generator(np.random.Philox(domain_seed("fitting", seed, 4))),
    )
    log_noise = _log_noise(sketch, held.weights)
    sketch["laws"] = _law_table(log_noise, held.law, len(laws))
    sketch["levels"] = np.stack([log_noise.min(axis=1), log_noise.max(axis=1)], axis=1)
    plain_held = _plain_variances(model, held, len(laws), seed, threads)

    result: dict[int, AdviceSize] = {}
    labelled = (networks + calibration) * 2 * labelling.label_forwards(model, samples // 2)
    evaluated = 0.0
    for size in sizes:
        plan = plans[size]
        name = f"size-{size}"
        began = time.monotonic()
        visits = plan.blocks * plan.sweeps if plan.blocks > 1 else plan.total_steps
        with Progress(plan.starts + visits, name, enabled=progress) as bar:
            stored = _load_rule(stages, name)
            if stored is None:
                rule = _fit_rule(model, size, plan, data, seed, candidates, bar, given.get(size))
                stored = rule, time.monotonic() - began
                _save_rule(stages, name, *stored)
            else:
                bar.advance(bar.total)
        rule, own_seconds = stored
        seconds += own_seconds
        # A step: values, derivatives, and five judgements; of one block, where there are several.
        per_step = 4 * min(plan.batch, networks // 2) + 5 * min(16384, networks // 4)
        evaluated += plan.starts * candidates * min(networks, _selection_networks(size))
        evaluated += size * (3.0 * networks * (plan.starts + plan.sweeps) + plan.total_steps / plan.blocks * per_step)
        errors = _errors(test.predict(rule) - held.halves, held.law, len(laws))
        equivalents = {law: float(plain_held[i] / errors[i] ** 2) for i, law in enumerate(laws)}
        arrays = arrays_of(rule) | {"error": errors}
        result[size] = AdviceSize(size, arrays, data.hidden_size, data.outputs, sketch, equivalents)

    record = {
        **settings,
        "name": model.name or "model",
        "task": model.task.name,
        "hidden_size": model.hidden_size,
        "seq_len": model.seq_len,
        "outputs": data.outputs,
        "equivalent_samples": {str(size): dict(item.equivalent_samples) for size, item in result.items()},
        "efforts": {str(size): asdict(plan) for size, plan in plans.items()},
        "label_forwards": labelled,
        "forwards": labelled + evaluated + (start.record["forwards"] if start else 0.0),
        "seconds": seconds + (start.record["seconds"] if start else 0.0),
        "threads": threads,
        "version": _core.__version__,
        "sampler": f"{labelling.SAMPLERS[model.task.quantity]}, two tables per network",
    }
    return Advice(record, result)
