"""What the features of empirical cubature are worth: ridge regressions on the same points with three, five and seven.

Run as a script. Points are those of an advice; networks are noisy copies of the role "fitting", of one law, labelled
with the last input exact. Errors are measured on other copies, free of label noise.
"""

from __future__ import annotations

import argparse

import numpy as np

import outsample as osp
from outsample._progress import Progress
from outsample.cubature.copies import label, noisy_copies
from outsample.cubature.folder import Folder
from outsample.cubature.points import Points
from outsample.cubature.rule import FEATURES, TrainingSet, best_outer_layer, plain_rule


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="the advised network, a file or a name of the zoo")
    parser.add_argument("--task", help="its task, if the file does not say")
    parser.add_argument("--advice", help="whose points to take (default: what is shipped for the network)")
    parser.add_argument("--law", default="mul-0.01")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--networks", type=int, default=32768)
    parser.add_argument("--samples", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    model = osp.load(arguments.model, task=arguments.task)
    advice = osp.EmpiricalCubature(advice=arguments.advice).choose(model)
    counts = (arguments.networks, 8192, 8192)
    sets = []
    with Progress(sum(counts), "labels") as bar:
        for seed, count in enumerate(counts, 10**6):
            weights, _ = noisy_copies(model, [arguments.law], np.ones(1), count, seed)
            halves, _ = label(
                model, weights, arguments.samples, seed, arguments.threads, Folder(None, {}), "labels", bar
            )
            sets.append((weights, halves))
    data, watch, test = (
        TrainingSet(w, h.mean(axis=0), np.ones(len(w)), model.hidden_size, model.task.output_size(model.seq_len),
                    arguments.threads)
        for w, h in sets
    )  # fmt: skip
    halves = sets[2][1]
    plain = float((test.accuracy * (1 - test.accuracy)).mean())
    print("| size | points | features | equivalent samples |")
    print("|--:|--:|--:|--:|")
    for size in arguments.sizes:
        a = advice.sizes[size].arrays
        points = Points(a["level_sizes"], a["parent"], a["x"], a["target"])
        for count in FEATURES:
            rule = best_outer_layer(plain_rule(points, data, count), data, watch, (1e-5, 1e-4, 1e-3))
            errors = test.predict(rule) - halves
            print(f"| {size} | {len(points)} | {count} | {plain / np.prod(errors, axis=0).mean():,.0f} |", flush=True)


if __name__ == "__main__":
    main()
