"""Point rules: low-discrepancy points that do not depend on the network."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from outsample import _core, low_discrepancy
from outsample.estimators.base import Estimate, Estimator, League, networks_of_one_shape
from outsample.estimators.batch import Batch
from outsample.estimators.conditional_monte_carlo import RuleCost, require_two_inputs, whole_groups
from outsample.estimators.student import student_interval
from outsample.models import RNN
from outsample.point_tables import Table, Tables, cached, make_table, ranks, side_by_side, tilted
from outsample.seeding import RNGLike, child_keys, philox_key
from outsample.tasks import Task

SequenceName = Literal["sobol", "hammersley", "kronecker", "lattice"]
Coordinates = Literal["order", "gaussian"]

_SEQUENCES = ("sobol", "hammersley", "kronecker", "lattice")
_COORDINATES = ("order", "gaussian")


def _unit_points(
    sequence: SequenceName, count: int, dimensions: int, seed: tuple[int, ...] | None
) -> NDArray[np.float64]:
    """Points in (0, 1); randomised if there is a seed."""
    if sequence == "sobol":
        # Unrandomised, the second block of `count` points: the first one holds the origin and its neighbours.
        if seed is None:
            x = low_discrepancy.sobol(count, dimensions, first=count)
        else:
            x = low_discrepancy.sobol(count, dimensions, rng=np.random.default_rng(seed))
    else:
        shift = None if seed is None else np.random.default_rng(seed).random(dimensions)
        x = getattr(low_discrepancy, sequence)(count, dimensions, shift=shift)
    tiny = 2.0**-32
    return np.clip(x, tiny, 1 - tiny)


class QuasiMonteCarlo(Estimator):
    """Average over low-discrepancy points, the last input integrated exactly.

    By default the points are laid out in *order coordinates*: who is largest, second-largest and third-largest, and by
    how much, come from the first four coordinates, so that what decides the answer is spread most evenly
    (`low_discrepancy.order_inputs`). For 2nd_argmax a fixed set is denser, and its points weigh less, where the
    third-largest input is close to the second-largest. Points, labels and weights do not depend on the network: they
    are tables, made once per shape and number of points, kept in memory, and their cost is set-up.

    Parameters
    ----------
    sequence : {"sobol", "hammersley", "kronecker", "lattice"}, default "sobol"
        The point set; "sobol" needs sequences of at most 38 inputs.
    coordinates : {"order", "gaussian"}, default "order"
        How points of the cube become inputs: by the largest values, or one coordinate per input.
    exact_last : bool, default True
        Integrate exactly over the last input (see `ConditionalMonteCarlo`) instead of giving it a coordinate.
    randomised : bool, default True
        Use `replicates` or more independent copies of the points (scrambled Sobol points, rotations of the others); the
        standard error is that of their mean, the interval Student's. The copies come from a pool of four times as many
        (more for fewer than nine inputs) that is made once, the same in every process; an estimate's `rng` picks a run
        of it and an order of the inputs, forwards or backwards from one of them on. Without randomisation there is one
        fixed set of points and no standard error.
    replicates : int, default 8
        Smallest number of copies, at least 2. Sobol points come in powers of two, so as many copies are made as the
        budget pays for.

    References
    ----------
    A. B. Owen, "Quasi-Monte Carlo Sampling" (2003); H. Niederreiter, "Random Number Generation and Quasi-Monte Carlo
    Methods" (1992).
    """

    league: ClassVar[League] = "sampling"
    supports = frozenset({"2nd_argmax", "argmax", "argmedian"})
    by_shape = True

    # The pool holds at least so many times the copies that an estimate uses, and so many times with one for each input
    # that the order may begin with: as the inputs are independent, a copy is almost another one in another order.
    _POOL_MULTIPLE = 4
    _POOL_MULTIPLE_IN_ORDERS = 36
    # Copies of fewer points are not filled up to whole groups, of which half would be empty otherwise.
    _SIDE_BY_SIDE = 2 * _core.points_per_group

    def __init__(
        self,
        *,
        sequence: SequenceName = "sobol",
        coordinates: Coordinates = "order",
        exact_last: bool = True,
        randomised: bool = True,
        replicates: int = 8,
    ) -> None:
        if sequence not in _SEQUENCES:
            raise ValueError(f"sequence must be one of {', '.join(_SEQUENCES)}, got {sequence!r}")
        if coordinates not in _COORDINATES:
            raise ValueError(f"coordinates must be one of {', '.join(_COORDINATES)}, got {coordinates!r}")
        if replicates < 2:
            raise ValueError(f"replicates must be at least 2, got {replicates}")
        self.sequence = sequence
        self.coordinates = coordinates
        self.exact_last = exact_last
        self.randomised = randomised
        self.replicates = replicates
        if not randomised:
            object.__setattr__(self, "league", "deterministic")

    @property
    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings.items() if name != "league"}

    @property
    def label(self) -> str:
        parts = [self.method]
        if self.sequence != "sobol":
            parts.append(self.sequence)
        if self.coordinates != "order":
            parts.append(self.coordinates)
        if not self.exact_last:
            parts.append("plain")
        if not self.randomised:
            parts.append("fixed")
        return " ".join(parts)

    def check(self, model: RNN) -> None:
        super().check(model)
        if self.exact_last:
            require_two_inputs(self, model)
        if self.sequence == "sobol" and self._dimensions(model) > low_discrepancy.MAX_SOBOL_DIMENSIONS:
            raise ValueError(
                f"sequence sobol has {low_discrepancy.MAX_SOBOL_DIMENSIONS} dimensions, seq_len {model.seq_len} needs "
                f"{self._dimensions(model)}: use another sequence"
            )

    def minimum_budget(self, model: RNN) -> int:
        points = self.replicates if self.randomised else 1
        return self._cost(model).budget_of(model, points)

    def _cost(self, model: RNN) -> RuleCost:
        cost = RuleCost.of(model, exact_last=self.exact_last)
        # Points that stay the same may have fixed values for the last input too; randomised ones are walked all.
        return cost._replace(planned=cost.most) if self.randomised else cost

    def _inputs(self, model: RNN) -> int:
        return model.seq_len - 1 if self.exact_last else model.seq_len

    def _dimensions(self, model: RNN) -> int:
        inputs = self._inputs(model)
        if self.coordinates == "gaussian":
            return inputs
        return low_discrepancy.order_dimensions(inputs, ranks(model.task, inputs))

    def _plan(self, model: RNN, budget: int) -> tuple[int, int]:
        """Number of copies and points in each."""
        points = self._cost(model).affordable_points(model, budget)
        if not self.randomised:
            return 1, 1 << points.bit_length() - 1 if self.sequence == "sobol" else whole_groups(points)
        count = points // self.replicates
        if self.sequence == "sobol":
            count = 1 << count.bit_length() - 1
            return points // count, count
        return self.replicates, count

    def _tables(self, model: RNN, count: int, copies: int) -> Tables:
        """One fixed copy, or a pool of randomised ones."""
        inputs, dimensions = self._inputs(model), self._dimensions(model)
        key = (model.task.name, inputs, self.sequence, self.coordinates, self.exact_last, count, copies)

        def one(seed: tuple[int, ...] | None) -> Table:
            u = _unit_points(self.sequence, count, dimensions, seed)
            if self.coordinates == "gaussian":
                return make_table(low_discrepancy.normal_quantile(u), model.task, exact_last=self.exact_last)
            weights = None
            if not self.randomised and model.task.name == "2nd_argmax" and inputs >= low_discrepancy.RANKED:
                u, weights = tilted(u, dimensions - inputs + 2)  # positions come first, then values by rank
            x = low_discrepancy.order_inputs(u, inputs, ranks(model.task, inputs))
            return make_table(x, model.task, exact_last=self.exact_last, weights=weights)

        def make() -> Table:
            if not copies:
                return one(None)[None]
            pool = [one((count, dimensions, copy)) for copy in range(copies)]
            return side_by_side(pool, count) if count < self._SIDE_BY_SIDE else np.stack(pool)

        table = cached(key, make)
        return Tables(table, count if table.ndim == 2 else 0)

    def prepare(self, model: RNN, budget: int) -> tuple[int, int, Tables, RuleCost]:
        """Number of copies, points in each, the tables, and what they cost."""
        replicates, count = self._plan(model, budget)
        copies = 0
        if self.randomised:
            orders = self._inputs(model)
            copies = replicates * max(self._POOL_MULTIPLE, -(-self._POOL_MULTIPLE_IN_ORDERS // orders))
        return replicates, count, self._tables(model, count, copies), self._cost(model)

    def _estimate(self, model: RNN, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        replicates, count, pool, rule_cost = self.prepared(model, budget)
        network, tables, points = model._network, pool.data, pool.points
        if self.randomised:
            sums, walked = _core.random_point_sums(
                network, tables, self.exact_last, threads, points, replicates, philox_key(rng)
            )
        else:
            sums, walked = _core.point_sums(network, tables, self.exact_last, threads, rule_cost.planned)
        return self._result(sums, count, rule_cost, walked)

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
        replicates, count, pool, rule_cost = plan.prepared
        keys = child_keys(rng, len(networks)) if self.randomised else None
        start = time.perf_counter()
        sums, walked = _core.point_sums_many(
            [m._network for m in networks],
            pool.data,
            self.exact_last,
            threads,
            rule_cost.planned,
            pool.points,
            replicates,
            keys,
        )
        seconds, isa = (time.perf_counter() - start) / len(networks), _core.active_isa()

        def one(i: int) -> Estimate:
            result = self._result(sums[i].tolist(), count, rule_cost, int(walked[i]))
            return self._completed(result, plan, seconds, setup, threads, isa)

        return Batch(len(networks), one)

    def _result(self, sums: list[float], count: int, rule_cost: RuleCost, walked: int) -> Estimate:
        """From the sums over copies of so many points each."""
        if not self.randomised:
            return Estimate(sums[0], None, rule_cost.total(count, walked))
        replicates = len(sums)
        value = math.fsum(sums) / replicates
        error = math.dist(sums, [value] * replicates) / math.sqrt(replicates * (replicates - 1))
        return Estimate(
            value=value,
            standard_error=error,
            cost=rule_cost.total(replicates * count, walked),
            settings={"replicates": replicates},
            interval=partial(student_interval, value, error, replicates - 1),
        )


class DeterministicCubature(QuasiMonteCarlo):
    """The fixed point rule that did best in comparison: no random numbers, no advice.

    Hammersley's points in order coordinates with the exact last input; any number of points. There is no error model,
    so no standard error: `QuasiMonteCarlo` is the randomised version that has one.
    """

    league: ClassVar[League] = "deterministic"
    draws = False

    def __init__(self) -> None:
        super().__init__(sequence="hammersley", randomised=False)

    @property
    def settings(self) -> dict[str, Any]:
        return {}

    @property
    def label(self) -> str:
        return self.method
