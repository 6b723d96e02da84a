"""Finished stages of a fit, on disk."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outsample._cache import write_atomically

#: Raised whenever stages of earlier versions cannot be read any more.
_STAGES = 2


class Folder:
    """Finished stages of one fit; without a path nothing is kept.

    Parameters
    ----------
    path : path or None
        Made if it is not there.
    settings : mapping
        What all stages depend on, plain JSON.

    Raises
    ------
    ValueError
        If it holds a fit with other settings, or of another version.
    """

    def __init__(self, path: str | Path | None, settings: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        if self.path is None:
            return
        self.path.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**settings, "format": _STAGES}, indent=1, sort_keys=True)
        record = self.path / "settings.json"
        if record.exists() and record.read_text() != text:
            raise ValueError(
                f"folder {self.path} holds a fit with other settings, or of another version (see its settings.json)"
            )
        write_atomically(record, text)

    def load(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Arrays of a stage, or None if it is not finished."""
        if self.path is None or not (file := self.path / f"{name}.npz").exists():
            return None
        try:
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive.items())
        except Exception as error:  # numpy and zipfile raise many kinds on damaged files
            raise ValueError(f"{file} is damaged ({error}); delete it to fit that stage again") from error

    def save(self, name: str, **arrays: Any) -> None:
        """Keep a stage."""
        if self.path is None:
            return
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_atomically(self.path / f"{name}.npz", buffer.getvalue())
