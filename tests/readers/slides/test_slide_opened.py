"""A slide is opened once to be planned and once to be read, however many batches it is read in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slide_factory import tissue_like, write_slide
from slide_reading import policy, source_of

from umedfeat.engine.local.worker import OpenReaders, plan_source, read_batch
from umedfeat.engine.messages import Batch, Job, Segment
from umedfeat.readers.slides import reader as slides


def test_a_slide_is_opened_at_most_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    original = slides.open_backend

    def counted(*args: Any) -> Any:
        opened.append(args)
        return original(*args)

    monkeypatch.setattr(slides, "open_backend", counted)
    source = source_of(write_slide(tmp_path / "s.svs", tissue_like(1024, 1024), 0.5, flavour="svs"))
    chosen = policy(mpp=0.5, tile_size=128)
    planned = plan_source(Job(0, source), chosen)
    assert planned.plan is not None
    readers = OpenReaders(chosen)
    for first in range(0, 64, 8):
        rows = planned.plan.regions[first : first + 8]
        segment = Segment(0, source, planned.plan.prepared, first, rows)
        batch = Batch(0, (128, 128), "uint8", (segment,))
        read = read_batch(batch, np.empty((8, 128, 128, 3), np.uint8), readers, lambda number: None)
        assert read.errors == (None,)
    readers.discard(source)
    assert len(opened) == 2
