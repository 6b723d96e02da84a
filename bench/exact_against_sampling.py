"""Exact integration against 10^9 samples on ten networks of three inputs, and what the sphere's pieces add up to.

    python bench/exact_against_sampling.py [--samples 1000000000] [--threads 1]

Prints one row per network: exact value and error bound, sampled value, their difference in standard errors, coverage
of the sphere, cells, and times. Fails if a difference exceeds 4.5 standard errors.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np

import outsample as osp

CASES = (
    [(d, "2nd_argmax") for d in (2, 4, 8, 16, 32)]
    + [(d, "argmedian") for d in (4, 16)]
    + [(d, "argmax") for d in (2, 8, 32)]
)


def network(d: int, task: str, seed: int) -> osp.RNN:
    """A random network of three inputs with roughly unit gain."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(d, d)) * math.sqrt(2 / d), rng.normal(size=d), rng.normal(size=(3, d))
    return osp.RNN(*weights, task=task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10**9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    print("| d | task | exact | bound | sampled | difference / s.e. | coverage - 1 | cells | exact, ms | sampling, s |")
    print("|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    worst = 0.0
    for seed, (d, task) in enumerate(CASES):
        model = network(d, task, seed)
        exact = osp.ExactIntegration().estimate(model, budget=10**9)
        found = osp._core.integrate_exactly(model._network, task)
        start = time.perf_counter()
        sampled = osp.MonteCarlo().estimate(model, budget=args.samples, rng=seed, threads=args.threads)
        seconds = time.perf_counter() - start
        z = (sampled.value - exact.value) / math.sqrt(exact.value * (1 - exact.value) / args.samples)
        worst = max(worst, abs(z))
        print(
            f"| {d} | {task} | {exact.value:.13f} | {exact.settings['error_bound']:.0e} | {sampled.value:.7f} "
            f"| {z:+.2f} | {found['coverage'] - 1:+.0e} | {exact.settings['cells']:,} | {exact.cost.seconds * 1e3:.2f} "
            f"| {seconds:.1f} |",
            flush=True,
        )
    print(f"\nlargest difference: {worst:.2f} standard errors of {args.samples:,} samples")
    if worst > 4.5:
        raise SystemExit("exact integration and sampling disagree")


if __name__ == "__main__":
    main()
