"""``umedfeat weights``: list, fetch, verify, convert, where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from umedfeat.encoders.weights.models import OfficialModel

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
    from umedfeat.encoders.weights.download import ensure_weights
    from umedfeat.terminal.log import configure_logging

    configure_logging(0, as_json=False)
    click.echo(str(ensure_weights(_model(name), offline=offline)))


@command.command(epilog=VERIFY_EPILOG)
@click.argument("what")
@click.option("--golden", is_flag=True, help="Compare with the authors' published values (umedpt; needs --image).")
@click.option(
    "--image", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The authors' example image."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def verify(what: str, golden: bool, image: Path | None, as_json: bool) -> None:
    """Check a model of the cache (its pin) or a file: structure, architecture, checksum. Nothing is executed."""
    from umedfeat.encoders.weights.checkpoint import read_checkpoint

    path = _path_of(what)
    checkpoint = read_checkpoint(path)
    config = checkpoint.config
    facts: dict[str, object] = {
        "file": path.name,
        "sha256": checkpoint.sha256,
        "architecture": f"{config.variant or config.family} ({config.dim} values)",
        "tensors": len(checkpoint.arrays),
        "generation": config.generation or "own",
    }
    if golden:
        facts["golden"] = f"largest difference {_golden(path, image):.2e}"
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    from umedfeat.terminal.tables import render_facts

    click.echo(render_facts(list(facts.items())))
    click.echo("sound")


@command.command(epilog="\b\nExample:\n  umedfeat weights convert encoder-1.0.4.pt.zip umedpt.safetensors")
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
def convert(source: Path, target: Path) -> None:
    """Write a weights file as safetensors, with the architecture in its metadata."""
    from umedfeat.encoders.weights.checkpoint import read_checkpoint
    from umedfeat.encoders.weights.safetensors_io import write_safetensors

    if target.suffix != ".safetensors":
        raise click.BadParameter(f"{target.name} must end in .safetensors", param_hint="TARGET")
    write_safetensors(read_checkpoint(source), target)
    click.echo(str(target))


@command.command(epilog="\b\nExample:\n  umedfeat weights where")
def where() -> None:
    """The cache folder (set UMEDFEAT_CACHE to move it)."""
    from umedfeat.encoders.cache import cache_folder

    click.echo(str(cache_folder()))


def _model(name: str) -> OfficialModel:
    from umedfeat.encoders.weights.models import MODELS
    from umedfeat.errors import SetupError

    if name not in MODELS:
        raise SetupError(f"no official model {name!r}", remedy=f"known: {', '.join(MODELS)}")
    return MODELS[name]


def _path_of(what: str) -> Path:
    from umedfeat.encoders.weights.download import ensure_weights, verify_pin
    from umedfeat.encoders.weights.models import MODELS

    if what in MODELS:
        path = ensure_weights(MODELS[what], offline=True)
        verify_pin(MODELS[what], path)
        return path
    return Path(what)


def _golden(path: Path, image: Path | None) -> float:
    from umedfeat.encoders.weights.golden import golden_difference
    from umedfeat.encoders.weights.models import GOLDEN_IMAGE
    from umedfeat.errors import SetupError

    if image is None:
        raise SetupError(
            "--golden needs the authors' example image", remedy=f"fetch {GOLDEN_IMAGE} and give --image FILE"
        )
    difference = golden_difference(path, image)
    if difference > 1e-5:
        raise SetupError(
            f"{path.name}: differs from the published values by {difference:.2e}",
            remedy="this is another file or another image",
        )
    return difference
