"""Points together with their readout, and the Gauss-Newton training of both at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from outsample.cubature.points import Points

Floats = NDArray[np.floating]
_Result = TypeVar("_Result")

#: Features of a scaled margin z are tanh(TEMPERATURES z); each is three times the one before, so that the tangent's
#: triple-angle formula gives the later ones from the first.
TEMPERATURES = np.array([0.5, 1.5, 4.5], dtype=np.float32)
_GELU = np.float32(0.851)
_BLOCK = 4096


def features(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """tanh(0.5 z), tanh(1.5 z), tanh(4.5 z) of z (points, networks), as (points, 3, networks)."""
    result = np.empty((z.shape[0], 3, z.shape[1]), dtype=np.float32)
    np.tanh(TEMPERATURES[0] * z, out=result[:, 0])
    for k in (1, 2):
        u = result[:, k - 1]
        square = u * u
        result[:, k] = u * (square + 3) / (3 * square + 1)
    return result


def slopes(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Derivatives of `features` with respect to z, from their values, in place."""
    np.multiply(raw, raw, out=raw)
    np.subtract(1, raw, out=raw)
    raw *= TEMPERATURES[:, None]
    return raw


def powers(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """z, z^2 and tanh z of z (points, networks), as (points, 3, networks).

    A mean squared error is a quadratic function of what a network does at each input.
    """
    return np.stack([z, z * z, np.tanh(z)], axis=1)


def power_slopes(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Derivatives of `powers` with respect to z, from their values, in place."""
    np.multiply(raw[:, 0], 2, out=raw[:, 1])
    raw[:, 0] = 1
    np.subtract(1, raw[:, 2] ** 2, out=raw[:, 2])
    return raw


def gelu(a: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """a (1 + tanh(0.851 a)) / 2 and its derivative."""
    t = np.tanh(_GELU * a)
    gate = np.float32(0.5) * (1 + t)
    return a * gate, gate + a * np.float32(0.5) * _GELU * (1 - t * t)


@dataclass(frozen=True, eq=False)
class Rule:
    """Points, features and readout: value = center + spread (b0 + linear . f + out . gelu(hidden f + bias)).

    f are the standardised features ``(features(margin / scale) - mean) / sd``, three per point. With one output (the
    median task) the margin is the output, and they are ``(powers((margin - shift) / scale) - mean) / sd``; the right
    answer is a constant for each point, which the linear features make up for. For accuracies ``shift`` is empty.
    """

    points: Points
    scale: Floats
    mean: Floats
    sd: Floats
    center: float
    spread: float
    b0: float
    linear: Floats
    hidden: Floats
    bias: Floats
    out: Floats
    shift: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def units(self) -> int:
        """Hidden units of the readout."""
        return len(self.bias)

    def standardised(self, margins: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features (points, 3, networks) and their standardised form (3 points, networks)."""
        scale = self.scale.astype(np.float32)[:, None]
        if self.shift.size:
            raw = powers((margins - self.shift.astype(np.float32)[:, None]) / scale)
        else:
            raw = features(margins / scale)
        phi = raw.reshape(-1, margins.shape[1]) - self.mean.astype(np.float32)[:, None]
        phi /= self.sd.astype(np.float32)[:, None]
        return raw, phi

    def slopes(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Derivatives of the features (points, 3, networks) with respect to the margins, in place."""
        result = power_slopes(raw) if self.shift.size else slopes(raw)
        result *= (1 / self.scale).astype(np.float32)[:, None, None]
        return result

    def read(self, phi: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Standardised value, gelu of the hidden units and its derivative."""
        value = np.float32(self.b0) + self.linear.astype(np.float32) @ phi
        if not self.units:
            return value, np.empty((0, phi.shape[1]), np.float32), np.empty((0, phi.shape[1]), np.float32)
        g, slope = gelu(self.hidden.astype(np.float32) @ phi + self.bias.astype(np.float32)[:, None])
        return value + self.out.astype(np.float32) @ g, g, slope

    def predict(self, margins: NDArray[np.float32], block: int = 4096) -> Floats:
        """Estimates for networks with these margins (points, networks)."""
        parts = [
            self.read(self.standardised(margins[:, i : i + block])[1])[0] for i in range(0, margins.shape[1], block)
        ]
        return self.center + self.spread * np.concatenate(parts).astype(np.float64)

    @property
    def parameters(self) -> Floats:
        """b0, linear, out, bias, hidden, one after the other."""
        return np.concatenate([[self.b0], self.linear, self.out, self.bias, self.hidden.ravel()])

    def with_parameters(self, theta: Floats) -> Rule:
        """The same points with another readout."""
        p, u = len(self.linear), self.units
        linear, out, bias, hidden = np.split(theta[1:], np.cumsum([p, u, u]))
        return replace(self, b0=float(theta[0]), linear=linear, out=out, bias=bias, hidden=hidden.reshape(u, p))


@dataclass(eq=False)
class TrainingSet:
    """Networks with known accuracies, weighted.

    Attributes
    ----------
    weights : ndarray, shape (networks, parameters), float32
        W_hh, W_hi, W_oh of each network one after the other.
    accuracy : ndarray, shape (networks,)
        Labels.
    importance : ndarray, shape (networks,)
        Weight of each network's squared error, of mean 1.
    hidden_size, outputs : int
        Shape of the networks.
    threads : int
        Threads for the core.
    """

    weights: NDArray[np.float32]
    accuracy: Floats
    importance: Floats
    hidden_size: int
    outputs: int
    threads: int = 1
    root: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self.importance = self.importance / self.importance.mean()
        self.root = np.sqrt(self.importance).astype(np.float32)

    def __len__(self) -> int:
        return len(self.accuracy)

    def part(self, networks: slice) -> TrainingSet:
        """Some of the networks."""
        return replace(
            self,
            weights=self.weights[networks],
            accuracy=self.accuracy[networks],
            importance=self.importance[networks],
        )

    def error(self, rule: Rule) -> float:
        """Weighted mean squared error of a rule."""

        def total(block: slice) -> float:
            error = rule.predict(self.margins(rule.points, block, threads=1)) - self.accuracy[block]
            return float(self.importance[block] @ error**2)

        return sum(self.each_block(total)) / len(self)

    def blocks(self, size: int = _BLOCK) -> list[slice]:
        """The networks in parts, by default of a size whose margins fit into memory."""
        return [slice(i, min(i + size, len(self))) for i in range(0, len(self), size)]

    def each_block(self, function: Callable[[slice], _Result]) -> list[_Result]:
        """Results of a function of each block, in order, computed in threads."""
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(function, self.blocks()))

    def margins(self, points: Points, networks: slice = slice(None), threads: int | None = None) -> NDArray[np.float32]:
        """Margins (points, networks)."""
        return points.forest.margins(self.weights[networks], self.hidden_size, self.outputs, threads or self.threads)

    def tangents(self, points: Points, coefficients: NDArray[np.float32], block: slice) -> NDArray[np.float32]:
        """Derivatives (nodes, networks of the block) of the coefficients' sum of margins."""
        return points.forest.tangents(self.weights[block], self.hidden_size, self.outputs, coefficients)


@dataclass(eq=False)
class _Regression:
    """Normal equations of the linear readout of given points."""

    rule: Rule
    gram: Floats
    moment: Floats

    def solved(self, ridge: float) -> Rule:
        gram = self.gram.copy()
        gram[np.diag_indices(len(gram))] += ridge
        return replace(self.rule, linear=np.linalg.solve(gram, self.moment))


def _regression(points: Points, data: TrainingSet) -> _Regression:
    center = float((data.importance * data.accuracy).mean())
    # Not zero, even if all networks are equally good (dead ones are).
    spread = max(float(np.sqrt((data.importance * (data.accuracy - center) ** 2).mean())), 1e-9)
    count = 3 * len(points)
    some = data.margins(points, slice(4 * _BLOCK))
    scale = np.maximum(some.std(axis=1, dtype=np.float64), 1e-12)
    rule = Rule(
        points, scale, np.zeros(count), np.ones(count), center, spread, 0.0, np.zeros(count), np.zeros((0, count)),
        np.zeros(0), np.zeros(0), some.mean(axis=1, dtype=np.float64) if data.outputs == 1 else np.empty(0),
    )  # fmt: skip
    del some
    target = ((data.accuracy - center) / spread * data.root).astype(np.float32)

    def sums(block: slice) -> tuple[NDArray[np.float32], ...]:
        _, phi = rule.standardised(data.margins(points, block, threads=1))
        phi *= data.root[block]
        return phi @ phi.T, phi @ target[block], phi @ data.root[block]

    gram, moment, mean = np.zeros((count, count)), np.zeros(count), np.zeros(count)
    blocks = data.blocks()
    with ThreadPoolExecutor(data.threads) as pool:
        # A few at a time: a Gram matrix of a large rule takes half a gigabyte.
        for i in range(0, len(blocks), data.threads):
            for parts in pool.map(sums, blocks[i : i + data.threads]):
                for total, part in zip((gram, moment, mean), parts, strict=True):
                    total += part
    mean /= len(data)
    gram /= len(data)
    gram -= np.outer(mean, mean)
    # A floor: features that hardly vary must not get large weights, which float32 would not carry.
    sd = np.sqrt(np.maximum(np.diag(gram), 1e-4))
    gram /= np.outer(sd, sd)
    return _Regression(replace(rule, mean=mean, sd=sd), gram, moment / len(data) / sd)


def linear_rule(points: Points, data: TrainingSet, ridge: float) -> Rule:
    """The rule of given points whose linear readout is the weighted ridge regression on their features.

    Parameters
    ----------
    ridge : float
        Penalty on the squared weights of standardised features, relative to the mean squared error in units of the
        labels' variance.
    """
    return _regression(points, data).solved(ridge)


def best_linear_rule(points: Points, data: TrainingSet, watch: TrainingSet) -> Rule:
    """The ridge regression whose penalty, among powers of ten and halves between, does best on other networks."""
    regression = _regression(points, data)
    rules = (regression.solved(float(ridge)) for ridge in 10.0 ** np.arange(-5, -2.9, 0.5))
    return min(rules, key=watch.error)


def with_units(rule: Rule, units: int, rng: np.random.Generator) -> Rule:
    """The same rule with random hidden units that contribute little yet."""
    count = len(rule.linear)
    return replace(
        rule,
        hidden=rng.standard_normal((units, count)) * 0.7 / np.sqrt(count),
        bias=0.5 * rng.standard_normal(units),
        out=0.02 * rng.standard_normal(units),
    )


_Inverse = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_PRECONDITIONER_NETWORKS = 4096
#: Networks in one block of derivatives: they are read twice per product, the second time from the cache.
_JACOBIAN_BLOCK = 1024
_JUDGES = 16384
_JACOBIAN_BYTES = 4e9


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
    """Derivatives of some networks' standardised estimates, each times the root of the network's weight.

    The derivative with respect to a hidden unit's weights is ``bare`` times the features, which are kept once.
    """

    phi: NDArray[np.float32]  # features: the linear readout
    tangent: NDArray[np.float32]  # the active inputs
    g: NDArray[np.float32]  # the hidden units' outputs
    slope: NDArray[np.float32]  # the hidden units' biases
    bare: NDArray[np.float32]  # the same without the root weight
    ones: NDArray[np.float32]  # the intercept: the root weight itself
    residual: NDArray[np.float32]

    def forward(self, parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The derivatives times a vector in parts. Linear part and hidden units in one product."""
        b0, a, o, c, h, x = parts
        through = np.concatenate([a, h]).reshape(-1, len(a)) @ self.phi
        result: NDArray[np.float32] = b0 * self.ones + through[0] + x @ self.tangent
        if len(o):
            result += o @ self.g + c @ self.slope + (self.bare * through[1:]).sum(axis=0)
        return result

    def backward(self, r: NDArray[np.float32]) -> Floats:
        """The transposed derivatives times a vector."""
        through = (self.phi @ np.concatenate([r[None], self.bare * r]).T).T
        parts = [
            np.atleast_1d(self.ones @ r), through[0], self.g @ r, self.slope @ r, through[1:].ravel(), self.tangent @ r
        ]  # fmt: skip
        return np.concatenate(parts).astype(np.float64)


class _Jacobian:
    """All derivatives at a rule, in blocks of networks that threads work on side by side.

    Sums over blocks are taken in order, so that they do not depend on the number of threads.
    """

    def __init__(self, rule: Rule, data: TrainingSet, active: NDArray[np.intp], pool: ThreadPoolExecutor) -> None:
        self.rule, self.data, self.active, self.pool = rule, data, active, pool
        p, u = len(rule.linear), rule.units
        self._cuts = np.cumsum([1, p, u, u, u * p])
        self.blocks = list(pool.map(self._block, data.blocks(_JACOBIAN_BLOCK)))
        sums = zip(*pool.map(self._block_squares, self.blocks), strict=True)
        self.squares: list[Floats] = [np.sum(part, axis=0) for part in sums]

    def _block(self, networks: slice) -> _JacobianBlock:
        rule, data = self.rule, self.data
        raw, phi = rule.standardised(data.margins(rule.points, networks, threads=1))
        value, g, gate = rule.read(phi)
        gate *= rule.out.astype(np.float32)[:, None]
        through = rule.linear.astype(np.float32)[:, None] + rule.hidden.T.astype(np.float32) @ gate
        through *= (1 / rule.sd).astype(np.float32)[:, None]
        through = through.reshape(raw.shape)
        through *= rule.slopes(raw)
        tangent = data.tangents(rule.points, through.sum(axis=1), networks)[self.active]
        target = (data.accuracy[networks] - rule.center) / rule.spread
        ones = data.root[networks] / np.float32(np.sqrt(len(data)))
        residual = ((target - value) * ones).astype(np.float32)
        for array in (phi, tangent, g):
            array *= ones
        return _JacobianBlock(phi, tangent, g, gate * ones, gate, ones, residual)

    @staticmethod
    def _block_squares(block: _JacobianBlock) -> tuple[Floats, ...]:
        return tuple(np.einsum("um,um->u", part, part) for part in (block.g, block.slope, block.tangent))

    def split(self, v: Floats) -> list[Floats]:
        """A vector in parts: intercept, linear readout, out, bias, hidden, inputs."""
        return np.split(v, self._cuts)

    def some(self, networks: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features and derivatives with respect to inputs of the first networks, in place of all."""
        blocks = self.blocks[: max(1, networks // _JACOBIAN_BLOCK)]
        phi, tangent = (np.concatenate([getattr(b, name) for b in blocks], axis=1) for name in ("phi", "tangent"))
        share = np.float32(np.sqrt(len(self.data) / phi.shape[1]))
        return share * phi, share * tangent

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
    block : int
        Inputs moved in one step. If there are more, every few steps other random ones are chosen, whole trees at a
        time: memory and time grow with the square of this number.
    rng : Generator, optional
        For that choice.
    """

    def __init__(
        self,
        data: TrainingSet,
        *,
        decay: float = 1e-4,
        hidden_decay: float = 0.1,
        batch: int = 32768,
        block: int = 6000,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.data, self.decay, self.hidden_decay = data, decay, hidden_decay
        self.batch, self.block = batch, block
        self.rng = np.random.default_rng(0) if rng is None else rng
        self.damping = 0.1
        self.iterations = 30
        self._preconditioner: tuple[_Inverse, _Inverse] | None = None
        self._active: NDArray[np.intp] = np.empty(0, dtype=np.intp)

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
            if share < 0.5:
                batch = min(2 * batch, len(self.data) // 2, self._most_networks(rule))
            if share < 0.02 or self.objective(trial, judge) >= none:
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
        return int(_JACOBIAN_BYTES / 4 / (len(rule.linear) + min(self.block, len(rule.points.x))))

    @staticmethod
    def _moved(rule: Rule, theta: Floats, dx: Floats, clip: float = 0.5) -> Rule:
        paths = rule.points.ancestors
        length = np.sqrt((dx[paths] ** 2).sum(axis=1))
        factor = np.ones(len(dx))
        np.minimum.at(factor, paths.ravel(), np.repeat(np.minimum(1, clip / np.maximum(length, 1e-12)), paths.shape[1]))
        moved = rule.with_parameters(rule.parameters + theta)
        return replace(moved, points=rule.points.moved(rule.points.x + dx * factor))

    def _step(self, rule: Rule, data: TrainingSet, fresh: bool) -> tuple[Floats, Floats]:
        if fresh:
            self._active = self._choose_active(rule.points)
        with ThreadPoolExecutor(data.threads) as pool:
            jacobian = _Jacobian(rule, data, self._active, pool)
            return self._solve(rule, jacobian, fresh)

    def _solve(self, rule: Rule, jacobian: _Jacobian, fresh: bool) -> tuple[Floats, Floats]:
        p, u = len(rule.linear), rule.units
        g_square, slope_square, t_square = jacobian.squares
        if fresh or self._preconditioner is None:
            # The networks are in random order: some of them do for a preconditioner.
            phi, tangent = jacobian.some(_PRECONDITIONER_NETWORKS)
            t_mean = np.einsum("qm,qm->q", tangent, tangent)
            self._preconditioner = (
                approximate_inverse(phi, np.full(p, self.decay + 1e-6 + self.damping)),
                approximate_inverse(tangent, self.damping * t_mean + 1e-3 * t_mean.mean() + 1e-12),
            )
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
        for _ in range(self.iterations):
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
        dx = np.zeros(len(rule.points.x))
        dx[self._active] = solution[len(penalty) :]
        return solution[: len(penalty)], dx

    def _choose_active(self, points: Points) -> NDArray[np.intp]:
        """Nodes that the next steps move: all, or those of random trees."""
        if len(points.x) <= self.block:
            return np.arange(len(points.x))
        root_of = np.empty(len(points.x), dtype=np.intp)
        root_of[points.ancestors] = points.ancestors[:, :1]
        sizes = np.bincount(root_of)
        order = self.rng.permutation(len(sizes))
        count = max(1, int(np.searchsorted(np.cumsum(sizes[order]), self.block, side="right")))
        return np.flatnonzero(np.isin(root_of, order[:count]))
