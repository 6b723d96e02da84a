"""Model files: reading the formats of weights without trusting them.

Every reader returns arrays or raises ValueError; nothing in a file is ever executed, and no size that a file claims is
believed before it has been compared with the bytes that are there.
"""

from __future__ import annotations

import io
import json
import math
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

StateDict = OrderedDict[str, NDArray[Any]]

#: What a model file may say of itself beside its weights: strings, and an integer for seq_len.
META = ("task", "seq_len", "name")

#: The largest network of AlgZoo has 1,408 parameters; larger files than this are not models of this kind.
MAX_FILE_BYTES = 1 << 24
MAX_PICKLE_BYTES = 1 << 20


def read_model_file(path: Path) -> StateDict:
    """All arrays of a ``.pth``, ``.npz`` or ``.safetensors`` file, told apart by their contents.

    Raises
    ------
    ValueError
        If the file is empty, damaged, of another format, or holds anything but arrays; the text names the file.
    ImportError
        If it is a safetensors file and the safetensors package is not installed.
    OSError
        If it cannot be opened.
    """
    with path.open("rb") as file:
        return parse_model_file(file.read(MAX_FILE_BYTES + 1), path.suffix, str(path))


def parse_model_file(data: bytes, suffix: str, source: str) -> StateDict:
    """As `read_model_file`, for the contents of a file; ``source`` is named in errors."""
    try:
        return _read(data, suffix)
    except ImportError:
        raise
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    # zipfile, pickletools, numpy and safetensors raise many kinds of error on damaged bytes (struct.error, EOFError,
    # NotImplementedError, RuntimeError, ...), none of which says more to a user than that the file is damaged.
    except Exception as error:
        raise ValueError(f"{source}: the file is damaged ({type(error).__name__}: {error})") from error


def _read(data: bytes, suffix: str) -> StateDict:
    if not data:
        raise ValueError("the file is empty")
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"a model file must have at most {MAX_FILE_BYTES} bytes")
    if suffix == ".safetensors":
        return _read_safetensors(data)
    if data[:1] == b"\x80":
        raise ValueError("a pickle that is not in a zip archive, as PyTorch wrote before 1.6: save it again")
    if data[:2] != b"PK":
        raise ValueError("not a model file: expected a zip archive (.pth, .npz) or .safetensors")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) == 1:
            return _TorchArchive(archive, pickles[0].removesuffix("data.pkl")).state_dict()
        if names and all(name.endswith(".npy") for name in names):
            return _read_npz(archive)
    raise ValueError("a zip archive with neither one data.pkl (.pth) nor only arrays (.npz)")


def _entry(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """One file of an archive; zipfile checks its CRC-32."""
    info = archive.getinfo(name)
    with archive.open(info) as file:
        content = file.read(limit + 1)  # not info.file_size, which is only a claim
    if len(content) > limit:
        raise ValueError(f"{name} must have at most {limit} bytes")
    if len(content) != info.file_size:
        raise ValueError(f"{name} is truncated")
    return content


def _read_npz(archive: zipfile.ZipFile) -> StateDict:
    state: StateDict = OrderedDict()
    left = MAX_FILE_BYTES  # for all entries together: a compressed archive can claim much more than it has
    for name in archive.namelist():
        content = _entry(archive, name, left)
        left -= len(content)
        state[name.removesuffix(".npy")] = _read_npy(content, name)
    return state


def _read_npy(content: bytes, name: str) -> NDArray[Any]:
    # numpy.load would allocate the shape that the header claims before it has seen the data.
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"{name} has npy version {version}, expected (1, 0) or (2, 0)")
    if dtype.kind not in "fiuU" or dtype.itemsize == 0:
        raise ValueError(f"{name} must be an array of numbers or a string, got dtype {dtype}")
    start = stream.tell()
    if math.prod(shape) * dtype.itemsize != len(content) - start or min(shape, default=0) < 0:
        raise ValueError(f"{name} says shape {shape} of {dtype}, which is not the {len(content) - start} bytes it has")
    return np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if fortran else "C")


def import_safetensors() -> Any:
    """The module ``safetensors.numpy``, or an ImportError that says how to get it."""
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("the safetensors package is needed: pip install 'outsample[safetensors]'") from error
    return safetensors.numpy


def _read_safetensors(data: bytes) -> StateDict:
    state: StateDict = OrderedDict(sorted(import_safetensors().load(data).items()))
    # The package checked the file, so the header is where the format says: after its length in eight bytes.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    for key, value in header.get("__metadata__", {}).items():
        if key in META:
            state[key] = np.array(int(value) if key == "seq_len" else value)
    return state


@dataclass(frozen=True)
class _Global:
    """A name that a pickle asks for; the reader below knows what it stands for and never imports it."""

    name: str


_ORDERED_DICT = _Global("collections OrderedDict")
_REBUILD_TENSOR = _Global("torch._utils _rebuild_tensor_v2")
_STORAGES = {
    _Global("torch HalfStorage"): "f2",
    _Global("torch FloatStorage"): "f4",
    _Global("torch DoubleStorage"): "f8",
}
_ALLOWED = {_ORDERED_DICT, _REBUILD_TENSOR, *_STORAGES}


@dataclass(frozen=True)
class _Storage:
    values: NDArray[np.floating]


class _TorchArchive:
    """The zip archive that ``torch.save`` writes, read without torch and without the pickle module.

    ``PREFIX/data.pkl`` describes the state dict, ``PREFIX/data/KEY`` are the bytes of the storages. The prefix is
    ``archive`` or the name of the model, and the device (``cuda:0``) says only where the tensors were. The pickle
    operations of a state dict are few; each is carried out here on plain values, so there is nothing that a malicious
    file could call.
    """

    def __init__(self, archive: zipfile.ZipFile, prefix: str) -> None:
        self.archive = archive
        self.prefix = prefix
        self.names = set(archive.namelist())
        order = self._read("byteorder", 16) if prefix + "byteorder" in self.names else b"little"
        if order not in (b"little", b"big"):
            raise ValueError(f"byteorder must be little or big, got {order!r}")
        self.order = "<" if order == b"little" else ">"
        self.storages: dict[str, _Storage] = {}
        self.left = MAX_FILE_BYTES

    def _read(self, name: str, limit: int) -> bytes:
        return _entry(self.archive, self.prefix + name, limit)

    def state_dict(self) -> StateDict:
        root = self._unpickle(self._read("data.pkl", MAX_PICKLE_BYTES))
        if not isinstance(root, dict):
            raise ValueError(f"data.pkl must hold a state dict, got {type(root).__name__}")
        for key, value in root.items():
            if not isinstance(value, np.ndarray):
                raise ValueError(f"{key} must be a tensor, got {type(value).__name__}")
        return OrderedDict(root)

    def _unpickle(self, data: bytes) -> Any:
        # No message below shows a value other than a short string: tuples can be nested so that their text is endless.
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}

        def pop_from(at: int) -> tuple[Any, ...]:
            items = tuple(stack[at:])
            del stack[at:]
            return items

        argument: Any
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name in ("PROTO", "FRAME"):
                pass
            elif name == "STOP":
                return stack.pop()
            elif name in ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BININT", "BININT1", "BININT2", "LONG1"):
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name]())
            elif name == "MARK":
                marks.append(len(stack))
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "TUPLE":
                stack.append(pop_from(marks.pop()))
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                stack.append(pop_from(-int(name[-1])))
            elif name == "GLOBAL":
                stack.append(_allowed_global(argument))
            elif name == "STACK_GLOBAL":
                match pop_from(-2):
                    case (str(module), str(attribute)):
                        stack.append(_allowed_global(f"{module} {attribute}"))
                    case _:
                        raise ValueError("data.pkl is damaged: a name must be two strings")
            elif name == "BINPERSID":
                stack.append(self._storage(stack.pop()))
            elif name == "REDUCE":
                stack.append(_call(*pop_from(-2)))
            elif name in ("SETITEM", "SETITEMS"):
                items = pop_from(-2 if name == "SETITEM" else marks.pop())
                _set_items(stack[-1], items)
            elif name == "BUILD":  # the attribute _metadata of the state dict, which nothing here needs
                stack.pop()
                if not isinstance(stack[-1], OrderedDict):
                    raise ValueError("refused: data.pkl sets the state of something that is not a state dict")
            else:
                raise ValueError(f"refused: data.pkl has the operation {name}, which a state dict does not need")
        raise ValueError("data.pkl is truncated")

    def _storage(self, reference: Any) -> _Storage:
        match reference:
            case ("storage", _Global() as kind, str(key), str(), int(count)) if kind in _STORAGES:
                pass
            case _:
                raise ValueError("refused: data.pkl refers to something other than a storage of floats")
        if key not in self.storages:
            name = f"data/{key}"
            if self.prefix + name not in self.names:
                raise ValueError(f"the storage {name} is missing")
            content = self._read(name, self.left)
            self.left -= len(content)
            dtype = np.dtype(self.order + _STORAGES[kind])
            if count * dtype.itemsize != len(content):
                raise ValueError(f"{name} must be {count} numbers of {dtype.itemsize} bytes, got {len(content)} bytes")
            self.storages[key] = _Storage(np.frombuffer(content, dtype).astype(dtype.newbyteorder("=")))
        return self.storages[key]


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
}


def _allowed_global(name: str) -> _Global:
    if _Global(name) not in _ALLOWED:
        dotted = name.replace(" ", ".")
        raise ValueError(f"refused: data.pkl asks for {dotted:.80}, which a state dict does not need")
    return _Global(name)


def _call(function: Any, arguments: Any) -> Any:
    if function == _ORDERED_DICT and arguments == ():
        return OrderedDict()
    match arguments:
        case (_Storage() as storage, int(offset), tuple(size), tuple(stride), _, _, *_) if function == _REBUILD_TENSOR:
            return _tensor(storage.values, offset, size, stride)
    raise ValueError("refused: data.pkl has a call that a state dict does not need")


def _tensor(values: NDArray[Any], offset: int, size: tuple[Any, ...], stride: tuple[Any, ...]) -> NDArray[Any]:
    if len(size) != len(stride) or not all(type(v) is int and 0 <= v < 2**62 for v in (offset, *size, *stride)):
        raise ValueError("the offset, sizes and strides of a tensor must be non-negative integers, one stride a size")
    if len(size) > 8:
        raise ValueError(f"a tensor must have at most 8 dimensions, got {len(size)}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size:
        return np.zeros(size, values.dtype)
    if last >= values.size or math.prod(size) > values.size:
        raise ValueError(f"a tensor of size {size} and stride {stride} from {offset} on is not within its storage")
    steps = [step * values.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(values[offset:], size, steps, writeable=False)


def _set_items(target: Any, items: tuple[Any, ...]) -> None:
    if not isinstance(target, dict) or len(items) % 2:
        raise ValueError("data.pkl is damaged: items without a dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str):
            raise ValueError(f"a key of a state dict must be a string, got {type(key).__name__}")
        target[key] = value
