"""How large the error of an advice is: measured on copies that nothing was fitted on, told by a sketch of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outsample import _core
from outsample._progress import Progress
from outsample.advice import Advice, load_advice
from outsample.cubature import labels as labelling
from outsample.cubature.copies import Labelled, Noise, label, mixture, noisy_copies
from outsample.cubature.folder import Folder
from outsample.models import RNN
from outsample.seeding import domain_seed

Floats = NDArray[np.float64]

#: Copies that an error is measured on, and points of their labels: more than for fitting, since one error is measured
#: where many weights are fitted, and labels may not be much worse than what they judge.
CALIBRATION_COPIES = 16384
CALIBRATION_SAMPLES = 65536
#: Copies that share the points of their labels. What the labels' errors have in common looks like a bias of the advice,
#: so there have to be many tables: of 256 copies each, under mul-0.003 a tenth of an error was left to chance.
_TABLE_COPIES = 64
#: Points that the variance of a squared error is measured on.
_VARIANCE_SAMPLES = 16384
#: Weights in each sum of the sketch.
_SKETCH_SIZE = 3
#: Networks with fewer weights than this have single weights in place of sums: too few sums of them are independent.
_FEW_WEIGHTS = 64


def make_sketch(model: RNN, rng: np.random.Generator) -> dict[str, Any]:
    """Signed sums of a few weights: half of them from the smaller weights, half from the larger ones.

    They cost at most half a forward pass, single weights at most one, if 8 do not cost more.
    """
    weights = np.concatenate([model.W_hh.ravel(), model.W_hi, model.W_oh.ravel()])
    order = np.argsort(np.abs(weights))
    order = order[np.abs(weights[order]) > 0]
    if len(order) < 2:
        raise ValueError("model must have weights that are not zero for a cubature to be fitted")
    # Not from the smallest ones: noise of one size would drown them.
    halves = np.array_split(order[len(order) // 5 :], 2)
    if len(weights) < _FEW_WEIGHTS:
        count = min(int(np.clip(model.forward_multiply_adds // (2 * 3), 4, 16)), len(halves[1]))
        index = np.concatenate([rng.choice(part, (count, 1), replace=False) for part in halves])
    else:
        count = int(np.clip(model.forward_multiply_adds // (4 * (_SKETCH_SIZE + 2)), 4, 16))
        repeat = len(halves[1]) < _SKETCH_SIZE
        index = np.array([rng.choice(part, _SKETCH_SIZE, repeat) for part in halves for _ in range(count)])
    sign = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), index.shape)
    chosen = weights[index].astype(np.float64)
    return {
        "index": index.astype(np.int32),
        "sign": sign,
        "sum": (sign * chosen).sum(axis=1),
        "scale": np.sqrt((chosen**2).sum(axis=1)),
    }


def sketch_cost(sketch: Mapping[str, Any]) -> int:
    """Multiply-adds of the sketch: its sums, and the squares of their differences."""
    return int(sketch["index"].size + 2 * len(sketch["sum"]))


def log_noise(sketch: Mapping[str, Any], weights: NDArray[np.float32]) -> Floats:
    """Logs of the noise of small weights, of large ones and of their mean, (3, networks), as the core measures it.

    ``weights`` has shape (networks, parameters).
    """
    sums = (weights[:, sketch["index"]].astype(np.float64) * sketch["sign"]).sum(axis=2)
    squared = ((sums - sketch["sum"]) / sketch["scale"]) ** 2
    half = squared.shape[1] // 2
    small, large = squared[:, :half].mean(axis=1), squared[:, half:].mean(axis=1)
    return np.log(np.maximum([small, large, (small + large) / 2], 1e-300))


def law_table(log: Floats, law: NDArray[np.int64], laws: int) -> Floats:
    """What the sketch shows under each law, as `outsample.advice` describes it, (laws, 5)."""
    rows = []
    for i in range(laws):
        own = log[:2, law == i]
        down = np.linalg.inv(np.linalg.cholesky(np.cov(own) + 1e-9 * np.eye(2)))
        rows.append([*own.mean(axis=1), down[0, 0], down[1, 0], down[1, 1]])
    return np.array(rows)


def root_mean_squared_errors(errors: Floats, law: NDArray[np.int64], laws: int) -> Floats:
    """Root mean squared error under each law, from the errors (2, networks) against both labels of each network.

    Networks whose labels come from one table share a part of the labels' errors (on ARC's network a tenth of their
    variance under mul-0.01, a third under mul-0.003); tables are independent. So this part is taken out with the mean
    of each table: what is left gives the variance of the errors, and the mean over all tables the bias. Neither
    is stated to be smaller than what the labels let one see.
    """
    table = np.arange(errors.shape[1]) // _TABLE_COPIES
    result = np.empty(laws)
    for i in range(laws):
        own, cell = errors[:, law == i], table[law == i]
        size = np.bincount(cell)
        means = np.stack([np.bincount(cell, row) / np.maximum(size, 1) for row in own])
        product = np.prod(own - means[:, cell], axis=0)
        tables = np.count_nonzero(size)
        free = max(len(cell) - tables, 1)
        variance = max(product.sum() / free, product.std() * np.sqrt(len(cell)) / free)
        bias = max(np.prod(own.mean(axis=1)), np.prod(means[:, size > 0].std(axis=1)) / tables)
        result[i] = np.sqrt(max(variance + bias, 1e-14))
    return result


def plain_variances(model: RNN, data: Labelled, laws: int, seed: int, threads: int) -> Floats:
    """Mean under each law of the variance of one plain sample."""
    result = np.zeros(laws)
    for i in range(laws):
        own = data.law == i
        if model.task.quantity == "accuracy":
            p = data.accuracy[own]
            result[i] = (p * (1 - p)).mean()
        else:
            result[i] = labelling.moments(
                data.weights[own][: labelling.TABLE_NETWORKS], model.task, model.seq_len, model.hidden_size,
                _VARIANCE_SAMPLES, domain_seed("fitting", seed, 5, i), threads,
            )[1].mean()  # fmt: skip
    return result


@dataclass(frozen=True, eq=False)
class Calibration:
    """Copies that nothing was fitted on, as many under each law.

    Attributes
    ----------
    laws : sequence of str
    held : Labelled
        The copies.
    plain : ndarray
        For each law the mean variance of one plain sample.
    seconds, forwards : float
        What the labels took.
    """

    laws: Sequence[str]
    held: Labelled
    plain: Floats
    seconds: float
    forwards: float

    @classmethod
    def made(
        cls, model: RNN, laws: Sequence[str], copies: int, samples: int, seed: int, threads: int, folder: Folder,
        bar: Progress,
    ) -> Calibration:  # fmt: skip
        """Draw and label the copies."""
        own = 2 * seed + 1  # fitting takes the even ones
        weights, law = noisy_copies(model, laws, np.full(len(laws), 1 / len(laws)), copies, own)
        halves, seconds = label(model, weights, samples, own, threads, folder, "calibration", bar, _TABLE_COPIES)
        held = Labelled(weights, law, halves)
        forwards = copies * 2 * labelling.label_forwards(model, samples // 2)
        return cls(laws, held, plain_variances(model, held, len(laws), seed, threads), seconds, forwards)

    def sketch(self, sketch: Mapping[str, Any]) -> dict[str, Any]:
        """The sketch with what it shows under each law."""
        log = log_noise(sketch, self.held.weights)
        levels = np.stack([log.min(axis=1), log.max(axis=1)], axis=1)
        return {**sketch, "laws": law_table(log, self.held.law, len(self.laws)), "levels": levels}

    def judged(self, values: NDArray[np.floating[Any]]) -> tuple[Floats, dict[str, float]]:
        """Root mean squared error of estimates of the copies under each law, and equivalent samples by law."""
        error = root_mean_squared_errors(values - self.held.halves, self.held.law, len(self.laws))
        return error, {law: float(self.plain[i] / error[i] ** 2) for i, law in enumerate(self.laws)}


def require_calibration(copies: int, samples: int, laws: int, name: str) -> None:
    """Refuse numbers that no error can be measured with; ``name`` is what the caller calls the samples."""
    if copies < 16 * laws:
        raise ValueError(f"calibration must give every law at least 16 copies, got {copies}")
    if samples < 64 or samples % 2:
        raise ValueError(f"{name} must be even and at least 64, got {samples}")


def calibrate_cubature(
    model: RNN,
    advice: Advice | str | Path,
    *,
    noise: Noise | None = None,
    calibration: int = CALIBRATION_COPIES,
    samples: int = CALIBRATION_SAMPLES,
    seed: int = 1,
    folder: str | Path | None = None,
    threads: int = 1,
    progress: bool | None = None,
) -> Advice:
    """Measure the error of advice anew, under other laws of noise or on more copies; points and readout stay.

    The standard error of estimates by the advice then holds for these laws. So advice can be used, with an error that
    is right, under noise that it was not fitted on.

    Parameters
    ----------
    model : RNN
        The trained network that the advice was fitted for.
    advice : Advice, str or path
        Advice for one network, the name of a shipped one, or a file.
    noise : mapping of str to float, or sequence of str, or str, optional
        Laws of noise, ``mul-SCALE`` or ``add-SCALE``; shares play no part, each law has as many copies. Default: those
        that the advice's error holds for now.
    calibration : int, default 16384
        Noisy copies, of all laws together.
    samples : int, default 65536
        Points per label, even.
    seed : int, default 1
        Seed of copies and labels; 0 is that of the fit, if it was not given another one.
    folder : path, optional
        Where labels are kept; the same call goes on from there.
    threads : int, default 1
        Threads of the core.
    progress : bool, optional
        Default: whether standard error is a terminal.

    Returns
    -------
    Advice

    Raises
    ------
    TypeError
        If ``model`` is not an RNN.
    ValueError
        If the advice is transferred or for another network, another argument is out of range, or ``folder`` holds
        labels of other settings or of another version.
    """
    if not isinstance(model, RNN):
        raise TypeError(f"model must be an outsample.RNN, got {type(model).__name__}")
    old = advice if isinstance(advice, Advice) else load_advice(advice)
    if old.transferred or old.record.get("digest") != model.digest:
        raise ValueError(f"advice must be for this network, {model!r}, got {old!r}")
    laws = list(old.laws if noise is None else mixture(noise))
    require_calibration(calibration, samples, len(laws), "samples")
    for name, value, least in (("seed", seed, 0), ("threads", threads, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    settings = {"laws": laws, "calibration": calibration, "calibration_samples": samples, "calibration_seed": seed}
    stages = Folder(folder, {"digest": model.digest, **settings})
    with Progress(calibration, "labels", enabled=progress) as bar:
        found = Calibration.made(model, laws, calibration, samples, seed, threads, stages, bar)
    networks = network_list(model, found.held.weights)
    sketch = found.sketch(next(iter(old.sizes.values())).sketch)  # one for all sizes
    sizes = {}
    for budget, size in old.sizes.items():
        error, equivalents = found.judged(size.core.evaluate_many(networks, threads)[:, 0])
        sizes[budget] = replace(
            size, arrays={**size.arrays, "error": error}, sketch=sketch, equivalent_samples=equivalents
        )
    record = {
        **old.record,
        **settings,
        "equivalent_samples": {str(budget): dict(size.equivalent_samples) for budget, size in sizes.items()},
        "label_forwards": old.record["label_forwards"] + found.forwards,
        "forwards": old.record["forwards"] + found.forwards,
        "seconds": old.record["seconds"] + found.seconds,
    }
    return Advice(record, sizes)


def network_list(model: RNN, weights: NDArray[np.float32]) -> list[_core.Network]:
    """Networks of the model's shape with these weights, (networks, parameters), for the core."""
    d = model.hidden_size
    hidden, first = d * d, d * d + d
    return [
        replace(
            model, W_hh=row[:hidden].reshape(d, d), W_hi=row[hidden:first], W_oh=row[first:].reshape(-1, d)
        )._network
        for row in weights
    ]
