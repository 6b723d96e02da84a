"""``outsample info``: what this copy is and what it runs on."""

from __future__ import annotations

import argparse
from typing import Any

from outsample._build import build_info

NAME = "info"
HELP = "show version, compiler, processor and instruction sets"
EXAMPLE = "outsample info --json"


def configure(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Print `build_info`."""
    result = build_info()
    for key, value in result.items():
        args.say(f"{key:16} {', '.join(value) if isinstance(value, list) else value}")
    return result
