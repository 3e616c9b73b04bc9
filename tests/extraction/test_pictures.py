"""Pictures come after the features, and no decoder that crashes over them ends a run."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from fake_reader import FakePolicy, fake_source
from PIL import Image

import umedfeat
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.engine.planning import plan_all
from umedfeat.errors import Interrupted
from umedfeat.extraction.pictures import Pictures, pictures_in
from umedfeat.naming import Pseudonyms
from umedfeat.store import FeatureFile


def test_a_decoder_that_crashes_costs_one_picture(tmp_path: Path) -> None:
    sources = [fake_source("a"), fake_source("dies", read="segfault", read_at=0), fake_source("c")]
    pictures = pictures_in(tmp_path / "look", FakePolicy(), geojson=False)
    assert pictures is not None
    for source, plan in plan_all(sources, FakePolicy(), workers=1):
        assert not isinstance(plan, Exception)
        pictures.keep(source, plan)
    pictures.draw(2, 60, threading.Event())
    page = (tmp_path / "look" / "index.html").read_text()
    assert "a.fake" in page and "c.fake" in page and "dies.fake" not in page


def test_no_folder_no_pictures() -> None:
    assert pictures_in(None, FakePolicy(), geojson=False) is None


def test_the_file_is_packed_before_a_picture_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens while pictures are drawn: the features are there, and a signal says so."""
    (tmp_path / "in").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)).save(tmp_path / "in" / "a.png")

    def stopped(self: Pictures, workers: int, timeout: float, stop: threading.Event) -> None:
        stop.set()

    monkeypatch.setattr(Pictures, "draw", stopped)
    with pytest.raises(Interrupted, match="complete"):
        umedfeat.extract(
            tmp_path / "in",
            tmp_path / "f.h5",
            encoder=EncoderChoice("efficientnet-lite0", device="cpu"),
            pseudonyms=Pseudonyms(b"key of the tests"),
            preview_dir=tmp_path / "look",
        )
    with FeatureFile(tmp_path / "f.h5") as file:
        assert list(file.ids) == ["a"]
