"""Would it pay to use Hammersley's set only at numbers of points at which it did well on other networks?

    python bench/point_sizes.py [--copies 16]

A fixed set is a single draw, and a part of its error is common to networks that do the same task. For each
quarter of an octave the number of points is chosen that has the smallest mean squared error over noisy copies of five
trained networks of 16 units and ten inputs, and compared with the mean over all numbers tried there on a sixth, each of
the six left out in turn. Copies are drawn for fitting, and none of these networks is one that point rules are scored on
(docs/quasi_monte_carlo.md). Takes about a minute on one thread.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import numpy as np

import outsample as osp
from outsample import _core
from outsample import low_discrepancy as ld
from outsample.point_tables import make_table

NETWORKS = ("134217728_5", "134217728_8", "268435456_6", "268435456_13", "536870912_4", "536870912_12")
CANDIDATES = 12
TRUTH = 2**22
SMALLEST, LARGEST = 2**4, 2**15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=16)
    args = parser.parse_args()
    copies = []
    for name in NETWORKS:
        trained = osp.zoo.load(f"2nd_argmax_16_10_{name}")
        copies.append(list(osp.NoiseEnsemble(trained, scale=0.01, size=args.copies, seed=7, role="fitting")))
    models = [model for group in copies for model in group]
    networks = [model._network for model in models]
    task, inputs = models[0].task, models[0].seq_len - 1
    p = np.array(_core.count_correct_many(networks, task.name, TRUTH, list(range(len(networks))), 0, 1)) / TRUTH
    v = p * (1 - p)

    def errors(count: int) -> np.ndarray:
        """Mean squared error times points for each network, in units of a plain sample's variance."""
        x = ld.order_inputs(ld.hammersley(count, ld.order_dimensions(inputs)), inputs)
        table = make_table(x, task, exact_last=True)[None]
        values = np.array([_core.point_sums(network, table, True)[0][0] for network in networks])
        squared = ((values - p) ** 2 - v / TRUTH) / v
        return count * squared.reshape(len(NETWORKS), -1).mean(axis=1)

    ratios = []
    edges = np.unique(np.round(2.0 ** np.arange(np.log2(SMALLEST), np.log2(LARGEST) + 0.01, 0.25)).astype(int))
    print("points           squared error on the network left out, in units of the mean over all numbers")
    for low, high in pairwise(edges):
        sizes = np.unique(np.round(np.linspace(low, high - 1, CANDIDATES)).astype(int))
        found = np.array([errors(int(size)) for size in sizes])
        relative = found / found.mean(axis=0)
        chosen = [np.delete(relative, k, axis=1).mean(axis=1).argmin() for k in range(len(NETWORKS))]
        # Means, not geometric ones: the log of one number's error is below the log of the mean for a blind choice, too.
        ratios.append(np.mean([relative[chosen[k], k] for k in range(len(NETWORKS))]))
        print(f"{low:6d} to {high - 1:6d}   {ratios[-1]:.2f}", flush=True)
    print(f"mean               {np.mean(ratios):.2f} ± {np.std(ratios) / np.sqrt(len(ratios)):.2f}")


if __name__ == "__main__":
    main()
