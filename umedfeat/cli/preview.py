"""``umedfeat preview``: see what the encoder will see, before hours of work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from umedfeat.cli.long_help import LongCommand
from umedfeat.cli.options import identity_options, log_options, policy_options
from umedfeat.naming import printable
from umedfeat.policy import Policy

if TYPE_CHECKING:
    from umedfeat.naming import Pseudonyms

__all__ = ["command"]

#: What matters first.
_FIRST = "--input --out --mpp --tile-size --window --plane --modality --source-mpp --regions --json"

EPILOG = """\b
Examples:
  umedfeat preview slides/ --out preview/
  umedfeat preview ct/ --out preview/ --window lung --regions 24
  umedfeat preview slides/ --out preview/ --min-tissue 0.5 --geojson
  umedfeat preview study.csv --out preview/ --mask-dir annotations/

Open preview/index.html in a browser. Use the same flags as for `umedfeat extract`; tiles and images are
224 pixels wide, as UMedPT takes them, unless --tile-size and --image-size say otherwise.

Exit codes: 0 all can be embedded, 1 some cannot, 2 nothing was done.
"""


@click.command(cls=LongCommand, first=_FIRST, epilog=EPILOG)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-i", "--input", "inputs", multiple=True, type=click.Path(path_type=Path), help="As PATHS: file, folder, manifest."
)
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="preview",
    show_default=True,
    help="Folder for the page and its pictures.",
)
@policy_options
@click.option(
    "--regions", type=click.IntRange(1, 200), default=12, show_default=True, help="Tiles or slices on a contact sheet."
)
@click.option("--geojson", is_flag=True, help="Slides: also write tissue and grid for QuPath.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes that plan.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
@log_options
@identity_options
def command(
    paths: tuple[Path, ...],
    inputs: tuple[Path, ...],
    out: Path,
    policy: Policy,
    regions: int,
    geojson: bool,
    workers: int,
    as_json: bool,
    pseudonyms: Pseudonyms,
    progress: str,
) -> int:
    """Pictures of what the encoder will see, on one page.

    PATHS are files, folders (searched recursively) or CSV manifests. Per slide: thumbnail with tissue outline, kept
    and rejected tiles and a scale bar. Per input: a contact sheet of regions exactly as the encoder gets them.
    """
    if not paths and not inputs:
        raise click.UsageError("nothing to look at: name a file, a folder or a manifest, e.g. umedfeat preview slides/")
    from umedfeat.report.preview import preview
    from umedfeat.terminal.words import counted

    summary = preview(
        (*paths, *inputs),
        out,
        policy=policy,
        pseudonyms=pseudonyms,
        regions=regions,
        geojson=geojson,
        workers=workers,
        show_progress=progress == "bar",
    )
    if as_json:
        click.echo(
            json.dumps(
                {
                    "page": str(summary.page),
                    "inputs": summary.shown,
                    "regions": summary.regions,
                    "failures": [
                        {"source": f.source, "stage": f.stage, "message": f.message, "remedy": f.remedy}
                        for f in summary.failures
                    ],
                    "skipped": [{"source": s.name, "reason": s.reason} for s in summary.skipped],
                }
            )
        )
    else:
        failed = f", {len(summary.failures)} failed" if summary.failures else ""
        shown = f"{counted(summary.shown, 'input')}, {counted(summary.regions, 'region')}"
        click.echo(f"{printable(str(summary.page))}: {shown}{failed}")
    return summary.exit_code
