"""Two processes train what one trains: gradients add up to the joint one, and the encoder comes out the same."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from crew_member import add_up
from drawn_tasks import draw_images, write_tasks
from safetensors.torch import load_file
from tiny_backbone import TinyBackbone, batch_of, task_of
from torch import multiprocessing

import umedfeat
from umedfeat.errors import SetupError
from umedfeat.pretraining.crew import Crew, deal
from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.model import Model
from umedfeat.pretraining.run import folder_of
from umedfeat.pretraining.trainer import accumulate

KINDS = ("classification", "segmentation", "detection", "regression", "multilabel")


def tasks_and_model() -> tuple[list[Task], Model]:
    tasks = [task_of(kind) for kind in KINDS]
    return tasks, Model(TinyBackbone(), [*tasks, task_of("classification", "idle")], 0)


def gradients_of(places: list[int], of: int) -> list[tuple[torch.Size, torch.Tensor | None]]:
    """(shape, gradient) of every parameter after a round's tasks at these places."""
    tasks, model = tasks_and_model()
    for place in places:
        accumulate(model, tasks[place], batch_of(tasks[place]), 1 / of)
    return [(parameter.shape, parameter.grad) for parameter in model.parameters()]


def test_gradients_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    tasks = tasks_and_model()[0]
    shares = deal(tasks, 8, 2)
    for rank, places in enumerate(shares):
        torch.save(gradients_of(places, len(tasks)), tmp_path / f"{rank}.own.pt")
    multiprocessing.spawn(add_up, (f"file://{tmp_path}/meeting", str(tmp_path), shares), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for (_, joint), ours, theirs in zip(gradients_of([*range(len(tasks))], len(tasks)), first, second, strict=True):
        if joint is None:  # of the head whose task had no batch: none is invented
            assert ours is theirs is None
            continue
        assert torch.equal(ours, theirs)
        torch.testing.assert_close(ours, joint, rtol=1e-4, atol=1e-6)
    assert first.count(None) == 2


def test_tasks_are_dealt_by_what_they_cost() -> None:
    tasks = [task_of("classification", f"t{k}", batch=size) for k, size in enumerate((4, 12, 4, 4))]
    assert deal(tasks, 8, 1) == [[0, 1, 2, 3]]
    assert deal(tasks, 8, 2) == [[1], [0, 2, 3]]
    with pytest.raises(SetupError, match="5 processes for 4 tasks"):
        deal(tasks, 8, 5)


def test_alone_nothing_is_sent() -> None:
    _, model = tasks_and_model()
    before = copy.deepcopy(list(model.parameters()))
    Crew().add_gradients(list(model.parameters()))
    assert Crew().gather(3) == [3]
    assert all(parameter.grad is None for parameter in model.parameters()) and len(before) > 0


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Trained by one process, and by two that torchrun starts; number of processes → file."""
    folder = tmp_path_factory.mktemp("crew")
    draw_images(folder / "drawn", patients=6)
    tasks = write_tasks(folder / "tasks.yaml", folder / "drawn", *KINDS[:3], batch=2)
    found = {}
    for count in (1, 2):
        found[count] = folder / str(count) / "mine.safetensors"
        starter = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
        options = ["--rounds", "6", "--image-size", "64", "--batch", "2", "--alpha", "1", "--device", "cpu", "-q"]
        arguments = ["-m", "umedfeat", "pretrain", str(tasks), "-o", str(found[count]), *options]
        run = subprocess.run([sys.executable, *starter, *arguments], check=False, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert run.stdout.count("report.html") == 1  # the first process alone speaks
    return found


@pytest.mark.slow
def test_two_processes_make_the_encoder_of_one(encoders: dict[int, Path]) -> None:
    """Sums in another order round differently: weights to 1e-5 after six rounds, features to 1e-4 of their size."""
    one, two = (load_file(path) for path in encoders.values())
    assert one.keys() == two.keys()
    assert max(float((one[name].float() - two[name].float()).abs().max()) for name in one) < 1e-5
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ours, theirs = (umedfeat.load_encoder(weights=path, device="cpu")(images) for path in encoders.values())
    assert float((ours - theirs).abs().max()) < 1e-4 * float(ours.abs().max())


@pytest.mark.slow
def test_one_of_them_writes(encoders: dict[int, Path]) -> None:
    written = [sorted(path.name for path in folder_of(out).iterdir()) for out in encoders.values()]
    assert written[0] == written[1] == ["checkpoint.pt", "log.csv", "report.html", "scores.csv"]
