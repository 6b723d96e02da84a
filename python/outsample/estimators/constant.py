"""The constant: what can be said without looking at the weights."""

from __future__ import annotations

import time
from typing import Any

from outsample.estimators.base import AdviceCost, Cost, Estimate, Estimator
from outsample.models import RNN
from outsample.noise import NoiseEnsemble, require_fitting
from outsample.tasks import Task
from outsample.truth import ground_truth


class Constant(Estimator):
    """The same number for every network, at no cost.

    With the mean accuracy of the ensemble (`value`, found on other noisy copies) it is the floor that a method has to
    be above to have learned anything; without it, it is chance, 1/n.

    Parameters
    ----------
    value : float, optional
        The number. Default: chance, 1/n.
    standard_error : float, optional
        Standard deviation of the accuracy over the ensemble, if known.
    """

    league = "with advice"
    supports = frozenset({"2nd_argmax", "argmax", "argmedian"})
    by_shape = True
    draws = False

    def __init__(self, *, value: float | None = None, standard_error: float | None = None) -> None:
        self.value = value
        self.standard_error = standard_error
        self._advice_cost: AdviceCost | None = None

    @classmethod
    def fit(cls, ensemble: NoiseEnsemble, samples: int = 2**16) -> Constant:
        """The mean accuracy of an ensemble, with the standard deviation over its networks.

        Parameters
        ----------
        ensemble : NoiseEnsemble
            Of role ``"fitting"``.
        samples : int, default 65536
            Samples per network.
        """
        require_fitting(ensemble)
        start = time.perf_counter()
        truth = ground_truth(ensemble, samples, cache=False)
        result = cls(value=float(truth.values.mean()), standard_error=truth.spread)
        result._advice_cost = AdviceCost(float(truth.samples * len(truth)), time.perf_counter() - start)
        return result

    @property
    def advice_cost(self) -> AdviceCost | None:
        return self._advice_cost

    @property
    def label(self) -> str:
        return "chance" if self.value is None else "constant"

    def _estimate(self, model: RNN, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        value = 1.0 / model.seq_len if self.value is None else self.value
        return Estimate(value=value, standard_error=self.standard_error, cost=Cost())
