"""``umedfeat key``: the site's key for pseudonyms, made and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from umedfeat.keys import KeyFacts

__all__ = ["command"]

EPILOG = """\b
Examples:
  umedfeat key new site.key
  umedfeat key check site.key
  umedfeat extract --input dicom/ --out feats.h5 --id-key site.key

Patients are stored under pseudonyms that depend on a secret key. All machines, containers and shards of a study need
the same key, or one patient has two pseudonyms and may stand on both sides of a split. Keep it as a password is kept.
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """The key for pseudonyms: make one for the site, check which one made which file."""


@command.command(epilog="\b\nExample:\n  umedfeat key new site.key")
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def new(path: Path, as_json: bool) -> None:
    """Write a new random key that only you can read; an existing file is never replaced."""
    from umedfeat.keys import new_key

    _tell(new_key(path), as_json)


@command.command(epilog="\b\nExamples:\n  umedfeat key check\n  umedfeat key check site.key --features feats.h5")
@click.argument("path", metavar="[FILE]", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--features",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Feature file that the key should have made; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def check(path: Path | None, features: tuple[Path, ...], as_json: bool) -> None:
    """Is a key strong and private, and did it make these feature files? Without FILE: the key a run would take.

    Exit code 2 where a feature file holds pseudonyms of another key.
    """
    from umedfeat.keys import check_key
    from umedfeat.store.one_key import refuse_other_key

    facts = check_key(path)
    refuse_other_key(facts.check, features)
    _tell(facts, as_json)


def _tell(facts: KeyFacts, as_json: bool) -> None:
    """The key itself is never shown."""
    if as_json:
        told = {"path": str(facts.path), "key_check": facts.check, "warnings": list(facts.warnings)}
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"{facts.path}: key check {facts.check}")
    for warning in facts.warnings:
        click.echo(f"  ! {warning}")
