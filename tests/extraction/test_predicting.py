"""``predict`` on images: extracted with the model's own encoder and policy, sharded and resumed like ``extract``."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from film_model import write_films

import umedfeat
from umedfeat.cli import run
from umedfeat.errors import OutputError, SetupError
from umedfeat.extraction import alike
from umedfeat.extraction.predicting import claim, table_at
from umedfeat.extraction.run import Summary, extract
from umedfeat.policy import ImagePolicy, Policy
from umedfeat.store import FeatureFile

pytestmark = pytest.mark.filterwarnings("ignore:--encoder random is untrained")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled films with a model, and new ones."""
    return write_films(tmp_path_factory.mktemp("world"))


def _predictions(path: Path) -> dict[str, str]:
    return {row["id"]: row["p_light"] for row in csv.DictReader(path.read_text().splitlines())}


def test_shards_write_apart_and_merge_into_the_same_predictions(world: Path, tmp_path: Path) -> None:
    model, new = str(world / "model.safetensors"), str(world / "new")
    whole = tmp_path / "whole" / "predictions.csv"
    assert run(["predict", new, "--model", model, "--out", str(whole)]) == 0
    out, parts = tmp_path / "parts" / "predictions.csv", {}
    for number in (1, 2):
        assert run(["predict", new, "--model", model, "--out", str(out), "--shard", f"{number}/2"]) == 0
        parts |= _predictions(out.parent / "shards" / f"{number}-of-2" / "predictions.csv")
    assert parts == _predictions(whole) and len(parts) == 5
    shards = sorted(map(str, (out.parent / "feats.h5.shards").glob("*.h5")))
    assert run(["merge", *shards, "--out", str(out.parent / "feats.h5")]) == 0
    assert run(["predict", str(out.parent / "feats.h5"), "--model", model, "--out", str(out)]) == 0
    assert _predictions(out) == parts


def test_what_was_embedded_before_is_not_embedded_again(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summaries: list[Summary] = []

    def watched(*arguments: object, **options: object) -> Summary:
        summaries.append(extract(*arguments, **options))  # type: ignore[arg-type]
        return summaries[-1]

    monkeypatch.setattr(alike, "extract", watched)
    (tmp_path / "some").mkdir()
    for path in sorted((world / "new").iterdir()):
        (tmp_path / "some" / path.name).write_bytes(path.read_bytes())
        if path.name in ("01.png", "04.png"):
            umedfeat.predict(tmp_path / "some", world / "model.safetensors", features=tmp_path / "feats.h5")
    assert [(each.embedded, each.resumed) for each in summaries] == [(2, 0), (3, 2)]


def test_the_policy_and_encoder_are_the_models_own(world: Path, tmp_path: Path) -> None:
    found = umedfeat.predict(world / "new", world / "model.safetensors", features=tmp_path / "feats.h5")
    with FeatureFile(tmp_path / "feats.h5") as file, FeatureFile(world / "feats.h5") as old:
        assert file.fingerprint == old.fingerprint and file.policy["image"]["size"] == 32
    assert len(found.values) == 5
    other = umedfeat.extract(
        world / "new", tmp_path / "other.h5", encoder="random", policy=Policy(image=ImagePolicy(size=64))
    ).out
    with pytest.raises(SetupError, match=r"other\.h5: made with other settings: policy\.image\.size: 32 → 64"):
        umedfeat.predict(other, world / "model.safetensors")


def test_a_place_without_suffix_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "results.v2").mkdir()
    assert table_at(tmp_path / "new") == tmp_path / "new" / "predictions.csv"
    assert table_at(tmp_path / "results.v2") == tmp_path / "results.v2" / "predictions.csv"
    assert table_at(tmp_path / "new.csv") == tmp_path / "new.csv"
    assert table_at(tmp_path / "run.v3") == tmp_path / "run.v3" / "predictions.csv"


@pytest.mark.parametrize(
    "name", ["new.h5", "model.safetensors", "p.tsv", "there", "patients.csv", "Validation.csv", "-"]
)
def test_a_name_of_something_else_is_no_place_for_predictions(name: str, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    with pytest.raises(OutputError):
        table_at(tmp_path / name)


@pytest.mark.parametrize("name", ["p.csv", "patients.csv", "validation.csv"])
def test_what_is_read_is_not_written_over(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("id,label")
    (tmp_path / "link.csv").symlink_to(name)
    with pytest.raises(OutputError, match=r"link\.csv: is read"):
        claim(tmp_path / "p.csv", [None, tmp_path / "link.csv"])
    claim(tmp_path / "new" / "p.csv", [tmp_path / name])
    with pytest.raises(OutputError, match="cannot be made"):
        claim(tmp_path / name / "deep" / "p.csv", [])


@pytest.mark.parametrize("name", ["patients.csv", "validation.csv", "index.html"])
def test_what_others_wrote_is_not_written_over(name: str, tmp_path: Path) -> None:
    for content in (b"id,label\na,b\n", b"\xff\xfe<html>"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OutputError, match=rf"{name}: is not of an earlier prediction"):
            claim(tmp_path / "p.csv", [])
    (tmp_path / name).write_bytes(b"")
    claim(tmp_path / "p.csv", [])


def test_new_images_are_not_added_to_the_features_of_others(world: Path, tmp_path: Path) -> None:
    """The features of the study often lie where the table is to go, under the name that a prediction uses too."""
    (tmp_path / "feats.h5").write_bytes((world / "feats.h5").read_bytes())
    out, model = tmp_path / "predictions.csv", world / "model.safetensors"
    assert run(["predict", str(world / "new"), "--model", str(model), "--out", str(out)]) == 2
    assert (tmp_path / "feats.h5").read_bytes() == (world / "feats.h5").read_bytes() and not out.exists()
