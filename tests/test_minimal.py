"""If only one test file is run, this is the one."""

from __future__ import annotations

import numpy as np

import outsample as osp
from conftest import random_rnn


def test_versions_agree():
    assert osp.__version__ == osp._core.__version__ == osp.build_info()["version"]


def test_a_network_has_a_cost():
    assert random_rnn(16, 10).forward_multiply_adds == 2624
    assert random_rnn(16, 10).n_parameters == 432


def test_forward_agrees_with_numpy(isa):
    for d, n, task in ((16, 10, "2nd_argmax"), (5, 4, "argmax"), (3, 2, "median")):
        for biases in (False, True):
            model = random_rnn(d, n, task, biases=biases)
            x = np.random.default_rng(1).normal(size=(37, n)).astype(np.float32)
            h = np.zeros((37, d))
            for t in range(n):
                h = np.maximum(h @ model.W_hh.T + x[:, t : t + 1] * model.W_hi + (model.b_h if biases else 0), 0)
            logits = h @ model.W_oh.T + (model.b_o if biases else 0)
            ours, hidden = model.forward(x, hidden_states=True)
            np.testing.assert_allclose(ours, logits, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(hidden[:, -1], h, rtol=1e-4, atol=1e-4)
