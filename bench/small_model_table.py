"""Four neurons, three inputs: exact integration beside ARC's hand-derived estimators and sampling.

    python bench/small_model_table.py [MODEL]

The set-up is that of ARC's notes on this network: every weight plus 0.05 z, 256 copies, root mean squared error of the
estimated accuracy. ARC's two estimators reach about 3% at 71,000 operations and about 5% at 7,680, on ARC's network
(J. Hilton, "Heuristic explanations for 2nd argmax models"); ours are measured here, on MODEL (a file), or on the
network of the shipped zoo. A sample is 72 operations in ARC's count.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import outsample as osp

ARC_OPERATIONS_PER_SAMPLE = 72
ARC = (("ARC, hand-derived, the more precise", 71_000, 0.03), ("ARC, hand-derived, the cheaper", 7_680, 0.05))


def rms(values: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(((values - truth) ** 2).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    args = parser.parse_args()
    model = osp.load(args.model) if args.model else osp.zoo.load("2nd_argmax", 4, 3)
    if (model.hidden_size, model.seq_len) != (4, 3):
        parser.error("the network must have four neurons and three inputs")
    exact = osp.ExactIntegration()
    base = exact.estimate(model, exact.minimum_budget(model))
    copies = osp.NoiseEnsemble(model, "additive", scale=0.05, size=256, seed=0)
    start = time.perf_counter()
    found = [exact.estimate(m, 10**6) for m in copies]
    both = (time.perf_counter() - start) / len(found)
    truth = np.array([e.value for e in found])
    cost = np.array([e.cost.multiply_adds for e in found])
    cells = np.array([e.settings["cells"] for e in found])
    seconds = float(np.median([e.cost.seconds for e in found]))
    bound = max(e.settings["error_bound"] for e in found)
    print(f"{model}, accuracy {base.value:.6f}; copies: {truth.mean():.4f} ± {truth.std():.4f}\n")
    print("| method | operations | forwards | time, µs | rms error |")
    print("|---|--:|--:|--:|--:|")
    for name, operations, error in ARC:
        print(
            f"| {name} (published) | {operations:,} | {operations / ARC_OPERATIONS_PER_SAMPLE:,.0f} | | {error:.0%} |"
        )
    for _, operations, _ in ARC:
        samples = operations // ARC_OPERATIONS_PER_SAMPLE
        runs = [osp.MonteCarlo().estimate(m, samples, rng=s) for s in range(8) for m in copies]
        error = rms(np.array([e.value for e in runs]), np.tile(truth, 8))
        micro = 1e6 * float(np.median([e.cost.seconds for e in runs]))
        print(f"| monte-carlo | {operations:,} | {samples:,} | {micro:.0f} | {error:.2%} |")
    print(
        f"| exact | {cost.mean():,.0f} multiply-adds | {cost.mean() / model.forward_multiply_adds:,.0f} "
        f"| {1e6 * seconds:.0f} | below {bound:.0e} |"
    )
    print(
        f"\nexact: {cells.mean():.0f} cells on average ({cells.min()} to {cells.max()}), a forward pass is "
        f"{model.forward_multiply_adds} multiply-adds; {1e6 * both:.0f} µs a call with the pass that finds the cost."
    )


if __name__ == "__main__":
    main()
