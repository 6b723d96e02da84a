"""Random sampling of all inputs but the last, which is integrated exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from outsample import _core
from outsample.estimators.base import Cost, Estimate, Estimator, networks_of_one_shape
from outsample.estimators.batch import Batch
from outsample.estimators.student import student_interval
from outsample.models import RNN
from outsample.seeding import RNGLike, child_keys, philox_key
from outsample.tasks import Task


class ConditionalMonteCarlo(Estimator):
    """Mean over stratified random inputs x_1 ... x_{n-1} of the exact P(right answer | x_1 ... x_{n-1}).

    Given the earlier inputs, every logit is a piecewise linear function of the last one with at most d breakpoints and
    the right position changes at two places, so the last input's share of right answers is a sum of differences of
    the normal distribution function. These two places are neighbouring order statistics of the earlier inputs. Where
    they stand, and how far they are from their neighbours, is stratified: N / 2 strata, two samples in each. For
    2nd_argmax there are more strata, of lower probability and weight, where these two are close to each other or to the
    next input, since networks err there (nearly Neyman's allocation); else all are alike. The estimate is unbiased, and
    so is the square of its standard error, which comes from the differences within strata; the interval is Student's.

    For the median task it is the mean of the exact E((output - median)^2 | x_1 ... x_{n-1}): the median is piecewise
    linear in the last input too, so this is a sum over breakpoints of upper moments of the normal distribution. The
    strata are those of two neighbouring order statistics in the middle.

    A budget of N forward passes buys fewer than N samples: each one costs the earlier steps and the walk over the last
    input's breakpoints, whose additions and multiplications are counted (`Cost.multiply_adds`). For networks of 8 units
    and 7 inputs or more, samples are planned for two thirds of the breakpoints that there may be. Where a network has
    more, four stratified random values of the last input take the place of some walks, so that no budget is overspent
    and no estimate biased.

    References
    ----------
    S. Asmussen, P. W. Glynn, "Stochastic Simulation" (2007), sections V.4 (conditional Monte Carlo) and V.7
    (stratification); W. G. Cochran, "Sampling Techniques" (3rd edition, 1977), chapter 5.
    """

    league = "sampling"
    supports = frozenset({"2nd_argmax", "argmax", "argmedian", "median"})
    by_shape = True

    def check(self, model: RNN) -> None:
        super().check(model)
        require_two_inputs(self, model)

    def minimum_budget(self, model: RNN) -> int:
        return RuleCost.of(model, exact_last=True).budget_of(model, 2)  # a stratum

    def prepare(self, model: RNN, budget: int) -> _Samples:
        """How many strata, and what their samples cost."""
        cost = RuleCost.of(model, exact_last=True)
        strata = whole_groups(cost.affordable_points(model, budget)) // 2
        boxes: int = _core.strata_boxes
        if strata > boxes:
            strata -= strata % boxes
        known = cost.total(2 * strata, walked=0)
        return _Samples({"strata": strata}, strata, known.evaluations, known.multiply_adds, cost.interval, cost.planned)

    def _estimate(self, model: RNN, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        samples: _Samples = self.prepared(model, budget)
        sums = _core.conditional_sum(
            model._network, task.name, samples.strata, philox_key(rng), threads, samples.planned
        )
        return samples.result(*sums)

    def estimate_many(
        self, models: Sequence[Any], budget: int, *, rng: RNGLike = None, threads: int = 1
    ) -> Sequence[Estimate]:
        """Estimate many networks, with the same results as one by one; model i gets the i-th child of ``rng``.

        Networks of one shape and task are evaluated in one call of the core. Each estimate then has an equal share of
        that call's wall time.
        """
        networks = networks_of_one_shape(models)
        if networks is None:
            return super().estimate_many(models, budget, rng=rng, threads=threads)
        budget, threads, plan, setup = self._admit(networks[0], budget, threads)
        samples = plan.prepared
        keys = child_keys(rng, len(networks))
        start = time.perf_counter()
        totals, squares, walked = _core.conditional_sum_many(
            [m._network for m in networks], networks[0].task.name, samples.strata, keys, threads, samples.planned
        )
        seconds, isa = (time.perf_counter() - start) / len(networks), _core.active_isa()

        def one(i: int) -> Estimate:
            result = samples.result(float(totals[i]), float(squares[i]), int(walked[i]))
            return self._completed(result, plan, seconds, setup, threads, isa)

        return Batch(len(networks), one)


class _Samples(NamedTuple):
    """What a budget buys. Multiply-adds known beforehand, and those of each interval walked."""

    settings: dict[str, Any]
    strata: int
    samples: float
    known: float
    interval: int
    planned: int

    def result(self, total: float, squares: float, walked: int) -> Estimate:
        """From what the core adds up."""
        settings, strata, samples, known, interval, _ = self
        value, error = total / samples, math.sqrt(squares) / samples
        return Estimate(
            value,
            error,
            Cost(math.nan, known + interval * walked, samples),
            settings=settings,
            interval=partial(student_interval, value, error, strata),
        )


def require_two_inputs(estimator: Estimator, model: RNN) -> None:
    """Raise ValueError if integrating over the last input leaves none."""
    if model.seq_len < 2:
        raise ValueError(f"method {estimator.method} needs seq_len of at least 2, got {model.seq_len}")


class RuleCost(NamedTuple):
    """Multiply-adds of a rule: once per network, for each point, for each interval walked on the last input.

    A point has `most` intervals at most; budgets are planned for `planned`, the average that the core is held to.
    """

    once: int
    point: int
    interval: int
    most: int
    planned: int

    @classmethod
    def of(cls, model: RNN, *, exact_last: bool) -> RuleCost:
        """For networks of this shape."""
        return cls(*_core.rule_cost(model._network, model.task.name, exact_last))

    def total(self, points: int, walked: int) -> Cost:
        """What so many points took with the intervals walked for them."""
        once, point, interval, _, _ = self
        return Cost(math.nan, float(once + point * points + interval * walked), float(points))

    def affordable_points(self, model: RNN, budget: int) -> int:
        """How many points a budget in forward passes pays for."""
        each = self.point + self.interval * self.planned
        return max(0, (budget * model.forward_multiply_adds - self.once) // each)

    def budget_of(self, model: RNN, points: int) -> int:
        """Smallest budget in forward passes that pays for so many points."""
        each = self.point + self.interval * self.planned
        return -(-(self.once + each * points) // model.forward_multiply_adds)


def whole_groups(points: int) -> int:
    """Leave out the few points beyond whole groups that would take as long as another group."""
    group: int = _core.points_per_group
    rest = points % group
    return points - rest if points > group and 4 * rest < group else points
