"""ARC's AlgZoo: its names, and its files from a folder, a mirror, the cache or the public bucket.

Source: J. Hilton et al., AlgZoo, https://github.com/alignment-research-center/alg-zoo (licence MIT-0).
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outsample._cache import cache_dir, write_atomically
from outsample._files import MAX_FILE_BYTES, parse_model_file
from outsample.loading import load as load_file
from outsample.zoo._choose import check_choice

BASE_URL = "https://storage.googleapis.com/arc-ml-public/alg"
FINAL = 2**30
TIMEOUT_SECONDS = 30

#: sha256 of the files that were checked when this was written; of others, the first download is remembered.
KNOWN_SHA256 = {
    "one_layer_16_hidden_94_acc_2nd_argmax": "498bd9a87c469e18e824a78e55c22843c7595776f1bfc2dfe07c36e5616218bb",
    "2nd_argmax_2_2_1073741824_2": "7d5bab82800560f24ad3f8293128abab013a749c7ef46d4e395e684b8703cea9",
    "longest_cycle_2_3_1073741824_0": "1a71c686d879e3dbfc454dc09e0920c003e92bd10312620b3b6cd6a1ac05ec87",
}

#: Networks outside the regular naming.
EXAMPLES = {"example_2nd_argmax": "one_layer_16_hidden_94_acc_2nd_argmax"}


@dataclass(frozen=True)
class Family:
    """The networks of one task.

    Attributes
    ----------
    hidden_sizes, seq_lens : tuple of int
        All combinations exist.
    best_seeds : dict of (int, int) to int
        The best of the seeds 0 to 4, by hidden size and sequence length.
    """

    hidden_sizes: tuple[int, ...]
    seq_lens: tuple[int, ...]
    best_seeds: dict[tuple[int, int], int]


def _family(hidden_sizes: tuple[int, ...], seq_lens: tuple[int, ...], best: str) -> Family:
    """`best` has one word per hidden size, and in it one digit per sequence length."""
    seeds = {
        (d, n): int(seed)
        for d, row in zip(hidden_sizes, best.split(), strict=True)
        for n, seed in zip(seq_lens, row, strict=True)
    }
    return Family(hidden_sizes, seq_lens, seeds)


#: AlgZoo's families by task.
ALGZOO = {
    "2nd_argmax": _family(
        (2, 3, 4, 5, 6, 8, 16, 32),
        (2, 3, 4, 5, 6, 8, 10),
        "2023214 3140011 3012012 3143444 2301102 3113404 3132312 3423140",
    ),
    "argmedian": _family((2, 4, 8, 16, 32), (3, 5, 7, 11), "0003 0211 1204 1044 4334"),
    "median": _family((2, 4, 8, 16, 32), (2, 3, 5, 10), "2000 4041 3313 1102 1110"),
    "longest_cycle": _family((2, 3, 4, 6, 8), (3, 4, 5, 6), "0232 0410 2100 0023 0333"),
}
CHECKPOINTS = (0, *(2**i for i in range(20, 31)))
SEEDS = tuple(range(5))


def algzoo(
    name: str = "example_2nd_argmax",
    hidden_size: int | None = None,
    seq_len: int | None = None,
    n_seqs: int = FINAL,
    seed: int | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
) -> Any:
    """Load a network of ARC's AlgZoo.

    The file comes from the first of these that is given: ``folder``, ``base_url``, the environment variable
    ``OUTSAMPLE_ALGZOO`` (a folder or a URL), AlgZoo's public bucket. What is downloaded is kept in the user's cache
    (the environment variable ``OUTSAMPLE_CACHE`` moves it) and never downloaded twice. Its sha256 is compared with the
    known one, or with that of the first download.

    Parameters
    ----------
    name : str, default "example_2nd_argmax"
        A task (2nd_argmax, argmedian, median, longest_cycle); or ``example_2nd_argmax``, the network of ARC's post with
        16 hidden units and 10 inputs; or a whole name ``{task}_{hidden_size}_{seq_len}_{n_seqs}_{seed}``.
    hidden_size, seq_len : int, optional
        With a task, they must be given.
    n_seqs : int, default 2**30
        Training sequences: 0 or a power of two from 2**20 to 2**30.
    seed : int, optional
        0 to 4. Default: the best of the five after all 2**30 sequences, as AlgZoo has it.
    folder : path, optional
        A folder with the files, ``{name}.pth`` or ``zoo/{name}.pth``; nothing is downloaded.
    base_url : str, optional
        A mirror of ``https://storage.googleapis.com/arc-ml-public/alg``.

    Returns
    -------
    RNN, or the transformer for longest_cycle

    Raises
    ------
    ValueError
        If AlgZoo has no such network, or if the file is not the right one.
    FileNotFoundError
        If it is not in ``folder``.
    ConnectionError
        If it cannot be downloaded; the text says what to do.
    ImportError
        If it must be downloaded and pooch is not installed.
    """
    name = _file_name(name, hidden_size, seq_len, n_seqs, seed)
    model = load_file(fetch(name, folder=folder, base_url=base_url))
    said = name.split("_")[-4:-2]
    if name not in EXAMPLES.values() and [model.hidden_size, model.seq_len] != [int(v) for v in said]:
        raise ValueError(
            f"{name}: the file has hidden_size {model.hidden_size} and seq_len {model.seq_len}, which is not its name"
        )
    return model


def fetch(
    name: str = "example_2nd_argmax",
    hidden_size: int | None = None,
    seq_len: int | None = None,
    n_seqs: int = FINAL,
    seed: int | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
) -> Path:
    """The ``.pth`` file of a network of ARC's AlgZoo, downloaded if need be.

    Parameters and errors are those of `algzoo`.

    Returns
    -------
    Path
        In ``folder`` or in the cache.
    """
    name = _file_name(name, hidden_size, seq_len, n_seqs, seed)
    if folder is None and base_url is None:
        place = os.environ.get("OUTSAMPLE_ALGZOO", "")
        if "://" in place:
            base_url = place
        elif place:
            folder = place
    if folder is not None:
        return _in_folder(name, Path(folder))
    base_url = (base_url or BASE_URL).rstrip("/")
    if not base_url.startswith(("https://", "http://")):
        raise ValueError(f"base_url must start with https:// or http://, got {base_url!r}")
    return _in_cache(name, base_url)


def _file_name(name: str, hidden_size: int | None, seq_len: int | None, n_seqs: int, seed: int | None) -> str:
    if name in EXAMPLES or name in EXAMPLES.values():
        return EXAMPLES.get(name, name)
    task, *rest = name.rsplit("_", 4)
    if len(rest) == 4 and task in ALGZOO and all(part.isdecimal() for part in rest):
        hidden_size, seq_len, n_seqs, seed = map(int, rest)
    else:
        task = name
    check_choice("name", task, [*ALGZOO, *EXAMPLES], "AlgZoo")
    family = ALGZOO[task]
    check_choice("hidden_size", hidden_size, family.hidden_sizes, "AlgZoo")
    check_choice("seq_len", seq_len, family.seq_lens, "AlgZoo")
    check_choice("n_seqs", n_seqs, CHECKPOINTS, "AlgZoo")
    if seed is None:
        seed = family.best_seeds[hidden_size, seq_len]  # type: ignore[index]  # checked above
    check_choice("seed", seed, SEEDS, "AlgZoo")
    return f"{task}_{hidden_size}_{seq_len}_{n_seqs}_{seed}"


def _in_folder(name: str, folder: Path) -> Path:
    for path in (folder / f"{name}.pth", folder / "zoo" / f"{name}.pth"):
        if path.exists():
            _check_sha256(path.read_bytes(), KNOWN_SHA256.get(name), str(path))
            return path
    raise FileNotFoundError(f"neither {name}.pth nor zoo/{name}.pth is in the folder {str(folder)!r}")


def _in_cache(name: str, base_url: str) -> Path:
    path = cache_dir() / "algzoo" / f"{name}.pth"
    record = path.with_suffix(".sha256")  # in the format of sha256sum
    expected = KNOWN_SHA256.get(name)
    if expected is None and record.exists():
        expected = record.read_text(encoding="ascii", errors="replace").split(" ")[0]
    if path.exists() and expected in (None, hashlib.sha256(path.read_bytes()).hexdigest()):
        return path
    url = f"{base_url}/{name}.pth" if name in EXAMPLES.values() else f"{base_url}/zoo/{name}.pth"
    data = _download(url, name, path.parent)
    # A file whose sha256 is not known must at least be whole before it is remembered.
    parse_model_file(data, ".pth", url)
    _check_sha256(data, expected, url, None if name in KNOWN_SHA256 else record)
    write_atomically(record, f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")
    write_atomically(path, data)
    return path


def _check_sha256(data: bytes, expected: str | None, source: str, record: Path | None = None) -> None:
    found = hashlib.sha256(data).hexdigest()
    if expected is not None and found != expected:
        hint = f"; if the new file is right, delete {record}" if record else ""
        raise ValueError(f"{source}: the sha256 must be {expected}, got {found}{hint}")


class _Limited(io.BytesIO):
    """A buffer that stops a download which cannot be a model."""

    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > MAX_FILE_BYTES:
            raise ConnectionError(f"a model file must have at most {MAX_FILE_BYTES} bytes")
        return super().write(data)


def _download(url: str, name: str, folder: Path) -> bytes:
    by_hand = f"put {name}.pth into a folder and pass folder= or set OUTSAMPLE_ALGZOO to it, or into the cache {folder}"
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            f"downloading {url} needs pooch: pip install 'outsample[zoo]'. Without it, {by_hand}"
        ) from error
    buffer = _Limited()
    try:
        pooch.HTTPDownloader(timeout=TIMEOUT_SECONDS)(url, buffer, None)
    except OSError as error:  # every error of requests is one
        raise ConnectionError(f"cannot download {url} ({error}). Without a network, {by_hand}") from error
    return buffer.getvalue()
