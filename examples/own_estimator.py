"""A method of one's own: Monte Carlo with antithetic pairs, in numpy, against random sampling.

    outsample compare MODEL --methods own_estimator.py:AntitheticMonteCarlo

Without biases logits(-x) has nothing to do with logits(x), so pairs help little; this shows how to find that out.
"""

from __future__ import annotations

import numpy as np

import outsample as osp


class AntitheticMonteCarlo(osp.Estimator):
    """Mean over pairs x, -x."""

    league = "sampling"
    supports = frozenset({"2nd_argmax", "argmax", "argmedian"})

    def minimum_budget(self, model):
        return 4

    def _estimate(self, model, task, budget, rng, threads):
        pairs = budget // 2
        x = np.random.default_rng(rng).standard_normal((pairs, model.seq_len), dtype=np.float32)
        correct = [model.forward(z, threads=threads).argmax(axis=1) == task.target(z) for z in (x, -x)]
        means = np.mean(correct, axis=0)
        return osp.Estimate(
            value=float(means.mean()),
            standard_error=float(means.std(ddof=1) / np.sqrt(pairs)),
            cost=osp.Cost(multiply_adds=2.0 * pairs * model.forward_multiply_adds, evaluations=2.0 * pairs),
        )


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    weights = {"W_hh": rng.normal(size=(8, 8)) / 2, "W_hi": rng.normal(size=8), "W_oh": rng.normal(size=(4, 8))}
    ensemble = osp.NoiseEnsemble(osp.load(weights), scale=0.01, size=32)
    result = osp.compare([AntitheticMonteCarlo()], ensemble, budgets=[64, 1024], truth_samples=2**18, rounds=3)
    print(result.report())
