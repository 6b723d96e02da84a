"""Merging an estimate that knows its own error with random sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

from outsample.estimators.base import AdviceCost, ConfidenceInterval, Cost, Estimate, Estimator
from outsample.estimators.empirical_cubature import EmpiricalCubature
from outsample.estimators.monte_carlo import MonteCarlo
from outsample.models import Model
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


def merge_accuracy(prior: Estimate, sample: Estimate) -> Merged:
    """Merge an accuracy known to within an error with a sampled one, each in proportion to its equivalent samples.

    The prior p_0 ± s_0 counts as N_0 = p_0 (1 - p_0) / s_0^2 - 1 samples: a beta distribution of this mean and
    deviation, whose update by N random samples has mean (N_0 p_0 + N p) / (N_0 + N). The weights do not depend on the
    sampled value, so they are not biased by it, and 0 or N correct of N is as good a count as any other. A sampler with
    less noise than plain sampling counts for more samples, by the ratio of p (1 - p) to its measured variance; where
    that was measured on little, it is pulled to 1.
    """
    p0, s0 = min(max(prior.value, 0.0), 1.0), prior.standard_error or 0.0
    n = sample.cost.evaluations
    # Where the prior reaches 0 or 1, the variance of a sample is that of an accuracy one error inside.
    inside = min(max(p0, s0), 1.0 - s0) if s0 < 0.5 else 0.5
    n0 = max(inside * (1.0 - inside) / s0**2 - 1.0, 0.0)

    def centre(samples: float) -> float:
        return (n0 * inside + samples * sample.value) / (n0 + samples)

    ratio, measured_on = 1.0, math.inf
    plain = sample.value * (1.0 - sample.value) / n
    variance = (sample.standard_error or 0.0) ** 2
    if not math.isclose(variance, plain, rel_tol=1e-6):
        measured_on = sample.settings.get("replicates", n) - 1.0
        p = centre(n)
        pull = 8.0 / (1.0 + (n / 32.0) ** 2)
        ratio = (pull + measured_on * variance * n / max(p * (1.0 - p), 1e-300)) / (pull + measured_on)
    n1 = n / ratio
    weight = n1 / (n0 + n1)
    p = min(max(centre(n1), 0.5 / (n0 + n1 + 1.0)), 1.0 - 0.5 / (n0 + n1 + 1.0))
    error = math.sqrt(p * (1.0 - p) / (n0 + n1 + 1.0))
    return Merged((1.0 - weight) * p0 + weight * sample.value, error, weight, measured_on / weight**2)


def merge_by_variance(prior: Estimate, sample: Estimate) -> Merged:
    """Merge two unbiased estimates of any quantity, each in inverse proportion to its stated variance."""
    s0, s1 = prior.standard_error or 0.0, sample.standard_error or 0.0
    degrees = sample.settings.get("replicates", sample.cost.evaluations) - 1.0
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


def student_quantile(probability: float, degrees: float) -> float:
    """Quantile of Student's t by its expansion around the normal one; three digits for four degrees and more.

    References
    ----------
    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    z = NormalDist().inv_cdf(probability)
    if math.isinf(degrees):
        return z
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3 + g4 / degrees**4


class Combined(Estimator):
    """An estimate that states its own error, merged with random sampling.

    The parts that do not sample go first, each with the budget that is left, and use what they need of it; the sampling
    part gets the rest. An estimate p_0 ± s_0 counts as N_0 = p_0 (1 - p_0) / s_0^2 - 1 samples, so the merged accuracy
    is (N_0 p_0 + N p) / (N_0 + N), with weights that do not depend on what was sampled; for the median task the two are
    weighted by their variances. So the merged estimate is at least as good as the better of the two.

    Below the budget of the first part, the sampling part works alone. A part that says that its answer is exact (a
    standard error of 0) is the answer.

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

    def prepare(self, model: Model, budget: int) -> None:
        for part in self.parts:
            if budget >= part.minimum_budget(model):
                part.prepare(model, budget)

    def _estimate(self, model: Model, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        left, done, prior = budget, list[Estimate](), None
        for part in self._others:
            if left < part.minimum_budget(model):
                continue
            e = part.estimate(model, left, rng=rng, threads=threads)
            if e.standard_error is None:
                raise ValueError(f"part {part.label} states no standard error, so it cannot be combined")
            done.append(e)
            left -= math.ceil(e.cost.multiply_adds / model.forward_multiply_adds)
            if e.standard_error == 0.0:
                return self._result(done, e.value, 0.0, 0.0, e.interval)
            prior = e if prior is None else _both(prior, e)
        sample = None
        if left >= self._sampler.minimum_budget(model):
            sample = self._sampler.estimate(model, left, rng=rng, threads=threads)
            if sample.standard_error is None:
                raise ValueError(f"part {self._sampler.label} states no standard error, so it cannot be combined")
            done.append(sample)
        if prior is None or sample is None:
            alone = done[-1] if prior is None else prior
            return self._result(done, alone.value, alone.standard_error, float(prior is None), alone.interval)
        merged = (merge_accuracy if task.quantity == "accuracy" else merge_by_variance)(prior, sample)

        def interval(level: float) -> ConfidenceInterval:
            half = student_quantile(0.5 + level / 2, merged.degrees) * merged.standard_error
            return ConfidenceInterval(merged.value - half, merged.value + half)

        return self._result(done, merged.value, merged.standard_error, merged.weight, interval)

    def _result(
        self, done: list[Estimate], value: float, error: float | None, weight: float, interval: Any
    ) -> Estimate:
        return Estimate(
            value=value,
            standard_error=error,
            cost=Cost(
                multiply_adds=sum(e.cost.multiply_adds for e in done),
                evaluations=sum(e.cost.evaluations for e in done),
                setup_seconds=sum(e.cost.setup_seconds for e in done),
            ),
            settings={"used": [e.method for e in done], "sampling_weight": weight},
            interval=interval,
        )
