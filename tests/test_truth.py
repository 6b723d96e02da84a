"""Ground truth and its cache."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn

SPAWN = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang


def ensemble(size: int = 6, **changes) -> osp.NoiseEnsemble:
    return osp.NoiseEnsemble(random_rnn(4, 3, **changes), scale=0.05, size=size, seed=1)


def equal(a: osp.Truth, b: osp.Truth) -> bool:
    return a.samples == b.samples and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("values", "standard_errors", "sample_variances")
    )


def counted(folder: Path) -> dict[str, int]:
    """Samples on disk by the first letters of the digest."""
    found: dict[str, int] = {}
    for path in folder.rglob("*.json"):
        found[path.name[:16]] = found.get(path.name[:16], 0) + json.loads(path.read_text())["samples"]
    return found


def test_truth_agrees_with_independent_sampling():
    models = ensemble()
    truth = osp.ground_truth(models, 2**18, cache=False)
    for model, value, error in zip(models, truth.values, truth.standard_errors, strict=True):
        other = osp.MonteCarlo().estimate(model, 2**18, rng=11)
        assert abs(value - other.value) < 5 * np.hypot(error, other.standard_error)
        assert error == pytest.approx(np.sqrt(value * (1 - value) / 2**18), rel=1e-3)
    assert truth.variance == pytest.approx(np.mean(truth.values * (1 - truth.values)), rel=1e-4)
    assert truth.noise == pytest.approx(truth.variance / 2**18)


def test_the_cache_gives_the_same_and_counts_nothing_twice(tmp_path, monkeypatch):
    fresh = osp.ground_truth(ensemble(), 2**12, cache=False)
    assert equal(osp.ground_truth(ensemble(), 2**12, cache=tmp_path), fresh)
    monkeypatch.setattr(osp._core, "count_correct_many", None)  # a second count would fail
    assert equal(osp.ground_truth(ensemble(), 2**12, cache=tmp_path), fresh)
    assert equal(
        osp.ground_truth(ensemble(3), 1000, cache=tmp_path), osp.ground_truth(ensemble(3), 2**12, cache=tmp_path)
    )


def test_the_environment_chooses_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTSAMPLE_CACHE", str(tmp_path / "cache"))
    osp.ground_truth(ensemble(2), 64)
    assert list(counted(tmp_path / "cache").values()) == [64, 64]


def test_more_samples_are_added_to_what_is_there(tmp_path):
    osp.ground_truth(ensemble(), 5000, cache=tmp_path)
    grown = osp.ground_truth(ensemble(), 20_000, cache=tmp_path)
    whole = osp.ground_truth(ensemble(), 20_000, cache=False)
    assert grown.samples == whole.samples == 20_000
    np.testing.assert_allclose(grown.values, whole.values, rtol=1e-12)
    assert set(counted(tmp_path).values()) == {20_000}


def test_damaged_and_foreign_files_are_counted_again(tmp_path):
    truth = osp.ground_truth(ensemble(), 256, cache=tmp_path)
    files = sorted(tmp_path.rglob("*.json"))
    for path, text in zip(
        files, ("", "{", "[]", '{"first": 0}', '{"first":0,"samples":-5,"mean":0,"variance":1}'), strict=False
    ):
        path.write_text(text)
    assert equal(osp.ground_truth(ensemble(), 256, cache=tmp_path), truth)
    assert set(counted(tmp_path).values()) == {256}


def test_nothing_but_counts_is_left_in_the_folder(tmp_path):
    osp.ground_truth(ensemble(), 256, cache=tmp_path)
    assert all(
        path.suffix == ".json" and not path.name.startswith(".") for path in tmp_path.rglob("*") if path.is_file()
    )


def test_interruption_loses_nothing_finished(tmp_path, monkeypatch):
    models = ensemble(4)
    count = osp._core.count_correct_many
    monkeypatch.setattr("outsample.truth._PIECE", 1)  # one network per piece
    calls = []

    def interrupted(*args):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(args)
        return count(*args)

    monkeypatch.setattr(osp._core, "count_correct_many", interrupted)
    with pytest.raises(KeyboardInterrupt):
        osp.ground_truth(models, 128, cache=tmp_path)
    assert len(counted(tmp_path)) == 2
    monkeypatch.setattr(osp._core, "count_correct_many", count)
    assert equal(osp.ground_truth(models, 128, cache=tmp_path), osp.ground_truth(models, 128, cache=False))


def test_executors_and_threads_change_nothing():
    serial = osp.ground_truth(ensemble(), 5000, cache=False, threads=1)
    assert equal(serial, osp.ground_truth(ensemble(), 5000, cache=False, threads=3))
    with ThreadPoolExecutor(3) as pool:
        assert equal(serial, osp.ground_truth(ensemble(), 5000, cache=False, executor=pool))


def _grow(folder: str, sizes: tuple[int, ...]) -> None:
    for samples in sizes:
        osp.ground_truth(ensemble(12), samples, cache=folder)


@pytest.mark.slow
def test_two_processes_at_once_lose_nothing(tmp_path):
    """They count overlapping ranges of the same networks; every range that either has finished is still there."""
    sizes = ((300, 900, 1500, 2100), (500, 900, 1300, 2500))
    with ProcessPoolExecutor(2, mp_context=SPAWN) as pool:
        list(pool.map(_grow, [str(tmp_path)] * 2, sizes))
        serial = osp.ground_truth(ensemble(12), 2500, cache=False)
        truth = osp.ground_truth(ensemble(12), 2500, cache=tmp_path)
        assert truth.samples == 2500
        np.testing.assert_allclose(truth.values, serial.values, rtol=1e-12)
        # The same pool as an executor: networks and ranges travel to other processes.
        assert equal(serial, osp.ground_truth(ensemble(12), 2500, cache=False, executor=pool))


def test_truth_of_a_network_that_is_always_right_has_an_error():
    model = osp.RNN([[0.0]], [0.0], [[0.0]], task="argmax")
    truth = osp.ground_truth([model], 1000, cache=False)
    assert truth.values[0] == 1.0
    assert 0 < truth.standard_errors[0] < 0.002


def test_exact_truth():
    truth = osp.Truth.exact([0.5, 0.9])
    assert truth.variance == pytest.approx((0.25 + 0.09) / 2)
    assert truth.noise == 0


@pytest.mark.parametrize(
    ("models", "samples", "message"),
    [
        ([], 100, "at least one model"),
        ([random_rnn(3, 3), random_rnn(4, 3)], 100, "one shape and task"),
        ([random_rnn(3, 3), random_rnn(3, 3, "argmax")], 100, "one shape and task"),
        ([random_rnn(3, 3)], 1, "samples must be at least 2, got 1"),
    ],
)
def test_bad_arguments(models, samples, message):
    with pytest.raises(ValueError, match=message):
        osp.ground_truth(models, samples, cache=False)
