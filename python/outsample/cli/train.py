"""``outsample train``: train networks by AlgZoo's recipe."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from outsample.cli._arguments import integer, seed
from outsample.seeding import domain_seed, philox_key
from outsample.tasks import TASKS
from outsample.training import TrainingResult, measure, train

NAME = "train"
HELP = "train a network, or several and keep the best, by AlgZoo's recipe"
EXAMPLE = "outsample train 2nd_argmax --hidden 16 --seq 10 --sequences 2^27 --seeds 5 --threads 2 --output model.npz"

_VALIDATION = 2**20  # samples; never those of training


def configure(parser: argparse.ArgumentParser) -> None:
    """The size, the recipe, and where things go."""
    parser.add_argument("task", choices=[name for name, task in TASKS.items() if task.inputs == "gaussian"])
    parser.add_argument("--hidden", type=integer, required=True, metavar="D", help="hidden units")
    parser.add_argument("--seq", type=integer, required=True, metavar="N", help="sequence length")
    parser.add_argument(
        "--sequences", type=integer, default=2**27, help="training sequences (default 2^27; AlgZoo 2^30)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="first seed (default 0)")
    parser.add_argument("--seeds", type=integer, default=1, help="train that many seeds, keep the best (default 1)")
    parser.add_argument(
        "--stop-after", type=integer, metavar="SEQUENCES", help="stop early, on the whole run's schedule"
    )
    parser.add_argument("--threads", type=integer, default=1)
    parser.add_argument("--output", type=Path, help="write the network here (.npz or .safetensors)")
    parser.add_argument(
        "--checkpoint", type=Path, help="save the state here (.npz) and go on from it; with --seeds, a folder"
    )
    parser.add_argument("--restart", action="store_true", help="overwrite the checkpoint instead of going on from it")
    recipe = parser.add_argument_group("recipe", "AlgZoo's unless given")
    recipe.add_argument("--batch-size", type=integer, default=1024)
    recipe.add_argument("--learning-rate", type=float, help="default 0.04 / sqrt(D)")
    recipe.add_argument("--beta1", type=float, default=0.9)
    recipe.add_argument("--beta2", type=float, default=0.999)
    recipe.add_argument("--eps", type=float, default=1e-8)
    recipe.add_argument("--weight-decay", type=float, default=0.001)
    recipe.add_argument("--warmup-steps", type=int, default=2**14)
    recipe.add_argument("--final-factor", type=float, default=0.01, help="of the learning rate (default 0.01)")
    recipe.add_argument("--biases", action="store_true")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train every seed, measure each on a stream of its own, keep the best."""
    if args.output is not None and args.output.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"output must end in .npz or .safetensors, got {str(args.output)!r}")
    best: tuple[float, TrainingResult] | None = None
    runs = []
    for number in range(args.seed, args.seed + args.seeds):
        checkpoint = args.checkpoint
        if checkpoint is not None and args.seeds > 1:
            checkpoint = checkpoint / f"seed_{number}.npz"
        result = train(
            args.task,
            args.hidden,
            args.seq,
            n_sequences=args.sequences,
            seed=number,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            betas=(args.beta1, args.beta2),
            eps=args.eps,
            weight_decay=args.weight_decay,
            warmup_steps=args.warmup_steps,
            final_factor=args.final_factor,
            biases=args.biases,
            stop_after=args.stop_after,
            checkpoint=checkpoint,
            resume=not args.restart,
            threads=args.threads,
            progress=False if args.json else None,
        )
        value, error = measure(result.model, _VALIDATION, philox_key(domain_seed("training", number, 2)), args.threads)
        quantity = result.model.task.quantity
        args.say(f"{result.model.name}: {quantity.replace('_', ' ')} {value:.5f} ± {error:.5f}, {result.seconds:.1f} s")
        runs.append(
            {"name": result.model.name, "seed": number, quantity: value, "standard_error": error}
            | {"seconds": result.seconds, "log": [dataclasses.asdict(point) for point in result.log]}
        )
        score = value if quantity == "accuracy" else -value
        if best is None or score > best[0]:
            best = score, result
    assert best is not None  # integer() lets no --seeds below 1 through
    model = best[1].model
    if args.seeds > 1:
        args.say(f"best: {model.name}")
    if args.output is not None:
        model.save(args.output)
        args.say(f"written to {args.output}")
    return {"best": model.name, "settings": best[1].settings, "runs": runs}
