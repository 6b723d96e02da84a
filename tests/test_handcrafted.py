"""Networks made by hand: that the neurons are what they are said to be, and the accuracies that follow."""

from __future__ import annotations

import math

import numpy as np
import pytest

import outsample as osp
from outsample import _core
from outsample.zoo._handcrafted import _leave_one_out, explain, handcrafted_accuracy


def errors(model, samples, key=1):
    return samples - _core.count_correct(model._network, model.task.name, samples, key)


def test_two_inputs_are_always_right(isa):
    model = osp.zoo.handcrafted(2)
    assert (model.hidden_size, set(model.W_hi)) == (2, {1.0, -1.0})
    assert errors(model, 2**22) == 0


@pytest.mark.parametrize("n", [2, 3])
def test_exact_accuracy(n):
    """Integration over the linear regions, which knows nothing of how the networks were made."""
    value = osp.ExactIntegration().estimate(osp.zoo.handcrafted(n), budget=10**9).value
    assert value == pytest.approx(handcrafted_accuracy(n), abs=1e-9)


def test_three_inputs(isa):
    model = osp.zoo.handcrafted(3)
    assert model.hidden_size == 4
    samples = 2**22
    rate = errors(model, samples) / samples
    assert rate < 1.5e-4  # 99.99%
    expected = 1 - handcrafted_accuracy(3)
    assert expected == pytest.approx(math.sqrt(3) / (2 * math.pi * 64**2), rel=1e-3)
    # The rest is the rounding of float32, which also makes errors.
    assert expected - 5 * math.sqrt(expected / samples) < rate < 1.5 * expected + 5 * math.sqrt(expected / samples)


def test_three_inputs_without_rounding():
    """In float64, the answers are wrong where the argument says, and only there."""
    x = np.random.default_rng(0).normal(size=(400_000, 3))
    model = osp.zoo.handcrafted(3)
    h = np.zeros((len(x), 4))
    for t in range(3):
        h = np.maximum(h @ model.W_hh.T.astype(float) + x[:, t : t + 1] * model.W_hi, 0)
    wrong = np.argmax(h @ model.W_oh.T.astype(float), axis=1) != model.task.target(x)
    s, w = x[:, 2] - (x[:, 0] + x[:, 1]) / 2, x[:, 1] - x[:, 0]
    expected = np.abs(w) < np.abs(s) / (2 * 64**2)
    assert expected.sum() > 10
    assert (wrong == expected).mean() > 1 - 1e-5


@pytest.mark.parametrize("n", [4, 5, 8, 10])
def test_leave_one_out(n, isa):
    model = osp.zoo.handcrafted(n)
    assert model.hidden_size == 2 * n + 2
    samples = 2**20
    expected = 1 - handcrafted_accuracy(n)
    assert expected == 2.0**-n
    rate = errors(model, samples) / samples
    assert abs(rate - expected) < 5 * math.sqrt(expected / samples) + 1e-5
    if n == 10:
        assert rate < 0.01


def test_leave_one_out_neurons():
    """Every neuron after every input is what `explain` says."""
    n = 7
    model = osp.zoo.handcrafted(n)
    x = np.random.default_rng(3).integers(-8, 9, size=(2000, n)).astype(float)  # exact in float32
    _, hidden = model.forward(x, hidden_states=True)

    def past(t):
        return np.concatenate([np.zeros((len(x), 1)), x[:, :t]], axis=1)

    for t in range(1, n + 1):
        M, before, last = past(t).max(1), past(t - 1).max(1), x[:, t - 1]
        neurons = [np.maximum(last, 0), np.maximum(-last, 0), M - last]
        for k in range(2, n + 1):
            neurons.append((np.delete(past(t), t - k + 1, axis=1).max(1) if k <= t else M) - last)
        neurons += [M - before, *(before - (x[:, t - k] if k <= t else 0) for k in range(2, n + 1))]
        np.testing.assert_array_equal(hidden[:, t], np.stack(neurons, axis=1))
    assert len(explain(n)) == model.hidden_size


def test_leave_one_out_is_wrong_only_without_positive_inputs():
    model = osp.zoo.handcrafted(6)
    x = np.random.default_rng(5).normal(size=(100_000, 6)).astype("f4")
    x[:50_000, 1:] = -np.abs(x[:50_000, 1:])  # at most one positive input
    right = model.forward(x).argmax(1) == model.task.target(x)
    largest = x.max(1)
    assert not right[largest < 0].any()
    assert right[largest > 0.001].mean() > 1 - 1e-4


def test_penalty_above_one_is_enough_for_two_positive_inputs():
    W_hh, W_hi, W_oh = _leave_one_out(5, 2.0)
    model = osp.RNN(W_hh, W_hi, W_oh)
    x = np.random.default_rng(0).normal(size=(50_000, 5)).astype("f4")
    x = x[(x > 0).sum(1) >= 2]
    assert (model.forward(x).argmax(1) == model.task.target(x)).mean() > 1 - 1e-4


@pytest.mark.parametrize("n", [2, 3, 4, 10])
def test_they_are_in_standard_form(n):
    model = osp.zoo.handcrafted(n)
    assert set(np.abs(model.W_hi)) <= {0.0, 1.0}
    assert model.standardized().digest == model.digest
    assert model.name == f"handcrafted_{model.hidden_size}_{n}"
    assert len(explain(n)) == model.hidden_size


@pytest.mark.parametrize(
    ("seq_len", "error", "message"),
    [(1, ValueError, "at least 2, got 1"), (2.5, TypeError, "must be an integer"), (True, TypeError, "an integer")],
)
def test_bad_seq_len(seq_len, error, message):
    with pytest.raises(error, match=message):
        osp.zoo.handcrafted(seq_len)
