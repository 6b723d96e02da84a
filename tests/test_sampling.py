"""Random sampling: the stream, the normals, the counts, the estimator."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
from scipy import special

import outsample as osp
from conftest import random_rnn
from outsample import _core
from outsample.estimators.monte_carlo import wilson_interval

SHAPES = [(2, 2), (3, 3), (4, 5), (5, 2), (6, 8), (8, 6), (16, 10), (32, 11), (1, 3), (7, 4), (19, 13)]


def reference_normals(key: int, first: int, count: int, n: int) -> np.ndarray:
    """The stream's definition in numpy, float64."""
    sample = np.arange(first, first + count, dtype=np.uint64)
    x = np.empty((count, n))
    for t in range(n):
        words = np.concatenate([_core.philox(key, int(i), 1, t // 2) for i in sample // np.uint64(2)])
        radius_word, angle_word = words[:, 2 * (t % 2)], words[:, 2 * (t % 2) + 1]
        radius = np.sqrt(-2 * np.log(((radius_word >> 1) + 0.5) / 2.0**31))
        angle = (angle_word << np.uint32(1)).view(np.int32) / 2.0**31 * (np.pi / 2)
        cosine = np.cos(angle) * np.where(angle_word >> 31, -1, 1)
        x[:, t] = radius * np.where(sample % 2 == 0, cosine, np.sin(angle))
    return x


def reference_logits(model: osp.RNN, x: np.ndarray) -> np.ndarray:
    W_hh, W_oh = model.W_hh.astype(float), model.W_oh.astype(float)
    h = np.zeros((len(x), model.hidden_size))
    for t in range(model.seq_len):
        h = np.maximum(h @ W_hh.T + x[:, t : t + 1] * model.W_hi + (0 if model.b_h is None else model.b_h), 0)
    return h @ W_oh.T + (0 if model.b_o is None else model.b_o)


def near_ties(logits: np.ndarray) -> int:
    """How many samples rounding may decide either way. A dead hidden state ties exactly, and safely."""
    top = np.sort(logits, axis=1)[:, -2:]
    gap = top[:, 1] - top[:, 0]
    return int(np.sum((gap < 1e-4 * np.abs(logits).max(axis=1)) & (gap > 0)))


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # kat_vectors of Random123, philox4x32 with 10 rounds
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_published_answers(isa, counter, key, words):
    c = [int(w, 16) for w in counter.split()]
    k = [int(w, 16) for w in key.split()]
    first = c[0] | c[1] << 32
    # The same counter in every lane in turn.
    for lane in range(16):
        block = _core.philox(k[0] | k[1] << 32, (first - lane) % 2**64, lane + 1, c[2], c[3])
        assert " ".join(f"{w:08x}" for w in block[lane]) == words


@pytest.mark.parametrize("first", [0, 5, 2**33 - 3])
def test_inputs_are_as_the_stream_is_defined(isa, first):
    for n in (1, 2, 5, 10):
        x = _core.normals(0x123456789ABCDEF0, first, 150, n)
        np.testing.assert_allclose(x, reference_normals(0x123456789ABCDEF0, first, 150, n), rtol=2e-6, atol=1e-6)


def test_inputs_do_not_depend_on_cuts_or_threads(isa):
    x = _core.normals(3, 0, 140_001, 3)
    np.testing.assert_array_equal(_core.normals(3, 0, 140_001, 3, threads=3), x)
    np.testing.assert_array_equal(_core.normals(3, 70_013, 100, 3), x[70_013:70_113])


def check_normals(x_batches, total):
    """Kolmogorov-Smirnov on a fine grid, tails, moments and correlations; thresholds of about 1e-5 each."""
    edges_per_unit, reach = 1024, 8
    histogram = np.zeros(2 * reach * edges_per_unit + 1, dtype=np.int64)
    powers = np.zeros(4)
    steps = pairs = squares = 0.0
    for x in x_batches:
        scaled = x.ravel() * np.float32(edges_per_unit)
        scaled += np.float32(reach * edges_per_unit)
        histogram += np.bincount(scaled.astype(np.int32), minlength=len(histogram))
        x = x.astype(np.float64)
        x2 = x * x
        powers += x.sum(), x2.sum(), (x2 * x).sum(), (x2 * x2).sum()
        steps += (x[:, 1:] * x[:, :-1]).sum()
        pairs += (x[0::2] * x[1::2]).sum()
        squares += ((x2[0::2] - 1) * (x2[1::2] - 1)).sum()
    assert histogram.sum() == total
    edges = np.arange(-reach * edges_per_unit, reach * edges_per_unit + 1) / edges_per_unit
    below = np.concatenate([[0], np.cumsum(histogram)[:-1]])
    assert np.abs(below / total - special.ndtr(edges)).max() * math.sqrt(total) < 2.5  # P = 7e-6
    for sigma in (3, 4, 5, 6):
        for count in (below[edges == -sigma][0], total - below[edges == sigma][0]):
            expected = total * special.ndtr(-sigma)
            assert abs(count - expected) < 4.5 * math.sqrt(expected) + 2
    for power, (mean, variance) in zip(powers / total, ((0, 1), (1, 2), (0, 15), (3, 96)), strict=True):
        assert abs(power - mean) < 4.5 * math.sqrt(variance / total)
    n = x.shape[1]
    assert abs(steps) < 4.5 * math.sqrt(total * (n - 1) / n)
    assert abs(pairs) < 4.5 * math.sqrt(total / 2)
    assert abs(squares) < 4.5 * 2 * math.sqrt(total / 2)


def test_normals(isa):
    check_normals((_core.normals(11, first, 50_000, 10) for first in range(0, 400_000, 50_000)), 4_000_000)


@pytest.mark.slow
def test_a_hundred_million_normals():
    check_normals((_core.normals(12, first, 100_000, 10) for first in range(0, 10_000_000, 100_000)), 100_000_000)


@pytest.mark.parametrize("task", ["2nd_argmax", "argmax", "argmedian"])
@pytest.mark.parametrize("biases", [False, True])
def test_counts_agree_with_numpy_on_the_same_inputs(isa, task, biases):
    for d, n in SHAPES:
        if task == "argmedian" and n % 2 == 0:
            n += 1
        model = random_rnn(d, n, task, seed=d + n, biases=biases)
        count = 3000
        x = _core.normals(9, 17, count, n)
        logits = reference_logits(model, x.astype(float))
        expected = int(np.sum(np.argmax(logits, axis=1) == model.task.target(x)))
        got = _core.count_correct(model._network, task, count, 9, first=17)
        assert abs(got - expected) <= near_ties(logits), (d, n)


def test_counts_are_additive_and_do_not_depend_on_threads(isa):
    model = random_rnn(16, 10)
    whole = _core.count_correct(model._network, "2nd_argmax", 200_001, 7)
    assert _core.count_correct(model._network, "2nd_argmax", 200_001, 7, threads=3) == whole
    cuts = [0, 1, 63, 64, 64, 70_000, 131_072, 200_001]
    parts = [_core.count_correct(model._network, "2nd_argmax", b - a, 7, first=a) for a, b in itertools.pairwise(cuts)]
    assert sum(parts) == whole


def test_many_is_one_after_another():
    models = [random_rnn(5, 4, seed=s) for s in range(3)]
    counts = _core.count_correct_many([m._network for m in models], "2nd_argmax", 70_000, [1, 2, 3], threads=2)
    single = [_core.count_correct(m._network, "2nd_argmax", 70_000, k) for m, k in zip(models, (1, 2, 3), strict=True)]
    assert counts.tolist() == single
    assert _core.count_correct_many([], "2nd_argmax", 10, []).tolist() == []


def test_instruction_sets_agree():
    model = random_rnn(16, 10, seed=4)
    counts = []
    for isa in osp.build_info()["supported_isas"]:
        with osp.use_isa(isa):
            counts.append(_core.count_correct(model._network, "2nd_argmax", 1 << 20, 5))
    assert max(counts) - min(counts) <= 20


def test_the_432_parameter_model(isa, models_dir):
    model = osp.load(models_dir / "algzoo_rnn_blog.pth")
    estimate = osp.MonteCarlo().estimate(model, 1 << 22, rng=0, threads=2)
    assert abs(estimate.value - 0.9533) < 4 * math.hypot(estimate.standard_error, 1e-4)
    assert estimate.standard_error == pytest.approx(1.03e-4, rel=0.02)


def test_dead_networks_predict_position_0(isa):
    model = osp.RNN(np.zeros((2, 2)), np.zeros(2), np.zeros((4, 2)))
    estimate = osp.MonteCarlo().estimate(model, 100_000, rng=0)
    x = _core.normals(osp.seeding.philox_key(osp.seeding.seed_sequence(0)), 0, 100_000, 4)
    assert estimate.value == np.mean(model.task.target(x) == 0)
    assert not osp.confusion_matrix(model, 1000, rng=0)[:, 1:].any()


# Estimator


def test_an_estimate_depends_on_the_seed_alone():
    model = random_rnn(6, 5)
    estimate = osp.MonteCarlo().estimate(model, 100_000, rng=1, threads=2)
    again = osp.MonteCarlo().estimate(model, 100_000, rng=1)
    assert (estimate.value, estimate.confidence_interval()) == (again.value, again.confidence_interval())
    assert osp.MonteCarlo().estimate(model, 100_000, rng=2).value != estimate.value
    assert estimate.method == "monte-carlo"
    assert estimate.cost.evaluations == 100_000
    assert estimate.cost.multiply_adds == 100_000 * model.forward_multiply_adds
    assert pickle.loads(pickle.dumps(estimate)).confidence_interval() == estimate.confidence_interval()


def test_estimating_many_is_estimating_each(isa):
    models = [random_rnn(6, 5, seed=s) for s in range(4)]
    batch = osp.MonteCarlo().estimate_many(models, 3000, rng=5, threads=2)
    seeds = np.random.SeedSequence(5).spawn(4)
    each = [osp.MonteCarlo().estimate(m, 3000, rng=s) for m, s in zip(models, seeds, strict=True)]
    assert [e.value for e in batch] == [e.value for e in each]
    assert all(e.cost.seconds > 0 and e.method == "monte-carlo" and e.threads == 2 for e in batch)
    mixed = [random_rnn(6, 5), random_rnn(3, 4), random_rnn(3, 4, "argmax")]
    values = [e.value for e in osp.MonteCarlo().estimate_many(mixed, 3000, rng=5)]
    assert values == [
        osp.MonteCarlo().estimate(m, 3000, rng=s).value
        for m, s in zip(mixed, np.random.SeedSequence(5).spawn(3), strict=True)
    ]
    assert osp.MonteCarlo().estimate_many([], 3000) == []


@pytest.mark.parametrize("task", ["2nd_argmax", "argmax", "argmedian"])
def test_cross_entropy_agrees_with_numpy(isa, task):
    model = random_rnn(8, 5, task, biases=True)
    count = 70_000
    key = osp.seeding.philox_key(3)
    x = _core.normals(key, 0, count, 5)
    logits = reference_logits(model, x.astype(float))
    loss = special.logsumexp(logits, axis=1) - logits[np.arange(count), model.task.target(x)]
    estimate = osp.MonteCarlo(quantity="cross_entropy").estimate(model, count, rng=3, threads=2)
    assert estimate.value == pytest.approx(loss.mean(), rel=1e-6)
    assert estimate.standard_error == pytest.approx(loss.std(ddof=1) / math.sqrt(count), rel=1e-5)
    assert osp.MonteCarlo(quantity="cross_entropy").estimate(model, count, rng=3).value == estimate.value


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_mean_squared_error_of_the_median_task_agrees_with_numpy(isa, n):
    model = random_rnn(4, n, "median")
    key = osp.seeding.philox_key(3)
    x = _core.normals(key, 0, 1001, n).astype(float)
    errors = (reference_logits(model, x)[:, 0] - np.median(x, axis=1)) ** 2
    estimate = osp.MonteCarlo().estimate(model, 1001, rng=3)
    assert estimate.value == pytest.approx(errors.mean(), rel=1e-5)
    assert estimate.standard_error == pytest.approx(errors.std(ddof=1) / math.sqrt(1001), rel=1e-5)
    assert osp.MonteCarlo().estimate(model, 1, rng=3).standard_error is None


def test_a_users_function_sees_the_samplers_inputs():
    model = random_rnn(6, 5)

    def correct(x, logits):
        assert x.dtype == logits.dtype == np.float32
        return np.argmax(logits, axis=1) == model.task.target(x)

    estimate = osp.MonteCarlo(quantity=correct).estimate(model, 40_000, rng=3)
    plain = osp.MonteCarlo().estimate(model, 40_000, rng=3)
    assert estimate.value == plain.value
    assert estimate.standard_error == pytest.approx(plain.standard_error, rel=1e-4)
    assert estimate.settings["quantity"] == "correct"


def test_confusion_matrix(isa):
    model = random_rnn(16, 10, seed=3)
    matrix = osp.confusion_matrix(model, 150_001, rng=8)
    np.testing.assert_array_equal(osp.confusion_matrix(model, 150_001, rng=8, threads=3), matrix)
    assert matrix.sum() == 150_001
    assert np.trace(matrix) == round(osp.MonteCarlo().estimate(model, 150_001, rng=8).value * 150_001)
    x = _core.normals(osp.seeding.philox_key(8), 0, 150_001, 10)
    np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(model.task.target(x), minlength=10))
    np.testing.assert_array_equal(matrix.sum(axis=0), np.bincount(np.argmax(model.forward(x), axis=1), minlength=10))


# Intervals


@pytest.mark.parametrize(("p", "samples"), [(0.95, 4096), (0.81, 4096), (0.9999, 65_536), (0.9999, 1 << 20)])
def test_intervals_cover_binomial_counts(p, samples):
    counts = np.random.default_rng(6).binomial(samples, p, size=10_000)
    inside = 0
    for count in counts.tolist():
        low, high = wilson_interval(count, samples)
        inside += low <= p <= high
    assert 0.94 <= inside / 10_000 <= 0.96


def test_intervals_of_the_sampler_cover_the_truth(models_dir):
    model = osp.load(models_dir / "algzoo_rnn_blog.pth")
    estimates = osp.MonteCarlo().estimate_many([model] * 10_000, 1024, rng=6, threads=2)
    truth = np.mean([e.value for e in estimates])  # of 10 million samples: 0.01 standard errors of one
    inside = [low <= truth <= high for low, high in (e.confidence_interval() for e in estimates)]
    assert 0.94 <= np.mean(inside) <= 0.96


@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong_have_an_error(right):
    # The last state is (relu(x_1 - x_0), relu(x_0 - x_1)).
    readout = np.eye(2)[::-1] if right else np.eye(2)
    model = osp.RNN(np.array([[-1.0, 1.0], [1.0, -1.0]]), np.array([1.0, -1.0]), readout, "argmax")
    estimate = osp.MonteCarlo().estimate(model, 1000, rng=0)
    assert estimate.value == right
    assert estimate.standard_error == pytest.approx(math.sqrt(0.0005 / 1000), rel=0.01)
    low, high = estimate.confidence_interval()
    assert (0.99 < low < high == 1.0) if right else (0.0 == low < high < 0.01)


# Bad input


@pytest.mark.parametrize(
    "arguments", [{"samples": -1}, {"first": -1}, {"threads": 0}, {"task": "nonsense"}, {"task": "median"}]
)
def test_the_core_refuses(arguments):
    given = {"task": "2nd_argmax", "samples": 10, "key": 1} | arguments
    with pytest.raises(ValueError, match=next(iter(arguments))):
        _core.count_correct(random_rnn(3, 3)._network, **given)


def test_the_core_refuses_mixed_shapes_and_missing_keys():
    a, b = random_rnn(3, 3)._network, random_rnn(4, 3)._network
    with pytest.raises(ValueError, match="networks must have one shape"):
        _core.count_correct_many([a, b], "argmax", 10, [1, 2])
    with pytest.raises(ValueError, match="keys must have one entry per network"):
        _core.count_correct_many([a, a], "argmax", 10, [1])
    with pytest.raises(ValueError, match=r"first \+ samples"):
        _core.count_correct(a, "argmax", 2**62, 1, first=5)
    with pytest.raises(ValueError, match="n must be at least 1"):
        _core.normals(1, 0, 10, 0)


@pytest.mark.parametrize(
    ("quantity", "task", "error", "message"),
    [
        ("speed", "2nd_argmax", ValueError, "quantity must be one of accuracy, cross_entropy, mean_squared_error"),
        (3, "2nd_argmax", TypeError, "quantity must be a string or a callable, got int"),
        ("accuracy", "median", ValueError, "quantity accuracy is not defined for task median"),
        ("cross_entropy", "median", ValueError, "quantity cross_entropy is not defined for task median"),
        ("mean_squared_error", "argmax", ValueError, "quantity mean_squared_error is not defined for task argmax"),
        (lambda x, logits: logits, "2nd_argmax", ValueError, r"quantity must return an array of shape \(10,\)"),
        (lambda x, logits: 1j * x[:, 0], "2nd_argmax", TypeError, "quantity must return real numbers"),
        (lambda x, logits: x[:, 0] / 0, "2nd_argmax", ValueError, "quantity must return finite numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_quantities_are_checked(quantity, task, error, message):
    with pytest.raises(error, match=message):
        osp.MonteCarlo(quantity=quantity).estimate(random_rnn(3, 3, task), 10, rng=0)


def test_confusion_matrix_is_checked():
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        osp.confusion_matrix(random_rnn(3, 3), 0)
    with pytest.raises(ValueError, match="task median"):
        osp.confusion_matrix(random_rnn(3, 3, "median"), 10)
    with pytest.raises(ValueError, match="budget must be at least 1, got 0"):
        osp.MonteCarlo().estimate_many([random_rnn(3, 3)] * 2, 0)
