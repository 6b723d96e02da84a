"""What Gaussian propagation costs, in multiply-adds and in forward passes."""

from __future__ import annotations

import math

from outsample.models import RNN

#: Time per counted operation, in units of the time that random sampling (everything included) takes per multiply-add
#: of its forward passes; by order and precision. Measured by ``pytest bench/bench_gaussian.py -k cost_model``.
SLOWNESS = {(1, "single"): 2.0, (1, "double"): 3.5, (2, "single"): 1.4, (2, "double"): 2.8}

# Operations on one number, for the parts that are not matrix products: a rectified unit (exponential, Mills' ratio,
# square root, two divisions), a covariance of two rectified units, one step of the orthant probability.
UNIT, PAIR, CONDITION = 60, 16, 70


class PropagationCost:
    """Counts for one network shape."""

    def __init__(self, model: RNN, order: int, precision: str) -> None:
        d, m = model.hidden_size, int(model.W_oh.shape[0])
        pairs, outputs = d * (d - 1) // 2, m * (m + 1) // 2
        if order == 2:
            self.step = d * d + d**3 + d * d * (d + 1) // 2
            self.rectifier = UNIT * d + PAIR * pairs
            self.readout = m * d + m * d * d + outputs * d
        else:
            self.step = 2 * d * d
            self.rectifier = UNIT * d
            self.readout = 2 * m * d + outputs * d
        # Sum over the shrinking problem: two selections and half an update per pair of variables.
        self.readout += m * CONDITION + int(2.5 * m**3 / 3)
        self.forward = model.forward_multiply_adds
        self.slowness = SLOWNESS[order, precision]

    def multiply_adds(self, inner_nodes: int, nodes: int, cells: int) -> float:
        """Operations of a plan, each counted as one multiply-add."""
        return float(inner_nodes * self.step + nodes * self.rectifier + cells * self.readout)

    def forwards(self, inner_nodes: int, nodes: int, cells: int) -> int:
        """Forward passes that take as long."""
        return math.ceil(self.multiply_adds(inner_nodes, nodes, cells) * self.slowness / self.forward)
