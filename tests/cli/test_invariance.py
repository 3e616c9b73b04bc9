"""The same input gives the same bits, whatever the batch, processes, order and interruptions; devices: test_extract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lookalike import write_official
from PIL import Image

from umedfeat.cli import run
from umedfeat.demo.cohort import _ct
from umedfeat.store import FeatureFile

#: Options, inputs in this order, inputs of an earlier run that is resumed.
RUNS = [
    (["--batch-size", "3", "--workers", "4"], ["c", "b", "a"], ["b"]),
    (["--batch-size", "1", "--workers", "2"], ["b", "a", "c"], []),
]


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images of odd sizes in two folders, 8 bits and 16, and a CT series."""
    (tmp_path / "key").write_text("a secret of the test suite")
    monkeypatch.setenv("UMEDFEAT_ID_KEY", str(tmp_path / "key"))
    rng = np.random.default_rng(0)
    for folder, count in (("a", 5), ("b", 6)):
        (tmp_path / folder).mkdir()
        for k in range(count):
            pixels = rng.integers(0, 255, (50 + k, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{folder}{k}.png")
    Image.fromarray(rng.integers(0, 60_000, (70, 70), dtype=np.uint16)).save(tmp_path / "b" / "deep.png")
    _ct(tmp_path / "c", rng)
    return tmp_path


@pytest.mark.parametrize(("runtime", "runs"), [("torch", RUNS), ("openvino", RUNS[:1])])
def test_bits_depend_on_the_input_alone(inputs: Path, runtime: str, runs: list[tuple[list[str], ...]]) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    write_official(inputs / "look.pt.zip")

    def extract(out: Path, folders: list[str], options: list[str]) -> None:
        arguments = ["extract", "--out", str(out), "--weights", str(inputs / "look.pt.zip"), "--runtime", runtime]
        arguments += ["--image-size", "64", "--slices", "9", "--progress", "none", "--device", "cpu"]
        for folder in folders:
            arguments += ["--input", str(inputs / folder)]
        assert run([*arguments, *options]) == 0

    extract(inputs / "once.h5", ["a", "b", "c"], ["--workers", "1"])
    once = (inputs / "once.h5").read_bytes()
    for number, (options, folders, earlier) in enumerate(runs):
        out = inputs / f"{number}.h5"
        if earlier:
            extract(out, earlier, ["--batch-size", "2", "--workers", "1"])
        extract(out, folders, options)
        assert out.read_bytes() == once, options
    with FeatureFile(inputs / "once.h5") as file:
        assert (len(file), file.n_rows) == (13, 21)
        assert len(np.unique(file.features(), axis=0)) == 21
