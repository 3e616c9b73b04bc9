"""``umedfeat extract``: images in, one HDF5 file of features out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from umedfeat.cli.config_file import asked_options
from umedfeat.cli.long_help import LongCommand
from umedfeat.cli.options import (
    encoder_options,
    identity_options,
    input_options,
    log_options,
    policy_options,
    refuse_beside_like,
    run_options,
)
from umedfeat.naming import printable
from umedfeat.policy import Policy

if TYPE_CHECKING:
    from umedfeat.contract import Failure
    from umedfeat.encoders.choice import EncoderChoice
    from umedfeat.extraction.run import Summary
    from umedfeat.extraction.settings import RunSettings
    from umedfeat.naming import Pseudonyms

__all__ = ["command"]

_FEW = 5  # reasons and failures that the summary spells out

#: What matters first.
_FIRST = "--input --out --encoder --like --mpp --tile-size --window --modality --device --dry-run"

EPILOG = """\b
Examples:
  umedfeat extract --input slides/ --out feats.h5
  umedfeat extract --input study.csv --out feats.h5 --encoder uni2-h
  umedfeat extract --input ct/ --out ct.h5 --window lung --slices every-3
  umedfeat extract --input slides/ --out feats.h5 --dry-run
  umedfeat extract --input new-slides/ --out new.h5 --like feats.h5
  umedfeat extract --config study.toml --device cuda:1
  umedfeat extract --input slides/ --out feats.h5 --shard 3/16

Interrupted or killed? Run the same command again: finished inputs are kept. Of shards the parts are joined by
`umedfeat merge`.

Exit codes: 0 all embedded, 1 some inputs failed, 2 nothing was done, 130 interrupted.
"""


@click.command(cls=LongCommand, first=_FIRST, epilog=EPILOG)
@input_options
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default="feats.h5", show_default=True, help="Feature file."
)
@encoder_options
@policy_options
@run_options
@click.option(
    "--like",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Encoder and pixels as in this feature file; other encoder and pixel options are refused beside it.",
)
@click.option(
    "--preview", type=click.Path(file_okay=False, path_type=Path), help="Folder for pictures of what the encoder saw."
)
@click.option("--geojson", is_flag=True, help="Slides: tissue and grid for QuPath too, in --preview's folder.")
@click.option("--tokens", is_flag=True, help="Dense features too: one vector per patch of every region (large).")
@click.option("--dry-run", is_flag=True, help="Print the plan and stop; nothing is written.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
@log_options
@identity_options
def command(
    inputs: tuple[Path, ...],
    out: Path,
    choice: EncoderChoice,
    policy: Policy,
    run: RunSettings,
    like: Path | None,
    preview: Path | None,
    geojson: bool,
    tokens: bool,
    dry_run: bool,
    as_json: bool,
    pseudonyms: Pseudonyms,
    progress: str,
) -> int:
    """Embed whole slides, DICOM, NIfTI, radiographs and flat images into one feature file.

    Content decides the format. Every input ends embedded, skipped or failed with a reason; one bad file never stops
    the run.
    """
    from umedfeat.terminal.progress import make_progress

    if like is not None:
        refuse_beside_like()
    job: dict[str, Any] = {"encoder": replace(choice, tokens=tokens), "policy": policy, "run": run, "like": like}
    job |= {"pseudonyms": pseudonyms, "progress": make_progress(progress)}
    if dry_run:
        from umedfeat.workflows.forecasting import forecast

        plan = forecast(inputs, **job)
        click.echo(json.dumps(plan.to_dict(), indent=2) if as_json else plan.to_text())
        return 1 if plan.failures else 0
    from umedfeat.extraction.run import extract

    job["run"] = replace(run, asked=asked_options(click.get_current_context()))
    summary = extract(inputs, out, **job, preview_dir=preview, geojson=geojson)
    click.echo(json.dumps(summary_dict(summary), indent=2) if as_json else summary_text(summary))
    return summary.exit_code


def summary_dict(summary: Summary) -> dict[str, object]:
    """The summary for machines."""
    return {
        "out": str(summary.out),
        "encoder": summary.encoder,
        "device": summary.device,
        "dim": summary.dim,
        "embedded": summary.embedded,
        "empty": list(summary.empty),
        "identical": [list(names) for names in summary.identical],
        "resumed": summary.resumed,
        "changed": list(summary.changed),
        "gone": list(summary.gone),
        "failed": len(summary.failures),
        "skipped": len(summary.skipped),
        "skipped_because": dict(Counter(skipped.reason for skipped in summary.skipped).most_common()),
        "hints": dict(summary.hints),
        "modalities": {name: {"inputs": n, "regions": r} for name, (n, r) in summary.by_modality.items()},
        "regions": summary.seconds.regions,
        "seconds": round(summary.seconds.wall, 2),
        "device_busy": round(summary.seconds.device_busy, 3),
        "waited_for": {stage: round(share, 3) for stage, share in summary.seconds.waits.items()},
        "failures": [
            {"source": f.source, "stage": f.stage, "message": f.message, "remedy": f.remedy} for f in summary.failures
        ],
    }


def summary_text(summary: Summary) -> str:
    """The summary for people."""
    from umedfeat.terminal.tables import render_facts, render_table
    from umedfeat.terminal.words import counted

    rows: list[list[object]] = [[name, n, r] for name, (n, r) in summary.by_modality.items()]
    parts = [render_table(["modality", "inputs", "regions"], rows)] if rows else []
    facts: list[tuple[str, object]] = [("embedded", counted(summary.embedded, "input")), *_odd_ones(summary)]
    if summary.resumed:
        facts.append(("kept", f"{counted(summary.resumed, 'input')} from an earlier run"))
    if summary.changed:
        facts.append(("changed", f"{counted(len(summary.changed), 'input')}, not what was embedded before"))
    if summary.gone:
        facts.append(("gone", f"{counted(len(summary.gone), 'item')} whose input is no longer given"))
    if summary.skipped:
        facts.append(("skipped", f"{counted(len(summary.skipped), 'file')} (umedfeat info --skipped lists them)"))
        reasons = Counter(skipped.reason for skipped in summary.skipped).most_common()
        facts += [("", f"{count} × {reason}") for reason, count in reasons[:_FEW]]
        facts += [("", f"… and {len(reasons) - _FEW} more reasons")] if len(reasons) > _FEW else []
    if summary.failures:
        facts.append(("failed", f"{counted(len(summary.failures), 'input')} (reasons in {summary.out}.failures.csv)"))
    facts += [("note", f"{count} × {hint}") for hint, count in summary.hints.items()]
    facts += [("encoder", f"{summary.encoder} on {summary.device}, {summary.dim} values"), ("time", _time(summary))]
    facts.append(("written", str(summary.out)))
    parts.append(render_facts(facts))
    parts += [_failure(failure) for failure in summary.failures[:_FEW]]
    if len(summary.failures) > _FEW:
        parts.append(f"  … and {len(summary.failures) - _FEW} more")
    return "\n\n".join([*parts[:2], "\n".join(parts[2:])]).strip()


def _odd_ones(summary: Summary) -> list[tuple[str, object]]:
    """Inputs that gave nothing, and inputs that are there twice."""
    from umedfeat.store.info import EMPTY_REMEDY
    from umedfeat.terminal.words import counted

    lines: list[tuple[str, object]] = []
    if summary.empty:
        names = _some(summary.empty)
        lines.append(
            ("empty", f"{counted(len(summary.empty), 'input')} without a single region, not embedded: {names}")
        )
        lines.append(("", f"→ {EMPTY_REMEDY}"))
    same = [("identical", f"{_some(group)} have the same content") for group in summary.identical[:_FEW]]
    return [*lines, *same]


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names[:_FEW])) + (" …" if len(names) > _FEW else "")


def _failure(failure: Failure) -> str:
    message, remedy = printable(failure.message), printable(failure.remedy)
    return f"  ✗ {message}" + (f"\n      → {remedy}" if remedy else "")


def _time(summary: Summary) -> str:
    from umedfeat.terminal.tables import human_seconds

    seconds = summary.seconds
    if not seconds.regions:
        return human_seconds(seconds.wall)
    rate = seconds.regions / seconds.wall
    busy = f"encoder busy {seconds.device_busy:.0%}"
    waits = ", ".join(f"{stage} {share:.0%}" for stage, share in seconds.waits.items())
    return f"{human_seconds(seconds.wall)} ({rate:.1f} regions/s, {busy}; waited for {waits})"
