"""Normal distributions behind rectifiers: moments, covariances, half-spaces, orthants, and a network's hidden state.

Numerical functions in their own right; `GaussianPropagation` and `CellPropagation` are built on the same kernels.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from outsample import _core
from outsample.models import RNN

__all__ = [
    "ConditionedNormal",
    "NormalMoments",
    "OrthantProbability",
    "StateMoments",
    "TruncatedMoments",
    "bivariate_normal_cdf",
    "condition_on_half_space",
    "orthant_probability",
    "propagate",
    "relu_covariance",
    "relu_moments",
    "truncated_normal_moments",
]

Array = NDArray[np.float64]


class NormalMoments(NamedTuple):
    """Mean and variance, or mean vector and covariance matrix."""

    mean: Array
    covariance: Array


class TruncatedMoments(NamedTuple):
    """Probability of the interval, and mean and variance given that the variable lies in it."""

    probability: Array
    mean: Array
    variance: Array


class ConditionedNormal(NamedTuple):
    """Probability of the half-space, and mean and covariance given that the variable lies in it."""

    probability: float
    mean: Array
    covariance: Array


class OrthantProbability(NamedTuple):
    """The probability, and a bound on its error (None where the method has none)."""

    value: float
    error: float | None


class StateMoments(NamedTuple):
    """Moments of the hidden state after every step; the state is ``2.0**exponent`` times what they describe.

    Attributes
    ----------
    mean : ndarray, shape (..., n, d)
    covariance : ndarray, shape (..., n, d, d) for order 2, variances of shape (..., n, d) for order 1
    exponent : ndarray of int, shape (..., n)
        Not 0 only where the state would leave the range of the arithmetic.
    """

    mean: Array
    covariance: Array
    exponent: NDArray[np.int32]


def _real(value: ArrayLike, name: str, *, infinite: bool = False) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    array = np.ascontiguousarray(array, dtype=np.float64).reshape(array.shape)
    bad = np.isnan(array) if infinite else ~np.isfinite(array)
    if bad.any():
        raise ValueError(f"{name} must be {'numbers' if infinite else 'finite'}, got {array[bad].flat[0]}")
    return array


def _variance(value: ArrayLike, name: str = "variance") -> Array:
    array = _real(value, name)
    if (array < 0).any():
        raise ValueError(f"{name} must not be negative, got {array.min()}")
    return array


def _normal(mean: ArrayLike, covariance: ArrayLike) -> tuple[Array, Array]:
    """A mean vector and its covariance matrix, with any leading dimensions, checked."""
    m, c = _real(mean, "mean"), _real(covariance, "covariance")
    if m.ndim < 1 or m.shape[-1] < 1:
        raise ValueError(f"mean must have shape (..., d) with d at least 1, got {m.shape}")
    if c.shape != (*m.shape, m.shape[-1]):
        raise ValueError(f"covariance must have shape {(*m.shape, m.shape[-1])} to fit mean, got {c.shape}")
    _variance(np.diagonal(c, axis1=-2, axis2=-1), "diagonal of covariance")
    size = np.abs(c).max(initial=0.0)
    if not np.allclose(c, np.swapaxes(c, -1, -2), rtol=0, atol=1e-9 * size):
        raise ValueError("covariance must be symmetric")
    if m.shape[-1] > 1 and c.size:
        lowest = np.linalg.eigvalsh(c).min()
        if lowest < -1e-9 * size:
            raise ValueError(f"covariance must be positive semi-definite, got an eigenvalue of {lowest}")
    return m, c


def relu_moments(mean: ArrayLike, variance: ArrayLike) -> NormalMoments:
    """Mean and variance of max(Z, 0) for Z ~ N(mean, variance).

    Parameters
    ----------
    mean, variance : array_like
        Broadcast against each other; a variance may be 0.

    Returns
    -------
    NormalMoments
        Of the broadcast shape, to 1e-10 of their value down to 37 standard deviations below zero.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If an argument is not finite, or a variance is negative.

    Notes
    -----
    With a = mean/s: E = mean Phi(a) + s phi(a); the variance is s^2 (Phi(a) - g(a) g(-a)) with g(a) = a Phi(a) +
    phi(a), which needs no difference of large numbers.
    """
    m, v = np.broadcast_arrays(_real(mean, "mean"), _variance(variance))
    first, second = _core.relu_moments(np.ascontiguousarray(m), np.ascontiguousarray(v))
    return NormalMoments(first.reshape(m.shape), second.reshape(m.shape))


def relu_covariance(mean: ArrayLike, covariance: ArrayLike) -> NormalMoments:
    """Mean and covariance of max(Z, 0), entry by entry, for Z ~ N(mean, covariance).

    Parameters
    ----------
    mean : array_like, shape (..., d)
    covariance : array_like, shape (..., d, d)
        Positive semi-definite; variances may be 0 and correlations ±1.

    Returns
    -------
    NormalMoments
        Covariances to 1e-10 times the product of the two standard deviations.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If shapes disagree, an argument is not finite, or the matrix is not symmetric positive semi-definite.

    Notes
    -----
    E[max(X, 0) max(Y, 0)] for standard deviations 1, means a, b and correlation rho is (a b + rho) Phi2(a, b; rho) +
    a phi(b) Phi((a - rho b)/q) + b phi(a) Phi((b - rho a)/q) + q^2 phi2(a, b; rho), with q^2 = 1 - rho^2. At zero means
    it is the arc-cosine kernel [1]_. Both means are first brought to the negative side (max(z, 0) = z + max(-z, 0)),
    where nothing large cancels.

    References
    ----------
    .. [1] Y. Cho and L. K. Saul, "Kernel methods for deep learning", NeurIPS 2009, section 2.
    """
    m, c = _normal(mean, covariance)
    d = m.shape[-1]
    first, second = _core.relu_covariance(m.reshape(-1, d), c.reshape(-1, d, d))
    return NormalMoments(first.reshape(m.shape), second.reshape(c.shape))


def bivariate_normal_cdf(h: ArrayLike, k: ArrayLike, rho: ArrayLike) -> Array:
    """P(X <= h, Y <= k) for standard normal X and Y with correlation rho.

    Parameters
    ----------
    h, k : array_like
        Limits; may be infinite.
    rho : array_like
        Correlations between -1 and 1.

    Returns
    -------
    ndarray
        Of the broadcast shape; absolute error below 1e-14.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If an argument is NaN or a correlation is out of range.

    References
    ----------
    .. [1] A. Genz, "Numerical computation of rectangular bivariate and trivariate normal and t probabilities",
       Statistics and Computing 14 (2004) 251-260.
    """
    r = _real(rho, "rho")
    if (np.abs(r) > 1).any():
        raise ValueError(f"rho must be between -1 and 1, got {r[np.abs(r) > 1].flat[0]}")
    args = np.broadcast_arrays(_real(h, "h", infinite=True), _real(k, "k", infinite=True), r)
    result: Array = _core.bivariate_normal_cdf(*(np.ascontiguousarray(a) for a in args))
    return result.reshape(args[0].shape)


def truncated_normal_moments(
    mean: ArrayLike, variance: ArrayLike, lower: ArrayLike = -np.inf, upper: ArrayLike = np.inf
) -> TruncatedMoments:
    """Probability of an interval, and mean and variance of Z ~ N(mean, variance) given that it lies there.

    Parameters
    ----------
    mean, variance : array_like
        Of the normal before truncation.
    lower, upper : array_like, default -inf and inf
        Ends of the interval, lower < upper. All four are broadcast.

    Returns
    -------
    TruncatedMoments
        To 1e-10 of their value for ends up to 30 standard deviations from the mean, however narrow the interval.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If an argument is NaN, a variance is negative, or lower >= upper.
    """
    args = np.broadcast_arrays(
        _real(mean, "mean"),
        _variance(variance),
        _real(lower, "lower", infinite=True),
        _real(upper, "upper", infinite=True),
    )
    if (args[2] >= args[3]).any():
        raise ValueError("lower must be below upper")
    results = _core.truncated_normal_moments(*(np.ascontiguousarray(a) for a in args))
    return TruncatedMoments(*(r.reshape(args[0].shape) for r in results))


def condition_on_half_space(
    mean: ArrayLike, covariance: ArrayLike, normal: ArrayLike, offset: float = 0.0
) -> ConditionedNormal:
    """Probability of a half-space, and mean and covariance of Z ~ N(mean, covariance) given that it lies there.

    Parameters
    ----------
    mean : array_like, shape (d,)
    covariance : array_like, shape (d, d)
    normal : array_like, shape (d,)
        The half-space is ``normal @ Z > offset``.
    offset : float, default 0

    Returns
    -------
    ConditionedNormal
        The exact first two moments; the law itself is no longer normal.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If shapes disagree, an argument is not finite, or the matrix is not symmetric positive semi-definite.
    """
    m, c = _normal(mean, covariance)
    if m.ndim != 1:
        raise ValueError(f"mean must have shape (d,), got {m.shape}")
    a = _real(normal, "normal")
    if a.shape != m.shape:
        raise ValueError(f"normal must have shape {m.shape}, got {a.shape}")
    return ConditionedNormal(*_core.condition_on_half_space(m, c, a, float(_real(offset, "offset"))))


def orthant_probability(
    mean: ArrayLike,
    covariance: ArrayLike,
    method: Literal["genz", "mendell-elston"] = "genz",
    *,
    tolerance: float = 1e-6,
    max_points: int = 1_000_000,
) -> OrthantProbability:
    """P(every coordinate is positive) for Z ~ N(mean, covariance).

    Parameters
    ----------
    mean : array_like, shape (d,)
    covariance : array_like, shape (d, d)
        Positive semi-definite.
    method : {"genz", "mendell-elston"}
        ``"genz"``: a lattice rule after Genz's transformation [1]_, with the variables in order of how much they bind;
        exact for d <= 2. ``"mendell-elston"``: conditioning on one coordinate after the other, each time taking what is
        left as normal [2]_; no error is known, a few thousandths for typical covariances of nine dimensions.
    tolerance : float, default 1e-6
        Where ``"genz"`` stops.
    max_points : int, default 1_000_000
        Where it stops at the latest.

    Returns
    -------
    OrthantProbability
        ``error`` is four standard errors over twelve fixed shifts of the lattice, None for ``"mendell-elston"``. No
        random numbers: the same call gives the same result.

    Raises
    ------
    TypeError
        If an argument is not real.
    ValueError
        If shapes disagree, an argument is not finite, the matrix is not symmetric positive semi-definite, or a setting
        is out of range.

    References
    ----------
    .. [1] A. Genz, "Numerical computation of multivariate normal probabilities", J. Comput. Graph. Stat. 1 (1992)
       141-149.
    .. [2] N. R. Mendell and R. C. Elston, "Multifactorial traits: genetic analysis and prediction of recurrence risks",
       Biometrics 30 (1974) 41-57.
    """
    m, c = _normal(mean, covariance)
    if m.ndim != 1:
        raise ValueError(f"mean must have shape (d,), got {m.shape}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    if max_points < 1:
        raise ValueError(f"max_points must be at least 1, got {max_points}")
    if method == "mendell-elston":
        return OrthantProbability(_core.orthant_mendell_elston(m, c), None)
    if method != "genz":
        raise ValueError(f"method must be 'genz' or 'mendell-elston', got {method!r}")
    return OrthantProbability(*_core.orthant_genz(m, c, float(tolerance), int(max_points)))


def propagate(
    model: RNN,
    mean: ArrayLike = 0.0,
    variance: ArrayLike = 1.0,
    *,
    order: int = 2,
    precision: Literal["double", "single"] = "double",
    threads: int = 1,
) -> StateMoments:
    """Moments of a network's hidden state after every step, for independent inputs and a state taken as normal.

    Parameters
    ----------
    model : RNN
    mean, variance : array_like, shape (..., n), default 0 and 1
        Of the inputs; broadcast against each other and over the n steps.
    order : {2, 1}
        2 keeps the full covariance, 1 keeps variances only and takes units as independent.
    precision : {"double", "single"}
        Arithmetic. Networks with extreme weights are done in double whatever is asked for.
    threads : int, default 1

    Returns
    -------
    StateMoments

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If shapes disagree, an argument is not finite, or a setting is out of range.

    Notes
    -----
    A step is z = W_hh h + W_hi x, exact for a normal h, and h' = max(z, 0), whose means and variances are exact for a
    normal z. Covariances are a Hermite (Mehler) series in the correlation, five terms and a sixth that carries all that
    is left of the variances: with r_i the part of the i-th variance that five terms leave, the error of an entry is at
    most 2 sqrt(r_i r_j) rho^6. Every term is a positive semi-definite matrix, so their sum is one. The state after the
    first step of a network without biases is exact.

    References
    ----------
    .. [1] Alignment Research Center, "Cumulant propagation", arXiv:2605.05179; order 2 is its covariance propagation.
    """
    if not isinstance(model, RNN):
        raise TypeError(f"model must be an outsample.RNN, got {type(model).__name__}")
    if precision not in ("double", "single"):
        raise ValueError(f"precision must be 'double' or 'single', got {precision!r}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    m, v = _real(mean, "mean"), _variance(variance)
    n = model.seq_len
    try:
        shape = np.broadcast_shapes(m.shape, v.shape, (n,))
    except ValueError:
        raise ValueError(f"mean and variance must broadcast to (..., {n}), got {m.shape} and {v.shape}") from None
    flat_mean, flat_variance = (np.ascontiguousarray(np.broadcast_to(a, shape)).reshape(-1, n) for a in (m, v))
    means, covariances, exponents = _core.propagate_states(
        model._network, flat_mean, flat_variance, order, precision == "single", threads
    )
    lead = shape[:-1]
    return StateMoments(
        means.reshape(*lead, *means.shape[1:]),
        covariances.reshape(*lead, *covariances.shape[1:]),
        exponents.reshape(*lead, n),
    )
