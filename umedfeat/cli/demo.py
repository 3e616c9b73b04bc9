"""``umedfeat demo``: the whole way on a small mixed cohort."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from umedfeat.cli.options import encoder_options, log_options

if TYPE_CHECKING:
    from umedfeat.demo import Demo
    from umedfeat.encoders.choice import EncoderChoice

__all__ = ["command"]

EPILOG = """\b
Examples:
  umedfeat demo
  umedfeat demo --dir /tmp/demo --encoder efficientnet-lite0

The default encoder is umedfeat-open, which needs no network and no licence agreement.
It is not UMedPT: what the demo shows is the way, not the performance.
"""

#: Encoders that are installed with the package.
_WITHOUT_AGREEMENT = ("umedfeat-open", "efficientnet-lite0")


@click.command(epilog=EPILOG)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    default="umedfeat-demo",
    show_default=True,
    help="Where to write.",
)
@functools.partial(encoder_options, default="umedfeat-open")
@log_options
def command(folder: Path, choice: EncoderChoice, progress: str) -> int:
    """Build a small mixed cohort, embed it, ask how few labels are enough. Under two minutes on two cores."""
    from umedfeat.demo import run_demo
    from umedfeat.terminal.progress import make_progress

    click.echo(f"Building a cohort in {folder} and embedding it with {choice.name} …", err=True)
    demo = run_demo(folder, choice, make_progress(progress))
    click.echo(demo_text(demo))
    return demo.summary.exit_code


def demo_text(demo: Demo) -> str:
    """What was done, on what, with which encoder, and where it lies."""
    from umedfeat.cli.extract import summary_text
    from umedfeat.report.prediction_tables import render_predictions
    from umedfeat.report.tables import render_study
    from umedfeat.terminal.tables import render_facts

    written = [
        ("cohort", f"{demo.folder}/  (README.txt says what is real and what was drawn)"),
        ("features", f"{demo.summary.out}"),
        ("pictures", f"{demo.folder / 'preview' / 'index.html'}"),
        ("report", f"{demo.probe_folder / 'report.html'}"),
        ("evaluation", f"{demo.probe_folder}/"),
        ("predictions", f"{demo.predict_folder / 'index.html'}"),
    ]
    return "\n\n".join(
        [
            "1. Extract",
            summary_text(demo.summary),
            "2. Probe: does a radiograph show the drawn opacity?",
            render_study(demo.result),
            "3. Predict: patients whom the study has not seen, and a slide that is nothing like them",
            render_predictions(demo.predicted),
            f"Encoder: {demo.summary.encoder}. {_caveat(demo.summary.encoder)}",
            render_facts(written),
        ]
    )


def _caveat(encoder: str) -> str:
    drawn = "the labelled radiographs are drawn, so the figures mean nothing medical."
    if encoder in _WITHOUT_AGREEMENT:
        return f"Not UMedPT; {drawn}"
    return drawn.capitalize()
