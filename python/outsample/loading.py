"""`load`: from a file, a state dict or a torch module to a network."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from outsample._files import META, StateDict, read_model_file
from outsample.models import RNN, Model
from outsample.tasks import Task, get_task
from outsample.transformer import Transformer

#: AlgZoo's file names: task, hidden size, sequence length, training sequences, seed.
_ZOO_NAME = re.compile(r"(2nd_argmax|argmax|argmedian|median|longest_cycle)_(\d{1,6})_(\d{1,6})_(\d{1,18})_(\d{1,6})")
_TASK_IN_NAME = re.compile(r"2nd_argmax|argmax|argmedian|median|longest_cycle")


def load(source: Any, *, task: str | Task | None = None, seq_len: int | None = None, name: str | None = None) -> Any:
    """Load a network.

    Parameters
    ----------
    source : path, mapping or module
        A ``.pth`` file as ``torch.save(model.state_dict())`` writes it (torch is not needed, and nothing in the file is
        executed), an ``.npz`` file, a ``.safetensors`` file (needs the extra ``outsample[safetensors]``), a state
        dict (a mapping of names to arrays or tensors), or a torch module.
        The names are those of AlgZoo's classes: ``rnn.weight_ih_l0`` (d, 1), ``rnn.weight_hh_l0`` (d, d),
        ``linear.weight`` (n, d), and optionally ``rnn.bias_ih_l0``, ``rnn.bias_hh_l0``, ``linear.bias``; or those of
        `RNN`: ``W_hi``, ``W_hh``, ``W_oh``, ``b_h``, ``b_o``. For transformers: ``embed.weight``,
        ``pos_embed.weight``, ``attns.{i}.in_proj_weight``, ``attns.{i}.out_proj.weight``, ``unembed.weight``; or those
        of `Transformer`: ``embed``, ``pos_embed``, ``in_proj``, ``out_proj``, ``unembed``.
    task : str or Task, optional
        What the network is asked for. Default: what the file or module says, else the task that the file's name
        mentions, else ``"2nd_argmax"`` (``"longest_cycle"`` for a transformer).
    seq_len : int, optional
        Sequence length. Default: what the file or module says, else, for the median task, that of a file name
        ``median_{d}_{n}_{n_seqs}_{seed}``, else the number of logits.
    name : str, optional
        For tables. Default: what the file says, else its name without the suffix.

    Returns
    -------
    RNN or Transformer

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or holds something other than weights, if names are missing or unknown, if shapes
        disagree, or if a weight is not finite.
    TypeError
        If ``source`` is of another kind.
    ImportError
        If the file is in the safetensors format and that package is not installed.

    Examples
    --------
    >>> import numpy as np, outsample as osp
    >>> W = np.array([[1.0, -1.0], [-1.0, 1.0]])
    >>> osp.load({"W_hh": -W, "W_hi": np.array([1.0, -1.0]), "W_oh": W})
    RNN(task='2nd_argmax', hidden_size=2, seq_len=2, parameters=10)
    """
    state, said = _read(source)
    if task is None:
        task = said.get("task")
    if seq_len is None:
        seq_len = said.get("seq_len")
    if name is None:
        name = said.get("name", "")
    try:
        for marker, build in _FAMILIES.items():
            if marker in state:
                return build(state, task, seq_len, name)
        raise ValueError(
            f"the keys must be those of a recurrent network ({', '.join(_REQUIRED)}) or of a transformer "
            f"(embed.weight, ...), got {_listed(state)}"
        )
    except ValueError as error:
        where = f"{source}: " if isinstance(source, str | os.PathLike) else ""
        raise ValueError(f"{where}{error}") from error


def state_dict_from(source: Any) -> StateDict:
    """The weights in a file, state dict or module, as numpy arrays under the names that they have there.

    Parameters
    ----------
    source : path, mapping or module
        As for `load`.

    Returns
    -------
    OrderedDict of str to ndarray
    """
    return _read(source)[0]


def _read(source: Any) -> tuple[StateDict, dict[str, Any]]:
    """The weights of a source, and what it says of itself."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        state = read_model_file(path)
        said = _said_by_name(path.stem)
        for key in META:
            if key in state:
                said[key] = _scalar(path, key, state.pop(key))
        for key, array in state.items():
            if array.dtype.kind != "f":
                raise ValueError(f"{path}: {key} must have real floating-point numbers, got dtype {array.dtype}")
        return state, said
    if isinstance(source, Mapping):
        return _arrays(source), {}
    if callable(getattr(source, "state_dict", None)):
        nonlinearity = getattr(getattr(source, "rnn", None), "nonlinearity", "relu")
        if nonlinearity != "relu":
            raise ValueError(f"source must be a ReLU network, got nonlinearity {nonlinearity!r}")
        said = {key: value for key in META if isinstance(value := getattr(source, key, None), str | int | Task)}
        return _arrays(source.state_dict()), said
    raise TypeError(f"source must be a path, a state dict or an object with state_dict(), got {type(source).__name__}")


def _scalar(path: Path, key: str, value: np.ndarray[Any, Any]) -> str | int:
    if value.ndim == 0 and value.dtype.kind == ("i" if key == "seq_len" else "U"):
        return value.item()  # type: ignore[no-any-return]
    raise ValueError(f"{path}: {key} must be one {'integer' if key == 'seq_len' else 'string'}, got {value!r:.80}")


def _said_by_name(stem: str) -> dict[str, Any]:
    said: dict[str, Any] = {"name": stem}
    if match := _ZOO_NAME.fullmatch(stem):
        said["task"] = match[1]
        if match[1] == "median":
            said["seq_len"] = int(match[3])
    elif len(mentioned := set(_TASK_IN_NAME.findall(stem))) == 1:
        said["task"] = mentioned.pop()
    return said


def _arrays(mapping: Mapping[Any, Any]) -> StateDict:
    state: StateDict = OrderedDict()
    for key, value in mapping.items():
        if not isinstance(key, str):
            raise TypeError(f"the keys of a state dict must be strings, got {key!r:.80}")
        state[key] = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    return state


def _listed(state: Mapping[str, Any]) -> str:
    keys = [repr(key)[:60] for key in state]
    return ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "") if keys else "none"


_REQUIRED = ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "linear.weight")
_OPTIONAL = ("rnn.bias_ih_l0", "rnn.bias_hh_l0", "linear.bias")


def _rnn_from_state_dict(state: StateDict, task: str | Task | None, seq_len: int | None, name: str) -> RNN:
    _check_keys(state, _REQUIRED, _OPTIONAL)
    b_ih, b_hh = state.get("rnn.bias_ih_l0"), state.get("rnn.bias_hh_l0")
    if b_ih is not None and b_hh is not None:  # torch adds both, and so does every forward pass
        if b_ih.shape != b_hh.shape:
            raise ValueError(
                f"rnn.bias_ih_l0 and rnn.bias_hh_l0 must have one shape, got {b_ih.shape} and {b_hh.shape}"
            )
        b_hh = b_ih.astype(np.float64) + b_hh
    return RNN(
        state["rnn.weight_hh_l0"],
        state["rnn.weight_ih_l0"],
        state["linear.weight"],
        task=task or "2nd_argmax",  # type: ignore[arg-type]
        b_h=b_ih if b_hh is None else b_hh,
        b_o=state.get("linear.bias"),
        seq_len=seq_len,  # type: ignore[arg-type]
        name=name,
    )


def _rnn_from_fields(state: StateDict, task: str | Task | None, seq_len: int | None, name: str) -> RNN:
    _check_keys(state, ("W_hh", "W_hi", "W_oh"), ("b_h", "b_o"))
    return RNN(**state, task=task or "2nd_argmax", seq_len=seq_len, name=name)  # type: ignore[arg-type]


def _transformer_from_state_dict(
    state: StateDict, task: str | Task | None, seq_len: int | None, name: str
) -> Transformer:
    layers = sum(key.endswith(".in_proj_weight") for key in state)
    projections = [[f"attns.{i}.{part}" for i in range(layers)] for part in ("in_proj_weight", "out_proj.weight")]
    _check_keys(state, ("embed.weight", "pos_embed.weight", *projections[0], *projections[1], "unembed.weight"), ())
    fields: StateDict = OrderedDict((key, state[f"{key}.weight"]) for key in ("embed", "pos_embed", "unembed"))
    for key, names in zip(("in_proj", "out_proj"), projections, strict=True):
        if len({state[n].shape for n in names}) != 1:
            raise ValueError(f"{', '.join(names)} must have one shape, got {[state[n].shape for n in names]}")
        fields[key] = np.stack([state[n] for n in names])
    return _transformer_from_fields(fields, task, seq_len, name)


def _transformer_from_fields(state: StateDict, task: str | Task | None, seq_len: int | None, name: str) -> Transformer:
    _check_keys(state, ("embed", "pos_embed", "in_proj", "out_proj", "unembed"), ())
    if task is not None and get_task(task).name != "longest_cycle":
        raise ValueError(f"task must be longest_cycle for a transformer, got {get_task(task).name}")
    model = Transformer(**state, name=name)
    if seq_len not in (None, model.seq_len):
        raise ValueError(f"seq_len must be {model.seq_len}, the rows of embed, got {seq_len}")
    return model


def _check_keys(state: StateDict, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    missing = [key for key in required if key not in state]
    if missing:
        raise ValueError(f"the weights {', '.join(missing)} are missing; there are {_listed(state)}")
    unknown = {key: None for key in state if key not in required + optional}
    if unknown:
        raise ValueError(f"unknown weights {_listed(unknown)}; expected {', '.join(required + optional)}")


#: A family of models is recognised by one key of its state dict.
_FAMILIES: dict[str, Callable[[StateDict, str | Task | None, int | None, str], Model]] = {
    "rnn.weight_hh_l0": _rnn_from_state_dict,
    "W_hh": _rnn_from_fields,
    "embed.weight": _transformer_from_state_dict,
    "embed": _transformer_from_fields,
}
