"""How far deduction gets: the numbers and the first figure of docs/deduction.md.

    python bench/deduction.py MODEL [--copies 32] [--figure docs/figures/deduction.png]

MODEL is a file that `outsample.load` reads, for the table of the documentation ARC's
``one_layer_16_hidden_94_acc_2nd_argmax.pth``. A minute on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import outsample as osp
from outsample import gaussian

BINS = (1, 2, 4, 8, 16, 32, 64)
CELLS = 18_000


def cost_in_samples(model: osp.RNN, method: osp.Estimator) -> float:
    """Time of an estimate over the time of one random sample; interleaved, the least of several rounds."""
    samples = 1 << 13
    ours, sampling = [], []
    for _ in range(15):
        ours.append(method.estimate(model, 10**9).cost.seconds)
        sampling.append(min(osp.MonteCarlo().estimate(model, samples, rng=0).cost.seconds for _ in range(3)))
    return min(ours) / (min(sampling) / samples)


def curve(models: list[osp.RNN], truth: np.ndarray, bins: int, cells: int, **settings) -> dict:
    """Estimates of every model, and what they are worth: N_eq, time in samples, advantage."""
    method = osp.CellPropagation(bins=bins, cells=cells, **settings)
    estimates = [method.estimate(model, 10**9) for model in models]
    made = estimates[0].cost.evaluations
    # Timed on a call of about a millisecond, which finds the machine undisturbed more often than a long one.
    piece = osp.CellPropagation(bins=bins, cells=min(cells, 1000), **settings)
    cost = cost_in_samples(models[0], piece) * made / piece.estimate(models[0], 10**9).cost.evaluations
    error = np.array([e.value for e in estimates]) - truth
    # The first model is the trained network itself, the others are its noisy copies.
    mse = np.mean(error[1:] ** 2)
    worth = np.mean(truth[1:] * (1 - truth[1:])) / mse
    return {
        "base": estimates[0].value,
        "cells": int(made),
        "bias": error[1:].mean(),
        "rms": np.sqrt(mse),
        "worth": worth,
        "cost": cost,
        "advantage": worth / cost,
    }


def state_errors(model: osp.RNN) -> list[tuple[float, float, float]]:
    """Step by step, for standard normal inputs: relative errors of mean and covariance, and how far from normal.

    The last number is the mean over units of |excess kurtosis| of the pre-activations, 0 for a normal law.
    """
    n = model.seq_len
    x = np.random.default_rng(0).normal(size=(1 << 17, n)).astype(np.float32)
    _, hidden = model.forward(x, hidden_states=True)
    states = gaussian.propagate(model)
    rows = []
    for t in range(n):
        h = hidden[:, t + 1].astype(float)
        mean, covariance = h.mean(0), np.cov(h.T)
        scale = 2.0 ** states.exponent[t]
        z = hidden[:, t] @ model.W_hh.T.astype(float) + x[:, t : t + 1] * model.W_hi.astype(float)
        z = (z - z.mean(0)) / np.maximum(z.std(0), 1e-12)
        rows.append(
            (
                np.linalg.norm(states.mean[t] * scale - mean) / np.linalg.norm(mean),
                np.linalg.norm(states.covariance[t] * scale**2 - covariance) / np.linalg.norm(covariance),
                float(np.abs((z**4).mean(0) - 3).mean()),
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--copies", type=int, default=32, help="noisy copies (protocol mul-0.01) to measure errors on")
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    base = osp.load(args.model)
    # Ensembles of role "fitting": what is learned here may set defaults, so it must not come from evaluation copies.
    copies = osp.NoiseEnsemble(base, scale=0.01, size=args.copies, seed=11, role="fitting")
    models = [base, *copies]
    truth = np.array([osp.MonteCarlo().estimate(m, 1 << 21, rng=i).value for i, m in enumerate(models)])
    print(f"{base}\nsampling: accuracy {truth[0]:.4f}, copies {truth[1:].mean():.4f} ± {truth[1:].std():.4f}\n")

    print("| one law per label | estimate | cost in samples |\n|---|---|---|")
    for order in (1, 2):
        method = osp.GaussianPropagation(order=order)
        print(f"| order {order} | {method.estimate(base, 10**9).value:.3f} | {cost_in_samples(base, method):.0f} |")

    curves = {}
    for order, richardson in ((1, False), (2, False), (2, True)):
        print(f"\norder {order}{', Richardson' if richardson else ''}, {CELLS} cells")
        print("| bins | trained network | bias | rms error | worth (samples) | cost (samples) | advantage |")
        print("|---|---|---|---|---|---|---|")
        rows = []
        for bins in BINS[1:] if richardson else BINS:
            row = curve(models, truth, bins, CELLS, order=order, richardson=richardson)
            rows.append((bins, row["base"], row["rms"]))
            print(
                f"| {bins} | {row['base']:.3f} | {row['bias']:+.4f} | {row['rms']:.4f} | {row['worth']:.2g} | "
                f"{row['cost']:.2g} | {row['advantage']:.1g} |"
            )
        curves[order, richardson] = rows

    print("\nbins and cells by the budget")
    print("| budget | cells | bins | rms error | worth (samples) | cost (samples) | advantage |")
    print("|---|---|---|---|---|---|---|")
    for log in range(8, 21, 2):
        settings = osp.CellPropagation().estimate(base, 1 << log).settings
        bins = settings["bins"][0]
        row = curve(models, truth, bins, settings["cells"][0])
        print(
            f"| 2^{log} | {row['cells']} | {bins} | {row['rms']:.4f} | {row['worth']:.2g} | {row['cost']:.2g} | "
            f"{row['advantage']:.1g} |"
        )

    print("\n| step | mean | covariance | excess kurtosis |\n|---|---|---|---|")
    for t, row in enumerate(state_errors(base), 1):
        print(f"| {t} | {row[0]:.3f} | {row[1]:.3f} | {row[2]:.2f} |")

    if args.figure:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
        for (order, richardson), rows in curves.items():
            name = f"order {order}{', Richardson' if richardson else ''}"
            bins, values, errors = zip(*rows, strict=True)
            axes[0].plot(bins, values, "o-", label=name)
            axes[1].loglog(bins, errors, "o-", label=name)
        axes[0].axhline(truth[0], color="black", linewidth=0.8, label="sampling")
        axes[0].set(xscale="log", xlabel="bins per input", ylabel="estimated accuracy", title="the trained network")
        axes[1].set(xlabel="bins per input", ylabel="rms error", title="noisy copies (mul-0.01)")
        for axis in axes:
            axis.set_xticks(BINS, [str(b) for b in BINS])
            axis.minorticks_off()
            axis.legend(frameon=False)
        figure.tight_layout()
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(args.figure, dpi=120)


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"\n{time.perf_counter() - started:.0f} s")
