"""``umedfeat doctor``: what would stop the main job here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from umedfeat.cli.options import encoder_options

if TYPE_CHECKING:
    from umedfeat.encoders.choice import EncoderChoice

__all__ = ["command"]

EPILOG = """\b
Examples:
  umedfeat doctor
  umedfeat doctor --encoder uni2-h --device cuda:0 --out /scratch/feats.h5
  umedfeat doctor --json > doctor.json      (for a bug report)

\b
Nothing is fetched, no key is made or shown, and what is written is removed.
Exit codes: 0 extract would run here, 1 it would fail.
"""


@click.command(epilog=EPILOG)
@encoder_options
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default="feats.h5",
    show_default=True,
    help="Where the feature file would go; its folder is tried, the file is not touched.",
)
@click.option(
    "--id-key",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="UMEDFEAT_ID_KEY",
    help="File with the site's secret key for pseudonyms.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def command(choice: EncoderChoice, out: Path, id_key: Path | None, as_json: bool) -> int:
    """Would extract run here? Packages, devices, codecs, weights, key, disk, limits: a line each, with a remedy."""
    from umedfeat.doctor.checkup import examine
    from umedfeat.doctor.finding import Wish
    from umedfeat.terminal.log import configure_logging

    configure_logging(-1, as_json=False)
    checkup = examine(Wish(choice, out, id_key))
    click.echo(json.dumps(checkup.to_dict(), indent=2) if as_json else checkup.to_text())
    return 0 if checkup.sound else 1
