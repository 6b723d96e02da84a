"""How often the intervals of empirical cubature hold the truth, under every law of noise that its advice claims.

    python bench/advice_coverage.py MODEL [--advice FILE] [--copies 1024] [--samples 2**18]

MODEL is a file or a name of the zoo. For every law, copies of the evaluation role are labelled by randomised
quasi-Monte Carlo, two independent sets of points each, as for fitting but with seeds of their own; for the median task
by two independent conditional Monte Carlo estimates each, since what copies have in common in the errors of such points
is larger than the errors of its advice. The labels' own
error is taken out of everything printed: the squared error is the product of the errors against both labels, and the
intervals are widened by the labels' error, whose share of the squared error is the last column. "error / stated" is the
root mean square of error over standard error, and "in 1" is how many of the intervals of one standard error hold the
truth (68.3% if errors are normal). Takes about two minutes on one thread for a network of 16 units and 10 inputs.
"""

from __future__ import annotations

import argparse
import warnings
from itertools import pairwise

import numpy as np

import outsample as osp
from outsample.advice import Advice
from outsample.cli._arguments import integer, load_model
from outsample.cubature.copies import parse_law
from outsample.cubature.labels import moments
from outsample.estimators.empirical_cubature import AdviceWarning
from outsample.seeding import domain_seed

SEED = 2000
TABLE = 64  # copies that share points: the points' common error is one of many


def labelled(copies: osp.NoiseEnsemble, samples: int, threads: int) -> tuple[np.ndarray, float]:
    """Two independent labels of each copy, shape (2, copies), and the mean variance of one plain sample."""
    w, model = copies.weights(), copies.model
    rows = np.concatenate([w.W_hh.reshape(len(copies), -1), w.W_hi, w.W_oh.reshape(len(copies), -1)], axis=1)

    def label(first: int, last: int, points: int, half: int) -> tuple[np.ndarray, np.ndarray]:
        return moments(
            rows[first:last], model.task, model.seq_len, model.hidden_size, points,
            domain_seed("truth", SEED, half, first), threads,
        )  # fmt: skip

    if model.task.quantity != "accuracy":
        method = osp.ConditionalMonteCarlo()
        labels = [
            [
                method.estimate(copy, samples // 2, rng=domain_seed("truth", SEED, half, i), threads=threads).value
                for i, copy in enumerate(copies)
            ]
            for half in range(2)
        ]
        return np.array(labels), float(label(0, TABLE, 16384, 2)[1].mean())
    edges = [*range(0, len(copies), TABLE), len(copies)]
    both = [np.concatenate([label(a, b, samples // 2, half) for a, b in pairwise(edges)], axis=1) for half in range(2)]
    return np.array([first for first, _ in both]), float(np.mean([variance for _, variance in both]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--task", help="if the file does not say")
    parser.add_argument("--advice", help="file, or name of a shipped one (default: the shipped one for this network)")
    parser.add_argument("--copies", type=integer, default=1024, help="per law")
    parser.add_argument("--samples", type=integer, default=2**18, help="points per label")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    model = load_model(args.model, args.task)
    if not isinstance(model, osp.RNN):
        parser.error("MODEL must be a recurrent network")
    method = osp.EmpiricalCubature(advice=args.advice)
    advice: Advice = method.choose(model)
    warnings.simplefilter("ignore", AdviceWarning)  # a few copies in ten thousand lie outside of the calibration's
    print(f"{model}, advice {advice.name}, {args.copies} copies per law\n")
    print("| size | law | covers | in 1 | error / stated | median stated | equivalent samples | label noise |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|")
    rows = []
    for law in advice.laws:
        kind, scale = parse_law(law)
        copies = osp.NoiseEnsemble(model, kind, scale=scale, size=args.copies, seed=SEED, role="evaluation")
        truth, plain = labelled(copies, args.samples, args.threads)
        middle = truth.mean(axis=0)
        noise = ((truth[0] - truth[1]) ** 2).mean() / 4
        models = list(copies)
        for size in advice.sizes:
            found = method.estimate_many(models, size)
            value = np.array([e.value for e in found])
            stated = np.array([e.standard_error for e in found], dtype=float)
            half = np.array([np.ptp(e.confidence_interval()) / 2 for e in found])
            squared = (value - truth[0]) * (value - truth[1])
            error = np.abs(value - middle)
            covers = (error <= np.sqrt(half**2 + 1.96**2 * noise)).mean()
            inside = (error <= np.sqrt(stated**2 + noise)).mean()
            row = (
                f"| {size} | {law} | {covers:.1%} | {inside:.1%} | {np.sqrt((squared / stated**2).mean()):.2f} "
                f"| {np.median(stated):.1e} | {plain / squared.mean():,.0f} "
                f"| {noise / squared.mean():.0%} |"
            )
            rows.append((size, row))
    for _, row in sorted(rows, key=lambda r: r[0]):
        print(row)


if __name__ == "__main__":
    main()
