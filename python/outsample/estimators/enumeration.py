"""All inputs, for models with finitely many."""

from __future__ import annotations

from typing import Any

from outsample import _core
from outsample.estimators.base import Cost, Estimate, Estimator
from outsample.tasks import Task
from outsample.transformer import Transformer

#: 9^9 inputs, some minutes of work; n = 10 would be hours.
MAX_INPUTS = 9**9


class Enumeration(Estimator):
    """Exact accuracy of a longest-cycle transformer: every one of the n^n functions, once.

    ``standard_error`` is 0. Inputs are generated and judged in the core, so memory does not grow with their number;
    logits are computed in float64.

    Raises
    ------
    ValueError
        From `estimate`, if there are more than 9^9 inputs.
    """

    league = "deterministic"
    supports = frozenset({"longest_cycle"})
    by_shape = True
    draws = False

    def check(self, model: Any) -> None:
        super().check(model)
        if model.seq_len**model.seq_len > MAX_INPUTS:
            raise ValueError(f"method enumeration needs seq_len at most 9, got {model.seq_len}")

    def minimum_budget(self, model: Transformer) -> int:
        """The number of inputs."""
        return int(model.seq_len**model.seq_len)

    def _estimate(self, model: Transformer, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        inputs = self.minimum_budget(model)
        correct = _core.transformer_count_correct_range(model._transformer, 0, inputs, threads)
        return Estimate(
            value=correct / inputs,
            standard_error=0.0,
            cost=Cost(multiply_adds=float(inputs * model.forward_multiply_adds), evaluations=float(inputs)),
            settings={"correct": correct, "inputs": inputs},
        )
