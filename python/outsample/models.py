"""The recurrent network whose accuracy is estimated."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from outsample import _core
from outsample.tasks import Task, get_task


def _as_float32(value: ArrayLike, name: str) -> NDArray[np.float32]:
    if hasattr(value, "detach"):  # a torch tensor, possibly one that requires a gradient
        value = value.detach()
    array = np.asarray(value)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must be an array of real floating-point numbers, got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused as such
        result = np.array(array, dtype=np.float32, order="C")  # a copy, so that the caller's array can go on changing
    if not np.isfinite(result).all():
        raise ValueError(f"{name} must be finite in float32, got {array[~np.isfinite(result)].flat[0]}")
    result.flags.writeable = False
    return result


@dataclass(frozen=True, eq=False, repr=False)
class RNN:
    """One-layer ReLU recurrent network.

    ``h_0 = 0; h_{t+1} = relu(W_hh h_t + W_hi x_t + b_h); logits = W_oh h_n + b_o``. Immutable; weights are float32.

    Parameters
    ----------
    W_hh : array_like, shape (d, d)
        Hidden to hidden.
    W_hi : array_like, shape (d,) or (d, 1)
        Input to hidden; kept as shape (d,).
    W_oh : array_like, shape (n, d), or (1, d) for the median task
        Hidden to logits.
    task : str or Task, default "2nd_argmax"
        What the network is asked for.
    b_h, b_o : array_like, optional
        Biases, shapes (d,) and (rows of W_oh,). None by default.
    seq_len : int, optional
        Sequence length n. Default: the rows of W_oh. Must be given for the median task.
    name : str, optional
        For tables and messages.

    Raises
    ------
    TypeError
        If weights are not floating-point arrays.
    ValueError
        If shapes disagree, weights are not finite, or the task does not fit the shape.
    """

    W_hh: NDArray[np.float32]
    W_hi: NDArray[np.float32]
    W_oh: NDArray[np.float32]
    task: Task = field(default="2nd_argmax")  # type: ignore[assignment]
    b_h: NDArray[np.float32] | None = None
    b_o: NDArray[np.float32] | None = None
    seq_len: int = field(default=None)  # type: ignore[assignment]
    name: str = ""

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        for name in ("W_hh", "W_hi", "W_oh", "b_h", "b_o"):
            value = getattr(self, name)
            if value is not None:
                put(name, _as_float32(value, name))
        if self.W_hi.ndim == 2 and self.W_hi.shape[1] == 1:
            put("W_hi", self.W_hi[:, 0])
        put("task", get_task(self.task))
        if self.seq_len is None:  # as constructed; the annotation says what it is afterwards
            if self.task.quantity == "mean_squared_error":
                raise ValueError(f"seq_len must be given for task {self.task.name}: the weights do not tell it")
            put("seq_len", int(self.W_oh.shape[0]) if self.W_oh.ndim == 2 else 0)
        self.task.check_seq_len(self.seq_len)
        # The core checks the shapes against each other.
        network = _core.Network(self.W_hh, self.W_hi, self.W_oh, self.seq_len, self.b_h, self.b_o)
        if self.W_oh.shape[0] != self.task.output_size(self.seq_len):
            raise ValueError(
                f"W_oh must have {self.task.output_size(self.seq_len)} rows for task {self.task.name} and "
                f"seq_len {self.seq_len}, got {self.W_oh.shape[0]}"
            )
        put("_network", network)

    _network: _core.Network = field(init=False, default=None)  # type: ignore[assignment]

    @property
    def hidden_size(self) -> int:
        """Number of hidden units d."""
        return int(self.W_hi.shape[0])

    @property
    def has_biases(self) -> bool:
        """Whether any bias is present; methods that need positive homogeneity refuse such networks."""
        return self.b_h is not None or self.b_o is not None

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases."""
        return sum(a.size for a in (self.W_hh, self.W_hi, self.W_oh, self.b_h, self.b_o) if a is not None)

    @property
    def forward_multiply_adds(self) -> int:
        """Multiply-adds of one forward pass: the unit of a budget."""
        return int(self._network.forward_multiply_adds)

    @cached_property
    def digest(self) -> str:
        """Hexadecimal sha256 of the weights, the task and the sequence length."""
        h = hashlib.sha256(f"{self.task.name} {self.hidden_size} {self.seq_len}".encode())
        for name in ("W_hh", "W_hi", "W_oh", "b_h", "b_o"):
            array = getattr(self, name)
            h.update(name.encode() + (b"-" if array is None else array.astype("<f4").tobytes()))
        return h.hexdigest()

    def forward(self, x: ArrayLike, *, hidden_states: bool = False, threads: int = 1) -> Any:
        """Logits of a batch of inputs.

        Parameters
        ----------
        x : array_like, shape (count, n) or (n,)
            Inputs.
        hidden_states : bool, default False
            Also return h_0 ... h_n.
        threads : int, default 1
            Number of threads.

        Returns
        -------
        logits : ndarray, shape (count, outputs) or (outputs,), float32
        hidden : ndarray, shape (count, n + 1, d) or (n + 1, d), float32
            Only with ``hidden_states=True``.

        Raises
        ------
        ValueError
            If ``x`` has another shape.
        """
        x = np.asarray(x, dtype=np.float32)
        single = x.ndim == 1
        result = _core.forward(self._network, x[None] if single else x, hidden_states, threads)
        if not single:
            return result
        return (result[0][0], result[1][0]) if hidden_states else result[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return RNN, (self.W_hh, self.W_hi, self.W_oh, self.task.name, self.b_h, self.b_o, self.seq_len, self.name)

    def __repr__(self) -> str:
        name = f"{self.name!r}, " if self.name else ""
        return (
            f"RNN({name}task={self.task.name!r}, hidden_size={self.hidden_size}, seq_len={self.seq_len}, "
            f"parameters={self.n_parameters})"
        )
