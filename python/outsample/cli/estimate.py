"""``outsample estimate``: one method on one network."""

from __future__ import annotations

import argparse
from typing import Any

from outsample.cli import _arguments
from outsample.estimators import ESTIMATORS

NAME = "estimate"
HELP = "estimate the accuracy of one network"
EXAMPLE = "outsample estimate model.pth --method monte-carlo --budget 2**20"


def configure(parser: argparse.ArgumentParser) -> None:
    """Model, method and budget."""
    _arguments.add_model(parser)
    parser.add_argument(
        "--method",
        default="monte-carlo",
        metavar="NAME",
        help=f"{', '.join(ESTIMATORS)}, or module:Class or file.py:Class for your own (default %(default)s)",
    )
    parser.add_argument(
        "--budget", type=_arguments.integer, default=2**16, metavar="N", help="forward passes (default %(default)s)"
    )
    parser.add_argument("--seed", type=_arguments.seed, default=0, help="seed of random methods (default %(default)s)")
    parser.add_argument(
        "--threads", type=_arguments.integer, default=1, metavar="N", help="threads (default %(default)s)"
    )
    parser.add_argument(
        "--option",
        type=_arguments.option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the method; may be repeated",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Estimate and print."""
    estimator = _arguments.make_estimator(args.method, args.option)
    model = _arguments.load_model(args.model, args.task)
    estimate = estimator.estimate(model, args.budget, rng=args.seed, threads=args.threads)
    quantity = model.task.quantity.replace("_", " ")
    args.say(f"{model}\n{estimator!r}, budget {args.budget}\n{quantity}: {estimate}")
    interval = None
    if estimate.standard_error is not None or estimate.interval is not None:
        interval = estimate.confidence_interval(0.95)
        args.say(f"95% interval: {interval.low:.6f} to {interval.high:.6f}")
    return {
        "model": model.name,
        "digest": model.digest,
        "task": model.task.name,
        "quantity": model.task.quantity,
        "method": estimate.method,
        "settings": {name: str(value) for name, value in estimate.settings.items()},
        "budget": args.budget,
        "seed": args.seed,
        "threads": estimate.threads,
        "isa": estimate.isa,
        "value": estimate.value,
        "standard_error": estimate.standard_error,
        "interval_95": interval and list(interval),
        "cost": vars(estimate.cost),
    }
