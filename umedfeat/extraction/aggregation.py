"""``umedfeat.aggregate``: the tiles of every slide to one vector by a slide encoder, as a feature file of its own.

Ids, patients, labels and content are those of the tiles, so that everything that takes a feature file takes these; the
fingerprint tells slide encoder, tile encoder and policy, so that nothing else is put beside them.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from umedfeat.contract import Failure, Plan, Skipped, SlideTiles, Source, make_regions
from umedfeat.encoders.slides import SlideEncoder, load_slide_encoder
from umedfeat.errors import InputError, SetupError
from umedfeat.prediction.apply import refuse_other
from umedfeat.store import FeatureFile, FeatureStore, Header, Item
from umedfeat.terminal.bar import Bar

__all__ = ["Aggregated", "aggregate"]

log = logging.getLogger("umedfeat")

_NO_SLIDE = "no slide: a slide encoder takes tiles"


class Aggregated(NamedTuple):
    """The file of slide vectors and what was done.

    Attributes:
        out: the feature file. encoder, package: the slide encoder and whose it is. dim: length of a vector.
        made: slides encoded now; ``resumed``: those that the output held already.
        empty: ids of slides without a tile, which have no vector.
        failures: slides that could not be encoded now, and why.
    """

    out: Path
    encoder: str
    package: str
    dim: int
    made: int
    resumed: int
    empty: tuple[str, ...]
    failures: tuple[Failure, ...]

    @property
    def exit_code(self) -> int:
        """1 where slides failed, else 0."""
        return 1 if self.failures else 0


def aggregate(
    features: Path | str,
    out: Path | str,
    encoder: SlideEncoder | str,
    *,
    weights: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    like: Header | None = None,
    progress: bool | None = None,
) -> Aggregated:
    """Make one vector of each slide of a feature file, as ``umedfeat aggregate`` does; one slide in memory at a time.

    Args:
        features: feature file with the tiles of slides. Inputs of other kinds are left out and listed.
        out: feature file to write: one row per slide. An existing one is resumed; what changed among the tiles is made
            again, what is gone there goes.
        encoder: one of ``umedfeat.list_slide_encoders()``, or a SlideEncoder of one's own with a name.
        weights, device, precision: of one that is installed; see ``umedfeat.load_slide_encoder``.
        overwrite: start anew instead of resuming.
        like: settings that the output must have (those of a saved probe).
        progress: None: a bar where somebody watches.

    Raises:
        SetupError: no such slide encoder; the tiles are not what it was made for; no slide in the file.
        OutputError: ``out`` holds other features, or cannot be written.

    Example:
        >>> umedfeat.aggregate("feats.h5", "slides.h5", "my-slide-encoder").made  # doctest: +SKIP
    """
    with FeatureFile(features) as file:
        _refuse_aggregated(file)
        loaded = encoder
        if not isinstance(loaded, SlideEncoder):
            loaded = load_slide_encoder(loaded, weights=weights, device=device, precision=precision)
        _refuse_unexpected(loaded, file)
        header = _header(loaded, file)
        if like is not None:
            refuse_other(like, header, loaded.name)
        with FeatureStore(Path(out), header, dim=loaded.dim, overwrite=overwrite) as store:
            return _made(file, store, loaded, progress)


def _header(encoder: SlideEncoder, file: FeatureFile) -> Header:
    """What the output says of itself; whether tokens stand beside the tiles makes no difference."""
    tiles = file.header.of_features
    made_of = {"encoder": dict(tiles.encoder), "dtype": tiles.dtype}
    settings = {**encoder.described, "tiles": made_of}
    return Header(settings, tiles.policy, key_check=tiles.key_check, shard=file.shard)


def _refuse_aggregated(file: FeatureFile) -> None:
    if file.header.of_tiles is not None:
        message = f"{file.path.name}: holds vectors of slides already, by {file.encoder.get('name', '')}"
        raise SetupError(message, remedy="give the feature file of the tiles")
    if not (file.items["tile_extent"] > 0).any():
        message = f"{file.path.name}: holds no tiles of slides"
        raise SetupError(message, remedy="a slide encoder takes tiles: extract slides, or use the file as it is")


def _refuse_unexpected(encoder: SlideEncoder, file: FeatureFile) -> None:
    """Tiles of another encoder, or at another scale, would give vectors that mean nothing."""
    told = {**file.header.facts, "fingerprint": file.fingerprint}
    wanted = json.loads(json.dumps(dict(encoder.expects)))
    wrong = [f"{key}: {told.get(key)}, not {value}" for key, value in wanted.items() if told.get(key) != value]
    if wrong:
        message = f"{encoder.name} takes other tiles than those of {file.path.name}: {'; '.join(wrong)}"
        raise SetupError(message, remedy="extract the slides as it expects them (`umedfeat info` tells how they were)")


def _made(file: FeatureFile, store: FeatureStore, encoder: SlideEncoder, progress: bool | None) -> Aggregated:
    done = store.resume_from(file)
    _carry_over(file, store)
    outcome: Counter[str] = Counter()
    empty, failures = [], []
    with Bar(encoder.name, len(file), unit="slide", shown=progress) as bar:
        for number, source in enumerate(_sources(file)):
            if not file.items["tile_extent"][number] > 0:
                store.skip(Skipped(source.name, _NO_SLIDE))
            elif source.id in done:
                store.describe(source)
                outcome["resumed"] += bool(file.items["count"][number])
            elif failure := _add(file, number, source, store, encoder):
                store.fail(failure)
                failures.append(failure)
                log.warning("%s", failure.message)
            elif file.items["count"][number]:
                outcome["made"] += 1
            if not file.items["count"][number]:
                empty.append(source.id)
            bar.update(1)
    account = {"aggregated": outcome["made"], "resumed": outcome["resumed"], "failed": len(failures)}
    out = store.finish({"tiles": file.path.name, **account})
    made = (outcome["made"], outcome["resumed"])
    return Aggregated(out, encoder.name, encoder.package, encoder.dim, *made, tuple(empty), tuple(failures))


def _carry_over(file: FeatureFile, store: FeatureStore) -> None:
    """What could not be embedded is missing here too."""
    for told in zip(*(file.failures[name] for name in ("source", "stage", "error", "message", "remedy")), strict=True):
        store.fail(Failure(*map(str, told)))
    for source, reason in zip(file.skipped["source"], file.skipped["reason"], strict=True):
        store.skip(Skipped(str(source), str(reason)))


def _sources(file: FeatureFile) -> Iterator[Source]:
    """The inputs as the store takes them; of their files nothing but the name is known."""
    columns = ("id", "format", "source", "patient", "study", "series", "accession", "modality")
    for number, told in enumerate(zip(*(map(str, file.items[name]) for name in columns), strict=True)):
        name, kind, source, patient, study, series, accession, modality = told
        meta = {column: str(values[number]) for column, values in file.meta.items() if values[number] != ""}
        files = (Path(source),)
        yield Source(name, kind, *files, files, source, patient, study, series, accession, modality, meta=meta)


def _add(file: FeatureFile, number: int, source: Source, store: FeatureStore, encoder: SlideEncoder) -> Failure | None:
    """Encode a slide and hand it to the store; what the package raises costs this slide alone.

    Raises:
        SetupError: the encoder does not give what it says, or the output cannot be written.
    """
    vectors = np.empty((0, encoder.dim), dtype=np.float32)
    if file.items["count"][number]:
        try:
            vectors = encoder(_tiles_of(file, number))[None]
        except SetupError:
            raise
        except Exception as error:  # noqa: BLE001 - code of another package, isolated per slide
            return _failure(source, encoder, error)
    store.add(Item(source, _plan(file, number, len(vectors)), vectors))
    return None


def _failure(source: Source, encoder: SlideEncoder, error: Exception) -> Failure:
    if isinstance(error, InputError):
        return Failure(source.name, "encode", type(error).__name__, f"{source.name}: {error.message}", error.remedy)
    first_line = next(iter(str(error).splitlines()), "")[:200]
    message = f"{source.name}: {encoder.name} ({encoder.package}): {type(error).__name__}: {first_line}"
    return Failure(
        source.name, "encode", "SlideEncoderFailed", message, "try --device cpu, or ask that package's authors"
    )


def _tiles_of(file: FeatureFile, number: int) -> SlideTiles:
    sides = file.items["mpp_x"][number], file.items["mpp_y"][number]
    features = np.asarray(file.features(number), dtype=np.float32)
    return SlideTiles(features, file.coords(number), float(file.items["tile_extent"][number]), float(np.mean(sides)))


def _plan(file: FeatureFile, number: int, rows: int) -> Plan:
    """One region, the whole slide, with all that is known of the slide; how many tiles it had stands in the detail."""
    told = {name: values[number] for name, values in file.items.items()}
    regions = make_regions(0, 0, 0, _mean_tissue(file, number))[:rows]
    mpp = (float(told["mpp_x"]), float(told["mpp_y"]))
    return Plan(
        regions=regions,
        shape=(0, 0),
        dtype="float32",
        format=str(told["format"]),
        modality=str(told["modality"]),
        width=int(told["width"]),
        height=int(told["height"]),
        depth=int(told["depth"]),
        mpp=None if np.isnan(mpp).any() else mpp,
        mpp_source=str(told["mpp_source"]),
        spacing=str(told["spacing"]),
        detail={**file.detail(number), "tiles": int(told["count"]), "tiles_dropped": int(told["n_dropped"])},
        content_sha256=str(told["content_sha256"]),
        files_sha256=str(told["files_sha256"]),
        files_stat=str(told["files_stat"]),
    )


def _mean_tissue(file: FeatureFile, number: int) -> float:
    tissue = file.tiles("tissue", number)
    return float(np.mean(tissue)) if len(tissue) else 1.0
