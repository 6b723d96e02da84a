"""How this copy of outsample was built, and which instruction set it uses."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from outsample import _core


def _cpu_name() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def build_info() -> dict[str, Any]:
    """How the package was built and where it runs.

    Returns
    -------
    dict
        ``version``, ``compiler``, ``build_type``, ``assertions``, ``compiled_isas``, ``supported_isas``, ``isa`` (the
        instruction set in use; the environment variable ``OUTSAMPLE_ISA`` overrides the choice), ``cpu``, ``cores``,
        ``system``, ``python``, ``numpy``.
    """
    info: dict[str, Any] = dict(_core.build_info())
    info["cpu"] = _cpu_name()
    info["cores"] = os.cpu_count() or 1
    info["system"] = platform.platform()
    info["python"] = sys.version.split()[0]
    info["numpy"] = np.__version__
    return info


def source_commit() -> str | None:
    """The commit that this copy was installed from, if that can still be told."""
    try:
        record = json.loads(distribution("outsample").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    if commit := record.get("vcs_info", {}).get("commit_id"):
        return str(commit)
    url = urlsplit(record.get("url", ""))
    if url.scheme != "file":
        return None
    try:
        found = subprocess.run(
            ["git", "-C", url2pathname(url.path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


@contextlib.contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Run a block with another instruction set: ``with osp.use_isa("avx2"): ...``.

    The switch holds for the whole process, so it is for tests and benchmarks, not for concurrent work.

    Parameters
    ----------
    name : str
        One of ``build_info()["supported_isas"]``.

    Raises
    ------
    ValueError
        If this build or this processor does not have the instruction set.
    """
    before = _core.active_isa()
    _core.use_isa(name)
    try:
        yield
    finally:
        _core.use_isa(before)
