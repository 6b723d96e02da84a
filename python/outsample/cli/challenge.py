"""``outsample challenge``: all methods against random sampling, on noisy copies of a trained network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from outsample import zoo
from outsample.cli import _arguments
from outsample.cli.compare import configure_run, finished, measured
from outsample.estimators import ESTIMATORS, Constant

NAME = "challenge"
HELP = "run ARC's challenge: every method against random sampling, with a table and figures"
EXAMPLE = "outsample challenge --quick"

#: The network that is estimated unless another is given: of the size of ARC's example, trained by this package.
DEFAULT_MODEL: dict[str, Any] = {"task": "2nd_argmax", "hidden_size": 16, "seq_len": 10}

#: Sizes of the two runs; the full one is for publication.
FULL: dict[str, Any] = {
    "budgets": [2**k for k in range(4, 17)],
    "networks": 256,
    "truth_samples": 2**22,
    "repeats": 4,
    "rounds": 30,
    "round_seconds": 0.005,
}
QUICK: dict[str, Any] = {
    "budgets": [2**k for k in range(4, 15, 2)],
    "networks": 128,
    "truth_samples": 2**19,
    "repeats": 2,
    "rounds": 9,
    "round_seconds": 0.002,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The network, the size of the run, and the user's own methods."""
    _arguments.add_model(parser, "--model", " (default: the shipped one of ARC's size)")
    parser.add_argument("--quick", action="store_true", help="about a minute instead of the full run")
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        metavar="NAME",
        help="module:Class or file.py:Class of a method of your own to add; may be repeated",
    )
    configure_run(parser)
    parser.set_defaults(output=Path("outsample-challenge"))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Compare all methods and print."""
    # The constant joins by itself, with the mean accuracy of other noisy copies.
    methods = [cls() for cls in ESTIMATORS.values() if cls is not Constant]
    methods += [_arguments.make_estimator(name) for name in args.method]
    model = zoo.load(**DEFAULT_MODEL) if args.model is None else _arguments.load_model(args.model, args.task)
    return finished(args, measured(args, methods, model, **(QUICK if args.quick else FULL)))
