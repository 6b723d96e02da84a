"""Reading models: every format, what is refused, and that damaged files never do worse than a ValueError."""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import outsample as osp
from outsample import _files

WEIGHTS = ("rnn.weight_ih_l0", "rnn.weight_hh_l0", "linear.weight")
BIASES = ("rnn.bias_ih_l0", "rnn.bias_hh_l0", "linear.bias")


def state_dict(d=4, n=3, seed=0, biases=False):
    rng = np.random.default_rng(seed)
    shapes = [(d, 1), (d, d), (n, d)] + ([(d,), (d,), (n,)] if biases else [])
    keys = WEIGHTS + (BIASES if biases else ())
    return OrderedDict((key, rng.normal(size=shape).astype("f4")) for key, shape in zip(keys, shapes, strict=True))


class FloatStorage:
    """Pickled under the name of torch's class, so that these tests can write .pth files without torch."""


class _Pickler(pickle._Pickler):
    """Writes what torch.save writes; `tensors` says what becomes of each array: (key, offset, size, stride)."""

    def save_global(self, obj, name=None):
        names = {FloatStorage: "torch\nFloatStorage", _rebuild: "torch._utils\n_rebuild_tensor_v2"}
        if obj not in names:
            return super().save_global(obj, name)
        self.write(pickle.GLOBAL + names[obj].encode() + b"\n")
        return self.memoize(obj)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, type: save_global, type(lambda: 0): save_global}

    def persistent_id(self, obj):
        return obj.reference if isinstance(obj, Reference) else None


def _rebuild():
    raise AssertionError("the name of torch's function; never called")


class Reference:
    def __init__(self, *reference):
        self.reference = reference


class Tensor:
    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return _rebuild, self.arguments


def tensor(key, count, size, stride, offset=0):
    return Tensor(Reference("storage", FloatStorage, key, "cuda:0", count), offset, size, stride, False, OrderedDict())


def pth_bytes(root, storages, prefix="archive/", protocol=2, entries=()):
    stream = io.BytesIO()
    _Pickler(stream, protocol).dump(root)
    files = [("data.pkl", stream.getvalue()), *((f"data/{key}", content) for key, content in storages.items())]
    return archive_bytes([*files, *entries], prefix)


def archive_bytes(entries, prefix="archive/", compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(prefix + name, content)
    return stream.getvalue()


def as_pth(state, order="<", **options):
    root = OrderedDict()
    for key, a in state.items():
        strides = tuple(s // a.itemsize for s in a.strides)
        root[key] = tensor(key, a.size, a.shape, strides)
    root._metadata = OrderedDict({"": {"version": 1}})
    storages = {key: a.astype(order + "f4").tobytes() for key, a in state.items()}
    return pth_bytes(root, storages, **options)


def npz_bytes(arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def assert_same(model, state):
    np.testing.assert_array_equal(model.W_hi, state["rnn.weight_ih_l0"][:, 0])
    np.testing.assert_array_equal(model.W_hh, state["rnn.weight_hh_l0"])
    np.testing.assert_array_equal(model.W_oh, state["linear.weight"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("prefix", ["archive/", "a_model/"])
def test_pth(tmp_path, protocol, prefix):
    path = tmp_path / "model.pth"
    path.write_bytes(as_pth(state_dict(), protocol=protocol, prefix=prefix))
    model = osp.load(path)
    assert_same(model, state_dict())
    assert (model.task.name, model.seq_len, model.name) == ("2nd_argmax", 3, "model")
    assert list(osp.state_dict_from(path)) == list(WEIGHTS)


def test_pth_byte_order(tmp_path):
    path = tmp_path / "model.pth"
    path.write_bytes(as_pth(state_dict(), order=">", entries=[("byteorder", b"big")]))
    assert_same(osp.load(path), state_dict())
    path.write_bytes(as_pth(state_dict(), entries=[("byteorder", b"middle")]))
    with pytest.raises(ValueError, match="byteorder must be little or big"):
        osp.load(path)


def test_pth_tensors_that_share_a_storage(tmp_path):
    """As cuDNN lays the weights out: one storage, several offsets; and a transposed matrix."""
    values = np.arange(10, dtype="<f4")
    root = OrderedDict(
        {
            "rnn.weight_ih_l0": tensor("0", 10, (2, 1), (1, 1)),
            "rnn.weight_hh_l0": tensor("0", 10, (2, 2), (1, 2), offset=2),
            "linear.weight": tensor("0", 10, (2, 2), (2, 1), offset=6),
        }
    )
    path = tmp_path / "model.pth"
    path.write_bytes(pth_bytes(root, {"0": values.tobytes()}))
    model = osp.load(path)
    assert model.W_hi.tolist() == [0, 1]
    assert model.W_hh.tolist() == [[2, 4], [3, 5]]
    assert model.W_oh.tolist() == [[6, 7], [8, 9]]


class Evil:
    def __reduce__(self):
        return print, ("executed",)


class EvilState(OrderedDict):
    pass


FOUR = np.zeros(4, "<f4").tobytes()
REFUSED = {
    "a function": (Evil(), "refused: data.pkl asks for (__builtin__|builtins).print"),
    "a class": (EvilState(), "refused: data.pkl asks for test_loading.EvilState"),
    "a list": ([], "refused: data.pkl has the operation EMPTY_LIST"),
    "a number": (7, "must hold a state dict, got int"),
    "a number inside": ({"x": 7}, "x must be a tensor, got int"),
    "a number as key": ({7: 7}, "a key of a state dict must be a string"),
    "beyond the storage": ({"x": tensor("0", 4, (5,), (1,))}, "not within its storage"),
    "an offset beyond": ({"x": tensor("0", 4, (2,), (1,), offset=3)}, "not within its storage"),
    "a stride beyond": ({"x": tensor("0", 4, (2, 2), (3, 1))}, "not within its storage"),
    "a negative offset": ({"x": tensor("0", 4, (1,), (1,), offset=-1)}, "non-negative"),
    "a negative stride": ({"x": tensor("0", 4, (2,), (-1,), offset=1)}, "non-negative"),
    "gigabytes by stride 0": ({"x": tensor("0", 4, (10**6, 10**6), (0, 0))}, "not within its storage"),
    "a huge size": ({"x": tensor("0", 4, (2**61,), (0,))}, "not within its storage"),
    "a size of text": ({"x": tensor("0", 4, ("a",), (1,))}, "non-negative integers"),
    "strides missing": ({"x": tensor("0", 4, (2, 2), (1,))}, "one stride a size"),
    "many dimensions": ({"x": tensor("0", 4, (1,) * 9, (1,) * 9)}, "at most 8 dimensions"),
    "a storage too short": ({"x": tensor("0", 10**9, (1,), (1,))}, "data/0 must be 1000000000 numbers"),
    "no such storage": ({"x": tensor("1", 4, (1,), (1,))}, "data/1 is missing"),
    "another file": ({"x": tensor("../data.pkl", 4, (1,), (1,))}, "is missing"),
    "another reference": ({"x": Reference("module", "x")}, "other than a storage"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pth_refused(tmp_path, case, capsys):
    root, message = REFUSED[case]
    path = tmp_path / "model.pth"
    path.write_bytes(pth_bytes(root, {"0": FOUR}))
    with pytest.raises(ValueError, match=message) as caught:
        osp.load(path)
    assert str(path) in str(caught.value)
    assert capsys.readouterr().out == ""


def op(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value


@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (op(b"cposix\nsystem\n", text(b"true"), b"\x85R"), "refused: data.pkl asks for posix.system"),
        (op(b"(cposix\nsystem\n", text(b"true"), b"o"), "refused"),
        (op(b"(", text(b"true"), b"iposix\nsystem\n"), "refused: data.pkl has the operation INST"),
        (op(b"ccollections\nOrderedDict\n}", text(b"x"), b"K\x01sb"), "sets the state of something"),
        (op(b"ccollections\nOrderedDict\n)\x81"), "refused: data.pkl has the operation NEWOBJ"),
        (op(b"ccollections\nOrderedDict\nK\x05\x85R"), "refused: data.pkl has a call"),
        (op(b"\x82\x01"), "refused: data.pkl has the operation EXT1"),
        (op(b"K\x01r\xff\xff\xff\xff0"), "refused: data.pkl has the operation POP"),
        (op(b"K\x01\x85" * 50_000), "must hold a state dict, got tuple"),
        # A tuple of two of itself, forty deep: its text would have a terabyte.
        (op(text(b"a"), b"q\x000" * 0, b"".join(b"q\x00h\x00\x86" for _ in range(40)), b"Q"), "other than a storage"),
        (op(), "damaged"),
        (op(b"t"), "damaged"),
        (op(b"h\x07"), "damaged"),
        (op(b"X\xff\xff\xff\x7f"), "expected 2147483647 bytes"),
        (b"", "pickle exhausted"),
        (b"\x80\x02K\x01", "pickle exhausted"),
    ],
)
def test_pickles_refused(tmp_path, pickled, message):
    path = tmp_path / "model.pth"
    path.write_bytes(archive_bytes([("data.pkl", pickled)]))
    with pytest.raises(ValueError, match=message):
        osp.load(path)


def test_npz(tmp_path):
    state = state_dict(biases=True)
    path = tmp_path / "argmedian_net.npz"
    for save in (np.savez, np.savez_compressed):
        save(path, **state)
        model = osp.load(path)
        assert_same(model, state)
        assert model.task.name == "argmedian"
        np.testing.assert_allclose(model.b_h, state["rnn.bias_ih_l0"] + state["rnn.bias_hh_l0"], rtol=1e-6)
        np.testing.assert_array_equal(model.b_o, state["linear.bias"])
    np.savez(path, W_hh=state["rnn.weight_hh_l0"].T.T, W_hi=state["rnn.weight_ih_l0"], W_oh=state["linear.weight"])
    assert_same(osp.load(path), state)
    np.savez(path, **{k: np.asfortranarray(v).astype(">f8") for k, v in state_dict().items()})
    assert_same(osp.load(path), state_dict())


def npy(header, data=b""):
    header = repr(header).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("W.npy", npy({"descr": "<f4", "fortran_order": False, "shape": (10**12,)}))], "says shape"),
        ([("W.npy", npy({"descr": "<f4", "fortran_order": False, "shape": (-1,)}, bytes(4)))], "says shape"),
        ([("W.npy", npy({"descr": "|O", "fortran_order": False, "shape": ()}, pickle.dumps(1)))], "array of numbers"),
        ([("W.npy", npy({"descr": "<c8", "fortran_order": False, "shape": ()}, bytes(8)))], "array of numbers"),
        ([("W.npy", npy({"shape": ()}))], "model.npz"),
        ([("W.npy", npy("__import__('os')"))], "model.npz"),
        ([("W.npy", b"\x93NUMPY\x03\x00")], "npy version"),
        ([("W.npy", b"")], "model.npz"),
        ([("W.npy", bytes(_files.MAX_FILE_BYTES + 1))], "must have at most"),
        ([("W.npy", bytes(1 << 23)), ("V.npy", bytes(1 << 24))], "magic string"),
        ([("task.npy", npy({"descr": "<U0", "fortran_order": False, "shape": (10**12,)}))], "array of numbers or a"),
        (
            [("seq_len.npy", npy({"descr": "<f4", "fortran_order": False, "shape": ()}, bytes(4)))],
            "seq_len must be one",
        ),
        ([("task.npy", npy({"descr": "<U1", "fortran_order": False, "shape": (2,)}, bytes(8)))], "task must be one"),
        ([("readme.txt", b"")], "neither one data.pkl"),
        ([], "neither one data.pkl"),
    ],
)
def test_npz_refused(tmp_path, entries, message):
    path = tmp_path / "model.npz"
    path.write_bytes(archive_bytes(entries, prefix="", compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match=message) as caught:
        osp.load(path)
    assert str(path) in str(caught.value)


def test_safetensors(tmp_path):
    numpy_format = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "model.safetensors"
    numpy_format.save_file(dict(state_dict()), path)
    assert_same(osp.load(path, task="argmax"), state_dict())
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="damaged"):
        osp.load(path)


def test_safetensors_absent(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors.numpy", None)
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"x")
    with pytest.raises(ImportError, match=r"outsample\[safetensors\]"):
        osp.load(path)


def test_state_dict_and_module():
    state = state_dict()
    assert_same(osp.load(state), state)

    class Module:
        seq_len = 5
        task = "median"

        def state_dict(self):
            return {**state, "linear.weight": state["linear.weight"][:1]}

    model = osp.load(Module(), name="m")
    assert (model.task.name, model.seq_len, model.name) == ("median", 5, "m")


def test_torch_module(tmp_path):
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.rnn = torch.nn.RNN(1, 4, batch_first=True, **options)
            self.linear = torch.nn.Linear(4, 3)

        def forward(self, x):
            return self.linear(self.rnn(x[..., None])[1].squeeze(0))

    net = Net(nonlinearity="relu")
    torch.save(net.state_dict(), tmp_path / "net.pth")
    x = torch.randn(20, 3)
    with torch.no_grad():
        expected = net(x).numpy()
    for source in (net, net.state_dict(), tmp_path / "net.pth"):
        np.testing.assert_allclose(osp.load(source).forward(x.numpy()), expected, rtol=1e-4, atol=1e-5)
    for dtype in (torch.float16, torch.float64):
        torch.save(net.to(dtype).state_dict(), tmp_path / "net.pth")
        stored = osp.state_dict_from(tmp_path / "net.pth")
        assert all(np.array_equal(v.numpy(), stored[k]) for k, v in net.state_dict().items())
    with pytest.raises(ValueError, match="must be a ReLU network, got nonlinearity 'tanh'"):
        osp.load(Net(nonlinearity="tanh"))
    with pytest.raises(ValueError, match=r"unknown weights 'rnn\.weight_ih_l1'"):
        osp.load(Net(nonlinearity="relu", num_layers=2))
    torch.save(net.linear, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"refused: data.pkl asks for torch.nn.modules.linear.Linear"):
        osp.load(tmp_path / "net.pth")
    torch.save(net.state_dict(), tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"before 1\.6"):
        osp.load(tmp_path / "net.pth")


@pytest.mark.parametrize("stem", ["algzoo_rnn_blog", "algzoo_rnn_small"])
def test_real_models(models_dir, isa, stem):
    model = osp.load(models_dir / f"{stem}.pth")
    reference = np.load(models_dir / "reference_logits.npz")
    logits, hidden = model.forward(reference[f"{stem}_x"], hidden_states=True)
    error = np.abs(logits - reference[f"{stem}_logits"])
    assert error.max() <= 1e-5 * np.abs(reference[f"{stem}_logits"]).max()
    # Logits near zero are differences of large terms: relative to those terms, each has float32's accuracy.
    assert (error <= 1e-5 * (np.abs(hidden[:, -1]) @ np.abs(model.W_oh).T)).all()


@pytest.mark.parametrize(
    ("stem", "task"),
    [
        ("2nd_argmax_4_3_1073741824_2", "2nd_argmax"),
        ("one_layer_16_hidden_94_acc_2nd_argmax", "2nd_argmax"),
        ("argmax_4_3_0_0", "argmax"),
        ("my-argmedian-net", "argmedian"),
        ("net", "2nd_argmax"),
        ("argmax_against_argmedian", "2nd_argmax"),
    ],
)
def test_task_from_file_name(tmp_path, stem, task):
    path = tmp_path / f"{stem}.pth"
    path.write_bytes(as_pth(state_dict()))
    model = osp.load(path)
    assert (model.task.name, model.name) == (task, stem)
    assert osp.load(path, task="argmax", name="x").task.name == "argmax"
    assert osp.load(str(path), name="x").name == "x"


def test_median_from_file_name(tmp_path):
    path = tmp_path / "median_4_10_1048576_3.pth"
    path.write_bytes(as_pth(state_dict(n=1)))
    assert osp.load(path).seq_len == 10
    assert osp.load(path, seq_len=5).seq_len == 5


NAN = state_dict() | {"rnn.weight_hh_l0": np.full((4, 4), np.nan, "f4")}


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ({}, {}, ValueError, "keys must be those of a recurrent network"),
        ({"rnn.weight_hh_l0": np.eye(2)}, {}, ValueError, r"rnn\.weight_ih_l0, linear\.weight are missing"),
        (state_dict() | {"x": np.eye(2)}, {}, ValueError, "unknown weights 'x'"),
        (state_dict() | {"linear.weight": np.zeros((3, 5))}, {}, ValueError, "W_oh"),
        (state_dict() | {"rnn.weight_ih_l0": np.zeros((4, 2))}, {}, ValueError, "W_hi"),
        (state_dict() | {"linear.weight": np.zeros((3, 4), int)}, {}, TypeError, "W_oh must be an array of real"),
        (state_dict() | {"linear.weight": "text"}, {}, TypeError, "W_oh must be an array of real"),
        (state_dict(biases=True) | {"rnn.bias_ih_l0": np.zeros(3)}, {}, ValueError, "must have one shape"),
        (NAN, {}, ValueError, "W_hh must be finite"),
        (state_dict() | {"linear.weight": np.full((3, 4), 1e300)}, {}, ValueError, r"finite in float32, got 1e\+300"),
        (state_dict(), {"task": "sorting"}, ValueError, "task must be one of 2nd_argmax"),
        (state_dict(), {"task": 3}, TypeError, "task must be a string"),
        (state_dict(n=1), {"task": "median"}, ValueError, "seq_len must be given"),
        (state_dict(n=1), {}, ValueError, "seq_len must be at least 2"),
        (state_dict(), {"seq_len": 4}, ValueError, "W_oh must have 4 rows"),
        ({7: np.eye(2)}, {}, TypeError, "keys of a state dict must be strings"),
        (7, {}, TypeError, "source must be a path"),
        (None, {}, TypeError, "source must be a path"),
    ],
)
def test_bad_sources(source, options, error, message):
    with pytest.raises(error, match=message):
        osp.load(source, **options)


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        osp.load(tmp_path / "absent.pth")
    path = tmp_path / "model.pth"
    for content, message in (
        (b"", "the file is empty"),
        (b"hello", "not a model file"),
        (pickle.dumps({}), "not in a zip archive"),
        (as_pth(NAN), "W_hh must be finite"),
        (npz_bytes(state_dict() | {"linear.weight": np.ones((3, 4), int)}), r"linear\.weight must have real floating"),
        (npz_bytes(state_dict() | {"linear.weight": np.array("text")}), r"linear\.weight must have real floating"),
        (bytes(_files.MAX_FILE_BYTES + 1), "at most"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            osp.load(path)
        assert str(path) in str(caught.value)


def load_bytes(folder, data, suffix=".pth"):
    """The model in these bytes, or None where they are refused; anything but a ValueError fails the test."""
    path = folder / f"model{suffix}"
    path.write_bytes(data)
    with contextlib.suppress(ValueError):
        return osp.load(path)
    return None


@pytest.fixture(scope="module")
def fuzz_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def valid_files():
    return {".pth": as_pth(state_dict()), ".npz": npz_bytes(state_dict())}


@pytest.mark.parametrize("suffix", [".pth", ".npz"])
def test_truncated_files(fuzz_dir, suffix):
    data = valid_files()[suffix]
    assert load_bytes(fuzz_dir, data, suffix) is not None
    for length in range(0, len(data), 7):
        assert load_bytes(fuzz_dir, data[:length], suffix) is None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_altered_files(fuzz_dir, data):
    """Flipped bytes: refused, or (where the flip is in a field that nobody needs) read."""
    suffix = data.draw(st.sampled_from([".pth", ".npz"]))
    content = bytearray(valid_files()[suffix])
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    load_bytes(fuzz_dir, bytes(content), suffix)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_altered_pickles(fuzz_dir, data):
    """The archive is sound (its checksums too), the pickle in it is not."""
    with zipfile.ZipFile(io.BytesIO(as_pth(state_dict()))) as archive:
        entries = {name.removeprefix("archive/"): archive.read(name) for name in archive.namelist()}
    content = bytearray(entries["data.pkl"])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    load_bytes(fuzz_dir, archive_bytes((entries | {"data.pkl": bytes(content)}).items()))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["file", "pickle", "npy", ".safetensors"]))
def test_random_bytes(fuzz_dir, content, where):
    data = {
        "pickle": archive_bytes([("data.pkl", b"\x80\x02" + content)]),
        "npy": archive_bytes([("W_hh.npy", b"\x93NUMPY\x01\x00" + content)], prefix=""),
    }.get(where, content)
    assert load_bytes(fuzz_dir, data, ".safetensors" if where == ".safetensors" else ".pth") is None
