"""What commands that make advice have in common."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from outsample.advice import Advice
from outsample.models import Model


def add_output(parser: argparse.ArgumentParser) -> None:
    """Where the advice goes."""
    parser.add_argument("--output", required=True, metavar="FILE", help="advice file to write (.npz)")


def output_of(args: argparse.Namespace) -> Path:
    """The file to write, or an error before any work."""
    output = Path(args.output)
    if output.suffix != ".npz":
        raise ValueError(f"--output must end in .npz, got {args.output}")
    return output


def write(advice: Advice, output: Path, model: Model, say: Any) -> dict[str, Any]:
    """Save advice and say what it is worth, and what ``--json`` prints."""
    advice.save(output)
    say(f"{output}: advice for {advice.name}, {advice.record['forwards']:.3g} forward passes and "
        f"{advice.record['seconds']:.0f} s to make")  # fmt: skip
    rows = []
    for budget, size in advice.sizes.items():
        cost = size.multiply_adds / model.forward_multiply_adds
        rows.append(
            {
                "size": budget,
                "points": size.points,
                "forwards": cost,
                "equivalent_samples": dict(size.equivalent_samples),
            }
        )
        shown = ", ".join(f"{law} {n:,.0f} ({n / cost:.3g})" for law, n in size.equivalent_samples.items())
        say(f"size {budget}: {size.points} points, {cost:.1f} forwards; equivalent samples (advantage): {shown}")
    return {"output": str(output), "record": dict(advice.record), "sizes": rows}
