"""Estimates of many networks at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

from outsample.estimators.base import Estimate


class Batch(Sequence[Estimate]):
    """A sequence whose `Estimate` objects are made when they are asked for.

    Making one takes as long as sampling fifty inputs, and most users of a batch go on with a few numbers of each. All
    methods with a batch of their own return one, so that none has an advantage over another.
    """

    def __init__(self, count: int, make: Callable[[int], Estimate]) -> None:
        self._indices = range(count)
        self._make = make

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Estimate: ...
    @overload
    def __getitem__(self, index: slice) -> list[Estimate]: ...
    def __getitem__(self, index: int | slice) -> Estimate | list[Estimate]:
        found = self._indices[index]
        return [self._make(i) for i in found] if isinstance(found, range) else self._make(found)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)  # what makes them may hold tables
