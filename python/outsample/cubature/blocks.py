"""Training of large rules part by part: some trees of points at a time, against what the others leave unexplained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from outsample.cubature.gauss_newton import GaussNewton
from outsample.cubature.rule import Rule, TrainingSet, best_outer_layer


def train_in_blocks(
    rule: Rule,
    data: TrainingSet,
    watch: TrainingSet,
    *,
    blocks: int,
    sweeps: int,
    steps: int,
    decay: float,
    batch: int,
    ridges: Sequence[float],
    rng: np.random.Generator,
    report: Callable[[Rule, float], None] | None = None,
) -> Rule:
    """Backfitting of a linear readout, with Gauss-Newton steps on the inputs of each block.

    A rule with a linear readout is a sum over its points, so a block of them is a rule by itself whose labels are what
    is left of the accuracies after the other blocks. Derivatives of one block fit into memory for many networks where
    those of all inputs and features would not. The first sweep is the ridge regression of each block's readout, on a
    part of the networks; then every sweep takes some steps with new random blocks, and the last one ends each visit
    with the regression on all networks.

    Parameters
    ----------
    rule : Rule
        Without hidden units; its readout may be zero.
    data, watch : TrainingSet
        Networks to fit on, and others that say which penalty is best and whether steps help.
    blocks, sweeps, steps : int
        Number of blocks, of sweeps after the first one, and of Gauss-Newton steps per visit of a block.
    decay, batch
        As of `GaussNewton`.
    ridges : sequence of float
        Penalties to choose from.
    rng : Generator
        For the blocks.
    report : callable, optional
        Called with the rule and its weighted mean squared error on ``watch`` after every visit.
    """
    sets = (data, watch)
    total = [own.predict(rule) for own in sets]
    damping = 0.1
    for sweep in range(sweeps + 1):
        for part in rule.points.parts(blocks, rng):
            sub = rule.subset(part)
            rest = [value - own.predict(sub) for value, own in zip(total, sets, strict=True)]
            left, watch_left = (
                replace(own, accuracy=own.accuracy - others) for own, others in zip(sets, rest, strict=True)
            )
            if sweep:
                newton = GaussNewton(left, decay=decay, batch=batch, damping=damping)
                sub = newton.run(sub, steps, watch_left)
                damping = min(newton.damping, 0.1)
            if sweep in (0, sweeps):
                some = left if sweep else left.part(slice(len(left) // 4))
                sub = best_outer_layer(sub, some, watch_left, ridges)
            rule = rule.with_subset(part, sub)
            total = [others + own.predict(sub) for others, own in zip(rest, sets, strict=True)]
            if report:
                error = float(watch.importance @ (total[1] - watch.accuracy) ** 2) / len(watch)
                report(rule, error / rule.spread**2)
    return rule
