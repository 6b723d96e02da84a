"""Student's t, for means whose variance was measured on few degrees of freedom."""

from __future__ import annotations

import math
from statistics import NormalDist

#: Up to so many degrees of freedom the closed form is used.
_MOST_EXACT = 64


def student_quantile(probability: float, degrees: float) -> float:
    """Quantile of Student's t for a probability above 1/2.

    From the closed form for whole numbers of degrees of freedom up to 64; otherwise by the expansion around the normal
    quantile, good to three digits from four degrees of freedom on.

    References
    ----------
    M. Abramowitz, I. A. Stegun, "Handbook of Mathematical Functions" (1964), 26.7.3 to 26.7.5.
    """
    if degrees <= _MOST_EXACT and degrees == int(degrees):
        return _exact_quantile(probability, int(degrees))
    z = NormalDist().inv_cdf(probability)
    if math.isinf(degrees):
        return z
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3 + g4 / degrees**4


def _exact_quantile(p: float, degrees: int) -> float:
    def probability(t: float) -> float:
        theta = math.atan(t / math.sqrt(degrees))
        cosine2 = math.cos(theta) ** 2
        total, term = 0.0, 1.0
        first = 2 if degrees % 2 else 1
        for k in range(first, degrees - 1, 2):
            total += term
            term *= cosine2 * k / (k + 1)
        total += term
        if degrees % 2:
            inner = math.sin(theta) * math.cos(theta) * total if degrees > 1 else 0.0
            return 0.5 + (theta + inner) / math.pi
        return 0.5 + math.sin(theta) * total / 2

    low, high = 0.0, 1.0
    while probability(high) < p:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if probability(middle) < p:
            low = middle
        else:
            high = middle
    return high


def student_interval(value: float, error: float, degrees: float, level: float) -> tuple[float, float]:
    """Two-sided interval around a value of known standard error."""
    half = student_quantile(0.5 + level / 2, degrees) * error
    return value - half, value + half
