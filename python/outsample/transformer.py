"""The attention-only transformers of AlgZoo's longest-cycle family."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from outsample import _core
from outsample.models import Model, as_float32
from outsample.seeding import RNGLike, philox_key
from outsample.tasks import TASKS, Task

_FIELDS = ("embed", "pos_embed", "in_proj", "out_proj", "unembed")
_CHUNK = 1 << 16  # random inputs held in memory at a time


@dataclass(frozen=True, eq=False, repr=False)
class Transformer(Model):
    """Attention-only transformer that reads a function f from {0, ..., n-1} to itself as f(0), ..., f(n-1).

    ``h_i = embed[f(i)] + pos_embed[i]``; every layer adds ``out_proj @ attention(in_proj @ h)`` to h (one head, no
    mask, no biases, no normalisation, scores divided by sqrt(d)); ``logits = unembed @ h_{n-1}``. The task is
    ``longest_cycle``: logit k stands for a longest cycle of length k + 1. Immutable; weights are float32, evaluation is
    in float64.

    Parameters
    ----------
    embed, pos_embed, unembed : array_like, shape (n, d)
        Token embedding, position embedding, and readout.
    in_proj : array_like, shape (layers, 3 d, d)
        Queries, keys and values of every layer, stacked.
    out_proj : array_like, shape (layers, d, d)
        Output projection of every layer.
    name : str, optional
        For tables and messages.

    Raises
    ------
    TypeError
        If weights are not floating-point arrays.
    ValueError
        If shapes disagree or weights are not finite.

    Examples
    --------
    >>> model = osp.load("longest_cycle_2_3_1073741824_0.pth")  # doctest: +SKIP
    >>> osp.Enumeration().estimate(model, budget=27).value  # doctest: +SKIP
    1.0
    """

    embed: NDArray[np.float32]
    pos_embed: NDArray[np.float32]
    in_proj: NDArray[np.float32]
    out_proj: NDArray[np.float32]
    unembed: NDArray[np.float32]
    name: str = ""
    task: Task = field(init=False, default=TASKS["longest_cycle"])
    seq_len: int = field(init=False, default=0)
    shape: tuple[Any, ...] = field(init=False, default=())
    _transformer: _core.Transformer = field(init=False, default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name in _FIELDS:
            object.__setattr__(self, name, as_float32(getattr(self, name), name))
        # The core checks the shapes against each other.
        transformer = _core.Transformer(self.embed, self.pos_embed, self.in_proj, self.out_proj, self.unembed)
        object.__setattr__(self, "seq_len", int(self.embed.shape[0]))
        object.__setattr__(self, "shape", (Transformer, self.hidden_size, self.seq_len, self.layers))
        object.__setattr__(self, "_transformer", transformer)

    @property
    def hidden_size(self) -> int:
        return int(self.embed.shape[1])

    @property
    def layers(self) -> int:
        """Number of attention layers."""
        return int(self.in_proj.shape[0])

    @property
    def n_parameters(self) -> int:
        return sum(getattr(self, name).size for name in _FIELDS)

    @property
    def forward_multiply_adds(self) -> int:
        """Multiply-adds of one forward pass: the unit of a budget.

        The last layer is evaluated at the last position only; the exponentials of the softmax are not counted.
        """
        return int(self._transformer.forward_multiply_adds)

    @cached_property
    def digest(self) -> str:
        h = hashlib.sha256(f"{self.task.name} {self.hidden_size} {self.seq_len} {self.layers}".encode())
        for name in _FIELDS:
            h.update(name.encode() + getattr(self, name).astype("<f4").tobytes())
        return h.hexdigest()

    def forward(self, x: ArrayLike, *, threads: int = 1) -> Any:
        """Logits of a batch of inputs.

        Parameters
        ----------
        x : array_like of int, shape (count, n) or (n,)
            Function values, 0 to n - 1.
        threads : int, default 1
            Number of threads.

        Returns
        -------
        logits : ndarray, shape (count, n) or (n,), float64

        Raises
        ------
        TypeError
            If ``x`` does not hold integers.
        ValueError
            If ``x`` has another shape, or a value is out of range.
        """
        x = np.asarray(x)
        if x.dtype.kind not in "iu":
            raise TypeError(f"x must hold integers, got dtype {x.dtype}")
        if x.size and not (x.min() >= 0 and x.max() < self.seq_len):
            raise ValueError(f"x must hold integers from 0 to {self.seq_len - 1}, got {x.min()} to {x.max()}")
        x = x.astype(np.int32)
        logits = _core.transformer_forward(self._transformer, x[None] if x.ndim == 1 else x, threads)
        return logits[0] if x.ndim == 1 else logits

    def count_correct(self, samples: int, *, rng: RNGLike = None, threads: int = 1) -> int:
        """Number of correct answers among uniformly random functions."""
        random = np.random.Generator(np.random.Philox(key=philox_key(rng)))
        correct = 0
        for first in range(0, samples, _CHUNK):
            shape = min(_CHUNK, samples - first), self.seq_len
            x = random.integers(0, self.seq_len, size=shape, dtype=np.int32)
            correct += _core.transformer_count_correct(self._transformer, x, threads)
        return correct

    def __reduce__(self) -> tuple[Any, ...]:
        return Transformer, (*(getattr(self, name) for name in _FIELDS), self.name)

    def __repr__(self) -> str:
        name = f"{self.name!r}, " if self.name else ""
        return (
            f"Transformer({name}task={self.task.name!r}, hidden_size={self.hidden_size}, seq_len={self.seq_len}, "
            f"layers={self.layers}, parameters={self.n_parameters})"
        )
