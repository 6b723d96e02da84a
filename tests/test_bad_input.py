"""Bad input on the command line: exit code 2, a message that names the argument, the value and the rule, no files."""

from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn
from outsample.cli import main


class Malicious:
    def __reduce__(self):
        return print, ("executed",)


def archive(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in entries.items():
            file.writestr(name.replace("__", "/").replace("_pkl", ".pkl"), content)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


GOOD = {"W_hh": np.eye(3, dtype="f4"), "W_hi": np.ones(3, "f4"), "W_oh": np.ones((3, 3), "f4")}
FILES = {
    "empty": (b"", "empty"),
    "text": (b"not a model", "not a model file"),
    "truncated": (npz(**GOOD)[:200], "damaged"),
    "malicious": (archive(archive__data_pkl=pickle.dumps(Malicious(), 2)), "refused"),
    "plain-pickle": (pickle.dumps(Malicious()), "pickle"),
    "nan": (npz(**{**GOOD, "W_hi": np.full(3, np.nan, "f4")}), "W_hi must be finite"),
    "wrong-shape": (npz(**{**GOOD, "W_hi": np.ones(4, "f4")}), "must have shape"),
    "integers": (npz(**{**GOOD, "W_hh": np.eye(3, dtype="i8")}), "W_hh"),
    "missing": (npz(W_hh=GOOD["W_hh"]), "missing"),
    "foreign": (npz(a=np.ones(3)), "must be those of a recurrent network"),
}


@pytest.fixture(autouse=True)
def _no_litter(tmp_path, monkeypatch):
    """Whatever a failing command does, it leaves no file behind."""
    (tmp_path / "work").mkdir()
    random_rnn(4, 3).save(tmp_path / "model.npz")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setenv("OUTSAMPLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "work")
    yield
    assert [p for p in sorted(tmp_path.rglob("*")) if p.name != "bad.npz"] == before


def fails(capsys, *arguments: str) -> str:
    try:
        code = main(arguments)
    except SystemExit as stop:  # argparse
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert "executed" not in captured.err
    return captured.err


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["estimate", "compare", "challenge"])
def test_bad_files(name, command, tmp_path, capsys):
    content, message = FILES[name]
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    error = fails(capsys, command, *(["--model"] if command == "challenge" else []), str(path))
    assert message in error
    assert f"outsample {command}: error: {path}" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["estimate", "nowhere.pth"], "nowhere.pth"),
        (["estimate", "."], "Is a directory"),
        (["estimate", "MODEL", "--budget", "0"], "--budget: must be at least 1, got 0"),
        (["estimate", "MODEL", "--budget", "many"], "--budget: must be an integer such as 65536 or 2**16, got 'many'"),
        (["estimate", "MODEL", "--budget", "-5"], "--budget: must be at least 1, got -5"),
        (["estimate", "MODEL", "--threads", "0"], "--threads: must be at least 1, got 0"),
        (["estimate", "MODEL", "--seed", "-1"], "--seed: must be a non-negative integer, got '-1'"),
        (["estimate", "MODEL", "--method", "guess"], "method must be one of constant, monte-carlo"),
        (
            ["estimate", "MODEL", "--method", "json:dumps"],
            "must be a subclass of outsample.Estimator, got 'json:dumps'",
        ),
        (["estimate", "MODEL", "--method", "json:nothing"], "method json:nothing cannot be loaded"),
        (["estimate", "MODEL", "--method", "no_such_module:X"], "No module named 'no_such_module'"),
        (["estimate", "MODEL", "--method", "no_such_file.py:X"], "method no_such_file.py:X cannot be loaded"),
        (
            ["estimate", "MODEL", "--option", "colour=red"],
            "option of method monte-carlo must be one of quantity, got 'colour'",
        ),
        (["estimate", "MODEL", "--option", "colour"], "--option: must be name=value, got 'colour'"),
        (["estimate", "MODEL", "--task", "sort"], "--task: invalid choice: 'sort'"),
        (["estimate", "MODEL", "--task", "median"], "W_oh must have 1 rows"),
        (["compare", "MODEL", "--protocol", "mul-1"], "--protocol: must be one of mul-0.01, mul-0.003"),
        (["compare", "MODEL", "--methods", "monte-carlo,"], "method must be one of"),
        (["compare", "MODEL", "--budgets", "0,16"], "--budgets: must be at least 1, got 0"),
        (["compare", "MODEL", "--budgets", "2**9..2**4"], "--budgets: must name at least one number"),
        (["compare", "MODEL", "--networks", "1000"], "size must be at most 256 for protocol mul-0.01, got 1000"),
        (["compare", "MODEL", "--truth-samples", "1"], "samples must be at least 2, got 1"),
        (["compare", "MODEL", "--mode", "fast"], "--mode: invalid choice: 'fast'"),
        (["challenge", "--model", "MODEL", "--output", "MODEL"], "--output must be a folder"),
        (["fit-transferred", "MODEL", "--output", "advice.pth"], "--output must end in .npz, got advice.pth"),
        (["fit-transferred", "MODEL", "nowhere.pth", "--output", "a.npz"], "nowhere.pth"),
        (["fit-transferred", "MODEL", "--output", "a.npz"], "networks must be at least 4, got 1"),
        (["fit-transferred", "MODEL", "MODEL", "--output", "a.npz", "--folds", "2", "--noise", "loud"], "got 'loud'"),
        (["fly"], "invalid choice: 'fly'"),
        ([], "required: COMMAND"),
    ],
)
def test_bad_arguments(arguments, message, tmp_path, capsys):
    model = str(tmp_path / "model.npz")
    assert message in fails(capsys, *(model if a == "MODEL" else a for a in arguments))


def test_the_malicious_file_would_have_done_something(capsys):
    pickle.loads(pickle.dumps(Malicious()))
    assert capsys.readouterr().out == "executed\n"


def test_budget_below_the_minimum(tmp_path, capsys, monkeypatch):
    class Greedy(osp.Estimator):
        def minimum_budget(self, model):
            return 100

        def _estimate(self, model, task, budget, rng, threads):
            raise AssertionError

    monkeypatch.setitem(osp.ESTIMATORS, "greedy", Greedy)
    error = fails(capsys, "estimate", str(tmp_path / "model.npz"), "--method", "greedy", "--budget", "99")
    assert "budget must be at least 100 for method greedy, got 99" in error
