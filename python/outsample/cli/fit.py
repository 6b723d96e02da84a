"""``outsample fit``: prepare advice for a trained network."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import outsample as osp
from outsample.cli import _arguments
from outsample.cubature import DEFAULT_NOISE, DEFAULT_SIZES

NAME = "fit"
HELP = "prepare advice for a trained network, for the method empirical-cubature"
EXAMPLE = "outsample fit model.pth --output advice.npz --folder fit/ --threads 2"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--output", required=True, metavar="FILE", help="advice file to write (.npz)")
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
    parser.add_argument("--networks", type=int, default=262144, help="noisy copies to fit on (default %(default)s)")
    parser.add_argument("--samples", type=int, default=16384, help="points per label (default %(default)s)")
    parser.add_argument(
        "--calibration", type=int, default=32768, help="further copies for the error (default %(default)s)"
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
    output = Path(args.output)
    if output.suffix != ".npz":
        raise ValueError(f"--output must end in .npz, got {args.output}")
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
        candidates=args.candidates,
        seed=args.seed,
        folder=args.folder,
        start=args.start,
        threads=args.threads,
    )
    advice.save(output)
    args.say(f"{output}: advice for {advice.name}, {advice.record['forwards']:.3g} forward passes and "
             f"{advice.record['seconds']:.0f} s to make")  # fmt: skip
    rows = []
    for budget, size in advice.sizes.items():
        cost = size.multiply_adds / model.forward_multiply_adds
        rows.append(
            {
                "size": budget,
                "points": size.points,
                "forwards": cost,
                "equivalent_samples": dict(size.equivalent_samples),
            }
        )
        shown = ", ".join(f"{law} {n:.0f} ({n / cost:.0f})" for law, n in size.equivalent_samples.items())
        args.say(f"size {budget}: {size.points} points, {cost:.1f} forwards; equivalent samples (advantage): {shown}")
    return {"output": str(output), "record": dict(advice.record), "sizes": rows}
