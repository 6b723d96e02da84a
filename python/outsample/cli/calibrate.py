"""``outsample calibrate``: measure the error of advice anew, under other laws of noise or on more copies."""

from __future__ import annotations

import argparse
from typing import Any

import outsample as osp
from outsample.cli import _advice, _arguments
from outsample.cubature import CALIBRATION_COPIES, CALIBRATION_SAMPLES

NAME = "calibrate"
HELP = "measure the error of advice anew, under other laws of noise or on more copies"
EXAMPLE = "outsample calibrate model.pth advice.npz --noise mul-0.03 --output calibrated.npz"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    _arguments.add_model(parser)
    parser.add_argument("advice", metavar="ADVICE", help="advice for this network, a file or a shipped one")
    _advice.add_output(parser)
    parser.add_argument(
        "--noise",
        nargs="+",
        metavar="LAW",
        help="laws of noise, mul-SCALE or add-SCALE (default: those that the advice is calibrated for)",
    )
    parser.add_argument(
        "--calibration",
        type=int,
        default=CALIBRATION_COPIES,
        help="noisy copies, all laws together (default %(default)s)",
    )
    parser.add_argument(
        "--samples", type=int, default=CALIBRATION_SAMPLES, help="points per label (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of copies and labels (default %(default)s)")
    parser.add_argument("--folder", metavar="DIR", help="keep labels here and go on from them")
    parser.add_argument("--threads", type=int, default=1, help="threads (default %(default)s)")


def run(args: argparse.Namespace) -> Any:
    """Calibrate and write."""
    output = _advice.output_of(args)
    model: Any = _arguments.load_model(args.model, args.task)
    advice = osp.calibrate_cubature(
        model,
        args.advice,
        noise=args.noise,
        calibration=args.calibration,
        samples=args.samples,
        seed=args.seed,
        folder=args.folder,
        threads=args.threads,
    )
    return _advice.write(advice, output, model, args.say)
