"""The code base itself: versions, type stubs, types, the package's own list of names."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import outsample as osp

ROOT = Path(__file__).parents[1]
STUBS = ROOT / "python" / "outsample" / "_core.pyi"


def test_the_versions_agree():
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert version == osp.__version__ == osp._core.__version__
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()


def test_all_names_exist_and_are_documented():
    assert osp.__all__ == sorted(set(osp.__all__), key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    for name in osp.__all__:
        value = getattr(osp, name)
        if callable(value):
            assert (value.__doc__ or "").strip(), name


SCRIPTS = [path for path in sorted((ROOT / "bench").glob("*.py")) if "argparse.ArgumentParser" in path.read_text()]


@pytest.mark.skipif(not SCRIPTS, reason="needs the benchmarks of a source tree")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_benchmark_scripts_say_what_they_do(script):
    run = subprocess.run([sys.executable, str(script), "--help"], check=True, capture_output=True, text=True)
    first = script.read_text().split('"""')[1].splitlines()[0]
    assert first in " ".join(run.stdout.split())


def signatures(source: str) -> dict[str, list[str]]:
    """Functions and methods of a stub file, with the names of their arguments."""
    found: dict[str, list[str]] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                found[prefix + node.name] = []
                visit(node.body, prefix + node.name + ".")
            elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_pybind11"):
                found[prefix + node.name] = [a.arg for a in node.args.posonlyargs + node.args.args if a.arg != "self"]

    visit(ast.parse(source).body, "")
    return found


def test_the_stubs_are_those_of_the_built_module(tmp_path):
    pytest.importorskip("pybind11_stubgen")
    command = [sys.executable, "-m", "pybind11_stubgen", "outsample._core", "-o", str(tmp_path), "--ignore-all-errors"]
    subprocess.run(command, check=True, capture_output=True)
    built = signatures((tmp_path / "outsample" / "_core.pyi").read_text())
    written = signatures(STUBS.read_text())
    assert written == built


@pytest.mark.slow
def test_types(tmp_path):
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--cache-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_source_distribution_would_have_everything():
    """What CMake compiles exists, and every C++ file is either compiled or a header."""
    listed = {w for w in (ROOT / "CMakeLists.txt").read_text().split() if w.startswith("cpp/") and w.endswith(".cpp")}
    present = {str(p.relative_to(ROOT)) for p in (ROOT / "cpp").rglob("*.cpp")}
    assert listed == present
