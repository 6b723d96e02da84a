"""Functions of normal distributions, against scipy's quadrature and special functions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import integrate, special, stats

import outsample as osp
from conftest import random_rnn
from outsample import gaussian

GRID = (-8.0, -3.0, -0.7, 0.0, 0.4, 2.5, 8.0)
CORRELATIONS = (-1.0, -1 + 1e-12, -1 + 1e-6, -0.96, -0.5, 0.0, 0.3, 0.9, 0.93, 0.999, 1 - 1e-9, 1.0)


def relu_integral(a: float, b: float, rho: float) -> float:
    """Cov(max(a + U, 0), max(b + V, 0)): the inner integral of the two by hand, the outer one by scipy."""
    s = np.sqrt((1 - rho) * (1 + rho))

    def centred(u):  # E[max(b + V, 0) | U = u] minus its mean
        m = b + rho * u
        inner = m * special.ndtr(m / s) + s * stats.norm.pdf(m / s) if s > 0 else max(m, 0.0)
        return inner - mean_b

    mean_b = b * special.ndtr(b) + stats.norm.pdf(b)
    breaks = [p for p in (-b / rho if rho else 0.0, 0.0) if -a < p < 12]
    cuts = [max(-a, -12.0), *sorted(breaks), 12.0]
    # The kink of width s around u = -b / rho gets intervals of its own.
    if rho and s > 0:
        cuts += [c for k in (-20, -5, -1, 1, 5, 20) if max(-a, -12.0) < (c := -b / rho + k * s) < 12]
    cuts = sorted(set(cuts))
    return sum(
        integrate.quad(lambda u: (a + u) * centred(u) * stats.norm.pdf(u), low, high, epsabs=1e-13, epsrel=1e-12)[0]
        for low, high in itertools.pairwise(cuts)
    )


def test_relu_covariance_on_a_grid():
    for a, b in itertools.combinations_with_replacement(GRID, 2):
        for rho in CORRELATIONS:
            covariance = gaussian.relu_covariance([a, b], [[1, rho], [rho, 1]]).covariance
            assert covariance[0, 1] == covariance[1, 0]
            assert abs(covariance[0, 1] - relu_integral(a, b, rho)) < 1e-10, (a, b, rho)


def test_relu_covariance_against_a_double_integral():
    for a, b, rho, s, t in ((0.3, -0.5, 0.6, 1.0, 2.0), (1.0, 2.0, -0.8, 0.5, 3.0), (-1.0, -0.2, 0.2, 1.0, 1.0)):
        cov = np.array([[s * s, rho * s * t], [rho * s * t, t * t]])
        law = stats.multivariate_normal([a, b], cov)
        product = integrate.dblquad(
            lambda y, x, law=law: x * y * law.pdf([x, y]), 0, a + 11 * s, 0, b + 11 * t, epsabs=1e-12, epsrel=1e-12
        )[0]
        result = gaussian.relu_covariance([a, b], cov)
        assert abs(result.covariance[0, 1] + result.mean.prod() - product) < 1e-10


def test_relu_covariance_is_the_arc_cosine_kernel_at_zero_mean():
    rho = np.concatenate([np.linspace(-1, 1, 201), [1 - 1e-13, -1 + 1e-13]])
    kernel = (np.sqrt(1 - rho**2) + rho * (np.pi - np.arccos(rho))) / (2 * np.pi)
    matrices = np.stack([np.stack([np.ones_like(rho), rho], -1), np.stack([rho, np.ones_like(rho)], -1)], -2)
    result = gaussian.relu_covariance(np.zeros((len(rho), 2)), matrices).covariance[:, 0, 1]
    np.testing.assert_allclose(result, kernel - 1 / (2 * np.pi), rtol=0, atol=1e-15)


def test_relu_covariance_of_degenerate_variables():
    result = gaussian.relu_covariance([2.0, -1.0, 0.5], np.diag([0.0, 0.0, 1.0]))
    np.testing.assert_array_equal(result.mean[:2], [2.0, 0.0])
    np.testing.assert_array_equal(result.covariance[:2], 0)
    far = gaussian.relu_covariance([1e3, 1e3], [[1, 0.5], [0.5, 1]])  # the rectifier does nothing there
    np.testing.assert_allclose(far.covariance, [[1, 0.5], [0.5, 1]], rtol=1e-14)


QUAD = {"epsabs": 0, "epsrel": 1e-12}


def test_relu_moments_against_quadrature():
    for a in (*GRID, -20.0, 20.0):
        start = max(-a, 0.0)
        cuts = sorted({max(-a, -12.0), start, start + 0.2, start + 2, start + 12})

        def expectation(f, cuts=cuts):
            return sum(
                integrate.quad(lambda u: f(u) * stats.norm.pdf(u), low, high, **QUAD)[0]
                for low, high in itertools.pairwise(cuts)
            )

        mean = expectation(lambda u, a=a: a + u)
        variance = special.ndtr(-a) * mean**2 + expectation(lambda u, a=a, mean=mean: (a + u - mean) ** 2)
        for s in (1e-6, 1.0, 3e4):
            result = gaussian.relu_moments(a * s, s * s)
            np.testing.assert_allclose(result.mean, mean * s, rtol=1e-10)
            np.testing.assert_allclose(result.covariance, variance * s * s, rtol=1e-10)
    np.testing.assert_array_equal(gaussian.relu_moments([3.0, -3.0, 0.0], 0.0), [[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (-1.0, 1.0),
        (0.5, 0.5001),
        (-8.0, 8.0),
        (3.0, 3.5),
        (8.0, np.inf),
        (-np.inf, -8.0),
        (-20.0, -19.0),
        (-np.inf, 1.3),
        (-np.inf, np.inf),
        (-0.2, 30.0),
        (25.0, np.inf),
        (7.9, 8.0),
    ],
)
def test_truncated_moments_against_quadrature(low, high):
    near = min(max(low, 0.0), high)  # weights relative to the nearest point, which may be far in a tail
    ends = max(low, near - 10), min(high, near + 10)
    cuts = np.unique(np.clip([ends[0], *(near + np.array([-3, -1, -0.2, 0, 0.2, 1, 3])), ends[1]], *ends))

    def integral(f):
        weighted = lambda z: f(z) * np.exp(-(z - near) * (z + near) / 2)  # noqa: E731
        return sum(integrate.quad(weighted, a, b, **QUAD)[0] for a, b in itertools.pairwise(cuts))

    mass = integral(lambda z: 1.0)
    mean = near + integral(lambda z: z - near) / mass
    variance = integral(lambda z: (z - mean) ** 2) / mass
    result = gaussian.truncated_normal_moments(1.5, 4.0, 1.5 + 2 * low, 1.5 + 2 * high)
    np.testing.assert_allclose(result.probability, mass * stats.norm.pdf(near), rtol=1e-10)
    np.testing.assert_allclose(result.mean, 1.5 + 2 * mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(result.variance, 4 * variance, rtol=1e-10)


def test_conditioning_on_a_half_space_agrees_with_one_dimension():
    rng = np.random.default_rng(2)
    A = rng.normal(size=(4, 4))
    mean, cov, a, offset = rng.normal(size=4), A @ A.T, rng.normal(size=4), 0.7
    result = gaussian.condition_on_half_space(mean, cov, a, offset)
    # Along the normal it is a truncated normal; what is independent of that direction must not move.
    along = gaussian.truncated_normal_moments(a @ mean, a @ cov @ a, offset)
    np.testing.assert_allclose([result.probability, a @ result.mean, a @ result.covariance @ a], along, rtol=1e-12)
    rest = np.eye(4) - np.outer(cov @ a, a) / (a @ cov @ a)
    np.testing.assert_allclose(rest @ result.mean, rest @ mean, atol=1e-12)
    np.testing.assert_allclose(rest @ result.covariance @ rest.T, rest @ cov @ rest.T, atol=1e-12)


def test_bivariate_normal_cdf_against_owens_t():
    rng = np.random.default_rng(0)
    h, k = rng.uniform(-6, 6, (2, 4000))
    rho = np.concatenate(
        [rng.uniform(-1, 1, 3000), 1 - 10 ** rng.uniform(-9, -1, 500), 10 ** rng.uniform(-9, -1, 500) - 1]
    )
    q = np.sqrt((1 - rho) * (1 + rho))
    # Owen (1956), equation 2.1.
    owen = (
        0.5 * (special.ndtr(h) + special.ndtr(k))
        - special.owens_t(h, (k - rho * h) / (h * q))
        - special.owens_t(k, (h - rho * k) / (k * q))
        - np.where(h * k < 0, 0.5, 0)
    )
    np.testing.assert_allclose(gaussian.bivariate_normal_cdf(h, k, rho), owen, rtol=0, atol=2e-14)
    for h1, k1 in itertools.product((-np.inf, -1.0, 0.0, 2.0, np.inf), repeat=2):
        assert gaussian.bivariate_normal_cdf(h1, k1, 1.0) == special.ndtr(min(h1, k1))
        opposite = max(0.0, special.ndtr(h1) + special.ndtr(k1) - 1)
        assert abs(gaussian.bivariate_normal_cdf(h1, k1, -1.0) - opposite) < 1e-15


def random_normal(d: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    A = rng.normal(size=(d, rng.integers(d, 2 * d + 1)))
    return rng.normal(size=d) + 0.5, A @ A.T / d


@pytest.mark.parametrize("d", range(1, 10))
def test_orthant_probability_against_scipy(d):
    rng = np.random.default_rng(d)
    for _ in range(4):
        mean, cov = random_normal(d, rng)
        theirs = stats.multivariate_normal.cdf(
            np.zeros(d), -mean, cov, maxpts=200_000, abseps=2e-6, releps=0, rng=np.random.default_rng(1)
        )
        ours = gaussian.orthant_probability(mean, cov, tolerance=5e-6, max_points=400_000)
        assert ours.error < 1e-4
        assert abs(ours.value - theirs) < ours.error + 5e-6
        assert ours == gaussian.orthant_probability(mean, cov, tolerance=5e-6, max_points=400_000)
        quick = gaussian.orthant_probability(mean, cov, tolerance=1e-2)
        assert abs(quick.value - theirs) < quick.error + 5e-6
        rough = gaussian.orthant_probability(mean, cov, "mendell-elston")
        assert rough.error is None
        assert abs(rough.value - theirs) < (1e-12 if d == 1 else 0.03)


def test_orthant_error_is_honoured_where_the_answer_is_known():
    # Equal correlations of one half and mean zero: 1/(d + 1). Independent: a product.
    for d in range(2, 16):
        cov = np.full((d, d), 0.5) + 0.5 * np.eye(d)
        for tolerance in (1e-2, 1e-4, 1e-6):
            result = gaussian.orthant_probability(np.zeros(d), cov, tolerance=tolerance, max_points=100_000)
            assert abs(result.value - 1 / (d + 1)) <= result.error
        mean = np.linspace(-0.5, 1, d)
        exact = special.ndtr(mean).prod()
        assert abs(gaussian.orthant_probability(mean, np.eye(d)).value - exact) < 1e-12
        assert abs(gaussian.orthant_probability(mean, np.eye(d), "mendell-elston").value - exact) < 1e-14


def test_mendell_elston_is_good_to_a_few_thousandths():
    rng = np.random.default_rng(5)
    errors = []
    for _ in range(60):
        mean, cov = random_normal(9, rng)
        exact = gaussian.orthant_probability(mean, cov, tolerance=2e-4)
        errors.append(gaussian.orthant_probability(mean, cov, "mendell-elston").value - exact.value)
    assert np.sqrt(np.mean(np.square(errors))) < 0.006


def test_orthant_of_degenerate_laws():
    for method in ("genz", "mendell-elston"):
        assert gaussian.orthant_probability([1.0, 2.0], np.zeros((2, 2)), method).value == 1
        assert gaussian.orthant_probability([1.0, -2.0, 0.0], np.zeros((3, 3)), method).value == 0
        thrice = gaussian.orthant_probability([0.3] * 3, np.ones((3, 3)), method)  # one variable three times
        # Sequential conditioning forgets that a truncated variable stays positive.
        assert abs(thrice.value - special.ndtr(0.3)) < (1e-9 if method == "genz" else 0.1)
        opposite = gaussian.orthant_probability([0.3, -0.4], [[1, -1], [-1, 1]], method)
        assert abs(opposite.value) < (1e-9 if method == "genz" else 0.1)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: gaussian.relu_moments(0.0, -1.0), ValueError, "variance must not be negative"),
        (lambda: gaussian.relu_moments(np.nan, 1.0), ValueError, "mean must be finite"),
        (lambda: gaussian.relu_moments("a", 1.0), TypeError, "mean must be real"),
        (lambda: gaussian.relu_covariance([0.0, 0.0], np.eye(3)), ValueError, "covariance must have shape"),
        (lambda: gaussian.relu_covariance([0.0, 0.0], [[1, 2], [2, 1]]), ValueError, "positive semi-definite"),
        (lambda: gaussian.relu_covariance([0.0, 0.0], [[1, 0.5], [0, 1]]), ValueError, "symmetric"),
        (lambda: gaussian.bivariate_normal_cdf(0.0, 0.0, 1.1), ValueError, "rho must be between"),
        (lambda: gaussian.truncated_normal_moments(0.0, 1.0, 1.0, 1.0), ValueError, "lower must be below"),
        (lambda: gaussian.condition_on_half_space([0.0], [[1.0]], [1.0, 2.0]), ValueError, "normal must have shape"),
        (lambda: gaussian.orthant_probability([0.0], [[1.0]], "exact"), ValueError, "method must be"),
        (lambda: gaussian.orthant_probability([0.0], [[1.0]], tolerance=0), ValueError, "tolerance must be positive"),
        (lambda: gaussian.orthant_probability([0.0], [[1.0]], max_points=0), ValueError, "max_points must be"),
        (lambda: gaussian.propagate(random_rnn(4, 3), order=3), ValueError, "order must be 1 or 2"),
        (lambda: gaussian.propagate(random_rnn(4, 3), np.zeros(4)), ValueError, "must broadcast"),
        (lambda: gaussian.propagate(random_rnn(4, 3), precision="half"), ValueError, "precision must be"),
        (lambda: gaussian.propagate(None), TypeError, "model must be"),
    ],
)
def test_bad_arguments(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_results_have_the_broadcast_shape():
    assert gaussian.relu_moments(np.zeros((3, 1)), np.ones(4)).mean.shape == (3, 4)
    assert gaussian.relu_covariance(np.zeros((2, 3, 4)), np.tile(np.eye(4), (2, 3, 1, 1))).covariance.shape == (
        2,
        3,
        4,
        4,
    )
    assert osp.gaussian.propagate(random_rnn(4, 3), np.zeros((5, 3))).covariance.shape == (5, 3, 4, 4)
    assert osp.gaussian.propagate(random_rnn(4, 3), order=1).covariance.shape == (3, 4)
