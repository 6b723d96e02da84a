"""Noise ensembles and protocols."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn
from outsample.noise import PROTOCOLS, require_fitting
from outsample.seeding import domain_seed

WEIGHTS = ("W_hh", "W_hi", "W_oh", "b_h", "b_o")


def same(a: osp.RNN, b: osp.RNN) -> bool:
    return a.digest == b.digest


@pytest.mark.parametrize("kind", ["multiplicative", "additive"])
def test_stacked_weights_are_those_of_the_models(kind):
    for biases in (False, True):
        ensemble = osp.NoiseEnsemble(random_rnn(5, 4, biases=biases), kind, scale=0.02, size=7, seed=3)
        stacked = ensemble.weights()
        assert len(ensemble) == len(list(ensemble)) == 7
        for i, model in enumerate(ensemble):
            for name in WEIGHTS:
                array, rows = getattr(model, name), getattr(stacked, name)
                assert (array is None) == (rows is None)
                if array is not None:
                    np.testing.assert_array_equal(array, rows[i])
        assert same(ensemble[-1], ensemble[6])
        assert [m.digest for m in ensemble[2:5]] == [ensemble[i].digest for i in (2, 3, 4)]
        with pytest.raises(IndexError, match="index must be"):
            ensemble[7]


def test_a_copy_does_not_depend_on_size_or_on_how_the_work_is_cut():
    model = random_rnn(4, 3)
    small, large = (osp.NoiseEnsemble(model, scale=0.01, size=size, seed=5) for size in (3, 300))
    assert all(same(a, b) for a, b in zip(small, large, strict=False))
    np.testing.assert_array_equal(large.normals(100, 110), large.normals()[100:110])


def test_the_noise_is_what_it_says():
    model = random_rnn(16, 10, seed=1)
    z = osp.NoiseEnsemble(model, scale=0.0, size=500).normals()
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / z.size)
    # No copy shares its noise with another, whole or shifted: largest correlation among 500 rows of 432 numbers.
    correlation = np.corrcoef(z) - np.eye(len(z))
    assert np.abs(correlation).max() < 6.5 / np.sqrt(z.shape[1])
    multiplicative = osp.NoiseEnsemble(model, scale=0.01, size=2, seed=9)
    np.testing.assert_allclose(
        multiplicative[1].W_hh, model.W_hh * (1 + 0.01 * multiplicative.normals()[1, :256].reshape(16, 16)), rtol=1e-6
    )
    additive = osp.NoiseEnsemble(model, "additive", scale=0.01, size=2, seed=9)
    np.testing.assert_allclose(additive[1].W_hi, model.W_hi + 0.01 * additive.normals()[1, 256:272], rtol=1e-5)
    assert same(osp.NoiseEnsemble(model, scale=0.0)[0], model)


def test_the_stream_is_fixed():
    """Published results name a protocol and its version; this noise belongs to version 1."""
    model = random_rnn(2, 2)
    z = PROTOCOLS["mul-0.01"].evaluation(model).normals(0, 2)
    np.testing.assert_allclose(z[:, :3], STREAM, rtol=1e-12)


STREAM = [
    [0.10179360037578546, -0.4777219957252239, 0.10220830502216952],
    [0.06880359898522034, -1.7355030590197449, -0.5409919005714111],
]


def test_fitting_and_evaluation_cannot_be_mixed_up():
    model = random_rnn(4, 3)
    rows = []
    for protocol, seed in itertools.product(PROTOCOLS.values(), (0, *(p.seed for p in PROTOCOLS.values()))):
        rows.append(protocol.fitting(model, 4, seed=seed).normals())
        require_fitting(protocol.fitting(model, 4, seed=seed))
    fitted = {row.tobytes() for block in rows for row in block}
    for protocol in PROTOCOLS.values():
        ensemble = protocol.evaluation(model)
        assert ensemble.size == 256
        assert not fitted & {row.tobytes() for row in ensemble.normals()}
        with pytest.raises(ValueError, match="role 'fitting'"):
            require_fitting(ensemble)
    with pytest.raises(ValueError, match="role 'fitting'"):
        require_fitting(osp.NoiseEnsemble(model, scale=0.1))
    with pytest.raises(TypeError, match="NoiseEnsemble"):
        require_fitting([model])


def test_evaluation_ensembles_of_the_protocols_are_independent():
    model = random_rnn(4, 3)
    rows = {row.tobytes() for p in PROTOCOLS.values() for row in p.evaluation(model).normals()}
    assert len(rows) == 256 * len(PROTOCOLS)


def test_domains_are_disjoint_from_each_other_and_from_spawned_children():
    domains = ("evaluation", "fitting", "truth", "estimation", "bootstrap")
    states = [domain_seed(name, 7, 1).generate_state(4).tobytes() for name in domains]
    states += [child.generate_state(4).tobytes() for child in np.random.SeedSequence(7).spawn(100)]
    assert len(set(states)) == len(states)


def test_ensembles_pickle():
    ensemble = osp.NoiseEnsemble(random_rnn(4, 3, biases=True), scale=0.01, size=3, role="fitting")
    again = pickle.loads(pickle.dumps(ensemble))
    assert again.settings == ensemble.settings
    assert same(again[2], ensemble[2])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": "x"}, TypeError, "model must be"),
        ({"kind": "uniform"}, ValueError, "kind must be one of multiplicative, additive, got 'uniform'"),
        ({"role": "test"}, ValueError, "role must be one of"),
        ({"scale": -1.0}, ValueError, "scale must be"),
        ({"scale": float("nan")}, ValueError, "scale must be"),
        ({"size": 0}, ValueError, "size must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "seed must not be negative"),
    ],
)
def test_bad_arguments(change, error, message):
    with pytest.raises(error, match=message):
        osp.NoiseEnsemble(**{"model": random_rnn(3, 3), "scale": 0.1, **change})


def test_bad_protocols():
    with pytest.raises(ValueError, match=r"protocol must be one of mul-0.01.*got 'mul-1'"):
        osp.get_protocol("mul-1")
    with pytest.raises(ValueError, match="size must be at most 256"):
        osp.PROTOCOLS["mul-0.01"].evaluation(random_rnn(3, 3), 257)
