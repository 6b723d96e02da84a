"""Labels and their ties, against definitions written out one input at a time, and in the core."""

from __future__ import annotations

import numpy as np
import pytest

import outsample as osp
from outsample import _core

POSITIONS = ("2nd_argmax", "argmax", "argmedian")


def by_definition(task, x):
    """Rank by value, larger first; among equals the earlier position ranks as the larger."""
    n = len(x)
    ranked = sorted(range(n), key=lambda i: (-x[i], i))
    if task == "median":
        middle = sorted(x)
        return middle[n // 2] if n % 2 else (middle[n // 2 - 1] + middle[n // 2]) / 2
    return ranked[{"2nd_argmax": 1, "argmax": 0, "argmedian": n // 2}[task]]


@pytest.mark.parametrize("task", [*POSITIONS, "median"])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 10, 11])
def test_targets(task, n):
    rng = np.random.default_rng(n)
    inputs = [rng.normal(size=(50, n)), rng.integers(0, 3, size=(200, n)).astype(float)]  # the second with many ties
    for x in inputs:
        target = osp.get_task(task).target(x)
        assert target.tolist() == [by_definition(task, row.tolist()) for row in x]
        assert osp.get_task(task).target(x[0]) == target[0]
        np.testing.assert_array_equal(osp.get_task(task).target(x.reshape(2, -1, n)), target.reshape(2, -1))


def test_a_tie_is_the_lower_position():
    assert osp.get_task("argmax").target([1.0, 3.0, 3.0]) == 1
    assert osp.get_task("2nd_argmax").target([3.0, 1.0, 3.0]) == 2
    assert osp.get_task("2nd_argmax").target([5.0, 3.0, 3.0]) == 1
    assert osp.get_task("2nd_argmax").target([0.0, -0.0]) == 1
    assert osp.get_task("argmedian").target([2.0, 2.0, 2.0]) == 1


def test_median_of_an_even_number_is_the_mean_of_two():
    assert osp.get_task("median").target([4.0, 1.0, 2.0, 10.0]) == 3


@pytest.mark.parametrize("task", ["2nd_argmax", "argmax"])
@pytest.mark.parametrize("n", [2, 3, 5, 10, 13])
def test_ties_of_logits_in_the_core(task, n, isa):
    """A network whose logits are all equal answers position 0."""
    model = osp.RNN(np.eye(3), np.ones(3), np.zeros((n, 3)), task=task)
    samples = 20_000
    right = _core.count_correct(model._network, task, samples, 1)
    assert abs(right / samples - 1 / n) < 5 * np.sqrt((n - 1) / n**2 / samples)
    first = osp.RNN(np.eye(3), np.ones(3), np.zeros((n, 3)), task=task, b_o=np.eye(n)[0])
    assert _core.count_correct(first._network, task, samples, 1) == right


@pytest.mark.parametrize("task", POSITIONS)
@pytest.mark.parametrize("n", [3, 5, 9, 11])
def test_ties_of_inputs_in_the_core(task, n, isa):
    """The core's labels are those of `Task.target`, with ties too: networks that always answer one position."""
    x = np.random.default_rng(n).integers(0, 3, size=(1000, n)).astype("f4")
    target = osp.get_task(task).target(x)
    counts = []
    for position in range(n):
        model = osp.RNN(np.eye(2), np.ones(2), np.zeros((n, 2)), task=task, b_o=np.eye(n)[position])
        counts.append(_core.loss_gradient(model._network, x, task)[1])  # the number of right answers
    assert counts == np.bincount(target, minlength=n).tolist()


@pytest.mark.parametrize(
    ("task", "seq_len", "message"),
    [
        ("2nd_argmax", 1, "seq_len must be at least 2 for task 2nd_argmax, got 1"),
        ("argmax", 0, "seq_len must be at least 1"),
        ("argmedian", 4, "seq_len must be odd for task argmedian, got 4"),
    ],
)
def test_seq_len(task, seq_len, message):
    with pytest.raises(ValueError, match=message):
        osp.get_task(task).check_seq_len(seq_len)


def test_get_task():
    for name, task in osp.TASKS.items():
        assert osp.get_task(name) is task is osp.get_task(task)
        assert task.output_size(7) == (1 if name == "median" else 7)
    with pytest.raises(ValueError, match=r"task must be one of 2nd_argmax, argmax, .* got 'sort'"):
        osp.get_task("sort")
    with pytest.raises(TypeError, match="task must be a string, got NoneType"):
        osp.get_task(None)
