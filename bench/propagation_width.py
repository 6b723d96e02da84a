"""Gaussian propagation is right for wide random networks: docs/figures/propagation_width.png.

    python bench/propagation_width.py [--figure docs/figures/propagation_width.png]

Means of the last layer of random ReLU perceptrons (as many inputs as units, four layers) and of random recurrent
networks (six scalar inputs), against sampling, by width. The perceptron's moments are pushed through with
`outsample.gaussian.relu_covariance`, which is all that it takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import outsample as osp
from outsample import gaussian

WIDTHS = (8, 16, 32, 64, 128, 256)
LAYERS, STEPS, NETWORKS = 4, 6, 4


def relative_error(h: np.ndarray, mean: np.ndarray) -> float:
    """Mean squared error of means over mean variance of the units, with the sampling's own error taken off."""
    variance = h.var(0).mean()
    return float(((mean - h.mean(0)) ** 2).mean() / variance - 1 / len(h))


def perceptron(width: int, rng: np.random.Generator, samples: int) -> tuple[float, float]:
    weights = [rng.normal(size=(width, width)) * np.sqrt(2 / width) for _ in range(LAYERS)]
    h = rng.normal(size=(samples, width)).astype(np.float32)
    for W in weights:
        h = np.maximum(h @ W.T.astype(np.float32), 0)
    errors = []
    for order in (1, 2):
        mean, covariance = np.zeros(width), np.eye(width)
        for W in weights:
            covariance = W @ covariance @ W.T
            if order == 1:
                covariance = np.diag(np.diag(covariance))
            mean, covariance = gaussian.relu_covariance(W @ mean, (covariance + covariance.T) / 2)
        errors.append(relative_error(h.astype(float), mean))
    return errors[0], errors[1]


def recurrent(width: int, rng: np.random.Generator, samples: int) -> tuple[float, float]:
    model = osp.RNN(
        rng.normal(size=(width, width)) * np.sqrt(2 / width), rng.normal(size=width), rng.normal(size=(STEPS, width))
    )
    _, hidden = model.forward(rng.normal(size=(samples, STEPS)), hidden_states=True)
    errors = []
    for order in (1, 2):
        states = gaussian.propagate(model, order=order)
        errors.append(relative_error(hidden[:, -1].astype(float), states.mean[-1] * 2.0 ** states.exponent[-1]))
    return errors[0], errors[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--samples", type=int, default=1 << 16)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    table = []
    print("| width | perceptron, order 1 | order 2 | recurrent, order 1 | order 2 |\n|---|---|---|---|---|")
    for width in WIDTHS:
        wide = np.mean([perceptron(width, rng, args.samples) for _ in range(NETWORKS)], axis=0)
        loop = np.mean([recurrent(width, rng, args.samples) for _ in range(NETWORKS)], axis=0)
        table.append([*wide, *loop])
        print(f"| {width} | " + " | ".join(f"{e:.2e}" for e in table[-1]) + " |")
    values = np.array(table)
    slopes = [np.polyfit(np.log(WIDTHS), np.log(np.maximum(column, 1e-12)), 1)[0] for column in values.T]
    print("| slope | " + " | ".join(f"{s:+.2f}" for s in slopes) + " |")
    if args.figure:
        import matplotlib.pyplot as plt

        figure, axis = plt.subplots(figsize=(5.5, 3.8))
        names = ("perceptron, order 1", "perceptron, order 2", "recurrent, order 1", "recurrent, order 2")
        for column, name, style in zip(values.T, names, ("C0o-", "C1o-", "C0s--", "C1s--"), strict=True):
            axis.loglog(WIDTHS, column, style, label=name)
        axis.set(xlabel="width", ylabel="squared error of means / variance")
        axis.set_xticks(WIDTHS, [str(w) for w in WIDTHS])
        axis.minorticks_off()
        axis.legend(frameon=False)
        figure.tight_layout()
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(args.figure, dpi=120)


if __name__ == "__main__":
    main()
