"""``pretrain`` as a function: tasks in, one encoder file out."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umedfeat.encoders.weights.trained import write_trained
from umedfeat.errors import OutputError, SetupError
from umedfeat.policy import Policy
from umedfeat.pretraining.crew import assembled
from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.export import card_of, half_tensors, whole_tensors
from umedfeat.pretraining.gallery import Shown
from umedfeat.pretraining.leaks import digests_of, refuse_leaks
from umedfeat.pretraining.mixing import choose_alpha, mixed
from umedfeat.pretraining.reading import refuse_unreadable
from umedfeat.pretraining.settings import TrainSettings
from umedfeat.pretraining.spec import read_task_file
from umedfeat.pretraining.start import Start, load_start
from umedfeat.pretraining.tasks import load_task
from umedfeat.pretraining.training import Training, fingerprint_of

__all__ = ["Prepared", "TrainResult", "folder_of", "prepare", "pretrain", "refuse_other_sizes"]

log = logging.getLogger("umedfeat")


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that is known before a training: tasks without leaks, and the encoder to start from."""

    tasks: tuple[Task, ...]
    start: Start
    fingerprint: str


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a training made.

    Attributes:
        out: the encoder's file. folder: checkpoint, log.csv, scores.csv.
        rounds, seconds: of training over all sittings.
        alpha: share of the trained weights; ``alphas``: what it was chosen by: rows of alpha, task, role, macro_f1.
        losses, looks: rows of the journal. gallery: held-out images with truth and prediction.
    """

    out: Path
    folder: Path
    tasks: tuple[Task, ...]
    rounds: int
    seconds: float
    alpha: float
    alphas: list[dict[str, Any]]
    losses: list[dict[str, float]]
    looks: list[dict[str, Any]]
    gallery: list[Shown]

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        last = self.looks[-1] if self.looks else {}
        return {
            "out": str(self.out),
            "rounds": self.rounds,
            "seconds": round(self.seconds, 1),
            "alpha": self.alpha,
            "alphas": self.alphas,
            "last_look": last,
        }


def prepare(
    tasks: Path | str,
    *,
    encoder: str = "efficientnet-lite0",
    weights: Path | str | None = None,
    settings: TrainSettings | None = None,
    policy: Policy | None = None,
    offline: bool = False,
) -> Prepared:
    """Read the tasks, look for leaks over all of them, load the encoder; nothing is written.

    Raises:
        SetupError: the task file, a row, the encoder; with the remedy.
        LeakageError: a patient or an image is trained on in one task and held out in another.
    """
    settings, policy = settings or TrainSettings(), policy or Policy()
    specs = read_task_file(Path(tasks))
    loaded = tuple(load_task(spec, policy, holdout=settings.holdout, seed=settings.seed) for spec in specs)
    digests = digests_of(loaded)
    refuse_leaks(loaded, digests)
    start = load_start(encoder, None if weights is None else Path(weights), offline=offline)
    refuse_other_sizes(start, settings)
    return Prepared(loaded, start, fingerprint_of(loaded, start, settings, policy, digests))


def refuse_other_sizes(start: Start, settings: TrainSettings) -> None:
    """Some networks take images of one size alone.

    Raises:
        SetupError: the settings ask for others.
    """
    fixed = start.backbone.fixed_size
    if fixed is not None and settings.image_sizes != (fixed,):
        message = f"{start.name} takes images of {fixed} pixels only, not {','.join(map(str, settings.image_sizes))}"
        raise SetupError(message, remedy=f"--image-size {fixed}")


def pretrain(
    tasks: Path | str,
    out: Path | str,
    *,
    encoder: str = "efficientnet-lite0",
    weights: Path | str | None = None,
    settings: TrainSettings | None = None,
    policy: Policy | None = None,
    device: str = "auto",
    offline: bool = False,
    overwrite: bool = False,
    tell: Callable[[float, str], None] = lambda share, line: None,
) -> TrainResult:
    """Train an encoder on many labelled tasks; the same call continues a training that was interrupted.

    Under ``torchrun`` the processes share the tasks of every round. Each returns the result; the first writes files.

    Args:
        tasks: YAML file, see docs/pretraining.md.
        out: the encoder's file, ``.safetensors``; ``load_encoder(weights=out)`` loads it. A folder of the same name
            that ends in ``.train`` holds the checkpoint and the journal.
        encoder: where to start: "efficientnet-lite0", "timm:<name>" or "umedpt"; ``weights``: its file.
        settings: see TrainSettings. policy: of the readers; sizes are those of the training.
        device: "auto", "cpu" or "cuda:N".
        overwrite: start anew.
        tell: receives how far the training is (0 to 1) and one line about it, after every round.

    Raises:
        SetupError, LeakageError: see ``prepare``; a guard stopped the training.
        OutputError: the folder holds another training.
        Interrupted: SIGTERM or Ctrl-C; the state is safe.
    """
    settings, policy, out = settings or TrainSettings(), policy or Policy(), Path(out)
    if out.suffix != ".safetensors":
        raise OutputError(f"{out}: the encoder is written as .safetensors", remedy=f"--out {out.stem}.safetensors")
    ready = prepare(tasks, encoder=encoder, weights=weights, settings=settings, policy=policy, offline=offline)
    with assembled() as crew:
        folder = _folder(out, overwrite=overwrite and crew.writes)
        crew.gather("the folder is ready")
        chosen = crew.device(device)
        training = Training(ready.tasks, ready.start, settings, policy, folder, ready.fingerprint, chosen, crew)
        try:
            if not training.trainer.done:
                refuse_unreadable(ready.tasks, policy)
            training.run(tell)
            return _finished(training, ready, out, policy, writes=crew.writes)
        finally:
            training.close()


def folder_of(out: Path) -> Path:
    """Where the training of an encoder's file keeps its state."""
    return out.with_suffix(".train")


def _folder(out: Path, *, overwrite: bool) -> Path:
    folder = folder_of(out)
    try:
        if overwrite and folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror}", remedy="choose another --out") from error
    return folder


def _finished(training: Training, ready: Prepared, out: Path, policy: Policy, *, writes: bool) -> TrainResult:
    settings, trainer = training.settings, training.trainer
    ends, gallery = training.ends(), training.gallery()
    alphas: list[dict[str, Any]] = []
    alpha = settings.alpha
    if isinstance(alpha, str):
        alpha, alphas = choose_alpha(training.model, training.loader, ends, ready.tasks, settings.image_sizes[-1])
    weights = mixed(*ends, float(alpha))
    facts = {
        "rounds": trainer.done,
        "alpha": alpha,
        "alphas": alphas,
        "heldout": training.journal.looks[-1]["scores"] if training.journal.looks else {},
    }
    card = card_of(out.stem, ready.start, ready.tasks, settings, policy, facts)
    if writes:
        half = settings.storage == "fp16"
        images = training.some_images() if half else None
        tensors = whole_tensors(ready.start, weights) if images is None else half_tensors(ready.start, weights, images)
        write_trained(out, tensors, card)
    journal = training.journal
    return TrainResult(
        out, folder_of(out), ready.tasks, trainer.done, trainer.seconds, float(alpha), alphas,
        journal.losses, journal.looks, gallery,
    )  # fmt: skip
