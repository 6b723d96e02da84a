"""Trains the networks that the package ships, and puts them into a folder (python/outsample/data/zoo in a checkout).

    python -m outsample.zoo.build python/outsample/data/zoo --work FOLDER [--only TASK_D_N ...] [--processes 2]

Every size has a few seeds; the best on a validation stream is kept (all of them for 2nd_argmax at 16, 10), and its
accuracy is then measured on yet another stream. Runs are cut into stages after which only the best seeds go on, on the
schedule of the whole run. Everything can be interrupted and called again: runs resume from their checkpoints in FOLDER,
where the networks at 2^20, 2^21, ... sequences are kept as well.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import outsample as osp
from outsample.seeding import domain_seed, philox_key
from outsample.training import TrainingResult, measure
from outsample.zoo import shipped

VALIDATION, REPORT = 2**20, 2**24  # samples


@dataclass(frozen=True)
class Plan:
    """Seeds 0 ... seeds - 1; stages of (log2 of the sequences at which to stop, seeds to keep then)."""

    task: str
    d: int
    n: int
    log2: int
    seeds: int
    stages: tuple[tuple[int, int], ...] = ()
    keep: int = 1

    @property
    def name(self) -> str:
        return f"{self.task}_{self.d}_{self.n}"


PLANS = [
    Plan("2nd_argmax", 16, 10, 30, 14, ((27, 8), (28, 6), (29, 4)), keep=10),
    Plan("2nd_argmax", 2, 2, 29, 4),
    Plan("2nd_argmax", 4, 3, 28, 4),
    Plan("2nd_argmax", 8, 5, 28, 4, ((26, 2),)),
    *(Plan("2nd_argmax", d, n, 29, 6, ((27, 2),)) for d, n in ((4, 4), (5, 4), (6, 6))),
    *(Plan("2nd_argmax", d, n, 27, 6) for d, n in ((2, 3), (3, 3), (6, 5))),
    *(Plan("2nd_argmax", 8, n, 29, 4, ((27, 2),)) for n in (8, 10)),
    *(Plan("2nd_argmax", d, n, 27, 2) for d, n in ((3, 2), (8, 6))),
    *(Plan("argmedian", d, n, 26, 3) for d in (2, 4, 8) for n in (3, 5, 7, 11)),
    *(Plan("median", d, n, 26, 3) for d in (2, 4, 8) for n in (2, 3, 5, 10)),
    *(Plan("argmedian", 16, n, 26, 2) for n in (3, 5, 7, 11)),
    *(Plan("median", 16, n, 26, 2) for n in (2, 3, 5, 10)),
    Plan("2nd_argmax", 32, 10, 26, 1),
    *(Plan("argmedian", 32, n, 24, 1) for n in (3, 5, 7, 11)),
    *(Plan("median", 32, n, 24, 1) for n in (2, 3, 5, 10)),
    *(Plan("2nd_argmax", d, n, 26, 1) for d, n in ((16, 6), (16, 8), (32, 8))),
]


def run(plan: Plan, seed: int, stop: int | None, work: str) -> tuple[TrainingResult, float]:
    """Train one seed up to 2^stop sequences (to the end without) and validate it: higher is better."""
    folder = Path(work) / plan.name
    result = osp.train(
        plan.task,
        plan.d,
        plan.n,
        n_sequences=2**plan.log2,
        seed=seed,
        stop_after=None if stop is None else 2**stop,
        checkpoint=folder / f"seed_{seed}_of_{plan.log2}.npz",
    )
    for sequences, model in result.checkpoints.items():
        path = folder / f"seed_{seed}_of_{plan.log2}_at_{sequences}.npz"
        if not path.exists():
            model.save(path)
    value, _ = measure(result.model, VALIDATION, philox_key(domain_seed("training", seed, 2)))
    return result, value if result.model.task.quantity == "accuracy" else -value


def ship(plan: Plan, seed: int, result: TrainingResult, folder: Path) -> None:
    """Measure a network on its report stream and add it to the folder."""
    value, error = measure(result.model, REPORT, philox_key(domain_seed("training", seed, 3)))
    n_sequences = max(result.checkpoints)
    stop = "" if n_sequences == 2**plan.log2 else f" --stop-after 2^{n_sequences.bit_length() - 1}"
    shipped.add(
        result.model,
        n_sequences=n_sequences,
        seed=seed,
        value=value,
        standard_error=error,
        command=f"outsample train {plan.task} --hidden {plan.d} --seq {plan.n} --sequences 2^{plan.log2}"
        f"{stop} --seed {seed}",
        log=[
            (p.n_sequences, p.loss if p.accuracy is None else p.accuracy)
            for p in result.log
            if p.n_sequences >= 2**20 and p.n_sequences & (p.n_sequences - 1) == 0
        ],
        folder=folder,
    )
    print(f"shipped {result.model.name}: {value:.5f} +- {error:.5f}", flush=True)


def train_plan(plan: Plan, pool: ProcessPoolExecutor, work: str, folder: Path) -> None:
    """Train all seeds of a size and ship the best."""
    results: dict[int, tuple[TrainingResult, float]] = {}
    seeds = list(range(plan.seeds))
    for stop, keep in (*plan.stages, (None, plan.keep)):
        futures: dict[int, Any] = {seed: pool.submit(run, plan, seed, stop, work) for seed in seeds}
        for seed, future in futures.items():
            results[seed] = future.result()
            print(f"{results[seed][0].model.name}: validation {results[seed][1]:.4f}", flush=True)
        seeds = sorted(seeds, key=lambda seed: -results[seed][1])[:keep]
    for seed in sorted(results, key=lambda seed: -results[seed][1])[: plan.keep]:
        ship(plan, seed, results[seed][0], folder)


def main() -> None:
    """Train everything that is not in the folder yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the networks go")
    parser.add_argument("--work", required=True, help="folder of checkpoints")
    parser.add_argument("--only", nargs="*", help="sizes such as 2nd_argmax_16_10")
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    done = {(e.task, e.hidden_size, e.seq_len) for e in shipped.table(args.folder)}
    with ProcessPoolExecutor(args.processes) as pool:
        for plan in PLANS:
            if args.only is None and (plan.task, plan.d, plan.n) in done:
                continue
            if args.only is None or plan.name in args.only:
                train_plan(plan, pool, args.work, args.folder)


if __name__ == "__main__":
    main()
