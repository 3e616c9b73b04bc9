"""Archives of DICOM are read in place of their files, within limits, and leave nothing behind."""

from __future__ import annotations

import contextlib
import gc
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dicom_factory import image, save, series

import umedfeat
from umedfeat.discovery import discover
from umedfeat.discovery.archives import Scratch
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Limits, Policy
from umedfeat.readers import open_reader, settled

KEY = Pseudonyms(b"key")


def archive(path: Path, files: dict[str, Path | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in files.items():
            written.writestr(name, content if isinstance(content, bytes) else content.read_bytes())
    return path


@pytest.fixture
def ct(tmp_path: Path) -> list[Path]:
    return series(tmp_path / "ct", [0.0, 5.0, 10.0])


def test_a_series_in_an_archive_is_the_series(tmp_path: Path, ct: list[Path]) -> None:
    names = {f"DICOM/ST00001/{number}": path for number, path in enumerate(ct)}
    zipped = archive(tmp_path / "export.zip", {**names, "readme.txt": b"no image"})
    (source,) = discover([zipped], Policy(), KEY).sources
    assert source.name.startswith("export.zip/DICOM/ST00001/ct")
    (other,) = discover([tmp_path / "ct"], Policy(), KEY).sources
    assert (source.series, len(source.files)) == (other.series, 3)
    both = discover([tmp_path], Policy(), KEY)
    assert len(both.sources) == 1 and not both.failures  # copies of the same images
    assert "export.zip/readme.txt" in [skipped.name for skipped in both.skipped]


def test_the_same_features_resumed_and_nothing_left_behind(
    tmp_path: Path, ct: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    zipped = archive(tmp_path / "export.zip", {f"{k}.dcm": path for k, path in enumerate(ct)})
    lite = EncoderChoice("efficientnet-lite0", device="cpu")
    for path, out in ((zipped, "a.h5"), (tmp_path / "ct", "b.h5")):
        umedfeat.extract(path, tmp_path / out, encoder=lite, pseudonyms=KEY)
    again = umedfeat.extract(zipped, tmp_path / "a.h5", encoder=lite, pseudonyms=KEY)
    assert again.resumed == 1
    with umedfeat.FeatureFile(tmp_path / "a.h5") as one, umedfeat.FeatureFile(tmp_path / "b.h5") as other:
        assert np.array_equal(one.embeddings, other.embeddings)
    assert not list((tmp_path / "scratch").iterdir())  # not when a garbage collector comes by: these are patients


def test_names_in_an_archive_lead_nowhere(tmp_path: Path, ct: list[Path]) -> None:
    zipped = archive(tmp_path / "a.zip", {"../../evil.dcm": ct[0], "/etc/evil.dcm": ct[1], "..\\evil.dcm": ct[2]})
    found = discover([zipped], Policy(), KEY)
    assert len(found.sources) == 1 and len(found.sources[0].files) == 3
    assert all(".." not in path.parts and path.name.isdecimal() for path in found.sources[0].files)
    assert not list(tmp_path.parent.glob("evil*"))


def test_a_bomb_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    black = save(image("CT", np.zeros((2000, 2000), np.uint16)), tmp_path / "black.dcm")
    zipped = archive(tmp_path / "a.zip", {f"{k}.dcm": black for k in range(3)})
    black.unlink()
    found = discover([tmp_path], Policy(limits=Limits(max_unzipped=10 << 20)), KEY)
    assert not found.sources and "unfold to" in found.failures[0].message
    assert "--max-unzipped" in found.failures[0].remedy and not found.scratch
    assert zipped.stat().st_size < 1 << 20


def test_a_size_that_is_a_lie_is_damage(tmp_path: Path, ct: list[Path]) -> None:
    zipped = archive(tmp_path / "a.zip", {"a.dcm": ct[0].read_bytes() + bytes(100_000)})
    raw = bytearray(zipped.read_bytes())
    place = raw.rindex(b"PK\x01\x02") + 24
    raw[place : place + 4] = (2000).to_bytes(4, "little")  # the central directory promises less
    zipped.write_bytes(raw)
    found = discover([zipped], Policy(), KEY)
    assert not found.sources and len(found.failures) == 1


def test_damaged_encrypted_and_other_archives(tmp_path: Path, ct: list[Path]) -> None:
    whole = archive(tmp_path / "whole.zip", {"a.dcm": ct[0]}).read_bytes()
    (tmp_path / "whole.zip").unlink()
    (tmp_path / "cut.zip").write_bytes(whole[:-40])
    locked = bytearray(whole)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + offset] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    archive(tmp_path / "letters.zip", {"a.txt": b"text"})
    found = discover([tmp_path / name for name in ("cut.zip", "locked.zip", "letters.zip")], Policy(), KEY)
    assert sorted(f.message for f in found.failures) == [
        "cut.zip: the archive is damaged (BadZipFile)",
        "locked.zip: the archive is encrypted",
    ]
    assert [skipped.name for skipped in found.skipped] == ["letters.zip"]


def test_scratch_is_for_its_owner_alone(tmp_path: Path) -> None:
    scratch = Scratch()
    assert scratch.folder.stat().st_mode & 0o077 == 0
    folder = scratch.folder
    del scratch
    gc.collect()
    assert not folder.exists()


def test_sources_of_an_archive_outlive_the_discovery_that_found_them(tmp_path: Path, ct: list[Path]) -> None:
    """Pictures and trainings keep sources alone."""
    (source,) = discover(
        [archive(tmp_path / "a.zip", {f"{k}.dcm": path for k, path in enumerate(ct)})], Policy(), KEY
    ).sources
    gc.collect()
    with contextlib.closing(open_reader(source, settled(Policy(), 64))) as reader:
        assert len(reader.plan().regions) == 3
    assert not any(pickle.loads(pickle.dumps(source)).holds)  # other processes neither hold nor remove it
    folder = source.files[0].parent
    del source, reader
    gc.collect()
    assert not folder.exists()
