"""``umedfeat weights``: list, fetch, verify, convert, where."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["command"]

EPILOG = """\b
Examples:
  umedfeat weights list
  umedfeat weights fetch umedpt
  umedfeat weights verify encoder-1.0.4.pt.zip
  umedfeat weights convert encoder-1.0.4.pt.zip umedpt.safetensors
  umedfeat weights where
"""


VERIFY_EPILOG = """\b
Examples:
  umedfeat weights verify umedpt
  umedfeat weights verify own.safetensors
  umedfeat weights verify umedpt --golden --image teddy.jpg
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Official weights: where they come from, whether they are sound, in which form they lie."""


@command.command("list", epilog="\b\nExample:\n  umedfeat weights list --json")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def list_models(as_json: bool) -> None:
    """The official models: licence, citation, URLs, and whether they are in the cache."""
    from umedfeat.encoders.weights.download import cached_file
    from umedfeat.encoders.weights.models import MODELS
    from umedfeat.terminal.tables import render_table

    if as_json:
        models = [
            {**vars(model), "urls": list(model.urls), "cached": cached_file(model).is_file()}
            for model in MODELS.values()
        ]
        click.echo(json.dumps(models, indent=2))
        return
    rows = [[m.name, m.file, "yes" if cached_file(m).is_file() else "no", m.pool_order] for m in MODELS.values()]
    click.echo(render_table(["name", "file", "in cache", "pooling"], rows))
    click.echo(f"\nlicence  {next(iter(MODELS.values())).licence}\n")
    for model in MODELS.values():
        click.echo(
            f"{model.name}\n  {model.citation}\n  {model.urls[0]}" + (f"\n  note: {model.note}" if model.note else "")
        )


@command.command(epilog="\b\nExample:\n  umedfeat weights fetch umedpt")
@click.argument("name")
@click.option("--offline", is_flag=True, help="Only look into the cache.")
def fetch(name: str, offline: bool) -> None:
    """Download a model into the cache (resumes; pins its checksum on first use)."""
    from umedfeat.encoders.weights.official import fetch_weights
    from umedfeat.terminal.log import configure_logging

    configure_logging(0, as_json=False)
    click.echo(str(fetch_weights(name, offline=offline)))


@command.command(epilog=VERIFY_EPILOG)
@click.argument("what")
@click.option("--golden", is_flag=True, help="Compare with the authors' published values (umedpt; needs --image).")
@click.option(
    "--image", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The authors' example image."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def verify(what: str, golden: bool, image: Path | None, as_json: bool) -> None:
    """Check a model of the cache (its pin) or a file: structure, architecture, checksum. Nothing is executed."""
    from umedfeat.encoders.weights.models import GOLDEN_IMAGE
    from umedfeat.encoders.weights.official import verify_weights
    from umedfeat.errors import SetupError
    from umedfeat.terminal.tables import render_facts

    if golden and image is None:
        remedy = f"fetch {GOLDEN_IMAGE} and give --image FILE"
        raise SetupError("--golden needs the authors' example image", remedy=remedy)
    facts = verify_weights(what, golden_image=image if golden else None).to_dict()
    click.echo(json.dumps(facts, indent=2) if as_json else f"{render_facts(list(facts.items()))}\nsound")


@command.command(epilog="\b\nExample:\n  umedfeat weights convert encoder-1.0.4.pt.zip umedpt.safetensors")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
def convert(source: Path, target: Path) -> None:
    """Write a weights file as safetensors, with the architecture in its metadata."""
    from umedfeat.encoders.weights.official import convert_weights

    click.echo(str(convert_weights(source, target)))


@command.command(epilog="\b\nExample:\n  umedfeat weights where")
def where() -> None:
    """The cache folder (set UMEDFEAT_CACHE to move it)."""
    from umedfeat.encoders.cache import cache_folder

    click.echo(str(cache_folder()))
