"""One training with its folder: begun or continued, looked at, and safe on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from umedfeat.errors import Interrupted
from umedfeat.machine import usable_cores, usable_memory
from umedfeat.naming import content_sha256
from umedfeat.policy import Policy
from umedfeat.pretraining.backbones import freeze_first
from umedfeat.pretraining.checkpoint import read_state, write_state
from umedfeat.pretraining.crew import ALONE, Crew, deal
from umedfeat.pretraining.evaluation import features_of, guard_examples, heldout_scores
from umedfeat.pretraining.examples import Example, Task
from umedfeat.pretraining.gallery import Shown, gallery_of
from umedfeat.pretraining.guards import health_of
from umedfeat.pretraining.journal import Journal
from umedfeat.pretraining.loader import Loader
from umedfeat.pretraining.model import Model
from umedfeat.pretraining.sampler import middle_draws
from umedfeat.pretraining.settings import TrainSettings
from umedfeat.pretraining.start import Start
from umedfeat.pretraining.trainer import Round, Trainer

log = logging.getLogger("umedfeat")

_USUAL_MEMORY = 8 << 30  # where the system does not tell
_CACHE_SHARE = 0.25  # of the memory that is free
_CHECKPOINT_SECONDS = 120.0
#: Settings that decide nothing before the training has ended.
_AFTERWARDS = ("alpha", "storage")
_LOOKS = 10  # at the held-out images, over the run


class Training:
    """One training with its folder: makes or continues it, and keeps it safe on disk.

    Args:
        tasks: all of the task file; those with the role "train" are trained.
        start: the encoder.
        settings, policy, device: as in ``pretrain``.
        folder: for the checkpoint and the journal; None keeps nothing (a dry run).
        fingerprint: of everything that decides the result.
        crew: the processes that share the work; each holds everything, and takes some of the tasks of every round.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        start: Start,
        settings: TrainSettings,
        policy: Policy,
        folder: Path | None,
        fingerprint: str,
        device: str,
        crew: Crew = ALONE,
    ) -> None:
        self.tasks = [task for task in tasks if task.spec.role == "train"]
        self.settings, self.folder, self._fingerprint = settings, folder, fingerprint
        self._crew = crew
        own = deal(self.tasks, settings.batch, crew.size)[crew.rank]
        cache = int(_CACHE_SHARE * (usable_memory() or _USUAL_MEMORY)) // crew.local
        self.loader = Loader(
            self.tasks, settings.batch, policy, seed=settings.seed, cache_bytes=cache, device=device, own=own
        )
        self._threads = torch.get_num_threads()
        # one core reads; threads that wait for each other cost most
        torch.set_num_threads(max(1, usable_cores() // crew.local - 1))
        self._start_state = _copied(start.backbone)
        freeze_first(start.backbone.blocks(), settings.trainable)
        model = Model(start.backbone, self.tasks, settings.seed).to(device)
        self.model = model.to(memory_format=torch.channels_last)
        self.trainer = Trainer(self.model, self.tasks, settings, self.loader, crew=crew, own=own)
        self.journal = Journal()
        self._guarded = guard_examples(self.tasks)
        self._start_features: torch.Tensor | None = None
        self._resume()

    def _resume(self) -> None:
        if self.folder is None:
            return
        state = read_state(self.folder / "checkpoint.pt", self._fingerprint)
        if state is not None:
            self.trainer.restore(state)
            self.journal = Journal(state["journal"])
            log.info("continuing after %d rounds", self.trainer.done)

    def run(self, tell: Callable[[float, str], None]) -> None:
        """Train to the end.

        Args:
            tell: receives how far the run is (0 to 1) and one line about it.

        Raises:
            Interrupted: SIGTERM or Ctrl-C; the state is safe.
            SetupError: a guard stopped the training.
        """
        if self._start_features is None:
            self._start_features = self._at_the_start()
        saved = time.monotonic()
        looked = int(self.trainer.share * _LOOKS)
        with _asked_to_stop() as stop:
            for done in self.trainer.rounds():
                share = self.trainer.share
                self.journal.saw(done, share, self.trainer.seconds)
                if int(share * _LOOKS) > looked:
                    looked = int(share * _LOOKS)
                    self._timed(self.look)
                tell(share, _line(done))
                stopping = any(self._crew.gather(stop.is_set()))
                if time.monotonic() - saved > _CHECKPOINT_SECONDS or stopping:
                    self.save()
                    saved = time.monotonic()
                if stopping:
                    raise Interrupted(f"stopped after round {done.number}", remedy="the same command continues it")
        self.save()

    def look(self) -> None:
        """Score the heads and check the features on held-out images, with the averaged weights."""
        size = self.settings.image_sizes[0]
        features, scores = self.trainer.averaged(
            lambda: (self._features(), heldout_scores(self.model, self.loader, self.tasks, size))
        )
        assert self._start_features is not None  # ``run`` made them
        health = health_of(features, self._start_features)
        self.journal.looked(self.trainer.done, self.trainer.seconds, health, scores)
        health.checked()

    def save(self) -> None:
        """Write the checkpoint and the journal."""
        if self.folder is None or not self._crew.writes:
            return
        state = {**self.trainer.state(), "journal": self.journal.to_json()}
        write_state(self.folder / "checkpoint.pt", state, self._fingerprint)
        self.journal.write(self.folder)

    def ends(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """State of the encoder at the start and now, averaged over the last rounds."""
        return self._start_state, self.trainer.averaged(lambda: _copied(self.model.backbone))

    def gallery(self) -> list[Shown]:
        """Held-out images with truth and prediction."""
        size = self.settings.image_sizes[-1]
        shown: list[Shown] = self.trainer.averaged(lambda: gallery_of(self.model, self.loader, self.tasks, size))
        return shown

    def some_images(self) -> torch.Tensor:
        """(n, 3, S, S) held-out images of the first task."""
        task, examples = self._guarded[0]
        return self.loader.plain(task, middle_draws(examples), self.settings.image_sizes[-1]).images

    def close(self) -> None:
        """End the loader, and give back the cores."""
        self.loader.close()
        torch.set_num_threads(self._threads)

    def _features(self) -> torch.Tensor:
        return features_of(self.model, self.loader, self._guarded, self.settings.image_sizes[0])

    def _at_the_start(self) -> torch.Tensor:
        """The guards' features with the weights of the start, whatever was trained since."""
        now = _copied(self.model.backbone)
        self.model.backbone.load_state_dict(self._start_state)
        try:
            return self._features()
        finally:
            self.model.backbone.load_state_dict(now)

    def _timed(self, work: Callable[[], None]) -> None:
        begin = time.monotonic()
        work()
        self.trainer.seconds += max(self._crew.gather(time.monotonic() - begin))


def _copied(backbone: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in backbone.state_dict().items()}


def _line(done: Round) -> str:
    return f"round {done.number}, {1 / done.seconds:.2f} rounds/s, mean loss {_mean(done.losses.values()):.3f}"


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if value - value == 0]
    return sum(finite) / len(finite) if finite else float("nan")


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """SIGTERM and Ctrl-C end the training after the round at work; outside of the main thread nothing is caught."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    former = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def fingerprint_of(
    tasks: Sequence[Task],
    start: Start,
    settings: TrainSettings,
    policy: Policy,
    digests: Mapping[tuple[Path, ...], str],
) -> str:
    """Hash of everything that decides the trained weights."""
    facts = [
        {
            "name": task.name,
            "type": task.type,
            "classes": task.classes,
            "weight": task.spec.weight,
            "batch": task.spec.batch,
            "flip": task.spec.flip,
            "bag": task.bag,
            "mpp": task.spec.mpp,
            "modality": task.spec.modality,
            "train": [_facts(example, digests) for example in task.train],
            "heldout": [_facts(example, digests) for example in task.heldout],
        }
        for task in tasks
        if task.spec.role == "train"
    ]
    deciding = {key: value for key, value in settings.to_dict().items() if key not in _AFTERWARDS}
    whole = json.dumps([facts, start.architecture, start.sha256, deciding, policy.to_dict()], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def _facts(example: Example, digests: Mapping[tuple[Path, ...], str]) -> list[Any]:
    label = None if example.label is None else example.label.tolist()
    mask = None if example.mask is None else content_sha256([example.mask])
    boxes = None if example.boxes is None else [example.boxes.corners.tolist(), example.boxes.kinds.tolist()]
    return [example.source.id, example.patient, example.case, digests[example.source.files], str(label), mask, boxes]
