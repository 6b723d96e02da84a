"""Transferred cubature against the best method without advice, on networks that nothing was fitted on.

    python bench/transfer_table.py MODEL [MODEL ...] [--protocol mul-0.01] [--samples 2**20] [--advice FILE]

MODEL is a file or a name of the zoo. For every model the copies of the protocol's evaluation ensemble are estimated at
every size of the advice, by transferred cubature and by `DeterministicCubature` at the same budget. Truth is taken from
``--samples`` points of randomised quasi-Monte Carlo per copy (two independent tables, so that their error can be taken
out). Prints equivalent samples, advantage in multiply-adds with 95% intervals (bootstrap over copies), and how many 95%
intervals hold the truth. The constant is the copies' own mean accuracy: no method is needed for as many equivalent
samples. "network" is the share of the squared error that is common to all copies of the network:
intervals over copies do not show how much another network would differ.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import outsample as osp
from outsample.cli._arguments import integer, load_model
from outsample.cubature.labels import TABLE_NETWORKS, moments
from outsample.seeding import domain_seed

TRUTH_SEED = 3000


def truth_of(copies: osp.NoiseEnsemble, samples: int, threads: int) -> np.ndarray:
    """Two independent labels of each copy, shape (2, copies)."""
    w, model = copies.weights(), copies.model
    rows = np.concatenate([w.W_hh.reshape(len(copies), -1), w.W_hi, w.W_oh.reshape(len(copies), -1)], axis=1)
    return np.array(
        [
            np.concatenate(
                [
                    moments(
                        rows[a : a + TABLE_NETWORKS], model.task, model.seq_len, model.hidden_size, samples // 2,
                        domain_seed("truth", TRUTH_SEED, half, a), threads,
                    )[0]
                    for a in range(0, len(rows), TABLE_NETWORKS)
                ]
            )
            for half in range(2)
        ]
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--task", help="if a file does not say")
    parser.add_argument("--protocol", default="mul-0.01")
    parser.add_argument("--samples", type=integer, default=2**20, help="points per label")
    parser.add_argument("--advice", help="file (default: the shipped one)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    transferred = osp.TransferredCubature(advice=args.advice)
    print("| network | budget | method | forwards | equivalent samples | advantage | network | covers |")
    print("|---|--:|---|--:|--:|---|--:|--:|")
    for name in args.models:
        model = load_model(name, args.task)
        copies = osp.get_protocol(args.protocol).evaluation(model)
        truth = truth_of(copies, args.samples, args.threads)
        p = truth.mean(axis=0)
        variance = p * (1 - p)
        spread = np.cov(truth)[0, 1]  # between copies
        print(f"| {Path(name).stem} | - | constant | - | {variance.mean() / spread:,.0f} | - | - | - |", flush=True)
        models = list(copies)
        rng = np.random.default_rng(domain_seed("bootstrap", 0))
        pick = rng.integers(len(models), size=(2000, len(models)))
        for budget in transferred.choose(model).sizes:
            for method in (transferred, osp.DeterministicCubature()):
                found = method.estimate_many(models, budget)
                value = np.array([e.value for e in found])
                squared = (value - truth[0]) * (value - truth[1])
                forwards = np.mean([e.cost.multiply_adds for e in found]) / model.forward_multiply_adds
                advantage = variance.mean() / squared.mean() / forwards
                resampled = variance[pick].mean(axis=1) / squared[pick].mean(axis=1) / forwards
                low, high = np.quantile(resampled, (0.025, 0.975))
                common = np.prod((value - truth).mean(axis=1)) / squared.mean()
                covers = "-"
                if found[0].standard_error is not None:
                    ends = [e.confidence_interval() for e in found]
                    covers = f"{np.mean([i.low <= t <= i.high for i, t in zip(ends, p, strict=True)]):.1%}"
                print(f"| {Path(name).stem} | {budget} | {method.method} | {forwards:.1f} "
                      f"| {advantage * forwards:,.0f} | {advantage:.2f} ({low:.2f} to {high:.2f}) | {common:.0%} "
                      f"| {covers} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
