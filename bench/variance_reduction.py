"""What variance reduction could gain over plain sampling, on one network and its noisy copies.

    python bench/variance_reduction.py MODEL

Prints, per network, the correlation of the outcome (right or wrong) of an input with that of its negative, its reverse
and its rotation by half the sequence, and the share of the outcome's variance that lies between the cells of two
stratifications (pairs of positions of the two largest inputs; the same times quarters of the gap between the second
and the third), fitted on one half of the samples and scored on the other. For the median task: the variance of the
squared error given all inputs but the last, relative to that of the squared error.
"""

from __future__ import annotations

import argparse

import numpy as np

import outsample as osp
from outsample import _core
from outsample.cli._arguments import add_model, integer, load_model
from outsample.low_discrepancy import normal_quantile


def figures(model: osp.RNN, samples: int, key: int) -> list[float]:
    def outcome(x: np.ndarray) -> np.ndarray:
        return (np.argmax(model.forward(x), axis=1) == model.task.target(x)).astype(float)

    n = model.seq_len
    x = _core.normals(key, 0, samples, n)
    right = outcome(x)
    other = [-x, x[:, ::-1], np.roll(x, n // 2, axis=1)]
    correlations = [float(np.corrcoef(right, outcome(np.ascontiguousarray(y)))[0, 1]) for y in other]
    order = np.argsort(-x, axis=1)
    pair = order[:, 0] * n + order[:, 1]
    value = np.take_along_axis(x, order[:, 1:3], axis=1)
    gap = value[:, 0] - value[:, 1]
    quarter = np.searchsorted(np.quantile(gap, [0.25, 0.5, 0.75]), gap)
    return [float(right.mean()), *correlations, between(pair, right), between(pair * 4 + quarter, right)]


def between(cell: np.ndarray, right: np.ndarray) -> float:
    half = len(cell) // 2
    cells = int(cell.max()) + 1
    count = np.bincount(cell[:half], minlength=cells)
    mean = (np.bincount(cell[:half], right[:half], minlength=cells) + right.mean()) / (count + 1)
    return float(1 - np.mean((right[half:] - mean[cell[half:]]) ** 2) / right.var())


def given_all_but_the_last(model: osp.RNN, samples: int, key: int) -> float:
    """Variance of the mean squared error given all inputs but the last (128 of them each), relative to no condition."""
    nodes = normal_quantile((np.arange(128) + 0.5) / 128).astype(np.float32)
    x = np.repeat(_core.normals(key, 0, samples, model.seq_len), len(nodes), axis=0)
    x[:, -1] = np.tile(nodes, samples)
    errors = ((model.forward(x)[:, 0] - model.task.target(x)) ** 2).reshape(samples, len(nodes))
    return float(errors.mean(axis=1).var() / errors.var())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_model(parser)
    parser.add_argument("--samples", type=integer, default=1 << 19)
    parser.add_argument("--copies", type=integer, default=16)
    arguments = parser.parse_args()
    model = load_model(arguments.model, arguments.task)
    copies = osp.NoiseEnsemble(model, scale=0.01, size=arguments.copies, role="fitting")
    if model.task.name == "median":
        samples = arguments.samples // 64
        ratios = [given_all_but_the_last(m, samples, 1 + i) for i, m in enumerate([model, *copies])]
        print(f"variance given all inputs but the last: as trained {ratios[0]:.3f}, 1% noise {np.mean(ratios[1:]):.3f}")
        return
    rows = [figures(m, arguments.samples, 1 + i) for i, m in enumerate([model, *copies])]
    print("network       accuracy  negative  reverse  rotation  pairs  pairs x gap")
    for name, row in (("as trained", rows[0]), ("1% noise", list(np.mean(rows[1:], axis=0)))):
        print(f"{name:12s}  {row[0]:8.4f}  {row[1]:8.3f}  {row[2]:7.3f}  {row[3]:8.3f}  {row[4]:5.3f}  {row[5]:11.3f}")


if __name__ == "__main__":
    main()
