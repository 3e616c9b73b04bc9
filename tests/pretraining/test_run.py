"""From a task file to an encoder: resumed to the same bytes, loaded by name of file, stopped by its guards."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from drawn_tasks import draw_images, write_tasks
from safetensors.torch import load_file

import umedfeat
from umedfeat.cli import root
from umedfeat.encoders.weights.card import read_card
from umedfeat.encoders.weights.trained import write_trained
from umedfeat.errors import OutputError, SetupError
from umedfeat.policy import Policy
from umedfeat.pretraining.checkpoint import read_state, write_state
from umedfeat.pretraining.export import half_tensors
from umedfeat.pretraining.mixing import ALPHAS, mixed
from umedfeat.pretraining.pictures import policy_of
from umedfeat.pretraining.run import folder_of, prepare, pretrain
from umedfeat.pretraining.settings import TrainSettings
from umedfeat.pretraining.start import load_start
from umedfeat.pretraining.training import Training
from umedfeat.readers import open_reader
from umedfeat.report.training_page import render_training_report

KINDS = ("classification", "segmentation", "detection")
SETTINGS = TrainSettings(rounds=4, image_sizes=(64,), batch=2, alpha=0.5, warmup=2)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    draw_images(folder / "drawn", patients=6)
    return write_tasks(folder / "tasks.yaml", folder / "drawn", *KINDS, batch=2, licence="CC0", attribution="us")


@pytest.fixture(scope="module")
def trained(tasks: Path) -> Path:
    pretrain(tasks, tasks.parent / "whole.safetensors", settings=SETTINGS, device="cpu")
    return tasks.parent / "whole.safetensors"


def test_the_file_says_what_it_is(trained: Path) -> None:
    card = read_card(trained)
    assert card is not None
    assert [task["name"] for task in card["tasks"]] == [f"{kind}{n}" for n, kind in enumerate(KINDS)]
    assert (
        card["tasks"][0] | {"licence": "CC0", "attribution": "us", "train_images": 8, "train_patients": 4}
        == card["tasks"][0]
    )
    assert (card["image_size"], card["alpha"], card["rounds"]) == (64, 0.5, 4)
    assert card["parent"]["name"] == "efficientnet-lite0"
    assert set(card["heldout"]) == {task["name"] for task in card["tasks"]}
    assert trained.stat().st_size < 16 << 20


def test_the_file_is_the_trainers_encoder(tasks: Path, trained: Path) -> None:
    ready = prepare(tasks, settings=SETTINGS)
    training = Training(ready.tasks, ready.start, SETTINGS, Policy(), folder_of(trained), ready.fingerprint, "cpu")
    try:
        training.model.backbone.load_state_dict(mixed(*training.ends(), 0.5))
        images = training.some_images()
        with torch.inference_mode():
            wanted = training.model.features(images)
    finally:
        training.close()
    found = umedfeat.load_encoder(weights=trained, device="cpu", runtime="torch")(images.contiguous())
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_half_the_size_gives_nearly_the_same_features(trained: Path) -> None:
    card, start = read_card(trained), load_start("efficientnet-lite0")
    assert card is not None
    state = {f"network.{name}": tensor for name, tensor in load_file(trained).items()}
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    half = half_tensors(start, state, images)
    assert {tensor.dtype for name, tensor in half.items() if name.endswith("weight")} == {torch.float16}
    write_trained(trained.with_name("half.safetensors"), half, card)
    assert trained.with_name("half.safetensors").stat().st_size < 0.52 * trained.stat().st_size
    ours, theirs = (
        umedfeat.load_encoder(weights=trained.with_name(name), device="cpu")(images)
        for name in ("half.safetensors", trained.name)
    )
    assert float(torch.nn.functional.cosine_similarity(ours, theirs, dim=1).min()) > 0.9999


def test_extract_takes_the_file(tasks: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.h5"
    manifest = tasks.parent / "drawn" / "plain.csv"  # with a column mask `extract` would cut the masks' regions out
    names = sorted(path.name for path in (manifest.parent / "images").iterdir())
    manifest.write_text("path\n" + "".join(f"images/{name}\n" for name in names))
    arguments = [
        "extract",
        "-i",
        str(manifest),
        "-o",
        str(out),
        "--weights",
        str(trained),
        "--runtime",
        "torch",
        "--workers",
        "1",
        "-q",
    ]
    result = CliRunner().invoke(root, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "whole" in CliRunner().invoke(root, ["info", str(out)]).output
    wanted = in_training(tasks, trained)
    with umedfeat.FeatureFile(out) as file:
        found = dict(zip(file.items["id"], torch.from_numpy(file.embeddings[:]), strict=True))
    assert found.keys() == wanted.keys()
    for name, vector in wanted.items():
        torch.testing.assert_close(found[name], vector, rtol=1e-5, atol=1e-5)


def in_training(tasks: Path, trained: Path) -> dict[str, torch.Tensor]:
    """Features of all images by the trainer's own encoder, read as ``extract`` reads them; by id."""
    ready = prepare(tasks, settings=SETTINGS)
    training = Training(ready.tasks, ready.start, SETTINGS, Policy(), folder_of(trained), ready.fingerprint, "cpu")
    task = ready.tasks[0]
    rows = {}
    try:
        training.model.backbone.load_state_dict(mixed(*training.ends(), 0.5))
        for example in (*task.train, *task.heldout):
            with contextlib.closing(open_reader(example.source, policy_of(task, Policy(), 64))) as reader:
                (pixels,) = reader.read(reader.plan().regions)
            images = torch.from_numpy(np.asarray(pixels, np.float32)).permute(2, 0, 1)[None]
            with torch.inference_mode():
                rows[example.source.id] = training.model.features(images)[0]
    finally:
        training.close()
    return rows


def test_alpha_is_chosen_on_patients_that_were_held_out(tasks: Path, tmp_path: Path) -> None:
    draw_images(tmp_path / "drawn", patients=24)
    text = write_tasks(tmp_path / "tasks.yaml", tmp_path / "drawn", *KINDS, batch=2).read_text()
    left_out = {"name": "left", "type": "classification", "labels": str(tmp_path / "drawn" / "labels.csv")}
    entries = [*yaml.safe_load(text)["tasks"], {**left_out, "role": "select"}]
    (tmp_path / "tasks.yaml").write_text(yaml.safe_dump({"tasks": entries}))
    settings = dataclasses.replace(SETTINGS, rounds=1, alpha="auto")
    result = pretrain(tmp_path / "tasks.yaml", tmp_path / "auto.safetensors", settings=settings, device="cpu")
    assert result.alpha in ALPHAS[1:]
    assert {(row["task"], row["role"]) for row in result.alphas} == {("classification0", "train"), ("left", "select")}
    assert {row["alpha"] for row in result.alphas} == set(ALPHAS)  # 0 is the start, for comparison
    card = read_card(result.out)
    assert card is not None and (card["alpha"], card["alphas"]) == (result.alpha, result.alphas)


def test_repeated_and_continued_trainings_give_the_same_bytes(tasks: Path, trained: Path, tmp_path: Path) -> None:
    def stop(share: float, line: str) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    out = tmp_path / "whole.safetensors"
    with pytest.raises(KeyboardInterrupt):  # as a kill between two rounds: nothing was saved at that moment
        pretrain(tasks, out, settings=SETTINGS, device="cpu", tell=stop)
    pretrain(tasks, out, settings=SETTINGS, device="cpu")
    assert out.read_bytes() == trained.read_bytes()


KILLED = """
import os, signal, sys
import umedfeat.pretraining.training as training
training._CHECKPOINT_SECONDS = 0.0
from umedfeat.pretraining.run import pretrain
from umedfeat.pretraining.settings import TrainSettings
def tell(share, line):
    if share >= 0.5: os.kill(os.getpid(), signal.SIGKILL)
settings = TrainSettings(rounds=4, image_sizes=(64,), batch=2, alpha=0.5, warmup=2)
pretrain(sys.argv[1], sys.argv[2], settings=settings, device="cpu", tell=tell)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_after_a_checkpoint_gives_the_same_bytes(tasks: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "whole.safetensors"
    run = subprocess.run([sys.executable, "-c", KILLED, str(tasks), str(out)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert not out.exists()
    assert (folder_of(out) / "checkpoint.pt").exists()
    pretrain(tasks, out, settings=SETTINGS, device="cpu")
    assert out.read_bytes() == trained.read_bytes()


def test_another_training_is_refused(tasks: Path, trained: Path) -> None:
    other = TrainSettings(rounds=4, image_sizes=(64,), batch=2, alpha=0.5, warmup=2, seed=1)
    with pytest.raises(OutputError, match="another training"):
        pretrain(tasks, trained, settings=other, device="cpu")


def test_a_high_rate_is_stopped(tasks: Path, tmp_path: Path) -> None:
    wild = TrainSettings(rounds=30, image_sizes=(64,), batch=2, lr=0.5, warmup=1, clip=1e9, alpha=1.0)
    with pytest.raises(SetupError, match="training stopped"):
        pretrain(tasks, tmp_path / "wild.safetensors", settings=wild, device="cpu")


def test_checkpoints_are_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    assert read_state(path, "a") is None
    write_state(path, {"x": torch.ones(2)}, "a")
    state = read_state(path, "a")
    assert state is not None and torch.equal(state["x"], torch.ones(2))
    with pytest.raises(OutputError, match="another training"):
        read_state(path, "b")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(OutputError, match="damaged"):
        read_state(path, "a")


def test_the_page_shows_every_task(tasks: Path, trained: Path) -> None:
    result = pretrain(tasks, trained, settings=SETTINGS, device="cpu")  # ended already: nothing is trained
    page = render_training_report(result)
    assert all(f"<h2>{task.name}</h2>" in page for task in result.tasks)
    assert page.count("data:image/png") == 2 * 2 * 4  # two tasks, truth and prediction, four images
    assert result.rounds == 4


def test_a_dry_run_writes_nothing(tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "dry.safetensors"
    arguments = ["pretrain", str(tasks), "-o", str(out), "--dry-run", "--image-size", "64", "--batch", "2", "-q"]
    result = CliRunner().invoke(root, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "leaks" in result.output and "classification0" in result.output
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_encoder_and_report(tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    options = ["--rounds", "1", "--image-size", "64", "--batch", "2", "--alpha", "1", "--trainable", "last-2", "-q"]
    result = CliRunner().invoke(root, ["pretrain", str(tasks), "-o", str(out), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (folder_of(out) / "report.html").is_file()
    assert out.is_file()
