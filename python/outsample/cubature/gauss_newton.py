"""Gauss-Newton steps on the points and the readout of a rule at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from outsample.cubature.rule import Rule, TrainingSet

Floats = NDArray[np.floating]
_Inverse = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_PRECONDITIONER_NETWORKS = 4096
#: Networks in one block of derivatives: they are read twice per product, the second time from the cache.
_JACOBIAN_BLOCK = 1008
_JUDGES = 16384
#: Of the conjugate gradients: twice as many take twice the time of a step and gain less than more steps do.
_ITERATIONS = 15
_JACOBIAN_BYTES = 2.5e9


def approximate_inverse(columns: NDArray[np.float32], ridge: NDArray[np.floating]) -> _Inverse:
    """Multiplication of vectors (k,) or columns (k, any) by (C C' + diag(ridge))^-1, C of shape (k, m).

    Where k > m by the Woodbury identity, in time k m^2.
    """
    if len(columns) <= columns.shape[1]:
        gram = columns @ columns.T
        gram[np.diag_indices(len(gram))] += ridge.astype(np.float32)
        inverse = np.linalg.inv(gram)
        return lambda v: inverse @ v
    root = np.sqrt(ridge).astype(np.float32)[:, None]
    scaled = columns / root
    inner = scaled.T @ scaled
    inner[np.diag_indices(len(inner))] += 1
    inverse = np.linalg.inv(inner)

    def apply(v: NDArray[np.float32]) -> NDArray[np.float32]:
        w = v.reshape(len(v), -1) / root
        result: NDArray[np.float32] = (w - scaled @ (inverse @ (scaled.T @ w))) / root
        return result.reshape(v.shape)

    return apply


@dataclass(eq=False)
class _JacobianBlock:
    """Derivatives of some networks' standardised estimates. Every network counts by ``root``.

    The derivative with respect to a hidden unit's weights is ``slope`` times the features, which are kept once.
    """

    phi: NDArray[np.float32]  # features: the linear readout
    tangent: NDArray[np.float32]  # the inputs
    g: NDArray[np.float32]  # the hidden units' outputs
    slope: NDArray[np.float32]  # the hidden units' biases
    root: NDArray[np.float32]
    residual: NDArray[np.float32]

    def forward(self, parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The derivatives times a vector in parts. Linear part and hidden units in one product."""
        b0, a, o, c, h, x = parts
        through = np.concatenate([a, h]).reshape(-1, len(a)) @ self.phi
        result: NDArray[np.float32] = b0 + through[0] + x @ self.tangent
        if len(o):
            result += o @ self.g + c @ self.slope + (self.slope * through[1:]).sum(axis=0)
        result *= self.root
        return result

    def backward(self, r: NDArray[np.float32]) -> Floats:
        """The transposed derivatives times a vector."""
        r = r * self.root
        through = (self.phi @ np.concatenate([r[None], self.slope * r]).T).T
        parts = [
            np.atleast_1d(r.sum()), through[0], self.g @ r, self.slope @ r, through[1:].ravel(), self.tangent @ r
        ]  # fmt: skip
        return np.concatenate(parts).astype(np.float64)


class _Jacobian:
    """All derivatives at a rule, in blocks of networks that threads work on side by side.

    Sums over blocks are taken in order, so that they do not depend on the number of threads.
    """

    def __init__(self, rule: Rule, data: TrainingSet, pool: ThreadPoolExecutor) -> None:
        self.rule, self.data, self.pool = rule, data, pool
        p, u = len(rule.linear), rule.units
        self._cuts = np.cumsum([1, p, u, u, u * p])
        self.blocks = list(pool.map(self._block, data.blocks(_JACOBIAN_BLOCK)))
        sums = zip(*pool.map(self._block_squares, self.blocks), strict=True)
        self.squares: list[Floats] = [np.sum(part, axis=0) for part in sums]

    def _block(self, networks: slice) -> _JacobianBlock:
        rule, data = self.rule, self.data
        phi = data.features(rule, networks)
        value, g, slope = rule.read(phi)
        slope *= rule.out.astype(np.float32)[:, None]
        through = rule.linear.astype(np.float32)[:, None] + rule.hidden.T.astype(np.float32) @ slope
        tangent = data.tangents(rule, through, networks)
        target = (data.accuracy[networks] - rule.center) / rule.spread
        root = data.root[networks] / np.float32(np.sqrt(len(data)))
        return _JacobianBlock(phi, tangent, g, slope, root, ((target - value) * root).astype(np.float32))

    @staticmethod
    def _block_squares(block: _JacobianBlock) -> tuple[Floats, ...]:
        share = block.root**2
        return tuple(np.einsum("um,um,m->u", part, part, share) for part in (block.g, block.slope, block.tangent))

    def split(self, v: Floats) -> list[Floats]:
        """A vector in parts: intercept, linear readout, out, bias, hidden, inputs."""
        return np.split(v, self._cuts)

    def some(self, networks: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features and derivatives with respect to inputs of the first networks, in place of all."""
        blocks = self.blocks[: max(1, networks // _JACOBIAN_BLOCK)]
        phi, tangent = (np.concatenate([getattr(b, name) for b in blocks], axis=1) for name in ("phi", "tangent"))
        root = np.concatenate([b.root for b in blocks]) * np.float32(np.sqrt(len(self.data) / phi.shape[1]))
        phi *= root
        tangent *= root
        return phi, tangent

    def gradient(self) -> Floats:
        """The transposed derivatives times the residuals."""
        return self._sum(lambda block: block.backward(block.residual))

    def normal(self, v: Floats) -> Floats:
        """The transposed derivatives times the derivatives times a vector."""
        parts = [part.astype(np.float32) for part in self.split(v)]
        return self._sum(lambda block: block.backward(block.forward(parts)))

    def _sum(self, function: Callable[[_JacobianBlock], Floats]) -> Floats:
        total = np.zeros(1)
        for part in self.pool.map(function, self.blocks):
            total = total + part
        return total


class GaussNewton:
    """Damped Gauss-Newton steps on points and readout at once.

    The normal equations are solved by conjugate gradients on the Jacobian, which is kept (features, and derivatives
    with respect to the inputs through the readout) and never squared, except in the preconditioner: one block for the
    features, shared up to a factor by the linear part and every hidden unit, and one block for the inputs.

    Parameters
    ----------
    data : TrainingSet
    decay : float
        Penalty on the squared weights of the readout.
    hidden_decay : float
        Factor on the penalty for the hidden layer.
    batch : int
        Networks that the first step is computed from; at most half of all.
    damping : float
        Of the first step, in units of each parameter's curvature.
    """

    def __init__(
        self,
        data: TrainingSet,
        *,
        decay: float = 1e-4,
        hidden_decay: float = 0.1,
        batch: int = 32768,
        damping: float = 0.1,
    ) -> None:
        self.data, self.decay, self.hidden_decay = data, decay, hidden_decay
        self.batch = batch
        self.damping = damping
        self._preconditioner: tuple[_Inverse, _Inverse] | None = None

    def penalties(self, rule: Rule) -> Floats:
        """Penalty of each parameter."""
        p, u = len(rule.linear), rule.units
        free = np.zeros(u)
        return np.concatenate([[0.0], np.full(p + u, self.decay), free, np.full(u * p, self.decay * self.hidden_decay)])

    def objective(self, rule: Rule, data: TrainingSet) -> float:
        """Weighted mean squared error in units of the labels' variance, plus the penalty."""
        return float(data.error(rule) / rule.spread**2 + self.penalties(rule) @ rule.parameters**2)

    def run(
        self,
        rule: Rule,
        steps: int,
        watch: TrainingSet,
        report: Callable[[int, Rule, float], None] | None = None,
    ) -> Rule:
        """Take at most ``steps`` steps; returns the rule with the smallest error on ``watch``.

        Each step is computed on one part of the networks, and how much of it is taken is judged on some of the next
        part. Damping and number of networks follow from that. The damping falls while whole steps hold on networks
        that they were not computed from, and rises when they do not. Where less than half of a step holds, noise
        decides, and the next one is computed from twice as many networks. The run ends when the error on ``watch``,
        networks that no step sees, has not fallen for eight steps.
        """
        kept, kept_error, since = rule, watch.error(rule), 0
        batch, begin = min(self.batch, len(self.data) // 2), 0
        for step in range(steps):
            if begin + batch > len(self.data):
                begin = 0
            data = self.data.part(slice(begin, begin + batch))
            begin += batch
            judges = min(batch, _JUDGES)
            after = begin if begin + judges <= len(self.data) else 0
            judge = self.data.part(slice(after, after + judges))
            theta, dx = self._step(rule, data, fresh=step % 4 == 0)
            # A parabola through the objective at none, half and all of the step.
            none, half, all_ = (self.objective(self._moved(rule, s * theta, s * dx), judge) for s in (0.0, 0.5, 1.0))
            bend = none - 2 * half + all_
            share = float(np.clip(0.5 + (none - all_) / (4 * bend) if bend > 0 else all_ < none, 0.0, 1.0))
            trial = self._moved(rule, share * theta, share * dx)
            value = all_ if share == 1 else self.objective(trial, judge)
            if share < 0.5:
                batch = min(2 * batch, len(self.data) // 2, self._most_networks(rule))
            if share < 0.02 or value >= none:
                self.damping *= 4
                self._preconditioner = None
                if self.damping > 1e3:
                    break
                continue
            rule = trial
            self.damping = max(self.damping * (0.5 if share > 0.6 else 1.0 if share > 0.3 else 2.0), 1e-5)
            error = watch.error(rule)
            since = 0 if error < kept_error else since + 1
            if not since:
                kept, kept_error = rule, error
            if report:
                report(step, rule, error / rule.spread**2)
            if since == 8:
                break
        return kept

    def _most_networks(self, rule: Rule) -> int:
        """Networks whose Jacobian fits into memory."""
        return int(_JACOBIAN_BYTES / 4 / (len(rule.linear) + len(rule.points.x)))

    @staticmethod
    def _moved(rule: Rule, theta: Floats, dx: Floats, clip: float = 0.5) -> Rule:
        paths = rule.points.ancestors
        length = np.sqrt((dx[paths] ** 2).sum(axis=1))
        factor = np.ones(len(dx))
        np.minimum.at(factor, paths.ravel(), np.repeat(np.minimum(1, clip / np.maximum(length, 1e-12)), paths.shape[1]))
        moved = rule.with_parameters(rule.parameters + theta)
        return replace(moved, points=rule.points.moved(rule.points.x + dx * factor))

    def _step(self, rule: Rule, data: TrainingSet, fresh: bool) -> tuple[Floats, Floats]:
        with ThreadPoolExecutor(data.threads) as pool:
            jacobian = _Jacobian(rule, data, pool)
            return self._solve(rule, jacobian, fresh)

    def _solve(self, rule: Rule, jacobian: _Jacobian, fresh: bool) -> tuple[Floats, Floats]:
        p, u = len(rule.linear), rule.units
        g_square, slope_square, t_square = jacobian.squares
        if fresh or self._preconditioner is None:
            # The networks are in random order: some of them do for a preconditioner.
            phi, tangent = jacobian.some(_PRECONDITIONER_NETWORKS)
            t_mean = np.einsum("qm,qm->q", tangent, tangent)
            ridges = np.full(p, self.decay + 1e-6 + self.damping), self.damping * t_mean + 1e-3 * t_mean.mean() + 1e-12
            inverses = jacobian.pool.map(approximate_inverse, (phi, tangent), ridges)
            self._preconditioner = next(inverses), next(inverses)
        feature_inverse, input_inverse = self._preconditioner

        penalty = self.penalties(rule)
        damp = self.damping * np.concatenate(
            [[0.0], np.ones(p), g_square, slope_square, np.repeat(slope_square, p), t_square + 1e-3 * t_square.mean()]
        )  # fmt: skip
        damp[: len(penalty)] += penalty + 1e-9

        def precondition(v: Floats) -> Floats:
            b0, a, o, c, h, x = jacobian.split(v)
            parts = [b0, feature_inverse(a.astype(np.float32))]
            if u:
                parts += [
                    o / (g_square * (1 + self.damping) + self.decay + 1e-9),
                    c / (slope_square * (1 + self.damping) + 1e-9),
                    (feature_inverse(h.reshape(u, p).T.astype(np.float32)) / (slope_square + 1e-3)).T.ravel(),
                ]
            return np.concatenate([*parts, input_inverse(x.astype(np.float32))])

        r = jacobian.gradient()
        r[: len(penalty)] -= penalty * rule.parameters
        solution = np.zeros_like(r)
        z = precondition(r)
        direction = z.copy()
        rz = start = float(r @ z)
        for _ in range(_ITERATIONS):
            image = jacobian.normal(direction) + damp * direction
            alpha = rz / float(direction @ image)
            solution += alpha * direction
            r -= alpha * image
            z = precondition(r)
            new = float(r @ z)
            if not new > 1e-3 * start:
                break
            direction = z + new / rz * direction
            rz = new
        return solution[: len(penalty)], solution[len(penalty) :]
