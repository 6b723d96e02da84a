"""Random sampling, the baseline that every method is judged by."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

from outsample import _core
from outsample.estimators.base import ConfidenceInterval, Cost, Estimate, Estimator
from outsample.models import RNN
from outsample.seeding import philox_key
from outsample.tasks import Task
from outsample.transformer import Transformer


def wilson_interval(successes: int, trials: int, level: float) -> ConfidenceInterval:
    """Wilson's score interval for a probability.

    Parameters
    ----------
    successes, trials : int
        Counts.
    level : float
        Confidence level.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927) 209-212.
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return ConfidenceInterval(low, high)


class MonteCarlo(Estimator):
    """Fraction of correct answers among as many random inputs as the budget has forward passes.

    The standard error is sqrt(p (1 - p) / N); the interval is Wilson's, which stays sensible at 0 and N correct.
    """

    league = "sampling"
    supports = frozenset({"2nd_argmax", "argmax", "argmedian", "longest_cycle"})

    def _estimate(self, model: RNN | Transformer, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        if isinstance(model, Transformer):
            return self._counted(model, model.count_correct(budget, rng=rng, threads=threads), budget)
        correct = _core.count_correct(model._network, task.name, budget, philox_key(rng), 0, threads)
        return self._counted(model, correct, budget)

    def _counted(self, model: RNN | Transformer, correct: int, samples: int) -> Estimate:
        p = correct / samples
        return Estimate(
            value=p,
            standard_error=math.sqrt(p * (1 - p) / samples),
            cost=Cost(multiply_adds=float(samples * model.forward_multiply_adds), evaluations=float(samples)),
            interval=lambda level: wilson_interval(correct, samples, level),
        )
