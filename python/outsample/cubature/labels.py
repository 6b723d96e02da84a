"""Labels: accuracies or mean squared errors of many networks, by randomised quasi-Monte Carlo.

Accuracies are means over low-discrepancy points of all inputs but the last, in order coordinates
(`low_discrepancy.order_inputs`), the last input integrated exactly: the rule of `DeterministicCubature` with a
uniformly random shift, which makes each label unbiased. On ARC's 432-parameter network under 1% noise a point is worth
eight to nine plain samples and costs 1.2 forward passes.

For the median task a point of the unit cube of n + 1 dimensions becomes a whole Gaussian input: its coordinates are the
permutation that sorts the input, and then its values from the largest down.

Neither random numbers nor sorting are needed per network, because networks share the points of a table. Each table
serves `TABLE_NETWORKS` networks only, so that its own error does not become a bias of everything fitted.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from outsample import _core, low_discrepancy
from outsample.cubature.points import Points
from outsample.estimators.conditional_monte_carlo import RuleCost
from outsample.models import RNN
from outsample.point_tables import Table, make_table, ranks
from outsample.tasks import Quantity, Task

#: Networks that share one table of points.
TABLE_NETWORKS = 256
#: How labels are made, for the record of an advice.
SAMPLERS: dict[Quantity, str] = {
    "accuracy": "shifted Hammersley points in order coordinates, the last input exact",
    "mean_squared_error": "shifted Hammersley-Halton points in order-statistics coordinates",
}
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


def _table(task: Task, seq_len: int, count: int, rng: np.random.Generator) -> Table:
    """Randomly shifted points of all inputs but the last, for the core."""
    inputs = seq_len - 1
    ranked = ranks(task, inputs)
    dimensions = low_discrepancy.order_dimensions(inputs, ranked)
    u = low_discrepancy.hammersley(count, dimensions, shift=rng.random(dimensions))
    u = np.clip(u, 2.0**-32, 1 - 2.0**-32)
    return make_table(low_discrepancy.order_inputs(u, inputs, ranked), task, exact_last=True)


def label_forwards(model: RNN, samples: int) -> float:
    """What a label of ``samples`` points costs, in forward passes.

    The number of pieces that the last input's line falls into is that of ``model`` itself; its noisy copies differ
    little from it.
    """
    if model.task.quantity != "accuracy":
        return float(samples)
    table = _table(model.task, model.seq_len, samples, np.random.Generator(np.random.Philox(0)))
    _, walked = _core.point_sums(model._network, table[None], True)
    cost = RuleCost.of(model, exact_last=True).total(samples, walked)
    return cost.multiply_adds / model.forward_multiply_adds


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
    rng = np.random.Generator(np.random.Philox(seed))
    if task.quantity == "accuracy":
        table = _table(task, n, samples, rng)
        p = _core.point_sums_of_weights(weights, hidden_size, n, table, True, threads)
        p = np.clip(p, 0.0, 1.0)  # rounding
        return p, p * (1 - p)
    inputs = order_statistics_inputs(n, samples, rng)
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
