"""The networks that are shipped: the format of their folder, and what is in it."""

from __future__ import annotations

import json

import pytest

import outsample as osp
from conftest import random_rnn
from outsample.cli import main
from outsample.zoo import shipped


@pytest.fixture
def folder(tmp_path):
    """Three sizes; for one of them two seeds, and for another two lengths of training."""
    for d, n, task, seed, sequences, value in (
        (4, 3, "2nd_argmax", 0, 1024, 0.5),
        (4, 3, "2nd_argmax", 1, 1024, 0.7),
        (5, 3, "2nd_argmax", 0, 1024, 0.6),
        (5, 3, "2nd_argmax", 0, 2048, 0.8),
        (2, 5, "median", 3, 1024, 0.3),
        (2, 5, "median", 4, 1024, 0.2),
    ):
        shipped.add(
            random_rnn(d, n, task, seed=sequences + seed),
            n_sequences=sequences,
            seed=seed,
            value=value,
            standard_error=0.01,
            command="outsample train",
            log=[(512, 0.1), (1024, value)],
            folder=tmp_path,
        )
    return tmp_path


def test_the_best_is_loaded(folder):
    assert osp.zoo.load("2nd_argmax", 4, 3, folder=folder).name == "2nd_argmax_4_3_1024_1"
    assert osp.zoo.load("2nd_argmax", 4, 3, seed=0, folder=folder).name == "2nd_argmax_4_3_1024_0"
    assert osp.zoo.load("2nd_argmax", 5, 3, seed=0, folder=folder).name == "2nd_argmax_5_3_2048_0"
    model = osp.zoo.load("median", hidden_size=2, seq_len=5, folder=folder)
    assert (model.name, model.seq_len, model.task.name) == ("median_2_5_1024_4", 5, "median")
    assert osp.zoo.load("median_2_5_1024_3", folder=folder).digest == random_rnn(2, 5, "median", seed=1027).digest


def test_an_entry_is_replaced(folder):
    before = shipped.table(folder)
    shipped.add(
        random_rnn(4, 3), n_sequences=1024, seed=0, value=0.9, standard_error=0.0, command="again", folder=folder
    )
    after = shipped.table(folder)
    assert len(after) == len(before)
    assert osp.zoo.load("2nd_argmax", 4, 3, folder=folder).digest == random_rnn(4, 3).digest
    assert [e.name for e in after if e.command == "again"] == ["2nd_argmax_4_3_1024_0"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(["zoo.json", *(f"{e.name}.npz" for e in after)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sorting", 4, 3), "No zoo model with task sorting, please choose one of: 2nd_argmax, median"),
        (("2nd_argmax", 7, 3), "No zoo model with hidden_size 7, please choose one of: 4, 5"),
        (("2nd_argmax", 4, 9), "No zoo model with seq_len 9, please choose one of: 3"),
        (("2nd_argmax", 4, 3, 8), "No zoo model with seed 8, please choose one of: 0, 1"),
        (("median",), "No zoo model with hidden_size None, please choose one of: 2"),
        (("2nd_argmax", 4), "No zoo model with seq_len None, please choose one of: 3"),
        (("2nd_argmax_4_3_1024_1", 4, 3), "No zoo model with task 2nd_argmax_4_3_1024_1"),
    ],
)
def test_wrong_choices(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        osp.zoo.load(*arguments, folder=folder)


def test_empty_and_foreign_folders(tmp_path):
    assert shipped.table(tmp_path) == []
    with pytest.raises(ValueError, match="please choose one of: none"):
        osp.zoo.load("2nd_argmax", 4, 3, folder=tmp_path)
    (tmp_path / "zoo.json").write_text(json.dumps({"schema": 99, "models": []}))
    with pytest.raises(ValueError, match="schema must be 1, got 99"):
        shipped.table(tmp_path)


def test_shipped_networks_are_as_the_index_says():
    """Every file is there, fits its entry, and its accuracy is what the index says, within the errors of both."""
    entries = osp.zoo.table()
    assert osp.zoo.names() == [e.name for e in entries]
    assert {p.stem for p in shipped.FOLDER.glob("*.npz")} == set(osp.zoo.names())
    for entry in entries:
        model = osp.zoo.load(entry.name)
        assert (model.name, model.task.name, model.hidden_size, model.seq_len) == (
            entry.name,
            entry.task,
            entry.hidden_size,
            entry.seq_len,
        )
        assert entry.name == f"{entry.task}_{entry.hidden_size}_{entry.seq_len}_{entry.n_sequences}_{entry.seed}"
        assert entry.standard_error > 0 or entry.value in (0, 1)
        if entry.quantity == "accuracy":
            estimate = osp.MonteCarlo().estimate(model, budget=50_000, rng=1)
            assert abs(estimate.value - entry.value) < 5 * (estimate.standard_error + entry.standard_error) + 1e-4


def test_find():
    assert osp.zoo.find("handcrafted_22_10").hidden_size == 22
    for name in ("handcrafted_21_10", "handcrafted_x", "handcrafted_4_999999999", "", "nothing"):
        assert osp.zoo.find(name) is None
    for name in osp.zoo.names()[:1]:
        assert osp.zoo.find(name).name == name


def test_list_command(capsys):
    assert main(["zoo", "list"]) == 0
    text = capsys.readouterr().out
    assert "handcrafted_4_3" in text
    assert "hidden sizes 2, 3, 4, 5, 6, 8, 16, 32" in text
    assert main(["zoo", "list", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [m["name"] for m in result["shipped"]] == osp.zoo.names()
    sizes = {(m["task"], m["hidden_size"], m["seq_len"]) for m in result["shipped"]}
    assert sum(m["best"] for m in result["shipped"]) == len(sizes)


def test_show_command(tmp_path, capsys):
    assert main(["zoo", "show", "handcrafted_4_3", "--samples", "2**14"]) == 0
    text = capsys.readouterr().out
    assert "31.494" in text
    assert "in standard form" in text
    assert "Neurons after t inputs" in text
    path = tmp_path / "model.npz"
    model = random_rnn(3, 4, biases=True)
    model.save(path)
    assert main(["zoo", "show", str(path), "--samples", "1000", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["weights"]["b_o"] == model.b_o.tolist()
    assert result["standardized"]["W_hi"] == [-1 if w < 0 else 1 for w in model.W_hi]
    shares = [row["share"] for row in result["by_position"]]
    assert sum(shares) == pytest.approx(1)
    accuracy = sum(row["share"] * row["accuracy"] for row in result["by_position"])
    x_accuracy = osp.MonteCarlo().estimate(model, budget=2**16, rng=0).value
    assert abs(accuracy - x_accuracy) < 5 * (0.25 / 1000) ** 0.5
    random_rnn(3, 4, "median").save(path)
    assert main(["zoo", "show", str(path)]) == 0
    assert "by position" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo", "show", "nothing"], "nothing"),
        (["zoo", "fetch", "2nd_argmax", "7", "3"], "No AlgZoo model with hidden_size 7"),
        (["zoo", "fetch", "median", "8", "5", "--folder", "absent"], "neither median_8_5_1073741824_1.pth"),
        (["zoo", "fetch", "median", "8", "5", "--sequences", "3"], "n_seqs 3"),
    ],
)
def test_wrong_commands(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_fetch_command(tmp_path, capsys):
    path = tmp_path / "median_8_5_0_2.pth"
    path.write_bytes(b"x")
    assert main(["zoo", "fetch", "median", "8", "5", "--sequences", "0", "--seed", "2", "--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(path)


def test_commands_take_names(capsys):
    assert main(["estimate", "handcrafted_2_2", "--budget", "4096", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == 1
