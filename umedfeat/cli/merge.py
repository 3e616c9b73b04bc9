"""``umedfeat merge``: shards and cohorts become one feature file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from umedfeat.naming import printable

__all__ = ["command"]

EPILOG = """\b
Examples:
  umedfeat merge feats.h5.shards/*.h5 --out feats.h5
  umedfeat merge centre-a.h5 centre-b.h5 --out both.h5

\b
Many machines, one shared disk (N: the number of a SLURM array's job):
  umedfeat extract --input slides/ --out feats.h5 --shard $N/16
  umedfeat merge feats.h5.shards/*.h5 --out feats.h5

Each shard writes feats.h5.shards/03-of-16.h5 and resumes by itself; the merged file is byte-identical to the one of
an undivided run, in whatever order and groups it is merged. Shards hold about the same number of bytes each; all
machines need the same --id-key and see the same files. --shard-out names a shard's file.

Refused: files of other settings (the difference is told), one id with two contents, a shard that is missing, there
twice, or of another list of inputs.
"""


@click.command(epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Feature file to write.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--partial", is_flag=True, help="Merge although shards are missing.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
def command(files: tuple[Path, ...], out: Path, overwrite: bool, partial: bool, as_json: bool) -> None:
    """Pack shards or several feature files of the same settings into one, sorted by id."""
    from umedfeat.terminal.words import counted
    from umedfeat.workflows.merging import merge

    done = merge(files, out, overwrite=overwrite, partial=partial)
    if as_json:
        click.echo(json.dumps(done._asdict() | {"out": str(done.out)}, indent=2))
        return
    held = f"{counted(done.items, 'item')}, {counted(done.rows, 'row')} from {counted(done.files, 'file')}"
    told = [f"{done.out}: {held}"]
    if done.failed:
        told.append(f"{counted(done.failed, 'input')} had failed; `umedfeat info {done.out} --failures` tells why")
    click.echo(printable("\n".join(told), keep="\n"))
