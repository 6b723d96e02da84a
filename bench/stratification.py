"""Which strata? Variance of conditional Monte Carlo under several designs, relative to random sampling's.

    python bench/stratification.py MODEL [--copies 4]

For noisy copies of MODEL (2nd-argmax) drawn for fitting, N samples and many repetitions:
N times the variance of the estimate over p (1 - p), and in brackets the same as the design's own standard errors have
it. Then what Neyman's allocation to 20 x 20 equal parts of the two gaps would be worth, and the same of the core's
eight boxes; and the correlation of the conditional probabilities of x and -x. Written in numpy and apart from the core,
whose design is "uneven boxes" for multiples of 8 strata and "two per stratum" for other numbers.
"""

from __future__ import annotations

import argparse
from itertools import pairwise

import numpy as np

import outsample as osp
from outsample import _core
from outsample.cli._arguments import add_model, integer, load_model
from outsample.low_discrepancy import normal_quantile

SIZES = {48: 4000, 184: 2000, 740: 600, 2960: 200}  # samples: repetitions
FINE = "lulululul"
# Boxes of the shares of the second-largest and of the largest input: from, size, from, size.
BOXES = np.array(
    [(a, b - a, 0.0, 0.7) for a, b in pairwise((0.0, 0.25, 0.5, 0.7, 0.85, 1.0))]
    + [(a, b - a, 0.7, 0.3) for a, b in pairwise((0.0, 0.35, 0.7, 1.0))]
)


def normal_tail(x):
    """Upper tail of the standard normal distribution, by a table; good to 1e-6."""
    p = (np.arange(1 << 16) + 0.5) / (1 << 16)
    return np.interp(-x, normal_quantile(p), p)


def design(count, repetitions, inputs, row, per_stratum, rng):
    """Inputs, the two uniforms and the weight of every sample; without `row`, independent inputs.

    The row of cells is cut by the letters of `row` in turn: b is the box, u and l are halves of the range of the
    largest and of the second-largest input, s and p the positions of the second-largest and of the largest.
    """
    total = count * repetitions
    x = rng.normal(size=(total, inputs))
    if not row:
        return x, np.zeros((total, 2)), np.ones(total)
    stratum = np.tile(np.arange(count) // per_stratum, repetitions)
    left = (stratum + rng.random(total)) / (count // per_stratum)
    shares, width, positions, weight = np.zeros((total, 2)), np.ones((total, 2)), {}, np.ones(total)
    for letter in row:
        base = {"s": inputs, "p": inputs - 1, "b": len(BOXES)}.get(letter, 2)
        digit = np.minimum((left * base).astype(int), base - 1)
        left = left * base - digit
        if letter in "sp":
            # Back and forth, as in the core: neighbours in the row are neighbours in position.
            back = (letter == "p") & (positions.get("s", digit) % 2 == 1)
            positions[letter] = np.where(back, base - 1 - digit, digit)
        elif letter == "b":
            shares, width = BOXES[digit][:, [2, 0]], BOXES[digit][:, [3, 1]]
            weight = len(BOXES) * width.prod(axis=1)
        else:
            which = "ul".index(letter)
            width[:, which] /= 2
            shares[:, which] += digit * width[:, which]
    shares += rng.random((total, 2)) * width
    value = -np.sort(-x, axis=1)
    inner = normal_tail(value[:, 2]) * np.sqrt(shares[:, 1])
    second, rows = positions["s"], np.arange(total)
    largest = positions["p"] + (positions["p"] >= second)
    other = np.ones((total, inputs), dtype=bool)
    other[rows, second] = other[rows, largest] = False
    x = np.empty((total, inputs))
    x[other] = rng.permuted(value[:, 2:], axis=1).ravel()
    x[rows, second] = -normal_quantile(inner)
    x[rows, largest] = -normal_quantile(inner * shares[:, 0])
    return x, shares - 0.5, weight


def with_control_variates(y, shares):
    """Estimates and squared errors; coefficients of each half of the strata are fitted on the other half."""
    count = y.shape[1]
    difference, step = y[:, ::2] - y[:, 1::2], shares[:, ::2] - shares[:, 1::2]
    total, reach = y[:, ::2] + y[:, 1::2], shares[:, ::2] + shares[:, 1::2]
    estimate, squared = np.zeros(len(y)), np.zeros(len(y))
    for half in (0, 1):
        fit, use = slice(1 - half, None, 2), slice(half, None, 2)
        normal = np.einsum("rhi,rhj->rij", step[:, fit], step[:, fit])
        slope = np.linalg.solve(normal, np.einsum("rhi,rh->ri", step[:, fit], difference[:, fit])[..., None])[..., 0]
        estimate += (total[:, use] - np.einsum("ri,rhi->rh", slope, reach[:, use])).sum(axis=1) / count
        squared += ((difference[:, use] - np.einsum("ri,rhi->rh", slope, step[:, use])) ** 2).sum(axis=1) / count**2
    return estimate, squared


DESIGNS = {  # row, samples per stratum, control variates
    "no strata": ("", 2, False),
    "positions alone": ("sp", 2, False),
    "positions first": ("sp" + FINE, 2, False),
    "two per stratum": ("lusp" + FINE, 2, False),
    "uneven boxes": ("bsp" + FINE, 2, False),
    "one per stratum": ("lusp" + FINE, 1, False),
    "control variates": ("lusp" + FINE, 2, True),
    "positions first, control variates": ("sp" + FINE, 2, True),
}


def allocation(x, y):
    """Variance of y within fine parts of the two gaps, by Neyman's allocation and by the boxes', over equal."""
    parts = 20
    values = -np.sort(-x, axis=1)[:, :3]
    tails = normal_tail(values)
    shares = np.column_stack([(tails[:, 1] / tails[:, 2]) ** 2, tails[:, 0] / tails[:, 1]])
    cell = np.minimum((shares * parts).astype(int), parts - 1) @ [parts, 1]
    count = np.bincount(cell, minlength=parts**2)
    mean = np.bincount(cell, y, minlength=parts**2) / count
    variance = (np.bincount(cell, (y - mean[cell]) ** 2, minlength=parts**2) / count).reshape(parts, parts)
    edges = np.rint(parts * BOXES).astype(int)
    areas = BOXES[:, 1] * BOXES[:, 3]
    boxes = [variance[a : a + b, c : c + d].mean() for a, b, c, d in edges]
    return np.sqrt(variance).mean() ** 2 / variance.mean(), len(BOXES) * (areas**2 @ boxes) / variance.mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model(parser)
    parser.add_argument("--copies", type=integer, default=4, help="noisy copies (default %(default)s)")
    args = parser.parse_args()
    model = load_model(args.model, args.task)
    networks = [m._network for m in osp.NoiseEnsemble(model, scale=0.01, size=args.copies, seed=1, role="fitting")]
    inputs = model.seq_len - 1

    def right(network, x):
        return _core.conditional_expectations(network, model.task.name, x.astype(np.float32)).astype(float)

    x = np.random.default_rng(0).normal(size=(1 << 18, inputs))
    plain = [right(network, x) for network in networks]
    print(f"{'design':34s}" + "".join(f"{count:>16d}" for count in SIZES))
    for title, (row, per_stratum, control) in DESIGNS.items():
        cells = []
        for count, repetitions in SIZES.items():
            rng = np.random.default_rng(count)
            x, shares, weight = design(count, repetitions, inputs, row, per_stratum, rng)
            ratios = []
            for network, y0 in zip(networks, plain, strict=True):
                y = (weight * right(network, x)).reshape(repetitions, count)
                if control:
                    estimate, squared = with_control_variates(y, shares.reshape(repetitions, count, 2))
                else:
                    estimate = y.mean(axis=1)
                    squared = ((y[:, ::2] - y[:, 1::2]) ** 2).sum(axis=1) / count**2
                scale = count / (y0.mean() * (1 - y0.mean()))
                ratios.append((estimate.var(ddof=1) * scale, squared.mean() * scale))
            true, stated = np.mean(ratios, axis=0)
            cells.append(f"{true:7.3f} ({stated:.3f})")
        print(f"{title:34s}" + "".join(f"{cell:>16s}" for cell in cells), flush=True)
    x = np.random.default_rng(0).normal(size=(1 << 18, inputs))
    allocations = np.mean([allocation(x, y0) for y0 in plain], axis=0)
    print("variance within the gaps: Neyman's allocation {:.3f}, the boxes {:.3f}".format(*allocations))
    antithetic = [np.corrcoef(y0, right(network, -x))[0, 1] for network, y0 in zip(networks, plain, strict=True)]
    print(f"correlation of x and -x: {np.mean(antithetic):.3f}")


if __name__ == "__main__":
    main()
