"""Networks to try methods on: shipped with the package, made by hand, and ARC's own.

- `load`, `names`, `table`: networks that the package trained and ships;
- `handcrafted`: networks whose every weight follows from an argument, not from training;
- `algzoo`: ARC's AlgZoo, downloaded once and kept.
"""

from outsample.zoo._algzoo import ALGZOO, algzoo, fetch
from outsample.zoo._handcrafted import handcrafted
from outsample.zoo._shipped import ZooEntry, load, names, table

__all__ = ["ALGZOO", "ZooEntry", "algzoo", "fetch", "handcrafted", "load", "names", "table"]
