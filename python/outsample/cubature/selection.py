"""Greedy choice of points that explain the accuracy (or mean squared error), per multiply-add."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from outsample.cubature.points import Points
from outsample.cubature.rule import TrainingSet

_PARTS = 4
#: A Gram matrix costs what so many of its rows cost by themselves (16,384 candidates, 4,096 networks).
_MOST_ROWS = 250


class Selection:
    """Orthogonal matching pursuit among candidate points, one feature each: tanh(margin / its standard
    deviation), or for the median task the squared error.

    Parameters
    ----------
    candidates : Points
    data : TrainingSet
        Networks that the candidates' features are computed on.
    ridge : float
        Added to the candidates' variances, in units of a feature's variance.
    """

    def __init__(self, candidates: Points, data: TrainingSet, ridge: float = 0.003) -> None:
        self.candidates = candidates
        margins = data.margins(candidates)
        if data.outputs == 1:
            margins -= np.median(candidates.inputs, axis=1)[:, None]
            margins *= margins
        margins /= np.maximum(margins.std(axis=1, dtype=np.float64), 1e-12).astype(np.float32)[:, None]
        feature = margins if data.outputs == 1 else np.tanh(margins, out=margins)
        feature -= (feature @ (data.importance / len(data)).astype(np.float32))[:, None]
        feature *= data.root
        center = (data.importance * data.accuracy).mean()
        self.moment = (feature @ (data.root * (data.accuracy - center)).astype(np.float32)).astype(np.float64)
        self.feature, self.threads = feature, data.threads
        self.ridge = ridge * len(data)
        self.costs = candidates.node_costs(data.hidden_size, data.outputs).astype(np.float64)

    def _gram(self) -> NDArray[np.float32]:
        """Inner products of all features."""
        # In parts of the networks, which threads work on; added in order, so that their number does not matter.
        feature = self.feature
        ends = np.linspace(0, feature.shape[1], _PARTS + 1).astype(int)

        def product(begin: int, end: int) -> NDArray[np.float32]:
            part = feature[:, begin:end]
            return np.asarray(part @ part.T, dtype=np.float32)

        with ThreadPoolExecutor(min(self.threads, 2)) as pool:  # each holds a Gram matrix
            grams = pool.map(product, ends[:-1], ends[1:])
            gram = next(grams)
            for part in grams:
                gram += part
        return gram

    def choose(self, budget: float) -> Points:
        """The points chosen until the next best one would exceed ``budget`` multiply-adds; at least one."""
        with ThreadPoolExecutor(self.threads) as pool:
            parts = np.array_split(self.feature, _PARTS)

            def row(i: int) -> NDArray[np.float32]:
                return np.concatenate(list(pool.map(lambda part: part @ self.feature[i], parts)))

            begin = self.candidates.level_begin[-2]
            many = budget > 4 * _MOST_ROWS * self.costs[begin:].min()  # about a quarter goes into last inputs
            return self._choose(budget, self._gram().__getitem__ if many else row, pool)

    def _choose(self, budget: float, row: Callable[[int], NDArray[np.float32]], pool: ThreadPoolExecutor) -> Points:
        points = self.candidates
        paths = points.ancestors
        count = len(points)
        cost = self.costs[paths].sum(axis=1)
        # Every node's leaves are consecutive.
        first, last = np.full(len(points.x), count), np.zeros(len(points.x), dtype=np.int64)
        for column in paths.T:
            np.minimum.at(first, column, np.arange(count))
            np.maximum.at(last, column, np.arange(count) + 1)
        owned = np.zeros(len(points.x), dtype=bool)
        left = np.einsum("cn,cn->c", self.feature, self.feature, dtype=np.float64)
        moment = self.moment.copy()
        rows = np.empty((64, count), dtype=np.float32)  # of the Cholesky factor
        cuts = np.linspace(0, count, _PARTS + 1).astype(int)
        parts = [slice(*ends) for ends in itertools.pairwise(cuts)]

        def known(coefficients: NDArray[np.float32]) -> NDArray[np.float32]:
            """Coefficients times the rows that there are."""
            k = len(coefficients)
            return np.concatenate(list(pool.map(lambda part: coefficients @ rows[:k, part], parts)))

        chosen: list[int] = []
        alive = np.ones(count, dtype=bool)
        spent = 0.0
        while alive.any():
            score = np.where(alive, moment**2 / (left + self.ridge) / cost, -1.0)
            i = int(score.argmax())
            if chosen and spent + cost[i] > budget:
                break
            k = len(chosen)
            if k == len(rows):
                rows = np.concatenate([rows, np.empty_like(rows)])
            pivot = np.sqrt(left[i] + self.ridge)
            rows[k] = (row(i) - known(rows[:k, i])) / pivot
            moment -= rows[k] * (moment[i] / pivot)
            left = np.maximum(left - rows[k].astype(np.float64) ** 2, 0)
            spent += cost[i]
            alive[i] = False
            chosen.append(i)
            for node in paths[i]:
                if not owned[node]:
                    owned[node] = True
                    cost[first[node] : last[node]] -= self.costs[node]
            cost[i] = 1.0
        return points.subset(np.array(chosen))
