"""Merging an estimate that knows its own error with random sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

from numpy.random import SeedSequence

from outsample import _core
from outsample.estimators.base import AdviceCost, Cost, Estimate, Estimator
from outsample.estimators.empirical_cubature import EmpiricalCubature
from outsample.estimators.monte_carlo import MonteCarlo
from outsample.estimators.student import student_interval
from outsample.models import Model
from outsample.seeding import RNGLike, seed_sequence
from outsample.tasks import Task


class Merged(NamedTuple):
    """A merged estimate.

    Attributes
    ----------
    value, standard_error : float
        The merged estimate and its error.
    weight : float
        Share of the sampled estimate.
    degrees : float
        Degrees of freedom of the standard error; infinite if no part of it was measured on few replicates.
    """

    value: float
    standard_error: float
    weight: float
    degrees: float


#: Variance of samplers other than the plain one, relative to p (1 - p) per point, where every replicate is a single
#: point. It was 0.05 to 0.3 for networks of three inputs and 0.4 to 0.7 for ten, and falls with their number of points.
_USUAL_RATIO = 0.6

#: Samples that would add less than this share to the equivalent samples are left out: the call alone takes as long as a
#: small part.
_LEAST_GAIN = 0.01


def _worth(prior: Estimate) -> tuple[float, float]:
    """An accuracy, and how many samples it is worth.

    Where the prior reaches 0 or 1, the variance of a sample is that of an accuracy one error inside.
    """
    p0, s0 = min(max(prior.value, 0.0), 1.0), prior.standard_error or 0.0
    inside = min(max(p0, s0), 1.0 - s0) if s0 < 0.5 else 0.5
    return inside, max(inside * (1.0 - inside) / s0**2 - 1.0, 0.0)


def _degrees(sample: Estimate) -> float:
    """Degrees of freedom of a sampled estimate's standard error.

    One for each stratum of two samples; otherwise one less than there are replicates, or samples.
    """
    if "strata" in sample.settings:
        return float(sample.settings["strata"])
    return float(sample.settings.get("replicates", sample.cost.evaluations)) - 1.0


def merge_accuracy(prior: Estimate, sample: Estimate) -> Merged:
    """Merge an accuracy known to within an error with a sampled one, each in proportion to its equivalent samples.

    The prior p_0 ± s_0 counts as N_0 = p_0 (1 - p_0) / s_0^2 - 1 samples: a beta distribution of this mean and
    deviation, whose update by N random samples has mean (N_0 p_0 + N p) / (N_0 + N). The weights do not depend on the
    sampled value, so they are not biased by it, and 0 or N correct of N is as good a count as any other. A sampler with
    less noise than plain sampling counts for more samples, by the ratio of p (1 - p) to its measured variance. Few
    samples that happen to agree say little of their variance, so the smaller their number, the more the ratio is pulled
    to one that is usual: 0.6 / m for replicates of m points each.
    """
    inside, n0 = _worth(prior)
    n = sample.cost.evaluations

    def centre(samples: float) -> float:
        return (n0 * inside + samples * sample.value) / (n0 + samples)

    ratio, measured_on = 1.0, math.inf
    variance = (sample.standard_error or 0.0) ** 2
    # Plain sampling's, which `MonteCarlo` states for (k + 1/2) / (n + 1) where it is 0.
    plain = (p * (1.0 - p) / n for p in (sample.value, (sample.value * n + 0.5) / (n + 1.0)))
    if not any(math.isclose(variance, v, rel_tol=1e-6) for v in plain):
        replicates = sample.settings.get("replicates", n)
        p = centre(n)
        pull = 16.0 / (1.0 + (n / 24.0) ** 2)
        measured = variance * n / max(p * (1.0 - p), 1e-300)
        degrees = _degrees(sample)
        measured_on = pull + degrees
        ratio = (pull * _USUAL_RATIO * replicates / n + degrees * measured) / measured_on
    n1 = n / ratio
    weight = n1 / (n0 + n1)
    p = min(max(centre(n1), 0.5 / (n0 + n1 + 1.0)), 1.0 - 0.5 / (n0 + n1 + 1.0))
    error = math.sqrt(p * (1.0 - p) / (n0 + n1 + 1.0))
    p0 = min(max(prior.value, 0.0), 1.0)
    return Merged((1.0 - weight) * p0 + weight * sample.value, error, weight, measured_on / weight**2)


def merge_by_variance(prior: Estimate, sample: Estimate) -> Merged:
    """Merge two unbiased estimates of any quantity, each in inverse proportion to its stated variance."""
    s0, s1 = prior.standard_error or 0.0, sample.standard_error or 0.0
    degrees = _degrees(sample)
    if s1 == 0.0:  # too few samples to show any variance
        return Merged(prior.value, s0, 0.0, math.inf)
    # A variance measured with few degrees of freedom is too small more often than not.
    w0, w1 = 1.0 / s0**2, 1.0 / (s1**2 * (degrees + 2.0) / max(degrees, 1.0))
    weight = w1 / (w0 + w1)
    value = (1.0 - weight) * prior.value + weight * sample.value
    return Merged(value, 1.0 / math.sqrt(w0 + w1), weight, degrees / weight**2)


def _both(a: Estimate, b: Estimate) -> Estimate:
    """Two estimates of stated error as one."""
    w_a, w_b = ((e.standard_error or 0.0) ** -2 for e in (a, b))
    return Estimate(value=(w_a * a.value + w_b * b.value) / (w_a + w_b), standard_error=(w_a + w_b) ** -0.5)


def _gains(task: Task, prior: Estimate | None, samples: int) -> bool:
    """Whether so many samples are worth a call. How much they tell of a squared error is known afterwards only."""
    return prior is None or task.quantity != "accuracy" or samples >= _LEAST_GAIN * _worth(prior)[1]


class Combined(Estimator):
    """An estimate that states its own error, merged with random sampling.

    The parts that do not sample go first, each with the budget that is left, and use what they need of it; the sampling
    part gets the rest. An estimate p_0 ± s_0 counts as N_0 = p_0 (1 - p_0) / s_0^2 - 1 samples, so the merged accuracy
    is (N_0 p_0 + N p) / (N_0 + N), with weights that do not depend on what was sampled; for the median task the two are
    weighted by their variances. So the merged estimate is at least as good as the better of the two.

    Below the budget of the first part, the sampling part works alone. Where the rest of the budget is less than a
    hundredth of what an accuracy from the other parts is worth in samples, there is no sampling: it would take longer
    than such a part does. A part that says that its answer is exact (a standard error of 0) is the answer.

    Parameters
    ----------
    parts : sequence of Estimator, optional
        One of the sampling league (`MonteCarlo`, `ConditionalMonteCarlo`, a randomised `QuasiMonteCarlo`), and one or
        more that state a standard error. Their errors are taken to be independent. Default: `EmpiricalCubature` and
        `MonteCarlo`.

    Raises
    ------
    TypeError
        If a part is not an Estimator.
    ValueError
        If there is not exactly one part of the sampling league and at least one other; and, from `estimate`, if a part
        states no standard error (the text names it), or cannot work with the network.

    Notes
    -----
    The merged accuracy is the best linear one over networks whose accuracies have mean p_0 and deviation s_0
    (Bühlmann's credibility formula; with a beta distribution, the posterior mean).

    Examples
    --------
    >>> prior = osp.Constant(value=0.81, standard_error=0.06)
    >>> estimate = osp.Combined(parts=[prior, osp.MonteCarlo()]).estimate(model, budget=100, rng=0)
    """

    league = "with advice"
    supports = frozenset({"2nd_argmax", "argmax", "argmedian", "median", "longest_cycle"})
    by_shape = True

    def __init__(self, *, parts: Sequence[Estimator] | None = None) -> None:
        self.parts = [EmpiricalCubature(), MonteCarlo()] if parts is None else list(parts)
        for part in self.parts:
            if not isinstance(part, Estimator):
                raise TypeError(f"parts must be estimators, got {part!r}")
        samplers = [part for part in self.parts if part.league == "sampling"]
        if len(samplers) != 1 or len(self.parts) < 2:
            raise ValueError(
                "parts must be one estimator of the sampling league and at least one other, got "
                f"{', '.join(part.label for part in self.parts) or 'none'}"
            )
        self._sampler = samplers[0]
        self._others = [part for part in self.parts if part is not self._sampler]

    @property
    def label(self) -> str:
        return " + ".join(part.label for part in self.parts)

    @property
    def advice_cost(self) -> AdviceCost | None:
        costs = [cost for part in self.parts if (cost := part.advice_cost) is not None]
        return AdviceCost(*(sum(values) for values in zip(*costs, strict=True))) if costs else None

    def check(self, model: Any) -> None:
        super().check(model)
        for part in self.parts:
            part.check(model)

    def minimum_budget(self, model: Model) -> int:
        """Smallest budget that any of the parts can work with."""
        return min(part.minimum_budget(model) for part in self.parts)

    def prepare(self, model: Model, budget: int) -> tuple[int, list[tuple[Estimator, int | None]]]:
        """Multiply-adds of a forward pass; the parts, sampling last, with their smallest budgets.

        A smallest budget that the weights decide is None.
        """
        parts: list[tuple[Estimator, int | None]] = []
        for part in (*self._others, self._sampler):
            minimum = part.minimum_budget(model)
            if budget >= minimum:
                part.prepared(model, budget)
            parts.append((part, minimum if part.by_shape else None))
        return model.forward_multiply_adds, parts

    def _estimate(self, model: Model, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        forward, parts = self.prepared(model, budget)
        left, done, prior, sample = budget, list[Estimate](), None, None
        for part, minimum in parts:
            if left < (part.minimum_budget(model) if minimum is None else minimum):
                continue
            if part is self._sampler:
                spend = left if _gains(task, prior, left) else 0
            else:
                spend = part.useful_budget(model, left)
            if not spend:
                continue
            e = _stated(part, part.estimate(model, spend, rng=rng, threads=threads))
            done.append(e)
            if part is self._sampler:
                sample = e
            elif e.standard_error == 0.0:
                return self._result(done, e, 0.0)
            else:
                prior = e if prior is None else _both(prior, e)
                left -= math.ceil(e.cost.multiply_adds / forward)
        if not done:
            self._check_budget(model, budget)  # which no longer holds where the weights decide the smallest budgets
            raise ValueError(f"no part of method {self.method} makes use of a budget of {budget} for this network")
        return self._merged(task, done, prior, sample)

    def estimate_many(
        self, models: Sequence[Any], budget: int, *, rng: RNGLike = None, threads: int = 1
    ) -> Sequence[Estimate]:
        """Estimate many networks, with the same results as one by one; model i gets the i-th child of ``rng``.

        Each part estimates all networks of one shape in its own batch. Each estimate then has an equal share of the
        wall time.
        """
        source = seed_sequence(rng)
        one_shape = len({getattr(m, "shape", None) for m in models}) == 1 and all(part.by_shape for part in self.parts)
        if not one_shape:
            return super().estimate_many(models, budget, rng=source, threads=threads)
        budget, threads, plan, setup = self._admit(models[0], budget, threads)
        start = perf_counter()
        forward, parts = plan.prepared
        left = budget
        done: list[list[Estimate]] = [[] for _ in models]
        priors: list[Estimate | None] = [None] * len(models)
        samples: list[Estimate | None] = [None] * len(models)
        for part, minimum in parts:
            if left < minimum:
                continue
            if part is self._sampler:
                gains = [_gains(m.task, prior, left) for m, prior in zip(models, priors, strict=True)]
                if not any(gains):
                    continue
                if not all(gains):
                    return super().estimate_many(models, budget, rng=source, threads=threads)
            elif any(part.useful_budget(m, left) < left for m in models):
                return super().estimate_many(models, budget, rng=source, threads=threads)
            # A copy, so that its children are the same for all parts: a network has one seed.
            seeds = SeedSequence(
                source.entropy,
                spawn_key=source.spawn_key,
                pool_size=source.pool_size,
                n_children_spawned=source.n_children_spawned,
            )
            column = [_stated(part, e) for e in part.estimate_many(models, left, rng=seeds, threads=threads)]
            for own, e in zip(done, column, strict=True):
                own.append(e)
            if part is self._sampler:
                samples = list(column)
            else:
                spent = {math.ceil(e.cost.multiply_adds / forward) for e in column}
                if len(spent) > 1 or any(e.standard_error == 0.0 for e in column):
                    return super().estimate_many(models, budget, rng=source, threads=threads)
                left -= spent.pop()
                priors = [e if prior is None else _both(prior, e) for prior, e in zip(priors, column, strict=True)]
        found = [
            self._merged(m.task, own, prior, sample)
            for m, own, prior, sample in zip(models, done, priors, samples, strict=True)
        ]
        source.spawn(len(models))  # as if they had been estimated one by one
        seconds = (perf_counter() - start) / len(models)
        isa = _core.active_isa()
        return [self._completed(e, plan, seconds, setup / len(models), threads, isa) for e in found]

    def _merged(self, task: Task, done: list[Estimate], prior: Estimate | None, sample: Estimate | None) -> Estimate:
        if prior is None or sample is None:
            return self._result(done, done[-1] if prior is None else prior, float(prior is None))
        merge = merge_accuracy if task.quantity == "accuracy" else merge_by_variance
        value, error, weight, degrees = merge(prior, sample)
        interval = partial(student_interval, value, error, degrees)
        return self._result(done, Estimate(value, error, interval=interval), weight)

    def _result(self, done: list[Estimate], merged: Estimate, weight: float) -> Estimate:
        multiply_adds = evaluations = setup = 0.0
        for e in done:
            multiply_adds += e.cost.multiply_adds
            evaluations += e.cost.evaluations
            setup += e.cost.setup_seconds
        return Estimate(
            merged.value,
            merged.standard_error,
            Cost(multiply_adds=multiply_adds, evaluations=evaluations, setup_seconds=setup),
            settings={"used": [e.method for e in done], "sampling_weight": weight},
            interval=merged.interval,
        )


def _stated(part: Estimator, estimate: Estimate) -> Estimate:
    if estimate.standard_error is None:
        raise ValueError(f"part {part.label} states no standard error, so it cannot be combined")
    return estimate
