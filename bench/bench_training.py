"""Speed of training: nanoseconds per sequence, against the machine's multiply-add limit, PyTorch, and over threads.

pytest bench/bench_training.py
"""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

import outsample as osp
from outsample import _core
from timing import fastest

STEPS = 16
BATCH = 1024


def multiply_adds(d: int, n: int, outputs: int) -> int:
    """Of one sequence: forward, backward and weight gradients. Those of the first step cost two numbers per row."""
    forward = (n - 2) * (d * d + d) + 3 * d + outputs * d
    backward = (n - 2) * d * d + outputs * d
    weights = (n - 2) * d * d + (n + 1) * d + outputs * d
    return forward + backward + weights


class Ours:
    """AlgZoo's recipe in the core, from random weights on."""

    def __init__(self, task: str, d: int, n: int, threads: int = 1) -> None:
        self.outputs = 1 if task == "median" else n
        count = d * d + d + self.outputs * d
        self.state = [np.random.default_rng(0).uniform(-1, 1, count).astype(np.float32) / np.float32(math.sqrt(d))]
        self.state += [np.zeros(count, np.float32), np.zeros(count, np.float32)]
        self.settings = (d, n, task, self.outputs, False, BATCH, 1)
        self.rate = 0.04 / math.sqrt(d)
        self.threads = threads
        self.step = 0

    def run(self) -> float:
        schedule = (self.rate, 2**14, 0.01, 2**17)
        done, loss, _ = _core.train(
            *self.settings, (0.9, 0.999, 1e-8, 0.001), schedule, *self.state, self.step, STEPS, self.threads
        )
        assert done == STEPS
        self.step += STEPS
        return float(loss[-1])


@pytest.mark.parametrize(
    ("task", "d", "n"),
    [
        ("2nd_argmax", 16, 10),
        ("2nd_argmax", 2, 2),
        ("2nd_argmax", 4, 3),
        ("2nd_argmax", 8, 5),
        ("2nd_argmax", 32, 10),
        ("2nd_argmax", 17, 10),
        ("argmedian", 16, 11),
        ("median", 16, 10),
    ],
)
@pytest.mark.benchmark(group="training, one thread")
def test_training(benchmark, isa, task, d, n):
    ours = Ours(task, d, n)
    limits = []  # seconds per multiply-add between registers, measured in turns with the trainer
    times = fastest({"ours": ours.run, "limit": lambda: limits.append(_core.peak_multiply_add_seconds())})
    benchmark.pedantic(ours.run, rounds=3)
    assert all(np.isfinite(part).all() for part in ours.state)
    sequences = STEPS * BATCH
    limit = min(limits) * multiply_adds(d, n, ours.outputs) * sequences
    benchmark.extra_info.update(
        {"ns/sequence": times["ours"] / sequences * 1e9, "of multiply-add limit": limit / times["ours"]}
    )


@pytest.mark.benchmark(group="training against PyTorch, 16 units, 10 steps, one thread")
def test_against_torch(benchmark):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rnn = torch.nn.RNN(1, 16, nonlinearity="relu", bias=False, batch_first=True)
    linear = torch.nn.Linear(16, 10, bias=False)
    parameters = [*rnn.parameters(), *linear.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.001)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min((s + 1) / 2**14, 1) * max(0.01 ** (2 * s / 2**17), 0.01)
    )

    def theirs() -> float:
        x = torch.randn(BATCH, 10)
        targets = x.topk(2, dim=1).indices[:, 1]
        loss = torch.nn.functional.cross_entropy(linear(rnn(x[:, :, None])[0][:, -1]), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        return loss.item()

    ours = Ours("2nd_argmax", 16, 10)
    assert abs(theirs() - ours.run()) < 0.2  # the same task: both start at about ln 10
    times = fastest({"torch": theirs, "outsample": ours.run}, rounds=30)
    benchmark.pedantic(ours.run, rounds=3)
    ratio = times["torch"] * STEPS / times["outsample"]
    benchmark.extra_info.update(
        {
            "ns/sequence": times["outsample"] / (STEPS * BATCH) * 1e9,
            "torch ns/sequence": times["torch"] / BATCH * 1e9,
            "times faster": ratio,
        }
    )
    if _core.active_isa() == "avx512":
        assert ratio > 8


@pytest.mark.benchmark(group="training over threads, 16 units, 10 steps")
def test_threads(benchmark):
    counts = [threads for threads in (1, 2, 4, 8) if threads <= (os.cpu_count() or 1)]
    trainers = {threads: Ours("2nd_argmax", 16, 10, threads) for threads in counts}
    times = fastest({str(threads): trainer.run for threads, trainer in trainers.items()}, rounds=20)
    benchmark.pedantic(trainers[1].run, rounds=1)
    for trainer in trainers.values():  # the same steps give the same bits
        while trainer.step < trainers[1].step:
            trainer.run()
        for a, b in zip(trainer.state, trainers[1].state, strict=True):
            assert a.tobytes() == b.tobytes()
    benchmark.extra_info.update({f"{t} threads, times faster": times["1"] / times[str(t)] for t in counts[1:]})


@pytest.mark.benchmark(group="training, whole call")
def test_train(benchmark):
    result = benchmark.pedantic(osp.train, ("2nd_argmax", 16, 10), {"n_sequences": 2**20}, rounds=1)
    assert result.log[-1].loss < result.log[0].loss
    benchmark.extra_info["ns/sequence"] = result.seconds / 2**20 * 1e9
