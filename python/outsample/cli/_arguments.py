"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from outsample import zoo
from outsample.estimators import ESTIMATORS, Estimator
from outsample.loading import load
from outsample.models import Model
from outsample.noise import PROTOCOLS, Protocol, get_protocol
from outsample.tasks import TASKS


def integer(text: str) -> int:
    """A positive integer: ``65536``, ``65_536``, ``2**16`` or ``2^16``."""
    base, power, exponent = text.replace("^", "**").partition("**")
    try:
        value = int(base) ** int(exponent) if power and 0 <= int(exponent) <= 62 else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer such as 65536 or 2**16, got {text!r}") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def integers(text: str) -> list[int]:
    """Positive integers between commas; ``2**4..2**16`` stands for the powers of two from one to the other."""
    values: list[int] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        if not dots:
            values.append(integer(part))
            continue
        low, high = integer(first), integer(last)
        values += [low << k for k in range(63) if low << k <= high]
    if not values:
        raise argparse.ArgumentTypeError(f"must name at least one number, got {text!r}")
    return values


def seed(text: str) -> int:
    """A non-negative integer."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a non-negative integer, got {text!r}")
    return int(text)


def protocol(text: str) -> Protocol:
    """A protocol by name."""
    try:
        return get_protocol(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("protocol ")) from None


def option(text: str) -> tuple[str, Any]:
    """``name=value``, where value is a Python literal, or else a string."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"must be name=value, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def add_model(parser: argparse.ArgumentParser, flag: str = "model", note: str = "") -> None:
    """The network and, where its file does not say, its task."""
    text = f"file (.pth, .npz, .safetensors), or name in `outsample zoo list`{note}"
    parser.add_argument(flag, metavar="MODEL", help=text)
    parser.add_argument("--task", choices=list(TASKS), help="default: what the file or its name says")


def load_model(path: str, task: str | None) -> Model:
    """Load a file, or a network of the zoo by its name, or fail with a message that names it."""
    if not Path(path).exists() and (found := zoo.find(path)) is not None:
        return found if task is None else dataclasses.replace(found, task=task)  # type: ignore[arg-type]
    try:
        model: Model = load(path, task=task)
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from None
    return model


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """The law of the noise."""
    parser.add_argument(
        "--protocol",
        type=protocol,
        default=next(iter(PROTOCOLS)),
        metavar="NAME",
        help=f"{', '.join(PROTOCOLS)} (default %(default)s)",
    )


def make_estimator(name: str, options: Iterable[tuple[str, Any]] = ()) -> Estimator:
    """A method of ours by its name, or ``module:Class`` or ``file.py:Class`` for one of the user's own.

    Raises
    ------
    ValueError
        If there is no such method, or it does not know an option.
    """
    source, colon, attribute = name.rpartition(":")
    cls: Any = _imported(source, attribute) if colon else ESTIMATORS.get(name)
    if cls is None:
        raise ValueError(f"method must be one of {', '.join(ESTIMATORS)}, or module:Class, got {name!r}")
    if not (isinstance(cls, type) and issubclass(cls, Estimator)):
        raise ValueError(f"method must be a subclass of outsample.Estimator, got {name!r}")
    settings = dict(options)
    known = inspect.signature(cls).parameters
    for option_name in settings:
        if option_name not in known:
            raise ValueError(
                f"option of method {name} must be one of {', '.join(known) or 'none'}, got {option_name!r}"
            )
    return cls(**settings)


def _imported(source: str, attribute: str) -> Any:
    try:
        if source.endswith(".py"):
            path = Path(source)
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[path.stem] = module  # where pickle and inspect look for the class
            spec.loader.exec_module(module)
        else:
            if "" not in sys.path:
                sys.path.insert(0, "")  # a console script does not look in the current folder by itself
            module = importlib.import_module(source)
        return getattr(module, attribute)
    except (ImportError, AttributeError, FileNotFoundError) as error:
        raise ValueError(f"method {source}:{attribute} cannot be loaded: {error}") from None
