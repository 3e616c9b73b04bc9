"""The examples run, and the README's commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

from umedfeat.cli import root

ROOT = Path(__file__).resolve().parents[1]


def run(script: str, *arguments: Path | str) -> str:
    command = [sys.executable, str(ROOT / "examples" / script), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_few_shot_from_arrays() -> None:
    assert "AUROC" in run("few_shot_from_arrays.py")


def test_features_from_python(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for k in range(2):
        pixels = np.random.default_rng(k).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{k}.png")
    assert "2 inputs, 2 rows of 1280 values" in run("features_from_python.py", tmp_path / "in", tmp_path / "f.h5")


def test_few_shot_study(tmp_path: Path) -> None:
    images = tmp_path / "in"
    images.mkdir()
    rows = ["file,label"]
    for k in range(16):
        pixels = np.random.default_rng(k).integers(0, 60, (64, 64, 3), dtype=np.uint8)
        pixels[..., k % 2] += 150
        Image.fromarray(pixels).save(images / f"{k}.png")
        rows.append(f"{k}.png,{'red' if k % 2 == 0 else 'green'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows), encoding="utf-8")
    shown = run("few_shot_study.py", images, tmp_path / "labels.csv", tmp_path / "study", "--cv", "0")
    assert "16 items, no patient information" in shown
    assert (tmp_path / "study" / "report.html").is_file() and (tmp_path / "study" / "results.csv").is_file()


@pytest.mark.slow
def test_lesion_study(tmp_path: Path, data_dir: Path) -> None:
    shown = run("lesion_study.py", data_dir / "dicom" / "ibsi", tmp_path / "study")
    assert "14 regions, 0 failed" in shown and "14 items, 2 patients" in shown
    assert len(list((tmp_path / "study" / "preview" / "pictures").glob("*.overlay.png"))) == 14


#: Pages whose commands a newcomer types.
PAGES = ("README.md", *(f"docs/{name}.md" for name in ("weights", "pathology", "radiology", "study", "exports")))


def readme_calls() -> list[str]:
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in PAGES)
    lines = re.findall(r"^\$ (.*)$", text, re.M)
    calls = [part.split("#")[0].strip() for line in lines for part in line.split("&&")]
    return sorted({call for call in calls if call.startswith("umedfeat ")})


@pytest.mark.parametrize("call", readme_calls())
def test_every_call_of_the_readme_parses(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options exist and their values are accepted; nothing is run."""
    monkeypatch.chdir(tmp_path)
    for folder in ("annotations", "new-slides", "new-xray", "slides", "export", "probe", "preview", "predict"):
        (tmp_path / folder).mkdir()
    for file in (
        "my-encoder.safetensors",
        "tasks.yaml",
        "probe/model.safetensors",
        "probe/splits.json",
        "predict/feats.h5",
        "truth.csv",
        "ris.csv",
    ):
        (tmp_path / file).touch()
    words = shlex.split(call)[1:]
    context = click.Context(root)
    command: click.Command | None = root
    while isinstance(command, click.Group):
        command = command.get_command(context, words.pop(0))
    assert command is not None, call
    with command.make_context(call, words, resilient_parsing=False):
        pass


def test_the_readme_begins_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ (.*)$", text, re.M)
    assert commands[:2] == ["pip install . && umedfeat demo", "pip install '.[dev]' && pytest"]
