"""``outsample compare``: chosen methods on noisy copies of one network."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from outsample.cli import _arguments
from outsample.comparison import compare as run_comparison
from outsample.estimators import ESTIMATORS, Estimator
from outsample.models import RNN, Model
from outsample.plots import FIGURES
from outsample.results import Comparison

NAME = "compare"
HELP = "compare methods on noisy copies of a network: mean squared error against compute"
EXAMPLE = "outsample compare model.pth --methods monte-carlo,mine.py:Mine --budgets 2**4..2**12 --output results"


def configure(parser: argparse.ArgumentParser) -> None:
    """Everything that `outsample.compare` takes."""
    _arguments.add_model(parser)
    configure_run(parser)
    parser.add_argument(
        "--methods",
        default="monte-carlo",
        metavar="NAMES",
        help=f"between commas: {', '.join(ESTIMATORS)}, or module:Class or file.py:Class (default %(default)s)",
    )
    parser.add_argument(
        "--budgets",
        type=_arguments.integers,
        default=_arguments.integers("2**4,2**6,2**8,2**10,2**12"),
        metavar="LIST",
        help="forward passes, between commas; 2**4..2**12 means doubling (default 2**4, 2**6, ... 2**12)",
    )
    parser.add_argument("--networks", type=_arguments.integer, default=64, metavar="N", help="noisy copies, up to 256")
    parser.add_argument("--truth-samples", type=_arguments.integer, default=2**20, metavar="N", help="default 2**20")
    parser.add_argument("--repeats", type=_arguments.integer, default=4, metavar="N", help="default %(default)s")
    parser.add_argument("--rounds", type=_arguments.integer, default=10, metavar="N", help="rounds of timing")


def configure_run(parser: argparse.ArgumentParser) -> None:
    """What `compare` and `challenge` share."""
    _arguments.add_protocol(parser)
    parser.add_argument(
        "--mode", choices=("single", "batch"), default="single", help="time one network per call, or many"
    )
    parser.add_argument("--seed", type=_arguments.seed, default=0, help="seed of random methods (default %(default)s)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where to write run.json, table.md and figures; goes on from there"
    )
    parser.add_argument(
        "--jobs",
        type=_arguments.integer,
        default=os.cpu_count() or 1,
        metavar="N",
        help="cores for truth and estimates; times are always measured on one (default all)",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Compare and print."""
    methods = [_arguments.make_estimator(name) for name in args.methods.split(",")]
    model = _arguments.load_model(args.model, args.task)
    result = measured(
        args,
        methods,
        model,
        budgets=args.budgets,
        networks=args.networks,
        truth_samples=args.truth_samples,
        repeats=args.repeats,
        rounds=args.rounds,
        round_seconds=0.003,
    )
    return finished(args, result)


def measured(
    args: argparse.Namespace,
    methods: Sequence[Estimator],
    model: Model,
    *,
    budgets: Sequence[int],
    networks: int,
    **settings: Any,
) -> Comparison:
    """Run a comparison with the shared arguments."""
    if args.output is not None and args.output.exists() and not args.output.is_dir():
        raise ValueError(f"--output must be a folder, got {args.output}")
    if not isinstance(model, RNN):
        raise ValueError(f"{model.name}: noise is defined for recurrent networks, got a {type(model).__name__}")
    ensemble = args.protocol.evaluation(model, networks)
    with ThreadPoolExecutor(args.jobs) as pool:
        return run_comparison(
            methods,
            ensemble,
            budgets,
            mode=args.mode,
            seed=args.seed,
            folder=args.output,
            executor=pool,
            **settings,
        )


def finished(args: argparse.Namespace, result: Comparison) -> dict[str, Any]:
    """Print the report and write the files."""
    args.say(result.report())
    if args.output is not None:
        result.save(args.output / "run.json")
        (args.output / "table.md").write_text(result.report(), encoding="utf-8")
        written = ["run.json", "table.md"]
        try:
            for figure in FIGURES:
                result.plot(args.output / f"{figure}.png", figure)
                written.append(f"{figure}.png")
        except ImportError as error:
            args.say(f"no figures: {error}")
        (args.output / "pieces.jsonl").unlink(missing_ok=True)  # all of it is in run.json
        args.say(f"written to {args.output}: {', '.join(written)}")
    return result.to_dict()
