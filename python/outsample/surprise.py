"""Surprise accounting: how many bits an explanation of a network costs, and how many an estimate leaves.

ARC's second measure of an explanation beside mean squared error against compute: the bits that it takes to state what
was checked, plus the bits of surprise that are left in the answer once it has been.

References
----------
J. Hilton et al., "AlgZoo: uninterpreted models with fewer than 1,500 parameters", Alignment Forum, 2026, "Surprise
accounting". G. Wu, J. Hilton, "Formal verification, heuristic explanations and surprise accounting", Alignment Forum,
2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from outsample.estimators.base import Estimate
from outsample.estimators.exact import ExactIntegration
from outsample.models import RNN, Model

#: Weights are float32: no near-equality of two of their sums can be told to more than this many bits.
_FLOAT32_BITS = 24.0


@dataclass(frozen=True)
class Region:
    """A sector of the plane on which the network is linear.

    Attributes
    ----------
    low, high : float
        Directions between which it lies, in degrees.
    a_0, a_1 : float
        The difference of the logits there is ``logits_1 - logits_0 = a_0 x_0 - a_1 x_1``.
    holds_boundary : bool
        Whether the line x_0 = x_1, across which the right answer changes, runs through its interior. Then the two
        coefficients must agree, and ``bits`` is how closely they do; else one of them must be the larger, 1 bit.
    bits : float
        Surprise of what was checked.
    """

    low: float
    high: float
    a_0: float
    a_1: float
    holds_boundary: bool
    bits: float


@dataclass(frozen=True)
class Explanation:
    """What was checked about a network of two neurons and two inputs, in bits.

    Attributes
    ----------
    signs : float
        Signs of the parameters, one bit each.
    comparisons : float
        Whether each hidden-to-hidden weight of the standardised network exceeds 1 in size, one bit each.
    orderings : float
        Which of the two coefficients is larger, one bit for each region away from the line x_0 = x_1.
    equalities : float
        How closely the coefficients agree, -log2 of their relative difference, for each region on that line.
    regions : tuple of Region
        The regions, by angle.
    error_rate : float
        The exact error rate that the explanation comes down to.
    """

    signs: float
    comparisons: float
    orderings: float
    equalities: float
    regions: tuple[Region, ...]
    error_rate: float

    @property
    def bits(self) -> float:
        """Surprise of the whole explanation; none is left once it is given, as it is exact."""
        return self.signs + self.comparisons + self.orderings + self.equalities


def _standardised(model: RNN) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The weights with neurons rescaled so that every input weight is +1 or -1, in float64."""
    W_hh, W_hi, W_oh = (w.astype(np.float64) for w in (model.W_hh, model.W_hi, model.W_oh))
    scale = np.where(W_hi == 0, 1.0, np.abs(W_hi))
    return W_hh * scale / scale[:, None], W_hi / scale, W_oh * scale


def _pieces(W_hh: NDArray[np.float64], W_hi: NDArray[np.float64], W_oh: NDArray[np.float64]) -> list[Region]:
    def function(angle: float) -> NDArray[np.float64]:
        """Coefficients of logits_1 - logits_0 on x around a direction."""
        x_0, x_1 = math.cos(angle), math.sin(angle)
        first = np.where(W_hi * x_0 > 0, W_hi, 0.0)  # h_1 = first x_0
        rows = np.stack([W_hh @ first, W_hi], axis=1)
        active = rows @ [x_0, x_1] > 0
        result: NDArray[np.float64] = (W_oh[1] - W_oh[0]) @ np.where(active[:, None], rows, 0.0)
        return result

    rays = {-math.pi / 2, math.pi / 2}
    for x_0 in (1.0, -1.0):
        slopes = W_hh @ np.where(W_hi * x_0 > 0, W_hi, 0.0) * x_0
        rays |= {math.atan2(-z / w, x_0) for z, w in zip(slopes, W_hi, strict=True) if w != 0}
    angles = sorted(rays)
    # A ray across which nothing changes bounds nothing.
    ends = [*angles, angles[0] + 2 * math.pi]
    functions = [function((low + high) / 2) for low, high in pairwise(ends)]
    kept = [i for i in range(len(angles)) if not np.array_equal(functions[i], functions[i - 1])] or [0]
    regions = []
    for i, start in enumerate(kept):
        low, high = angles[start], (angles[kept[i + 1]] if i + 1 < len(kept) else angles[kept[0]] + 2 * math.pi)
        a_0, a_1 = functions[start][0], -functions[start][1]
        on_line = any(low < line < high for line in (math.pi / 4 + turn * math.pi for turn in (-1, 0, 1, 2)))
        size = max(abs(a_0), abs(a_1))
        bits = 1.0
        if on_line and size > 0:
            difference = abs(a_0 - a_1) / size
            bits = max(1.0, min(_FLOAT32_BITS, -math.log2(difference) if difference > 0 else math.inf))
        regions.append(Region(math.degrees(low), math.degrees(high), float(a_0), float(a_1), on_line, bits))
    return regions


def explain(model: Model) -> Explanation:
    """ARC's account of the bits in an explanation of a network of two neurons and two inputs.

    The network is standardised (neurons rescaled so that the input weights are ±1, an exact equivalence, which costs
    nothing). Then the difference of its logits is linear on a few sectors of the plane, and is right everywhere if its
    two coefficients agree on the sectors that hold the line x_0 = x_1 and are ordered rightly on the others.

    Parameters
    ----------
    model : RNN
        With hidden_size 2, seq_len 2, the task 2nd_argmax or argmax, and no biases.

    Returns
    -------
    Explanation

    Raises
    ------
    ValueError
        If the network is of another kind.

    Examples
    --------
    >>> model = osp.load("2nd_argmax_2_2_1073741824_2.pth")
    >>> print(f"{osp.explain(model).bits:.1f} bits")
    40.2 bits
    """
    shape = model.hidden_size, model.seq_len
    if not isinstance(model, RNN) or shape != (2, 2) or model.task.name not in ("2nd_argmax", "argmax"):
        raise ValueError(
            "model must have hidden_size 2, seq_len 2 and task 2nd_argmax or argmax, got "
            f"{model.hidden_size}, {model.seq_len} and {model.task.name}"
        )
    exact = ExactIntegration()
    error_rate = 1.0 - exact.estimate(model, max(1, exact.minimum_budget(model))).value
    regions = _pieces(*_standardised(model))
    return Explanation(
        signs=float(model.n_parameters),
        comparisons=float(model.W_hh.size),
        orderings=sum(r.bits for r in regions if not r.holds_boundary),
        equalities=sum(r.bits for r in regions if r.holds_boundary),
        regions=tuple(regions),
        error_rate=error_rate,
    )


class Surprise(NamedTuple):
    """Bits of surprise in the true value, before and after an estimate.

    Attributes
    ----------
    prior : float
        Under the prior.
    left : float
        Under what the estimate states.
    """

    prior: float
    left: float

    @property
    def explained(self) -> float:
        """Bits that the estimate accounts for; negative if it did harm."""
        return self.prior - self.left


def _normal_bits(mean: float, deviation: float, value: float, resolution: float) -> float:
    """-log2 of a normal's mass within resolution / 2 of a value, by its density where that is as good."""
    low, high = ((value + side * resolution / 2 - mean) / deviation for side in (-1, 1))
    if low > 0:
        low, high = -high, -low  # by symmetry, so that the difference below is of small numbers
    mass = (math.erfc(-high / math.sqrt(2)) - math.erfc(-low / math.sqrt(2))) / 2
    if high - low > 1e-3 and mass > 1e-290:
        return -math.log2(mass)
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high)) if high - low > 1e-3 else (low + high) / 2
    return (nearest**2 / 2 + math.log(2 * math.pi) / 2 - math.log(min(high - low, 1.0))) / math.log(2)


def surprise_left(estimate: Estimate, truth: float, *, resolution: float, prior: Estimate | None = None) -> Surprise:
    """Bits of surprise that an estimate leaves in the truth, and that a prior left before it.

    Each is -log2 of the probability that the distribution gives to the truth within its resolution. An estimate stands
    for a normal distribution of its value and standard error; one with a standard error of 0 says that the truth is its
    value, which leaves 0 bits if they agree within the resolution and infinitely many if not.

    Parameters
    ----------
    estimate : Estimate
        With a standard error.
    truth : float
        The true accuracy (or mean squared error).
    resolution : float
        Width to which the truth is known or matters, above 0: twice its standard error, for one.
    prior : Estimate, optional
        What was believed before, with a standard error above 0. Default: uniform between 0 and 1.

    Returns
    -------
    Surprise

    Raises
    ------
    ValueError
        If ``resolution`` is not positive, or an estimate states no standard error.
    """
    if not 0 < resolution < math.inf:
        raise ValueError(f"resolution must be positive, got {resolution}")
    for name, stated in (("estimate", estimate), ("prior", prior)):
        if stated is not None and stated.standard_error is None:
            raise ValueError(f"{name} must state a standard error, got none from {stated.method or 'it'}")

    def bits(stated: Estimate) -> float:
        error = stated.standard_error or 0.0
        if error == 0.0:
            return 0.0 if abs(truth - stated.value) <= resolution / 2 else math.inf
        return _normal_bits(stated.value, error, truth, resolution)

    before = max(0.0, -math.log2(resolution)) if prior is None else bits(prior)
    return Surprise(before, bits(estimate))
