"""``umedfeat aggregate``: the tiles of every slide to one vector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from umedfeat.naming import printable

if TYPE_CHECKING:
    from umedfeat.extraction.aggregation import Aggregated

__all__ = ["command"]

EPILOG = """\b
Examples:
  umedfeat encoders                    (slide encoders last)
  umedfeat extract --input slides/ --out feats.h5 --encoder conch
  umedfeat aggregate feats.h5 --encoder my-slide-encoder --out slides.h5
  umedfeat probe -f slides.h5
  umedfeat compare slides.h5 feats.h5  (better than the mean?)

Slide encoders come as packages (docs/encoders.md tells how to write one). Each says which tiles it takes; others are
refused. Labels, patients and ids are those of the tiles. Run it again after new slides: what is there stays.

Exit codes: 0 all slides encoded, 1 some failed (umedfeat info --failures), 2 usage or set-up.
"""


@click.command(epilog=EPILOG)
@click.argument("features", default="feats.h5", type=click.Path(path_type=Path))
@click.option("-e", "--encoder", required=True, help="Slide encoder of an installed package.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Feature file: one row a slide.")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="Weights file, where it takes one.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Number format that it computes in.",
)
@click.option("--overwrite", is_flag=True, help="Start anew instead of resuming.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
def command(
    features: Path,
    encoder: str,
    out: Path,
    weights: Path | None,
    device: str,
    precision: str,
    overwrite: bool,
    as_json: bool,
) -> int:
    """One vector of each slide from its tiles, by a slide encoder."""
    from umedfeat.extraction.aggregation import aggregate

    done = aggregate(features, out, encoder, weights=weights, device=device, precision=precision, overwrite=overwrite)
    if as_json:
        failures = [failure.__dict__ for failure in done.failures]
        click.echo(json.dumps(done._asdict() | {"out": str(done.out), "failures": failures}, indent=2))
    else:
        click.echo(printable("\n".join(_told(done)), keep="\n"))
    return done.exit_code


def _told(done: Aggregated) -> list[str]:
    from umedfeat.terminal.words import counted

    there = f" ({done.resumed:,} were there)" if done.resumed else ""
    slides = counted(done.made + done.resumed, "slide")
    lines = [f"{done.out}: {slides}{there}, {done.dim} values by {done.encoder} ({done.package})"]
    if done.empty:
        lines.append(f"{len(done.empty)} without a tile: {', '.join(done.empty[:3])}{' …' * (len(done.empty) > 3)}")
    if done.failures:
        lines.append(f"{len(done.failures)} failed; `umedfeat info {done.out} --failures` tells why")
    return lines
