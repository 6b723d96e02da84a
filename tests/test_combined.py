"""Merging an estimate of stated error with sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn
from outsample import _core
from outsample.estimators.combined import merge_accuracy, merge_by_variance
from outsample.estimators.student import student_quantile


class Advised(osp.Estimator):
    """A made-up method that costs so many forward passes and errs by a known amount."""

    league = "with advice"

    def __init__(self, *, cost: int, error: float | None, value: float = 0.5) -> None:
        self.cost = cost
        self.error = error
        self.value = value

    def minimum_budget(self, model):
        return max(self.cost, 1)

    @property
    def advice_cost(self):
        return osp.estimators.AdviceCost(1000.0, 2.0)

    def _estimate(self, model, task, budget, rng, threads):
        cost = osp.Cost(multiply_adds=self.cost * model.forward_multiply_adds, evaluations=self.cost)
        return osp.Estimate(value=self.value, standard_error=self.error, cost=cost)


def estimate(value: float, error: float, evaluations: float = 0, **settings) -> osp.Estimate:
    return osp.Estimate(value, error, osp.Cost(evaluations=evaluations), settings=settings)


def sampled(correct: int, n: int) -> osp.Estimate:
    p = correct / n
    return estimate(p, math.sqrt(p * (1 - p) / n), n)


def test_the_weights_are_the_numbers_of_equivalent_samples():
    # 0.8 ± 0.04 is a beta distribution worth 99 samples.
    merged = merge_accuracy(estimate(0.8, 0.04), sampled(270, 300))
    assert merged.value == pytest.approx((99 * 0.8 + 270) / 399, rel=1e-12)
    assert merged.weight == pytest.approx(300 / 399, rel=1e-12)
    assert merged.standard_error == pytest.approx(math.sqrt(merged.value * (1 - merged.value) / 400), rel=1e-12)
    assert math.isinf(merged.degrees)


@pytest.mark.parametrize("correct", [0, 1, 5, 10])
def test_a_count_of_none_or_all_is_no_certainty(correct):
    merged = merge_accuracy(estimate(0.8, 0.06), sampled(correct, 10))
    assert 0 < merged.weight < 0.5
    assert merged.standard_error > 0.04
    far = merge_accuracy(estimate(1.0, 0.001), sampled(10, 10))
    assert far.value == 1.0
    assert 0 < far.standard_error <= 0.0011


def test_a_prior_beyond_one_is_brought_back():
    merged = merge_accuracy(estimate(1.003, 0.004), sampled(990, 1000))
    assert 0.99 < merged.value < 1.0
    assert 0 < merged.standard_error < 0.004


def test_limits():
    prior = estimate(0.8, 0.05)
    assert merge_accuracy(prior, sampled(1, 2)).value == pytest.approx(0.8, abs=0.02)
    many = merge_accuracy(prior, sampled(600_000, 1_000_000))
    assert many.value == pytest.approx(0.6, abs=1e-4)
    assert many.standard_error == pytest.approx(math.sqrt(0.24 / 1e6), rel=1e-3)


def test_a_sampler_with_less_noise_counts_for_more():
    prior = estimate(0.8, 0.01)
    plain = merge_accuracy(prior, sampled(8000, 10_000))
    quiet = merge_accuracy(prior, estimate(0.8, math.sqrt(0.16 / 10_000 / 10), 10_000, replicates=8))
    assert quiet.weight > plain.weight
    assert quiet.standard_error < plain.standard_error
    assert 7 <= quiet.degrees < 20
    # Few replicates of few points that happen to agree are not a certainty.
    lucky = merge_accuracy(estimate(0.8, 0.06), estimate(1.0, 0.0, 8, replicates=8))
    assert lucky.weight < 0.4


def test_merging_by_variance():
    merged = merge_by_variance(estimate(2.0, 0.1), estimate(3.0, 0.1, 10**6))
    assert merged.value == pytest.approx(2.5, rel=1e-5)
    assert merged.standard_error == pytest.approx(0.1 / math.sqrt(2), rel=1e-5)
    assert merge_by_variance(estimate(2.0, 0.1), estimate(3.0, 0.0, 1)).value == 2.0


@pytest.mark.parametrize("degrees", [4, 7, 15, 100])
def test_student_quantile(degrees):
    stats = pytest.importorskip("scipy.stats")
    for p in (0.75, 0.95, 0.975):
        assert student_quantile(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=5e-3)


@pytest.mark.parametrize("n", [2, 10, 39, 200, 5000])
def test_calibrated_and_as_good_as_the_better_part(n):
    # Accuracies of mean 0.81 and deviation 0.06, as ARC's network has under 1% noise: worth 39 to 42 samples.
    rng = np.random.default_rng(n)
    runs = 20_000
    p = np.clip(rng.normal(0.81, 0.06, size=runs), 0, 1)
    count = rng.binomial(n, p)
    found = [merge_accuracy(estimate(0.81, 0.06), sampled(int(k), n)) for k in count]
    value, error = (np.array([getattr(m, name) for m in found]) for name in ("value", "standard_error"))
    coverage = (np.abs(value - p) <= 1.96 * error).mean()
    assert 0.93 < coverage < 0.97
    mse = ((value - p) ** 2).mean()
    assert mse <= 1.02 * min(((count / n - p) ** 2).mean(), ((0.81 - p) ** 2).mean())
    # The weights do not depend on the count, so the only bias is that towards the mean, which is none on average.
    assert abs((value - p).mean()) < 4 * math.sqrt(mse / runs)


@pytest.mark.parametrize("n", [16, 256, 4096])
def test_calibrated_with_a_sampler_that_estimates_its_variance(n):
    # A sampler with a third of plain sampling's variance, as measured on its own samples.
    rng = np.random.default_rng(n)
    runs = 4000
    p = np.clip(rng.normal(0.81, 0.06, size=runs), 0.02, 0.98)
    found = []
    for accuracy in p:
        concentration = 2.0  # beta-distributed samples: variance p (1 - p) / 3
        x = rng.beta(concentration * accuracy, concentration * (1 - accuracy), size=n)
        found.append(merge_accuracy(estimate(0.81, 0.06), estimate(x.mean(), x.std(ddof=1) / math.sqrt(n), n)))
    value, error = (np.array([getattr(m, name) for m in found]) for name in ("value", "standard_error"))
    coverage = (np.abs(value - p) <= 1.96 * error).mean()
    assert 0.925 < coverage < 0.975
    plain = p * (1 - p) / 3 / n
    assert ((value - p) ** 2).mean() <= 1.05 * min(plain.mean(), ((0.81 - p) ** 2).mean())


def test_on_networks_against_their_exact_accuracies():
    # The prior is fitted on other noisy copies than those that it is judged on.
    base = random_rnn(4, 3, seed=7)
    exact = osp.ExactIntegration()

    def accuracies(role, size):
        copies = osp.NoiseEnsemble(base, scale=0.2, size=size, seed=1, role=role)
        return copies, np.array([exact.estimate(m, budget=10**6).value for m in copies])

    _, fitted = accuracies("fitting", 300)
    copies, truth = accuracies("evaluation", 400)
    prior = osp.Constant(value=fitted.mean(), standard_error=fitted.std())
    both = osp.Combined(parts=[prior, osp.MonteCarlo()])
    seeds = np.random.SeedSequence(5).spawn(len(copies))
    for budget in (8, 64, 1024):
        found = [both.estimate(m, budget, rng=s) for m, s in zip(copies, seeds, strict=True)]
        plain = [osp.MonteCarlo().estimate(m, budget, rng=s) for m, s in zip(copies, seeds, strict=True)]
        value = np.array([e.value for e in found])
        mse = ((value - truth) ** 2).mean()
        better = min(((np.array([e.value for e in plain]) - truth) ** 2).mean(), ((fitted.mean() - truth) ** 2).mean())
        assert mse <= 1.05 * better
        inside = [
            low <= t <= high for t, (low, high) in zip(truth, (e.confidence_interval() for e in found), strict=True)
        ]
        assert 0.91 < np.mean(inside) < 0.985  # 400 networks: a deviation of 0.011


def test_budget_goes_first_to_advice_and_then_to_sampling():
    model = random_rnn(4, 3)
    both = osp.Combined(parts=[Advised(cost=40, error=0.01), osp.MonteCarlo()])
    e = both.estimate(model, budget=1000, rng=0)
    assert e.cost.multiply_adds == 1000 * model.forward_multiply_adds
    assert e.cost.evaluations == 1000
    assert e.settings["used"] == ["advised", "monte-carlo"]
    assert e.method == "combined"
    # 0.5 ± 0.01 counts as 2,499 samples, and 960 were drawn.
    assert e.settings["sampling_weight"] == pytest.approx(960 / 3459, rel=1e-12)
    sample = osp.MonteCarlo().estimate(model, 960, rng=0)
    assert e.value == pytest.approx((2499 * 0.5 + 960 * sample.value) / 3459, rel=1e-12)

    # Below the advice's budget sampling works alone, and at its budget it has nothing left.
    alone = both.estimate(model, budget=39, rng=0)
    assert alone.settings["used"] == ["monte-carlo"]
    assert alone.value == osp.MonteCarlo().estimate(model, 39, rng=0).value
    assert alone.confidence_interval() == osp.MonteCarlo().estimate(model, 39, rng=0).confidence_interval()
    only = both.estimate(model, budget=40, rng=0)
    assert (only.settings["used"], only.value, only.standard_error) == (["advised"], 0.5, 0.01)
    assert both.minimum_budget(model) == 1
    assert both.advice_cost == (1000.0, 2.0)
    assert both.label == "advised + monte-carlo"
    assert both.estimate(model, 500, rng=3, threads=2).value == both.estimate(model, 500, rng=3).value


def test_three_parts_and_exact_parts():
    model = random_rnn(4, 3)
    three = osp.Combined(parts=[Advised(cost=5, error=0.1, value=0.4), Advised(cost=5, error=0.1), osp.MonteCarlo()])
    assert three.estimate(model, budget=10, rng=0).value == pytest.approx(0.45)
    assert three.estimate(model, budget=10, rng=0).standard_error == pytest.approx(0.1 / math.sqrt(2))
    exact = osp.Combined(parts=[osp.ExactIntegration(), osp.MonteCarlo()])
    e = exact.estimate(model, budget=10**5)
    assert (e.value, e.standard_error) == (osp.ExactIntegration().estimate(model, 10**5).value, 0.0)
    assert exact.estimate(model, budget=50, rng=0).settings["used"] == ["monte-carlo"]


def test_refusals():
    model = random_rnn(4, 3)
    with pytest.raises(ValueError, match="part advised states no standard error"):
        osp.Combined(parts=[Advised(cost=1, error=None), osp.MonteCarlo()]).estimate(model, 100)
    with pytest.raises(ValueError, match="part chance states no standard error"):
        osp.Combined(parts=[osp.Constant(), osp.MonteCarlo()]).estimate(model, 100)
    with pytest.raises(ValueError, match="one estimator of the sampling league and at least one other, got none"):
        osp.Combined(parts=[])
    with pytest.raises(ValueError, match="got monte-carlo, monte-carlo"):
        osp.Combined(parts=[osp.MonteCarlo(), osp.MonteCarlo()])
    with pytest.raises(TypeError, match="parts must be estimators"):
        osp.Combined(parts=[osp.MonteCarlo, osp.Constant()])
    with pytest.raises(ValueError, match="seq_len at most 3, got 5"):
        osp.Combined(parts=[osp.ExactIntegration(), osp.MonteCarlo()]).estimate(random_rnn(2, 5), 100)


def test_a_part_that_is_not_worth_its_cost_is_left_out():
    class Choosy(Advised):
        """Worth something up to 40 forward passes, and nothing to small networks."""

        by_shape = True

        def useful_budget(self, model, budget):
            return min(budget, 40) if model.hidden_size > 2 else 0

        def _estimate(self, model, task, budget, rng, threads):
            assert budget <= 40
            return super()._estimate(model, task, budget, rng, threads)

    both = osp.Combined(parts=[Choosy(cost=30, error=0.01), osp.MonteCarlo()])
    assert both.estimate(random_rnn(4, 3), 100, rng=0).settings["used"] == ["choosy", "monte-carlo"]
    alone = both.estimate(random_rnn(2, 3), 100, rng=0)
    assert alone.settings["used"] == ["monte-carlo"]
    assert alone.value == osp.MonteCarlo().estimate(random_rnn(2, 3), 100, rng=0).value
    with pytest.raises(ValueError, match="no part of method combined makes use of a budget of 1"):
        osp.Combined(parts=[Choosy(cost=1, error=0.1), osp.ConditionalMonteCarlo()]).estimate(random_rnn(2, 3), 1)


class Uneven(Advised):
    """As sure as the network's first weight is large."""

    by_shape = True

    def _estimate(self, model, task, budget, rng, threads):
        estimate = super()._estimate(model, task, budget, rng, threads)
        return osp.Estimate(0.5, self.error if model.W_hh[0, 0] > 0 else 10 * self.error, estimate.cost)


def test_samples_that_gain_less_than_a_hundredth_are_left_out():
    model = random_rnn(4, 3)
    both = osp.Combined(parts=[Advised(cost=40, error=0.01), osp.MonteCarlo()])  # worth 2,499 samples
    few, enough = (both.estimate(model, 40 + samples, rng=0) for samples in (24, 25))
    assert few.settings == {**both.settings, "used": ["advised"], "sampling_weight": 0.0}
    assert (few.value, few.standard_error) == (0.5, 0.01)
    assert few.cost.multiply_adds == 40 * model.forward_multiply_adds
    assert enough.settings["used"] == ["advised", "monte-carlo"]
    # A mean squared error may be known so well by few samples.
    median = random_rnn(4, 3, "median")
    parts = [Advised(cost=1, error=1e-4), osp.MonteCarlo()]
    assert len(osp.Combined(parts=parts).estimate(median, 25, rng=0).settings["used"]) == 2

    models = [random_rnn(4, 3, seed=s) for s in range(6)]
    assert len({m.W_hh[0, 0] > 0 for m in models}) == 2
    for error, used in ((0.01, {1, 2}), (0.05, {2}), (0.0005, {1})):
        both = osp.Combined(parts=[Uneven(cost=5, error=error), osp.MonteCarlo()])
        batch = both.estimate_many(models, 15, rng=1)
        assert {len(e.settings["used"]) for e in batch} == used
        for one, m, seed in zip(batch, models, np.random.SeedSequence(1).spawn(6), strict=True):
            single = both.estimate(m, 15, rng=seed)
            assert (one.value, one.settings) == (single.value, single.settings)
            assert one.cost.multiply_adds == single.cost.multiply_adds


@pytest.mark.parametrize("sampler", [osp.MonteCarlo(), osp.ConditionalMonteCarlo(), osp.QuasiMonteCarlo()])
@pytest.mark.parametrize("budget", [8, 400])
def test_a_batch_gives_the_same_as_single_networks(sampler, budget):
    models = [random_rnn(4, 3, seed=s) for s in range(7)]
    both = osp.Combined(parts=[osp.Constant(value=0.6, standard_error=0.1), Advised(cost=5, error=0.2), sampler])
    source = np.random.SeedSequence(3)
    for _ in range(2):  # the second time, the next children
        seeds = np.random.SeedSequence(3, n_children_spawned=source.n_children_spawned).spawn(len(models))
        batch = both.estimate_many(models, budget, rng=source)
        for one, model, seed in zip(batch, models, seeds, strict=True):
            single = both.estimate(model, budget, rng=seed)
            assert one.value == pytest.approx(single.value, rel=1e-9)
            assert one.standard_error == pytest.approx(single.standard_error, rel=1e-9)
            assert one.confidence_interval(0.9) == pytest.approx(single.confidence_interval(0.9), rel=1e-9)
            assert one.settings == single.settings
            assert one.cost.multiply_adds == single.cost.multiply_adds
    assert both.estimate_many([], budget) == []
    mixed = [random_rnn(4, 3), random_rnn(5, 4)]
    seeds = np.random.SeedSequence(1).spawn(2)
    for one, model, seed in zip(both.estimate_many(mixed, budget, rng=1), mixed, seeds, strict=True):
        assert one.value == both.estimate(model, budget, rng=seed).value


def test_conditional_monte_carlo_of_the_median_task_merges_by_variance():
    model = random_rnn(8, 5, "median", seed=7)
    truth = _core.sample_moments(model._network, "median", 1 << 22, 1)[0] / 2**22
    error = 0.015 * truth  # about that of the samples
    rng = np.random.default_rng(0)
    merged, sampled = [], []
    for seed in range(400):
        parts = [Advised(cost=1, error=error, value=rng.normal(truth, error)), osp.ConditionalMonteCarlo()]
        estimate = osp.Combined(parts=parts).estimate(model, 2001, rng=seed)
        assert estimate.settings["used"] == ["advised", "conditional-monte-carlo"]
        sample = osp.ConditionalMonteCarlo().estimate(model, 2000, rng=seed)
        assert estimate.standard_error < min(error, sample.standard_error)
        merged.append(((estimate.value - truth) / estimate.standard_error, estimate.value - truth))
        sampled.append(sample.value - truth)
    deviations, errors = np.array(merged).T
    assert 0.85 < np.sqrt(np.mean(deviations**2)) < 1.15
    assert np.mean(errors**2) < 0.9 * min(error**2, np.mean(np.square(sampled)))


def test_a_batch_with_an_exact_part():
    models = [random_rnn(4, 3, seed=s) for s in range(3)]
    exact = osp.Combined(parts=[osp.ExactIntegration(), osp.MonteCarlo()])
    assert [e.standard_error for e in exact.estimate_many(models, 10**5, rng=0)] == [0.0] * 3


@pytest.mark.parametrize("n", [4, 12, 24])
def test_few_samples_that_agree_do_not_outvote_a_good_prior(n):
    # Samples that are mostly 1, as conditional ones of an accurate network are; the prior is worth 800.
    rng = np.random.default_rng(n)
    runs = 5000
    p = np.clip(rng.normal(0.85, 0.03, size=runs), 0, 1)
    prior = p + rng.normal(0, np.sqrt(p * (1 - p) / 800))
    value = []
    for accuracy, known in zip(p, prior, strict=True):
        x = np.where(rng.random(n) < 0.6, rng.random(n) < accuracy, accuracy)
        sample = estimate(x.mean(), x.std(ddof=1) / math.sqrt(n), n)
        value.append(merge_accuracy(estimate(known, math.sqrt(0.1275 / 801)), sample).value)
    assert ((np.array(value) - p) ** 2).mean() <= 1.05 * ((prior - p) ** 2).mean()
