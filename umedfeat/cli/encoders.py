"""``umedfeat encoders``: what ``--encoder`` takes."""

from __future__ import annotations

import dataclasses
import json

import click

__all__ = ["command"]

EPILOG = """\b
Examples:
  umedfeat encoders
  umedfeat encoders --json
  umedfeat extract --input slides/ --out feats.h5 --encoder uni2-h
  umedfeat aggregate feats.h5 --encoder my-slide-encoder --out slides.h5

Gated models: accept the publisher's terms on the model's page, then `hf auth login` or set HF_TOKEN.
"""


@click.command(epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout, with the models' pages.")
def command(as_json: bool) -> None:
    """Every encoder by name: for what, image size, length of the embedding, licence; those of other packages last.

    Below them the slide encoders of installed packages, which `umedfeat aggregate` takes.
    """
    from umedfeat.encoders.registry import list_encoders
    from umedfeat.encoders.slides import list_slide_encoders
    from umedfeat.terminal.tables import render_table

    entries, of_slides = list_encoders(), list_slide_encoders()
    if as_json:
        told = [{"takes": "images", **dataclasses.asdict(entry)} for entry in entries]
        told += [{"takes": "tiles", **dataclasses.asdict(entry)} for entry in of_slides]
        click.echo(json.dumps(told, indent=2))
        return
    rows = [
        [
            entry.name + ("…" if entry.name.endswith(":") else ""),
            str(entry.image_size or ""),
            str(entry.dim or ""),
            entry.licence + (" (gated)" if entry.gated else ""),
            entry.about,
        ]
        for entry in entries
    ]
    click.echo(render_table(["name", "side", "dim", "licence", "what it is"], rows))
    if of_slides:
        click.echo()
        click.echo(render_table(["slide encoder", "package"], [[entry.name, entry.about] for entry in of_slides]))
