"""``umedfeat compare``: encoders on the same draws and the same test patients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from umedfeat.cli.study_options import command_line, labelling_of, settings_of, study_options

__all__ = ["command"]

EPILOG = """\b
Examples:
  umedfeat compare umedpt.h5 imagenet.h5
  umedfeat compare umedpt.h5 imagenet.h5 random.h5 --baseline imagenet.h5 --margin 0.01
  umedfeat compare a.h5 b.h5 --labels labels.csv --label-of item --classifier linear

\b
The last file is the baseline unless --baseline says otherwise. Labels, patients and
further columns are those of the first file (or of --labels).
Exit codes: 0 done, 2 no study can be made of this, 3 leakage.
"""


@click.command(epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--baseline", default="", help="File or encoder that the others are compared with.  [default: the last]")
@click.option(
    "--margin",
    type=click.FloatRange(0),
    default=0.02,
    show_default=True,
    help="How much worse than the baseline still counts as equal.",
)
@study_options
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Output folder.  [default: compare/ beside the first file]"
)
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
def command(
    files: tuple[Path, ...],
    baseline: str,
    margin: float,
    jobs: int | None,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Which encoder needs less data? Paired differences, and the data needed to match the baseline."""
    from umedfeat.fewshot.files import compare_files
    from umedfeat.report.comparison_page import write_comparison_report
    from umedfeat.report.files import comparison_summary, folder_name, write_comparison
    from umedfeat.report.study_page import write_report
    from umedfeat.report.tables import render_comparison
    from umedfeat.terminal.bar import Bar

    if options["sanity"]:
        raise click.UsageError("--sanity belongs to umedfeat probe")
    labelling = labelling_of(options)
    settings = settings_of(options, labelling.event)
    with Bar("fitting", unit="draw") as bar:
        comparison = compare_files(
            files,
            baseline=baseline,
            **vars(labelling),
            margin=margin,
            settings=settings,
            command=command_line(),
            progress=bar.reach,
            jobs=jobs,
        )
    folder = out or files[0].parent / "compare"
    write_comparison(comparison, folder)
    for name, result in zip(comparison.names, comparison.results, strict=True):
        write_report(result, folder / folder_name(name), preview=files[0].parent / "preview")
    links = {name: f"{folder_name(name)}/report.html" for name in comparison.names}
    report = write_comparison_report(comparison, folder, links)
    text = json.dumps(comparison_summary(comparison)) if as_json else render_comparison(comparison)
    click.echo(text if as_json else f"{text}\n\nReport: {report}\nWritten to {folder}/")
