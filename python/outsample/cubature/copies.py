"""Noisy copies of a trained network, and their labels."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from outsample._progress import Progress
from outsample.cubature import labels as labelling
from outsample.cubature.folder import Folder
from outsample.models import RNN
from outsample.noise import NoiseEnsemble, require_fitting
from outsample.seeding import domain_seed

Floats = NDArray[np.float64]

_KINDS: dict[str, Literal["multiplicative", "additive"]] = {"mul": "multiplicative", "add": "additive"}

#: Laws of noise that advice is fitted on by default, with the share of networks of each.
DEFAULT_NOISE: dict[str, float] = {
    "mul-0.01": 0.55,
    "mul-0.006": 0.15,
    "mul-0.003": 0.07,
    "mul-0.02": 0.03,
    "add-0.005": 0.2,
}


def parse_law(name: str) -> tuple[Literal["multiplicative", "additive"], float]:
    """Kind and scale of a law of noise named like ``mul-0.01`` or ``add-0.005``.

    Raises
    ------
    ValueError
        If the name is of another form.
    """
    prefix, _, number = name.partition("-")
    try:
        scale = float(number)
    except ValueError:
        scale = -1.0
    if prefix not in _KINDS or not 0 < scale < np.inf:
        raise ValueError(f"a law of noise must be mul-SCALE or add-SCALE with a positive scale, got {name!r}")
    return _KINDS[prefix], scale


#: What may name laws of noise.
Noise = Mapping[str, float] | Sequence[str] | str


def mixture(noise: Noise) -> dict[str, float]:
    """Laws of noise with their shares, which add up to one; equal ones if none are given.

    Raises
    ------
    ValueError
        If there is no law, one has another name than `parse_law` reads, or a share is not positive.
    """
    if isinstance(noise, str):
        noise = [noise]
    shares = dict(noise) if isinstance(noise, Mapping) else dict.fromkeys(noise, 1.0)
    if not shares or min(shares.values()) <= 0:
        raise ValueError(f"noise must name at least one law, with positive shares, got {noise!r}")
    for law in shares:
        parse_law(law)
    total = sum(shares.values())
    return {law: share / total for law, share in shares.items()}


@dataclass(eq=False)
class Labelled:
    """Noisy copies with labels from two independent tables each."""

    weights: NDArray[np.float32]
    law: NDArray[np.int64]
    halves: Floats  # (2, networks)

    @property
    def accuracy(self) -> Floats:
        return np.asarray(self.halves.mean(axis=0))


def noisy_copies(
    model: RNN, laws: Sequence[str], shares: Floats, count: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Weights of ``count`` noisy copies in mixed order, and the index of the law of each."""
    ends = np.round(np.cumsum(shares) * count).astype(np.int64)
    sizes = np.diff(ends, prepend=0).astype(np.int64)
    rows = []
    for name, size in zip(laws, sizes, strict=True):
        kind, scale = parse_law(name)
        if size:
            ensemble = NoiseEnsemble(model, kind, scale=scale, size=int(size), seed=seed, role="fitting")
            require_fitting(ensemble)
            w = ensemble.weights()
            rows.append(np.concatenate([w.W_hh.reshape(size, -1), w.W_hi, w.W_oh.reshape(size, -1)], axis=1))
    order = np.random.Generator(np.random.Philox(domain_seed("fitting", seed, 1))).permutation(count)
    return np.concatenate(rows)[order], np.repeat(np.arange(len(laws)), sizes)[order]


def label(
    model: RNN, weights: NDArray[np.float32], samples: int, seed: int, threads: int, folder: Folder, name: str,
    bar: Progress, together: int = labelling.TABLE_NETWORKS,
) -> tuple[Floats, float]:  # fmt: skip
    """Accuracies (2, networks) from two tables of ``samples / 2`` points, and the seconds that they took.

    So many networks share each table.
    """
    stored = folder.load(name)
    began = time.monotonic() - (float(stored["seconds"]) if stored else 0.0)
    halves = np.full((2, len(weights)), np.nan) if stored is None else stored["halves"]
    fresh = 0
    for i in range(0, len(weights), together):
        block = slice(i, i + together)
        if np.isnan(halves[:, block]).any():
            for half in range(2):
                halves[half, block] = labelling.labels(
                    weights[block],
                    model.task,
                    model.seq_len,
                    model.hidden_size,
                    samples // 2,
                    domain_seed("fitting", seed, 2, i, half),
                    threads,
                )
            fresh += 1
            if fresh % 16 == 0:
                folder.save(name, halves=halves, seconds=time.monotonic() - began)
        bar.advance(len(weights[block]))
    seconds = time.monotonic() - began
    if fresh:
        folder.save(name, halves=halves, seconds=seconds)
    return halves, seconds
