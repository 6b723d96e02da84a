"""Points together with their readout, and the ridge regression of the readout."""

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

#: Features per point with several outputs, what `point_features` in the core makes of a network's logits at a point:
#: three of the margin alone; also one of the right answer's logit and one of the second-best other one's; also the
#: squares of the first two.
FEATURES = (3, 5, 7)
#: Squashes how far the right answer's logit is above the second-best other one's, in units of the margin's deviation.
_RUNNER_UP = 0.7
_GELU = np.float32(0.851)
#: Networks whose features are held at once by each thread. Not a power of two: rows would share their cache sets.
_BLOCK = 1008
_STATISTICS = 4096


def gelu(a: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """a (1 + tanh(0.851 a)) / 2 and its derivative."""
    t = np.tanh(_GELU * a)
    gate = np.float32(0.5) * (1 + t)
    return a * gate, gate + a * np.float32(0.5) * _GELU * (1 - t * t)


@dataclass(frozen=True, eq=False)
class Rule:
    """Points, features and readout: value = center + spread (b0 + linear . f + out . gelu(hidden f + bias)).

    f are standardised features, ``(feature - mean) / sd``, three, five or seven per point (`FEATURES`). ``scale`` has
    shape (points, 1) or, for more than three, (points, 3): what the margin, the right answer's logit less ``shift``,
    and that logit less the second-best other one are divided by. With one output (the median task) features are z, z²
    and tanh z of z = (output - shift) / scale; the right answer is a constant for each point, which the linear features
    make up for. For three features of margins ``shift`` is empty.
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

    def features(self, weights: NDArray[np.float32], hidden_size: int, outputs: int) -> NDArray[np.float32]:
        """Standardised features (features, networks) of networks given by rows of weights."""
        return self.points.forest.features(
            weights, hidden_size, outputs, *self._scaling, self.mean.astype(np.float32),
            (1 / self.sd).astype(np.float32),
        )  # fmt: skip

    def tangents(
        self, weights: NDArray[np.float32], hidden_size: int, outputs: int, slope: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Derivatives (nodes, networks) of standardised values, given those by the units' biases (units, networks)."""
        coefficients = (self.linear / self.sd).astype(np.float32)
        if self.units:
            rows = np.concatenate([coefficients[None], (self.hidden / self.sd).astype(np.float32)])
            coefficients = rows.T @ np.concatenate([np.ones((1, len(weights)), np.float32), slope])
        return self.points.forest.tangents(weights, hidden_size, outputs, *self._scaling, coefficients)

    @property
    def _scaling(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return (1 / self.scale).astype(np.float32), self.shift.astype(np.float32)

    def read(self, phi: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Standardised value, gelu of the hidden units and its derivative."""
        value = np.float32(self.b0) + self.linear.astype(np.float32) @ phi
        if not self.units:
            return value, np.empty((0, phi.shape[1]), np.float32), np.empty((0, phi.shape[1]), np.float32)
        g, slope = gelu(self.hidden.astype(np.float32) @ phi + self.bias.astype(np.float32)[:, None])
        return value + self.out.astype(np.float32) @ g, g, slope

    def subset(self, points: NDArray[np.integer]) -> Rule:
        """The rule of some of the points of a linear readout; the others are left out of the sum."""
        index = np.arange(len(self.linear)).reshape(len(self.points), -1)[points].ravel()
        return replace(
            self, points=self.points.subset(points), scale=self.scale[points], mean=self.mean[index],
            sd=self.sd[index], linear=self.linear[index], hidden=self.hidden[:, index],
            shift=self.shift[points] if self.shift.size else self.shift,
        )  # fmt: skip

    def with_subset(self, points: NDArray[np.integer], part: Rule) -> Rule:
        """The rule with what has become of a `subset` of whole trees, its inputs and its share of the readout."""
        index = np.arange(len(self.linear)).reshape(len(self.points), -1)[points].ravel()
        x, linear = self.points.x.copy(), self.linear.copy()
        x[self.points.nodes_of(points)] = part.points.x
        linear[index] = part.linear
        return replace(self, points=self.points.moved(x), linear=linear, b0=part.b0)

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

    def features(self, rule: Rule, networks: slice) -> NDArray[np.float32]:
        """Standardised features (features, networks of the slice)."""
        return rule.features(self.weights[networks], self.hidden_size, self.outputs)

    def tangents(self, rule: Rule, slope: NDArray[np.float32], networks: slice) -> NDArray[np.float32]:
        """Derivatives (nodes, networks of the slice) of standardised values; ``slope`` as in `Rule.tangents`."""
        return rule.tangents(self.weights[networks], self.hidden_size, self.outputs, slope)

    def predict(self, rule: Rule) -> Floats:
        """The rule's estimates."""
        parts = self.each_block(lambda block: rule.read(self.features(rule, block))[0])
        return rule.center + rule.spread * np.concatenate(parts).astype(np.float64)

    def error(self, rule: Rule) -> float:
        """Weighted mean squared error of a rule."""
        return float(self.importance @ (self.predict(rule) - self.accuracy) ** 2) / len(self)

    def blocks(self, size: int = _BLOCK) -> list[slice]:
        """The networks in parts, by default of a size whose features fit into memory."""
        return [slice(i, min(i + size, len(self))) for i in range(0, len(self), size)]

    def each_block(self, function: Callable[[slice], _Result]) -> list[_Result]:
        """Results of a function of each block, in order, computed in threads."""
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(function, self.blocks()))

    def margins(self, points: Points) -> NDArray[np.float32]:
        """Margins (points, networks)."""
        return points.forest.margins(self.weights, self.hidden_size, self.outputs, self.threads)


def _unfitted(points: Points, data: TrainingSet, features: int) -> Rule:
    """The rule without a readout: features as they are, scaled by how the first networks' logits vary."""
    center = float((data.importance * data.accuracy).mean())
    # Not zero, even if all networks are equally good (dead ones are).
    spread = max(float(np.sqrt((data.importance * (data.accuracy - center) ** 2).mean())), 1e-9)
    some = data.part(slice(_STATISTICS))
    margins = some.margins(points)
    deviation = np.maximum(margins.std(axis=1, dtype=np.float64), 1e-12)
    scale, shift = deviation[:, None], np.empty(0)
    if data.outputs == 1:
        shift = margins.mean(axis=1, dtype=np.float64)
    elif features > 3:
        own = points.forest.signals(some.weights, data.hidden_size, data.outputs, data.threads)[:, 1]
        shift = own.mean(axis=1, dtype=np.float64)
        own_deviation = np.maximum(own.std(axis=1, dtype=np.float64), 1e-12)
        scale = np.stack([deviation, own_deviation, deviation / _RUNNER_UP], axis=1)
    count = features * len(points)
    return Rule(
        points, scale, np.zeros(count), np.ones(count), center, spread, 0.0, np.zeros(count), np.zeros((0, count)),
        np.zeros(0), np.zeros(0), shift,
    )  # fmt: skip


def plain_rule(points: Points, data: TrainingSet, features: int = 3) -> Rule:
    """The rule that estimates the mean accuracy: standardised features, and a readout of zeros."""
    rule = _unfitted(points, data, features)
    some = data.part(slice(_STATISTICS))
    total, square = np.zeros((2, len(rule.linear)))
    share = (some.importance / len(some)).astype(np.float32)

    def moments(block: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        raw = some.features(rule, block)
        first = raw @ share[block]
        raw *= raw
        return first, raw @ share[block]

    for first, second in some.each_block(moments):
        total += first
        square += second
    # A floor: features that hardly vary must not get large weights, which float32 would not carry.
    return replace(rule, mean=total, sd=np.sqrt(np.maximum(square - total**2, 1e-4)))


@dataclass(eq=False)
class _Regression:
    """Normal equations of the outer layer: linear readout and hidden units' outputs, all but the intercept."""

    rule: Rule
    gram: Floats
    moment: Floats
    mean: Floats
    target: float

    def solved(self, ridge: float) -> Rule:
        """The rule with the outer layer of this penalty."""
        gram = self.gram.copy()
        gram[np.diag_indices(len(gram))] += ridge
        solution = np.linalg.solve(gram, self.moment)
        linear, out = np.split(solution, [len(self.rule.linear)])
        return replace(self.rule, linear=linear, out=out, b0=float(self.target - self.mean @ solution))


def _regression(rule: Rule, data: TrainingSet) -> _Regression:
    target = ((data.accuracy - rule.center) / rule.spread * data.root).astype(np.float32)
    count = len(rule.linear) + rule.units

    def sums(block: slice) -> tuple[NDArray[np.float32], ...]:
        phi = data.features(rule, block)
        columns = np.concatenate([phi, rule.read(phi)[1]]) if rule.units else phi
        columns *= data.root[block]
        return columns @ columns.T, columns @ target[block], columns @ data.root[block]

    gram, moment, mean = np.zeros((count, count)), np.zeros(count), np.zeros(count)
    # Fewer sums of float32 to add where there are more features than networks in a block.
    blocks = data.blocks(4 * _BLOCK)
    with ThreadPoolExecutor(data.threads) as pool:
        # A few at a time: a Gram matrix of a large rule takes half a gigabyte.
        for i in range(0, len(blocks), data.threads):
            for parts in pool.map(sums, blocks[i : i + data.threads]):
                for total, part in zip((gram, moment, mean), parts, strict=True):
                    total += part
    mean /= len(data)
    gram /= len(data)
    gram -= np.outer(mean, mean)
    level = float(target @ data.root) / len(data)
    return _Regression(rule, gram, moment / len(data) - mean * level, mean, level)


def linear_rule(points: Points, data: TrainingSet, ridge: float, features: int = 3) -> Rule:
    """The rule of given points whose linear readout is the weighted ridge regression on their features.

    Parameters
    ----------
    ridge : float
        Penalty on the squared weights of standardised features, relative to the mean squared error in units of the
        labels' variance.
    features : int, default 3
        Features per point, one of `FEATURES`.
    """
    return _regression(plain_rule(points, data, features), data).solved(ridge)


def with_features(rule: Rule, data: TrainingSet, features: int) -> Rule:
    """The same linear readout of margins among more features per point, which do not count yet."""
    richer = plain_rule(rule.points, data, features)
    linear = np.zeros((len(rule.points), features))
    linear[:, :3] = rule.linear.reshape(len(rule.points), -1)
    return replace(richer, linear=linear.ravel(), b0=rule.b0)


def best_outer_layer(rule: Rule, data: TrainingSet, watch: TrainingSet, ridges: Sequence[float]) -> Rule:
    """The rule, or the one whose outer layer is the ridge regression on all networks, by what does best on others.

    The outer layer is the linear readout and the weights of the hidden units' outputs.
    """
    regression = _regression(rule, data)
    with ThreadPoolExecutor(data.threads) as pool:
        return min([rule, *pool.map(regression.solved, ridges)], key=watch.error)


def with_units(rule: Rule, units: int, rng: np.random.Generator) -> Rule:
    """The same rule with random hidden units that contribute little yet."""
    count = len(rule.linear)
    return replace(
        rule,
        hidden=rng.standard_normal((units, count)) * 0.7 / np.sqrt(count),
        bias=0.5 * rng.standard_normal(units),
        out=0.02 * rng.standard_normal(units),
    )
