"""Tables of points for the core: inputs, right answers and weights, which do not depend on a network's weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from outsample import _core, low_discrepancy
from outsample.tasks import Task

Table = NDArray[np.float32]


def ranks(task: Task, inputs: int) -> int:
    """How many of the largest inputs decide the label: those get leading coordinates."""
    return inputs // 2 + 1 if task.name == "argmedian" else low_discrepancy.RANKED


def make_table(
    x: NDArray[np.float64], task: Task, *, exact_last: bool, weights: NDArray[np.float64] | None = None
) -> Table:
    """Table of points for the core.

    Parameters
    ----------
    x : ndarray, shape (count, n) or, with `exact_last`, (count, n - 1)
        Inputs.
    task : Task
        One with a right position.
    exact_last : bool
        Whether the core integrates over the last input.
    weights : ndarray, shape (count,), optional
        Positive; by default 1 / count.
    """
    values = x.astype(np.float32)
    count, inputs = values.shape
    if exact_last:
        order = alike_together(values)
        values, weights = values[order], None if weights is None else weights[order]
    columns: list[NDArray[Any]] = list(values.T)
    if exact_last:
        # Where the right position changes as the last input grows, and what it is on both sides.
        order = np.argsort(-values, axis=1, kind="stable").astype(np.int32)
        rows = np.arange(count)
        infinite = np.full(count, np.inf, dtype=np.float32)
        if task.name == "argmax":
            before = after = order[:, 0]
            columns += [values[rows, before], infinite, before, after]
        elif task.name == "2nd_argmax":
            after = order[:, 0]
            before = order[:, 1] if inputs > 1 else after
            columns += [values[rows, before] if inputs > 1 else -infinite, values[rows, after], before, after]
        else:
            before, after = order[:, inputs // 2], order[:, inputs // 2 - 1]
            columns += [values[rows, before], values[rows, after], before, after]
    else:
        columns.append(task.target(values).astype(np.int32))
    columns.append(np.full(count, 1.0 / count, np.float32) if weights is None else weights.astype(np.float32))
    return _packed(columns, count)


def alike_together(x: NDArray[np.float32]) -> NDArray[np.intp]:
    """An order of points in which neighbours take about as many intervals to walk over the last input.

    The lanes of a vector wait for the longest walk. What matters most for it, in networks of all tasks: how large the
    largest input is (in eighths of the points), where it is, and the last input before the one that is walked.
    """
    by_largest = np.argsort(x.max(axis=1), kind="stable")
    eighth = np.empty(len(x), dtype=np.intp)
    eighth[by_largest] = np.arange(len(x)) * 8 // len(x)
    return np.lexsort((x[:, -1], x.argmax(axis=1), eighth))


def _packed(columns: list[NDArray[Any]], count: int) -> Table:
    """Columns of 4-byte entries to the core's layout (groups, rows, points per group), padded with zero weights."""
    group = _core.points_per_group
    groups = -(-count // group)
    table = np.zeros((len(columns), groups * group), dtype=np.float32)
    for row, column in zip(table, columns, strict=True):
        row[:count] = np.ascontiguousarray(column).view(np.float32)
    return np.ascontiguousarray(table.reshape(len(columns), groups, group).transpose(1, 0, 2))


class Tables(NamedTuple):
    """Tables as the core takes them: copies of so many points side by side, or (0) in groups."""

    data: Table
    points: int


def side_by_side(tables: list[Table], count: int) -> Table:
    """The first `count` points of all tables in a row, shape (rows, columns), without what fills up their groups.

    Behind them are as many columns as the core may read beyond the last point.
    """
    rows = tables[0].shape[1]
    spare = np.zeros((rows, _core.points_per_group - 1), dtype=np.float32)
    return np.concatenate([t.transpose(1, 0, 2).reshape(rows, -1)[:, :count] for t in tables] + [spare], axis=1)


#: For 2nd_argmax: by how much points are denser than normal inputs where the third-largest is close to the second, and
#: sparser where it is far.
_TILT = 0.4


def tilted(u: NDArray[np.float64], column: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Importance sampling: points with one coordinate of a density that grows, and their weights, whose sum is 1."""
    v = u[:, column]
    u = u.copy()
    u[:, column] = v + _TILT * v * (1 - v)
    weights = 1 + _TILT * (1 - 2 * v)
    return u, weights / weights.sum()


# Tables are kept, the latest used last, up to so many bytes.
_CACHE_BYTES = 1 << 28
_cache: OrderedDict[tuple[Any, ...], Table] = OrderedDict()
_cache_lock = Lock()


def cached(key: tuple[Any, ...], make: Callable[[], Table]) -> Table:
    """The table of this key, made at the first time."""
    with _cache_lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    table = make()
    with _cache_lock:
        _cache[key] = table
        while len(_cache) > 1 and sum(t.nbytes for t in _cache.values()) > _CACHE_BYTES:
            _cache.popitem(last=False)
    return table
