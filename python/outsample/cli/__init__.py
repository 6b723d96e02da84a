"""The command line: one file per command, listed in `COMMANDS`.

A command module has ``NAME``, ``HELP``, ``EXAMPLE``, ``configure(parser)`` and ``run(args)``, which returns what
``--json`` prints (anything `json.dumps` takes) after it has printed the same for people with `args.say(...)`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import outsample
from outsample.cli import calibrate, challenge, compare, estimate, fit, fit_transferred, info, surprise, train, zoo

#: In the order of ``outsample --help``.
COMMANDS: tuple[ModuleType, ...] = (
    challenge,
    estimate,
    compare,
    fit,
    fit_transferred,
    calibrate,
    train,
    surprise,
    zoo,
    info,
)


def build_parser() -> argparse.ArgumentParser:
    """The whole parser, also read by the documentation."""
    parser = argparse.ArgumentParser(
        prog="outsample",
        description="Estimate the accuracy of small trained networks from their weights, measured against sampling.",
    )
    parser.add_argument("--version", action="version", version=f"outsample {outsample.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS:
        command = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.HELP,
            epilog=f"example: {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--json", action="store_true", help="print one JSON document instead of text")
        module.configure(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns
    -------
    int
        0 on success, 1 on failure, 2 on bad usage, 130 when interrupted.
    """
    args = build_parser().parse_args(argv)

    def say(*values: Any) -> None:
        if not args.json:
            print(*values, flush=True)

    args.say = say
    try:
        result = args.run(args)
    except (ValueError, TypeError, FileNotFoundError, IsADirectoryError, PermissionError) as error:
        print(f"outsample {args.command}: error: {error}", file=sys.stderr)
        return 2
    except (OSError, ImportError, ArithmeticError) as error:
        print(f"outsample {args.command}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"outsample {args.command}: interrupted", file=sys.stderr)
        return 130
    if args.json:
        print(json.dumps(result, indent=2))
    return 0
