"""Surprise accounting."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn
from outsample.cli import main

SWAP = np.array([[-1.0, 1.0], [1.0, -1.0]])


def test_arc_ten_parameter_network(models_dir):
    # ARC: 14 bits (10 signs, 4 comparisons with 1), 4 bits (the larger coefficient in four regions), about 22 bits (two
    # equalities to about 1 part in 2^11); about 40 in all.
    model = osp.load(models_dir / "algzoo_rnn_small.pth")
    found = osp.explain(model)
    assert (found.signs, found.comparisons, found.orderings) == (10, 4, 4)
    assert len(found.regions) == 6
    assert sum(r.holds_boundary for r in found.regions) == 2
    assert found.equalities == pytest.approx(22, abs=0.5)
    assert found.bits == pytest.approx(40, abs=0.5)
    assert found.error_rate == pytest.approx(7.743e-5, rel=1e-3)
    for region in found.regions:
        assert min(region.a_0, region.a_1) >= 0
    # The error rate follows from how nearly the coefficients agree: the angle between (a_1, a_0) and the diagonal.
    wedges = [abs(math.atan2(r.a_0, r.a_1) - math.pi / 4) for r in found.regions if r.holds_boundary]
    assert sum(wedges) / (2 * math.pi) == pytest.approx(found.error_rate, rel=1e-9)


def test_regions_cover_the_plane_and_describe_the_network():
    for seed in range(20):
        model = random_rnn(2, 2, seed=seed)
        regions = osp.explain(model).regions
        assert sum(r.high - r.low for r in regions) == pytest.approx(360)
        for region in regions:
            angle = math.radians(region.low + 0.3 * (region.high - region.low))
            x = np.array([math.cos(angle), math.sin(angle)])
            logits = model.forward(x).astype(float)
            assert logits[1] - logits[0] == pytest.approx(region.a_0 * x[0] - region.a_1 * x[1], abs=1e-5)


def test_an_exact_equality_counts_as_many_bits_as_the_weights_have():
    found = osp.explain(osp.RNN(SWAP, np.array([1.0, -1.0]), -SWAP))
    assert found.error_rate < 1e-14
    # One region, the whole plane, as the difference of the logits is the same everywhere.
    assert (len(found.regions), found.orderings, found.equalities) == (1, 0, 24)


def test_scale_of_neurons_is_not_surprising():
    model = random_rnn(2, 2, seed=3)
    scale = np.array([4.0, 0.5])
    other = osp.RNN(model.W_hh / scale * scale[:, None], model.W_hi * scale, model.W_oh / scale)
    assert osp.explain(other).bits == pytest.approx(osp.explain(model).bits, rel=1e-12)


def test_only_two_by_two():
    for model in (random_rnn(3, 2), random_rnn(2, 3), random_rnn(2, 2, "median")):
        with pytest.raises(ValueError, match="must have hidden_size 2, seq_len 2 and task"):
            osp.explain(model)
    with pytest.raises(ValueError, match="without biases"):
        osp.explain(random_rnn(2, 2, biases=True))


def test_surprise_left_by_an_estimate():
    # A density of 1 / (0.01 sqrt(2 pi)) over a width of 2^-20.
    e = osp.Estimate(0.9, 0.01)
    found = osp.surprise_left(e, 0.9, resolution=2.0**-20)
    assert found.prior == 20
    assert found.left == pytest.approx(20 - math.log2(100 / math.sqrt(2 * math.pi)), abs=1e-6)
    assert found.explained == found.prior - found.left
    # Three deviations off costs 4.5 nats more.
    off = osp.surprise_left(e, 0.93, resolution=2.0**-20)
    assert off.left - found.left == pytest.approx(4.5 / math.log(2), abs=1e-3)
    # As wide as the whole distribution: no surprise.
    assert osp.surprise_left(e, 0.9, resolution=0.2).left == pytest.approx(0, abs=1e-12)
    assert osp.surprise_left(e, 0.905, resolution=0.02).left == pytest.approx(
        -math.log2(0.5 * (math.erf(1.5 / math.sqrt(2)) + math.erf(0.5 / math.sqrt(2)))), rel=1e-12
    )


@pytest.mark.parametrize("distance", [0.0, 3.0, 30.0])
@pytest.mark.parametrize("width", [1e-6, 1e-4, 1e-2, 1.0])
def test_surprise_is_that_of_the_normal_distribution(distance, width):
    stats = pytest.importorskip("scipy.stats")
    low, high = distance - width / 2, distance + width / 2
    # In log space, from the upper tail.
    a, b = stats.norm.logsf(low), stats.norm.logsf(high)
    expected = -(a + math.log(-math.expm1(b - a))) / math.log(2)
    found = osp.surprise_left(osp.Estimate(0.5, 0.001), 0.5 + distance * 0.001, resolution=width * 0.001).left
    assert found == pytest.approx(expected, rel=2e-3, abs=1e-9)


def test_exact_estimates_and_priors():
    model = random_rnn(4, 3)
    exact = osp.ExactIntegration().estimate(model, 10**5)
    assert osp.surprise_left(exact, exact.value, resolution=1e-9).left == 0
    assert osp.surprise_left(exact, exact.value + 1e-6, resolution=1e-9).left == math.inf
    prior = osp.Estimate(0.8, 0.06)
    found = osp.surprise_left(exact, 0.8, resolution=1e-3, prior=prior)
    assert found.prior == pytest.approx(-math.log2(1e-3 / (0.06 * math.sqrt(2 * math.pi))), rel=1e-3)
    with pytest.raises(ValueError, match="estimate must state a standard error"):
        osp.surprise_left(osp.Estimate(0.5), 0.5, resolution=0.1)
    with pytest.raises(ValueError, match="prior must state a standard error"):
        osp.surprise_left(prior, 0.5, resolution=0.1, prior=osp.Estimate(0.5))
    for resolution in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="resolution must be positive"):
            osp.surprise_left(prior, 0.5, resolution=resolution)


def test_more_samples_leave_less_surprise():
    model = random_rnn(4, 3)
    truth = osp.ExactIntegration().estimate(model, 10**5).value
    left = [
        np.mean([
            osp.surprise_left(osp.MonteCarlo().estimate(model, n, rng=s), truth, resolution=2.0**-20).left
            for s in range(40)
        ])
        for n in (2**8, 2**12, 2**16)
    ]  # fmt: skip
    # Every factor of 16 in samples is worth 2 bits.
    assert np.diff(left) == pytest.approx([-2, -2], abs=0.6)


def test_command(tmp_path, capsys):
    small, other, long = (str(tmp_path / f"{name}.npz") for name in ("small", "other", "long"))
    random_rnn(2, 2, seed=3).save(small)
    random_rnn(4, 3, seed=3).save(other)
    random_rnn(3, 5, seed=3).save(long)
    assert main(["surprise", small]) == 0
    text = capsys.readouterr().out
    assert "signs 10 + comparisons with 1 4" in text
    assert "error rate" in text
    assert main(["surprise", small, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["bits"] == osp.explain(osp.load(small)).bits
    assert len(record["regions"]) >= 2
    assert main(["surprise", other, "--budget", "2**12", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["truth"] == osp.ExactIntegration().estimate(osp.load(other), 10**5).value
    assert 0 < record["bits_left"] < record["prior_bits"] == 20
    assert main(["surprise", long, "--truth-samples", "2**18"]) == 0
    assert "bits under a uniform prior" in capsys.readouterr().out
