"""Point rules and the exact last input."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import qmc
from scipy.stats import t as student_t

import outsample as osp
from conftest import random_rnn
from outsample import _core, low_discrepancy
from outsample.estimators.student import student_quantile
from outsample.point_tables import alike_together, make_table, side_by_side


def last_steps(model: osp.RNN, x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each x_1 ... x_{n-1}: these inputs, and of the last step what units start from and where they break."""
    W_hh, W_hi = model.W_hh.astype(float), model.W_hi.astype(float)
    b_h = np.zeros(len(W_hi)) if model.b_h is None else model.b_h.astype(float)
    for inputs in x.astype(float):
        h = np.zeros(len(W_hi))
        for value in inputs:
            h = np.maximum(W_hh @ h + W_hi * value + b_h, 0)
        c = W_hh @ h + b_h
        with np.errstate(all="ignore"):
            breaks = np.where(W_hi != 0, -c / W_hi, 0.0)
        yield inputs, c, breaks


def reference(model: osp.RNN, x: np.ndarray) -> np.ndarray:
    """P(right | first n - 1 inputs) in float64: the line of the last input cut at every breakpoint and crossing."""
    W_hi, W_oh = model.W_hi.astype(float), model.W_oh.astype(float)
    b_o = np.zeros(len(W_oh)) if model.b_o is None else model.b_o.astype(float)
    result = []
    for inputs, c, breaks in last_steps(model, x):
        cuts = np.unique(np.clip(np.concatenate([breaks, inputs, [-8, 8]]), -8, 8))
        logits = np.maximum(np.outer(cuts, W_hi) + c, 0) @ W_oh.T + b_o
        total = 0.0
        for low, high, at_low, at_high in zip(cuts, cuts[1:], logits, logits[1:], strict=False):
            label = model.task.target(np.append(inputs, (low + high) / 2))
            start, end = at_low[label] - at_low, at_high[label] - at_high
            with np.errstate(all="ignore"):
                crossing = start / (start - end)
            crossing = crossing[(crossing > 0) & (crossing < 1)]
            ends = np.concatenate([[low], np.sort(low + crossing * (high - low)), [high]])
            for a, b in itertools.pairwise(ends):
                # Row sums, so that equal rows give equal logits to the last bit.
                answer = np.argmax((W_oh * np.maximum(c + W_hi * (a + b) / 2, 0)).sum(axis=1) + b_o)
                total += (ndtr(b) - ndtr(a)) * (answer == label)
        result.append(total)
    return np.array(result)


def check_against_reference(model: osp.RNN, count: int = 64, seed: int = 0) -> None:
    x = np.random.default_rng(seed).normal(size=(count, model.seq_len - 1)).astype(np.float32)
    ours = _core.conditional_expectations(model._network, model.task.name, x)
    error = ours - reference(model, x)
    # Nearly parallel logits magnify the rounding of float32 weights in rare points.
    assert np.quantile(np.abs(error), 0.95) < 1e-4
    assert np.abs(error).max() < 5e-3
    assert abs(error.mean()) < 5e-5


@pytest.mark.parametrize("task", ["2nd_argmax", "argmax", "argmedian"])
@pytest.mark.parametrize(("d", "n"), [(16, 9), (4, 3), (1, 5), (32, 5), (8, 7), (12, 3), (20, 3), (40, 3)])
def test_exact_last_input_agrees_with_quadrature(isa, task, d, n):
    check_against_reference(random_rnn(d, n, task, seed=d + n))
    check_against_reference(random_rnn(d, n, task, seed=d + n, biases=True))


@pytest.mark.parametrize("d", [6, 16, 32])
@pytest.mark.parametrize("n", range(3, 13))
def test_exact_last_input_of_the_unrolled_shapes(isa, d, n):
    """From few breakpoints within range to all of them: a different sorting network for each number of keys."""
    model = random_rnn(d, n, seed=3)
    for scale in (0.1, 0.5, 1, 10):
        check_against_reference(osp.RNN(model.W_hh, scale * model.W_hi, model.W_oh, b_h=model.W_hi))


@pytest.mark.parametrize("first", [-9.0, -5.0, -4.5, 4.5, 5.0, 9.0])
def test_the_last_input_is_cut_off_where_it_hardly_matters(isa, first):
    model = osp.RNN(np.zeros((1, 1)), np.ones(1), np.array([[1.0], [0.0]]), "argmax")  # always answers 0
    p = _core.conditional_expectations(model._network, "argmax", np.array([[first]], dtype=np.float32))
    assert p[0] == pytest.approx(ndtr(first), abs=7e-6)


def test_exact_last_input_with_two_inputs(isa):
    check_against_reference(random_rnn(3, 2, seed=1), 200)
    check_against_reference(random_rnn(3, 2, "argmax", seed=2), 200)


def test_exact_last_input_of_odd_weights(isa):
    rng = np.random.default_rng(5)
    base = random_rnn(16, 10, seed=4)
    W_hi = base.W_hi.copy()
    W_hi[::2] = 0
    check_against_reference(osp.RNN(base.W_hh, W_hi, base.W_oh))
    W_hi[::2] = 1e-20
    check_against_reference(osp.RNN(base.W_hh, W_hi, base.W_oh))
    check_against_reference(osp.RNN(base.W_hh * 30, base.W_hi * 1e4, base.W_oh * 1e-3))
    repeated = base.W_oh[rng.integers(0, 3, 10)]  # equal logits everywhere
    check_against_reference(osp.RNN(base.W_hh, base.W_hi, repeated))


def test_dead_networks_answer_zero(isa):
    """All logits equal: the prediction is position 0, right with probability 1/n."""
    n = 5
    x = np.random.default_rng(0).normal(size=(500, n - 1)).astype(np.float32)
    one = np.ones((n, 4))
    for W_hi, W_oh in ((np.zeros(4), np.eye(n, 4)), (np.ones(4), one), (np.ones(4), 0 * one)):
        model = osp.RNN(np.eye(4), W_hi, W_oh)
        check_against_reference(model)
        p = _core.conditional_expectations(model._network, "2nd_argmax", x)
        assert abs(p.mean() - 1 / n) < 5 * p.std() / np.sqrt(500) + 1e-6
    # Dead on one half of the line only: the state is relu(+- y) of a network without memory.
    check_against_reference(osp.RNN(np.zeros((4, 4)), np.ones(4), np.random.default_rng(1).normal(size=(n, 4))))
    check_against_reference(osp.RNN(np.zeros((4, 4)), -np.ones(4), np.random.default_rng(2).normal(size=(n, 4))))


def squared_error_reference(model: osp.RNN, x: np.ndarray) -> np.ndarray:
    """E(squared error | first n - 1 inputs) in float64: Gauss-Legendre between the breakpoints, from -12 to 12."""
    W_hi, W_oh = model.W_hi.astype(float), model.W_oh.astype(float)
    b_o = 0.0 if model.b_o is None else float(model.b_o[0])
    nodes, weights = np.polynomial.legendre.leggauss(12)
    result = []
    for inputs, c, breaks in last_steps(model, x):
        cuts = np.unique(np.clip(np.concatenate([breaks, inputs, np.linspace(-12, 12, 49)]), -12, 12))
        half, middle = np.diff(cuts)[:, None] / 2, (cuts[1:] + cuts[:-1])[:, None] / 2
        y = (middle + half * nodes).ravel()
        density = (half * weights).ravel() * np.exp(-y * y / 2) / np.sqrt(2 * np.pi)
        medians = np.median(np.column_stack([np.tile(inputs, (len(y), 1)), y]), axis=1)
        result.append(density @ (np.maximum(np.outer(y, W_hi) + c, 0) @ W_oh[0] + b_o - medians) ** 2)
    return np.array(result)


def check_squared_errors(model: osp.RNN, count: int = 48, scale: float = 1.0) -> None:
    x = (scale * np.random.default_rng(0).normal(size=(count, model.seq_len - 1))).astype(np.float32)
    ours = _core.conditional_expectations(model._network, "median", x)
    np.testing.assert_allclose(ours, squared_error_reference(model, x), rtol=5e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("d", "n"), [(16, 10), (16, 9), (1, 5), (2, 2), (3, 2), (4, 3), (12, 4), (8, 7), (20, 3), (32, 6), (40, 5)]
)
def test_exact_squared_error_agrees_with_quadrature(isa, d, n):
    check_squared_errors(random_rnn(d, n, "median", seed=d + n))
    check_squared_errors(random_rnn(d, n, "median", seed=d + n, biases=True))


def test_exact_squared_error_of_inputs_and_breakpoints_out_of_range(isa):
    """The tails beyond the range of the walk count for nothing, also where many breakpoints are there."""
    base = random_rnn(16, 5, "median", seed=4)
    check_squared_errors(osp.RNN(base.W_hh, base.W_hi / 30, base.W_oh, task="median", seq_len=5))
    check_squared_errors(osp.RNN(base.W_hh / 30, base.W_hi * 30, base.W_oh / 30, task="median", seq_len=5))
    check_squared_errors(base, scale=4.0)


def test_exact_squared_error_of_dead_networks(isa):
    eye, one, row = np.eye(4), np.ones(4), np.ones((1, 4))
    for n in (2, 5, 6):
        for W_hh, W_hi, W_oh in ((eye, 0 * one, row), (eye, one, 0 * row), (0 * eye, one, row), (0 * eye, -one, row)):
            check_squared_errors(osp.RNN(W_hh, W_hi, W_oh, task="median", seq_len=n))
    tiny = np.array([1e-20, 0.0, -1e-20, 1.0])
    check_squared_errors(osp.RNN(eye, tiny, row, task="median", seq_len=5, b_h=one))


@pytest.mark.parametrize(("task", "n"), [("2nd_argmax", 2), ("2nd_argmax", 6), ("median", 2), ("median", 7)])
def test_conditional_sums_do_not_depend_on_threads(isa, task, n):
    network = random_rnn(8, n, task)._network
    whole = _core.conditional_sum(network, task, 5_000, 42)
    assert whole == _core.conditional_sum(network, task, 5_000, 42, threads=3)
    assert whole != _core.conditional_sum(network, task, 5_000, 43)


@pytest.mark.parametrize(
    ("task", "d", "n"),
    [
        ("2nd_argmax", 8, 6),
        ("2nd_argmax", 3, 2),
        ("2nd_argmax", 4, 3),
        ("argmax", 6, 5),
        ("argmedian", 4, 3),
        ("argmedian", 6, 7),
        ("median", 3, 2),
        ("median", 4, 3),
        ("median", 4, 4),
        ("median", 16, 7),
        ("median", 8, 8),
    ],
)
@pytest.mark.parametrize("strata", [1, 7, 8, 100, 3000])
def test_stratified_samples_are_unbiased_and_know_their_variance(isa, task, d, n, strata):
    model = random_rnn(d, n, task, seed=d)
    # The mean over random inputs of the same function, without strata.
    x = _core.normals(5, 0, 1 << 20, n)[:, : n - 1]
    p = _core.conditional_expectations(model._network, task, x)
    repeats = max(50, min(2000, 200_000 // strata))
    sums = np.array([_core.conditional_sum(model._network, task, strata, key)[:2] for key in range(repeats)])
    values, variances = sums[:, 0] / (2 * strata), sums[:, 1] / (2 * strata) ** 2
    error = np.sqrt(values.var(ddof=1) / repeats + p.var() / len(p))
    assert abs(values.mean() - p.mean()) < 4.5 * error
    # A variance of `repeats` values: relative deviation sqrt(2 / repeats), more for one stratum.
    assert values.var(ddof=1) / variances.mean() == pytest.approx(1, abs=5 * np.sqrt(2 / repeats))


def test_strata_take_away_what_positions_and_gaps_explain():
    """Variance within finer and finer strata never grows, and falls where positions matter."""
    model = random_rnn(8, 6, seed=7)
    variance = [
        np.mean([_core.conditional_sum(model._network, "2nd_argmax", s, key)[1] for key in range(2000 // s)]) / s / 2
        for s in (1, 40, 2000)
    ]
    assert variance[1] < variance[0]
    assert variance[2] < 0.8 * variance[0]


def test_uneven_strata_suit_trained_networks():
    """Boxes of different probabilities (multiples of 8 strata) against equal ones (all other numbers)."""
    network = osp.zoo.load("2nd_argmax_16_10_1073741824_1")._network
    uneven, even = (
        np.mean([_core.conditional_sum(network, "2nd_argmax", strata, key)[1] for key in range(100)]) / strata
        for strata in (400, 401)
    )
    assert uneven < 0.95 * even


@pytest.mark.parametrize("task", ["2nd_argmax", "argmedian"])
@pytest.mark.parametrize("strata", [1, 16, 3000])
def test_last_values_in_place_of_walks(isa, task, strata):
    """Where intervals are short: no more of them than allowed, unbiased, and an honest variance."""
    model = random_rnn(16, 7, task, seed=2)
    x = _core.normals(5, 0, 1 << 18, 7)[:, :6]
    p = _core.conditional_expectations(model._network, task, x)
    repeats = max(50, min(1000, 50_000 // strata))
    needed = _core.conditional_sum(model._network, task, strata, 0)[2] / (2 * strata)
    allowed = 12
    assert needed > allowed + 1
    results = np.array([_core.conditional_sum(model._network, task, strata, key, 1, allowed) for key in range(repeats)])
    values, variances = results[:, 0] / (2 * strata), results[:, 1] / (2 * strata) ** 2
    assert results[:, 2].max() <= 2 * strata * allowed
    assert strata < 3000 or results[:, 2].min() > 0.95 * 2 * strata * allowed
    assert abs(values.mean() - p.mean()) < 4.5 * np.sqrt(values.var(ddof=1) / repeats + p.var() / len(p))
    assert values.var(ddof=1) / variances.mean() == pytest.approx(1, abs=5 * np.sqrt(2 / repeats))
    once = _core.conditional_sum(model._network, task, strata, 0, 1, allowed)
    assert once == _core.conditional_sum(model._network, task, strata, 0, 3, allowed)
    # Points of a table: the same up to the spread of four values.
    table = make_table(x[:5000], model.task, exact_last=True)[None]
    (exact,), _ = _core.point_sums(model._network, table, True)
    (short,), walked = _core.point_sums(model._network, table, True, 1, allowed)
    assert walked <= 5000 * allowed
    assert 0 < abs(short - exact) < 4 * 0.25 / np.sqrt(5000)


@pytest.mark.parametrize("method", [osp.ConditionalMonteCarlo(), osp.DeterministicCubature()])
@pytest.mark.parametrize(("d", "n"), [(16, 10), (8, 7), (32, 8), (4, 4), (2, 3)])
def test_no_budget_is_overspent(method, d, n):
    """Not even by networks with more intervals than planned for."""
    for seed in range(3):
        model = random_rnn(d, n, seed=seed, biases=seed == 1)
        minimum = method.minimum_budget(model)
        for budget in (minimum, minimum + 3, 64, 256, 1000):
            estimate = method.estimate(model, max(budget, minimum), rng=seed)
            assert 0 < estimate.cost.multiply_adds <= max(budget, minimum) * model.forward_multiply_adds


def test_a_table_reorders_points_and_keeps_them():
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(100, 9)), rng.random(100).astype(np.float32)
    table = make_table(x, osp.get_task("2nd_argmax"), exact_last=True, weights=weights)
    columns = table.transpose(0, 2, 1).reshape(-1, table.shape[1])
    assert not columns[100:, -1].any()  # padding weighs nothing
    kept = np.column_stack([columns[:100, :9], columns[:100, -1]])
    given = np.column_stack([x.astype(np.float32), weights])
    assert sorted(map(tuple, kept)) == sorted(map(tuple, given))
    assert (columns[:100, 10] == x.astype(np.float32).max(axis=1)[alike_together(x.astype(np.float32))]).all()


@pytest.mark.parametrize("name", ["2nd_argmax_16_10_1073741824_11", "2nd_argmax_6_6_536870912_2"])
def test_points_that_share_a_vector_take_about_as_many_intervals(name):
    """How many the longest walk of each 16 points takes is what a table takes."""
    model = osp.zoo.load(name)
    inputs = model.seq_len - 1
    u = low_discrepancy.hammersley(3072, low_discrepancy.order_dimensions(inputs))
    x = low_discrepancy.order_inputs(u, inputs).astype(np.float32)
    h = np.zeros((len(x), model.hidden_size))
    for t in range(inputs):
        h = np.maximum(h @ model.W_hh.T + x[:, t, None] * model.W_hi, 0)
    within = (np.abs(h @ model.W_hh.T) < 4.5 * np.abs(model.W_hi)).sum(axis=1)

    def longest(order) -> float:
        return within[order].reshape(-1, 16).max(axis=1).mean()

    assert longest(alike_together(x)) < 0.98 * longest(np.arange(len(x)))


def test_fixed_points_have_weights_of_sum_one():
    table = osp.DeterministicCubature().prepare(random_rnn(16, 10), 256)[2].data
    weights = table[0, :, -1]
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert weights.max() > 1.5 * weights[weights > 0].min()


@pytest.mark.parametrize(("budget", "covers"), [(64, 0.87), (1000, 0.93)])
def test_conditional_monte_carlo_is_unbiased_and_states_its_error(budget, covers):
    model = random_rnn(8, 6, seed=7)
    truth = _core.count_correct(model._network, "2nd_argmax", 1 << 22, 1) / 2**22
    estimates = [osp.ConditionalMonteCarlo().estimate(model, budget, rng=seed) for seed in range(1000)]
    values = np.array([e.value for e in estimates])
    errors = np.array([e.standard_error for e in estimates])
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(1000) + 4 * np.sqrt(truth * (1 - truth) / 2**22)
    assert 0.9 < values.std() / np.sqrt(np.mean(errors**2)) < 1.1
    covered = [low <= truth <= high for low, high in (e.confidence_interval(0.95) for e in estimates)]
    assert covers < np.mean(covered) < 0.97
    # Rao and Blackwell: at equal numbers of samples the variance is below that of counting.
    assert np.mean(errors**2) * estimates[0].cost.evaluations < 0.9 * truth * (1 - truth)
    assert estimates[0].cost.multiply_adds <= budget * model.forward_multiply_adds


@pytest.mark.parametrize("n", [5, 6])
def test_conditional_monte_carlo_of_the_median_task(n):
    model = random_rnn(8, n, "median", seed=7)
    total, squares = _core.sample_moments(model._network, "median", 1 << 22, 1)
    truth = total / 2**22
    variance = squares / 2**22 - truth**2
    budget = 1000
    estimates = [osp.ConditionalMonteCarlo().estimate(model, budget, rng=seed) for seed in range(1000)]
    values = np.array([e.value for e in estimates])
    errors = np.array([e.standard_error for e in estimates])
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(1000) + 4 * np.sqrt(variance / 2**22)
    assert 0.9 < values.std() / np.sqrt(np.mean(errors**2)) < 1.1
    covered = [low <= truth <= high for low, high in (e.confidence_interval(0.95) for e in estimates)]
    assert 0.92 < np.mean(covered) < 0.97
    assert np.mean(errors**2) * estimates[0].cost.evaluations < 0.9 * variance
    assert 0.7 * budget < estimates[0].cost.multiply_adds / model.forward_multiply_adds <= budget


def test_conditional_squared_errors_of_trained_networks(isa):
    """Errors far below the squares of outputs and medians, which must not cancel."""
    for name in ("median_16_10_67108864_1", "median_16_5_67108864_0"):
        model = osp.zoo.load(name)
        x = np.random.default_rng(0).normal(size=(1000, model.seq_len - 1)).astype(np.float32)
        ours = _core.conditional_expectations(model._network, "median", x)
        expected = squared_error_reference(model, x)
        np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-6)
        assert abs(np.mean(ours - expected)) < 1e-8


def test_one_input_leaves_nothing_to_sample():
    with pytest.raises(ValueError, match="seq_len of at least 2"):
        osp.ConditionalMonteCarlo().estimate(random_rnn(4, 1, "argmax"), 100)


@pytest.mark.filterwarnings("ignore:The balance properties")
def test_sobol_is_scipys():
    np.testing.assert_array_equal(low_discrepancy.sobol(700, 40), qmc.Sobol(40, scramble=False).random(700))
    engine = qmc.Sobol(7, scramble=False).fast_forward(300)
    np.testing.assert_array_equal(low_discrepancy.sobol(50, 7, first=300), engine.random(50))


def test_scrambled_sobol_keeps_the_balance_of_the_net():
    x = low_discrepancy.sobol(256, 8, rng=np.random.default_rng(1))
    for column in x.T:  # one point in each of 256 intervals
        assert len(np.unique((column * 256).astype(int))) == 256
    assert x.min() > 0
    assert x.max() < 1
    first_two = np.unique((x[:, :2] * 16).astype(int), axis=0)
    assert len(first_two) == 256


@pytest.mark.parametrize("name", ["sobol", "hammersley", "kronecker", "lattice"])
@pytest.mark.parametrize("count", [64, 4096, 1 << 14])
def test_point_sets_fill_the_cube_better_than_random(name, count):
    x = getattr(low_discrepancy, name)(count, 4)
    assert x.shape == (count, 4)
    assert x.min() >= 0
    assert x.max() < 1

    def deviation(points):
        return np.prod(1.5 - points, axis=1)

    random = np.random.default_rng(0).random((count, 4))
    assert abs(deviation(x).mean() - 1) < deviation(random).std() / np.sqrt(count) / (1 if count == 64 else 2)


def test_radical_inverse():
    np.testing.assert_allclose(low_discrepancy.radical_inverse(np.arange(5), 2), [0, 0.5, 0.25, 0.75, 0.125])
    np.testing.assert_allclose(low_discrepancy.radical_inverse(np.array([5]), 3), [2 / 3 + 1 / 9])


def test_normal_quantile_is_scipys():
    p = np.concatenate([np.logspace(-300, -1, 500), np.linspace(0.01, 0.99, 99), 1 - np.logspace(-15, -1, 50)])
    np.testing.assert_allclose(low_discrepancy.normal_quantile(p), ndtri(p), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("inputs", [1, 2, 5, 9])
@pytest.mark.parametrize("ranked", [1, 3, 9])
def test_order_coordinates_give_independent_normals(inputs, ranked):
    count = 40_000
    u = np.random.default_rng(inputs).random((count, low_discrepancy.order_dimensions(inputs, ranked)))
    x = low_discrepancy.order_inputs(u, inputs, ranked)
    z = 4.5 / np.sqrt(count)
    assert np.abs(x.mean(axis=0)).max() < z
    assert np.abs(x.T @ x / count - np.eye(inputs)).max() < 1.5 * z
    assert np.abs(np.mean(np.max(x, axis=1) < 1.0) - ndtr(1.0) ** inputs) < z / 2
    ranks = np.argsort(-x, axis=1)
    for k in range(inputs):
        assert np.abs(np.bincount(ranks[:, k], minlength=inputs) / count - 1 / inputs).max() < z / 2


@pytest.mark.parametrize("task", ["2nd_argmax", "argmax", "argmedian"])
@pytest.mark.parametrize("exact_last", [True, False])
def test_a_table_of_random_points_is_conditional_or_plain_sampling(isa, task, exact_last):
    model = random_rnn(6, 5, task, seed=2)
    x = np.random.default_rng(0).normal(size=(1000, 5)).astype(np.float32)
    if exact_last:
        expected = _core.conditional_expectations(model._network, task, x[:, :4]).mean()
    else:
        expected = np.mean(np.argmax(model.forward(x), axis=1) == model.task.target(x))
    table = make_table(x[:, :4] if exact_last else x, model.task, exact_last=exact_last)
    tables = np.stack([table, 2 * table])  # twice the weights
    if exact_last:  # positions are not to be doubled
        tables[1, :, 4:8] = tables[0, :, 4:8]
        tables[1, :, :4] = tables[0, :, :4]
    else:
        tables[1, :, :6] = tables[0, :, :6]
    totals, walked = _core.point_sums(model._network, tables, exact_last)
    np.testing.assert_allclose(totals, [expected, 2 * expected], atol=1e-6)
    walked //= 2
    assert 3 * 1000 <= walked <= 9 * 1000 if exact_last else walked == 0
    np.testing.assert_array_equal(totals, _core.point_sums(model._network, tables, exact_last, threads=3)[0])


@pytest.mark.parametrize("exact_last", [True, False])
@pytest.mark.parametrize("points", [1, 3, 16, 17, 63, 64, 100, 128, 1500])
def test_copies_side_by_side_are_copies_in_groups(isa, exact_last, points):
    model = random_rnn(6, 5, seed=2)
    x = np.random.default_rng(0).normal(size=(9, points, 5))
    tables = [make_table(copy[:, :4] if exact_last else copy, model.task, exact_last=exact_last) for copy in x]
    grouped = np.stack(tables)
    expected, walked = _core.point_sums(model._network, grouped, exact_last)
    flat = side_by_side(tables, points)
    flat[: 6 if exact_last else 5, 9 * points :] = np.nan  # values behind the copies are not used
    flat[-1, 9 * points :] = np.nan
    sums, also_walked = _core.point_sums(model._network, flat, exact_last, points=points)
    np.testing.assert_allclose(sums, expected, rtol=1e-12, atol=1e-15)
    assert also_walked == walked
    again, _ = _core.point_sums(model._network, flat, exact_last, 3, points=points)
    assert again == sums
    for key, copies in ((0, 1), (1, 4), (2**64 - 1, 9)):
        run, steps = _core.random_point_sums(model._network, flat, exact_last, 1, points, copies, key)
        from_groups, _ = _core.random_point_sums(model._network, grouped, exact_last, 1, 0, copies, key)
        np.testing.assert_allclose(run, from_groups, rtol=1e-12, atol=1e-15)
        keys = [key, 5, key]
        many, steps_of_many = _core.point_sums_many(
            [model._network] * 3, flat, exact_last, points=points, copies=copies, keys=keys
        )
        assert many[::2].tolist() == [run, run]
        assert steps_of_many[::2].tolist() == [steps, steps]


def _random_run(available: int, copies: int, inputs: int, key: int) -> tuple[int, np.ndarray]:
    """What the core draws from a key: the first copy, and where each input stands."""
    words = _core.philox(key, 0, 1, 0, 2).ravel().tolist()
    steps = np.arange(inputs) * (1 if words[2] % 2 else -1)
    return words[0] * (available - copies + 1) >> 32, ((words[1] * inputs >> 32) + steps) % inputs


@pytest.mark.parametrize("exact_last", [True, False])
@pytest.mark.parametrize("n", [2, 6, 11, 17, 21])
def test_a_key_picks_copies_and_the_order_of_their_inputs(isa, exact_last, n):
    model = random_rnn(6, n, seed=3)
    inputs = n - 1 if exact_last else n
    x = np.random.default_rng(0).normal(size=(7, 40, inputs))
    flat = side_by_side([make_table(copy, model.task, exact_last=exact_last) for copy in x], 40)
    picked = set()
    for key in range(20):
        first, position = _random_run(7, 3, inputs, key)
        picked.add(first)
        moved = np.empty_like(x[first : first + 3])
        moved[:, :, position] = x[first : first + 3]
        expected = [
            _core.point_sums(model._network, make_table(copy, model.task, exact_last=exact_last)[None], exact_last)
            for copy in moved
        ]
        sums, walked = _core.random_point_sums(model._network, flat, exact_last, 2, 40, 3, key)
        np.testing.assert_allclose(sums, [s for (s,), _ in expected], rtol=1e-12, atol=1e-15)
        assert walked == sum(steps for _, steps in expected)
    assert picked == set(range(5))


def test_the_core_refuses_copies_that_are_not_there():
    network = random_rnn(3, 4)._network
    flat = np.zeros((8, 3 * 20 + 63), dtype=np.float32)
    for table, arguments, message in (
        (flat, {"points": -1}, "points must be at least 0, got -1"),
        (flat[1:], {"points": 20}, r"tables must have shape \(8, columns\) with 64 columns at least, got \(7, 123\)"),
        (flat[:, :63], {"points": 20}, r"with 64 columns at least, got \(8, 63\)"),
        (flat, {}, r"tables must have shape \(count, groups, 8, 64\), got \(8, 123\)"),
    ):
        with pytest.raises(ValueError, match=message):
            _core.point_sums(network, table, True, **arguments)
    assert len(_core.point_sums(network, flat[:, :-1], True, points=20)[0]) == 2
    for copies in (4, 0, -1):
        with pytest.raises(ValueError, match=f"copies must be from 1 to 3, got {copies}"):
            _core.random_point_sums(network, flat, True, 1, 20, copies, 1)


@pytest.mark.parametrize(("d", "n"), [(16, 10), (3, 2), (20, 5), (40, 3), (1, 4)])
@pytest.mark.parametrize("exact_last", [True, False])
def test_many_networks_share_a_table(isa, d, n, exact_last):
    models = [random_rnn(d, n, seed=seed) for seed in range(5)]
    weights = np.stack([np.concatenate([m.W_hh.ravel(), m.W_hi, m.W_oh.ravel()]) for m in models])
    x = np.random.default_rng(0).normal(size=(5000, n - 1 if exact_last else n))
    table = make_table(x, models[0].task, exact_last=exact_last)
    got = _core.point_sums_of_weights(weights, d, n, table, exact_last)
    assert got.tolist() == [_core.point_sums(m._network, table[None], exact_last)[0][0] for m in models]
    np.testing.assert_array_equal(_core.point_sums_of_weights(weights, d, n, table, exact_last, threads=3), got)


@pytest.mark.parametrize(
    "method",
    [
        osp.ConditionalMonteCarlo(),
        osp.DeterministicCubature(),
        osp.QuasiMonteCarlo(),
        osp.QuasiMonteCarlo(exact_last=False, sequence="lattice", coordinates="gaussian"),
    ],
    ids=lambda method: method.label,
)
@pytest.mark.parametrize(("d", "n"), [(16, 10), (5, 4)])
def test_estimating_many_is_estimating_each_to_the_last_bit(isa, method, d, n):
    models = [random_rnn(d, n, seed=seed) for seed in range(5)]
    seeds = np.random.SeedSequence(3).spawn(5)
    each = [method.estimate(m, 500, rng=s) for m, s in zip(models, seeds, strict=True)]
    for threads in (1, 3):
        batch = method.estimate_many(models, 500, rng=3, threads=threads)
        for one, other in zip(each, batch, strict=True):
            assert one.value == other.value
            assert one.standard_error == other.standard_error
            assert one.cost.multiply_adds == other.cost.multiply_adds
            assert one.settings == other.settings
            assert other.cost.seconds > 0
            assert other.threads == threads
            if one.standard_error is not None:
                assert one.confidence_interval() == other.confidence_interval()
    mixed = [models[0], random_rnn(3, 4), random_rnn(3, 4, "argmax")]
    for one, model, seed in zip(method.estimate_many(mixed, 500, rng=3), mixed, seeds, strict=False):
        assert one.value == method.estimate(model, 500, rng=seed).value
    assert method.estimate_many([], 500) == []
    with pytest.raises(ValueError, match="budget must be at least"):
        method.estimate_many(models, 0)


def test_the_core_refuses_batches_that_do_not_fit():
    one, other = random_rnn(3, 4)._network, random_rnn(4, 4)._network
    tables = np.stack([make_table(np.zeros((64, 3)), osp.get_task("2nd_argmax"), exact_last=True)] * 3)
    for networks, keys, copies, message in (
        ([one, other], None, 0, "networks must have one shape, got hidden_size 3 and 4, seq_len 4 and 4"),
        ([one, one], [0], 1, "keys must have one entry per network, got 1 for 2"),
        ([one], [0], 4, "copies must be from 1 to 3, got 4"),
        ([one], [0], -1, "copies must be from 1 to 3, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            _core.point_sums_many(networks, tables, True, copies=copies, keys=keys)
    with pytest.raises(ValueError, match=r"tables must have shape \(count, groups, 8, 64\), got \(3, 1, 7, 64\)"):
        _core.point_sums_many([one], tables[:, :, 1:], True)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        _core.point_sums_many([one], tables, True, 0)
    sums, walked = _core.point_sums_many([one, one], tables, True)
    assert sums.tolist() == [_core.point_sums(one, tables, True)[0]] * 2
    assert walked.tolist() == [_core.point_sums(one, tables, True)[1]] * 2
    assert _core.point_sums_many([], tables, True, copies=2, keys=[])[0].shape == (0, 2)
    for networks, keys, threads, message in (
        ([one, other], [0, 0], 1, "networks must have one shape"),
        ([one], [0, 0], 1, "keys must have one entry per network, got 2 for 1"),
        ([one], [0], 0, "threads must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            _core.conditional_sum_many(networks, "2nd_argmax", 10, keys, threads)
    assert [a.shape for a in _core.conditional_sum_many([], "argmax", 10, [])] == [(0,)] * 3


def test_many_networks_refuse_other_shapes():
    model = random_rnn(3, 4)
    weights = np.concatenate([model.W_hh.ravel(), model.W_hi, model.W_oh.ravel()])[None]
    table = make_table(np.zeros((64, 3)), model.task, exact_last=True)
    for arguments, message in (
        ((weights, 3, 4, table[None], True), r"table must have shape \(groups, 8, 64\), got \(1, 1, 8, 64\)"),
        ((weights, 3, 4, table, False), r"table must have shape \(groups, 6, 64\), got \(1, 8, 64\)"),
        ((weights, 2, 4, table, True), r"weights must have shape \(networks, 14\)"),
        ((weights, 3, 1, table, True), "seq_len must be at least 2, got 1"),
        ((weights, 3, 4, table, True, 0), "threads must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            _core.point_sums_of_weights(*arguments)


@pytest.mark.parametrize("sequence", ["sobol", "hammersley", "kronecker", "lattice"])
@pytest.mark.parametrize("coordinates", ["order", "gaussian"])
@pytest.mark.parametrize("exact_last", [True, False])
@pytest.mark.parametrize("randomised", [True, False])
def test_point_rules_converge_to_the_accuracy(sequence, coordinates, exact_last, randomised):
    model = random_rnn(5, 5, seed=3)
    truth = _core.count_correct(model._network, "2nd_argmax", 1 << 22, 1) / 2**22
    method = osp.QuasiMonteCarlo(
        sequence=sequence, coordinates=coordinates, exact_last=exact_last, randomised=randomised
    )
    budget = 1 << 14
    estimate = method.estimate(model, budget, rng=0)
    # Half of plain Monte Carlo's variance at this budget, at 4 standard errors.
    assert abs(estimate.value - truth) < 4 * np.sqrt(truth * (1 - truth) / 2 / budget)
    assert 0.3 * budget < estimate.cost.multiply_adds / model.forward_multiply_adds <= budget
    if randomised:
        assert abs(estimate.value - truth) < 5 * estimate.standard_error + 1e-3
        low, high = estimate.confidence_interval(0.95)
        assert low < estimate.value < high
    else:
        assert estimate.standard_error is None
        assert estimate.value == method.estimate(model, budget, rng=1, threads=2).value


@pytest.mark.parametrize("task", ["argmax", "argmedian"])
def test_point_rules_know_the_other_tasks(task):
    model = random_rnn(5, 7, task, seed=3)
    truth = _core.count_correct(model._network, task, 1 << 22, 1) / 2**22
    for method in (osp.QuasiMonteCarlo(), osp.DeterministicCubature()):
        assert abs(method.estimate(model, 1 << 14, rng=0).value - truth) < 4 * np.sqrt(truth * (1 - truth) / 2**14)


@pytest.mark.parametrize(
    ("model", "budget"),
    [
        (random_rnn(5, 5, seed=3), 2048),
        (random_rnn(16, 10, seed=3), 256),
        # Here estimates with their inputs in one order, from a pool of five times as many copies, erred by 2.1 times as
        # much as they said.
        (osp.zoo.load("2nd_argmax_4_4_536870912_4"), 2**16),
    ],
    ids=["5x5", "16x10", "4x4"],
)
def test_replicates_give_a_calibrated_error(model, budget):
    truth = _core.count_correct(model._network, "2nd_argmax", 1 << 26, 1) / 2**26
    method = osp.QuasiMonteCarlo()
    estimates = [method.estimate(model, budget, rng=seed) for seed in range(200)]
    covered = [low <= truth <= high for low, high in (e.confidence_interval(0.9) for e in estimates)]
    assert 0.8 < np.mean(covered) < 0.97
    # Estimates share a pool of points, which must not show in their mean.
    errors, stated = np.array([(e.value - truth, e.standard_error) for e in estimates]).T
    assert abs(errors.mean()) < 0.5 * np.sqrt(np.mean(stated**2))
    assert 0.8 < np.sqrt(np.mean(errors**2) / np.mean(stated**2)) < 1.25


def test_student_quantiles_are_scipys():
    for degrees in (1, 2, 3, 4, 7, 10, 31):
        for p in (0.6, 0.9, 0.975, 0.999):
            assert student_quantile(p, degrees) == pytest.approx(student_t.ppf(p, degrees), rel=1e-9)


def test_budget_and_arguments():
    model = random_rnn(16, 10)
    assert osp.DeterministicCubature().league == "deterministic"
    assert osp.QuasiMonteCarlo(randomised=False).league == "deterministic"
    assert osp.QuasiMonteCarlo().league == "sampling"
    minimum = osp.DeterministicCubature().minimum_budget(model)
    with pytest.raises(ValueError, match=f"budget must be at least {minimum}"):
        osp.DeterministicCubature().estimate(model, minimum - 1)
    assert osp.DeterministicCubature().estimate(model, minimum).cost.evaluations >= 1
    with pytest.raises(ValueError, match="sequence must be one of"):
        osp.QuasiMonteCarlo(sequence="random")
    with pytest.raises(ValueError, match="coordinates must be one of"):
        osp.QuasiMonteCarlo(coordinates="polar")
    with pytest.raises(ValueError, match="replicates must be at least 2"):
        osp.QuasiMonteCarlo(replicates=1)
    long = random_rnn(3, 50)
    with pytest.raises(ValueError, match="sobol has 40 dimensions"):
        osp.QuasiMonteCarlo().estimate(long, 10_000)
    assert 0 <= osp.DeterministicCubature().estimate(long, 10_000).value <= 1
