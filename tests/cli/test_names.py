"""Hostile names through every command: nothing a name holds reaches a terminal, a page or a spreadsheet as it is."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import umedfeat
from umedfeat.cli import run
from umedfeat.naming import plain_cell, printable, write_csv
from umedfeat.store import FeatureFile

ENCODER = ["--encoder", "efficientnet-lite0", "--device", "cpu", "--workers", "1", "--image-size", "32"]
#: Names of files as bytes: terminal escapes, forged lines, text that turns, formulas, no UTF-8, markup, options.
ZOO = [
    b"red\x1b[31m.png",
    b"line\nERROR: forged.png",
    b"return\rforged.png",
    b"tab\there.png",
    "turned\u202egnp.exe.png".encode(),
    "marks\u200f\u2066\u061c.png".encode(),
    "next\u0085line\u2028.png".encode(),
    b"latin-\xfc\xff.png",
    b"=cmd|'calc'!A1.png",
    b"+1+1.png",
    b"-2+3.png",
    b"@SUM(1).png",
    b"<script>alert(1)<script>&.png",
    b"'quote\".png",
    b"--help.png",
    "Größe 测试 é.png".encode(),
]
LEAKING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path_factory.mktemp("key") / "id-key"
    key.write_text("a secret of the test suite")
    monkeypatch.setenv("UMEDFEAT_ID_KEY", str(key))


def write_zoo(folder: Path) -> Path:
    """A picture and a file that is damaged under every name of the zoo."""
    folder.mkdir()
    for k, name in enumerate(ZOO):
        pixels = np.random.default_rng(k).integers(0, 255, (32, 40, 3), dtype=np.uint8)
        try:
            with (folder / os.fsdecode(name)).open("wb") as stream:
                Image.fromarray(pixels).save(stream, format="PNG")
            (folder / os.fsdecode(b"broken " + name)).write_bytes(b"\x89PNG\r\n\x1a\n damaged")
        except OSError:
            pytest.skip("this file system refuses such names")
    return folder


def clean(text: str) -> bool:
    return LEAKING.search(text) is None


def test_visible_and_idempotent() -> None:
    raw = "".join(map(chr, [*range(0x250), 0x61C, *range(0x2000, 0x2070), *range(0xDC80, 0xDD00)]))
    assert clean(printable(raw))
    assert "\n" not in printable(raw)
    assert printable(printable(raw)) == printable(raw)
    assert printable("Größe 测试 é") == "Größe 测试 é"
    assert printable("\udcff").encode() == b"\\xff"


def test_cells_are_no_formulas_and_come_back(tmp_path: Path) -> None:
    texts = ["=1+1", "+cmd", "-2+3", "@x", "'=1", "''@", "-1.5", "plain", "'quote"]
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        write_csv(stream, [[*texts, -1.5, None]])
    with (tmp_path / "t.csv").open(newline="") as stream:
        (row,) = csv.reader(stream)
    assert [plain_cell(cell) for cell in row[: len(texts)]] == texts
    assert not [cell for cell in row if re.match(r"[=@]|[+-](?![\d.]+$)", cell)]
    assert row[6] == row[-2] == "-1.5"


def test_the_zoo_through_every_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, out, look = write_zoo(tmp_path / "in"), tmp_path / "f.h5", tmp_path / "look"
    told = []

    def umedfeat(expected: int, *arguments: object) -> str:
        code = run([str(argument) for argument in arguments])
        printed = capfd.readouterr()
        told.append((arguments[0], printed.out, printed.err))
        assert code == expected, printed.err
        return printed.out

    umedfeat(1, "extract", "--input", source, *ENCODER, "--dry-run")
    umedfeat(1, "extract", "--input", source, "--out", out, *ENCODER, "--preview", look, "-vv")
    umedfeat(1, "extract", "--input", source, "--out", tmp_path / "json.h5", *ENCODER, "--log-json", "--json")
    umedfeat(1, "preview", source, "--out", tmp_path / "look2", "--progress", "none")
    for part in ((), ("--items",), ("--failures",), ("--skipped",), ("--items", "--json")):
        umedfeat(0, "info", out, *part)
    umedfeat(0, "verify", out)
    umedfeat(0, "merge", out, tmp_path / "json.h5", "--out", tmp_path / "merged.h5")
    umedfeat(0, "export", out, "--layout", "pt", "--out", tmp_path / "pt")
    with FeatureFile(out) as file:
        ids = list(file.ids)
    assert len(ids) == len(ZOO)
    with (tmp_path / "labels.csv").open("w", newline="") as stream:
        write_csv(stream, [["id", "label"], *([name, "=benign" if k % 2 else "@malign"] for k, name in enumerate(ids))])
    study = ("--labels", tmp_path / "labels.csv", "--label", "label", "--shots", "2", "--repeats", "2")
    umedfeat(0, "probe", "--features", out, *study, "--preview", look, "--out", tmp_path / "probe")
    umedfeat(0, "compare", out, tmp_path / "merged.h5", *study, "--out", tmp_path / "compare")
    for command, printed, errors in told:
        assert clean(printed), command
        assert clean(errors.replace("\r", "")), command  # progress bars return to the beginning of their line
        assert not [line for line in (printed + errors).splitlines() if line.startswith(("ERROR: forged", "forged"))]
    for path in tmp_path.rglob("*.*"):
        if path.suffix in {".csv", ".html", ".json", ".txt"}:
            assert clean(path.read_text(encoding="utf-8")), path.name
    for path in {*tmp_path.rglob("*.csv")} - {tmp_path / "labels.csv"}:
        with path.open(newline="", encoding="utf-8") as stream:
            cells = {cell for row in csv.reader(stream) for cell in row}
        assert not [cell for cell in cells if re.match(r"[=@\t\r]|[+-](?![\d.e+-]+$)", cell)], path.name
    assert "<script>alert" not in (look / "index.html").read_text()
    assert len(list((look / "pictures").glob("*.small.png"))) == len(ZOO)
    assert json.loads((tmp_path / "f.h5.run.json").read_text())["inputs"]["embedded"] == len(ZOO)


def test_tables_are_written_in_one_place() -> None:
    """Whoever writes CSV past ``write_csv`` forgets the formulas."""
    package = Path(umedfeat.__file__).parent
    writing = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"csv.writer", "csv.DictWriter"}
    ]
    own_manifest = "extraction/estimator.py"  # paths as they are, for our own reader, and removed at once
    assert sorted(set(writing)) == [own_manifest, "naming.py"]
