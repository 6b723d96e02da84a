"""Networks to try methods on: shipped with the package, made by hand, and ARC's own.

- `load`, `names`, `table`: networks that the package trained and ships;
- `handcrafted`: networks whose every weight follows from an argument, not from training;
- `find`: one of these by its name;
- `algzoo`: ARC's AlgZoo, downloaded once and kept.
"""

from __future__ import annotations

from outsample.models import RNN
from outsample.zoo._algzoo import ALGZOO, algzoo, fetch
from outsample.zoo._handcrafted import handcrafted
from outsample.zoo.shipped import ZooEntry, load, names, table

__all__ = ["ALGZOO", "ZooEntry", "algzoo", "fetch", "find", "handcrafted", "load", "names", "table"]


def find(name: str) -> RNN | None:
    """A network of this package by its name: one of `names`, or ``handcrafted_{hidden_size}_{seq_len}``.

    Returns
    -------
    RNN or None
        None if there is no network of that name.
    """
    if name in names():
        return load(name)
    seq_len = name.rpartition("_")[2]
    if name.startswith("handcrafted_") and seq_len.isdecimal() and 2 <= int(seq_len) <= 64:
        model = handcrafted(int(seq_len))
        if model.name == name:
            return model
    return None
