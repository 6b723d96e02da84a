"""Training of large rules part by part: some trees of points at a time, against what the others leave unexplained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from outsample.cubature.gauss_newton import GaussNewton
from outsample.cubature.rule import Rule, TrainingSet, best_outer_layer

#: Networks per feature of all blocks in the regressions of the last sweep, if there are as many.
_NETWORKS_PER_FEATURE = 20


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
    those of all inputs and features would not. Each visit of a block takes some steps and then the ridge regression of
    its readout, on twice as many networks in the last sweep as in the others; every sweep has new random blocks.
    Readouts of neighbouring blocks converge slowly from zero, so the rule should come with a regression of its most
    important features.

    Parameters
    ----------
    rule : Rule
        Without hidden units.
    data, watch : TrainingSet
        Networks to fit on, and others that say which penalty is best and whether steps help.
    blocks, sweeps, steps : int
        Number of blocks, of sweeps, and of Gauss-Newton steps per visit of a block.
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
    for sweep in range(sweeps):
        # Later sweeps correct what a regression on fewer networks leaves.
        per_feature = _NETWORKS_PER_FEATURE if sweep == sweeps - 1 else _NETWORKS_PER_FEATURE // 2
        some = slice(per_feature * len(rule.linear))
        for part in rule.points.parts(blocks, rng):
            sub = rule.subset(part)
            rest = [value - own.predict(sub) for value, own in zip(total, sets, strict=True)]
            left, watch_left = (
                replace(own, accuracy=own.accuracy - others) for own, others in zip(sets, rest, strict=True)
            )
            newton = GaussNewton(left, decay=decay, batch=batch, damping=damping)
            sub = newton.run(sub, steps, watch_left)
            damping = min(newton.damping, 0.1)
            sub = best_outer_layer(sub, left.part(some), watch_left, ridges)
            rule = rule.with_subset(part, sub)
            total = [others + own.predict(sub) for others, own in zip(rest, sets, strict=True)]
            if report:
                error = float(watch.importance @ (total[1] - watch.accuracy) ** 2) / len(watch)
                report(rule, error / rule.spread**2)
    return rule
