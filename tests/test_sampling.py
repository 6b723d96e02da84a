"""Random sampling: the stream, the counts, the estimator."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn
from outsample import _core


def test_counts_are_additive_and_do_not_depend_on_threads(isa):
    model = random_rnn(16, 10)
    whole = _core.count_correct(model._network, "2nd_argmax", 200_001, 7)
    assert _core.count_correct(model._network, "2nd_argmax", 200_001, 7, threads=3) == whole
    cuts = [0, 1, 63, 64, 70_000, 131_072, 200_001]
    parts = [_core.count_correct(model._network, "2nd_argmax", b - a, 7, first=a) for a, b in itertools.pairwise(cuts)]
    assert sum(parts) == whole


def test_many_is_one_after_another():
    models = [random_rnn(5, 4, seed=s) for s in range(3)]
    counts = _core.count_correct_many([m._network for m in models], "2nd_argmax", 70_000, [1, 2, 3], threads=2)
    single = [_core.count_correct(m._network, "2nd_argmax", 70_000, k) for m, k in zip(models, (1, 2, 3), strict=True)]
    assert counts.tolist() == single


def test_a_dead_network_predicts_position_0(isa):
    model = osp.RNN(np.zeros((2, 2)), np.zeros(2), np.zeros((4, 2)))
    estimate = osp.MonteCarlo().estimate(model, 100_000, rng=0)
    assert abs(estimate.value - 0.25) < 4 * estimate.standard_error


@pytest.mark.parametrize("arguments", [{"samples": -1}, {"first": -1}, {"threads": 0}, {"task": "nonsense"}])
def test_bad_arguments(arguments):
    given = {"task": "2nd_argmax", "samples": 10, "key": 1} | arguments
    with pytest.raises(ValueError, match=next(iter(arguments))):
        _core.count_correct(random_rnn(3, 3)._network, **given)
