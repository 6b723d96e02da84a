"""Input points that share prefixes: leaves of a forest whose level t holds the distinct prefixes of t + 1 inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from outsample import _core
from outsample.tasks import Task


@dataclass(frozen=True, eq=False)
class Points:
    """Points as a forest, level by level.

    Attributes
    ----------
    level_sizes : ndarray, shape (n,), int32
        Number of distinct prefixes of each length; the last one is the number of points.
    parent : ndarray, shape (nodes,), int32
        For each prefix the index, within the level above, of the prefix that it extends; sorted within a level. Zero
        on the first level.
    x : ndarray, shape (nodes,), float32
        For each prefix its last input.
    target : ndarray, shape (points,), int32
        The right answer at each point; zeros for the median task, whose answers are no positions.
    """

    level_sizes: NDArray[np.int32]
    parent: NDArray[np.int32]
    x: NDArray[np.float32]
    target: NDArray[np.int32]

    @cached_property
    def forest(self) -> _core.Forest:
        """The same for the core, checked there."""
        return _core.Forest(self.level_sizes, self.parent, self.x, self.target)

    @cached_property
    def level_begin(self) -> NDArray[np.int64]:
        """Index of the first node of each level, and the number of nodes."""
        return np.concatenate([[0], np.cumsum(self.level_sizes)])

    @property
    def seq_len(self) -> int:
        """Sequence length n."""
        return len(self.level_sizes)

    def __len__(self) -> int:
        return int(self.level_sizes[-1])

    @cached_property
    def ancestors(self) -> NDArray[np.int64]:
        """Nodes on the way to each point, shape (points, n)."""
        paths = np.empty((len(self), self.seq_len), dtype=np.int64)
        within: NDArray[np.integer] = np.arange(len(self))
        for t in range(self.seq_len - 1, -1, -1):
            paths[:, t] = self.level_begin[t] + within
            within = self.parent[paths[:, t]]
        return paths

    def parts(self, count: int, rng: np.random.Generator) -> list[NDArray[np.intp]]:
        """The points in random parts of about the same number of nodes, whole trees each, in ascending order."""
        root = self.ancestors[:, 0]
        nodes = np.zeros(int(self.level_sizes[0]), dtype=np.int64)
        for t in range(self.seq_len):  # every node counts once, for the tree of its first leaf
            _, first = np.unique(self.ancestors[:, t], return_index=True)
            nodes += np.bincount(root[first], minlength=len(nodes))
        order = rng.permutation(len(nodes))
        part = np.empty(len(nodes), dtype=np.int64)
        part[order] = np.minimum((np.cumsum(nodes[order]) - 1) * count // nodes.sum(), count - 1)
        return [found for i in range(count) if (found := np.flatnonzero(part[root] == i)).size]

    @property
    def inputs(self) -> NDArray[np.float32]:
        """The points themselves, shape (points, n)."""
        return self.x[self.ancestors]

    def moved(self, x: NDArray[np.floating]) -> Points:
        """The same forest and answers with other inputs."""
        return Points(self.level_sizes, self.parent, x.astype(np.float32), self.target)

    def nodes_of(self, points: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which nodes (a mask) stand on the way to any of the points."""
        keep = np.zeros(len(self.x), dtype=bool)
        keep[self.ancestors[points]] = True
        return keep

    def subset(self, points: NDArray[np.integer]) -> Points:
        """The forest of some of the points, in their present order."""
        keep = self.nodes_of(points)
        index = np.cumsum(keep) - 1
        begin = self.level_begin
        sizes = np.array([keep[a:b].sum() for a, b in pairwise(begin)], dtype=np.int32)
        parent = np.zeros(len(self.x), dtype=np.int64)
        for t in range(1, self.seq_len):
            level = slice(begin[t], begin[t + 1])
            above = begin[t - 1] + self.parent[level]
            parent[level] = index[above] - (index[begin[t - 1] : begin[t]][keep[begin[t - 1] : begin[t]]][0])
        return Points(sizes, parent[keep].astype(np.int32), self.x[keep], self.target[keep[begin[-2] :]])

    def node_costs(self, hidden_size: int, outputs: int) -> NDArray[np.int64]:
        """Multiply-adds that each prefix adds to those of the prefix that it extends."""
        d = hidden_size
        costs = np.full(len(self.x), d + d * d)
        costs[self.level_begin[-2] :] = d + d * outputs
        return costs


def random_points(task: Task, seq_len: int, branching: tuple[int, ...], roots: int, rng: np.random.Generator) -> Points:
    """Random points of a given tree structure, of length sqrt(n), with their right answers.

    Parameters
    ----------
    task : Task
    seq_len : int
    branching : tuple of int
        How many continuations each prefix has at each of the last steps: ``(4, 8)`` makes four second-last inputs per
        prefix of n - 2, and eight last inputs for each of those.
    roots : int
        Number of different prefixes before any branching.
    rng : Generator
    """
    factors = [1] * (seq_len - len(branching)) + list(branching)
    sizes = roots * np.cumprod(factors)
    parents = [
        np.repeat(np.arange(size // f), f) if t else np.zeros(size)
        for t, (size, f) in enumerate(zip(sizes, factors, strict=True))
    ]
    x = [rng.standard_normal(size) for size in sizes]
    points = Points(
        sizes.astype(np.int32),
        np.concatenate(parents).astype(np.int32),
        np.concatenate(x).astype(np.float32),
        np.zeros(sizes[-1], dtype=np.int32),
    )
    if task.quantity == "mean_squared_error":
        return points
    return replace(points, target=task.target(points.inputs).astype(np.int32))
