"""``outsample fit-transferred``: prepare advice for networks of a shape from other networks of that shape."""

from __future__ import annotations

import argparse
from typing import Any

from outsample.cli import _advice, _arguments
from outsample.cubature.transfer import TRANSFER_NOISE, TRANSFER_SIZES, fit_transferred
from outsample.tasks import TASKS

NAME = "fit-transferred"
HELP = "prepare advice for a shape from trained networks of that shape, for the method transferred-cubature"
EXAMPLE = "outsample fit-transferred nets/*.npz --output advice.npz --folder fit/ --sizes 32 128"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    _advice.add_output(parser)
    parser.add_argument(
        "networks", nargs="+", metavar="NETWORK", help="files, or names in `outsample zoo list`, of one task and shape"
    )
    parser.add_argument("--task", choices=list(TASKS), help="default: what the files or names say")
    parser.add_argument(
        "--noise",
        nargs="+",
        metavar="LAW",
        help="laws of noise, mul-SCALE or add-SCALE, in equal shares (default: a mixture of "
        + ", ".join(TRANSFER_NOISE)
        + ")",
    )
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=list(TRANSFER_SIZES), metavar="S", help="budgets in forward passes"
    )
    parser.add_argument("--copies", type=int, default=240, help="noisy copies of each network (default %(default)s)")
    parser.add_argument("--samples", type=int, default=16384, help="points per label (default %(default)s)")
    parser.add_argument(
        "--folds", type=int, default=4, help="parts that networks are left out in, for the error (default %(default)s)"
    )
    parser.add_argument(
        "--training-sequences",
        type=_arguments.integer,
        default=0,
        metavar="N",
        help="sequences that all networks together were trained on, counted in the advice's cost (default 0)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default %(default)s)")
    parser.add_argument("--folder", metavar="DIR", help="keep finished stages here and go on from them")
    parser.add_argument("--threads", type=int, default=1, help="threads (default %(default)s)")


def run(args: argparse.Namespace) -> Any:
    """Fit and write."""
    output = _advice.output_of(args)
    models: Any = [_arguments.load_model(name, args.task) for name in args.networks]
    advice = fit_transferred(
        models,
        noise=args.noise,
        sizes=args.sizes,
        copies=args.copies,
        samples=args.samples,
        folds=args.folds,
        training_sequences=args.training_sequences,
        seed=args.seed,
        folder=args.folder,
        threads=args.threads,
    )
    return _advice.write(advice, output, models[0], args.say)
