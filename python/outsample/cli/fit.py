"""``outsample fit``: prepare advice for a trained network."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import outsample as osp
from outsample.cli import _advice, _arguments
from outsample.cubature import (
    CALIBRATION_COPIES,
    CALIBRATION_SAMPLES,
    DEFAULT_NETWORKS,
    DEFAULT_NOISE,
    DEFAULT_SIZES,
)

NAME = "fit"
HELP = "prepare advice for a trained network, for the method empirical-cubature"
EXAMPLE = "outsample fit model.pth --output advice.npz --folder fit/ --threads 2"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    _advice.add_output(parser)
    _arguments.add_model(parser)
    parser.add_argument(
        "--noise",
        nargs="+",
        metavar="LAW",
        help="laws of noise, mul-SCALE or add-SCALE, in equal shares (default: a mixture of "
        + ", ".join(DEFAULT_NOISE)
        + ")",
    )
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=list(DEFAULT_SIZES), metavar="S", help="budgets in forward passes"
    )
    parser.add_argument(
        "--networks", type=int, default=DEFAULT_NETWORKS, help="noisy copies to fit on (default %(default)s)"
    )
    parser.add_argument("--samples", type=int, default=16384, help="points per label (default %(default)s)")
    parser.add_argument(
        "--calibration", type=int, default=CALIBRATION_COPIES, help="further copies for the error (default %(default)s)"
    )
    parser.add_argument(
        "--calibration-samples",
        type=int,
        default=CALIBRATION_SAMPLES,
        help="points per label of these (default %(default)s)",
    )
    parser.add_argument("--candidates", type=int, default=16384, help="candidate points per size (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default %(default)s)")
    parser.add_argument("--folder", metavar="DIR", help="keep finished stages here and go on from them")
    parser.add_argument(
        "--start", metavar="ADVICE", help="advice to improve, a file or a shipped one: start from its points"
    )
    parser.add_argument("--name", help="name of the network in the advice (default: the file's)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default %(default)s)")


def run(args: argparse.Namespace) -> Any:
    """Fit and write."""
    output = _advice.output_of(args)
    model: Any = _arguments.load_model(args.model, args.task)
    if args.name:
        model = replace(model, name=args.name)
    advice = osp.fit_cubature(
        model,
        noise=args.noise,
        sizes=args.sizes,
        networks=args.networks,
        samples=args.samples,
        calibration=args.calibration,
        calibration_samples=args.calibration_samples,
        candidates=args.candidates,
        seed=args.seed,
        folder=args.folder,
        start=args.start,
        threads=args.threads,
    )
    return _advice.write(advice, output, model, args.say)
