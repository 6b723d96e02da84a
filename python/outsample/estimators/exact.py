"""Exact integration for up to three inputs."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from outsample import _core
from outsample.estimators.base import ConfidenceInterval, Cost, Estimate, Estimator
from outsample.models import RNN
from outsample.tasks import Task

_MAX_SEQ_LEN = 3


def _within(value: float, bound: float, level: float) -> ConfidenceInterval:
    return ConfidenceInterval(value - bound, value + bound)


class ExactIntegration(Estimator):
    """Exact accuracy, or mean squared error, of a network with at most three inputs.

    Without biases only the direction of the input matters: the circle (n = 2) or the sphere (n = 3) is cut into cells
    on which the ranking of the inputs is fixed and the network is linear, and arcs and solid angles are added up in
    float64. ``standard_error`` is 0; ``settings["error_bound"]`` bounds what rounding can have done, and
    ``confidence_interval`` of any level is value ± that bound.

    The cost depends on the weights, by way of the number of cells: `minimum_budget` finds it by doing the work once,
    and every budget from there up gives the same answer at the same cost.

    Raises
    ------
    ValueError
        From `estimate`, if the sequence is longer than three, or the network has biases.
    """

    method = "exact"
    league = "deterministic"
    draws = False
    needs_no_biases = True

    def check(self, model: Any) -> None:
        super().check(model)
        if model.seq_len > _MAX_SEQ_LEN:
            raise ValueError(f"method exact needs seq_len at most {_MAX_SEQ_LEN}, got {model.seq_len}")

    def minimum_budget(self, model: Any) -> int:
        """Cost of this network in forward equivalents, rounded up; takes as long as the estimate itself."""
        self.check(model)
        found = _core.integrate_exactly(model._network, model.task.name)
        return math.ceil(int(found["multiply_adds"]) / int(model.forward_multiply_adds))

    def _estimate(self, model: RNN, task: Task, budget: int, rng: Any, threads: int) -> Estimate:
        found = _core.integrate_exactly(model._network, task.name, threads)
        value, bound = float(found["value"]), float(found["error_bound"])
        return Estimate(
            value=value,
            standard_error=0.0,
            cost=Cost(multiply_adds=found["multiply_adds"], evaluations=found["cells"]),
            settings={"error_bound": bound, "cells": found["cells"]},
            interval=partial(_within, value, bound),
        )
