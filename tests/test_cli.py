"""The command line, called as its entry point is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import outsample as osp
from conftest import random_rnn
from outsample.cli import COMMANDS, build_parser, main
from outsample.cli._arguments import integer, integers, make_estimator, option

OWN = """
import outsample as osp


class Mine(osp.Estimator):
    def __init__(self, *, value=0.4):
        self.value = value

    def _estimate(self, model, task, budget, rng, threads):
        return osp.Estimate(value=self.value, cost=osp.Cost(multiply_adds=10.0))
"""


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.npz"
    random_rnn(4, 3, seed=2).save(path)
    return str(path)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTSAMPLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("outsample.comparison._CONSTANT_SAMPLES", 256)


def test_estimate(model_file, capsys):
    assert main(["estimate", model_file, "--budget", "2**12", "--seed", "3"]) == 0
    text = capsys.readouterr().out
    value = osp.MonteCarlo().estimate(osp.load(model_file), 4096, rng=3).value
    assert f"accuracy: value {value:.3f}" in text
    assert "95% interval" in text
    assert main(["estimate", model_file, "--budget", "4096", "--seed", "3", "--threads", "2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["value"] == value
    assert record["interval_95"][0] < value < record["interval_95"][1]
    assert record["cost"]["evaluations"] == 4096


def test_estimate_with_a_method_of_ones_own(model_file, tmp_path, capsys, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    assert main(["estimate", model_file, "--method", f"{tmp_path}/own.py:Mine", "--option", "value=0.25"]) == 0
    assert "value 0.25" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert main(["estimate", model_file, "--method", "own:Mine", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["value"], record["standard_error"], record["interval_95"]) == (0.4, None, None)


def test_compare_writes_everything(model_file, tmp_path, capsys):
    (tmp_path / "own.py").write_text(OWN)
    output = tmp_path / "results"
    arguments = ["--networks", "6", "--truth-samples", "1000", "--rounds", "1", "--budgets", "16,2**5..2**7"]
    methods = f"monte-carlo,{tmp_path}/own.py:Mine"
    assert main(["compare", model_file, "--methods", methods, "--output", str(output), *arguments]) == 0
    text = capsys.readouterr().out
    assert "| mine" in text
    assert sorted(p.name for p in output.iterdir()) == [
        "advantage.png", "multiply-adds.png", "run.json", "table.md", "time.png",
    ]  # fmt: skip
    result = osp.Comparison.load(output / "run.json")
    assert result.settings["budgets"] == [16, 32, 64, 128]
    assert result.ensemble["protocol"] == "mul-0.01"
    assert result.report() == (output / "table.md").read_text()
    assert main(["compare", model_file, "--json", *arguments]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["schema"] == "outsample-comparison"
    assert captured.err == ""  # no bar in a pipe


def test_challenge_takes_all_methods(model_file, tmp_path, capsys, monkeypatch):
    small = {"budgets": [64], "networks": 4, "truth_samples": 500, "repeats": 1, "rounds": 1, "round_seconds": 0}
    monkeypatch.setattr("outsample.cli.challenge.QUICK", small)
    assert main(["challenge", "--quick", "--model", model_file, "--output", str(tmp_path / "out"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    seen = {m["method"] for m in record["methods"]}
    assert seen == set(osp.ESTIMATORS)
    assert (tmp_path / "out" / "time.png").exists()


def test_an_interrupted_challenge_says_so(model_file, capsys, monkeypatch):
    def interrupt(*_args, **_settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("outsample.cli.compare.run_comparison", interrupt)
    assert main(["compare", model_file]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_without_matplotlib_there_is_still_a_table(model_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    arguments = ["--networks", "2", "--truth-samples", "100", "--rounds", "1", "--budgets", "16"]
    assert main(["compare", model_file, "--output", str(tmp_path / "out"), *arguments]) == 0
    assert 'pip install "outsample[plot]"' in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["run.json", "table.md"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.NAME)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args([command.NAME, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert command.EXAMPLE.startswith(f"outsample {command.NAME}")
    assert command.EXAMPLE in text
    assert "--json" in text


def test_info(capsys):
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == osp.__version__


def test_as_a_program(model_file):
    command = [sys.executable, "-m", "outsample.cli", "estimate", model_file, "--budget", "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "accuracy: value" in done.stdout
    assert done.stderr == ""


def test_numbers_on_the_command_line():
    assert [integer(t) for t in ("7", "2**10", "2^10", "1_000")] == [7, 1024, 1024, 1000]
    assert integers("3,2**2..2**4") == [3, 4, 8, 16]
    assert option("a=1.5") == ("a", 1.5)
    assert option("a=halton") == ("a", "halton")


def test_methods_by_name():
    assert repr(make_estimator("constant", [("value", 0.5)])) == "Constant(value=0.5, standard_error=None)"
