"""The network itself: what it accepts, saving, standard form."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn

SHAPES = [(16, 10, "2nd_argmax", False), (3, 4, "argmax", True), (2, 5, "argmedian", False), (4, 6, "median", True)]


def inputs(model, count=50):
    return np.random.default_rng(5).normal(size=(count, model.seq_len)).astype("f4")


@pytest.mark.parametrize(("d", "n", "task", "biases"), SHAPES)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_saved_and_loaded(tmp_path, d, n, task, biases, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    model = dataclasses.replace(random_rnn(d, n, task, biases=biases), name="a name")
    path = tmp_path / f"2nd_argmax{suffix}"  # what the file says of itself goes before its name
    model.save(path)
    again = osp.load(path)
    assert again.digest == model.digest
    assert (again.name, again.task, again.seq_len) == ("a name", model.task, n)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    model.save(path)
    assert osp.load(str(path), name="other").name == "other"
    dataclasses.replace(model, name="").save(path)
    assert osp.load(path).name == "2nd_argmax"


def test_save_leaves_nothing_behind(tmp_path, monkeypatch):
    model = random_rnn(3, 3)
    for name in ("model.pth", "model", "model.NPZ"):
        with pytest.raises(ValueError, match=r"path must end in \.npz or \.safetensors"):
            model.save(tmp_path / name)
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match=r"outsample\[safetensors\]"):
        model.save(tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("d", "n", "task", "biases"), SHAPES)
def test_state_dict(d, n, task, biases):
    model = random_rnn(d, n, task, biases=biases)
    state = model.state_dict()
    assert osp.RNN.from_state_dict(state, task=task, seq_len=n).digest == model.digest
    for array in state.values():
        array[:] = 0  # they are copies
    assert np.abs(model.W_hh).min() > 0
    assert osp.load(model).digest == model.digest


def test_state_dict_with_one_bias():
    model = random_rnn(3, 4, biases=True)
    for absent in ("b_h", "b_o"):
        one = dataclasses.replace(model, **{absent: None})
        again = osp.load(one)
        np.testing.assert_array_equal(again.forward(inputs(model)), one.forward(inputs(model)))


@pytest.mark.parametrize(("d", "n", "task", "biases"), SHAPES)
def test_state_dict_in_torch(d, n, task, biases):
    """AlgZoo's classes are nn.RNN followed by nn.Linear, without or with biases."""
    torch = pytest.importorskip("torch")
    model = random_rnn(d, n, task, biases=biases)
    module = torch.nn.ModuleDict(
        {
            "rnn": torch.nn.RNN(1, d, nonlinearity="relu", batch_first=True, bias=biases),
            "linear": torch.nn.Linear(d, model.W_oh.shape[0], bias=biases),
        }
    )
    module.load_state_dict({key: torch.from_numpy(value) for key, value in model.state_dict().items()})
    x = inputs(model)
    with torch.no_grad():
        logits = module["linear"](module["rnn"](torch.from_numpy(x)[..., None])[1].squeeze(0)).numpy()
    np.testing.assert_allclose(model.forward(x), logits, rtol=1e-4, atol=1e-4)
    assert osp.load(module, task=task, seq_len=n).digest == model.digest


def double_forward(model, x):
    h = np.zeros((len(x), model.hidden_size))
    for t in range(model.seq_len):
        h = np.maximum(h @ model.W_hh.T.astype(float) + x[:, t : t + 1] * model.W_hi.astype(float), 0)
    return h @ model.W_oh.T.astype(float)


@pytest.mark.parametrize(("d", "n", "task", "biases"), SHAPES)
def test_standardized(d, n, task, biases):
    model = random_rnn(d, n, task, biases=biases)
    standard = model.standardized()
    assert set(standard.W_hi) <= {-1.0, 1.0}
    np.testing.assert_array_equal(standard.W_hi, np.sign(model.W_hi))
    logits = model.forward(inputs(model))
    np.testing.assert_allclose(standard.forward(inputs(model)), logits, atol=2e-6 * np.abs(logits).max() + 1e-5)
    assert standard.standardized().digest == standard.digest
    assert (standard.task, standard.seq_len) == (model.task, model.seq_len)


def test_standardized_powers_of_two_are_exact():
    model = random_rnn(6, 5)
    scaled = 2.0 ** np.random.default_rng(0).integers(-8, 9, size=6)
    same = osp.RNN(
        model.W_hh * scaled[:, None] / scaled, np.sign(model.W_hi) * scaled, model.W_oh / scaled, task=model.task
    )
    np.testing.assert_array_equal(same.standardized().forward(inputs(model)), same.forward(inputs(model)))


def test_standardized_without_input_weights():
    """A neuron with W_hi = 0 keeps its scale; what it reads from the others is rescaled."""
    model = random_rnn(4, 3)
    W_hi = model.W_hi.copy()
    W_hi[[1, 3]] = 0
    model = osp.RNN(model.W_hh, W_hi, model.W_oh)
    standard = model.standardized()
    assert standard.W_hi.tolist() == [np.sign(W_hi[0]), 0, np.sign(W_hi[2]), 0]
    np.testing.assert_array_equal(standard.W_hh[np.ix_([1, 3], [1, 3])], model.W_hh[np.ix_([1, 3], [1, 3])])
    np.testing.assert_allclose(standard.W_hh[1, 0], model.W_hh[1, 0] * abs(W_hi[0]), rtol=1e-6)
    np.testing.assert_allclose(standard.forward(inputs(model)), model.forward(inputs(model)), rtol=1e-4, atol=1e-5)


def test_standardized_overflow():
    model = osp.RNN(np.eye(2), np.array([1e-39, 1.0]), np.eye(2))
    assert np.isfinite(model.standardized().W_oh).all()
    with pytest.raises(ValueError, match="W_hh must be finite in float32"):
        osp.RNN(np.ones((2, 2)), np.array([1e-39, 1.0]), np.eye(2)).standardized()


def test_immutable():
    W = np.eye(2)
    model = osp.RNN(W, np.ones(2), W)
    W[:] = 7
    assert model.W_hh.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.W_hh = W
    with pytest.raises(ValueError, match="read-only"):
        model.W_hh[0, 0] = 1
    assert pickle.loads(pickle.dumps(model)).digest == model.digest


def test_digest_tells_networks_apart():
    model = random_rnn(3, 3)
    others = [
        dataclasses.replace(model, W_hh=model.W_hh.T),
        dataclasses.replace(model, task="argmax"),
        dataclasses.replace(model, b_h=np.zeros(3)),
        dataclasses.replace(model, b_o=np.zeros(3)),
        random_rnn(3, 3, seed=1),
    ]
    assert len({m.digest for m in [model, *others]}) == 6
    assert dataclasses.replace(model, name="other").digest == model.digest


D, N = np.eye(4), np.ones((3, 4))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.eye(4)[:3], np.ones(4), N), {}, ValueError, "W_hh"),
        ((D[0], np.ones(4), N), {}, ValueError, "W_hh"),
        ((D, np.ones(3), N), {}, ValueError, "W_hi|W_hh"),
        ((D, np.ones((4, 2)), N), {}, ValueError, "W_hi"),
        ((D, np.ones(4), np.ones((3, 5))), {}, ValueError, "W_oh"),
        ((D, np.ones(4), np.ones(4)), {}, ValueError, "W_oh|seq_len"),
        ((D, np.ones(4), N), {"b_h": np.ones(3)}, ValueError, "b_h"),
        ((D, np.ones(4), N), {"b_o": np.ones(4)}, ValueError, "b_o"),
        ((D * np.nan, np.ones(4), N), {}, ValueError, "W_hh must be finite"),
        ((D, np.ones(4) * np.inf, N), {}, ValueError, "W_hi must be finite"),
        ((D, np.ones(4), N), {"b_h": np.full(4, np.nan)}, ValueError, "b_h must be finite"),
        ((D.astype(int), np.ones(4), N), {}, TypeError, "W_hh must be an array of real floating-point numbers"),
        ((D.astype(complex), np.ones(4), N), {}, TypeError, "W_hh must be an array of real"),
        ((D.astype(object), np.ones(4), N), {}, TypeError, "W_hh must be an array of real"),
        ((None, np.ones(4), N), {}, TypeError, "W_hh must be an array of real"),
        ((D, np.ones(4), N), {"task": "median", "seq_len": 3}, ValueError, "W_oh must have 1 rows"),
        ((D, np.ones(4), N[:1]), {"task": "median"}, ValueError, "seq_len must be given for task median"),
        ((D, np.ones(4), N), {"seq_len": 4}, ValueError, "W_oh must have 4 rows"),
        ((D, np.ones(4), N[:1]), {}, ValueError, "seq_len must be at least 2"),
        ((D, np.ones(4), np.ones((4, 4))), {"task": "argmedian"}, ValueError, "seq_len must be odd"),
        ((D[:0, :0], np.ones(0), np.ones((3, 0))), {}, ValueError, "W_h"),
    ],
)
def test_bad_arguments(arguments, options, error, message):
    with pytest.raises(error, match=message):
        osp.RNN(*arguments, **options)


def test_forward_of_one_and_many(isa):
    model = random_rnn(5, 4)
    x = inputs(model)
    logits = model.forward(x)
    np.testing.assert_allclose(model.forward(x[3]), logits[3], rtol=1e-6)
    one, hidden = model.forward(x[3], hidden_states=True)
    assert one.shape == (4,)
    assert hidden.shape == (5, 5)
    np.testing.assert_array_equal(model.forward(x, threads=2), logits)
    assert model.forward(x[:0]).shape == (0, 4)


@pytest.mark.parametrize("x", [np.zeros((2, 5)), np.zeros(3), np.zeros((1, 2, 4))])
def test_forward_bad_shape(x):
    with pytest.raises(ValueError, match="x"):
        random_rnn(5, 4).forward(x)
