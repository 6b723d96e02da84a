"""Combined against the better of its two parts, at every budget from 1 to 2**20 forward passes.

    python bench/combined_budgets.py MODEL [--task TASK] [--protocol mul-0.01] [--copies 256]

MODEL is a file or a name of the zoo for which advice is shipped (or given by --advice). The methods run on evaluation
copies, one estimate for each budget and copy. What sampling adds to the squared error is known, p (1 - p) / N times the
squared weight of the sampled part, and stands in the table in place of the errors that happened to be drawn, so that
the columns differ by what the methods do and not by luck: 2% could not be told apart otherwise. The truth's own
variance is subtracted. Takes about a minute, and the time for the truth (2**22 samples for each copy) the first time.
"""

from __future__ import annotations

import argparse
import math
import warnings

import numpy as np

import outsample as osp
from outsample.cli._arguments import integer, load_model, protocol
from outsample.estimators.empirical_cubature import AdviceWarning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--task", help="if the file does not say")
    parser.add_argument("--advice", help="file, or name of a shipped one (default: the shipped one for this network)")
    parser.add_argument("--protocol", type=protocol, default="mul-0.01")
    parser.add_argument("--copies", type=integer, default=256)
    parser.add_argument("--truth-samples", type=integer, default=2**22)
    args = parser.parse_args()
    model = load_model(args.model, args.task)
    if not isinstance(model, osp.RNN):
        parser.error("MODEL must be a recurrent network")
    copies = args.protocol.evaluation(model, args.copies)
    truth = osp.ground_truth(copies, samples=args.truth_samples)
    warnings.simplefilter("ignore", AdviceWarning)
    advised = osp.EmpiricalCubature(advice=args.advice)
    combined = osp.Combined(parts=[advised, osp.MonteCarlo()])
    smallest = advised.minimum_budget(copies[0])
    budgets = sorted({2**k for k in range(21)} | {3 * 2**k for k in range(19)})

    print(f"{model}, {args.protocol.name}, {len(copies)} copies, v = {truth.variance:.4f}\n")
    print("| budget | sampling | advised | combined | combined / better part |")
    print("|--:|--:|--:|--:|--:|")
    lowest = math.inf
    for budget in budgets:
        prior = np.full(len(copies), np.nan)
        if budget >= smallest:
            prior = np.array([e.value for e in advised.estimate_many(list(copies), budget)])
        found = [combined.estimate(m, budget, rng=i) for i, m in enumerate(copies)]
        weight = np.array([e.settings["sampling_weight"] for e in found])
        error = np.where(weight < 1, (prior - truth.values) ** 2 - truth.standard_errors**2, 0.0)
        spent = math.ceil(advised.prepared(copies[0], budget)[0][0].cost.multiply_adds / model.forward_multiply_adds)
        samples = budget - spent * (weight < 1)
        sampled = np.where(weight > 0, truth.sample_variances / np.maximum(samples, 1), 0.0)
        merged = ((1 - weight) ** 2 * error + weight**2 * sampled).mean()
        parts = [truth.variance / budget, error.mean() if budget >= smallest else math.inf]
        ratio = min(parts) / merged
        lowest = min(lowest, ratio)
        cells = [f"{truth.variance / e:,.0f}" if math.isfinite(e) else "-" for e in (*parts, merged)]
        print(f"| {budget:,} | {' | '.join(cells)} | {ratio:.3f} |", flush=True)
    print(f"\nlowest ratio {lowest:.3f}")


if __name__ == "__main__":
    main()
