"""Tasks: what a network is asked for, and how its answer is judged.

Ties go to the lowest index, in labels and in predictions, as in numpy's ``argmax``: among equal inputs the earlier one
ranks as the larger, and among equal logits the earlier one is the prediction. Labels of Gaussian inputs never tie in
exact arithmetic; logits do (a network whose last hidden state is all zero gives equal logits), and then the prediction
is position 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Quantity = Literal["accuracy", "mean_squared_error"]
Inputs = Literal["gaussian", "function"]


def _ranked(x: NDArray[np.floating]) -> NDArray[np.intp]:
    """Positions by descending value; a stable sort of -x keeps the lower index first among equals."""
    return np.argsort(-x, axis=-1, kind="stable")


def _second_argmax(x: NDArray[np.floating]) -> NDArray[np.intp]:
    return _ranked(x)[..., 1]


def _argmax(x: NDArray[np.floating]) -> NDArray[np.intp]:
    return np.asarray(np.argmax(x, axis=-1))


def _argmedian(x: NDArray[np.floating]) -> NDArray[np.intp]:
    return _ranked(x)[..., x.shape[-1] // 2]


def _median(x: NDArray[np.floating]) -> NDArray[np.floating]:
    result: NDArray[np.floating] = np.median(x, axis=-1)
    return result


def _longest_cycle(x: NDArray[Any]) -> NDArray[np.intp]:
    x = x.astype(np.intp)
    n = x.shape[-1]
    start = np.broadcast_to(np.arange(n), x.shape)
    label, at, back = np.zeros(x.shape[:-1], dtype=np.intp), start, np.zeros(x.shape, dtype=bool)
    for steps in range(1, n + 1):
        at = np.take_along_axis(x, at, axis=-1)
        first = (at == start) & ~back
        label[first.any(axis=-1)] = steps - 1
        back |= first
    return label


@dataclass(frozen=True)
class Task:
    """A task of the model families.

    Attributes
    ----------
    name : str
        ``"2nd_argmax"``, ``"argmax"``, ``"argmedian"``, ``"median"`` (of `RNN`) or ``"longest_cycle"`` (of
        `Transformer`).
    quantity : str
        What is estimated: ``"accuracy"``, or ``"mean_squared_error"`` for the median task.
    min_seq_len : int
        Shortest sequence that the task makes sense for.
    inputs : str
        ``"gaussian"``: n independent N(0, 1) numbers; or ``"function"``: the values of a uniformly random function from
        {0, ..., n-1} to itself.
    """

    name: str
    quantity: Quantity
    min_seq_len: int
    _target: Callable[[NDArray[Any]], NDArray[np.generic]]
    inputs: Inputs = "gaussian"

    def target(self, x: ArrayLike) -> NDArray[np.generic]:
        """The right answers for inputs of shape (..., n).

        Positions, values for the median task, or for longest_cycle the longest cycle's length less one.
        """
        return self._target(np.asarray(x))

    def check_seq_len(self, seq_len: int) -> None:
        """Raise ValueError if the task is not defined for this sequence length."""
        if seq_len < self.min_seq_len:
            raise ValueError(f"seq_len must be at least {self.min_seq_len} for task {self.name}, got {seq_len}")
        if self.name == "argmedian" and seq_len % 2 == 0:
            raise ValueError(f"seq_len must be odd for task argmedian, got {seq_len}")

    def output_size(self, seq_len: int) -> int:
        """Number of logits: one per position, or one for the median task."""
        return 1 if self.quantity == "mean_squared_error" else seq_len


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("2nd_argmax", "accuracy", 2, _second_argmax),
        Task("argmax", "accuracy", 1, _argmax),
        Task("argmedian", "accuracy", 1, _argmedian),
        Task("median", "mean_squared_error", 1, _median),
        Task("longest_cycle", "accuracy", 1, _longest_cycle, "function"),
    )
}


def get_task(task: str | Task) -> Task:
    """A task by name.

    Raises
    ------
    ValueError
        If there is no task of that name.
    TypeError
        If ``task`` is neither a name nor a Task.
    """
    if isinstance(task, Task):
        return task
    if not isinstance(task, str):
        raise TypeError(f"task must be a string, got {type(task).__name__}")
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    return TASKS[task]
