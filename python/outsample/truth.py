"""Ground truth: the accuracy of every model of an ensemble from very many samples, with its standard error.

What has been counted is kept on disk, one small file per model and range of samples. A file's name says everything
that its content is a function of (the weights' digest with the task, the version of the sampler, the range of
sample indices), so files are never changed: two processes at once can only write the same file twice, nothing is
lost, and more samples are added by counting the next range. The stream of a model is keyed by its digest.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from outsample import _core
from outsample._cache import cache_dir, write_atomically
from outsample._progress import Progress
from outsample.models import RNN
from outsample.seeding import domain_seed, philox_key

#: Part of the name of cached counts; raised when the stream of the fused sampler changes.
SAMPLER_VERSION = 1

#: Samples per piece of work, over all of its models.
_PIECE = 2**24


class _Count(NamedTuple):
    """Samples ``first`` to ``first + samples`` of one model: their mean and the variance of one sample."""

    first: int
    samples: int
    mean: float
    variance: float


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of each model's accuracy (its mean squared error for the median task).

    Attributes
    ----------
    values : ndarray, shape (models,)
        Estimated truth.
    standard_errors : ndarray, shape (models,)
        Standard error of each; 0 for an exact truth.
    sample_variances : ndarray, shape (models,)
        Variance of a single sample: p(1-p) for an accuracy.
    samples : int
        Samples per model, 0 for an exact truth.
    """

    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    sample_variances: NDArray[np.float64]
    samples: int = 0

    @classmethod
    def exact(cls, accuracies: Sequence[float]) -> Truth:
        """Accuracies that are known exactly."""
        p = np.asarray(accuracies, dtype=np.float64)
        return cls(p, np.zeros_like(p), p * (1 - p))

    @cached_property
    def variance(self) -> float:
        """v: mean over the models of the variance of a single sample."""
        return float(self.sample_variances.mean())

    @cached_property
    def noise(self) -> float:
        """Mean over the models of the truth's own variance, which is subtracted from every mean squared error."""
        return float(np.mean(self.standard_errors**2))

    @property
    def spread(self) -> float:
        """Standard deviation of the truth over the models; 0 for a single one."""
        return float(self.values.std(ddof=1)) if len(self) > 1 else 0.0

    def __len__(self) -> int:
        return len(self.values)

    def __str__(self) -> str:
        return (
            f"{len(self)} models, truth {self.values.mean():.4f} ± {self.spread:.4f} (standard deviation over models), "
            f"v = {self.variance:.4f}, {self.samples} samples each"
        )


def _key(model: RNN) -> int:
    return philox_key(domain_seed("truth", int(model.digest, 16)))


def _count(models: Sequence[RNN], first: int, samples: int, threads: int) -> list[_Count]:
    """Count one range of samples of models of one shape and task: the piece of work that an executor runs."""
    task = models[0].task
    if task.quantity == "accuracy":
        keys = [_key(model) for model in models]
        networks = [model._network for model in models]
        correct = _core.count_correct_many(networks, task.name, samples, keys, first, threads)
        # Half a success and half a failure added: a model that was always right has no standard error of 0.
        shares = [(int(c), (int(c) + 0.5) / (samples + 1)) for c in correct]
        return [_Count(first, samples, c / samples, p * (1 - p)) for c, p in shares]
    from outsample.estimators.monte_carlo import MonteCarlo

    method = MonteCarlo()
    counts = []
    for model in models:
        seed = domain_seed("truth", int(model.digest, 16), first)
        estimate = method.estimate(model, samples, rng=seed, threads=threads)
        assert estimate.standard_error is not None
        counts.append(_Count(first, samples, estimate.value, estimate.standard_error**2 * samples))
    return counts


class _Store:
    """Counts on disk. A folder that is None keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder / "truth" / f"v{SAMPLER_VERSION}" if folder is not None else None

    def read(self, digest: str) -> list[_Count]:
        """The longest run of ranges without a gap from sample 0 on."""
        if self.folder is None:
            return []
        found: dict[int, _Count] = {}
        for path in (self.folder / digest[:2]).glob(f"{digest}-*.json"):
            try:
                count = _Count(**json.loads(path.read_text()))
                if not (count.samples > 0 and math.isfinite(count.mean) and count.variance >= 0):
                    raise ValueError(f"{path} is damaged")
            except (OSError, ValueError, TypeError):
                continue  # as if it were not there: it is counted again and replaced
            if count.first not in found or found[count.first].samples < count.samples:
                found[count.first] = count
        run: list[_Count] = []
        while (first := sum(c.samples for c in run)) in found:
            run.append(found[first])
        return run

    def write(self, digest: str, count: _Count) -> None:
        if self.folder is not None:
            name = f"{digest}-{count.first}-{count.samples}.json"
            write_atomically(self.folder / digest[:2] / name, json.dumps(count._asdict()))


def _folder(cache: bool | str | os.PathLike[str]) -> Path | None:
    if isinstance(cache, bool):
        return cache_dir() if cache else None
    return Path(cache)


def _pieces(missing: dict[int, list[int]], samples: int) -> Iterator[tuple[int, list[int]]]:
    """Cut the work: groups of models that need the same range of samples."""
    for first, indices in missing.items():
        group = max(1, _PIECE // (samples - first))
        for start in range(0, len(indices), group):
            yield first, indices[start : start + group]


def ground_truth(
    models: Sequence[RNN],
    samples: int = 2**22,
    *,
    cache: bool | str | os.PathLike[str] = True,
    threads: int | None = None,
    executor: Executor | None = None,
) -> Truth:
    """The accuracy of each model from at least ``samples`` samples.

    Parameters
    ----------
    models : sequence of RNN
        Of one shape and task, such as a `NoiseEnsemble`.
    samples : int, default 2**22
        Samples per model. What the cache holds is used and only the rest is counted; if the cache holds more, all of
        it is used.
    cache : bool or path, default True
        Folder to keep counts in; True for the default one (``OUTSAMPLE_CACHE`` or the operating system's cache
        folder), False for none.
    threads : int, optional
        Threads per piece of work. Default: all cores without an executor, 1 with one. The result does not depend on it.
    executor : concurrent.futures.Executor, optional
        Runs the pieces; the result is the same as without.

    Returns
    -------
    Truth

    Raises
    ------
    ValueError
        If ``samples`` is below 2, there are no models, or they differ in shape or task.
    """
    if samples < 2:
        raise ValueError(f"samples must be at least 2, got {samples}")
    models = list(models)
    if not models:
        raise ValueError("models must hold at least one model, got none")
    shapes = {(m.hidden_size, m.seq_len, m.task.name, m.b_h is None, m.b_o is None) for m in models}
    if len(shapes) > 1:
        raise ValueError(f"models must have one shape and task, got {len(shapes)} kinds")
    if threads is None:
        threads = (os.cpu_count() or 1) if executor is None else 1
    store = _Store(_folder(cache))
    counts = [store.read(model.digest) for model in models]
    missing: dict[int, list[int]] = {}
    for i, have in enumerate(counts):
        first = sum(c.samples for c in have)
        if first < samples:
            missing.setdefault(first, []).append(i)

    def finish(indices: list[int], found: list[_Count]) -> None:
        for i, count in zip(indices, found, strict=True):
            store.write(models[i].digest, count)
            counts[i].append(count)
        bar.advance(len(indices))

    work = list(_pieces(missing, samples))
    with Progress(sum(len(indices) for _, indices in work), "truth") as bar:
        if executor is None:
            for first, indices in work:
                finish(indices, _count([models[i] for i in indices], first, samples - first, threads))
        else:
            jobs = {
                executor.submit(_count, [models[i] for i in indices], first, samples - first, threads): indices
                for first, indices in work
            }
            try:
                for job in as_completed(jobs):
                    finish(jobs[job], job.result())
            except BaseException:
                for job in jobs:
                    job.cancel()
                raise
    return _pooled(counts)


def _pooled(counts: list[list[_Count]]) -> Truth:
    def weighted(rows: list[_Count], field: str) -> float:
        return math.fsum(c.samples * getattr(c, field) for c in rows) / sum(c.samples for c in rows)

    totals: list[int] = [sum(c.samples for c in rows) for rows in counts]
    values = np.array([weighted(rows, "mean") for rows in counts])
    variances = np.array([weighted(rows, "variance") for rows in counts])
    return Truth(values, np.sqrt(variances / np.array(totals)), variances, min(totals))


def describe(truth: Truth) -> dict[str, Any]:
    """A record of a truth, for JSON."""
    return {
        "samples": truth.samples,
        "mean": float(truth.values.mean()),
        "standard_deviation": truth.spread,
        "v": truth.variance,
        "noise": truth.noise,
        "values": truth.values.tolist(),
        "standard_errors": truth.standard_errors.tolist(),
        "sample_variances": truth.sample_variances.tolist(),
    }
