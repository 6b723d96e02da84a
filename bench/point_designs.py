"""Which points? Equivalent samples per point of several designs, each randomised anew many times.

    python bench/point_designs.py MODEL [--networks 32] [--designs hammersley]

prints, for noisy copies of MODEL drawn for fitting (none of those that methods are scored on), v / (mean squared error
x points): how many random samples one point is worth. A point with the exact last input takes longer than a plain
one (bench/bench_points.py). --designs is a part of the names of those to try.
"""

from __future__ import annotations

import argparse

import numpy as np

import outsample as osp
from outsample import _core
from outsample import low_discrepancy as ld
from outsample.cli._arguments import add_model, integer, load_model
from outsample.point_tables import make_table

SIZES = {256: 48, 2048: 24, 16384: 10}  # points: randomisations
TRUTH = 1 << 22


def sobol(count, dimensions, rng):
    return ld.sobol(count, dimensions, rng=rng)


def hammersley(count, dimensions, rng):
    return ld.hammersley(count, dimensions, shift=rng.random(dimensions))


def kronecker(count, dimensions, rng):
    return ld.kronecker(count, dimensions, shift=rng.random(dimensions))


def lattice(count, dimensions, rng):
    return ld.lattice(count, dimensions, shift=rng.random(dimensions))


def random(count, dimensions, rng):
    return rng.random((count, dimensions))


def folded(points):
    """The baker's transformation, which makes functions periodic (F. J. Hickernell, 2002)."""
    return lambda count, dimensions, rng: 1 - np.abs(2 * points(count, dimensions, rng) - 1)


def order(points, ranked, exact_last=True, importance=1.0, gaps=(3,), coordinates=None, tilt=0.0):
    """Tables in order coordinates.

    `importance` > 1 draws more points with small gaps, with less weight: between the second and third for coordinate 3,
    between the first and second for coordinate 2. `tilt` does so by a linear weight on the third gap, of sum 1.
    `coordinates` assigns the point set's coordinates anew.
    """

    def make(model, count, rng):
        inputs = model.seq_len - exact_last
        u = np.clip(points(count, ld.order_dimensions(inputs, ranked), rng), 1e-10, 1 - 1e-10)
        if coordinates is not None:
            u = u[:, coordinates]
        weight = np.ones(count)
        if importance != 1.0:
            for gap in gaps:
                weight *= importance * (1 - u[:, gap]) ** (importance - 1)
                u[:, gap] = 1 - (1 - u[:, gap]) ** importance
        if tilt:
            v = u[:, 3].copy()
            u[:, 3] = v + tilt * v * (1 - v)
            weight = 1 + tilt * (1 - 2 * v)
            weight *= count / weight.sum()
        x = ld.order_inputs(u, inputs, ranked)
        return make_table(x, model.task, exact_last=exact_last, weights=weight / count)

    return make


def gaussian(points, exact_last=True):
    """Tables with one coordinate per input."""

    def make(model, count, rng):
        u = np.clip(points(count, model.seq_len - exact_last, rng), 1e-10, 1 - 1e-10)
        return make_table(ld.normal_quantile(u), model.task, exact_last=exact_last)

    return make


DESIGNS = {
    "random": (order(random, 3), True),
    "gaussian coordinates, sobol": (gaussian(sobol), True),
    "order coordinates, sobol, 1 ranked": (order(sobol, 1), True),
    "order coordinates, sobol, 2 ranked": (order(sobol, 2), True),
    "order coordinates, sobol, 3 ranked": (order(sobol, 3), True),
    "order coordinates, sobol, 4 ranked": (order(sobol, 4), True),
    "order coordinates, sobol, all ranked": (order(sobol, 99), True),
    "order coordinates, hammersley, 3 ranked": (order(hammersley, 3), True),
    "order coordinates, kronecker, 3 ranked": (order(kronecker, 3), True),
    "order coordinates, lattice, 3 ranked": (order(lattice, 3), True),
    "importance 1.25 on the third gap": (order(sobol, 3, importance=1.25), True),
    "importance 1.5 on the third gap": (order(sobol, 3, importance=1.5), True),
    "hammersley, importance 1.25 on the third gap": (order(hammersley, 3, importance=1.25), True),
    "hammersley, importance 1.5 on the third gap": (order(hammersley, 3, importance=1.5), True),
    "hammersley, importance 1.25 on two gaps": (order(hammersley, 3, importance=1.25, gaps=(2, 3)), True),
    "hammersley, tilted by 0.2": (order(hammersley, 3, tilt=0.2), True),
    "hammersley, tilted by 0.4": (order(hammersley, 3, tilt=0.4), True),
    "hammersley, tilted by 0.6": (order(hammersley, 3, tilt=0.6), True),
    "hammersley, folded": (order(folded(hammersley), 3), True),
    "hammersley, gaps first": (order(hammersley, 3, coordinates=[3, 2, 1, 0, *range(4, 10)]), True),
    "hammersley, third gap first": (order(hammersley, 3, coordinates=[1, 3, 2, 0, *range(4, 10)]), True),
    "plain, gaussian coordinates, sobol": (gaussian(sobol, exact_last=False), False),
    "plain, order coordinates, sobol, 3 ranked": (order(sobol, 3, exact_last=False), False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model(parser)
    parser.add_argument("--networks", type=integer, default=32, help="noisy copies (default %(default)s)")
    parser.add_argument("--designs", default="", help="part of the names of those to try")
    args = parser.parse_args()
    model = load_model(args.model, args.task)
    networks = list(osp.NoiseEnsemble(model, scale=0.01, size=args.networks, seed=1, role="fitting"))
    keys = list(range(args.networks))
    correct = _core.count_correct_many([m._network for m in networks], model.task.name, TRUTH, keys)
    p = correct / TRUTH
    v = float(np.mean(p * (1 - p)))
    print(f"{'design':46s}" + "".join(f"{count:>16d}" for count in SIZES))
    for name, (make, exact_last) in DESIGNS.items():
        if args.designs not in name:
            continue
        cells = []
        for count, repeats in SIZES.items():
            errors = []
            for repeat in range(repeats):
                tables = make(model, count, np.random.default_rng([repeat, count]))[None]
                values = [_core.point_sums(m._network, tables, exact_last)[0][0] for m in networks]
                errors.append(np.mean((values - p) ** 2) - v / TRUTH)
            mean, spread = np.mean(errors), np.std(errors) / np.sqrt(repeats)
            cells.append(f"{v / mean / count:9.2f} ± {100 * spread / mean:2.0f}%")
        print(f"{name:46s}" + "".join(f"{cell:>16s}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
