"""Training: the backward pass, the optimiser, reproducibility, and everything that can go wrong."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn
from outsample import training
from outsample.cli import main

SHAPES = [
    ("2nd_argmax", 16, 10),
    ("2nd_argmax", 2, 2),
    ("2nd_argmax", 3, 12),
    ("2nd_argmax", 22, 10),
    ("argmax", 5, 4),
    ("argmax", 4, 1),
    ("argmax", 130, 2),
    ("argmedian", 8, 7),
    ("median", 4, 10),
    ("median", 32, 3),
]
NAMES = ("W_hh", "W_hi", "W_oh", "b_h", "b_o")


def weights_of(model):
    return {name: getattr(model, name) for name in NAMES if getattr(model, name) is not None}


def losses(weights, x, targets, task):
    """Loss per sequence in float64, written down from its definition."""
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    h = np.zeros((len(x), len(w["W_hi"])))
    for t in range(x.shape[1]):
        h = np.maximum(h @ w["W_hh"].T + x[:, t, None] * w["W_hi"] + w.get("b_h", 0), 0)
    logits = h @ w["W_oh"].T + w.get("b_o", 0)
    if task == "median":
        return (logits[:, 0] - targets) ** 2
    logits -= logits.max(axis=1, keepdims=True)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(x)), targets]


def difference_quotients(f, array, step=1e-6):
    result = np.zeros(array.shape)
    for i in np.ndindex(*array.shape):
        moved = array.copy()
        moved[i] += step
        above = f(moved)
        moved[i] -= 2 * step
        result[i] = (above - f(moved)) / (2 * step)
    return result


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize(("task", "d", "n"), [s for s in SHAPES if s[1] < 9])
def test_gradients_are_those_of_finite_differences(isa, task, d, n, biases):
    model = random_rnn(d, n, task, biases=biases)
    x = np.random.default_rng(1).normal(size=(23, n))
    targets = model.task.target(x)
    result = osp.gradients(model, x)
    weights = {name: np.asarray(w, np.float64) for name, w in weights_of(model).items()}
    assert result.loss == pytest.approx(losses(weights, x, targets, task).mean(), rel=1e-5, abs=1e-7)
    scale = max(1.0, *(np.abs(g).max() for g in result.weights.values()))
    for name in weights:
        expected = difference_quotients(
            lambda w, name=name: losses(weights | {name: w}, x, targets, task).mean(), weights[name]
        )
        np.testing.assert_allclose(result.weights[name], expected, rtol=1e-4, atol=3e-5 * scale)
    expected = difference_quotients(lambda v: losses(weights, v, targets, task).sum(), x)
    np.testing.assert_allclose(result.inputs, expected, rtol=1e-4, atol=1e-3 * max(1, np.abs(expected).max()) / 10)


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize(("task", "d", "n"), SHAPES)
def test_gradients_are_those_of_torch(isa, task, d, n, biases):
    torch = pytest.importorskip("torch")
    model = random_rnn(d, n, task, seed=2, biases=biases)
    x = np.random.default_rng(3).normal(size=(2111, n)).astype(np.float32)
    w = {k: torch.tensor(v.astype(np.float64), requires_grad=True) for k, v in weights_of(model).items()}
    inputs = torch.tensor(x.astype(np.float64), requires_grad=True)
    h = torch.zeros(len(x), d, dtype=torch.float64)
    for t in range(n):
        h = torch.relu(h @ w["W_hh"].T + inputs[:, t : t + 1] * w["W_hi"] + w.get("b_h", 0))
    logits = h @ w["W_oh"].T + w.get("b_o", 0)
    targets = torch.tensor(model.task.target(x))
    if task == "median":
        loss = ((logits[:, 0] - targets) ** 2).sum()
    else:
        loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    loss.backward()
    result = osp.gradients(model, x, threads=2)
    assert result.loss == pytest.approx(loss.item() / len(x), rel=1e-5, abs=1e-7)
    for name, value in w.items():
        expected = value.grad.numpy() / len(x)
        np.testing.assert_allclose(result.weights[name], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    expected = inputs.grad.numpy()
    np.testing.assert_allclose(result.inputs, expected, rtol=1e-4, atol=1e-4 * max(1e-3, np.abs(expected).max()))


def test_given_targets_and_logit_gradients_replace_the_task(isa):
    model = random_rnn(6, 5)
    x = np.random.default_rng(4).normal(size=(41, 5)).astype(np.float32)
    targets = np.random.default_rng(5).integers(0, 5, 41)
    result = osp.gradients(model, x, targets)
    assert result.loss == pytest.approx(losses(weights_of(model), x, targets, "2nd_argmax").mean(), rel=1e-5)
    logits = model.forward(x).astype(np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    same = osp.gradients(model, x, logit_gradients=p - np.eye(5)[targets])
    assert same.loss is None
    np.testing.assert_allclose(same.inputs, result.inputs, rtol=1e-4, atol=1e-5)
    for name, value in same.weights.items():
        np.testing.assert_allclose(value, result.weights[name], rtol=1e-3, atol=1e-5)


def test_the_shortcut_through_the_first_step_changes_nothing(isa):
    # The training path skips the first step's matrix products; asking for input gradients takes the long way.
    for task, d, n in SHAPES:
        model = random_rnn(d, n, task, seed=6)
        x = np.random.default_rng(7).normal(size=(777, n)).astype(np.float32)
        short = osp._core.loss_gradient(model._network, x, task, None, None, False)
        long = osp._core.loss_gradient(model._network, x, task, None, None, True)
        assert short[0] == pytest.approx(long[0], rel=1e-5, abs=1e-6)
        np.testing.assert_allclose(short[2], long[2], rtol=1e-3, atol=1e-5 * max(1.0, np.abs(long[2]).max()))


def core_train(
    parameters, m, v, step, steps, *, batch=64, threads=1, rate=0.02, total=100, task="2nd_argmax", d=4, n=3
):
    outputs = 1 if task == "median" else n
    return osp._core.train(
        d, n, task, outputs, False, batch, 99, (0.9, 0.999, 1e-8, 0.001), (rate, 8, 0.01, total),
        parameters, m, v, step, steps, threads,
    )  # fmt: skip


def test_adamw_is_that_of_torch(isa):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(8)
    p = rng.normal(size=32).astype(np.float32) / 2
    m, v = np.zeros(32, np.float32), np.zeros(32, np.float32)
    theirs = torch.tensor(p.astype(np.float64), requires_grad=True)
    optimiser = torch.optim.AdamW([theirs], lr=1.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.001)
    beta1_power = 1.0
    for step in range(30):
        before, m_before = p.copy(), m.copy()
        done, loss, _ = core_train(p, m, v, step, 1)
        assert done == 1
        assert np.isfinite(loss).all()
        # The gradient that the core has used, from what it did to the first moment.
        theirs.grad = torch.tensor((m.astype(np.float64) - 0.9 * m_before) / 0.1)
        rate = 0.02 * min((step + 1) / 8, 1) * max(0.01 ** (2 * step / 100), 0.01)
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
        beta1_power *= 0.9
        assert np.abs(p - before).max() > 0.1 * rate
        np.testing.assert_allclose(p, theirs.detach().numpy(), atol=2e-4)


def test_one_step_by_hand():
    # Step 1 of AdamW moves every weight by the learning rate against the sign of its gradient, after the decay.
    p = np.random.default_rng(9).normal(size=32).astype(np.float32)
    before = p.copy()
    m, v = np.zeros(32, np.float32), np.zeros(32, np.float32)
    core_train(p, m, v, 0, 1)
    rate = 0.02 / 8
    moved = np.abs(m) > 1e-6
    expected = before * (1 - rate * 0.001) - rate * np.sign(m)
    np.testing.assert_allclose(p[moved], expected[moved], atol=1e-6)
    np.testing.assert_allclose(v, m.astype(np.float64) ** 2 * 0.001 / 0.01, rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 33, 250, 1024])
def test_threads_do_not_change_a_bit(isa, batch):
    results = []
    for threads in (1, 2, 3, 8, 20):
        p = np.random.default_rng(10).normal(size=32).astype(np.float32) / 2
        m, v = np.zeros(32, np.float32), np.zeros(32, np.float32)
        _, loss, correct = core_train(p, m, v, 0, 20, batch=batch, threads=threads)
        results.append((p.tobytes(), m.tobytes(), v.tobytes(), loss.tobytes(), correct.tobytes()))
    assert len(set(results)) == 1


def test_partial_tiles_count_only_their_own_sequences(isa):
    # A batch of any size has the mean loss of its sequences: with equal logits exactly log(outputs).
    for batch in (1, 5, 31, 32, 33, 100):
        p, m, v = (np.zeros(32, np.float32) for _ in range(3))
        _, loss, correct = core_train(p, m, v, 0, 1, batch=batch)
        assert loss[0] == pytest.approx(math.log(3), rel=1e-6)
        assert 0 <= correct[0] <= batch


@pytest.mark.parametrize("task", ["2nd_argmax", "argmax", "argmedian", "median"])
@pytest.mark.parametrize("biases", [False, True])
def test_every_task_learns(task, biases):
    result = osp.train(
        task, 8, 3, n_sequences=2**20, batch_size=256, warmup_steps=200, learning_rate=0.02, biases=biases
    )
    assert result.log[-1].loss < 0.5 * result.log[0].loss
    assert result.model.has_biases == biases
    value, error = training.measure(result.model, 2**16, key=5)
    last = result.log[-1]
    reached = last.loss if task == "median" else last.accuracy
    assert abs(value - reached) < 6 * error + 0.01


def test_the_recipe_is_algzoos():
    result = osp.train("2nd_argmax", 16, 10, n_sequences=2**11)
    assert {k: v for k, v in result.settings.items() if k not in ("task", "n_sequences")} == {
        "hidden_size": 16,
        "seq_len": 10,
        "seed": 0,
        "batch_size": 1024,
        "learning_rate": 0.01,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.001,
        "warmup_steps": 2**14,
        "final_factor": 0.01,
        "biases": False,
    }
    first = result.checkpoints[0]
    weights = np.concatenate([w.ravel() for w in weights_of(first).values()])
    assert np.abs(weights).max() < 0.25  # uniform on +-1/sqrt(d)
    assert weights.std() == pytest.approx(0.25 / math.sqrt(3), rel=0.1)
    assert result.model.name == "2nd_argmax_16_10_2048_0"


def test_the_first_loss_is_that_of_the_first_weights():
    result = osp.train("2nd_argmax", 8, 5, n_sequences=2**16, batch_size=2**16)
    x = np.random.default_rng(11).normal(size=(2**16, 5)).astype(np.float32)
    expected = osp.gradients(result.checkpoints[0], x).loss
    assert result.log[0].loss == pytest.approx(expected, abs=5e-3)


def test_checkpoints_at_powers_of_two():
    seen = []
    result = osp.train("2nd_argmax", 2, 2, n_sequences=2**22, callback=seen.append)
    assert list(result.checkpoints) == [0, 2**20, 2**21, 2**22]
    assert result.checkpoints[2**22].digest == result.model.digest
    assert len({model.digest for model in result.checkpoints.values()}) == 4
    assert seen == list(result.log)
    assert {2**k for k in range(10, 23)} <= {point.n_sequences for point in result.log}
    assert "accuracy" in repr(result)


class StopError(Exception):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, StopError])
def test_an_interrupted_run_resumes_to_the_same_bits(tmp_path, error):
    settings = {"n_sequences": 2**19, "batch_size": 512, "seed": 3}
    whole = osp.train("2nd_argmax", 6, 5, **settings)
    path = tmp_path / "run" / "state.npz"

    for stop_at in (2, 11, 30):

        def interrupt(point, stop_at=stop_at):
            if point == whole.log[stop_at]:
                raise error

        with pytest.raises(error):
            osp.train("2nd_argmax", 6, 5, checkpoint=path, callback=interrupt, threads=2, **settings)
        assert path.exists()
    resumed = osp.train("2nd_argmax", 6, 5, checkpoint=path, threads=3, **settings)
    assert resumed.model.digest == whole.model.digest
    assert resumed.log == whole.log
    assert {k: m.digest for k, m in resumed.checkpoints.items()} == {k: m.digest for k, m in whole.checkpoints.items()}
    # A finished run is only read.
    again = osp.train("2nd_argmax", 6, 5, checkpoint=path, **settings)
    assert again.model.digest == whole.model.digest


def test_stopping_between_marks_changes_nothing(tmp_path):
    path = tmp_path / "state.npz"
    whole = osp.train("median", 4, 3, n_sequences=2**18, batch_size=100)
    part = osp.train("median", 4, 3, n_sequences=2**18, batch_size=100, stop_after=77777, checkpoint=path)
    assert part.model.name.endswith("_77700_0")
    rest = osp.train("median", 4, 3, n_sequences=2**18, batch_size=100, checkpoint=path)
    assert rest.log == whole.log
    assert rest.model.digest == whole.model.digest


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "state.npz"
    osp.train("2nd_argmax", 4, 3, n_sequences=2**14, checkpoint=path)
    for change in ({"seed": 1}, {"n_sequences": 2**15}, {"weight_decay": 0.01}, {"biases": True}):
        with pytest.raises(ValueError, match=f"other settings: {next(iter(change))}"):
            osp.train("2nd_argmax", 4, 3, checkpoint=path, **{"n_sequences": 2**14, **change})
    with pytest.raises(ValueError, match="hidden_size 4 there and 5 here"):
        osp.train("2nd_argmax", 5, 3, n_sequences=2**14, checkpoint=path)
    osp.train("2nd_argmax", 5, 3, n_sequences=2**14, checkpoint=path, resume=False)


@pytest.mark.parametrize("damage", ["text", "truncated", "empty", "model", "nan", "shape", "schema"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "state.npz"
    osp.train("2nd_argmax", 4, 3, n_sequences=2**14, checkpoint=path)
    data = path.read_bytes()
    if damage == "text":
        path.write_text("not an archive")
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "model":
        random_rnn(4, 3).save(path)
    else:
        with np.load(path) as file:
            arrays = dict(file)
        if damage == "nan":
            arrays["first_moment"][3] = np.nan
        elif damage == "shape":
            arrays["second_moment"] = arrays["second_moment"][:5]
        else:
            header = json.loads(str(arrays["header"]))
            arrays["header"] = np.array(json.dumps(header | {"schema": 99}))
        np.savez(path, **arrays)
    with pytest.raises(ValueError, match="checkpoint"):
        osp.train("2nd_argmax", 4, 3, n_sequences=2**14, checkpoint=path)


def test_divergence_stops_with_advice():
    with pytest.raises(osp.DivergenceError, match=r"diverged at step \d+.*learning_rate below") as caught:
        osp.train("median", 16, 10, n_sequences=2**18, learning_rate=1e30, warmup_steps=0)
    assert isinstance(caught.value, ArithmeticError)
    assert 0 <= caught.value.step < 256
    # Weights that are not finite give relu(NaN) = 0 and a finite loss; they stop the run all the same.
    p = np.full(32, np.nan, np.float32)
    done, *_ = core_train(p, np.zeros(32, np.float32), np.zeros(32, np.float32), 0, 5, threads=2)
    assert done == 0


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"task": "sort"}, ValueError, "task must be one of"),
        ({"task": "longest_cycle"}, ValueError, "task must be one of Gaussian inputs"),
        ({"task": "argmedian", "seq_len": 4}, ValueError, "seq_len must be odd"),
        ({"seq_len": 1}, ValueError, "seq_len must be at least 2"),
        ({"hidden_size": 0}, ValueError, "hidden_size must be from 1 to 4096, got 0"),
        ({"hidden_size": 4.0}, TypeError, "hidden_size must be an integer, got float"),
        ({"n_sequences": 1000}, ValueError, "n_sequences must be from batch_size"),
        ({"seed": -1}, ValueError, "seed must be a non-negative integer, got -1"),
        ({"seed": True}, TypeError, "seed must be an integer, got bool"),
        ({"batch_size": 0}, ValueError, "batch_size must be from 1"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be a positive number"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate must be a positive number"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number, got str"),
        ({"betas": (0.9, 1.0)}, ValueError, "betas must be two numbers"),
        ({"betas": (0.9,)}, ValueError, "betas must be two numbers"),
        ({"eps": -1e-8}, ValueError, "eps must be a positive number"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay must be"),
        ({"warmup_steps": -1}, ValueError, "warmup_steps must be"),
        ({"final_factor": 0.0}, ValueError, "final_factor must be"),
        ({"threads": 0}, ValueError, "threads must be at least 1, got 0"),
        ({"stop_after": 5}, ValueError, "stop_after must be at least batch_size"),
        ({"checkpoint": "state.txt"}, ValueError, r"checkpoint must end in \.npz"),
    ],
)
def test_bad_arguments(change, error, text):
    arguments = {"task": "2nd_argmax", "hidden_size": 4, "seq_len": 3, "n_sequences": 2**14} | change
    with pytest.raises(error, match=text):
        osp.train(**arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"x": np.zeros((4, 2))}, "x must have shape"),
        ({"x": np.zeros(3)}, "x must have shape"),
        ({"x": np.zeros((0, 3))}, "x must have at least one row"),
        ({"x": np.full((4, 3), np.nan)}, "x must be finite"),
        ({"targets": [0, 1]}, "targets must have shape"),
        ({"targets": [0, 1, 2, 3]}, "targets must be positions from 0 to 2"),
        ({"targets": [0, 1, 2, 0.5]}, "targets must be positions from 0 to 2"),
        ({"logit_gradients": np.zeros((4, 2))}, "logit_gradients must have shape"),
        ({"targets": [0] * 4, "logit_gradients": np.zeros((4, 3))}, "must not both be given"),
    ],
)
def test_bad_batches(arguments, text):
    with pytest.raises(ValueError, match=text):
        osp.gradients(random_rnn(4, 3), **({"x": np.zeros((4, 3))} | arguments))


def test_gradients_need_a_recurrent_network():
    with pytest.raises(TypeError, match="model must be an RNN, got str"):
        osp.gradients("model.npz", np.zeros((4, 3)))


def test_results_are_values(tmp_path):
    result = osp.train("2nd_argmax", 2, 2, n_sequences=2**14)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.seconds = 0.0
    result.model.save(tmp_path / "model.npz")
    assert osp.load(tmp_path / "model.npz").digest == result.model.digest


def test_command(tmp_path, capsys):
    output = tmp_path / "model.npz"
    command = ["train", "2nd_argmax", "--hidden", "4", "--seq", "3", "--sequences", "2^15", "--batch-size", "256"]
    assert main([*command, "--seeds", "2", "--output", str(output), "--checkpoint", str(tmp_path / "runs")]) == 0
    text = capsys.readouterr().out
    assert "accuracy" in text
    assert "best: 2nd_argmax_4_3_32768_" in text
    assert (tmp_path / "runs" / "seed_1.npz").exists()
    assert osp.load(output).hidden_size == 4

    assert main([*command, "--json", "--seed", "1", "--threads", "2"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["settings"]["n_sequences"] == 2**15
    assert document["runs"][0]["accuracy"] > 0.2
    assert main([*command, "--output", "model.txt"]) == 2
    assert main([*command, "--learning-rate", "1e38", "--warmup-steps", "0"]) == 1
    assert "diverged" in capsys.readouterr().err


@pytest.mark.slow
def test_best_of_five_reaches_the_prototypes_accuracy():
    # AlgZoo's (4, 3) is easy; a fortieth of its sequences is enough to see that the recipe works.
    accuracies = [osp.train("2nd_argmax", 4, 3, n_sequences=2**24, seed=seed).log[-1].accuracy for seed in range(5)]
    assert max(accuracies) > 0.9
