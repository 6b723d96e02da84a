"""Estimates of many networks at once."""

from __future__ import annotations

import pickle

import pytest

import outsample as osp
from outsample.estimators.batch import Batch


def test_estimates_are_made_when_they_are_asked_for():
    made = []

    def make(i: int) -> osp.Estimate:
        made.append(i)
        return osp.Estimate(float(i))

    batch = Batch(5, make)
    assert len(batch) == 5
    assert not made
    assert batch[-1].value == 4
    assert [e.value for e in batch[1:4:2]] == [1, 3]
    assert made == [4, 1, 3]
    assert [e.value for e in batch] == [0, 1, 2, 3, 4]
    with pytest.raises(IndexError):
        batch[5]


@pytest.mark.parametrize(
    "method",
    [osp.MonteCarlo(), osp.ConditionalMonteCarlo(), osp.QuasiMonteCarlo(), osp.DeterministicCubature()],
    ids=lambda m: m.label,
)
def test_a_batch_says_what_held_when_it_was_computed(method):
    models = list(osp.NoiseEnsemble(osp.zoo.load("2nd_argmax_16_10_1073741824_11"), scale=0.01, size=3, role="fitting"))
    isa = osp.build_info()["supported_isas"][0]
    with osp.use_isa(isa):
        batch = method.estimate_many(models, 256, rng=1)
    assert isinstance(batch, Batch)
    again = pickle.loads(pickle.dumps(batch))
    assert type(again) is list
    for one, other in zip(batch, again, strict=True):
        assert one.isa == other.isa == isa
        assert (one.value, one.standard_error, one.cost, one.settings) == (
            other.value,
            other.standard_error,
            other.cost,
            other.settings,
        )
        if one.standard_error is not None:
            assert one.confidence_interval() == other.confidence_interval()
