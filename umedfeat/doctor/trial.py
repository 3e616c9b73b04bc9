"""The main job itself, on one drawn image, where its output would go: what no list of checks can promise."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from umedfeat.doctor.finding import Finding, Wish, failed
from umedfeat.errors import UmedfeatError, WeightsUnavailable
from umedfeat.extraction.run import extract
from umedfeat.extraction.settings import RunSettings
from umedfeat.naming import Pseudonyms
from umedfeat.terminal.tables import human_seconds

__all__ = ["trial"]

#: Needs no weights but those that are installed with the program.
_INSTALLED = "efficientnet-lite0"
_SIDE = 64


def trial(wish: Wish) -> Iterator[Finding]:
    """Embed one image with the job's encoder, or with an installed one where its weights are not at hand."""
    try:
        yield _embedded(wish, wish.choice.name)
    except WeightsUnavailable:  # told before
        try:
            yield _embedded(replace(wish, choice=replace(wish.choice, name=_INSTALLED, weights=None)), _INSTALLED)
        except UmedfeatError as error:
            yield failed("trial run", error)
    except UmedfeatError as error:
        yield failed("trial run", error)
    except OSError as error:
        yield Finding("trial run", "fail", f"no place to try it in ({error.strerror})", "choose another --out")


def _embedded(wish: Wish, encoder: str) -> Finding:
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=".umedfeat-doctor-", dir=wish.out.absolute().parent) as folder:
        image = Path(folder, "image.png")
        _draw(image)
        summary = extract(
            image,
            Path(folder, "feats.h5"),
            encoder=replace(wish.choice, offline=True),
            run=RunSettings(workers=1, batch_size=1),
            pseudonyms=Pseudonyms(secrets.token_bytes(32)),
        )
    seconds = human_seconds(time.perf_counter() - begin)
    if summary.failures:
        return Finding("trial run", "fail", summary.failures[0].message, summary.failures[0].remedy)
    return Finding("trial run", "ok", f"an image embedded by {encoder} on {summary.device} in {seconds}")


def _draw(path: Path) -> None:
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (_SIDE, _SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
