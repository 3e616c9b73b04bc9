"""Manifests as they come from spreadsheets and databases: read where they are unambiguous, else refused by line."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from umedfeat.discovery import Discovery, discover
from umedfeat.discovery.table import read_rows
from umedfeat.errors import SetupError
from umedfeat.naming import Pseudonyms
from umedfeat.policy import Policy


def find(path: Path) -> Discovery:
    return discover([path], Policy(), Pseudonyms(b"test key"))


def write_png(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((32, 40, 3), np.uint8)).save(path, format="PNG")
    return path


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_relative_rows_may_leave_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png(tmp_path / "slides" / "a.png")
    write_png(tmp_path / "lists" / "b.png")
    manifest = write(tmp_path / "lists" / "m.csv", "path\n../slides/a.png\nb.png\n")
    assert [source.name for source in find(manifest).sources] == ["lists/b.png", "slides/a.png"]
    monkeypatch.chdir(tmp_path)
    assert [source.name for source in find(Path("lists/m.csv")).sources] == ["lists/b.png", "slides/a.png"]
    monkeypatch.chdir(tmp_path / "lists")
    assert [source.name for source in find(Path("m.csv")).sources] == ["lists/b.png", "slides/a.png"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_is_unambiguous_is_read(tmp_path: Path, encoding: str, delimiter: str) -> None:
    write_png(tmp_path / "a.png")
    rows = [["Path", "Label", "Note"], ["a.png", "gutartig", "Größe"]]
    text = "\r\n".join(delimiter.join(row) for row in rows) + "\r\n"
    (source,) = find(write(tmp_path / "m.csv", text.encode(encoding))).sources
    assert dict(source.meta) == {"Label": "gutartig", "Note": "Größe"}


@pytest.mark.parametrize(
    ("content", "line", "fault"),
    [
        ("path,note\na.png,ok\na.png,Größe\n".encode("cp1252"), 3, "not UTF-8"),
        ("path,label\na.png,x\n".encode("utf-16-le"), 1, "NUL"),
        (b"path,note\na.png,x\na.png,a\0b\n", 3, "NUL"),
        (b"path,note\na.png," + b"x" * 200_000 + b"\n", 2, "field larger"),
        (b'path,note\na.png,"open\nb.png,x\n', 2, "unexpected end"),
        (b"path,note\na.png,x,y\n", 2, "3 cells under 2 columns"),
        (b"path,label,label\na.png,x,y\n", 1, "two columns are called 'label'"),
        (b"path,Path\na.png,a.png\n", 1, "two columns are called 'path'"),
        (b"path,note\na.png,x\nftp://host/b.svs,y\n", 3, "ftp:// is not read"),
        (b"path,note\na.png,x\nhttps://me:pw@host/b.svs,y\n", 3, "user name or password"),
        (b"path,note\na.png,x\n" + b"n" * 5000 + b".png,y\n", None, "File name too long"),
        (b"path,note\n\na.png,x\n\nmissing.png,y\n", 5, "do not exist"),
        (b"path,note\na.png,x\n,y\n", 3, "empty path"),
        (b"path,patient\na.png,1.20E+10\n", 2, "rounded the patient"),
    ],
)
def test_what_is_not_is_told_with_its_line(tmp_path: Path, content: bytes, line: int | None, fault: str) -> None:
    write_png(tmp_path / "a.png")
    manifest = write(tmp_path / "m.csv", content)
    try:
        found = find(manifest)
    except SetupError as error:
        told, remedy = error.message, error.remedy
    else:
        told, remedy = found.failures[0].message, found.failures[0].remedy
    assert fault in told
    assert line is None or f"line {line}" in told
    assert remedy


@pytest.mark.skipif(find_spec("gcsfs") is not None, reason="what reads gs:// is installed")
def test_urls_name_the_extra_that_reads_them(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"m.csv: gs://bucket/a\.svs: URLs need umedfeat\[gcs\]") as told:
        find(write(tmp_path / "m.csv", "path\ngs://bucket/a.svs\n"))
    assert "pip install" in told.value.remedy
    with pytest.raises(SetupError, match=r"gs://bucket/a\.svs: URLs need umedfeat\[gcs\]"):
        find(Path("gs://bucket/a.svs"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_as_manifest_row_and_input_do_not_hang(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(SetupError, match="named pipe"):
        find(tmp_path / "pipe.csv")
    found = find(write(tmp_path / "m.csv", "path\na.png\npipe.csv\n/dev/zero\n"))
    assert len(found.sources) == 1
    assert ["named pipe" in f.message or "device" in f.message for f in found.failures] == [True, True]


def test_rows_of_a_million_are_lean(tmp_path: Path) -> None:
    """Cells that repeat are one object; a row is no dictionary of its own."""
    lines = "".join(f"slides/{k}.svs,benign,centre {k % 3}\n" for k in range(1000))
    rows = read_rows(write(tmp_path / "m.csv", "path,label,centre\n" + lines))
    assert len(rows) == 1000
    assert len({id(row["label"]) for row in rows}) == 1
    assert len({id(row["centre"]) for row in rows}) == 3
    assert not hasattr(rows[0], "__dict__")
    assert dict(rows[5]) == {"path": "slides/5.svs", "label": "benign", "centre": "centre 2"}
