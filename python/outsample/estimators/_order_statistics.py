"""Laws of the order statistics of n standard normals, and which of them decide a task."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from outsample import _core
from outsample.tasks import Task

Array = NDArray[np.float64]


class Pinned(NamedTuple):
    """The order statistics that decide a task: `size` neighbouring ranks from `rank` (1 = the largest) downwards.

    `label` says which of them is the right answer; for the median task the answer is the mean of them all.
    """

    rank: int
    size: int
    label: int

    @property
    def above(self) -> int:
        """Number of inputs larger than all of them."""
        return self.rank - 1


def pinned(task: Task, n: int) -> Pinned:
    """The order statistics that decide a task for sequences of length n."""
    if task.name == "2nd_argmax":
        return Pinned(1, 2, 1)
    if task.name == "argmax":
        return Pinned(1, 1, 0)
    if n % 2:
        return Pinned((n + 1) // 2, 1, 0)
    return Pinned(n // 2, 2, 0)


@lru_cache(maxsize=64)
def _law(n: int, rank: int) -> tuple[Array, Array]:
    """Values and distribution function of the rank-th largest of n standard normals, on a fine grid."""
    x = np.linspace(-9.0, 9.0, 20_001)
    cdf = _normal_cdf(x)
    log_density = (
        math.lgamma(n + 1)
        - math.lgamma(rank)
        - math.lgamma(n - rank + 1)
        + (n - rank) * np.log(cdf)
        + (rank - 1) * np.log(cdf[::-1])
        - x * x / 2
        - 0.5 * math.log(2 * math.pi)
    )
    density = np.exp(log_density)
    total = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)]) * (x[1] - x[0])
    return x, total / total[-1]


def _normal_cdf(x: Array) -> Array:
    return _core.bivariate_normal_cdf(x, np.full_like(x, np.inf), np.zeros_like(x))


def normal_cdf(x: Array) -> Array:
    """The standard normal distribution function."""
    return _normal_cdf(np.ascontiguousarray(x)).reshape(x.shape)


def normal_quantile(p: Array) -> Array:
    """Its inverse."""
    return _core.normal_quantile(np.ascontiguousarray(p)).reshape(p.shape)


def moments(n: int, rank: int) -> tuple[float, float]:
    """First and second moment of the rank-th largest of n standard normals."""
    x, cdf = _law(n, rank)
    weight = np.diff(cdf)
    middle = (x[1:] + x[:-1]) / 2
    return float(weight @ middle), float(weight @ middle**2)


def values(n: int, which: Pinned, u: Array) -> Array:
    """Quantiles: points u of shape (points, which.size) in the unit cube to values, largest first.

    The first coordinate is the largest one's probability; the next value is the largest of the n - rank inputs known
    to lie below it.
    """
    x, cdf = _law(n, which.rank)
    result = np.empty_like(u)
    result[:, 0] = np.interp(u[:, 0], cdf, x)
    for k in range(1, which.size):
        below = normal_cdf(result[:, k - 1]) * u[:, k] ** (1.0 / (n - which.rank - k + 1))
        result[:, k] = normal_quantile(below)
    return result


def _prime_at_most(count: int) -> int:
    while count > 3 and any(count % k == 0 for k in range(2, math.isqrt(count) + 1)):
        count -= 1
    return count


#: Weight of every coordinate in the criterion that chooses a lattice. With weight 1 the criterion sees only projections
#: on nearly all coordinates at once, which a few hundred points cannot fill anyway.
_COORDINATE_WEIGHT = 0.03


@lru_cache(maxsize=64)
def lattice(count: int, dimensions: int) -> Array:
    """A Korobov lattice in the unit cube: u_i = frac(i (1, a, a^2, ...) / N) + 1/(2 N), N the largest prime <= count.

    Every coordinate is one point in each of N equal intervals; a is the generator with the smallest weighted P_2 among
    at most 256 tried.
    """
    size = _prime_at_most(count)
    i = np.arange(size)
    best, points = math.inf, np.full((size, dimensions), 0.5)
    tried = min(size - 1, 256, max(16, 2**20 // size))
    for a in np.unique(np.linspace(1, size - 1, tried).astype(int)):
        generator = np.ones(dimensions, dtype=np.int64)
        for j in range(1, dimensions):
            generator[j] = generator[j - 1] * a % size
        u = (i[:, None] * generator % size) / size
        # P_2: the worst-case error for functions with square-integrable mixed derivatives.
        error = np.prod(1 + _COORDINATE_WEIGHT * 2 * np.pi**2 * (u * (u - 1) + 1 / 6), axis=1).sum()
        if error < best:
            best, points = error, u + 0.5 / size
    points.flags.writeable = False
    return points
