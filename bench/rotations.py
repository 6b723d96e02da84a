"""Would it pay to rotate small sets of Hammersley's points, by what is best on other networks?

    python bench/rotations.py --folder nets [--candidates 256] [--copies 4] [--threads 1]

A fixed set is a single draw, and a part of a small set's error is common to networks. For each number of points,
candidates are the set as `DeterministicCubature` has it and as many rotations less one. Each is scored on noisy copies
(drawn for fitting) of networks of several shapes that are trained here, from seeds of which no shipped network is: mean
of squared error over variance of a plain sample, relative to the candidates' mean for that shape, and averaged over
shapes.

"held out" is the mean squared error of the choice made on one half of the networks, on the other half, over that of
the set as it is (32 splits). "longer" is that of the choice made on all, on networks of the first shape that were
trained on four times as many sequences, like the shipped ones. Training takes about an hour on one thread, scoring ten
minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import outsample as osp
from outsample import _core
from outsample import low_discrepancy as ld
from outsample.cubature.labels import TABLE_NETWORKS, labels
from outsample.point_tables import make_table, ranks, tilted
from outsample.seeding import domain_seed
from outsample.training import measure
from transferred_advice import trained

#: hidden units, inputs, training sequences, first seed, networks, least accuracy.
SHAPES = (
    (16, 10, 2**27, 5001, 100, 0.84),
    (16, 8, 2**25, 5001, 60, 0.6),
    (16, 6, 2**25, 5001, 60, 0.6),
    (8, 10, 2**27, 5001, 60, 0.36),
    (8, 8, 2**25, 5001, 60, 0.3),
)
#: Trained longer.
LONGER = (16, 10, 2**29, 6001, 6, 0.0)
POINTS = (*range(16, 256, 16), *range(256, 1025, 64))
SPLITS = 32


def copies_of(folder: Path, shape: tuple, count: int) -> list[list[osp.RNN]]:
    d, n, sequences, first, networks, least = shape
    folder = folder / f"{d}_{n}"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in range(first, first + networks):
        model = trained(folder, ("2nd_argmax", d, n), sequences, seed)
        if measure(model, 1 << 16, seed)[0] >= least:
            found.append(list(osp.NoiseEnsemble(model, scale=0.01, size=count, seed=8, role="fitting")))
    return found


def fixed_table(task: osp.Task, inputs: int, count: int, seed: int) -> np.ndarray:
    """The rule's table, rotated but for seed 0."""
    ranked = ranks(task, inputs)
    dimensions = ld.order_dimensions(inputs, ranked)
    shift = np.random.default_rng(seed).random(dimensions) if seed else None
    u = np.clip(ld.hammersley(count, dimensions, shift=shift), 2.0**-32, 1 - 2.0**-32)
    u, weights = tilted(u, dimensions - inputs + 2)
    return make_table(ld.order_inputs(u, inputs, ranked), task, exact_last=True, weights=weights)


def squared_errors(models: list[osp.RNN], truth: np.ndarray, count: int, seed: int, threads: int) -> np.ndarray:
    """In units of the variance of a plain sample."""
    table = fixed_table(models[0].task, models[0].seq_len - 1, count, seed)[None]
    values = [_core.point_sums(model._network, table, True, threads)[0][0] for model in models]
    return (np.array(values) - truth) ** 2 / (truth * (1 - truth))


def truth_of(models: list[osp.RNN], threads: int) -> np.ndarray:
    rows = np.stack([np.concatenate([m.W_hh.ravel(), m.W_hi, m.W_oh.ravel()]) for m in models])
    first = models[0]
    return np.concatenate(
        [
            labels(rows[a : a + TABLE_NETWORKS], first.task, first.seq_len, first.hidden_size, 2**17,
                   domain_seed("fitting", 8, 6, a), threads)
            for a in range(0, len(rows), TABLE_NETWORKS)
        ]
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where trained networks are kept")
    parser.add_argument("--candidates", type=int, default=256)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    shapes = []
    for shape in SHAPES:
        groups = copies_of(args.folder, shape, args.copies)
        models = [model for group in groups for model in group]
        shapes.append((models, truth_of(models, args.threads)))
        print(f"{shape[0]} units, {shape[1]} inputs: {len(groups)} networks", flush=True)
    models = [model for group in copies_of(args.folder, LONGER, 3 * args.copies) for model in group]
    longer = models, truth_of(models, args.threads)
    print("\n| points | best seed | over the set as it is | held out | longer | by shape |")
    print("|--:|--:|--:|--:|--:|---|")
    for count in POINTS:
        relative = []  # per shape: (candidates, networks), mean 1
        for models, truth in shapes:
            squared = np.stack(
                [squared_errors(models, truth, count, seed, args.threads) for seed in range(args.candidates)]
            )
            error = squared.reshape(args.candidates, -1, args.copies).mean(axis=2)
            relative.append(error / error.mean())
        rng = np.random.default_rng(0)
        held = []
        for _ in range(SPLITS):
            orders = [rng.permutation(error.shape[1]) for error in relative]
            fit = sum(e[:, o[: len(o) // 2]].mean(axis=1) for e, o in zip(relative, orders, strict=True))
            test = sum(e[:, o[len(o) // 2 :]].mean(axis=1) for e, o in zip(relative, orders, strict=True))
            held.append(test[fit.argmin()] / test[0])
        score = sum(error.mean(axis=1) for error in relative)
        best = int(score.argmin())
        after, before = (squared_errors(*longer, count, seed, args.threads).mean() for seed in (best, 0))
        by_shape = ", ".join(f"{e[best].mean() / e[0].mean():.2f}" for e in relative)
        print(f"| {count} | {best} | {score[best] / score[0]:.2f} | {np.mean(held):.2f} | {after / before:.2f} "
              f"| {by_shape} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
