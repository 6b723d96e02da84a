"""ARC's zoo: names, download, checksums, offline use. No test leaves this machine."""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import outsample as osp
from outsample.zoo import _algzoo as module
from test_loading import as_pth, state_dict

pytest.importorskip("pooch")

# After an error status, the client behind pooch leaves its connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

NAME = "2nd_argmax_4_3_1073741824_0"
PTH = as_pth(state_dict(4, 3))


class Server:
    """Serves ``answers[path]``: bytes, or a status, or (bytes, length that is claimed)."""

    def __init__(self):
        self.answers = {f"/zoo/{NAME}.pth": PTH}
        self.asked = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                answer = server.answers.get(self.path, 404)
                if isinstance(answer, int):
                    self.send_error(answer)
                    return
                content, length = answer if isinstance(answer, tuple) else (answer, len(answer))
                self.send_response(200)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTSAMPLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("OUTSAMPLE_ALGZOO", raising=False)
    return tmp_path / "cache" / "algzoo"


@pytest.fixture
def server(cache, monkeypatch):
    server = Server()
    monkeypatch.setenv("OUTSAMPLE_ALGZOO", server.url + "/")
    yield server
    server.stop()


def load():
    return osp.zoo.algzoo("2nd_argmax", 4, 3)


def test_downloaded_once(server, cache):
    model = load()
    assert (model.name, model.hidden_size, model.seq_len) == (NAME, 4, 3)
    record = (cache / f"{NAME}.sha256").read_text()
    assert record == f"{hashlib.sha256(PTH).hexdigest()}  {NAME}.pth\n"
    assert load().digest == model.digest
    assert osp.zoo.algzoo(NAME).digest == model.digest
    assert osp.zoo.fetch("2nd_argmax", 4, 3, seed=0) == cache / f"{NAME}.pth"
    assert len(server.asked) == 1
    assert sorted(p.name for p in cache.iterdir()) == [f"{NAME}.pth", f"{NAME}.sha256"]


def test_offline_from_the_cache(server, cache, monkeypatch):
    digest = load().digest
    server.answers.clear()
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert load().digest == digest


def test_a_damaged_cache_is_repaired(server, cache):
    digest = load().digest
    for content in (b"", PTH[:-1], as_pth(state_dict(4, 3, seed=1))):
        (cache / f"{NAME}.pth").write_bytes(content)
        assert load().digest == digest
        assert (cache / f"{NAME}.pth").read_bytes() == PTH


def test_a_file_that_changed_on_the_server(server, cache):
    load()
    (cache / f"{NAME}.pth").unlink()
    server.answers[f"/zoo/{NAME}.pth"] = as_pth(state_dict(4, 3, seed=1))
    with pytest.raises(ValueError, match=r"the sha256 must be .* delete .*sha256"):
        load()
    assert not (cache / f"{NAME}.pth").exists()


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (404, ConnectionError, "404"),
        (500, ConnectionError, "500"),
        (503, ConnectionError, "503"),
        ((PTH[:-10], len(PTH)), (ConnectionError, ValueError), NAME),
        (PTH[:-10], ValueError, "damaged"),
        (b"", ValueError, "the file is empty"),
        (b"<html>hello</html>", ValueError, "not a model file"),
        (PTH[:200] + b"\0" + PTH[201:], ValueError, NAME),
    ],
)
def test_server_errors_leave_nothing_behind(server, cache, answer, error, message):
    server.answers[f"/zoo/{NAME}.pth"] = answer
    with pytest.raises(error, match=message) as caught:
        load()
    assert server.url in str(caught.value)
    assert not cache.exists() or list(cache.iterdir()) == []


def test_known_checksums(server, cache):
    """A sound file that is not the one that ARC published."""
    server.answers["/one_layer_16_hidden_94_acc_2nd_argmax.pth"] = as_pth(state_dict(16, 10))
    for name in ("example_2nd_argmax", "one_layer_16_hidden_94_acc_2nd_argmax"):
        with pytest.raises(ValueError, match="the sha256 must be 498bd9a8"):
            osp.zoo.algzoo(name)
    assert not cache.exists()


def test_too_large(server, cache, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    with pytest.raises(ConnectionError, match="at most 1000 bytes"):
        load()


def test_no_network(cache, monkeypatch):
    server = Server()
    server.stop()
    with pytest.raises(ConnectionError, match=rf"cannot download .*{NAME}\.pth into a folder and pass folder="):
        osp.zoo.algzoo("2nd_argmax", 4, 3, base_url=server.url)
    assert not cache.exists()


def test_without_pooch(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"needs pooch: pip install 'outsample\[zoo\]'"):
        load()


def test_folders(cache, tmp_path, monkeypatch):
    folder = tmp_path / "mirror"
    (folder / "zoo").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=rf"neither {NAME}\.pth nor zoo/{NAME}.pth"):
        osp.zoo.algzoo("2nd_argmax", 4, 3, folder=folder)
    (folder / "zoo" / f"{NAME}.pth").write_bytes(PTH)
    digest = osp.zoo.algzoo("2nd_argmax", 4, 3, folder=folder).digest
    monkeypatch.setenv("OUTSAMPLE_ALGZOO", str(folder))
    assert load().digest == digest
    (folder / f"{NAME}.pth").write_bytes(as_pth(state_dict(5, 3)))
    with pytest.raises(ValueError, match="hidden_size 5 and seq_len 3, which is not its name"):
        load()
    (folder / "2nd_argmax_2_2_1073741824_2.pth").write_bytes(PTH)
    with pytest.raises(ValueError, match="the sha256 must be 7d5bab82"):
        osp.zoo.algzoo("2nd_argmax", 2, 2)
    assert not cache.exists()


def test_real_files(cache, tmp_path, models_dir):
    for stem, name in (
        ("algzoo_rnn_blog", "one_layer_16_hidden_94_acc_2nd_argmax"),
        ("algzoo_rnn_small", "2nd_argmax_2_2_1073741824_2"),
        ("algzoo_transformer_small", "longest_cycle_2_3_1073741824_0"),
    ):
        (tmp_path / f"{name}.pth").write_bytes((models_dir / f"{stem}.pth").read_bytes())
    assert osp.zoo.algzoo(folder=tmp_path).n_parameters == 432
    assert osp.zoo.algzoo("2nd_argmax", 2, 2, folder=tmp_path).n_parameters == 10
    assert osp.zoo.algzoo("longest_cycle", 2, 3, folder=tmp_path).n_parameters == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sorting",), "No AlgZoo model with name sorting, please choose one of: 2nd_argmax, argmedian, median"),
        (("2nd_argmax",), "No AlgZoo model with hidden_size None, please choose one of: 2, 3, 4, 5, 6, 8, 16, 32"),
        (("2nd_argmax", 7, 10), "hidden_size 7, please choose one of: 2, 3, 4, 5, 6, 8, 16, 32"),
        (("2nd_argmax", 16, 11), "seq_len 11, please choose one of: 2, 3, 4, 5, 6, 8, 10"),
        (("argmedian", 16, 4), "seq_len 4, please choose one of: 3, 5, 7, 11"),
        (("median", 16, 10, 2**19), "n_seqs 524288, please choose one of: 0, 1048576"),
        (("median", 16, 10, 0, 5), "seed 5, please choose one of: 0, 1, 2, 3, 4"),
        (("2nd_argmax_7_3_0_0",), "hidden_size 7"),
        (("../2nd_argmax_2_3_0_0",), "No AlgZoo model with name"),
    ],
)
def test_wrong_choices(arguments, message):
    with pytest.raises(ValueError, match=message):
        osp.zoo.algzoo(*arguments)


def test_wrong_scheme():
    with pytest.raises(ValueError, match="base_url must start with https"):
        osp.zoo.fetch(base_url="ftp://example.org")


def test_best_seeds():
    """Those that are known from AlgZoo's file names, and the tables are complete."""
    assert osp.zoo.ALGZOO["2nd_argmax"].best_seeds[2, 2] == 2
    assert osp.zoo.ALGZOO["longest_cycle"].best_seeds[2, 3] == 0
    sizes = {task: len(family.best_seeds) for task, family in osp.zoo.ALGZOO.items()}
    assert sizes == {"2nd_argmax": 56, "argmedian": 20, "median": 20, "longest_cycle": 20}
    assert {seed for family in osp.zoo.ALGZOO.values() for seed in family.best_seeds.values()} == set(range(5))


def test_two_processes_at_once(server, cache):
    """Both get a whole file, whoever is first."""
    code = "import outsample as osp; print(osp.zoo.algzoo('2nd_argmax', 4, 3).digest)"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)
        for _ in range(3)
    ]
    digests = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert digests == {load().digest}
    assert sorted(p.name for p in cache.iterdir()) == [f"{NAME}.pth", f"{NAME}.sha256"]
