"""``umedfeat verify``: is a feature file whole?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from umedfeat.naming import printable

if TYPE_CHECKING:
    from umedfeat.store import Verified

__all__ = ["command"]

EPILOG = """\b
Examples:
  umedfeat verify feats.h5
  umedfeat verify feats.h5.shards/*.h5
  umedfeat verify feats.h5 --json

Checked: schema, shapes, ids, start and count, ranges, NaN and infinity, the mean of every item, and a
checksum of every item's rows.

Exit codes: 0 whole, 1 faults (one line each), 2 no such file.
"""


@click.command(epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
def command(files: tuple[Path, ...], as_json: bool) -> int:
    """Check feature files: schema, ranges, checksums."""
    from umedfeat.store import verify
    from umedfeat.terminal.bar import Bar
    from umedfeat.terminal.words import counted

    results = []
    for path in files:
        with Bar(f"verify {path.name}") as bar:
            results.append((path, verify(path, bar.update)))
    if as_json:
        click.echo(json.dumps([_as_dict(path, found) for path, found in results], indent=2))
    else:
        for path, found in results:
            for fault in found.faults:
                click.echo(printable(f"{path.name}: {fault.removeprefix(f'{path}: ')}"))
            if not found.faults:
                held = f"{counted(found.items, 'item')}, {counted(found.rows, 'row')}"
                click.echo(f"{printable(path.name)}: whole ({held})")
    return 1 if any(found.faults for _, found in results) else 0


def _as_dict(path: Path, found: Verified) -> dict[str, object]:
    return {
        "file": path.name,
        "whole": not found.faults,
        "items": found.items,
        "rows": found.rows,
        "faults": list(found.faults),
    }
