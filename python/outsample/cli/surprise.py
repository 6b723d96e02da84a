"""``outsample surprise``: surprise accounting."""

from __future__ import annotations

import argparse
import math
from typing import Any

from outsample.cli import _arguments
from outsample.estimators import ESTIMATORS, ExactIntegration, MonteCarlo
from outsample.surprise import explain, surprise_left

NAME = "surprise"
HELP = "bits of surprise in an explanation of a network, or left by an estimate of its accuracy"
EXAMPLE = "outsample surprise model.pth --method monte-carlo --budget 2**16"


def configure(parser: argparse.ArgumentParser) -> None:
    """Model, and what is asked of it."""
    _arguments.add_model(parser)
    parser.add_argument(
        "--method",
        metavar="NAME",
        help=f"the surprise that an estimate leaves: {', '.join(ESTIMATORS)}, or your own; default: for two "
        "neurons and inputs the bits of an explanation that checks every linear region, else monte-carlo",
    )
    parser.add_argument(
        "--budget", type=_arguments.integer, default=2**16, metavar="N", help="forward passes (default %(default)s)"
    )
    parser.add_argument("--seed", type=_arguments.seed, default=0, help="seed of random methods (default %(default)s)")
    parser.add_argument(
        "--truth-samples",
        type=_arguments.integer,
        default=2**24,
        metavar="N",
        help="samples of the truth, where it is not computed exactly (default %(default)s)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Account and print."""
    model = _arguments.load_model(args.model, args.task)
    args.say(model)
    if args.method is None and (model.hidden_size, model.seq_len) == (2, 2):
        found = explain(model)
        for region in found.regions:
            what = "agree" if region.holds_boundary else "are ordered"
            args.say(
                f"{region.low:7.2f} to {region.high:7.2f} degrees: {region.a_0:.6g} x_0 - {region.a_1:.6g} x_1, "
                f"coefficients {what}: {region.bits:.2f} bits"
            )
        args.say(
            f"signs {found.signs:g} + comparisons with 1 {found.comparisons:g} + orderings {found.orderings:g} + "
            f"equalities {found.equalities:.2f} = {found.bits:.2f} bits"
        )
        args.say(
            f"error rate {found.error_rate:.6g}, 1 in {1 / found.error_rate if found.error_rate else math.inf:.0f}"
        )
        record = {name: value for name, value in vars(found).items() if name != "regions"}
        return {**record, "regions": [vars(region) for region in found.regions], "bits": found.bits}

    estimate = _arguments.make_estimator(args.method or "monte-carlo", []).estimate(model, args.budget, rng=args.seed)
    exact = ExactIntegration()
    try:
        exact.check(model)
    except ValueError:
        truth = MonteCarlo().estimate(model, args.truth_samples, rng=args.seed + 1)
        resolution = 2 * max(truth.standard_error or 0.0, 1.0 / args.truth_samples)
    else:
        truth = exact.estimate(model, exact.minimum_budget(model))
        resolution = 2.0**-20
    found_bits = surprise_left(estimate, truth.value, resolution=resolution)
    args.say(f"{estimate.method}: {estimate}\ntruth ({truth.method}): {truth.value:.9f}, resolution {resolution:.2g}")
    args.say(f"{found_bits.prior:.2f} bits under a uniform prior, {found_bits.left:.2f} bits left")
    return {
        "method": estimate.method,
        "value": estimate.value,
        "standard_error": estimate.standard_error,
        "truth": truth.value,
        "resolution": resolution,
        "prior_bits": found_bits.prior,
        "bits_left": found_bits.left,
    }
