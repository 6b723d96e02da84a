"""The one form in which a wrong choice is answered, which is AlgZoo's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def check_choice(key: str, value: Any, values: Iterable[Any], zoo: str = "zoo") -> None:
    """Raise ValueError unless ``value`` is among ``values``."""
    values = list(values)
    if value not in values:
        choices = ", ".join(map(str, values)) or "none"
        raise ValueError(f"No {zoo} model with {key} {value}, please choose one of: {choices}")
