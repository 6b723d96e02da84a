"""The networks that the package trained and ships.

They are in the folder ``data/zoo`` of the package: for each network the file ``{name}.npz`` that `RNN.save` writes, and
for all of them one index, ``zoo.json``::

    {
      "schema": 1,
      "models": [
        {
          "name": "2nd_argmax_16_10_1073741824_3",   as in AlgZoo: task, d, n, training sequences, seed
          "task": "2nd_argmax", "hidden_size": 16, "seq_len": 10, "n_sequences": 1073741824, "seed": 3,
          "value": 0.9531,                           accuracy, or mean squared error for the median task
          "standard_error": 0.0001,
          "command": "outsample train ...",          what made it
          "log": [[1048576, 0.31], ...]              pairs of training sequences and value on the way
        },
        ...
      ]
    }

The entries are sorted by task, size, sequences and seed. Which network is the best of its size is not written down but
follows from the values.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from outsample._cache import write_atomically
from outsample.loading import load as load_file
from outsample.models import RNN
from outsample.tasks import get_task
from outsample.zoo._choose import check_choice

FOLDER = Path(__file__).parents[1] / "data" / "zoo"
SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class ZooEntry:
    """What is known of a shipped network.

    Attributes
    ----------
    name : str
        ``{task}_{hidden_size}_{seq_len}_{n_sequences}_{seed}``.
    task : str
    hidden_size, seq_len : int
    n_sequences : int
        Training sequences.
    seed : int
        Of the training run.
    value : float
        Accuracy on standard Gaussian inputs, or the mean squared error for the median task.
    standard_error : float
        Of ``value``.
    command : str
        The command that trained it.
    log : tuple of (int, float)
        Training sequences and value at points on the way.
    """

    name: str
    task: str
    hidden_size: int
    seq_len: int
    n_sequences: int
    seed: int
    value: float
    standard_error: float
    command: str = ""
    log: tuple[tuple[int, float], ...] = ()

    @property
    def quantity(self) -> str:
        """``"accuracy"`` or ``"mean_squared_error"``."""
        return get_task(self.task).quantity

    def _order(self) -> tuple[Any, ...]:
        return self.task, self.hidden_size, self.seq_len, self.n_sequences, self.seed


def table(folder: Path = FOLDER) -> list[ZooEntry]:
    """What is known of the shipped networks, sorted by task, size, training sequences and seed."""
    path = folder / "zoo.json"
    if not path.exists():
        return []
    index = json.loads(path.read_text(encoding="utf-8"))
    if index.get("schema") != SCHEMA:
        raise ValueError(f"{path}: schema must be {SCHEMA}, got {index.get('schema')!r}")
    return [ZooEntry(**{**entry, "log": tuple(map(tuple, entry["log"]))}) for entry in index["models"]]


def names() -> list[str]:
    """The names of the shipped networks, which `load` takes."""
    return [entry.name for entry in table()]


def best(entries: Sequence[ZooEntry]) -> ZooEntry:
    """The entry with the highest accuracy, or the lowest mean squared error."""
    return min(entries, key=lambda e: e.value if e.quantity == "mean_squared_error" else -e.value)


def load(
    task: str = "2nd_argmax",
    hidden_size: int | None = None,
    seq_len: int | None = None,
    seed: int | None = None,
    *,
    folder: Path = FOLDER,
) -> RNN:
    """Load a network that is shipped with the package.

    Parameters
    ----------
    task : str, default "2nd_argmax"
        The task; or the name of a network (`names`), and then nothing else.
    hidden_size, seq_len : int, optional
        Hidden units and sequence length. Default: 16 and 10 for 2nd_argmax; for other tasks they must be given.
    seed : int, optional
        Seed of the training run. Default: the best network of that size.
    folder : Path, optional
        Another folder of this format.

    Returns
    -------
    RNN

    Raises
    ------
    ValueError
        If there is no such network; the text says which there are.
    """
    entries = table(folder)
    by_name = {entry.name: entry for entry in entries}
    if task in by_name and hidden_size is seq_len is seed is None:
        entry = by_name[task]
    else:
        check_choice("task", task, sorted({e.task for e in entries}))
        if task == "2nd_argmax" and hidden_size is seq_len is None:
            hidden_size, seq_len = 16, 10
        chosen = [e for e in entries if e.task == task]
        for key, value in (("hidden_size", hidden_size), ("seq_len", seq_len), ("seed", seed)):
            if key != "seed" or value is not None:
                check_choice(key, value, sorted({getattr(e, key) for e in chosen}))
                chosen = [e for e in chosen if getattr(e, key) == value]
        entry = best(chosen)
    model: RNN = load_file(folder / f"{entry.name}.npz")
    return model


def add(
    model: RNN,
    *,
    n_sequences: int,
    seed: int,
    value: float,
    standard_error: float,
    command: str,
    log: Sequence[tuple[int, float]] = (),
    folder: Path = FOLDER,
) -> ZooEntry:
    """Put a network into the folder and the index, in place of one of the same name; for the training script.

    The index is written last and in one step, so a reader never finds a name without its file. One process at a time.
    """
    name = f"{model.task.name}_{model.hidden_size}_{model.seq_len}_{n_sequences}_{seed}"
    entry = ZooEntry(
        name=name,
        task=model.task.name,
        hidden_size=model.hidden_size,
        seq_len=model.seq_len,
        n_sequences=n_sequences,
        seed=seed,
        value=value,
        standard_error=standard_error,
        command=command,
        log=tuple((int(sequences), float(reached)) for sequences, reached in log),
    )
    folder.mkdir(parents=True, exist_ok=True)
    dataclasses.replace(model, name=name).save(folder / f"{name}.npz")
    entries = sorted([e for e in table(folder) if e.name != name] + [entry], key=ZooEntry._order)
    models = [dataclasses.asdict(e) for e in entries]
    write_atomically(folder / "zoo.json", json.dumps({"schema": SCHEMA, "models": models}, indent=1) + "\n")
    return entry
