"""What a scrambled copy of the points becomes when its inputs trade places.

    python bench/input_orders.py MODEL [--points 16 64 256 4096]

The inputs are independent, so a copy stays one in any order of them. For each kind of order: the variance of an
estimate by one copy, in units of that in the order as made, and how much its errors are correlated with those of the
same copy as made, and with those of the same copy in another order of that kind. Over fresh scrambled copies of
Sobol's points and four noisy copies of the network, drawn for fitting. About a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

import outsample as osp
from outsample import _core
from outsample import low_discrepancy as ld
from outsample.cli._arguments import add_model, integer, load_model
from outsample.point_tables import make_table

#: Points evaluated for each number of points, all copies together.
POINTS = 2**17


def orders(n: int, rng: np.random.Generator) -> dict[str, Callable[[], np.ndarray]]:
    def from_a_random_one() -> np.ndarray:
        return (np.arange(n) + rng.integers(n)) % n

    def either_way() -> np.ndarray:
        return from_a_random_one()[:: rng.choice([-1, 1])]

    return {
        "as made": lambda: np.arange(n),
        "backwards": lambda: np.arange(n)[::-1],
        "from a random input on": from_a_random_one,
        "the same, either way": either_way,
        "any": lambda: rng.permutation(n),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model(parser)
    parser.add_argument("--points", type=integer, nargs="+", default=[16, 64, 256, 4096], help="of a copy")
    args = parser.parse_args()
    model = load_model(args.model, args.task)
    networks = [m._network for m in osp.NoiseEnsemble(model, scale=0.01, size=4, seed=7, role="fitting")]
    inputs = model.seq_len - 1
    kinds = orders(inputs, np.random.default_rng(0))
    print(f"{'points':>6}  {'order':24}{'variance':>10}{'with as made':>14}{'with another':>16}")
    for points in args.points:
        copies = max(POINTS // points, 64)
        value = np.empty((len(kinds), 2, len(networks), copies))
        for copy in range(copies):
            u = ld.sobol(points, ld.order_dimensions(inputs), rng=np.random.default_rng((points, copy)))
            x = ld.order_inputs(np.clip(u, 2.0**-32, 1 - 2.0**-32), inputs)
            for k, draw in enumerate(kinds.values()):
                for again in range(2):
                    table = make_table(x[:, draw()], model.task, exact_last=True)[None]
                    value[k, again, :, copy] = [_core.point_sums(network, table, True)[0][0] for network in networks]
        error = value - value.mean(axis=(0, 1, 3), keepdims=True)
        variance = np.mean(error**2, axis=(1, 2, 3))
        for k, name in enumerate(kinds):
            as_made = np.mean(error[0, 0] * error[k, 1]) / np.sqrt(variance[0] * variance[k])
            other = np.mean(error[k, 0] * error[k, 1]) / variance[k]
            print(f"{points:6d}  {name:24}{variance[k] / variance[0]:10.2f}{as_made:14.2f}{other:16.2f}", flush=True)


if __name__ == "__main__":
    main()
