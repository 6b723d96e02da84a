"""Ensembles of noisy copies of a network, and the named protocols by which methods are scored.

Methods are *scored* on ensembles of role ``"evaluation"`` and anything *fitted* is fitted on ensembles of role
``"fitting"``. The role is part of what the noise is drawn from, so the same seed gives other networks in the other
role, and fitting code calls `require_fitting`, which refuses evaluation ensembles: the two cannot be mixed up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from outsample.models import RNN
from outsample.seeding import domain_seed

Kind = Literal["multiplicative", "additive"]
Role = Literal["evaluation", "fitting"]

_KINDS = ("multiplicative", "additive")
_ROLES = ("evaluation", "fitting")
_NAMES = ("W_hh", "W_hi", "W_oh", "b_h", "b_o")


class Weights(NamedTuple):
    """Weights of several networks of one shape, stacked along the first axis; float32."""

    W_hh: NDArray[np.float32]
    W_hi: NDArray[np.float32]
    W_oh: NDArray[np.float32]
    b_h: NDArray[np.float32] | None
    b_o: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False, repr=False)
class NoiseEnsemble(Sequence[RNN]):
    """Noisy copies of one network, as a sequence: ``ensemble[i]``, ``len(ensemble)``, ``for model in ensemble``.

    Copy i is a pure function of the network, the noise, the seed, the role and i: it does not depend on ``size``.

    Parameters
    ----------
    model : RNN
        The network.
    kind : {"multiplicative", "additive"}, default "multiplicative"
        Every weight w becomes w (1 + scale z), or w + scale z, with z ~ N(0, 1) independent.
    scale : float
        Size of the noise, not negative.
    size : int, default 256
        Number of copies.
    seed : int, default 0
        Seed of the noise, not negative.
    role : {"evaluation", "fitting"}, default "evaluation"
        What the copies are for. Equal seeds give independent noise in the two roles.
    protocol : str, optional
        Name of the protocol that this is an ensemble of, for tables.

    Raises
    ------
    TypeError
        If ``model`` is not an RNN.
    ValueError
        If another argument is out of its range.
    """

    model: RNN
    kind: Kind = "multiplicative"
    scale: float = field(kw_only=True)
    size: int = field(default=256, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    role: Role = field(default="evaluation", kw_only=True)
    protocol: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.model, RNN):
            raise TypeError(f"model must be an outsample.RNN, got {type(self.model).__name__}")
        if self.kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {self.kind!r}")
        if self.role not in _ROLES:
            raise ValueError(f"role must be one of {', '.join(_ROLES)}, got {self.role!r}")
        if not 0 <= self.scale < np.inf:
            raise ValueError(f"scale must be finite and not negative, got {self.scale}")
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> RNN: ...
    @overload
    def __getitem__(self, index: slice) -> list[RNN]: ...
    def __getitem__(self, index: int | slice) -> RNN | list[RNN]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.size))]
        i = index + self.size if index < 0 else index
        if not 0 <= i < self.size:
            raise IndexError(f"index must be between {-self.size} and {self.size - 1}, got {index}")
        weights = self.weights(i, i + 1)
        base = self.model
        W_hh, W_hi, W_oh, b_h, b_o = (None if w is None else w[0] for w in weights)
        name = f"{base.name or 'model'} {self.protocol or self.kind} {i}"
        return RNN(W_hh, W_hi, W_oh, task=base.task, b_h=b_h, b_o=b_o, seq_len=base.seq_len, name=name)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[RNN]:
        return (self[i] for i in range(self.size))

    def normals(self, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """The z of copies ``start`` to ``stop`` (excluded; default all), shape (copies, parameters).

        In each row the order is W_hh, W_hi, W_oh, b_h, b_o, each row-major.
        """
        stop = self.size if stop is None else stop
        if not 0 <= start <= stop <= self.size:
            raise ValueError(f"start and stop must satisfy 0 <= start <= stop <= {self.size}, got {start} and {stop}")
        key = domain_seed(self.role, self.seed).generate_state(2, np.uint64)
        z = np.empty((stop - start, self.model.n_parameters))
        for row, i in zip(z, range(start, stop), strict=True):
            # The index sits in the counter's third word: streams are 2^128 blocks apart.
            counter = np.array([0, 0, i, 0], dtype=np.uint64)
            np.random.Generator(np.random.Philox(key=key, counter=counter)).standard_normal(out=row)
        return z

    def weights(self, start: int = 0, stop: int | None = None) -> Weights:
        """Weights of copies ``start`` to ``stop`` (excluded; default all), stacked.

        Returns
        -------
        Weights
            ``W_hh`` (copies, d, d), ``W_hi`` (copies, d), ``W_oh`` (copies, outputs, d), ``b_h`` (copies, d) or None,
            ``b_o`` (copies, outputs) or None; float32.
        """
        z = self.normals(start, stop)
        z *= self.scale
        stacked: dict[str, NDArray[np.float32] | None] = {}
        used = 0
        for name in _NAMES:
            base = getattr(self.model, name)
            if base is None:
                stacked[name] = None
                continue
            noise = z[:, used : used + base.size].reshape(-1, *base.shape)
            used += base.size
            noisy = base * (1 + noise) if self.kind == "multiplicative" else base + noise
            stacked[name] = noisy.astype(np.float32)
        return Weights(**stacked)  # type: ignore[arg-type]

    @property
    def settings(self) -> dict[str, Any]:
        """What defines the ensemble, for records."""
        return {
            "protocol": self.protocol,
            "kind": self.kind,
            "scale": self.scale,
            "size": self.size,
            "seed": self.seed,
            "role": self.role,
            "model": self.model.name,
            "model_digest": self.model.digest,
            "task": self.model.task.name,
            "hidden_size": self.model.hidden_size,
            "seq_len": self.model.seq_len,
        }

    def __repr__(self) -> str:
        return (
            f"NoiseEnsemble({self.model!r}, kind={self.kind!r}, scale={self.scale}, size={self.size}, "
            f"seed={self.seed}, role={self.role!r})"
        )


def require_fitting(ensemble: NoiseEnsemble) -> None:
    """Refuse to fit anything on an ensemble that methods are scored on. All fitting code calls this first.

    Raises
    ------
    TypeError
        If ``ensemble`` is not a NoiseEnsemble.
    ValueError
        If its role is not ``"fitting"``.
    """
    if not isinstance(ensemble, NoiseEnsemble):
        raise TypeError(f"ensemble must be an outsample.NoiseEnsemble, got {type(ensemble).__name__}")
    if ensemble.role != "fitting":
        raise ValueError(
            f"ensemble must have role 'fitting' for anything to be fitted on it, got {ensemble.role!r}: "
            "networks that methods are scored on must stay unseen"
        )


@dataclass(frozen=True)
class Protocol:
    """A named law of weight noise with its evaluation ensemble.

    Attributes
    ----------
    name : str
        The name in tables.
    kind, scale, size, seed
        As in `NoiseEnsemble`; ``size`` and ``seed`` are those of the evaluation ensemble.
    version : int
        Raised whenever any of these changes, so that results of different versions are never put side by side.
    purpose : str
        What it is for.
    """

    name: str
    kind: Kind
    scale: float
    seed: int
    purpose: str
    size: int = 256
    version: int = 1

    def evaluation(self, model: RNN, size: int | None = None) -> NoiseEnsemble:
        """The ensemble that methods are scored on, or its first ``size`` copies."""
        size = self.size if size is None else size
        if size > self.size:
            raise ValueError(f"size must be at most {self.size} for protocol {self.name}, got {size}")
        return NoiseEnsemble(
            model, self.kind, scale=self.scale, size=size, seed=self.seed, role="evaluation", protocol=self.name
        )

    def fitting(self, model: RNN, size: int, seed: int = 0) -> NoiseEnsemble:
        """An ensemble of the same law to fit something on: independent of the evaluation ensemble for every seed."""
        return NoiseEnsemble(
            model, self.kind, scale=self.scale, size=size, seed=seed, role="fitting", protocol=self.name
        )


#: All protocols by name; the first is the primary one.
PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("mul-0.01", "multiplicative", 0.01, seed=1001, purpose="primary"),
        Protocol("mul-0.003", "multiplicative", 0.003, seed=1002, purpose="little noise: close to the trained network"),
        Protocol("mul-0.03", "multiplicative", 0.03, seed=1003, purpose="much noise"),
        Protocol("add-0.005", "additive", 0.005, seed=1004, purpose="noise of one size for every weight"),
    )
}


def get_protocol(name: str | Protocol) -> Protocol:
    """A protocol by name.

    Raises
    ------
    ValueError
        If there is no protocol of that name.
    """
    if isinstance(name, Protocol):
        return name
    if name not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {name!r}")
    return PROTOCOLS[name]
