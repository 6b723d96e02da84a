"""Shared fixtures and the header that says what is under test."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import outsample as osp


def pytest_report_header() -> str:
    info = osp.build_info()
    isas = ", ".join(info["supported_isas"])
    return f"outsample {info['version']}, {info['compiler']}, isa {info['isa']} of {isas}, {info['cpu']}"


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Folder of real AlgZoo models; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("OUTSAMPLE_TEST_MODELS", Path(__file__).parents[2] / "shared" / "models"))
    if not folder.is_dir():
        pytest.skip("no folder of AlgZoo models (set OUTSAMPLE_TEST_MODELS)")
    return folder


@pytest.fixture(params=osp.build_info()["supported_isas"])
def isa(request):
    """Runs a test once per instruction set that this machine has."""
    with osp.use_isa(request.param):
        yield request.param


def random_rnn(d: int, n: int, task: str = "2nd_argmax", seed: int = 0, biases: bool = False) -> osp.RNN:
    """A random network with roughly unit gain."""
    rng = np.random.default_rng(seed)
    outputs = 1 if task == "median" else n
    return osp.RNN(
        rng.normal(size=(d, d)) * np.sqrt(2 / d),
        rng.normal(size=d),
        rng.normal(size=(outputs, d)),
        task=task,
        seq_len=n,
        b_h=rng.normal(size=d) * 0.3 if biases else None,
        b_o=rng.normal(size=outputs) * 0.3 if biases else None,
    )
