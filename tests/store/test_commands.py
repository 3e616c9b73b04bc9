"""info, verify, merge and export on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import pytest
from store_cases import header, item, write

from umedfeat.cli import run


@pytest.fixture
def feats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    items = [
        item("benign/a", 3, label="benign", dropped=1),
        item("benign/b", 0, label="benign"),
        item("photo", 2, slide=False),
    ]
    write(tmp_path / "feats.h5", items, failures=["broken.svs"], skipped=["notes.txt"])
    return Path("feats.h5")


def test_info(feats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info"]) == 0
    text = capsys.readouterr().out
    for part in (
        "WSI           2     3  aperio",
        "photo         1     2  png",
        "umedpt, 4 values (float32)",
        "sha256 000000000000…",
        "224 px tiles at 0.5 µm/px, tissue ≥ 25%",
        "label: benign 2, empty 1",
        "2 (pseudonyms)",
        "1 item without a region, not embedded",
        "1 region that could not be read",
        "1 input: 1 UnreadableInput",
        "1 file without an image to embed",
        "KiB, fingerprint ",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) < 100


def test_info_as_json(feats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", "--json", str(feats)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["modalities"]["WSI"] == {"items": 2, "rows": 3, "formats": ["aperio"]}
    assert facts["columns"]["label"] == {"different": 1, "empty": 1, "classes": {"benign": 2}}
    assert facts["policy"]["slide"]["mpp"] == 0.5
    assert (facts["failed"], facts["skipped"], facts["dropped"], facts["dim"]) == (1, 1, 1, 4)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("--items", "benign/a"),
        ("--failures", "broken.svs: truncated"),
        ("--skipped", "not an image"),
        ("--dropped", "unreadable tile"),
    ],
)
def test_info_lists(feats: Path, part: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(feats), part]) == 0
    assert text in capsys.readouterr().out
    assert run(["info", str(feats), part, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert any(text in map(str, row.values()) for row in rows)


def test_info_without_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(tmp_path / "none.h5")]) == 2
    assert "no such feature file" in capsys.readouterr().err


def test_verify(feats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(feats)]) == 0
    assert capsys.readouterr().out == "feats.h5: whole (3 items, 5 rows)\n"
    with h5py.File(feats, "r+") as file:
        file["features"][0, 0] += 1
    assert run(["verify", str(feats)]) == 1
    assert "feats.h5: benign/a: checksum" in capsys.readouterr().out
    assert run(["verify", str(feats), "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["whole"], len(found["faults"])) == (False, 1)


def test_shards_and_merge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    items = [item(f"s{k}", k) for k in range(6)]
    whole = write(tmp_path / "whole.h5", items)
    shards = [str(write(Path("feats.h5"), items[k - 1 :: 3], shard=(k, 3))) for k in (1, 2, 3)]
    assert run(["merge", *shards[:2], "--out", "feats.h5"]) == 2
    assert "shard 3/3 is missing" in capsys.readouterr().err
    doubled = str(shutil.copy(shards[0], "again.h5"))
    assert run(["merge", *shards, doubled, "--out", "feats.h5"]) == 2
    told = capsys.readouterr().err
    assert "shard 1/3 is there twice" in told and "again.h5" in told
    assert run(["merge", *shards, "--out", "feats.h5"]) == 0
    assert "feats.h5: 6 items, 15 rows from 3 files" in capsys.readouterr().out
    assert Path("feats.h5").read_bytes() == whole.read_bytes()
    assert run(["merge", *shards, "--out", "feats.h5"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(["merge", *shards[:2], "--partial", "--overwrite", "--json", "--out", "feats.h5"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 4
    write(tmp_path / "other.h5", [item("x", 1)], settings=header(precision="bf16"))
    assert run(["merge", "feats.h5", "other.h5", "--out", "both.h5"]) == 2
    assert "encoder.precision: fp32 → bf16" in capsys.readouterr().err


def test_export(feats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(feats), "--layout", "trident"]) == 0
    out = capsys.readouterr().out
    assert "feats-trident: 2 items" in out
    assert "left out: photo (it is not tiled)" in out
    assert Path("feats-trident/patches/a_patches.h5").is_file()
    assert run(["export", str(feats), "--layout", "clam", "--out", "clam", "--json"]) == 0
    told = {"out": "clam", "items": 3, "empty": ["benign/b"], "left_out": [], "tables": []}
    assert json.loads(capsys.readouterr().out) == told


@pytest.mark.parametrize("command", ["info", "verify", "merge", "export"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert f"umedfeat {command} " in capsys.readouterr().out
