"""Exact integration: against sampling, quadrature, closed forms, and itself."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn
from outsample import _core

ACCURACY_TASKS = [(1, "argmax"), (1, "argmedian"), (2, "2nd_argmax"), (2, "argmax")] + [
    (3, task) for task in ("2nd_argmax", "argmax", "argmedian")
]


def exact(model: osp.RNN) -> dict:
    return _core.integrate_exactly(model._network, model.task.name)


def forward64(model: osp.RNN, x: np.ndarray) -> np.ndarray:
    """The network in float64."""
    h = np.zeros((len(x), model.hidden_size))
    for t in range(model.seq_len):
        h = np.maximum(h @ model.W_hh.T.astype(float) + x[:, t : t + 1] * model.W_hi.astype(float), 0)
    return h @ model.W_oh.T.astype(float)


def correct64(model: osp.RNN, x: np.ndarray) -> np.ndarray:
    """Whether each answer is right; logits that agree up to rounding tie."""
    logits = forward64(model, x)
    top = logits.max(axis=1, keepdims=True)
    prediction = (logits >= top - 1e-12 * np.abs(logits).max(axis=1, keepdims=True)).argmax(axis=1)
    return prediction == model.task.target(x)


def integer_rnn(d: int, n: int, task: str, seed: int) -> osp.RNN:
    """Weights in {-1, 0, 1}: dead units, equal units and regions of ties."""
    rng = np.random.default_rng(seed)
    outputs = 1 if task == "median" else n
    shapes = (d, d), (d,), (outputs, d)
    return osp.RNN(*(rng.integers(-1, 2, size=s).astype(np.float32) for s in shapes), task=task, seq_len=n)


@pytest.mark.parametrize(("n", "task"), ACCURACY_TASKS)
@pytest.mark.parametrize("d", [1, 4, 17])
def test_agrees_with_sampling(n, task, d):
    model = random_rnn(d, n, task, seed=d + n)
    p = exact(model)["value"]
    samples = 150_000
    mean = correct64(model, np.random.default_rng(1).normal(size=(samples, n))).mean()
    assert abs(mean - p) <= 4.5 * math.sqrt(p * (1 - p) / samples) + 1e-12


@pytest.mark.parametrize(("n", "task"), ACCURACY_TASKS[2:])
def test_ties_on_whole_regions_go_to_the_lowest_index(n, task):
    for seed in range(12):
        model = integer_rnn(2 + seed % 3, n, task, seed)
        p = exact(model)["value"]
        samples = 30_000
        mean = correct64(model, np.random.default_rng(seed).normal(size=(samples, n))).mean()
        assert abs(mean - p) <= 4.5 * math.sqrt(p * (1 - p) / samples) + 1e-12, (seed, model.W_hh)
        assert exact(model)["error_bound"] < 1e-11


@pytest.mark.parametrize(("n", "task"), ACCURACY_TASKS)
def test_a_dead_network_predicts_position_zero(n, task):
    model = osp.RNN(np.zeros((3, 3)), np.zeros(3), np.ones((n, 3)), task=task)
    assert exact(model)["value"] == pytest.approx(1 / n, abs=1e-15)
    # Alive in the last input's positive half only, and then equally for all positions.
    half = osp.RNN(np.zeros((3, 3)), np.ones(3), np.ones((n, 3)), task=task)
    assert exact(half)["value"] == pytest.approx(1 / n, abs=1e-14)


def test_partly_dead_network():
    # Logits (0, relu(x_1)): position 1 is predicted where x_1 > 0, so 2nd_argmax is right on x_0 > x_1 > 0 and on
    # x_1 < 0 with x_0 < x_1.
    model = osp.RNN(np.zeros((1, 1)), np.ones(1), np.array([[0.0], [1.0]]))
    assert exact(model)["value"] == pytest.approx(1 / 8 + 1 / 8, abs=1e-15)


def test_the_network_that_is_always_right():
    # ARC's handcrafted network for n = 2 computes logits that differ by x_1 - x_0 in every region.
    swap = np.array([[-1.0, 1.0], [1.0, -1.0]])
    model = osp.RNN(swap, np.array([1.0, -1.0]), -swap)
    assert abs(exact(model)["value"] - 1) <= exact(model)["error_bound"] < 2e-14


def bisected_error_rate(model: osp.RNN) -> float:
    """Share of the circle on which a network of two inputs is wrong, by bisection of every change."""

    def right(theta):
        x = np.stack([np.cos(theta), np.sin(theta)], axis=1)
        return forward64(model, x).argmax(axis=1) == model.task.target(x)

    theta = np.linspace(0.1, 0.1 + 2 * np.pi, 400_001)
    ok = right(theta)
    at = np.flatnonzero(ok[1:] != ok[:-1])
    low, high, before = theta[at], theta[at + 1], ok[at]
    for _ in range(60):
        middle = (low + high) / 2
        same = right(middle) == before
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    edges = np.concatenate([[theta[0]], (low + high) / 2, [theta[-1]]])
    return float(np.diff(edges)[~right((edges[1:] + edges[:-1]) / 2)].sum() / (2 * np.pi))


def test_agrees_with_bisection_of_the_circle():
    for seed in range(3):
        model = random_rnn(6, 2, seed=seed)
        assert 1 - exact(model)["value"] == pytest.approx(bisected_error_rate(model), abs=1e-13)


def test_arc_ten_parameter_network(models_dir):
    model = osp.load(models_dir / "algzoo_rnn_small.pth")
    e = osp.ExactIntegration().estimate(model, budget=1000)
    assert 1 - e.value == pytest.approx(7.75e-5, rel=2e-3)
    assert 1 - e.value == pytest.approx(bisected_error_rate(model), abs=2e-14)
    assert e.settings["error_bound"] < 2e-14
    assert str(e).startswith("value 0.99992256850822")


def test_arc_ten_parameter_network_in_rational_arithmetic(models_dir):
    # Both units are active around the line x_0 = x_1, and the difference of the logits is a_0 x_0 - a_1 x_1 there, so
    # what is wrong is the angle between the rays (1, 1) and (a_1, a_0), whose tangent is (a_0 - a_1) / (a_0 + a_1).
    model = osp.load(models_dir / "algzoo_rnn_small.pth")
    W_hh, W_oh = ([[Fraction(float(w)) for w in row] for row in array] for array in (model.W_hh, model.W_oh))
    W_hi = [Fraction(float(w)) for w in model.W_hi]
    angle = 0.0
    for sign in (1, -1):
        first = [w if w * sign > 0 else Fraction(0) for w in W_hi]
        rows = [[W_hh[k][0] * first[0] + W_hh[k][1] * first[1], W_hi[k]] for k in (0, 1)]
        assert all(sum(row) * sign > 0 for row in rows)
        a_0, minus_a_1 = (sum((W_oh[1][k] - W_oh[0][k]) * rows[k][i] for k in (0, 1)) for i in (0, 1))
        angle += math.atan(abs(a_0 + minus_a_1) / (a_0 - minus_a_1))
    assert angle / (2 * math.pi) == pytest.approx(7.74314917800279e-5, rel=1e-14)
    assert 1 - exact(model)["value"] == pytest.approx(angle / (2 * math.pi), abs=3e-16)


@pytest.mark.parametrize("d", [1, 2, 4, 8, 16, 32])
def test_cells_cover_the_sphere(d):
    for n in (2, 3):
        found = exact(random_rnn(d, n, seed=d))
        assert abs(found["coverage"] - 1) * 4 * math.pi < 1e-12
        assert 0 < found["error_bound"] < 1e-11


def test_equivalent_networks_agree_within_the_stated_bound():
    # Neurons in another order, and all inputs' weights times 3: the same accuracy, other rounding.
    for n, task in ((2, "2nd_argmax"), (3, "2nd_argmax"), (3, "argmax")):
        rng = np.random.default_rng(n)
        d = 8
        W_hh, W_hi, W_oh = (rng.integers(-200, 200, size=s) / 64 for s in ((d, d), (d,), (n, d)))
        order = rng.permutation(d)
        a = exact(osp.RNN(W_hh, W_hi, W_oh, task=task))
        b = exact(osp.RNN(W_hh[order][:, order], 3 * W_hi[order], W_oh[:, order], task=task))
        assert a["value"] != 0.5
        assert abs(a["value"] - b["value"]) <= a["error_bound"] + b["error_bound"]


def test_a_network_that_reads_the_last_input_only():
    # Logits (0, ..., 0, relu(x_last)): right where the last input is positive and the largest, or where it is not
    # positive and the first is the largest.
    for n, value in (
        (2, 3 / 8 + 3 / 8),
        # P(x_2 largest) less all negative; P(x_0 largest) less x_0 > x_2 > 0 with x_1 positive or not.
        (3, (1 / 3 - 1 / 24) + (1 / 3 - 1 / 24 - 1 / 16)),
    ):
        W_oh = np.zeros((n, 1))
        W_oh[-1] = 1.0
        model = osp.RNN(np.zeros((1, 1)), np.ones(1), W_oh, task="argmax")
        assert exact(model)["value"] == pytest.approx(value, abs=1e-14)


def sphere_grid(count: int) -> np.ndarray:
    """Midpoint grid of the sphere, equal areas."""
    z = (np.arange(count) + 0.5) / count * 2 - 1
    phi = (np.arange(2 * count) + 0.5) / (2 * count) * 2 * np.pi
    r = np.sqrt(1 - z * z)
    z, phi, r = z[:, None], phi[None, :], r[:, None]
    return np.stack(np.broadcast_arrays(r * np.cos(phi), r * np.sin(phi), z), axis=-1).reshape(-1, 3)


@pytest.mark.parametrize("d", [2, 7])
def test_median_task_agrees_with_quadrature(d):
    model = random_rnn(d, 3, "median", seed=d)
    u = sphere_grid(600)
    squares = (forward64(model, u)[:, 0] - np.median(u, axis=1)) ** 2
    assert exact(model)["value"] == pytest.approx(3 * squares.mean(), rel=1e-4)

    model = random_rnn(d, 2, "median", seed=d)
    theta = (np.arange(400_000) + 0.5) / 400_000 * 2 * np.pi
    u = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    squares = (forward64(model, u)[:, 0] - np.median(u, axis=1)) ** 2
    assert exact(model)["value"] == pytest.approx(2 * squares.mean(), rel=1e-9)


@pytest.mark.parametrize(("n", "value"), [(1, 1.0), (2, 0.5), (3, 1 - math.sqrt(3) / math.pi)])
def test_median_task_of_a_dead_network_is_the_variance_of_the_median(n, value):
    model = osp.RNN(np.zeros((2, 2)), np.zeros(2), np.ones((1, 2)), task="median", seq_len=n)
    assert exact(model)["value"] == pytest.approx(value, abs=1e-14)


def test_median_task_by_hand_for_one_input():
    # Output relu(3 x) - 2 relu(-x): wrong by 2 x for x > 0 and by 2 (-x) + x for x < 0.
    model = osp.RNN(np.zeros((2, 2)), np.array([3.0, -1.0]), np.array([[1.0, -2.0]]), task="median", seq_len=1)
    assert exact(model)["value"] == pytest.approx(0.5 * 4 + 0.5 * 1, abs=1e-14)


def test_the_scale_of_the_weights_does_not_matter():
    for n in (2, 3):
        model = random_rnn(5, n)
        value = exact(model)["value"]
        for power in (-60, 60):
            scaled = osp.RNN(model.W_hh, model.W_hi * 2.0**power, model.W_oh * 2.0**power)
            assert exact(scaled) == exact(model)
        # Logits of about 2^-400: W_hh has no say beside W_hi.
        tiny = osp.RNN(*(w * np.float32(2.0**-100) for w in (model.W_hh, model.W_hi, model.W_oh)))
        limit = osp.RNN(model.W_hh * 0, model.W_hi, model.W_oh)
        assert abs(exact(tiny)["coverage"] - 1) < 1e-13
        assert exact(tiny)["value"] == pytest.approx(exact(limit)["value"], abs=1e-12)
        assert exact(tiny)["value"] != value


def test_the_same_for_any_number_of_threads():
    for n in (2, 3):
        model = random_rnn(16, n)
        one = _core.integrate_exactly(model._network, "2nd_argmax", 1)
        for threads in (2, 5):
            assert _core.integrate_exactly(model._network, "2nd_argmax", threads) == one


def test_estimate_is_exact_and_says_what_it_cost():
    model = random_rnn(4, 3)
    estimator = osp.ExactIntegration()
    minimum = estimator.minimum_budget(model)
    e = estimator.estimate(model, budget=minimum)
    assert e.standard_error == 0.0
    assert e.method == "exact"
    assert (minimum - 1) * model.forward_multiply_adds < e.cost.multiply_adds <= minimum * model.forward_multiply_adds
    assert e.cost.evaluations == e.settings["cells"] > 100
    low, high = e.confidence_interval(0.5)
    assert high - low == pytest.approx(2 * e.settings["error_bound"], rel=1e-2)
    with pytest.raises(ValueError, match=f"budget must be at least {minimum} for method exact"):
        estimator.estimate(model, budget=minimum - 1)


def test_refusals():
    estimator = osp.ExactIntegration()
    with pytest.raises(ValueError, match="seq_len at most 3, got 4"):
        estimator.estimate(random_rnn(2, 4), budget=10**6)
    with pytest.raises(ValueError, match="without biases"):
        estimator.estimate(random_rnn(2, 2, biases=True), budget=10**6)
    with pytest.raises(ValueError, match="without biases"):
        exact(random_rnn(2, 2, biases=True))
    with pytest.raises(ValueError, match="seq_len at most 3, got 4"):
        exact(random_rnn(2, 4))
