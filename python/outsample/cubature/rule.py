"""Points together with their readout, and the Gauss-Newton training of both at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from outsample.cubature.points import Points

Floats = NDArray[np.floating]

#: Features of a scaled margin z are tanh(TEMPERATURES z); each is three times the one before, so that the tangent's
#: triple-angle formula gives the later ones from the first.
TEMPERATURES = np.array([0.5, 1.5, 4.5], dtype=np.float32)
_GELU = np.float32(0.851)


def features(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """tanh(0.5 z), tanh(1.5 z), tanh(4.5 z) of z (points, networks), as (points, 3, networks)."""
    result = np.empty((z.shape[0], 3, z.shape[1]), dtype=np.float32)
    np.tanh(TEMPERATURES[0] * z, out=result[:, 0])
    for k in (1, 2):
        u = result[:, k - 1]
        square = u * u
        result[:, k] = u * (square + 3) / (3 * square + 1)
    return result


def gelu(a: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """a (1 + tanh(0.851 a)) / 2 and its derivative."""
    t = np.tanh(_GELU * a)
    gate = np.float32(0.5) * (1 + t)
    return a * gate, gate + a * np.float32(0.5) * _GELU * (1 - t * t)


@dataclass(frozen=True, eq=False)
class Rule:
    """Points, features and readout: value = center + spread (b0 + linear . f + out . gelu(hidden f + bias)).

    f are the standardised features ``(features(margin / scale) - mean) / sd``, three per point.
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

    @property
    def units(self) -> int:
        """Hidden units of the readout."""
        return len(self.bias)

    def standardised(self, margins: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features (points, 3, networks) and their standardised form (3 points, networks)."""
        raw = features(margins / self.scale.astype(np.float32)[:, None])
        phi = raw.reshape(-1, margins.shape[1]) - self.mean.astype(np.float32)[:, None]
        phi /= self.sd.astype(np.float32)[:, None]
        return raw, phi

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
        return float((self.importance * (rule.predict(self.margins(rule.points)) - self.accuracy) ** 2).mean())

    def margins(self, points: Points) -> NDArray[np.float32]:
        """Margins (points, networks)."""
        return points.forest.margins(self.weights, self.hidden_size, self.outputs, self.threads)

    def tangents(self, points: Points, coefficients: NDArray[np.float32], block: slice) -> NDArray[np.float32]:
        """Derivatives (nodes, networks of the block) of the coefficients' sum of margins."""
        return points.forest.tangents(self.weights[block], self.hidden_size, self.outputs, coefficients, self.threads)


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
    margins = data.margins(points)
    center = float((data.importance * data.accuracy).mean())
    # Not zero, even if all networks are equally good (dead ones are).
    spread = max(float(np.sqrt((data.importance * (data.accuracy - center) ** 2).mean())), 1e-9)
    count = 3 * len(points)
    scale = np.maximum(margins.std(axis=1, dtype=np.float64), 1e-12)
    rule = Rule(
        points, scale, np.zeros(count), np.ones(count), center, spread, 0.0, np.zeros(count), np.zeros((0, count)),
        np.zeros(0), np.zeros(0),
    )  # fmt: skip
    gram, moment, mean = np.zeros((count, count)), np.zeros(count), np.zeros(count)
    target = ((data.accuracy - center) / spread * data.root).astype(np.float32)
    for i in range(0, len(data), 4096):
        block = slice(i, i + 4096)
        _, phi = rule.standardised(margins[:, block])
        phi *= data.root[block]
        gram += phi @ phi.T
        mean += phi @ data.root[block]
        moment += phi @ target[block]
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


def best_ridge(points: Points, data: TrainingSet, watch: TrainingSet) -> float:
    """The penalty among powers of ten (and halves between) that does best on networks that are not fitted on."""
    regression = _regression(points, data)
    margins = watch.margins(points)
    errors = {}
    for ridge in 10.0 ** np.arange(-5, -2.9, 0.5):
        error = regression.solved(float(ridge)).predict(margins) - watch.accuracy
        errors[float(ridge)] = float((watch.importance * error**2).mean())
    return min(errors, key=errors.__getitem__)


def with_units(rule: Rule, units: int, rng: np.random.Generator) -> Rule:
    """The same rule with random hidden units that contribute little yet."""
    count = len(rule.linear)
    return replace(
        rule,
        hidden=rng.standard_normal((units, count)) * 0.7 / np.sqrt(count),
        bias=0.5 * rng.standard_normal(units),
        out=0.02 * rng.standard_normal(units),
    )


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
        block: int = 6000,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.data, self.decay, self.hidden_decay, self.block = data, decay, hidden_decay, block
        self.rng = np.random.default_rng(0) if rng is None else rng
        self.damping = 0.1
        self.iterations = 30
        self._preconditioner: tuple[Floats, Floats] | None = None
        self._active: NDArray[np.intp] = np.empty(0, dtype=np.intp)

    def penalties(self, rule: Rule) -> Floats:
        """Penalty of each parameter."""
        p, u = len(rule.linear), rule.units
        free = np.zeros(u)
        return np.concatenate([[0.0], np.full(p + u, self.decay), free, np.full(u * p, self.decay * self.hidden_decay)])

    def objective(self, rule: Rule, margins: NDArray[np.float32]) -> float:
        """Weighted mean squared error in units of the labels' variance, plus the penalty."""
        error = (rule.predict(margins) - self.data.accuracy) / rule.spread
        return float((self.data.importance * error**2).mean() + self.penalties(rule) @ rule.parameters**2)

    def run(
        self,
        rule: Rule,
        steps: int,
        report: Callable[[int, Rule, float], None] | None = None,
        watch: TrainingSet | None = None,
    ) -> tuple[Rule, float]:
        """Take at most ``steps`` steps; the objective never rises.

        With ``watch``, networks that the steps do not see, the rule with the smallest error on those is returned, and
        the run ends when that has not fallen for five steps.
        """
        margins = self.data.margins(rule.points)
        best = self.objective(rule, margins)
        kept, kept_error, kept_value, since = rule, np.inf, best, 0
        if watch:
            kept_error = watch.error(rule)
        for step in range(steps):
            theta, dx = self._step(rule, margins, fresh=step % 4 == 0)
            for share in (1.0, 0.4):
                trial = self._moved(rule, share * theta, share * dx)
                trial_margins = self.data.margins(trial.points)
                value = self.objective(trial, trial_margins)
                if value < best:
                    break
            if value < best:
                gain = 1 - value / best
                rule, margins, best = trial, trial_margins, value
                self.damping = max(self.damping * (0.5 if share == 1.0 else 1.5), 1e-5)
                if report:
                    report(step, rule, value)
                if watch:
                    error = watch.error(rule)
                    since = 0 if error < kept_error else since + 1
                    if not since:
                        kept, kept_error, kept_value = rule, error, value
                if gain < 1e-4 or since == 5:
                    break
            else:
                self.damping *= 6
                if self.damping > 1e3:
                    break
        return (kept, kept_value) if watch else (rule, best)

    @staticmethod
    def _moved(rule: Rule, theta: Floats, dx: Floats, clip: float = 0.5) -> Rule:
        paths = rule.points.ancestors
        length = np.sqrt((dx[paths] ** 2).sum(axis=1))
        factor = np.ones(len(dx))
        np.minimum.at(factor, paths.ravel(), np.repeat(np.minimum(1, clip / np.maximum(length, 1e-12)), paths.shape[1]))
        moved = rule.with_parameters(rule.parameters + theta)
        return replace(moved, points=rule.points.moved(rule.points.x + dx * factor))

    def _step(self, rule: Rule, margins: NDArray[np.float32], fresh: bool) -> tuple[Floats, Floats]:
        data, n = self.data, len(self.data)
        if fresh or self._preconditioner is None:
            self._active = self._choose_active(rule.points)
        active = self._active
        p, u, q = len(rule.linear), rule.units, len(active)
        phi = np.empty((p, n), np.float32)
        tangent = np.empty((q, n), np.float32)
        g = np.empty((u, n), np.float32)
        slope = np.empty((u, n), np.float32)
        residual = np.empty(n, np.float32)
        inverse_sd = (1 / rule.sd).astype(np.float32)[:, None]
        inverse_scale = (TEMPERATURES / rule.scale[:, None]).astype(np.float32)[:, :, None]
        target = (data.accuracy - rule.center) / rule.spread
        for i in range(0, n, 4096):
            block = slice(i, min(i + 4096, n))
            raw, f = rule.standardised(margins[:, block])
            value, g[:, block], gate = rule.read(f)
            gate *= rule.out.astype(np.float32)[:, None]
            through = rule.linear.astype(np.float32)[:, None] + rule.hidden.T.astype(np.float32) @ gate
            through = (through * inverse_sd).reshape(raw.shape)
            through *= inverse_scale
            np.multiply(raw, raw, out=raw)
            through *= 1 - raw
            tangent[:, block] = data.tangents(rule.points, through.sum(axis=1), block)[active]
            phi[:, block], slope[:, block], residual[block] = f, gate, target[block] - value
        for array in (phi, tangent, g, slope, residual):
            array *= data.root / np.float32(np.sqrt(n))
        ones = data.root / np.float32(np.sqrt(n))
        # slope carries the root weight and phi must not twice: products use phi and the bare slope.
        bare = slope / ones

        if fresh or self._preconditioner is None:
            gram = phi @ phi.T
            gram[np.diag_indices(p)] += np.float32(self.decay + 1e-6 + self.damping)
            tgram = tangent @ tangent.T
            diagonal = np.diag(tgram).copy()
            tgram[np.diag_indices(q)] += np.float32(self.damping) * diagonal + np.float32(
                1e-3 * diagonal.mean() + 1e-12
            )
            self._preconditioner = (np.linalg.inv(gram), np.linalg.inv(tgram))
        feature_inverse, input_inverse = self._preconditioner

        slope_square = np.einsum("um,um->u", slope, slope)
        t_square = np.einsum("qm,qm->q", tangent, tangent)
        g_square = np.einsum("um,um->u", g, g)
        penalty = self.penalties(rule)
        damp = self.damping * np.concatenate(
            [[0.0], np.ones(p), g_square, slope_square, np.repeat(slope_square, p), t_square + 1e-3 * t_square.mean()]
        )  # fmt: skip
        damp[: 1 + p + 2 * u + u * p] += penalty + 1e-9
        cuts = np.cumsum([1, p, u, u, u * p])

        def forward(v: Floats) -> NDArray[np.float32]:
            b0, a, o, c, h, x = (part.astype(np.float32) for part in np.split(v, cuts))
            result: NDArray[np.float32] = b0 * ones + a @ phi + x @ tangent
            if u:
                result += o @ g + c @ slope + (bare * (h.reshape(u, p) @ phi)).sum(axis=0)
            return result

        def backward(r: NDArray[np.float32]) -> Floats:
            parts = [np.atleast_1d(ones @ r), phi @ r]
            if u:
                parts += [g @ r, slope @ r, ((bare * r) @ phi.T).ravel()]
            return np.concatenate([*parts, tangent @ r]).astype(np.float64)

        def precondition(v: Floats) -> Floats:
            b0, a, o, c, h, x = np.split(v, cuts)
            parts = [b0, feature_inverse @ a.astype(np.float32)]
            if u:
                parts += [
                    o / (g_square * (1 + self.damping) + self.decay + 1e-9),
                    c / (slope_square * (1 + self.damping) + 1e-9),
                    ((h.reshape(u, p).astype(np.float32) @ feature_inverse) / (slope_square[:, None] + 1e-3)).ravel(),
                ]
            return np.concatenate([*parts, input_inverse @ x.astype(np.float32)])

        r = backward(residual)
        r[: len(penalty)] -= penalty * rule.parameters
        solution = np.zeros_like(r)
        z = precondition(r)
        direction = z.copy()
        rz = start = float(r @ z)
        for _ in range(self.iterations):
            image = backward(forward(direction)) + damp * direction
            alpha = rz / float(direction @ image)
            solution += alpha * direction
            r -= alpha * image
            z = precondition(r)
            new = float(r @ z)
            if not new > 1e-4 * start:
                break
            direction = z + new / rz * direction
            rz = new
        dx = np.zeros(len(rule.points.x))
        dx[active] = solution[len(penalty) :]
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
