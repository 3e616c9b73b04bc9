"""New images to features that stand beside others: embedded with the same settings, and aggregated where those are."""

from __future__ import annotations

from pathlib import Path

from umedfeat.encoders.choice import EncoderChoice
from umedfeat.extraction.aggregation import aggregate
from umedfeat.extraction.run import extract
from umedfeat.extraction.settings import RunSettings
from umedfeat.naming import Pseudonyms
from umedfeat.store import FeatureFile, Header, shard_path
from umedfeat.terminal.progress import Progress

__all__ = ["features_like", "slides_beside", "slides_place"]


def features_like(
    inputs: Path | str,
    out: Path | str,
    header: Header,
    *,
    weights: Path | None = None,
    device: str = "auto",
    run: RunSettings | None = None,
    pseudonyms: Pseudonyms | None = None,
    progress: Progress | None = None,
) -> Path:
    """A feature file of images with the settings of another one, be they those of a slide encoder.

    Args:
        out: the file of what the encoder of pixels gives; a slide encoder's vectors stand beside it.
        weights, device, run, pseudonyms, progress: see ``umedfeat.extract``.

    Raises:
        SetupError: see ``umedfeat.extract`` and ``aggregate``.
    """
    choice = EncoderChoice(weights=weights, device=device)
    made = extract(inputs, out, encoder=choice, run=run, pseudonyms=pseudonyms, progress=progress, like=header).out
    return slides_beside(made, slides_place(Path(out), run), header, device)


def slides_place(features: Path, run: RunSettings | None = None) -> Path:
    """Where the slide vectors of a feature file go: "feats.slides.h5"; of a shard "feats.slides.h5.shards/…"."""
    place = features.with_name(f"{features.stem}.slides.h5")
    return place if run is None or run.shard is None else shard_path(place, run.shard)


def slides_beside(tiles: Path, place: Path, header: Header, device: str = "auto") -> Path:
    """The features that are wanted: where these are the tiles of a slide encoder's vectors, the vectors, made at
    ``place``; else the file itself."""
    with FeatureFile(tiles) as file:
        wanted = header.of_tiles
        if wanted is None or wanted.of_features.fingerprint != file.header.of_features.fingerprint:
            return tiles
    return aggregate(tiles, place, str(header.encoder.get("name", "")), device=device, like=header).out
