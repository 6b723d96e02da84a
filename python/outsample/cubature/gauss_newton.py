"""Gauss-Newton steps on the points and the readout of a rule at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from outsample import _core
from outsample.cubature.rule import Rule, TrainingSet

Floats = NDArray[np.floating]
_Inverse = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_PRECONDITIONER_NETWORKS = 1024
#: Networks in one block of derivatives.
_JACOBIAN_BLOCK = 1008
_JUDGES = 8192
#: Of the conjugate gradients: twice as many take twice the time of a step and gain less than more steps do.
_ITERATIONS = 25
_JACOBIAN_BYTES = 2.5e9
#: More than this, and than so many per parameter, do not make steps better, only slower.
_MOST_NETWORKS, _NETWORKS_PER_PARAMETER = 65536, 3


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
    """Derivatives of some networks' standardised estimates. Every network counts by ``root``."""

    derivatives: _core.Jacobian
    residual: NDArray[np.float32]
    squares: tuple[Floats, ...]  # sums over networks: of hidden units, of their biases, of inputs
    kept: tuple[NDArray[np.float32], NDArray[np.float32]] | None  # features, and derivatives with respect to inputs


class _Jacobian:
    """All derivatives at a rule, in blocks of networks that threads work on side by side.

    Those of the first ``some`` networks are kept in full precision, too. Sums over blocks are taken in order, so that
    they do not depend on the number of threads.
    """

    def __init__(self, rule: Rule, data: TrainingSet, pool: ThreadPoolExecutor, some: int = 0) -> None:
        self.rule, self.data, self.pool = rule, data, pool
        p, u = len(rule.linear), rule.units
        self._cuts = np.cumsum([1, p, u, u, u * p])
        parts = data.blocks(_JACOBIAN_BLOCK)
        self.blocks = list(pool.map(self._block, parts, [part.start < some for part in parts]))
        sums = zip(*(block.squares for block in self.blocks), strict=True)
        self.squares: list[Floats] = [np.sum(part, axis=0) for part in sums]

    def _block(self, networks: slice, keep: bool) -> _JacobianBlock:
        rule, data = self.rule, self.data
        phi = data.features(rule, networks)
        value, g, slope = rule.read(phi)
        slope *= rule.out.astype(np.float32)[:, None]
        tangent = data.tangents(rule, slope, networks)
        target = (data.accuracy[networks] - rule.center) / rule.spread
        root = data.root[networks] / np.float32(np.sqrt(len(data)))
        share = root * root
        squares = tuple((part * part) @ share for part in (g, slope, tangent))
        residual = ((target - value) * root).astype(np.float32)
        derivatives = _core.Jacobian(phi, tangent, g, slope, root)
        return _JacobianBlock(derivatives, residual, squares, (phi * root, tangent * root) if keep else None)

    def split(self, v: Floats) -> list[Floats]:
        """A vector in parts: intercept, linear readout, out, bias, hidden, inputs."""
        return np.split(v, self._cuts)

    def some(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features and derivatives with respect to inputs of the networks that they were kept of, in place of all."""
        kept = [block.kept for block in self.blocks if block.kept]
        phi, tangent = (np.concatenate(parts, axis=1) for parts in zip(*kept, strict=True))
        factor = np.float32(np.sqrt(len(self.data) / phi.shape[1]))
        phi *= factor
        tangent *= factor
        return phi, tangent

    def gradient(self) -> Floats:
        """The transposed derivatives times the residuals."""
        return self._sum(lambda block: block.derivatives.transposed(block.residual))

    def normal(self, v: Floats) -> Floats:
        """The transposed derivatives times the derivatives times a vector."""
        along = v.astype(np.float32)
        return self._sum(lambda block: block.derivatives.normal(along))

    def _sum(self, function: Callable[[_JacobianBlock], NDArray[np.float32]]) -> Floats:
        total = np.zeros(self._cuts[-1] + len(self.rule.points.x))
        for part in self.pool.map(function, self.blocks):
            total += part
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
                batch = min(2 * batch, len(self.data) // 2, max(self.batch, self._most_networks(rule)))
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
        """Networks that a step is worth computing from, and whose Jacobian fits into memory."""
        parameters = len(rule.parameters) + len(rule.points.x)
        fit = int(_JACOBIAN_BYTES / 2 / (len(rule.linear) + len(rule.points.x)))
        return min(max(_MOST_NETWORKS, _NETWORKS_PER_PARAMETER * parameters), fit)

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
            if fresh or self._preconditioner is None:
                # The networks are in random order: some of them do for a preconditioner.
                jacobian = _Jacobian(rule, data, pool, _PRECONDITIONER_NETWORKS)
                self._preconditioner = self._inverses(jacobian)
            else:
                jacobian = _Jacobian(rule, data, pool)
            return self._solve(rule, jacobian, *self._preconditioner)

    def _inverses(self, jacobian: _Jacobian) -> tuple[_Inverse, _Inverse]:
        """Of the damped blocks for the features and for the inputs."""
        phi, tangent = jacobian.some()
        t_mean = np.einsum("qm,qm->q", tangent, tangent)
        ridges = (
            np.full(len(phi), self.decay + 1e-6 + self.damping),
            self.damping * t_mean + 1e-3 * t_mean.mean() + 1e-12,
        )
        inverses = jacobian.pool.map(approximate_inverse, (phi, tangent), ridges)
        return next(inverses), next(inverses)

    def _solve(
        self, rule: Rule, jacobian: _Jacobian, feature_inverse: _Inverse, input_inverse: _Inverse
    ) -> tuple[Floats, Floats]:
        p, u = len(rule.linear), rule.units
        g_square, slope_square, t_square = jacobian.squares
        penalty = self.penalties(rule)
        damp = self.damping * np.concatenate(
            [[0.0], np.ones(p), g_square, slope_square, np.repeat(slope_square, p), t_square + 1e-3 * t_square.mean()]
        )  # fmt: skip
        damp[: len(penalty)] += penalty + 1e-9

        def precondition(v: Floats) -> Floats:
            b0, a, o, c, h, x = jacobian.split(v)
            columns = feature_inverse(np.concatenate([a, h]).reshape(1 + u, p).T.astype(np.float32))
            return np.concatenate(
                [
                    b0,
                    columns[:, 0],
                    o / (g_square * (1 + self.damping) + self.decay + 1e-9),
                    c / (slope_square * (1 + self.damping) + 1e-9),
                    (columns[:, 1:] / (slope_square + 1e-3)).T.ravel(),
                    input_inverse(x.astype(np.float32)),
                ]
            )

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
