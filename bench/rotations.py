"""Choose rotations of Hammersley's points for `DeterministicCubature`, and say what that gains on other networks.

    python bench/rotations.py --folder nets [--candidates 256] [--copies 4] [--threads 1]

A fixed set is a single draw, and among small sets draws differ by a tenth of their mean squared error that is common to
networks. For each number of points, candidates are the set as it is and as many rotations less one. Each is scored on
noisy copies (drawn for fitting) of networks of several shapes that are trained here, from seeds of which no shipped
network is: mean of squared error over variance of a plain sample, relative to the candidates' mean for that shape, and
averaged over shapes. "held out" is the mean squared error of the choice made on one half of the networks, on the other
half, over that of the set as it is (32 splits). Where that is less than 0.95, the rotation that is best on all networks
is taken; elsewhere the set stays as it is. Prints the seeds as `outsample.estimators.quasi_monte_carlo` holds them.
Training takes about half an hour on one thread, scoring ten minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import outsample as osp
from outsample import _core
from outsample.cubature.labels import TABLE_NETWORKS, labels
from outsample.estimators.quasi_monte_carlo import fixed_table
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
POINTS = (*range(16, 256, 16), *range(256, 1025, 64))
LEAST_GAIN = 0.05
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
    print("\n| points | best seed | over the set as it is | held out | by shape |\n|--:|--:|--:|--:|---|")
    chosen = {}
    for count in POINTS:
        relative = []  # per shape: (candidates, networks), mean 1
        for models, truth in shapes:
            first = models[0]
            squared = np.empty((args.candidates, len(models)))
            for seed in range(args.candidates):
                table = fixed_table(first.task, first.seq_len - 1, count, seed or None)[None]
                values = [_core.point_sums(m._network, table, True, args.threads)[0][0] for m in models]
                squared[seed] = (np.array(values) - truth) ** 2 / (truth * (1 - truth))
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
        if best and np.mean(held) < 1 - LEAST_GAIN:
            chosen[count] = best
        by_shape = ", ".join(f"{e[best].mean() / e[0].mean():.2f}" for e in relative)
        print(f"| {count} | {best} | {score[best] / score[0]:.2f} | {np.mean(held):.2f} | {by_shape} |", flush=True)
    print("\n" + ", ".join(f"{count}: {seed}" for count, seed in chosen.items()))


if __name__ == "__main__":
    main()
