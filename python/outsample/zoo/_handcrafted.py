"""Networks for the 2nd-argmax task in which every weight follows from an argument.

Throughout, ``relu(a - b) = max(a, b) - b`` is what turns a ReLU into a maximum. Inputs are x_0 ... x_{n-1}, and h_t is
the hidden state after x_{t-1}.

References
----------
J. Hilton, "AlgZoo: uninterpreted models with fewer than 1,500 parameters", Alignment Forum, 2026. It gives the network
with two inputs, shows running maxima and leave-one-out maxima in a trained network, and says that networks of 4 and 22
neurons with accuracies 99.99% and 99% can be made by hand. The weights of those two are derived here.
"""

from __future__ import annotations

import math

import numpy as np

from outsample.models import RNN

#: kappa of the three-input network. The error in exact arithmetic falls as kappa**-2 and that of rounding to float32
#: grows as kappa**2; this is near the least sum.
SHARPNESS = 64.0

#: How strongly the largest input is held down in the network with leave-one-out maxima.
PENALTY = 65536.0


def handcrafted(seq_len: int) -> RNN:
    """A network for the 2nd-argmax task that was made by hand.

    Parameters
    ----------
    seq_len : int
        Number of inputs n, at least 2. Networks with two and three inputs are special (2 and 4 neurons); from four on,
        the network has 2 n + 2 neurons.

    Returns
    -------
    RNN

    Raises
    ------
    ValueError
        If ``seq_len`` is below 2.

    Notes
    -----
    The accuracies on standard Gaussian inputs, in exact arithmetic:

    - n = 2: 1;
    - n = 3: ``1 - (2 / pi) arctan(sqrt(3) / (4 kappa^2))`` = 0.99993 with kappa = 64;
    - n > 3: ``1 - 2**-n`` to within 1e-5; 0.9990 for n = 10.

    `explain` says what every neuron does.

    Examples
    --------
    >>> import outsample as osp
    >>> osp.zoo.handcrafted(10)
    RNN('handcrafted_22_10', task='2nd_argmax', hidden_size=22, seq_len=10, parameters=726)
    """
    if isinstance(seq_len, bool) or not isinstance(seq_len, int):
        raise TypeError(f"seq_len must be an integer, got {type(seq_len).__name__}")
    if seq_len < 2:
        raise ValueError(f"seq_len must be at least 2, got {seq_len}")
    if seq_len == 2:
        weights = _difference()
    elif seq_len == 3:
        weights = _rotation(SHARPNESS)
    else:
        weights = _leave_one_out(seq_len, PENALTY)
    W_hh, W_hi, W_oh = (array.astype(np.float32) for array in weights)
    return RNN(W_hh, W_hi, W_oh, name=f"handcrafted_{len(W_hi)}_{seq_len}")


def handcrafted_accuracy(seq_len: int) -> float:
    """Accuracy of `handcrafted` in exact arithmetic; for n > 3, to within 1e-5."""
    if seq_len == 2:
        return 1.0
    if seq_len == 3:
        return 1 - 2 / math.pi * math.atan(math.sqrt(3) / (4 * SHARPNESS**2))
    return 1 - 2.0**-seq_len


def explain(seq_len: int) -> list[str]:
    """What each neuron of ``handcrafted(seq_len)`` is after t inputs, in the order of the neurons.

    ``M(t)`` is max(0, x_0, ..., x_{t-1}), and ``L_k(t)`` the same without x_{t-k}; inputs before x_0 count as 0.
    """
    if seq_len == 2:
        return ["relu(x_{t-1} - x_{t-2})", "relu(x_{t-2} - x_{t-1})"]
    if seq_len == 3:
        s, w = "x_{t-1} - (x_{t-2} + x_{t-3}) / 2", "(x_{t-2} - x_{t-3})"
        sums = (f"{s} {sign} {SHARPNESS:g} {w}" for sign in "+-")
        return [f"relu({sign}({total}))" for total in sums for sign in "+-"]
    later = range(2, seq_len + 1)
    return [
        "relu(x_{t-1})",
        "relu(-x_{t-1})",
        "M(t) - x_{t-1}",
        *(f"L_{k}(t) - x_{{t-1}}" for k in later),
        "M(t) - M(t-1)",
        *(f"M(t-1) - x_{{t-{k}}}" for k in later),
    ]


_Weights = tuple[np.ndarray, np.ndarray, np.ndarray]


def _difference() -> _Weights:
    """Two inputs, two neurons: h_2 = (relu(x_1 - x_0), relu(x_0 - x_1)), and the logits are +-(x_1 - x_0).

    The weights are those of the post. After x_0 the neurons are the two parts of x_0, whose difference is x_0 itself,
    so nothing is lost.
    """
    sign = np.array([1.0, -1.0])
    return -np.outer(sign, sign), sign, np.outer(sign, sign)


def _rotation(kappa: float) -> _Weights:
    """Three inputs, four neurons: a rotation by a third of a turn, read through absolute values.

    The label is the position of the median, and in terms of ``s = x_2 - (x_0 + x_1) / 2`` and ``w = x_1 - x_0`` it is:
    2 if ``|s| < |w| / 2``; else 1 if s and w have the same sign; else 0. Two absolute values tell all three apart::

        F_1 = |s + kappa w|,  F_2 = |s - kappa w|

    Where ``|s| < kappa |w|``, the sum is ``2 kappa |w|`` and the difference ``F_1 - F_2`` is ``2 sign(w) s``, so the
    label is 2 iff ``|F_1 - F_2| < (F_1 + F_2) / (2 kappa)``, else 1 or 0 by the sign of ``F_1 - F_2``: exactly right.
    Where ``|s| > kappa |w|``, the sum is ``2 |s|`` and the difference ``2 kappa sign(s) w``: its sign is still right,
    and 2 is answered by mistake only for ``|w| < |s| / (2 kappa^2)``. For Gaussian inputs s and w are independent with
    variances 3/2 and 2, which gives the accuracy in `handcrafted`.

    ``(s, w)`` is linear in the inputs, so a linear recurrence makes it, if the state ``(s_t, kappa w_t)`` is kept in
    pairs of neurons relu(+u), relu(-u), whose difference is u: x_t enters s with weight 1, and the matrix must carry
    the vector (1, 0) to (-1/2, kappa) and that to (-1/2, -kappa). The only such matrix has the cube roots of unity
    other than 1 as its eigenvalues: it is a rotation by 120 degrees in skewed coordinates.
    """
    rotation = np.array([[-1 / 2, -3 / (4 * kappa)], [kappa, -1 / 2]])  # of (s, kappa w)
    mix = np.array([[1.0, 1.0], [1.0, -1.0]])  # to u = (s + kappa w, s - kappa w)
    recurrence = mix @ rotation @ mix / 2
    pair = np.array([1.0, -1.0])  # relu(u) and relu(-u)
    edge = 1 / (2 * kappa)
    readout = np.array([[-1 - edge, 1 - edge], [1 - edge, -1 - edge], [0, 0]])  # of (F_1, F_2)
    return np.kron(recurrence, np.outer(pair, pair)), np.tile(pair, 2), np.kron(readout, np.ones(2))


def _leave_one_out(n: int, penalty: float) -> _Weights:
    """Any number of inputs, 2 n + 2 neurons: all inputs and all leave-one-out maxima, side by side.

    With ``M(t) = max(0, x_0, ..., x_{t-1})`` and ``L_k(t)`` the same without x_{t-k}, the neurons after t inputs are

    - P, N: the two parts of x_{t-1}, so that ``x_{t-1} = P - N``;
    - C = ``M(t) - x_{t-1}`` = relu(M(t-1) - x_{t-1}), from ``M(t-1) = x_{t-2} + C``, one step ago;
    - B = ``M(t) - M(t-1)`` = relu(x_{t-1} - M(t-1)), from the same;
    - E_k = ``M(t-1) - x_{t-k}`` for k = 2 ... n: E_2 is C one step ago, and E_k is E_{k-1} + B, one step ago. These are
      never negative, so the ReLU passes them on: a memory of all inputs;
    - C_k = ``L_k(t) - x_{t-1}`` = relu(L_{k-1}(t-1) - x_{t-1}) for k = 2 ... n, since ``L_k(t)`` is the larger of
      ``L_{k-1}(t-1)`` and x_{t-1}. Here ``L_{k-1}(t-1) = x_{t-2} + C_{k-1}`` for k > 2, and ``L_1(t-1) = M(t-2)``
      ``= x_{t-2} + C - B``, one step ago.

    At the end all x_i and all leave-one-out maxima L_i are linear in the state, and so are the logits::

        logit_i = x_i - M - penalty (M - L_i)

    The last term is zero but for the largest input, which it takes from M down to ``M - penalty (M - S)``, where S is
    the second largest: below S for any penalty above 1. So the second largest wins, if maxima are what they should be.
    The 0 in M is in the way where less than two inputs are positive. With one positive input, L_i is 0 instead of S,
    and a large penalty still holds the largest down. With none, all L_i and M are 0, the largest input wins, and the
    answer is wrong: this has probability ``2**-n``.

    P and N could be left out, as ``x_{t-1} = M(t) - C``. With them C and C_k are computed from the same numbers in the
    same order, so they are equal to the last bit where they should be; and as they stand before B and E_k in the
    state, their difference cancels before the rest of a logit is added. So the penalty can be as large as one likes.
    """
    P, N, C, B = 0, 1, 2, n + 2
    L = {k: k + 1 for k in range(2, n + 1)}
    E = {k: n + 1 + k for k in range(2, n + 1)}
    d = 2 * n + 2
    W_hh, W_hi, W_oh = np.zeros((d, d)), np.zeros(d), np.zeros((n, d))
    W_hi[[P, N, B, C]] = 1, -1, 1, -1
    W_hh[C, [P, N, C]] = 1, -1, 1
    W_hh[B, [P, N, C]] = -1, 1, -1
    for k in range(2, n + 1):
        W_hh[E[k], [C] if k == 2 else [E[k - 1], B]] = 1
        W_hi[L[k]] = -1
        W_hh[L[k], [P, N]] = 1, -1
        if k == 2:
            W_hh[L[k], [C, B]] = 1, -1
        else:
            W_hh[L[k], L[k - 1]] = 1
        W_oh[n - k, [E[k], B]] = -1
        W_oh[n - k, [C, L[k]]] = -penalty, penalty
    W_oh[n - 1, [C, B]] = -1, -penalty
    return W_hh, W_hi, W_oh
