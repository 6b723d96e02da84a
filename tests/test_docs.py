"""The documentation: it builds without warnings, and its examples run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import outsample as osp
from conftest import random_rnn

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MODULES = sorted(m.name for m in pkgutil.walk_packages(osp.__path__, "outsample.") if not m.name.endswith("__main__"))
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTSAMPLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


class UpToNumbers(doctest.OutputChecker):
    """Takes every number with its unit for every other: times differ by machine, counts by instruction set."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        def plain(text: str) -> str:
            text = re.sub(r"avx512|avx2|sse2|neon|generic", "isa", text)
            text = re.sub(r"[-+]?\d[\d,]*(\.\d+)?(e[-+]\d+)?( [nµm]?s\b)?", "#", text)
            return " ".join(text.split())

        return plain(want) == plain(got)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
@pytest.mark.usefixtures("_elsewhere")
def test_examples_of_the_pages(page):
    text = re.sub(r"^```.*", "", page.read_text(), flags=re.M)  # a fence would be taken for printed output
    test = doctest.DocTestParser().get_doctest(text, {"osp": osp, "np": np}, page.name, str(page), 0)
    runner = doctest.DocTestRunner(checker=UpToNumbers(), optionflags=FLAGS)
    runner.run(test)
    assert runner.failures == 0


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.usefixtures("_elsewhere")
def test_examples_of_the_docstrings(name):
    module = importlib.import_module(name)
    names = {"osp": osp, "np": np, "model": random_rnn(16, 10)}  # what docstrings may take for granted
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for test in doctest.DocTestFinder().find(module, name, extraglobs=names):
        if not any(".pth" in example.source for example in test.examples):  # these need ARC's files
            runner.run(test)
    assert runner.failures == 0


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
@pytest.mark.usefixtures("_elsewhere")
def test_example_scripts(example):
    done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
def test_the_pages_build_without_warnings(tmp_path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(tmp_path / "doctrees")]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(tmp_path / "html")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "benchmark.html").exists()
    assert "mul-0.01" in (tmp_path / "html" / "benchmark.html").read_text()


def test_the_readmes_commands_are_those_of_continuous_integration():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert 'pip install ".[challenge]" && outsample challenge --quick' in readme
    assert 'pip install ".[test]" && pytest' in readme
    assert '".[test]" && pytest' in ci
    assert {"challenge", "test", "bench", "docs"} <= extras.keys()
