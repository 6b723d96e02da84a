"""``outsample zoo``: the networks that are there to try methods on."""

from __future__ import annotations

import argparse
import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outsample import zoo
from outsample.cli import _arguments
from outsample.models import RNN, Model
from outsample.report import markdown
from outsample.zoo import shipped
from outsample.zoo._handcrafted import explain, handcrafted_accuracy

NAME = "zoo"
HELP = "list, show and fetch networks"
EXAMPLE = "outsample zoo show handcrafted_4_3"

_HANDCRAFTED = (2, 3, 10)
_BATCH = 2**16


def configure(parser: argparse.ArgumentParser) -> None:
    """One subcommand each for looking at all, looking at one, and downloading one."""
    commands = parser.add_subparsers(dest="zoo_command", metavar="COMMAND", required=True)

    def add(name: str, text: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text, epilog=f"example: {example}")
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON document")
        return command

    add("list", "list the networks of this package, and the sizes of AlgZoo's", "outsample zoo list")
    show = add("show", "show the weights and the accuracy by position of one network", EXAMPLE)
    _arguments.add_model(show)
    show.add_argument(
        "--samples",
        type=_arguments.integer,
        default=2**18,
        metavar="N",
        help="random inputs for the accuracy by position (default %(default)s)",
    )
    fetch = add(
        "fetch", "download a network of ARC's AlgZoo once, and say where it is", "outsample zoo fetch median 8 5"
    )
    fetch.add_argument("name", help=f"{', '.join([*zoo.ALGZOO, 'example_2nd_argmax'])}, or a whole name")
    fetch.add_argument("hidden_size", nargs="?", type=_arguments.integer, help="with a task")
    fetch.add_argument("seq_len", nargs="?", type=_arguments.integer, help="with a task")
    fetch.add_argument(
        "--sequences", type=_sequences, default=2**30, metavar="N", help="training sequences (default 2**30)"
    )
    fetch.add_argument("--seed", type=_arguments.seed, help="default: AlgZoo's best of five")
    fetch.add_argument("--folder", help="a folder that has the files")
    fetch.add_argument("--base-url", help="a mirror of AlgZoo's bucket")


def _sequences(text: str) -> int:
    return 0 if text == "0" else _arguments.integer(text)  # the network before training


def run(args: argparse.Namespace) -> Any:
    """Dispatch to the subcommand."""
    return {"list": _list, "show": _show, "fetch": _fetch}[args.zoo_command](args)


def _list(args: argparse.Namespace) -> dict[str, Any]:
    entries = zoo.table()
    sizes = {(e.task, e.hidden_size, e.seq_len) for e in entries}
    best = {shipped.best([e for e in entries if (e.task, e.hidden_size, e.seq_len) == size]).name for size in sizes}
    rows = [
        (
            entry.name + (" *" if entry.name in best else ""),
            f"{entry.value:.6f}",
            f"{entry.standard_error:.1g}",
            entry.quantity.replace("_", " "),
        )
        for entry in entries
    ]
    rows += [(zoo.handcrafted(n).name, f"{handcrafted_accuracy(n):.6f}", "-", "accuracy") for n in _HANDCRAFTED]
    args.say(markdown(("network", "value", "standard error", "quantity"), rows))
    args.say("\n* the best of its size; handcrafted_{2n+2}_{n} exists for every n from 4 on")
    args.say("\nAlgZoo (outsample zoo fetch):")
    for task, family in zoo.ALGZOO.items():
        hidden, lengths = (", ".join(map(str, values)) for values in (family.hidden_sizes, family.seq_lens))
        args.say(f"  {task:14}hidden sizes {hidden}; sequence lengths {lengths}")
    return {
        "shipped": [{**dataclasses.asdict(e), "quantity": e.quantity, "best": e.name in best} for e in entries],
        "handcrafted": [{"name": zoo.handcrafted(n).name, "value": handcrafted_accuracy(n)} for n in _HANDCRAFTED],
        "algzoo": {
            task: {"hidden_sizes": family.hidden_sizes, "seq_lens": family.seq_lens}
            for task, family in zoo.ALGZOO.items()
        },
    }


def _weights(model: Model) -> dict[str, NDArray[Any]]:
    fields = (f.name for f in dataclasses.fields(model) if f.init)  # type: ignore[arg-type]  # models are dataclasses
    return {name: value for name in fields if isinstance(value := getattr(model, name), np.ndarray)}


def _print_weights(args: argparse.Namespace, title: str, model: Model) -> None:
    args.say(f"\n{title}")
    for name, value in _weights(model).items():
        with np.printoptions(precision=3, suppress=True, linewidth=200, threshold=10**6):
            args.say(f"{name} =\n{value}")


def _show(args: argparse.Namespace) -> dict[str, Any]:
    model = _arguments.load_model(args.model, args.task)
    args.say(model)
    result: dict[str, Any] = {"name": model.name, "task": model.task.name, "digest": model.digest}
    for entry in zoo.table():
        if entry.name == model.name:
            args.say(f"{entry.quantity.replace('_', ' ')} {entry.value:.6f} ± {entry.standard_error:.1g}")
            args.say(f"made by: {entry.command}")
            result["entry"] = dataclasses.asdict(entry)
    _print_weights(args, "Weights", model)
    result["weights"] = {name: value.tolist() for name, value in _weights(model).items()}
    if isinstance(model, RNN):
        standard = model.standardized()
        if standard.digest == model.digest:
            args.say("\nThey are in standard form: W_hi is +1 or -1 (or 0).")
        else:
            _print_weights(args, "Standardized: neurons rescaled so that W_hi is +1 or -1", standard)
        result["standardized"] = {name: value.tolist() for name, value in _weights(standard).items()}
        if model.name.startswith("handcrafted_"):
            args.say("\nNeurons after t inputs")
            for i, text in enumerate(explain(model.seq_len)):
                args.say(f"  {i:2} {text}")
        if model.task.quantity == "accuracy":
            result["by_position"] = _by_position(args, model)
    return result


def _by_position(args: argparse.Namespace, model: RNN) -> list[dict[str, Any]]:
    """Accuracy among inputs with each label; fixed seed."""
    rng = np.random.default_rng(0)
    labels, right = np.zeros((2, model.seq_len), dtype=np.int64)
    for start in range(0, args.samples, _BATCH):
        x = rng.standard_normal((min(_BATCH, args.samples - start), model.seq_len), dtype=np.float32)
        target = model.task.target(x).astype(np.intp)
        labels += np.bincount(target, minlength=model.seq_len)
        right += np.bincount(target[model.forward(x).argmax(axis=1) == target], minlength=model.seq_len)
    rows, cells = [], []
    for position, (total, correct) in enumerate(zip(labels.tolist(), right.tolist(), strict=True)):
        if total == 0:
            continue
        share, p = total / args.samples, correct / total
        error = math.sqrt(p * (1 - p) / total)
        rows.append({"position": position, "share": share, "accuracy": p, "standard_error": error})
        cells.append([f"{position}", f"{share:.4f}", f"{p:.5f}", f"{error:.1g}"])
    args.say(f"\nAccuracy by position of the right answer, {args.samples} random inputs")
    args.say(markdown(("position", "share", "accuracy", "standard error"), cells))
    return rows


def _fetch(args: argparse.Namespace) -> dict[str, Any]:
    path = zoo.fetch(
        args.name, args.hidden_size, args.seq_len, args.sequences, args.seed, folder=args.folder, base_url=args.base_url
    )
    args.say(path)
    return {"path": str(path)}
