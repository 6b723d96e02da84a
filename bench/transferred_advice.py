"""Make the shipped transferred advice for 2nd_argmax, 16 hidden units, 10 inputs.

    python bench/transferred_advice.py --folder nets --output transferred_2nd_argmax_16_10.npz [--sizes 32 128 512]

Trains networks from many seeds (kept in the folder; 11 s each for 2^26 sequences on one thread, 22 s for 2^27), takes
those that reach an accuracy of 0.84, adds the shipped networks of that shape but for the two that transferred advice is
scored on, and fits. Prints, for every size, numbers of equivalent samples (and advantage in multiply-adds) of the
cross-validation over trained networks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import outsample as osp
from outsample.cubature.transfer import TRANSFER_SIZES, fit_transferred
from outsample.training import measure

#: Nothing may be fitted or chosen on these.
HELD_OUT = ("2nd_argmax_16_10_1073741824_1", "2nd_argmax_16_10_1073741824_11")
SEEDS = {26: range(4001, 4011), 27: range(5001, 5041)}
LEAST_ACCURACY = 0.84


def trained(folder: Path, exponent: int, seed: int) -> osp.RNN:
    """A network trained on 2^exponent sequences, from the folder if it is there."""
    path = folder / f"{exponent}_{seed}.npz"
    if not path.exists():
        result = osp.train("2nd_argmax", 16, 10, n_sequences=2**exponent, seed=seed, warmup_steps=2 ** (exponent - 14))
        result.model.save(path)
    model: osp.RNN = osp.load(path)
    return model


def networks(folder: Path) -> tuple[list[osp.RNN], float]:
    """All networks to fit on, and how many sequences they were trained on, rejected ones included."""
    folder.mkdir(parents=True, exist_ok=True)
    found, sequences = [], 0.0
    for exponent, seeds in SEEDS.items():
        for seed in seeds:
            model = trained(folder, exponent, seed)
            sequences += 2**exponent
            if measure(model, 1 << 16, seed)[0] >= LEAST_ACCURACY:
                found.append(model)
    for entry in osp.zoo.table():
        if (entry.task, entry.hidden_size, entry.seq_len) == ("2nd_argmax", 16, 10) and entry.name not in HELD_OUT:
            found.append(osp.zoo.load(entry.name))
            sequences += entry.n_sequences
    return found, sequences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(TRANSFER_SIZES))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    found, sequences = networks(args.folder)
    advice = fit_transferred(
        found, sizes=args.sizes, seed=1, threads=args.threads, training_sequences=sequences, progress=True
    )
    advice.save(args.output)
    print(f"{args.output}: {len(found)} networks, {advice.record['forwards']:.3g} forward passes, "
          f"{advice.record['seconds']:.0f} s of fitting")  # fmt: skip
    for budget, size in advice.sizes.items():
        cost = size.multiply_adds / found[0].forward_multiply_adds
        shown = ", ".join(f"{law} {n:.0f} ({n / cost:.1f})" for law, n in size.equivalent_samples.items())
        taken = advice.record["plans"][str(budget)]["taken"]
        print(f"size {budget}: {size.points} points, {cost:.1f} forwards, {taken} steps; "
              f"equivalent samples (advantage): {shown}")  # fmt: skip


if __name__ == "__main__":
    main()
