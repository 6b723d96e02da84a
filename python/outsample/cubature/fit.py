"""The offline pipeline: from a trained network to advice."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outsample import _core
from outsample._progress import Progress
from outsample.advice import Advice, AdviceSize, load_advice
from outsample.cubature import labels as labelling
from outsample.cubature.blocks import train_in_blocks
from outsample.cubature.calibration import (
    CALIBRATION_COPIES,
    CALIBRATION_SAMPLES,
    Calibration,
    make_sketch,
    plain_variances,
    require_calibration,
    sketch_cost,
)
from outsample.cubature.copies import DEFAULT_NOISE, Labelled, Noise, label, mixture, noisy_copies
from outsample.cubature.folder import Folder
from outsample.cubature.gauss_newton import GaussNewton
from outsample.cubature.points import Points, random_points
from outsample.cubature.rule import Rule, TrainingSet, best_outer_layer, linear_rule, with_features, with_units
from outsample.cubature.selection import Selection
from outsample.models import RNN
from outsample.seeding import domain_seed

Floats = NDArray[np.float64]

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


#: Penalties that the last regression is tried with.
_RIDGES = (3e-5, 2e-4, 1e-3)


def _selection_networks(size: int) -> int:
    """Networks that points are chosen by: several for each point."""
    return int(np.clip(64 * size, 4096, max(8192, 6 * size)))


def _fit_rule(
    model: RNN, size: int, plan: Effort, data: TrainingSet, seed: int, candidates: int, spent: int, bar: Progress,
    given: Points | None = None,
) -> Rule:  # fmt: skip
    """A rule of one size, from the best of several sets of candidates, of which ``given`` points are the first.

    ``spent``: multiply-adds that something else takes.
    """
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
        points = selection.choose(size * model.forward_multiply_adds - plan.units - spent)
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
    calibration: int = CALIBRATION_COPIES,
    calibration_samples: int = CALIBRATION_SAMPLES,
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
    calibration : int, default 16384
        Further copies, for the standard error.
    calibration_samples : int, default 65536
        Points per label of these, even.
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
        ("candidates", candidates, 16),
        ("threads", threads, 1),
        ("seed", seed, 0),
        *(("sizes", size, 1) for size in sizes),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    if samples % 2:
        raise ValueError(f"samples must be even, got {samples}")
    require_calibration(calibration, calibration_samples, len(law_shares), "calibration_samples")
    if not sizes:
        raise ValueError("sizes must name at least one size")
    sizes = sorted(set(sizes))
    plans = {size: (efforts or {}).get(size, effort(size)) for size in sizes}
    laws, shares = list(law_shares), np.array(list(law_shares.values()))
    settings = {
        "digest": model.digest, "noise": law_shares, "networks": networks,
        "samples": samples, "calibration": calibration, "calibration_samples": calibration_samples,
        "candidates": candidates, "seed": seed,
    }  # fmt: skip
    given: dict[int, Points] = {}
    if start is not None:
        start = _starting_advice(start, model)
        given = {size: _points_of(item) for size, item in start.sizes.items() if size in sizes}
        if not given:
            raise ValueError(f"start must have one of the sizes {', '.join(map(str, sizes))}, got {start!r}")
        settings["start"] = hashlib.sha256(b"".join(p.x.tobytes() for p in given.values())).hexdigest()
    stages = Folder(folder, settings)

    with Progress(networks + calibration, "labels", enabled=progress) as bar:
        weights, kinds = noisy_copies(model, laws, shares, networks, 2 * seed)
        halves, seconds = label(model, weights, samples, 2 * seed, threads, stages, "training", bar)
        training = Labelled(weights, kinds, halves)
        found = Calibration.made(model, laws, calibration, calibration_samples, seed, threads, stages, bar)
    seconds += found.seconds

    # Every law counts by its share, in units of plain sampling's variance: the goal is the mean of 1 / N_eq.
    accuracy = training.accuracy
    plain = plain_variances(model, training, len(laws), seed, threads)
    importance = 1 / np.maximum(plain, max(1e-3 * plain.max(), 1e-12))
    data = TrainingSet(
        training.weights, accuracy, importance[training.law], model.hidden_size,
        model.task.output_size(model.seq_len), threads,
    )  # fmt: skip
    held = found.held
    test = replace(data, weights=held.weights, accuracy=held.accuracy, importance=np.ones(calibration))
    rng = np.random.Generator(np.random.Philox(domain_seed("fitting", seed, 4)))
    sketch = found.sketch(make_sketch(model, rng))

    result: dict[int, AdviceSize] = {}
    labelled = networks * 2 * labelling.label_forwards(model, samples // 2) + found.forwards
    evaluated = 0.0
    for size in sizes:
        plan = plans[size]
        name = f"size-{size}"
        began = time.monotonic()
        visits = plan.blocks * plan.sweeps if plan.blocks > 1 else plan.total_steps
        with Progress(plan.starts + visits, name, enabled=progress) as bar:
            stored = _load_rule(stages, name)
            if stored is None:
                rule = _fit_rule(model, size, plan, data, seed, candidates, sketch_cost(sketch), bar, given.get(size))
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
        error, equivalents = found.judged(test.predict(rule))
        arrays = arrays_of(rule) | {"error": error}
        result[size] = AdviceSize(size, arrays, data.hidden_size, data.outputs, sketch, equivalents)

    record = {
        **settings,
        "laws": laws,
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
