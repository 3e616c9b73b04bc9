"""``umedfeat pretrain``: labelled tasks in, an encoder out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from umedfeat.cli.long_help import LongCommand
from umedfeat.cli.options import log_options
from umedfeat.cli.train_options import train_options

if TYPE_CHECKING:
    from umedfeat.pretraining.run import TrainResult
    from umedfeat.pretraining.settings import TrainSettings

__all__ = ["command"]

#: What matters first.
_FIRST = "--out --encoder --minutes --weights --image-size --holdout --device --dry-run --overwrite --json"

EPILOG = """\b
Examples:
  umedfeat pretrain tasks.yaml --out my-encoder.safetensors --dry-run
  umedfeat pretrain tasks.yaml --out my-encoder.safetensors --minutes 120
  umedfeat pretrain tasks.yaml --out mine.safetensors --image-size 128,224
  umedfeat extract --input x/ --out f.h5 --weights my-encoder.safetensors

\b
Several GPUs or machines: torchrun starts one process each; they share the
tasks of every round.
  torchrun --nproc-per-node 4 -m umedfeat pretrain tasks.yaml -o m.safetensors

Interrupted or killed? Run the same command again: it continues. The task file is described in docs/pretraining.md.

Exit codes: 0 done, 2 set-up, or a guard stopped the training, 3 leakage, 130 interrupted.
"""


@click.command(cls=LongCommand, first=_FIRST, epilog=EPILOG)
@click.argument("tasks", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The encoder: a .safetensors file.")
@click.option(
    "-e",
    "--encoder",
    default="efficientnet-lite0",
    show_default=True,
    help="Where to start: efficientnet-lite0, timm:<name> (a CNN or Swin), umedpt or a relative.",
)
@click.option(
    "--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its file, instead of a download."
)
@train_options
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N.")
@click.option("--offline", is_flag=True, envvar="UMEDFEAT_OFFLINE", help="Never use the network.")
@click.option("--overwrite", is_flag=True, help="Start anew instead of continuing.")
@click.option("--dry-run", is_flag=True, help="Print tasks, leaks, time and memory; nothing is written.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on stdout.")
@log_options
def command(
    tasks: Path,
    out: Path,
    encoder: str,
    weights: Path | None,
    device: str,
    offline: bool,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
    progress: str,
    settings: TrainSettings,
) -> None:
    """Train an encoder on many labelled tasks: classes, several labels, values, masks and boxes.

    Memory is that of the largest task, whatever their number. Beside the encoder a folder of the same name
    (.train) holds the checkpoint, log.csv, scores.csv and report.html.
    """
    from umedfeat.pretraining.crew import is_first
    from umedfeat.workflows.training import forecast_training, pretrain_and_report

    start: dict[str, Any] = {
        "encoder": encoder,
        "weights": weights,
        "settings": settings,
        "device": device,
        "offline": offline,
    }
    if dry_run:
        found = forecast_training(tasks, **start)
        click.echo(json.dumps(found.to_dict(), indent=2) if as_json else found.to_text())
        return
    with TrainBar(progress if is_first() else "none") as bar:
        result, page = pretrain_and_report(tasks, out, **start, overwrite=overwrite, tell=bar.update)
    if page is not None:
        click.echo(json.dumps(result.to_dict()) if as_json else f"{summary_text(result)}\nreport        {page}")


def summary_text(result: TrainResult) -> str:
    """The summary for people."""
    from umedfeat.terminal.tables import human_seconds, render_facts

    last = result.looks[-1] if result.looks else None
    facts: list[tuple[str, object]] = [
        ("trained", f"{result.rounds:,} rounds in {human_seconds(result.seconds)}"),
        ("alpha", f"{result.alpha:g} of the trained weights"),
    ]
    if last is not None:
        facts.append(("features", f"{last['dead']:.1%} dead dimensions, cosine to the start {last['cosine']:.2f}"))
        facts += [(f"  {name}", f"{score:.3f}") for name, score in last["scores"].items()]
    facts.append(("written", str(result.out)))
    return render_facts(facts)


#: Steps of the bar: a training knows its share, not its rounds.
_STEPS = 100_000


class TrainBar:
    """How far a training is, on stderr: a bar, JSON lines, or nothing."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __enter__(self) -> TrainBar:
        from umedfeat.terminal.bar import Bar

        layout = "{percentage:5.1f} % [{elapsed}<{remaining}] {desc}"
        self._bar = Bar("", _STEPS, "step", shown=self._kind == "bar", bar_format=layout, mininterval=1.0)
        return self

    def __exit__(self, *fault: object) -> None:
        self._bar.close()

    def update(self, share: float, line: str) -> None:
        """Show a line about a training that is ``share`` done."""
        self._bar.describe(line, _STEPS)
        self._bar.reach(round(share * _STEPS), _STEPS)
        if self._kind == "json":
            click.echo(json.dumps({"event": "progress", "share": round(share, 5), "line": line}), err=True)
