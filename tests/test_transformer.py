"""Transformers of the longest-cycle family."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn


def random_transformer(d: int, n: int, layers: int = 2, seed: int = 0) -> osp.Transformer:
    rng = np.random.default_rng(seed)
    shapes = (n, d), (n, d), (layers, 3 * d, d), (layers, d, d), (n, d)
    return osp.Transformer(*(rng.normal(size=shape) for shape in shapes))


def fields_of(model: osp.Transformer) -> dict[str, np.ndarray]:
    return {name: getattr(model, name) for name in ("embed", "pos_embed", "in_proj", "out_proj", "unembed")}


def reference(model: osp.Transformer, x: np.ndarray) -> np.ndarray:
    """The same network with numpy, whole arrays at a time."""
    h = model.embed.astype(float)[x] + model.pos_embed
    for w_in, w_out in zip(model.in_proj.astype(float), model.out_proj.astype(float), strict=True):
        q, k, v = np.split(h @ w_in.T, 3, axis=-1)
        scores = q @ k.swapaxes(1, 2) / np.sqrt(model.hidden_size)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        h = h + weights / weights.sum(-1, keepdims=True) @ v @ w_out.T
    return h[:, -1] @ model.unembed.T


def longest_cycle(f: tuple[int, ...]) -> int:
    """By the definition: the largest k such that some x returns to itself for the first time after k steps."""
    best = 0
    for start in range(len(f)):
        at, steps = f[start], 1
        while at != start and steps <= len(f):
            at, steps = f[at], steps + 1
        if at == start:
            best = max(best, steps)
    return best


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_label(n):
    x = np.array(list(itertools.product(range(n), repeat=n)))
    label = osp.get_task("longest_cycle").target(x)
    assert label.tolist() == [longest_cycle(f) - 1 for f in map(tuple, x)]
    assert label.min() >= 0
    # Functions whose longest cycle has length n are the cyclic permutations.
    assert (label == n - 1).sum() == math.factorial(n - 1)


@pytest.mark.parametrize(("d", "n", "layers"), [(2, 3, 2), (8, 6, 2), (3, 4, 1), (5, 2, 3)])
def test_forward(d, n, layers):
    model = random_transformer(d, n, layers)
    x = np.random.default_rng(0).integers(0, n, size=(301, n))
    np.testing.assert_allclose(model.forward(x), reference(model, x), rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(model.forward(x, threads=3), model.forward(x))
    np.testing.assert_array_equal(model.forward(x[5]), model.forward(x)[5])


def test_algzoo_transformer(models_dir):
    model = osp.load(models_dir / "algzoo_transformer_small.pth")
    assert isinstance(model, osp.Transformer)
    assert (model.hidden_size, model.seq_len, model.layers, model.n_parameters) == (2, 3, 2, 50)
    saved = np.load(models_dir / "reference_logits.npz")
    x, logits = saved["algzoo_transformer_small_x"], saved["algzoo_transformer_small_logits"]
    np.testing.assert_allclose(model.forward(x), logits, rtol=1e-5, atol=1e-5 * np.abs(logits).max())
    np.testing.assert_array_equal(model.task.target(x), saved["algzoo_transformer_small_label"])
    e = osp.Enumeration().estimate(model, budget=27)
    assert (e.value, e.standard_error, e.settings["correct"], e.settings["inputs"]) == (1.0, 0.0, 27, 27)
    assert osp.MonteCarlo().estimate(model, budget=500, rng=0).value == 1.0


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_enumeration_judges_every_input_once(n):
    model = random_transformer(4, n, seed=n)
    x = np.array(list(itertools.product(range(n), repeat=n)))
    right = model.forward(x).argmax(axis=1) == model.task.target(x)
    for threads in (1, 3):
        e = osp.Enumeration().estimate(model, budget=n**n, threads=threads)
        assert e.settings["correct"] == right.sum()
        assert e.value == right.mean()
        assert e.cost.multiply_adds == n**n * model.forward_multiply_adds


def test_sampling_agrees_with_enumeration():
    model = random_transformer(4, 5, seed=3)
    p = osp.Enumeration().estimate(model, budget=5**5).value
    e = osp.MonteCarlo().estimate(model, budget=200_000, rng=1)
    assert 0 < p < 1
    assert abs(e.value - p) < 4.5 * e.standard_error
    assert e.value == osp.MonteCarlo().estimate(model, budget=200_000, rng=1, threads=3).value


def test_ties_go_to_the_lowest_index():
    model = osp.Transformer(*(np.zeros(s) for s in ((3, 2), (3, 2), (1, 6, 2), (1, 2, 2), (3, 2))))
    x = np.array(list(itertools.product(range(3), repeat=3)))
    assert osp.Enumeration().estimate(model, budget=27).value == (model.task.target(x) == 0).mean()


def test_cost_of_a_forward_pass():
    # Two layers, d = 2, n = 3: the first at all positions, the second at the last one; then the readout.
    first = 3 * (3 * 4 + 2 * 3 * 2 + 4)
    last = 3 * 2 * 4 + 4 + 2 * 3 * 2 + 4
    assert random_transformer(2, 3).forward_multiply_adds == first + last + 6


def test_immutable_and_picklable():
    model = random_transformer(2, 3)
    again = pickle.loads(pickle.dumps(model))
    assert again.digest == model.digest != random_transformer(2, 3, seed=1).digest
    with pytest.raises(AttributeError):
        model.embed = np.zeros((3, 2))
    with pytest.raises(ValueError, match="read-only"):
        model.embed[0, 0] = 1.0
    assert repr(model) == "Transformer(task='longest_cycle', hidden_size=2, seq_len=3, layers=2, parameters=50)"


def test_loading_from_fields_and_state_dicts():
    model = random_transformer(3, 4)
    fields = fields_of(model)
    assert osp.load(fields).digest == model.digest
    state = {f"{k}.weight": fields[k] for k in ("embed", "pos_embed", "unembed")}
    for i in range(2):
        state[f"attns.{i}.in_proj_weight"] = model.in_proj[i]
        state[f"attns.{i}.out_proj.weight"] = model.out_proj[i]
    assert osp.load(state, task="longest_cycle", seq_len=4, name="cycle").digest == model.digest
    del state["attns.1.out_proj.weight"]
    with pytest.raises(ValueError, match=r"attns\.1\.out_proj\.weight are missing"):
        osp.load(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos_embed": np.zeros((3, 3))}, r"pos_embed must have shape \(3, 2\), got \(3, 3\)"),
        ({"in_proj": np.zeros((2, 2))}, "in_proj must have shape"),
        ({"out_proj": np.zeros((2, 2, 3))}, r"out_proj must have shape \(2, 2, 2\)"),
        ({"unembed": np.full((3, 2), np.nan)}, "unembed must be finite"),
        ({"embed": np.zeros(3)}, "embed must have shape"),
    ],
)
def test_bad_weights(change, message):
    model = random_transformer(2, 3)
    fields = fields_of(model)
    with pytest.raises(ValueError, match=message):
        osp.Transformer(**{**fields, **change})


def test_bad_inputs_and_tasks():
    model = random_transformer(2, 3)
    with pytest.raises(ValueError, match="from 0 to 2, got 0 to 3"):
        model.forward([[0, 1, 3]])
    with pytest.raises(TypeError, match="integers"):
        model.forward([[0.0, 1.0, 2.0]])
    with pytest.raises(ValueError, match="shape"):
        model.forward([[0, 1]])
    with pytest.raises(ValueError, match="task must be longest_cycle"):
        osp.load(fields_of(model), task="argmax")
    with pytest.raises(ValueError, match="must be one of a recurrent network"):
        osp.RNN(np.eye(2), np.ones(2), np.eye(2), task="longest_cycle")
    with pytest.raises(ValueError, match="got longest_cycle"):
        osp.ExactIntegration().estimate(model, budget=10**6)
    with pytest.raises(ValueError, match="got 2nd_argmax"):
        osp.Enumeration().estimate(random_rnn(2, 2), budget=10**6)
    with pytest.raises(ValueError, match="budget must be at least 27"):
        osp.Enumeration().estimate(model, budget=26)
    with pytest.raises(ValueError, match="seq_len at most 9, got 10"):
        osp.Enumeration().estimate(random_transformer(2, 10), budget=10**11)
    with pytest.raises(TypeError, match="model must be an outsample"):
        osp.MonteCarlo().estimate("model", budget=10)


def test_an_rnn_is_not_made_from_a_transformers_weights():
    with pytest.raises(ValueError, match="task must be longest_cycle"):
        osp.RNN.from_state_dict(fields_of(random_transformer(2, 3)))
    with pytest.raises(ValueError, match="got those of a transformer"):
        osp.RNN.from_state_dict(fields_of(random_transformer(2, 3)), task="longest_cycle")
