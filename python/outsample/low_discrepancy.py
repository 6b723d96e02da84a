"""Point sets in the unit cube that fill it more evenly than random points, and their map to inputs of a network.

Nothing here depends on a network's weights, so the points are tables: made once, kept, and their cost is set-up.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

# Primitive polynomials (bits of their coefficients) and initial direction numbers: S. Joe, F. Y. Kuo, "Constructing
# Sobol sequences with better two-dimensional projections", SIAM J. Sci. Comput. 30 (2008), table new-joe-kuo-6.21201.
_JOE_KUO: tuple[tuple[int, tuple[int, ...]], ...] = (
    (1, (1,)),
    (3, (1,)),
    (7, (1, 3)),
    (11, (1, 3, 1)),
    (13, (1, 1, 1)),
    (19, (1, 1, 3, 3)),
    (25, (1, 3, 5, 13)),
    (37, (1, 1, 5, 5, 17)),
    (41, (1, 1, 5, 5, 5)),
    (47, (1, 1, 7, 11, 19)),
    (55, (1, 1, 5, 1, 1)),
    (59, (1, 1, 1, 3, 11)),
    (61, (1, 3, 5, 5, 31)),
    (67, (1, 3, 3, 9, 7, 49)),
    (91, (1, 1, 1, 15, 21, 21)),
    (97, (1, 3, 1, 13, 27, 49)),
    (103, (1, 1, 1, 15, 7, 5)),
    (109, (1, 3, 1, 15, 13, 25)),
    (115, (1, 1, 5, 5, 19, 61)),
    (131, (1, 3, 7, 11, 23, 15, 103)),
    (137, (1, 3, 7, 13, 13, 15, 69)),
    (143, (1, 1, 3, 13, 7, 35, 63)),
    (145, (1, 3, 5, 9, 1, 25, 53)),
    (157, (1, 3, 1, 13, 9, 35, 107)),
    (167, (1, 3, 1, 5, 27, 61, 31)),
    (171, (1, 1, 5, 11, 19, 41, 61)),
    (185, (1, 3, 5, 3, 3, 13, 69)),
    (191, (1, 1, 7, 13, 1, 19, 1)),
    (193, (1, 3, 7, 5, 13, 19, 59)),
    (203, (1, 1, 3, 9, 25, 29, 41)),
    (211, (1, 3, 5, 13, 23, 1, 55)),
    (213, (1, 3, 7, 3, 13, 59, 17)),
    (229, (1, 3, 1, 3, 5, 53, 69)),
    (239, (1, 1, 5, 5, 23, 33, 13)),
    (241, (1, 1, 7, 7, 1, 61, 123)),
    (247, (1, 1, 7, 9, 13, 61, 49)),
    (253, (1, 3, 3, 5, 3, 55, 33)),
    (285, (1, 3, 1, 15, 31, 13, 49, 245)),
    (299, (1, 3, 5, 15, 31, 59, 63, 97)),
    (301, (1, 3, 1, 11, 11, 11, 77, 249)),
)

SOBOL_BITS = 30
MAX_SOBOL_DIMENSIONS = len(_JOE_KUO)


def _sobol_directions(dimensions: int) -> NDArray[np.uint64]:
    """Direction numbers, shape (dimensions, SOBOL_BITS), as SOBOL_BITS-bit integers."""
    if not 1 <= dimensions <= MAX_SOBOL_DIMENSIONS:
        raise ValueError(f"dimensions must be between 1 and {MAX_SOBOL_DIMENSIONS} for sobol, got {dimensions}")
    table = np.zeros((dimensions, SOBOL_BITS), np.uint64)
    for i, (polynomial, initial) in enumerate(_JOE_KUO[:dimensions]):
        degree = polynomial.bit_length() - 1
        m = list(initial) if i else [1] * SOBOL_BITS
        while len(m) < SOBOL_BITS:
            k = len(m)
            value = m[k - degree] ^ (m[k - degree] << degree)
            for j in range(1, degree):
                if polynomial >> (degree - j) & 1:
                    value ^= m[k - j] << j
            m.append(value)
        table[i] = [m[k] << (SOBOL_BITS - 1 - k) for k in range(SOBOL_BITS)]
    return table


def sobol(count: int, dimensions: int, *, rng: np.random.Generator | None = None, first: int = 0) -> Points:
    """Points of Sobol's sequence.

    Parameters
    ----------
    count : int
        How many.
    dimensions : int
        At most 40.
    rng : Generator, optional
        Scramble: a random linear map of the digits and a digital shift, J. Matousek, "On the L2-discrepancy for
        anchored boxes", J. Complexity 14 (1998). Every point is then uniform. Default: unscrambled.
    first : int, default 0
        Number of the first point.

    Returns
    -------
    ndarray, shape (count, dimensions)
        In [0, 1); scrambled points in (0, 1).
    """
    directions = _sobol_directions(dimensions)
    shift = np.zeros(dimensions, np.uint64)
    if rng is not None:
        # Lower triangular matrices over the two-element field with ones on the diagonal; row i makes digit i.
        lower = np.tril(rng.integers(0, 2, (dimensions, SOBOL_BITS, SOBOL_BITS), dtype=np.uint8), -1)
        lower |= np.eye(SOBOL_BITS, dtype=np.uint8)
        place = np.arange(SOBOL_BITS - 1, -1, -1, dtype=np.uint64)
        digits = (directions[:, :, None] >> place & np.uint64(1)).astype(np.int64)
        scrambled = np.einsum("dij,dkj->dki", lower.astype(np.int64), digits) & 1
        directions = (scrambled.astype(np.uint64) << place).sum(axis=-1, dtype=np.uint64)
        shift = rng.integers(0, 1 << SOBOL_BITS, dimensions, dtype=np.uint64)
    number = np.arange(first, first + count, dtype=np.uint64)
    number ^= number >> np.uint64(1)  # Gray code, the customary order
    x = np.tile(shift, (count, 1))
    for bit in range(int(first + count).bit_length()):
        x ^= (number >> np.uint64(bit) & np.uint64(1))[:, None] * directions[:, bit]
    return np.asarray((x + (0.5 if rng is not None else 0.0)) / float(1 << SOBOL_BITS), dtype=np.float64)


def _primes(count: int) -> list[int]:
    primes: list[int] = []
    candidate = 2
    while len(primes) < count:
        if all(candidate % p for p in primes):
            primes.append(candidate)
        candidate += 1
    return primes


def radical_inverse(number: NDArray[np.int64], base: int) -> NDArray[np.float64]:
    """Digits of a number in a base, mirrored at the point (van der Corput)."""
    number = number.copy()
    result = np.zeros(len(number))
    scale = 1.0
    while number.any():
        scale /= base
        number, digit = np.divmod(number, base)
        result += digit * scale
    return result


def hammersley(count: int, dimensions: int, *, shift: NDArray[np.float64] | None = None) -> Points:
    """Hammersley's set: (i + 1/2) / count, then radical inverses of i + 1 in the bases 2, 3, 5, ...

    Parameters
    ----------
    count, dimensions : int
        Shape.
    shift : ndarray, shape (dimensions,), optional
        Added modulo 1 (Cranley and Patterson's rotation), which makes every point uniform if the shift is.
    """
    i = np.arange(count, dtype=np.int64)
    x = np.empty((count, dimensions))
    x[:, 0] = (i + 0.5) / count
    for j, base in enumerate(_primes(dimensions - 1), 1):
        x[:, j] = radical_inverse(i + 1, base)
    return _rotated(x, shift)


def kronecker(count: int, dimensions: int, *, shift: NDArray[np.float64] | None = None) -> Points:
    """Multiples of (1/g, 1/g^2, ...) modulo 1, g the real root above 1 of g^(dimensions + 1) = g + 1, from (1/2, ...).

    A generalisation of the golden ratio: M. Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018).
    """
    g = 1.5
    for _ in range(60):
        g = (1 + g) ** (1 / (dimensions + 1))
    alpha = g ** -np.arange(1.0, dimensions + 1)
    return _rotated((0.5 + np.arange(1, count + 1)[:, None] * alpha) % 1.0, shift)


def _korobov_merit(count: int, generator: int, dimensions: int) -> float:
    """Worst-case error of a Korobov lattice in the weighted Korobov space of smoothness 1, weights 1/j^2."""
    z = np.array([pow(generator, j, count) for j in range(dimensions)], dtype=np.int64)
    x = (np.arange(count, dtype=np.int64)[:, None] * z % count) / count
    bernoulli = 2 * math.pi**2 * (x * x - x + 1 / 6)
    return float(np.prod(1 + bernoulli / np.arange(1.0, dimensions + 1) ** 2, axis=1).mean()) - 1


def lattice(count: int, dimensions: int, *, shift: NDArray[np.float64] | None = None) -> Points:
    """Rank-1 lattice of Korobov's form, i (1, a, a^2, ...) / count modulo 1, half a step from the origin.

    The generator a is the best of up to 32 candidates (fewer for large sets) by the worst-case error in a weighted
    Korobov space (I. H. Sloan, S. Joe, "Lattice Methods for Multiple Integration", 1994, chapter 4).
    """
    golden = (math.sqrt(5) - 1) / 2
    candidates = [1 + int(count * (k * golden % 1.0)) for k in range(1, 65)]
    candidates = [a for a in dict.fromkeys(candidates) if math.gcd(a, count) == 1 and a > 1] or [1]
    tried = candidates[: min(32, max(3, (1 << 19) // count))]
    a = min(tried, key=lambda a: _korobov_merit(count, a, dimensions))
    z = np.array([pow(a, j, count) for j in range(dimensions)], dtype=np.int64)
    x = ((np.arange(count, dtype=np.int64)[:, None] * z % count) + 0.5) / count
    return _rotated(x, shift)


def _rotated(x: Points, shift: NDArray[np.float64] | None) -> Points:
    return x if shift is None else (x + shift) % 1.0


def normal_quantile(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of the standard normal distribution function, relative error about 1e-15.

    References
    ----------
    M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37 (1988).
    """

    def ratio(x: NDArray[np.float64], over: tuple[float, ...], under: tuple[float, ...]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = np.polyval(over, x) / np.polyval(under, x)
        return result

    p = np.asarray(p, dtype=np.float64)
    q = p - 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = q * ratio(
            0.180625 - q * q,
            (
                2509.0809287301226727,
                33430.575583588128105,
                67265.770927008700853,
                45921.953931549871457,
                13731.693765509461125,
                1971.5909503065514427,
                133.14166789178437745,
                3.387132872796366608,
            ),
            (
                5226.495278852854561,
                28729.085735721942674,
                39307.89580009271061,
                21213.794301586595867,
                5394.1960214247511077,
                687.1870074920579083,
                42.313330701600911252,
                1.0,
            ),
        )
        r = np.sqrt(-np.log(np.minimum(p, 1 - p)))
        middle = ratio(
            r - 1.6,
            (
                7.7454501427834140764e-4,
                0.0227238449892691845833,
                0.24178072517745061177,
                1.27045825245236838258,
                3.64784832476320460504,
                5.7694972214606914055,
                4.6303378461565452959,
                1.42343711074968357734,
            ),
            (
                1.05075007164441684324e-9,
                5.475938084995344946e-4,
                0.0151986665636164571966,
                0.14810397642748007459,
                0.68976733498510000455,
                1.6763848301838038494,
                2.05319162663775882187,
                1.0,
            ),
        )
        far = ratio(
            r - 5.0,
            (
                2.01033439929228813265e-7,
                2.71155556874348757815e-5,
                0.0012426609473880784386,
                0.026532189526576123093,
                0.29656057182850489123,
                1.7848265399172913358,
                5.4637849111641143699,
                6.6579046435011037772,
            ),
            (
                2.04426310338993978564e-15,
                1.4215117583164458887e-7,
                1.8463183175100546818e-5,
                7.868691311456132591e-4,
                0.0148753612908506148525,
                0.13692988092273580531,
                0.59983220655588793769,
                1.0,
            ),
        )
    tail = np.where(r <= 5.0, middle, far)
    result: NDArray[np.float64] = np.where(np.abs(q) <= 0.425, centre, np.where(q < 0, -tail, tail))
    return result


#: Largest values whose positions and values get coordinates of their own.
RANKED = 3
#: Factors of a mixed-radix expansion that one coordinate is asked to carry.
_DIGITS = 8


def order_dimensions(inputs: int, ranked: int = RANKED) -> int:
    """Coordinates that `order_inputs` needs for this many inputs."""
    ranked = min(ranked, inputs)
    choices = min(ranked, inputs - 1)
    return -(-choices // _DIGITS) + inputs


def order_inputs(u: Points, inputs: int, ranked: int = RANKED) -> Points:
    """Map points of the unit cube to standard normal inputs by way of their largest values.

    The first coordinate, read in mixed radix, places the largest input, the second-largest and so on; further
    coordinates are the values of these `ranked` ones, from the largest down; each of the others has one coordinate
    that gives its value below them, in the order of positions. Uniform points become independent standard normals.
    What decides the answers, who is largest and by how much, thus depends on a few leading coordinates.

    Parameters
    ----------
    u : ndarray, shape (count, order_dimensions(inputs, ranked))
        In (0, 1).
    inputs : int
        How many inputs.
    ranked : int, default 3
        How many of the largest are treated so; at most `inputs`.

    Returns
    -------
    ndarray, shape (count, inputs)
    """
    ranked = min(ranked, inputs)
    count, rows = len(u), np.arange(len(u))[:, None]
    left = np.tile(np.arange(inputs), (count, 1))
    position = np.empty((count, inputs), dtype=np.intp)
    coordinate = 0
    for j in range(min(ranked, inputs - 1)):
        if j % _DIGITS == 0:
            fraction = u[:, coordinate]
            coordinate += 1
        base = inputs - j
        digit = np.minimum((fraction * base).astype(np.intp), base - 1)
        fraction = fraction * base - digit
        position[:, j] = left[rows[:, 0], digit]
        left = left[np.arange(base) != digit[:, None]].reshape(count, base - 1)
    placed = inputs - left.shape[1]
    position[:, placed:] = left
    # Descending order statistics of uniforms: the largest of k uniforms below a bound b is b u^(1/k).
    u = u[:, coordinate:]
    top = np.exp(np.cumsum(np.log(u[:, :ranked]) / (inputs - np.arange(ranked)), axis=1))
    below = top[:, -1:] * u[:, ranked:]
    x = np.empty((count, inputs))
    np.put_along_axis(x, position, normal_quantile(np.concatenate([top, below], axis=1)), axis=1)
    return x
