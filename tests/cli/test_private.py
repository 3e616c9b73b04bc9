"""``--private``: what a command writes is nobody else's to read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from umedfeat.cli import run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}


def test_every_file_of_a_run_is_private(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "key").write_text("a secret of the test suite, long enough")
    pixels = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in" / "image.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"damaged")
    options = ["--encoder", "efficientnet-lite0", "--device", "cpu", "--workers", "1", "--progress", "none"]
    options += ["--id-key", str(tmp_path / "key"), "--image-size", "32"]
    for name, private in (("open", []), ("own", ["--private"])):
        folder = tmp_path / name
        folder.mkdir()
        given = ["extract", "--input", str(tmp_path / "in"), "--out", str(folder / "f.h5"), *options]
        assert run([*given, "--preview", str(folder / "look"), *private]) == 1
        assert run(["export", str(folder / "f.h5"), "--layout", "pt", "--out", str(folder / "pt"), *private]) == 0
    assert modes(tmp_path / "open") == {0o644}
    assert modes(tmp_path / "own") == {0o600}
    assert len(list((tmp_path / "own").rglob("*.*"))) > 5
