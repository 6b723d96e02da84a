"""Speed of the fused sampler: against the machine's multiply-add limit, numpy, PyTorch, and over threads.

pytest bench/bench_sampling.py
"""

from __future__ import annotations

import os

import numpy as np
import pytest

import outsample as osp
from outsample import _core
from timing import fastest

#: Slowest allowed, as a multiple of the time of the network's multiply-adds alone (16 units, 10 steps). On Intel
#: processors, where random numbers and labels wait for the same two ports as the multiply-adds, it is 1.5 to 1.6 with
#: AVX-512 (docs/sampling.md).
LIMITS = {"avx512": 1.7 if "Intel" in osp.build_info()["cpu"] else 1.3, "avx2": 1.6}


def network(d: int, n: int, task: str = "2nd_argmax") -> osp.RNN:
    rng = np.random.default_rng(0)
    outputs = 1 if task == "median" else n
    return osp.RNN(
        rng.normal(size=(d, d)) * np.sqrt(2 / d), rng.normal(size=d), rng.normal(size=(outputs, d)), task, seq_len=n
    )


def count(model: osp.RNN, samples: int, threads: int = 1) -> int:
    return _core.count_correct(model._network, model.task.name, samples, 1, 0, threads)


@pytest.mark.parametrize(
    ("d", "n", "task"),
    [
        (16, 10, "2nd_argmax"),
        (2, 2, "2nd_argmax"),
        (4, 3, "2nd_argmax"),
        (8, 5, "2nd_argmax"),
        (32, 10, "2nd_argmax"),
        (16, 10, "argmax"),
        (16, 11, "argmedian"),
        (17, 10, "2nd_argmax"),
    ],
)
@pytest.mark.benchmark(group="sampling, one thread")
def test_sampling(benchmark, isa, d, n, task):
    model = network(d, n, task)
    adds = model.forward_multiply_adds
    samples = max(1 << 12, 40_000_000 // adds // 4096 * 4096)
    limits = []  # seconds per multiply-add between registers, measured in turns with the sampler
    times = fastest(
        {
            "sampling": lambda: count(model, samples),
            "limit": lambda: limits.append(_core.peak_multiply_add_seconds()),
        }
    )
    limit = min(limits) * adds * samples
    whole = benchmark.pedantic(count, (model, samples), rounds=5)
    half = samples // 2 + 1
    assert whole == count(model, half) + _core.count_correct(model._network, task, samples - half, 1, half)
    benchmark.extra_info.update(
        {
            "ns/sample": times["sampling"] / samples * 1e9,
            "GFLOP/s": 2e-9 * samples * adds / times["sampling"],
            "of multiply-add limit": limit / times["sampling"],
            "time / limit": times["sampling"] / limit,
        }
    )
    if (d, n, task) == (16, 10, "2nd_argmax") and isa in LIMITS:
        assert times["sampling"] < LIMITS[isa] * limit


@pytest.mark.parametrize("quantity", ["cross_entropy", "confusion", "mean_squared_error", "inputs", "forward"])
@pytest.mark.benchmark(group="other quantities, 16 units, 10 steps, one thread")
def test_quantities(benchmark, quantity):
    samples = 1 << 14
    model = network(16, 10, "median" if quantity == "mean_squared_error" else "2nd_argmax")
    x = _core.normals(1, 0, samples, 10)
    run = {
        "cross_entropy": lambda: _core.sample_moments(model._network, "2nd_argmax", samples, 1),
        "mean_squared_error": lambda: _core.sample_moments(model._network, "median", samples, 1),
        "confusion": lambda: _core.count_confusion(model._network, "2nd_argmax", samples, 1),
        "inputs": lambda: _core.normals(1, 0, samples, 10),
        "forward": lambda: model.forward(x),
    }[quantity]
    accuracy = network(16, 10)
    times = fastest({"run": run, "accuracy": lambda: count(accuracy, samples)})
    result = benchmark.pedantic(run, rounds=5)
    if quantity == "confusion":
        assert np.trace(result) == count(accuracy, samples)
    benchmark.extra_info.update(
        {"ns/sample": times["run"] / samples * 1e9, "time / accuracy": times["run"] / times["accuracy"]}
    )


def numpy_pipeline(model: osp.RNN, batch: int):
    """Units in rows and samples in columns, float32, everything in place, batches that fit the cache."""
    rng = np.random.default_rng(0)
    d, n = model.hidden_size, model.seq_len
    x = np.empty((n, batch), np.float32)
    h, next_h, from_x = (np.empty((d, batch), np.float32) for _ in range(3))
    logits = np.empty((n, batch), np.float32)
    w = model.W_hi[:, None]

    def run() -> int:
        nonlocal h, next_h
        rng.standard_normal(out=x, dtype=np.float32)
        np.maximum(np.multiply(w, x[0], out=h), 0, out=h)
        for t in range(1, n):
            np.matmul(model.W_hh, h, out=next_h)
            next_h += np.multiply(w, x[t], out=from_x)
            np.maximum(next_h, 0, out=next_h)
            h, next_h = next_h, h
        np.matmul(model.W_oh, h, out=logits)
        prediction = logits.argmax(axis=0)
        x[x.argmax(axis=0), np.arange(batch)] = -np.inf
        return int(np.count_nonzero(prediction == x.argmax(axis=0)))

    return run


def torch_pipeline(model: osp.RNN, batch: int):
    """The same in PyTorch, on one thread."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    d, n = model.hidden_size, model.seq_len
    W_hh, W_hi, W_oh = (torch.tensor(np.array(w)) for w in (model.W_hh, model.W_hi[:, None], model.W_oh))
    x = torch.empty((n, batch))
    buffers = [torch.empty((d, batch)) for _ in range(2)]

    def run() -> int:
        with torch.inference_mode():
            x.normal_(generator=generator)
            h, next_h = buffers
            torch.mul(W_hi, x[0], out=h).relu_()
            for t in range(1, n):
                torch.mul(W_hi, x[t], out=next_h)
                next_h.addmm_(W_hh, h).relu_()
                h, next_h = next_h, h
            prediction = (W_oh @ h).argmax(dim=0)
            x.scatter_(0, x.argmax(dim=0, keepdim=True), -float("inf"))
            return int((prediction == x.argmax(dim=0)).sum())

    return run


@pytest.mark.parametrize("other", ["numpy", "torch"])
@pytest.mark.benchmark(group="against other libraries, 16 units, 10 steps, one thread")
def test_against(benchmark, other):
    model = network(16, 10)
    truth = count(model, 1 << 20) / (1 << 20)
    pipeline = {"numpy": numpy_pipeline, "torch": torch_pipeline}[other]
    batches = (1 << 10, 1 << 12, 1 << 14)
    runs = {f"{other} {batch}": pipeline(model, batch) for batch in batches}
    for batch in batches:  # the same task, measured the same
        assert abs(runs[f"{other} {batch}"]() / batch - truth) < 5 * (truth * (1 - truth) / batch) ** 0.5
    ours = 1 << 14
    times = fastest({**runs, "outsample": lambda: count(model, ours)})
    benchmark.pedantic(count, (model, ours), rounds=5)
    theirs, batch = min((times[f"{other} {b}"] / b, b) for b in batches)
    mine = times["outsample"] / ours
    benchmark.extra_info.update(
        {
            "ns/sample": mine * 1e9,
            f"{other} ns/sample": theirs * 1e9,
            "best batch": batch,
            "times faster": theirs / mine,
        }
    )


@pytest.mark.parametrize("threads", sorted({1, 2, os.cpu_count() or 1}))
@pytest.mark.benchmark(group="threads, 16 units, 10 steps")
def test_threads(benchmark, threads):
    model = network(16, 10)
    samples = 1 << 18
    times = fastest({"one": lambda: count(model, samples), "many": lambda: count(model, samples, threads)}, rounds=40)
    assert benchmark.pedantic(count, (model, samples, threads), rounds=5) == count(model, samples)
    benchmark.extra_info.update({"ns/sample": times["many"] / samples * 1e9, "speed-up": times["one"] / times["many"]})


@pytest.mark.parametrize("samples", [1, 64, 1024, 16384])
@pytest.mark.benchmark(group="one call from Python, 16 units, 10 steps")
def test_small_budgets(benchmark, samples):
    model = network(16, 10)
    method = osp.MonteCarlo()
    models = [model] * 64
    times = fastest(
        {
            "estimate": lambda: method.estimate(model, samples, rng=0),
            "many": lambda: method.estimate_many(models, samples, rng=0),
            "core": lambda: count(model, samples),
        }
    )
    assert 0 <= benchmark(count, model, samples) <= samples
    benchmark.extra_info.update(
        {
            "core us": times["core"] * 1e6,
            "estimate us": times["estimate"] * 1e6,
            "estimate_many us/network": times["many"] / 64 * 1e6,
        }
    )
