"""Make the shipped transferred advice for a shape.

    python bench/transferred_advice.py --task 2nd_argmax --hidden-size 16 --seq-len 10 --folder nets \\
        --train 2^26 4001 10 --train 2^27 5001 40 --least-accuracy 0.84 --zoo --output transferred_2nd_argmax_16_10.npz

Trains networks from many seeds (kept in the folder, where finished stages of the fit are, too), takes those that are
accurate enough, with ``--zoo`` adds the shipped networks of that shape but for those that transferred advice is scored
on, and fits. Without ``--zoo`` all shipped networks of the shape are left to be scored on. Prints, for every size,
numbers of equivalent samples (and advantage in multiply-adds) of the cross-validation over trained networks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import outsample as osp
from outsample.cli import _advice
from outsample.cli._arguments import integer
from outsample.cubature.transfer import TRANSFER_SIZES, fit_transferred
from outsample.training import measure

#: Nothing may be fitted or chosen on these.
HELD_OUT = ("2nd_argmax_16_10_1073741824_1", "2nd_argmax_16_10_1073741824_11")

_Shape = tuple[str, int, int]


def trained(folder: Path, shape: _Shape, sequences: int, seed: int) -> osp.RNN:
    """A network trained on so many sequences, from the folder if it is there."""
    path = folder / f"{sequences}_{seed}.npz"
    if not path.exists():
        osp.train(*shape, n_sequences=sequences, seed=seed, warmup_steps=sequences >> 14).model.save(path)
    model: osp.RNN = osp.load(path)
    return model


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which networks `accurate_networks` trains."""
    parser.add_argument("--task", required=True)
    parser.add_argument("--hidden-size", type=int, required=True)
    parser.add_argument("--seq-len", type=int, required=True)
    parser.add_argument(
        "--train", nargs=3, type=integer, action="append", required=True, metavar=("SEQUENCES", "SEED", "COUNT"),
        help="train networks from so many seeds, this one on; may be given more than once",
    )  # fmt: skip
    parser.add_argument("--least-accuracy", type=float, default=0.0)
    parser.add_argument("--folder", type=Path, required=True, help="where trained networks are kept")


def accurate_networks(args: argparse.Namespace) -> tuple[list[osp.RNN], int]:
    """Those that are accurate enough, and the sequences that all of them were trained on."""
    args.folder.mkdir(parents=True, exist_ok=True)
    networks, total = [], 0
    for sequences, first, count in args.train:
        for seed in range(first, first + count):
            model = trained(args.folder, (args.task, args.hidden_size, args.seq_len), sequences, seed)
            total += sequences
            if measure(model, 1 << 16, seed)[0] >= args.least_accuracy:
                networks.append(model)
    return networks, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_training_options(parser)
    parser.add_argument("--zoo", action="store_true", help="fit on shipped networks, too, but for held-out ones")
    parser.add_argument("--output", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(TRANSFER_SIZES))
    parser.add_argument("--copies", type=int, default=240)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    output = _advice.output_of(args)
    networks, total = accurate_networks(args)
    shape = args.task, args.hidden_size, args.seq_len
    for entry in osp.zoo.table() if args.zoo else ():
        if (entry.task, entry.hidden_size, entry.seq_len) == shape and entry.name not in HELD_OUT:
            networks.append(osp.zoo.load(entry.name))
            total += entry.n_sequences
    print(f"{len(networks)} networks")
    advice = fit_transferred(
        networks, sizes=args.sizes, copies=args.copies, seed=1, folder=args.folder / "fit", threads=args.threads,
        training_sequences=total, progress=True,
    )  # fmt: skip
    _advice.write(advice, output, networks[0], print)


if __name__ == "__main__":
    main()
