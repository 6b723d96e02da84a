"""Reading a network of AlgZoo's size, beside torch where it is installed.

pytest bench/bench_loading.py
"""

from __future__ import annotations

import numpy as np
import pytest

import outsample as osp


@pytest.fixture
def model():
    rng = np.random.default_rng(0)
    return osp.RNN(rng.normal(size=(16, 16)), rng.normal(size=16), rng.normal(size=(10, 16)))


@pytest.mark.benchmark(group="load 432 parameters")
def test_npz(benchmark, model, tmp_path):
    path = tmp_path / "model.npz"
    model.save(path)
    loaded = benchmark(osp.load, path)
    assert loaded.digest == model.digest


@pytest.mark.benchmark(group="load 432 parameters")
@pytest.mark.parametrize("reader", ["outsample", "torch"])
def test_pth(benchmark, model, tmp_path, reader):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    torch.save({name: torch.from_numpy(array) for name, array in model.state_dict().items()}, path)
    if reader == "outsample":
        state = benchmark(osp.state_dict_from, path)
    else:
        state = {name: t.numpy() for name, t in benchmark(torch.load, path, weights_only=True).items()}
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(state[name], array)
