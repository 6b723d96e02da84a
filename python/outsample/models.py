"""What is estimated: the base class of models, and the recurrent network."""

from __future__ import annotations

import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from outsample import _core
from outsample._cache import write_atomically
from outsample.tasks import Task, get_task


def as_float32(value: ArrayLike, name: str) -> NDArray[np.float32]:
    """A read-only float32 copy of weights, checked."""
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


class Model(ABC):
    """What every model tells an estimator: `RNN` and `Transformer` are the families that there are.

    Attributes
    ----------
    task : Task
        What the model is asked for.
    seq_len : int
        Sequence length n.
    name : str
        For tables and messages.
    shape : tuple
        All but the weights: task, sizes, and which biases there are. Hashable; the same for networks that an estimator
        can treat alike.
    """

    task: Task
    seq_len: int
    name: str
    shape: tuple[Any, ...]

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """Number of hidden units d."""

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Number of weights and biases."""

    @property
    def has_biases(self) -> bool:
        """Whether any bias is present; methods that need positive homogeneity refuse such networks."""
        return False

    @property
    @abstractmethod
    def forward_multiply_adds(self) -> int:
        """Multiply-adds of one forward pass: the unit of a budget."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Hexadecimal sha256 of the weights, the task and the sequence length."""

    @abstractmethod
    def forward(self, x: ArrayLike, *, threads: int = 1) -> Any:
        """Logits of a batch of inputs."""


@dataclass(frozen=True, eq=False, repr=False)
class RNN(Model):
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
            if value is not None or name.startswith("W"):
                put(name, as_float32(value, name))
        if self.W_hi.ndim == 2 and self.W_hi.shape[1] == 1:
            put("W_hi", self.W_hi[:, 0])
        put("task", get_task(self.task))
        if self.task.inputs != "gaussian":
            raise ValueError(f"task must be one of a recurrent network, got {self.task.name}")
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
        biases = self.b_h is not None, self.b_o is not None
        put("shape", (RNN, self.task.name, self.hidden_size, self.seq_len, *biases))

    shape: tuple[Any, ...] = field(init=False, default=())
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

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, ArrayLike],
        *,
        task: str | Task = "2nd_argmax",
        seq_len: int | None = None,
        name: str = "",
    ) -> RNN:
        """A network from the weights of a torch module, as `outsample.load` takes them; the inverse of `state_dict`."""
        from outsample.loading import load

        model = load(state, task=task, seq_len=seq_len, name=name)
        if not isinstance(model, RNN):
            raise ValueError("state must hold the weights of a recurrent network, got those of a transformer")
        return model

    def state_dict(self) -> OrderedDict[str, NDArray[np.float32]]:
        """The weights under the names that AlgZoo's classes and ``torch.nn.RNN`` give them.

        Returns
        -------
        OrderedDict of str to ndarray
            ``rnn.weight_ih_l0`` (d, 1), ``rnn.weight_hh_l0`` (d, d), ``linear.weight`` (outputs, d), and, if there is
            any bias, ``rnn.bias_ih_l0`` and ``rnn.bias_hh_l0`` (d,), of which the second is zero, and ``linear.bias``
            (outputs,). New arrays, which the caller may change.

        Examples
        --------
        Into torch: ``module.load_state_dict({k: torch.from_numpy(v) for k, v in model.state_dict().items()})``.
        """
        state = OrderedDict(
            {
                "rnn.weight_ih_l0": self.W_hi[:, None].copy(),
                "rnn.weight_hh_l0": self.W_hh.copy(),
                "linear.weight": self.W_oh.copy(),
            }
        )
        if self.has_biases:
            zero_h, zero_o = np.zeros_like(self.W_hi), np.zeros_like(self.W_oh[:, 0])
            state["rnn.bias_ih_l0"] = zero_h if self.b_h is None else self.b_h.copy()
            state["rnn.bias_hh_l0"] = zero_h.copy()
            state["linear.bias"] = zero_o if self.b_o is None else self.b_o.copy()
        return state

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a file that `outsample.load` reads, with its task, sequence length and name.

        The file appears in one step: whoever reads it meanwhile sees the old one or the new one.

        Parameters
        ----------
        path : path
            Ends in ``.npz``, or in ``.safetensors`` (needs the extra ``outsample[safetensors]``). The weights have the
            names of `state_dict`.

        Raises
        ------
        ValueError
            If ``path`` ends in something else.
        ImportError
            If the safetensors package is needed and not installed.
        """
        path = Path(path)
        said = {"task": self.task.name, "seq_len": self.seq_len} | ({"name": self.name} if self.name else {})
        if path.suffix == ".npz":
            stream = io.BytesIO()
            np.savez_compressed(stream, **self.state_dict(), **{k: np.array(v) for k, v in said.items()})  # type: ignore[arg-type]
            write_atomically(path, stream.getvalue())
        elif path.suffix == ".safetensors":
            from outsample._files import import_safetensors

            metadata = {key: str(value) for key, value in said.items()}
            write_atomically(path, import_safetensors().save(dict(self.state_dict()), metadata))
        else:
            raise ValueError(f"path must end in .npz or .safetensors, got {str(path)!r}")

    def standardized(self) -> RNN:
        """The same function with neurons rescaled so that every input weight is +1 or -1.

        ReLU is positively homogeneous, so dividing what goes into a neuron by ``|W_hi|`` and multiplying what comes out
        of it by the same changes nothing, except that float32 rounds the new weights. A neuron with ``W_hi = 0`` keeps
        its scale.

        Returns
        -------
        RNN
            Of the same task and name.

        References
        ----------
        J. Hilton, "AlgZoo: uninterpreted models with fewer than 1,500 parameters", Alignment Forum, 2026.
        """
        scale = np.abs(self.W_hi.astype(np.float64))
        scale[scale == 0] = 1
        return RNN(
            self.W_hh * (scale / scale[:, None]),  # type: ignore[arg-type]  # rounded to float32 as all weights are
            np.sign(self.W_hi),
            self.W_oh * scale,
            task=self.task,
            b_h=None if self.b_h is None else self.b_h / scale,  # type: ignore[arg-type]
            b_o=self.b_o,
            seq_len=self.seq_len,
            name=self.name,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return RNN, (self.W_hh, self.W_hi, self.W_oh, self.task.name, self.b_h, self.b_o, self.seq_len, self.name)

    def __repr__(self) -> str:
        name = f"{self.name!r}, " if self.name else ""
        return (
            f"RNN({name}task={self.task.name!r}, hidden_size={self.hidden_size}, seq_len={self.seq_len}, "
            f"parameters={self.n_parameters})"
        )
