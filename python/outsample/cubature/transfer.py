"""Transferred advice: points and a readout fitted on many trained networks, for networks that nothing was fitted on.

Noisy copies of one network differ in a few hundred directions, so `outsample.cubature.fit` can afford thousands of free
weights. Networks from different seeds have hidden units of different meaning and logits of different scale; only what
they do at given inputs can be compared, and there are few of them. So here

- margins are divided by the network's own mean absolute margin over the points (a *relative* readout);
- the points start as a low-discrepancy set in order-statistics coordinates, every one with a few last inputs;
- each temperature's *mean* feature over the points is free, and weights of single points are shrunk towards it: without
  evidence from other networks a point counts as much as any other. One hidden unit, a function of the sharpest
  temperature's mean, bends the line between good and bad networks;
- the inputs are moved by damped Gauss-Newton steps, whose number is chosen, like the error that is stated, by leaving
  whole trained networks out, with all their copies. Copies of a network that was fitted on say nothing about others.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outsample import _core, low_discrepancy
from outsample._progress import Progress
from outsample.advice import Advice, AdviceSize
from outsample.cubature import labels as labelling
from outsample.cubature.copies import Noise, mixture, noisy_copies
from outsample.cubature.folder import Folder
from outsample.cubature.points import Points
from outsample.cubature.rule import gelu
from outsample.models import RNN
from outsample.seeding import domain_seed
from outsample.tasks import Task

Floats = NDArray[np.float64]
Single = NDArray[np.float32]

#: Laws of noise that transferred advice is fitted on, with the share of copies of each.
TRANSFER_NOISE: dict[str, float] = {"mul-0.01": 0.5, "mul-0.003": 0.125, "mul-0.02": 0.125, "add-0.005": 0.25}
TRANSFER_SIZES = (32, 128, 512)

#: Multiply-adds of a point's readout: three weights, as many for the hidden unit, and the division by the mean
#: absolute margin.
_READOUT = 8
#: Most that one step moves an input.
_CLIP = 0.3
_SWEEPS = 300


def starting_points(task: Task, seq_len: int, roots: int, siblings: int, shift: Floats | None = None) -> Points:
    """A low-discrepancy set of first n - 1 inputs, each with last inputs at shifted normal quantiles.

    Parameters
    ----------
    task : Task
    seq_len : int
    roots : int
        Number of different first n - 1 inputs.
    siblings : int
        Last inputs of each.
    shift : ndarray, optional
        Rotation of the low-discrepancy set, one number per coordinate: `low_discrepancy.order_dimensions` and one.
    """
    inputs = seq_len - 1
    dimensions = low_discrepancy.order_dimensions(inputs)
    u = np.clip(low_discrepancy.hammersley(roots, dimensions + 1, shift=shift), 2.0**-32, 1 - 2.0**-32)
    first = low_discrepancy.order_inputs(u[:, :dimensions], inputs)
    last = low_discrepancy.normal_quantile((np.arange(siblings) + u[:, dimensions:]) / siblings)
    points = Points(
        np.array([roots] * inputs + [roots * siblings], dtype=np.int32),
        np.concatenate(
            [np.zeros(roots), *[np.arange(roots)] * (inputs - 1), np.repeat(np.arange(roots), siblings)]
        ).astype(np.int32),
        np.concatenate([first.T.ravel(), last.ravel()]).astype(np.float32),
        np.zeros(roots * siblings, dtype=np.int32),
    )
    return _with_answers(points, task)


def _with_answers(points: Points, task: Task) -> Points:
    return replace(points, target=task.target(points.inputs).astype(np.int32))


def features(z: Single) -> Single:
    """tanh(0.5 z), tanh(1.5 z), tanh(4.5 z) of relative margins (points, copies), as (points, 3, copies)."""
    result = np.empty((z.shape[0], 3, z.shape[1]), dtype=np.float32)
    np.tanh(np.float32(0.5) * z, out=result[:, 0])
    for k in (1, 2):  # the triple-angle formula
        u = result[:, k - 1]
        square = u * u
        result[:, k] = u * (square + 3) / (3 * square + 1)
    return result


@dataclass(frozen=True, eq=False)
class _Copies:
    """Labelled noisy copies of several networks."""

    weights: Single  # (copies, parameters)
    accuracy: Floats
    law: NDArray[np.int64]
    network: NDArray[np.int64]  # of which trained network
    importance: Floats  # of the squared error, 1 / variance of a plain sample under the law
    hidden_size: int
    outputs: int
    threads: int

    def __len__(self) -> int:
        return len(self.accuracy)

    def part(self, chosen: NDArray[np.bool_]) -> _Copies:
        return replace(
            self, weights=self.weights[chosen], accuracy=self.accuracy[chosen], law=self.law[chosen],
            network=self.network[chosen], importance=self.importance[chosen],
        )  # fmt: skip

    def margins(self, points: Points) -> tuple[Single, Single]:
        """Relative margins (points, copies), and what they were divided by (copies,)."""
        margins = points.forest.margins(self.weights, self.hidden_size, self.outputs, self.threads)
        scale = np.maximum(np.abs(margins).mean(axis=0, dtype=np.float64), 1e-30).astype(np.float32)
        margins /= scale
        return margins, scale

    def tangents(self, points: Points, scale: Single, coefficients: Single) -> Single:
        """Derivatives (inputs, copies) of the coefficients' sum of features, the scale taken for constant."""
        d = self.hidden_size
        scaled = self.weights.copy()
        scaled[:, d * (d + 1) :] /= scale[:, None]
        ones, nothing = np.ones(len(points), dtype=np.float32), np.empty(0, dtype=np.float32)
        through = coefficients.reshape(3 * len(points), -1)
        return points.forest.tangents(scaled, d, self.outputs, ones, nothing, through, self.threads)


def _regression(
    free: Floats, columns: Single, penalty: Floats, target: Floats, weight: Floats
) -> tuple[Floats, Floats]:
    """Weighted ridge regression of a target on free rows (without penalty) and penalised rows, (rows, copies).

    Overwrites ``columns``. The free rows are projected out and the rest is solved by conjugate gradients.
    """
    root = np.sqrt(weight / weight.sum())
    q, r = np.linalg.qr((free * root).T)
    y = target * root
    columns *= root.astype(np.float32)
    y_left = (y - q @ (q.T @ y)).astype(np.float32)
    through = columns @ q.astype(np.float32)
    columns -= through @ q.T.astype(np.float32)
    shrink = penalty.astype(np.float32)
    solution = np.zeros(len(columns), dtype=np.float32)
    residual = columns @ y_left
    inverse = 1 / (np.einsum("cn,cn->c", columns, columns) + shrink)
    z = inverse * residual
    direction = z.copy()
    rz = start = float(residual @ z)
    for _ in range(_SWEEPS):
        if not rz > 1e-9 * start:
            break
        image = columns @ (direction @ columns) + shrink * direction
        alpha = np.float32(rz / float(direction @ image))
        solution += alpha * direction
        residual -= alpha * image
        z = inverse * residual
        rz, before = float(residual @ z), rz
        direction = z + np.float32(rz / before) * direction
    # The projected rows are orthogonal to the free ones: these explain what is left of the target.
    return np.linalg.solve(r, q.T @ y - through.T @ solution), solution.astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Rule:
    """Points, and intercept + sum of linear * feature + out * gelu(bias + slope * mean of the sharpest features)."""

    points: Points
    linear: Floats  # (points, 3)
    intercept: float
    slope: float
    bias: float
    out: float

    def predict(self, margins: Single) -> Floats:
        f = features(margins)
        unit, _ = self.unit(f)
        value = np.einsum("pk,pkn->n", self.linear.astype(np.float32), f) + np.float32(self.out) * unit
        return np.asarray(self.intercept + value.astype(np.float64))

    def unit(self, f: Single) -> tuple[Single, Single]:
        """The hidden unit and its derivative, of features (points, 3, copies)."""
        return gelu(np.float32(self.slope) * f[:, 2].mean(axis=0) + np.float32(self.bias))

    def slopes(self, f: Single) -> Single:
        """Derivatives of the value with respect to features (points, 3, copies)."""
        _, gate = self.unit(f)
        through = np.empty_like(f)
        through[:] = self.linear[:, :, None]
        through[:, 2] += gate * np.float32(self.out * self.slope / len(self.points))
        return through


def _fit(
    points: Points, margins: Single, copies: _Copies, decay: float, tangents: Single | None = None, damping: float = 0.0
) -> tuple[_Rule, Floats, float]:
    """Readout of given points, moves of their inputs, and the objective that the readout reaches."""
    f = features(margins)
    count = len(points)
    mean = f.mean(axis=2, dtype=np.float64)
    f -= mean.astype(np.float32)[:, :, None]
    spread = np.sqrt((f.astype(np.float32) ** 2).mean(axis=(0, 2), dtype=np.float64))
    sums = f.mean(axis=0, dtype=np.float64)
    sd = sums.std(axis=1)
    sums /= sd[:, None]
    unit, _ = gelu(sums[2].astype(np.float32))
    free = np.concatenate([np.ones((1, len(copies))), sums, unit[None]])
    f /= (spread * np.sqrt(3 * count)).astype(np.float32)[:, None]
    columns = f.reshape(3 * count, -1)
    penalty = np.full(3 * count, decay)
    if tangents is not None:
        size = np.einsum("qn,qn->q", tangents, tangents) / len(copies)
        columns = np.concatenate([columns, tangents])
        penalty = np.concatenate([penalty, damping * (size + 1e-3 * size.mean())])
    b_free, b = _regression(free, columns, penalty, copies.accuracy, copies.importance)
    single = b[: 3 * count].reshape(count, 3) / (spread * np.sqrt(3 * count))
    linear = single + b_free[1:4] / sd / count
    intercept = float(b_free[0] - (linear * mean).sum())
    rule = _Rule(points, linear, intercept, 1 / sd[2], -mean[:, 2].mean() / sd[2], float(b_free[4]))
    error = (copies.importance * (rule.predict(margins) - copies.accuracy) ** 2).mean() / copies.importance.mean()
    return rule, b[3 * count :], float(error + penalty[: 3 * count] @ b[: 3 * count] ** 2)


def _train(
    points: Points, task: Task, copies: _Copies, decay: float, steps: int, watch: _Copies | None
) -> tuple[_Rule, list[Floats]]:
    """Move the inputs by damped Gauss-Newton steps; also what every stage predicts for ``watch``."""
    margins, scale = copies.margins(points)
    rule, _, objective = _fit(points, margins, copies, decay)
    watched = []
    damping = 1.0
    for step in range(steps + 1):
        if watch is not None:
            watched.append(rule.predict(watch.margins(rule.points)[0]))
        if step == steps:
            break
        tangents = copies.tangents(rule.points, scale, rule.slopes(features(margins)))
        for _ in range(4):
            _, move, _ = _fit(rule.points, margins, copies, decay, tangents, damping)
            moved = _with_answers(rule.points.moved(rule.points.x + np.clip(move, -_CLIP, _CLIP)), task)
            new_margins, new_scale = copies.margins(moved)
            new, _, value = _fit(moved, new_margins, copies, decay)
            if value < objective:
                rule, margins, scale, objective = new, new_margins, new_scale, value
                damping = max(0.6 * damping, 0.05)
                break
            damping *= 6
    return rule, watched


@dataclass(frozen=True)
class TransferPlan:
    """How one size is fitted.

    Attributes
    ----------
    starts : int
        Rotations of the points that are tried.
    siblings : int
        Last inputs of each point.
    decay : float
        Penalty on single points' weights, in units of the features' spread.
    steps : int
        Most Gauss-Newton steps on the inputs; how many are taken, and from which start, is chosen by leaving networks
        out.
    copies : int
        Noisy copies per trained network that the fit uses.
    """

    starts: int = 3
    siblings: int = 4
    decay: float = 0.003
    steps: int = 20
    copies: int = 240


def plan_of(size: int) -> TransferPlan:
    """What works best at a size: larger ones have more inputs than the networks can tell how to move."""
    if size <= 64:
        return TransferPlan()
    if size <= 256:
        return TransferPlan(starts=2, steps=8)
    return TransferPlan(starts=1, steps=4, copies=160)


def _labelled(
    networks: Sequence[RNN], laws: Sequence[str], shares: Floats, count: int, samples: int, seed: int, threads: int,
    folder: Folder, bar: Progress,
) -> tuple[_Copies, float]:  # fmt: skip
    """Copies of all networks with their accuracies, and the seconds that took."""
    first = networks[0]
    accuracy: list[Floats] = []
    seconds = 0.0
    if stored := folder.load("labels"):
        accuracy, seconds = list(stored["accuracy"]), float(stored["seconds"])
    began = time.monotonic() - seconds
    weights, law = [], []
    for i, model in enumerate(networks):
        w, own = noisy_copies(model, laws, shares, count, 100_000 * seed + i)
        weights.append(w)
        law.append(own)
        if i == len(accuracy):
            tables = [
                labelling.labels(
                    w[a : a + labelling.TABLE_NETWORKS], model.task, model.seq_len, model.hidden_size, samples,
                    domain_seed("fitting", seed, 6, i, a), threads,
                )
                for a in range(0, count, labelling.TABLE_NETWORKS)
            ]  # fmt: skip
            accuracy.append(np.concatenate(tables))
            seconds = time.monotonic() - began
            folder.save("labels", accuracy=accuracy, seconds=seconds)
        bar.advance()
    p, kind = np.concatenate(accuracy), np.concatenate(law)
    # Every law counts by its share, in units of plain sampling's variance: the objective is the mean of 1 / N_eq.
    plain = np.array([(p * (1 - p))[kind == i].mean() for i in range(len(laws))])
    copies = _Copies(
        np.concatenate(weights), p, kind, np.repeat(np.arange(len(networks)), count),
        (1 / np.maximum(plain, max(1e-3 * plain.max(), 1e-12)))[kind], first.hidden_size,
        first.task.output_size(first.seq_len), threads,
    )  # fmt: skip
    return copies, seconds


def _arrays(rule: _Rule) -> dict[str, NDArray[Any]]:
    """The rule as advice keeps it."""
    count = len(rule.points)
    hidden = np.zeros((count, 3, 1))
    hidden[:, 2] = rule.slope / count
    small: dict[str, Any] = {
        "inverse_scale": np.ones(count), "linear": rule.linear, "hidden": hidden, "bias": np.array([rule.bias]),
        "out": np.array([rule.out]), "x": rule.points.x,
    }  # fmt: skip
    return {
        **{key: np.ascontiguousarray(value, dtype=np.float32) for key, value in small.items()},
        "level_sizes": rule.points.level_sizes.astype(np.int32),
        "parent": rule.points.parent.astype(np.int32),
        "target": rule.points.target.astype(np.int32),
        "intercept": np.array(rule.intercept),
    }


def _best_quarter(data: _Copies, group: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which copies are of the most accurate quarter of the groups."""
    means = np.bincount(group, data.accuracy) / np.bincount(group)
    return np.isin(group, np.argsort(means)[-max(1, len(means) // 4) :])


def _fit_size(
    size: int, plan: TransferPlan, model: RNN, data: _Copies, fold: NDArray[np.int64], best: NDArray[np.bool_],
    seed: int, bar: Progress,
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """The rule of one size as advice keeps it, and what cross-validation says.

    ``predicted`` are the estimates of all copies by fits that have seen none of their networks; ``start`` and ``taken``
    the rotation and the number of steps that they choose; ``beyond`` the estimates of the best networks' copies by a
    fit on all others.
    """
    task, n, d = model.task, model.seq_len, data.hidden_size
    root_cost = (n - 1) * (d + d * d) + plan.siblings * (d + d * data.outputs + _READOUT)
    roots = max(1, (size * model.forward_multiply_adds - 1) // root_cost)
    rotations = [
        np.random.Generator(np.random.Philox(domain_seed("fitting", seed, 7, start))).random(
            low_discrepancy.order_dimensions(n - 1) + 1
        )
        for start in range(plan.starts)
    ]
    starts = [starting_points(task, n, roots, plan.siblings, rotation) for rotation in rotations]
    copies = np.bincount(data.network).max()
    used = np.arange(len(data)) % copies < plan.copies
    predicted = np.empty((plan.starts, plan.steps + 1, len(data)))
    for points, stages in zip(starts, predicted, strict=True):
        for left_out in np.unique(fold):
            watch = fold == left_out
            fitted = data.part(~watch & used)
            stages[:, watch] = _train(points, task, fitted, plan.decay, plan.steps, data.part(watch))[1]
            bar.advance()
    scores = ((predicted - data.accuracy) ** 2 * data.importance).mean(axis=2)
    start, taken = map(int, np.unravel_index(scores.argmin(), scores.shape))
    beyond = _train(starts[start], task, data.part(~best & used), plan.decay, taken, data.part(best))[1][-1]
    bar.advance()
    rule, _ = _train(starts[start], task, data.part(used), plan.decay, taken, None)
    bar.advance()
    return _arrays(rule) | {
        "predicted": predicted[start, taken], "beyond": beyond, "start": np.array(start), "taken": np.array(taken)
    }  # fmt: skip


#: Shares of copies, by their estimates, that cut the parts in each of which the error is measured. Where estimates lie
#: in the last two, a network may be better than all that were fitted on.
_PARTS = (0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97)


def _error_by_estimate(predicted: Floats, accuracy: Floats, beyond: float) -> NDArray[np.float64]:
    """Mean estimates of the parts, and root mean squared errors in units of sqrt(p (1 - p)), (2, parts)."""
    part = np.searchsorted(np.quantile(predicted, _PARTS), predicted)
    count = np.bincount(part, minlength=len(_PARTS) + 1)
    estimate, squared, plain = (
        np.bincount(part, values, len(count))
        for values in (predicted, (predicted - accuracy) ** 2, accuracy * (1 - accuracy))
    )
    relative = np.sqrt(squared / np.maximum(plain, 1e-12))
    relative[-2:] = np.maximum(relative[-2:], beyond**-0.5)
    some = count > 0
    return np.stack([estimate[some] / count[some], np.maximum(relative[some], 1e-7)])


#: There is no one network to compare weights with: an empty sketch, and one law.
_NO_SKETCH: dict[str, NDArray[Any]] = {
    "index": np.zeros((0, 3), dtype=np.int32),
    "sign": np.zeros((0, 3), dtype=np.float32),
    "sum": np.zeros(0),
    "scale": np.zeros(0),
    "laws": np.array([[0.0, 0.0, 1.0, 0.0, 1.0]]),
    "levels": np.zeros((3, 2)),
}


def fit_transferred(
    networks: Sequence[RNN],
    *,
    groups: Sequence[int] | None = None,
    noise: Noise | None = None,
    sizes: Sequence[int] = TRANSFER_SIZES,
    copies: int = 240,
    samples: int = 16384,
    folds: int = 4,
    seed: int = 0,
    folder: str | Path | None = None,
    threads: int = 1,
    progress: bool | None = None,
    plans: Mapping[int, TransferPlan] | None = None,
    training_sequences: float = 0.0,
) -> Advice:
    """Prepare advice for networks of a shape from trained networks of that shape.

    The error that is stated, the reported numbers of equivalent samples and the number of Gauss-Newton steps come from
    cross-validation over trained networks: each network, with all its copies, is estimated by a fit that has not seen
    any of its copies.

    Parameters
    ----------
    networks : sequence of RNN
        Trained networks of one task and shape, without biases; the more seeds, the better.
    groups : sequence of int, optional
        Networks that belong together (from one training run) have the same number and are left out together. Default:
        each its own.
    noise : mapping of str to float, or sequence of str, or str, optional
        Laws of noise, ``mul-SCALE`` or ``add-SCALE``, with the share of copies of each (equal if not given). Default:
        `TRANSFER_NOISE`.
    sizes : sequence of int, default (32, 128, 512)
        Budgets, in forward passes, readout included.
    copies : int, default 240
        Noisy copies of each network.
    samples : int, default 16384
        Points per label.
    folds : int, default 4
        Parts that the networks are left out in.
    seed : int, default 0
        Seed of everything random.
    folder : path, optional
        Where finished labels and sizes are kept; a fit that is started again with the same arguments, but for sizes
        and threads, goes on from there.
    threads : int, default 1
        Threads of the core.
    progress : bool, optional
        Default: whether standard error is a terminal.
    plans : mapping of int to TransferPlan, optional
        How single sizes are fitted, in place of `plan_of`.
    training_sequences : float, default 0
        Sequences that the networks were trained on, for the advice's cost: three forward passes each.

    Returns
    -------
    Advice

    Raises
    ------
    TypeError
        If ``networks`` holds something else than RNN.
    ValueError
        If networks differ in task or shape, have biases, or are of a task that is not about accuracy, another argument
        is out of range, or ``folder`` holds a fit with other settings or of another version.
    """
    for model in networks:
        if not isinstance(model, RNN):
            raise TypeError(f"networks must be outsample.RNN, got {type(model).__name__}")
        if model.shape != networks[0].shape or model.has_biases:
            raise ValueError("networks must have one task and shape and no biases")
        if model.task.quantity != "accuracy" or model.seq_len < 2:
            raise ValueError(f"networks must be judged by their accuracy, on 2 inputs or more, got {model.name!r}")
    groups = list(range(len(networks))) if groups is None else list(groups)
    for name, value, least in (
        ("folds", folds, 2), ("networks", len(set(groups)), folds), ("samples", samples, 64), ("copies", copies, 8),
        ("seed", seed, 0), ("threads", threads, 1), *(("sizes", size, 4) for size in sizes),
    ):  # fmt: skip
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if len(groups) != len(networks):
        raise ValueError(f"groups must have one entry per network, {len(networks)}, got {len(groups)}")
    if not sizes:
        raise ValueError("sizes must name at least one size")
    law_shares = mixture(TRANSFER_NOISE if noise is None else noise)
    laws, shares = list(law_shares), np.array(list(law_shares.values()))
    if copies * shares.min() < 1:
        raise ValueError(f"copies must be enough for one under each law of noise, got {copies}")
    first = networks[0]
    settings = {
        "noise": law_shares, "copies": copies, "samples": samples, "folds": folds, "seed": seed,
    }  # fmt: skip
    stages = Folder(folder, settings | {
        "groups": groups,
        "digest": hashlib.sha256("".join(model.digest for model in networks).encode()).hexdigest(),
        "plans": {str(size): asdict(plan) for size, plan in (plans or {}).items()},
    })  # fmt: skip
    with Progress(len(networks), "labels", enabled=progress) as bar:
        data, seconds = _labelled(networks, laws, shares, copies, samples, seed, threads, stages, bar)
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    group = np.array([number[g] for g in groups])[data.network]
    fold = group % folds
    best = _best_quarter(data, group)
    variance = data.accuracy * (1 - data.accuracy)

    def equivalent_samples(squared: Floats, chosen: NDArray[np.bool_]) -> float:
        return float(variance[chosen].mean() / squared[chosen].mean())

    result: dict[int, AdviceSize] = {}
    chosen_plans: dict[int, dict[str, Any]] = {}
    by_network: dict[int, list[float]] = {}
    beyond: dict[int, float] = {}
    labelled = copies * sum(labelling.label_forwards(model, samples) for model in networks)
    spent = labelled
    for size in sorted(set(sizes)):
        plan = (plans or {}).get(size, plan_of(size))
        began = time.monotonic()
        with Progress(plan.starts * folds + 2, f"size {size}", enabled=progress) as bar:
            fitted = stages.load(f"size-{size}")
            if fitted is None:
                fitted = _fit_size(size, plan, first, data, fold, best, seed, bar)
                fitted["seconds"] = np.array(time.monotonic() - began)
                stages.save(f"size-{size}", **fitted)
            else:
                bar.advance(bar.total)
        seconds += float(fitted.pop("seconds"))
        start, taken = (int(fitted.pop(key)) for key in ("start", "taken"))
        predicted = fitted.pop("predicted")
        squared = (predicted - data.accuracy) ** 2
        # A step: values, derivatives, and values of one trial or more.
        spent += size * len(data) * (plan.starts * folds * (4.0 * plan.steps + 2) + 8.0 * taken)
        own = {law: data.law == i for i, law in enumerate(laws)}
        equivalents = {law: equivalent_samples(squared, m) for law, m in own.items()}
        of_first = [own[laws[0]] & (data.network == i) for i in range(len(networks))]
        by_network[size] = [equivalent_samples(squared, m) for m in of_first]
        worth = 1 / sum(share / equivalents[law] for law, share in zip(laws, shares, strict=True))
        outside = np.zeros(len(data))
        outside[best] = (fitted.pop("beyond") - data.accuracy[best]) ** 2
        beyond[size] = min(worth, *(equivalent_samples(outside, best & m) for m in own.values()))
        arrays = fitted | {
            "error": np.array([worth**-0.5]),
            "error_by_estimate": _error_by_estimate(predicted, data.accuracy, beyond[size]),
        }
        result[size] = AdviceSize(
            size, arrays, data.hidden_size, data.outputs, _NO_SKETCH, equivalents, transferred=True
        )
        chosen_plans[size] = {**asdict(plan), "start": start, "taken": taken}
    record = {
        **settings,
        "name": f"transferred_{first.task.name}_{first.hidden_size}_{first.seq_len}",
        "transferred": True,
        "task": first.task.name,
        "hidden_size": first.hidden_size,
        "seq_len": first.seq_len,
        "outputs": data.outputs,
        "networks": [{"name": model.name, "digest": model.digest} for model in networks],
        "groups": len(set(groups)),
        "plans": {str(size): plan for size, plan in chosen_plans.items()},
        "equivalent_samples": {str(size): dict(item.equivalent_samples) for size, item in result.items()},
        "equivalent_samples_by_network": {str(size): found for size, found in by_network.items()},
        "equivalent_samples_beyond": {str(size): found for size, found in beyond.items()},
        "accuracies": [float(np.quantile(data.accuracy, q)) for q in (0.001, 0.999)],
        "label_forwards": labelled,
        "training_sequences": float(training_sequences),
        "forwards": spent + 3 * float(training_sequences),
        "seconds": seconds,
        "threads": threads,
        "version": _core.__version__,
    }
    return Advice(record, result)
