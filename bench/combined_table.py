"""Combined against its parts, on copies of a small network whose accuracies are known exactly.

    python bench/combined_table.py [MODEL]

The prior (`Constant` with the mean and the deviation of the accuracy) is fitted on copies of the fitting role, and
everything is scored on 2,000 copies of the evaluation role: every weight times (1 + 0.05 z). Equivalent samples are
mean p (1 - p) over the mean squared error. MODEL is a file of a network with at most three inputs; by default that of
the shipped zoo with four neurons and three inputs.
"""

from __future__ import annotations

import argparse

import numpy as np

import outsample as osp

BUDGETS = [2**k for k in range(2, 15, 2)]


def accuracies(copies: osp.NoiseEnsemble) -> np.ndarray:
    exact = osp.ExactIntegration()
    return np.array([exact.estimate(m, 10**9).value for m in copies])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    args = parser.parse_args()
    model = osp.load(args.model) if args.model else osp.zoo.load("2nd_argmax", 4, 3)
    fitted = accuracies(osp.NoiseEnsemble(model, scale=0.05, size=2000, seed=0, role="fitting"))
    copies = osp.NoiseEnsemble(model, scale=0.05, size=2000, seed=0)
    truth = accuracies(copies)
    v = float((truth * (1 - truth)).mean())
    prior = osp.Constant(value=float(fitted.mean()), standard_error=float(fitted.std()))
    both = osp.Combined(parts=[prior, osp.MonteCarlo()])
    constant = v / float(((prior.value - truth) ** 2).mean())
    print(f"{model}, copies {truth.mean():.4f} ± {truth.std():.4f}; the constant is worth {constant:.0f} samples\n")
    print("| budget | monte-carlo | constant | combined | 95% interval covers |")
    print("|--:|--:|--:|--:|--:|")
    for budget in BUDGETS:
        seeds = np.random.SeedSequence(budget).spawn(len(copies))
        plain = np.array(
            [osp.MonteCarlo().estimate(m, budget, rng=s).value for m, s in zip(copies, seeds, strict=True)]
        )
        found = [both.estimate(m, budget, rng=s) for m, s in zip(copies, seeds, strict=True)]
        value = np.array([e.value for e in found])
        intervals = np.array([e.confidence_interval() for e in found])
        covered = float(((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).mean())
        n_eq = [v / float(((x - truth) ** 2).mean()) for x in (plain, value)]
        print(f"| {budget:,} | {n_eq[0]:,.0f} | {constant:,.0f} | {n_eq[1]:,.0f} | {covered:.1%} |")


if __name__ == "__main__":
    main()
