"""Labels: accuracies or mean squared errors of many networks, by quasi-Monte Carlo in order-statistics coordinates.

A point of the unit cube of n + 1 dimensions becomes a Gaussian input in which the first coordinates decide what
matters most for these tasks: the permutation that sorts the input, and then its values from the largest down. The
points are a Hammersley-Halton set with a uniformly random shift, so each label is unbiased. On ARC's 432-parameter
network under 1% noise its variance is a third of plain sampling's, and neither random numbers nor sorting are needed
per network, because networks share the points of a table. Each table serves `TABLE_NETWORKS` networks only, so that its
own error does not become a bias of everything fitted.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from outsample import _core
from outsample.cubature.points import Points
from outsample.tasks import Task

#: Networks that share one table of points.
TABLE_NETWORKS = 256
#: Points whose outputs are held at once.
_CHUNK = 4096

_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71)
#: Longest sequence that there are bases for.
MAX_SEQ_LEN = len(_PRIMES)


@lru_cache(maxsize=4)
def _halton(count: int, dimensions: int) -> NDArray[np.float64]:
    points = np.empty((count, dimensions))
    points[:, 0] = (np.arange(count) + 0.5) / count
    for column, base in zip(points.T[1:], _PRIMES, strict=False):
        index = np.arange(1, count + 1)
        column[:] = 0
        digit = 1.0 / base
        while index.any():
            column += digit * (index % base)
            index //= base
            digit /= base
    return points


def order_statistics_inputs(seq_len: int, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A randomly shifted Hammersley-Halton set of Gaussian inputs, shape (count, seq_len)."""
    n = seq_len
    u = (_halton(count, n + 1) + rng.random(n + 1)) % 1.0
    np.clip(u, 1e-12, 1 - 1e-12, out=u)
    # Positions from the largest input down: digits of the first coordinate in bases n, n - 1, ...
    digits = u[:, 0].copy()
    free = np.tile(np.arange(n), (count, 1))
    position = np.empty((count, n), dtype=np.intp)
    for k in range(n):
        digits *= n - k
        digit = np.minimum(digits.astype(np.intp), n - k - 1)
        digits -= digit
        position[:, k] = free[np.arange(count), digit]
        for j in range(n - k - 1):
            behind = j >= digit
            free[behind, j] = free[behind, j + 1]
    # Values from the largest down: order statistics of n uniforms, through the normal quantile.
    log_uniform = np.cumsum(np.log(u[:, 1:]) / (n - np.arange(n)), axis=1)
    values = _core.normal_quantile(np.exp(log_uniform).ravel()).reshape(count, n)
    inputs = np.empty((count, n), dtype=np.float32)
    np.put_along_axis(inputs, position, values.astype(np.float32), axis=1)
    return inputs


def moments(
    weights: NDArray[np.float32],
    task: Task,
    seq_len: int,
    hidden_size: int,
    samples: int,
    seed: np.random.SeedSequence,
    threads: int = 1,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Labels, and the variance of one plain sample, of networks on one table of ``samples`` points."""
    n = seq_len
    inputs = order_statistics_inputs(n, samples, np.random.Generator(np.random.Philox(seed)))
    if task.quantity == "accuracy":
        target = task.target(inputs).astype(np.int32)
        p = _core.count_correct_at(weights, hidden_size, n, inputs, target, threads) / samples
        return p, p * (1 - p)
    # Without biases errors are in proportion to the length of the input, which is independent of its direction: only
    # the direction is sampled.
    median = np.asarray(task.target(inputs), dtype=np.float32)
    share = n / (inputs.astype(np.float64) ** 2).sum(axis=1)
    first, second = np.zeros((2, len(weights)))
    for i in range(0, samples, _CHUNK):
        x = inputs[i : i + _CHUNK]
        parent = np.tile(np.arange(len(x), dtype=np.int32), (n, 1))
        parent[0] = 0
        points = Points(
            np.full(n, len(x), np.int32), parent.ravel(), x.T.ravel().copy(), np.zeros(len(x), dtype=np.int32)
        )
        error = points.forest.margins(weights, hidden_size, 1, threads) - median[i : i + _CHUNK, None]
        square = error.astype(np.float64)
        square *= square
        square *= share[i : i + _CHUNK, None]
        first += square.sum(axis=0)
        second += (square * square).sum(axis=0)
    first /= samples
    return first, (n + 2) / n * second / samples - first**2


def labels(
    weights: NDArray[np.float32],
    task: Task,
    seq_len: int,
    hidden_size: int,
    samples: int,
    seed: np.random.SeedSequence,
    threads: int = 1,
) -> NDArray[np.float64]:
    """Accuracies (or mean squared errors) of up to `TABLE_NETWORKS` networks on one table of ``samples`` points."""
    return moments(weights, task, seq_len, hidden_size, samples, seed, threads)[0]
