"""Advice files: what `fit_cubature` prepares for one trained network, and `EmpiricalCubature` reads.

An advice file is an ``.npz`` archive of plain arrays (nothing in it is executed). ``record`` is a JSON text: format
number, version, task, shape, name and digest of the network, laws of noise, seeds, counts, and what the advice cost to
make. For every size S (a budget in forward passes) there are arrays named ``S/...``:

================== ======================== ==================================================================
array              shape                    meaning
================== ======================== ==================================================================
level_sizes        (n,)                     distinct prefixes of each length; the last: number of points
parent             (nodes,)                 index of the prefix that each prefix extends, within its level
x                  (nodes,)                 last input of each prefix
target             (points,)                right answer at each point
inverse_scale      (points,) or (points, 3) what the margin, or all three signals, are multiplied by
linear             (points, F)              weights of the F features of each point: 3, 5 or 7
hidden, bias, out  (points, F, u), (u,) x 2 small network on the same features; u may be 0
intercept          ()                       constant term
shift              (points,)                subtracted from the right answer's logit; if F > 3, or the median task
error              (laws,)                  root mean squared error under each law of noise
================== ======================== ==================================================================

With z the margin (the right answer's logit less the best other one) times its scale, features are tanh(0.5 z),
tanh(1.5 z), tanh(4.5 z); from F = 5 on also tanh of the right answer's logit less ``shift`` and tanh of that logit less
the second-best other one, each times its scale; with F = 7 also the squares of the first two. For the median task they
are z, z^2 and tanh z of z = (output - shift) x inverse_scale.

For all sizes together there are

============================= =================== ==============================================================
array                         shape               meaning
============================= =================== ==============================================================
sketch/index, sketch/sign     (groups, 3)         signed sums of three weights each, the first half of small ones;
                              or (groups, 1)      single weights, of networks with few
sketch/sum, sketch/scale      (groups,)           these sums of the trained network, and roots of sums of squares
sketch/laws                   (laws, 5)           for each law: means of the log noise of small and of large weights,
                                                  and a, b, c such that a s and b s + c l are independent and standard
                                                  normal, s and l being those logs less their means
sketch/levels                 (3, 2)              least and largest log noise: of small, of large, of all weights
============================= =================== ==============================================================

The weights of the network are not in the file, only the sums of the sketch: enough to tell how much noise a copy has,
and copies from other networks. Of networks with fewer than 64 weights most of the weights are.

*Transferred* advice (``"transferred": true`` in the record, `outsample.cubature.transfer`) is for networks of a shape
that it was not fitted on. Its margins are relative, z = margin x inverse_scale / (mean over points of |margin| x
inverse_scale), there is no one network to compare weights with, so the sketch is empty and has one law for all, and
``networks`` in the record names those that it was fitted on. Its ``error`` is in units of sqrt(p (1 - p)), p being the
estimate, and ``error_by_estimate``, (2, parts), has estimates in ascending order and this error there. ``accuracies``
in the record are the least and the largest that it was fitted on.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outsample import _core
from outsample._cache import write_atomically

FORMAT = 2
_MAX_BYTES = 1 << 26
_ARRAYS = (
    "level_sizes", "parent", "x", "target", "inverse_scale", "linear", "hidden", "bias", "out", "intercept", "error",
)  # fmt: skip
#: Where there is something to subtract, and of transferred advice.
_OPTIONAL = ("shift", "error_by_estimate")
_SKETCH = ("index", "sign", "sum", "scale", "laws", "levels")


@dataclass(frozen=True, eq=False)
class AdviceSize:
    """One size of an advice: points and readout.

    Attributes
    ----------
    budget : int
        Forward passes that it may cost.
    arrays : mapping
        The arrays listed in this module's text.
    hidden_size, outputs : int
        Shape of the networks.
    sketch : mapping
        The sketch's arrays.
    equivalent_samples : mapping
        For each law of noise the number of random samples with the same mean squared error, measured on networks that
        nothing was fitted on.
    transferred : bool
        Whether it is for networks that it was not fitted on; margins are then divided by their own mean size.
    """

    budget: int
    arrays: Mapping[str, NDArray[Any]]
    hidden_size: int
    outputs: int
    sketch: Mapping[str, NDArray[Any]]
    equivalent_samples: Mapping[str, float] = field(default_factory=dict)
    transferred: bool = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "core"}

    @cached_property
    def core(self) -> _core.Cubature:
        """The same for the core."""
        a, s = self.arrays, self.sketch
        return _core.Cubature(
            _core.Forest(a["level_sizes"], a["parent"], a["x"], a["target"]),
            self.hidden_size,
            self.outputs,
            a["inverse_scale"],
            a["linear"],
            float(a["intercept"]),
            a["hidden"],
            a["bias"],
            a["out"],
            s["index"],
            s["sign"],
            s["sum"],
            s["scale"],
            s["laws"],
            s["levels"],
            a["error"],
            a.get("shift", np.empty(0, dtype=np.float32)),
            self.transferred,
        )

    @cached_property
    def multiply_adds(self) -> int:
        """Multiply-adds of one estimate, readout and sketch included."""
        return int(self.core.multiply_adds)

    @property
    def points(self) -> int:
        """Number of points."""
        return int(self.arrays["level_sizes"][-1])

    @cached_property
    def range(self) -> float:
        """Largest relative noise, as the sketch measures it, for which the standard error is calibrated."""
        return float(np.exp(self.sketch["levels"][2, 1] / 2))


@dataclass(frozen=True, eq=False)
class Advice:
    """Advice for one trained network, all sizes.

    Attributes
    ----------
    record : mapping
        Where it comes from: ``name``, ``task``, ``hidden_size``, ``seq_len``, ``digest`` of the network, ``noise`` that
        it was fitted on and ``laws`` that its error was measured under, ``seed``, ``networks``, ``samples``,
        ``calibration``, ``forwards``, ``seconds``, ``version`` ...
    sizes : mapping of int to AdviceSize
        By budget, ascending.
    """

    record: Mapping[str, Any]
    sizes: Mapping[int, AdviceSize]

    def noise(self, network: _core.Network) -> float:
        """Relative noise of a network's weights against the trained network's, as the sketch sees it."""
        small, large = next(iter(self.sizes.values())).core.noise(network)
        return math.sqrt((small + large) / 2)

    @property
    def name(self) -> str:
        """Name of the advised network."""
        return str(self.record["name"])

    @property
    def laws(self) -> list[str]:
        """Laws of noise that the standard error holds for."""
        return list(self.record.get("laws", self.record["noise"]))

    @property
    def transferred(self) -> bool:
        """Whether it was fitted on other networks than those that it is for."""
        return bool(self.record.get("transferred", False))

    @property
    def shape(self) -> tuple[str, int, int]:
        """Task, hidden size and sequence length of the networks that it is for."""
        return str(self.record["task"]), int(self.record["hidden_size"]), int(self.record["seq_len"])

    def save(self, path: str | Path) -> None:
        """Write an advice file, all of it or nothing."""
        arrays: dict[str, NDArray[Any]] = {"record": np.array(json.dumps({**self.record, "format": FORMAT}))}
        for budget, size in self.sizes.items():
            arrays |= {f"{budget}/{name}": np.asarray(size.arrays[name]) for name in _ARRAYS}
            arrays |= {
                f"{budget}/{name}": array for name in _OPTIONAL if (array := np.asarray(size.arrays.get(name, ()))).size
            }
            arrays |= {f"sketch/{name}": np.asarray(size.sketch[name]) for name in _SKETCH}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        write_atomically(Path(path), buffer.getvalue())

    def __repr__(self) -> str:
        task, d, n = self.shape
        return f"Advice({self.name!r}, task={task!r}, hidden_size={d}, seq_len={n}, sizes={tuple(self.sizes)})"


def _parse(data: bytes) -> Advice:
    if len(data) > _MAX_BYTES:
        raise ValueError(f"an advice file has at most {_MAX_BYTES} bytes")
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        if sum(info.file_size for info in archive.zip.infolist()) > 4 * _MAX_BYTES:
            raise ValueError("its arrays are larger than those of any advice")
        arrays = dict(archive.items())
    if "record" not in arrays or arrays["record"].dtype.kind != "U" or arrays["record"].ndim != 0:
        raise ValueError("not an advice file: it has no record")
    record = json.loads(str(arrays.pop("record")))
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"not an advice file of format {FORMAT}")
    for key, kind in (("name", str), ("task", str), ("hidden_size", int), ("seq_len", int), ("outputs", int),
                      ("equivalent_samples", dict), ("forwards", (int, float)),
                      ("seconds", (int, float))):  # fmt: skip
        if not isinstance(record.get(key), kind):
            raise ValueError(f"its record has no good entry {key!r}")
    accuracies = record.get("accuracies")
    if record.get("transferred") and not (
        isinstance(accuracies, list) and len(accuracies) == 2 and all(isinstance(a, float) for a in accuracies)
    ):
        raise ValueError("its record has no good entry 'accuracies'")
    grouped: dict[str, dict[str, NDArray[Any]]] = {"sketch": {}}
    for name, array in arrays.items():
        group, _, key = name.partition("/")
        if key not in (_SKETCH if group == "sketch" else _ARRAYS + _OPTIONAL if group.isdecimal() else ()):
            raise ValueError(f"unknown array {name!r}")
        if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise ValueError(f"array {name!r} must hold finite numbers")
        grouped.setdefault(group, {})[key] = array
    sketch = grouped.pop("sketch")
    if missing := set(_SKETCH) - set(sketch):
        raise ValueError(f"the sketch has no array {sorted(missing)[0]!r}")
    laws, levels = sketch["laws"], sketch["levels"]
    if laws.ndim != 2 or laws.shape[1] != 5 or (laws[:, [2, 4]] <= 0).any():
        raise ValueError("the sketch has no good laws")
    if levels.shape != (3, 2) or (levels[:, 0] > levels[:, 1]).any():
        raise ValueError("the sketch has no good levels")
    sizes = {}
    for budget in sorted(map(int, grouped)):
        a = grouped[str(budget)]
        if missing := set(_ARRAYS) - set(a):
            raise ValueError(f"size {budget} has no array {sorted(missing)[0]!r}")
        if len(a["level_sizes"]) != record["seq_len"]:
            raise ValueError(f"size {budget} has points of another length than the network's")
        if a["error"].shape != (len(laws),) or (a["error"] <= 0).any():
            raise ValueError(f"size {budget} has no good error")
        equivalents = record["equivalent_samples"].get(str(budget), {})
        transferred = bool(record.get("transferred", False))
        known = a.get("error_by_estimate", np.empty((0, 0)))
        if transferred and not (
            known.ndim == len(known) == 2 and known.size and (np.diff(known[0]) > 0).all() and (known[1] > 0).all()
        ):
            raise ValueError(f"size {budget} has no good error_by_estimate")
        size = AdviceSize(budget, a, record["hidden_size"], record["outputs"], sketch, equivalents, transferred)
        size.core  # noqa: B018 - checks all shapes
        sizes[budget] = size
    if not sizes:
        raise ValueError("it has no sizes")
    return Advice(record, sizes)


def _read(data: bytes, source: str) -> Advice:
    try:
        return _parse(data)
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, TypeError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{source}: not an advice file, or damaged ({error})") from error
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def shipped_advice() -> dict[str, Path]:
    """Advice files that come with the package, by name."""
    folder = Path(str(resources.files("outsample") / "data" / "advice"))
    return {path.stem: path for path in sorted(folder.glob("*.npz"))} if folder.is_dir() else {}


_loaded: dict[tuple[Path, int], Advice] = {}


def load_advice(source: str | Path) -> Advice:
    """Load advice by the name of a shipped file or by path.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    ValueError
        If the file is damaged or is not advice.
    """
    shipped = shipped_advice()
    path = shipped[str(source)] if str(source) in shipped else Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"advice must be a file or one of {', '.join(shipped) or 'the shipped ones (none)'}, got {str(source)!r}"
        )
    key = (path.resolve(), path.stat().st_mtime_ns)
    if key not in _loaded:
        _loaded[key] = _read(path.read_bytes(), str(path))
    return _loaded[key]
