"""Labels of cases: drawn as bags, pooled by gated attention, learnt from the one image that shows them."""

from __future__ import annotations

import contextlib
import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_backbone import TinyBackbone

from umedfeat.errors import SetupError
from umedfeat.policy import Policy
from umedfeat.pretraining.cases import CaseHead
from umedfeat.pretraining.evaluation import cases_of, heldout_scores
from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.loader import Loader
from umedfeat.pretraining.model import Model
from umedfeat.pretraining.sampler import Sampler, even_draws
from umedfeat.pretraining.settings import TrainSettings
from umedfeat.pretraining.spec import read_task_file
from umedfeat.pretraining.tasks import load_task
from umedfeat.pretraining.trainer import Trainer

BAG = 4


def write_cases(folder: Path, patients: int = 24, images: int = 4) -> Path:
    """Dark noise; of a positive case one image is bright. Every third patient is held out."""
    rng = np.random.default_rng(0)
    rows = []
    for patient in range(patients):
        for k in range(images):
            shown = patient % 2 == 1 and k == patient % images
            pixels = np.clip(rng.normal(180 if shown else 60, 20, (64, 64)), 0, 255).astype(np.uint8)
            pixels[0, :2] = 0, 255  # so that the window of greys is the same for all
            name = f"p{patient:02d}_{k}.png"
            Image.fromarray(np.stack([pixels, pixels, np.roll(pixels, 1)], -1)).save(folder / name)
            split = "heldout" if patient % 3 == 0 else "train"
            rows.append([name, f"p{patient:02d}", split, ("no", "yes")[patient % 2], str(patient % 2)])
    with (folder / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "patient", "split", "label", "score"], *rows])
    return folder / "labels.csv"


def load(folder: Path, text: str = "type: classification") -> Task:
    keys = f"name: a, labels: labels.csv, group: case, bag: {BAG}, {text}"
    (folder / "tasks.yaml").write_text("tasks:\n- {" + keys + "}\n")
    return load_task(read_task_file(folder / "tasks.yaml")[0], Policy(), holdout="split", seed=0)


def test_a_batch_holds_whole_bags(tmp_path: Path) -> None:
    write_cases(tmp_path)
    task = load(tmp_path)
    draws = Sampler(task, 10, 0).batch(3)
    assert len(draws) == 8  # two cases of four images
    for start in (0, BAG):
        assert len({draw.example.case for draw in draws[start : start + BAG]}) == 1


def test_a_round_holds_several_cases_however_small_its_batch(tmp_path: Path) -> None:
    """With one case a round the head answered the class that it had seen last."""
    write_cases(tmp_path)
    task = load(tmp_path)
    assert [task.batch(images) for images in (1, 8, 4 * BAG, 6 * BAG + 1)] == [4 * BAG, 4 * BAG, 4 * BAG, 6 * BAG]
    classes = [{draw.example.stratum for draw in Sampler(task, task.batch(8), 0).batch(k)} for k in range(20)]
    assert np.mean([len(found) for found in classes]) > 1.5


def test_held_out_regions_lie_evenly_over_the_case(tmp_path: Path) -> None:
    write_cases(tmp_path)
    case = cases_of(load(tmp_path).heldout)[0]
    assert [draw.example for draw in even_draws(case, 4)] == case
    assert [round(draw.place, 6) for draw in even_draws(case[:1], 4)] == [0.125, 0.375, 0.625, 0.875]


def test_pooling_is_the_weighted_mean(tmp_path: Path) -> None:
    write_cases(tmp_path)
    head = CaseHead(load(tmp_path), 24)
    read = torch.rand(2 * BAG, 24, generator=torch.Generator().manual_seed(0))
    weights = head.weights(read)
    assert weights.shape == (2, BAG) and torch.allclose(weights.sum(1), torch.ones(2))
    order = torch.tensor([2, 0, 3, 1])
    mixed = torch.cat([read[:BAG][order], read[BAG:]])
    torch.testing.assert_close(head.predict(mixed, 64), head.predict(read, 64))
    with torch.no_grad():
        head.score.weight.zero_()
    expected = head.vector.predict(read.view(2, BAG, 24).mean(1), 64)
    torch.testing.assert_close(head.predict(read, 64), expected)


def test_attention_finds_the_one_vector_that_tells(tmp_path: Path) -> None:
    write_cases(tmp_path)
    head = CaseHead(load(tmp_path), 24)
    generator = torch.Generator().manual_seed(1)
    vectors, labels = torch.rand(64, BAG, 24, generator=generator), torch.arange(64) % 2
    vectors[labels == 1, 2, :6] += 1.5
    batch = SimpleNamespace(labels=labels)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        head.loss(vectors.flatten(0, 1), batch).backward()  # type: ignore[arg-type]
        optimizer.step()
    found = head.predict(vectors.flatten(0, 1), 64).argmax(1)
    assert bool((found == labels).all())
    assert float(head.weights(vectors.flatten(0, 1))[labels == 1, 2].mean().detach()) > 2 / BAG


@pytest.mark.slow
def test_what_one_image_shows_is_learnt(tmp_path: Path) -> None:
    write_cases(tmp_path)
    task = load(tmp_path)
    settings = TrainSettings(rounds=120, batch=16, lr=3e-3, warmup=5, image_sizes=(64,))
    model = Model(TinyBackbone(), [task], 0)
    loader = Loader([task], settings.batch, Policy(), seed=0, cache_bytes=1 << 28, device="cpu")
    with contextlib.closing(loader):
        for _ in Trainer(model, [task], settings, loader).rounds():
            pass
        assert heldout_scores(model, loader, [task], 64)["a"] > 0.9


def test_cases_of_two_labels_are_refused(tmp_path: Path) -> None:
    path = write_cases(tmp_path)
    text = path.read_text()
    path.write_text(text.replace("p01_2.png,p01,train,yes", "p01_2.png,p01,train,no"))
    with pytest.raises(SetupError, match="of one case have different labels") as fault:
        load(tmp_path)
    assert "p01_2.png" in str(fault.value)
    path.write_text(text.replace("score\n", "score,case\n").replace("\n", ",one\n").replace("case,one", "case"))
    with pytest.raises(SetupError, match="of one case have different"):
        load(tmp_path)


def test_values_and_labels_belong_to_cases_too(tmp_path: Path) -> None:
    write_cases(tmp_path)
    task = load(tmp_path, "type: regression, label: score")
    assert {example.case for example in task.train} == {example.patient for example in task.train}
    with contextlib.closing(Loader([task], 8, Policy(), seed=0, cache_bytes=0, device="cpu")) as loader:
        batch = loader.plain(task, Sampler(task, 8, 0).batch(0), 64)
    assert batch.labels is not None and (len(batch.images), len(batch.labels)) == (8, 2)
    assert bool(Model(TinyBackbone(), [task], 0).loss("a", batch).isfinite())


def test_masks_have_no_cases(tmp_path: Path) -> None:
    write_cases(tmp_path)
    with pytest.raises(SetupError, match="group 'case' of a segmentation"):
        load(tmp_path, "type: segmentation, classes: [a, b]")
