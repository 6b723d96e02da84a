"""Combined against its parts, on copies of a small network whose accuracies are known exactly.

    python bench/combined_table.py [MODEL]

First the prior: `Constant` with the mean and the deviation of the accuracy. Then advice: `EmpiricalCubature` of 8 and
32 forward passes. Both are fitted on copies of the fitting role, and everything is scored on 2,000 copies of the
evaluation role: every weight times (1 + 0.05 z). Equivalent samples are mean p (1 - p) over the mean squared error.
MODEL is a file of a network with at most three inputs; by default that of the shipped zoo with four neurons and three
inputs. Takes a minute or two.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np

import outsample as osp
from outsample.estimators.empirical_cubature import AdviceWarning

BUDGETS = [2**k for k in range(2, 15, 2)]
COPIES = 2000


def accuracies(copies: osp.NoiseEnsemble) -> np.ndarray:
    exact = osp.ExactIntegration()
    return np.array([exact.estimate(m, 10**9).value for m in copies])


def score(method: osp.Estimator, copies: osp.NoiseEnsemble, truth: np.ndarray, budget: int) -> tuple[str, str]:
    """Equivalent samples and how often the 95% interval holds the truth; dashes below the method's budget."""
    if budget < method.minimum_budget(copies[0]):
        return "-", "-"
    seeds = np.random.SeedSequence(budget).spawn(len(copies))
    found = [method.estimate(m, budget, rng=s) for m, s in zip(copies, seeds, strict=True)]
    intervals = np.array([e.confidence_interval() for e in found])
    covered = ((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).mean()
    squared = (np.array([e.value for e in found]) - truth) ** 2
    return f"{(truth * (1 - truth)).mean() / squared.mean():,.0f}", f"{covered:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    args = parser.parse_args()
    model = osp.load(args.model) if args.model else osp.zoo.load("2nd_argmax", 4, 3)
    fitted = accuracies(osp.NoiseEnsemble(model, scale=0.05, size=COPIES, seed=0, role="fitting"))
    copies = osp.NoiseEnsemble(model, scale=0.05, size=COPIES, seed=0)
    truth = accuracies(copies)
    print(f"{model}, copies {truth.mean():.4f} ± {truth.std():.4f}")
    advice = osp.fit_cubature(
        model, noise="mul-0.05", sizes=(8, 32), networks=4096, samples=16384, calibration=2048, candidates=1024
    )
    # Two in a thousand copies lie just outside of what the advice was calibrated on.
    warnings.simplefilter("ignore", AdviceWarning)
    constant = osp.Constant(value=float(fitted.mean()), standard_error=float(fitted.std()))
    for part, sampling in (
        (constant, osp.MonteCarlo()),
        (constant, osp.ConditionalMonteCarlo()),
        (constant, osp.QuasiMonteCarlo()),
        (osp.EmpiricalCubature(advice=advice), osp.MonteCarlo()),
    ):
        methods = part, sampling, osp.Combined(parts=[part, sampling])
        print(f"\n| budget | {' | '.join(f'{m.label} | covers' for m in methods)} |")
        print("|--:" * 7 + "|")
        for budget in BUDGETS:
            cells = [cell for m in methods for cell in score(m, copies, truth, budget)]
            print(f"| {budget:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
