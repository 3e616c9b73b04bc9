"""Discovery: every file ends in exactly one list, ids are stable, collisions are refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from umedfeat.discovery import Discovery, discover
from umedfeat.errors import SetupError
from umedfeat.naming import Pseudonyms, content_sha256, stem_of
from umedfeat.policy import Policy

PSEUDONYMS = Pseudonyms(b"test key")


def find(*inputs: Path) -> Discovery:
    return discover(inputs, Policy(), PSEUDONYMS)


def write_png(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def write_manifest(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_folder_is_searched_and_nothing_is_lost(tmp_path: Path) -> None:
    write_png(tmp_path / "a" / "one.png")
    write_png(tmp_path / "b" / "two.png", 1)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".DS_Store").write_text("x")
    (tmp_path / "renamed.svs").write_text("this is no slide")
    (tmp_path / "empty.dcm").touch()
    found = find(tmp_path)
    assert [source.id for source in found.sources] == ["a/one", "b/two"]
    assert [(s.name, s.reason) for s in found.skipped] == [
        (".DS_Store", "hidden file"),
        ("notes.txt", "not an image format that is read here"),
    ]
    assert sorted(failure.source for failure in found.failures) == ["empty.dcm", "renamed.svs"]
    assert all(failure.remedy for failure in found.failures)


def test_content_decides_not_the_suffix(tmp_path: Path) -> None:
    write_png(tmp_path / "radiograph")
    assert [source.format for source in find(tmp_path).sources] == ["raster"]


def test_two_inputs_with_one_id_are_refused_before_any_work(tmp_path: Path) -> None:
    write_png(tmp_path / "x.png")
    Image.new("RGB", (30, 30), (10, 200, 10)).save(tmp_path / "x.jpg")
    with pytest.raises(SetupError, match=r"x\.jpg and x\.png|x\.png and x\.jpg"):
        find(tmp_path)
    one, other = (write_png(tmp_path / folder / "case.png").parent for folder in ("one", "other"))
    with pytest.raises(SetupError, match=r"one/case\.png and other/case\.png"):
        find(one, other)
    with pytest.raises(SetupError, match=r"case\.png is given twice"):
        find(one, one)


def test_manifest_columns_reach_the_source(tmp_path: Path) -> None:
    write_png(tmp_path / "images" / "one.png")
    row = {"path": "images/one.png", "id": "case-1", "patient": "P 17", "label": "benign", "mpp": "", "scanner": "X"}
    source = find(write_manifest(tmp_path / "study.csv", [row])).sources[0]
    assert source.id == "case-1"
    assert source.name == "images/one.png"
    assert source.patient == PSEUDONYMS.of("P 17") != "P 17"
    assert dict(source.meta) == {"label": "benign", "scanner": "X"}


def test_manifest_outside_its_folder_keeps_names_relative(tmp_path: Path) -> None:
    image = write_png(tmp_path / "disk" / "one.png")
    lists = tmp_path / "lists"
    lists.mkdir()
    source = find(write_manifest(lists / "m.csv", [{"path": str(image)}])).sources[0]
    assert source.name == "one.png"


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([{"path": "nowhere.png"}], "do not exist"),
        ([{"path": "one.png", "mpp": "abc"}], "not a number"),
        ([{"path": "one.png"}, {"path": "one.png"}], "listed twice"),
        ([{"path": "", "mpp": ""}], "empty path"),
    ],
)
def test_bad_manifests_name_the_fault(tmp_path: Path, rows: list[dict[str, str]], fault: str) -> None:
    write_png(tmp_path / "one.png")
    with pytest.raises(SetupError, match=fault):
        find(write_manifest(tmp_path / "m.csv", rows))


def test_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no such file"):
        find(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a/b.nii.gz", "a/b"),
        ("x.OME.TIF", "x"),
        ("CT.1.2.840.7", "CT.1.2.840.7"),
        ("a.b/c.png", "a.b/c"),
        (".png", ".png"),
    ],
)
def test_stem(name: str, stem: str) -> None:
    assert stem_of(name) == stem


def test_content_hash_sees_every_byte_of_small_files_and_the_ends_of_large_ones(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(bytes(1000))
    before = content_sha256([small])
    small.write_bytes(bytes(500) + b"\1" + bytes(499))
    assert content_sha256([small]) != before
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(80 << 20)
    before = content_sha256([large])
    with large.open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\1")
    assert content_sha256([large]) != before
