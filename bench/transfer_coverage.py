"""How often the intervals of transferred cubature hold the truth, over many networks that it has never seen.

    python bench/transfer_coverage.py --task 2nd_argmax --hidden-size 8 --seq-len 10 --folder fresh \\
        --train 2^27 9001 24 --least-accuracy 0.36 [--copies 64] [--samples 2**17] [--advice FILE]

Copies of one trained network err together, so one network says little about coverage: what the advice claims is that
of every hundred trained networks with noise, 95 lie in their intervals. So networks are trained here from seeds that
the advice has not seen, in the way that those were that it has; the accuracy that they need is the same. For every law
that the advice claims, copies of the evaluation role are labelled by two independent tables of randomised quasi-Monte
Carlo.

Prints for every size and law the share of the 95% intervals that hold the truth, with its standard error over networks,
the lowest coverage of a single network, the root mean square of error over standard error, and equivalent samples. The
last line of a size puts the laws together by their shares in the advice.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np

import outsample as osp
from outsample.cli._arguments import integer
from outsample.cubature.copies import parse_law
from outsample.estimators.empirical_cubature import AdviceWarning
from transfer_table import truth_of
from transferred_advice import accurate_networks, add_training_options

SEED = 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_options(parser)
    parser.add_argument("--copies", type=integer, default=64, help="of each network, per law")
    parser.add_argument("--samples", type=integer, default=2**17, help="points per label")
    parser.add_argument("--advice", help="file (default: the shipped one)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    networks, _ = accurate_networks(args)
    method = osp.TransferredCubature(advice=args.advice)
    advice = method.choose(networks[0])
    known = {entry["digest"] for entry in advice.record["networks"]}
    if any(model.digest in known for model in networks):
        parser.error("--train must name seeds that the advice has not seen")
    warnings.simplefilter("ignore", AdviceWarning)  # few copies lie outside of the accuracies that it was fitted on
    print(f"{len(networks)} networks, {args.copies} copies of each per law\n")
    print("| size | law | covers | least | error / stated | equivalent samples |")
    print("|--:|---|--:|--:|--:|--:|")
    copies, truth = {}, {}
    for law in advice.laws:
        kind, scale = parse_law(law)
        copies[law] = [
            osp.NoiseEnsemble(model, kind, scale=scale, size=args.copies, seed=SEED, role="evaluation")
            for model in networks
        ]
        truth[law] = [truth_of(own, args.samples, args.threads) for own in copies[law]]
    shares = advice.record["noise"]
    for size in advice.sizes:
        mixed = np.zeros(len(networks))
        for law in advice.laws:
            covers, squared, relative, plain = [], [], [], []
            for own, labels in zip(copies[law], truth[law], strict=True):
                found = method.estimate_many(list(own), size)
                value = np.array([estimate.value for estimate in found])
                error = np.array([estimate.standard_error for estimate in found])
                middle = labels.mean(axis=0)
                # The labels' error widens the intervals and is taken out of the squared error.
                noise = ((labels[0] - labels[1]) ** 2).mean() / 4
                covers.append((abs(value - middle) < 1.959964 * np.sqrt(error**2 + noise)).mean())
                product = (value - labels[0]) * (value - labels[1])
                squared.append(product.mean())
                relative.append((product / error**2).mean())
                plain.append((middle * (1 - middle)).mean())
            spread = np.std(covers, ddof=1) / np.sqrt(len(networks))
            mixed += shares[law] * np.array(covers)
            print(f"| {size} | {law} | {np.mean(covers):.1%} (se {spread:.1%}) | {min(covers):.0%} "
                  f"| {np.sqrt(np.mean(relative)):.2f} | {np.mean(plain) / np.mean(squared):,.0f} |",
                  flush=True)  # fmt: skip
        spread = mixed.std(ddof=1) / np.sqrt(len(networks))
        print(f"| {size} | all | {mixed.mean():.1%} (se {spread:.1%}) | {mixed.min():.0%} | | |", flush=True)


if __name__ == "__main__":
    main()
