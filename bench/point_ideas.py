"""Four ideas for better point rules that the package does not use, measured against the rule that it uses.

    python bench/point_ideas.py MODEL [--ideas weights lines regions]

The rule in use: Hammersley's points in order coordinates, three inputs ranked, the last input integrated exactly. MODEL
is a 2nd-argmax network; noisy copies of it drawn for fitting. "Worth" is how many random samples a point (or a line of
points) replaces, v / (mean squared error x points), averaged over rotations; ± is the spread of its ratio to the rule
in use under the same rotations. Prints

- weights: *calibration weighting* (J.-C. Deville, C.-E. Särndal, "Calibration estimators in survey sampling", J. Am.
  Stat. Assoc. 87, 1992): weights closest to equal ones, in squares, that integrate given functions of the points
  exactly. It is the same as the regression estimator with these functions as control variates (A. B. Owen, "Monte Carlo
  theory, methods and examples", chapter 8), but the weights do not depend on the network. With more functions than a
  quarter of the points, their means are met only nearly (ridge), by more even weights.
- lines: one more input, or the length of the input, integrated out by brute force on a line through every point: what
  an exact integral could gain at most; then how many linear pieces a line has and what they cost at least.
- regions: in how many ways the units can be on or off in the first steps, and what a table of the linear maps on these
  regions would save.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import outsample as osp
from outsample import _core
from outsample import low_discrepancy as ld
from outsample.cli._arguments import add_model, load_model
from outsample.estimators.conditional_monte_carlo import RuleCost
from outsample.point_tables import make_table

SIZES = {256: 64, 2048: 32, 16384: 8}  # points: rotations
TRUTH = 1 << 22
NODES = 32


def rotated(count: int, dimensions: int, repeat: int) -> np.ndarray:
    shift = np.random.default_rng([repeat, count]).random(dimensions)
    return np.clip(ld.hammersley(count, dimensions, shift=shift), 1e-10, 1 - 1e-10)


class Networks:
    """Noisy copies, their accuracies, and the scale of the squared errors."""

    def __init__(self, model: osp.RNN, size: int = 4) -> None:
        self.inputs = model.seq_len - 1
        self.copies = [m._network for m in osp.NoiseEnsemble(model, scale=0.01, size=size, seed=1, role="fitting")]
        self.p = np.array(_core.count_correct_many(self.copies, "2nd_argmax", TRUTH, list(range(size)))) / TRUTH
        self.v = float(np.mean(self.p * (1 - self.p)))

    def values(self, x: np.ndarray) -> np.ndarray:
        """Probability of a right answer given all inputs but the last, shape (networks, points)."""
        x = x.astype(np.float32)
        return np.array([_core.conditional_probabilities(m, "2nd_argmax", x) for m in self.copies], dtype=float)

    def error(self, estimates: np.ndarray) -> float:
        return float(np.mean((estimates - self.p) ** 2)) - self.v / TRUTH


def report(title: str, v: float, count: int, errors: list[float], usual: list[float]) -> None:
    e, u = np.array(errors), np.array(usual)
    spread = np.std(e / e.mean() - u / u.mean()) / np.sqrt(len(e))
    ratio = u.mean() / e.mean()
    print(f"{count:7d}  {title:52s}{v / e.mean() / count:8.2f}{ratio:8.2f} ± {100 * spread:2.0f}%", flush=True)


# Calibration weights


def products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a[:, :, None] * b[:, None]).reshape(len(a), -1)


def functions(u: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """Sets of functions of mean 0 and variance about 1.

    Who is largest and second-largest, Legendre polynomials of the coordinates of the three largest values, products.
    """
    n = x.shape[1]
    order = np.argsort(-x, axis=1)
    pair = order[:, 0] * (n - 1) + order[:, 1] - (order[:, 1] > order[:, 0])
    number = n * (n - 1)
    pairs = ((pair[:, None] == np.arange(number)) - 1 / number) * np.sqrt(number)
    t = 2 * u[:, 1:4] - 1
    first, second = np.sqrt(3) * t, np.sqrt(5) * (1.5 * t * t - 0.5)
    mixed = np.column_stack([first[:, i] * first[:, j] for i in range(3) for j in range(i)])
    values = np.hstack([first, second, mixed])
    squares = np.column_stack([x[:, i] * x[:, j] for i in range(n) for j in range(i)] + [(x * x - 1) / np.sqrt(2)])
    sets = {
        "polynomials of the values": values,
        "pairs": pairs,
        "inputs and their products": np.hstack([x, squares]),
        "pairs, polynomials": np.hstack([pairs, values]),
        "pairs, polynomials, pairs x values": np.hstack([pairs, values, products(pairs, first)]),
        "pairs, polynomials, pairs x polynomials": np.hstack([pairs, values, products(pairs, values)]),
    }
    return {f"{name} ({f.shape[1]})": f for name, f in sets.items() if f.shape[1] <= 1.5 * len(u)}


def calibrated(functions: np.ndarray) -> np.ndarray:
    """Weights of sum 1 that integrate functions of mean 0."""
    count, number = functions.shape
    mean = functions.mean(axis=0)
    centred = functions - mean
    ridge = number / count if 4 * number > count else 1e-9
    covariance = centred.T @ centred / count + ridge * np.eye(number)
    return (1 - centred @ np.linalg.solve(covariance, mean)) / count


def weights(networks: Networks) -> None:
    print(" points  calibration weights (functions)                         worth   ratio")
    for count, repeats in SIZES.items():
        errors: dict[str, list[float]] = {}
        for repeat in range(repeats):
            u = rotated(count, networks.inputs + 1, repeat)
            x = ld.order_inputs(u, networks.inputs)
            y = networks.values(x)
            errors.setdefault("equal weights", []).append(networks.error(y.mean(axis=1)))
            for title, f in functions(u, x).items():
                errors.setdefault(title, []).append(networks.error(y @ calibrated(f)))
        for title, e in errors.items():
            report(title, networks.v, count, e, errors["equal weights"])


# Lines


def second_largest(u: np.ndarray, k: int) -> np.ndarray:
    """Quantile of the second-largest of k uniforms."""
    grid = np.linspace(0, 1, 1 << 14) ** 0.5
    return np.interp(u, k * grid ** (k - 1) - (k - 1) * grid**k, grid)


def line(which: str, count: int, inputs: int, repeat: int, nodes: int) -> np.ndarray:
    """Points on a line through each of `count` points, evenly in probability, shape (count, nodes, inputs)."""
    q = (np.arange(nodes) + np.random.default_rng(repeat).random((count, 1))) / nodes
    if which.startswith("length"):
        u = rotated(count, inputs + 1, repeat)
        if which.endswith("demoted"):  # the largest value, which goes with the length, gets the last coordinate
            u = u[:, [0, inputs, *range(1, inputs)]]
        x = ld.order_inputs(u, inputs)
        r = np.linspace(0, 10, 1 << 12)
        cdf = np.cumsum(r ** (inputs - 1) * np.exp(-r * r / 2))
        return (x / np.linalg.norm(x, axis=1, keepdims=True))[:, None] * np.interp(q, cdf / cdf[-1], r)[:, :, None]
    if which == "last but one":
        x = ld.order_inputs(rotated(count, inputs, repeat), inputs - 1)
        x = np.repeat(x[:, None], nodes, axis=1)
        return np.concatenate([x, ld.normal_quantile(q)[:, :, None]], axis=2)
    # Order coordinates without that of the value in question: the values of the two ranked inputs that are left.
    u = rotated(count, inputs, repeat)[:, None]
    if which == "largest":
        second = second_largest(u[:, :, 1], inputs)
        third = second * u[:, :, 2] ** (1 / (inputs - 2))
        first = second + (1 - second) * q
    else:
        first = u[:, :, 1] ** (1 / inputs)
        third = first * second_largest(u[:, :, 2], inputs - 1)
        second = third + (first - third) * q
    ranked = [first**inputs, (second / first) ** (inputs - 1), (third / second) ** (inputs - 2)]
    columns = [*np.broadcast_arrays(u[:, :, 0], *ranked, q)[:4]]
    columns += [np.broadcast_to(u[:, :, j], q.shape) for j in range(3, inputs)]
    full = np.clip(np.stack(columns, axis=2).reshape(count * nodes, -1), 1e-12, 1 - 1e-12)
    return ld.order_inputs(full, inputs).reshape(count, nodes, inputs)


LINES = ("largest", "second-largest", "last but one", "length", "length, largest demoted")


def lines(networks: Networks, model: osp.RNN) -> None:
    inputs = networks.inputs
    print(" points  integrated out                                          worth   ratio")
    for count, repeats in list(SIZES.items())[:2]:

        def usual(multiple: int, count: int = count, repeats: int = repeats) -> list[float]:
            points = (ld.order_inputs(rotated(multiple * count, inputs + 1, r), inputs) for r in range(repeats))
            return [networks.error(networks.values(x).mean(axis=1)) for x in points]

        base = usual(1)
        report("the last input", networks.v, count, base, base)
        report("the last input, 4 times the points", networks.v, count, usual(4), base)
        for which in LINES:
            for nodes in (4, NODES):
                errors = []
                for repeat in range(repeats):
                    x = line(which, count, inputs, repeat, nodes)
                    errors.append(networks.error(networks.values(x.reshape(-1, inputs)).mean(axis=1)))
                report(f"the last input, {which}, {nodes} nodes", networks.v, count, errors, base)
    pieces_of_lines(networks, model)


def pieces_of_lines(networks: Networks, model: osp.RNN) -> None:
    """Cost of a line in forward passes if the states were recomputed on every piece only from what changes there on."""
    inputs, n, count, nodes = networks.inputs, model.seq_len, 256, 256
    x = ld.order_inputs(rotated(1 << 12, inputs + 1, 0), inputs)
    _, walked = _core.point_sums(networks.copies[0], make_table(x, model.task, exact_last=True)[None], True)
    point = RuleCost.of(model, exact_last=True).total(1 << 12, walked).multiply_adds / (1 << 12)
    point /= model.forward_multiply_adds
    walk = point - inputs / n
    print(f"forward passes per point {point:.2f}, of these the last step {walk:.2f}")
    print("line              pieces  steps recomputed  forward passes")
    for which in LINES[:3]:
        x = line(which, count, inputs, 0, nodes)
        on = patterns(model, x.reshape(-1, inputs)).reshape(count, nodes, inputs, -1)
        changed = np.any(on[:, 1:] != on[:, :-1], axis=3)  # count, nodes - 1, steps
        boundary = changed.any(axis=2)
        pieces = 1 + boundary.sum(axis=1).mean()
        # A state is a base and a slope: two products per step, from the step after the first change on.
        again = 2 * (inputs - 1 - np.argmax(changed, axis=2)[boundary]).sum() / count
        cost = (inputs + again) / n + pieces * walk
        print(f"{which:16s}{pieces:8.1f}{again:18.1f}{cost:16.1f}", flush=True)


def patterns(model: osp.RNN, x: np.ndarray) -> np.ndarray:
    """Which units are on after each step, shape (points, steps x units)."""
    padded = np.hstack([x, np.zeros((len(x), model.seq_len - x.shape[1]))]).astype(np.float32)
    _, states = model.forward(padded, hidden_states=True)
    return (states[:, 1 : x.shape[1] + 1] > 0).reshape(len(x), -1)  # the first state is the one before any input


# Region tables


def regions(model: osp.RNN) -> None:
    d = model.hidden_size
    x = np.random.default_rng(0).normal(size=(1 << 16, 4))
    on = patterns(model, x).reshape(len(x), 4, d)
    print("points   regions after 1, 2, 3, 4 steps   multiply-adds saved by tables after 2, 3, 4 steps")
    for count in (256, 2048, 16384, 65536):
        seen = [len(np.unique(np.packbits(on[:count, :t].reshape(count, -1), axis=1), axis=0)) for t in (1, 2, 3, 4)]
        # Step t + 1 from a table after t steps: (t + 1) d in place of d (d + 1) multiply-adds per point, and t d d for
        # every region. The first two steps are one in the core as it is.
        saved = [count * (d * (d + 1) - (t + 1) * d) - seen[t - 1] * t * d * d for t in (2, 3, 4)]
        shares = "".join(f"{100 * s / (count * model.forward_multiply_adds):9.1f}%" for s in saved)
        print(f"{count:6d}   {', '.join(str(s) for s in seen):32s}{shares}", flush=True)
    rng, count = np.random.default_rng(0), 4096
    h, weights = rng.random((count, d), dtype=np.float32), rng.random((d, d), dtype=np.float32)
    step = seconds(lambda: h @ weights)
    for t in (2, 3, 4):
        number = len(np.unique(np.packbits(on[:, :t].reshape(len(x), -1), axis=1), axis=0))
        table, region = rng.random((number, t * d), dtype=np.float32), rng.integers(0, number, count)
        gather = seconds(lambda table=table, region=region: table[region])
        print(f"gather of {t * d} numbers per point from {number} regions: {gather / step:.1f} times a step")


def seconds(function: Callable[[], object]) -> float:
    times = []
    for _ in range(300):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model(parser)
    ideas = ["weights", "lines", "regions"]
    parser.add_argument("--ideas", nargs="+", choices=ideas, default=ideas, help="which to measure (default: all)")
    args = parser.parse_args()
    model = load_model(args.model, args.task)
    networks = Networks(model)
    if "weights" in args.ideas:
        weights(networks)
    if "lines" in args.ideas:
        lines(networks, model)
    if "regions" in args.ideas:
        regions(model)


if __name__ == "__main__":
    main()
