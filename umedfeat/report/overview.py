"""What is in a cohort, before anybody asks it anything: kinds, scales, tissue, copies, items far from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Bools, Floats, Floats32, Ints, Texts
from umedfeat.errors import SetupError
from umedfeat.fewshot.cohort.twins import find_twins
from umedfeat.fewshot.settings import SITE_COLUMNS
from umedfeat.prediction.outliers import FEWEST, far_out, loneliness
from umedfeat.report.numbers import plain
from umedfeat.store import FeatureFile

__all__ = ["Kind", "Outlier", "Overview", "Pair", "overview_of"]

#: A column with more different values than this is no group to colour by, unless it is asked for.
_MOST_GROUPS = 12
_MAPS = 4


@dataclass(frozen=True)
class Kind:
    """Items of one modality and format (of slides the scanner's). ``mpp``, ``size``: (least, median, largest) of
    micrometres per pixel and of the longer side in pixels; NaN where unknown."""

    modality: str
    format: str
    items: int
    regions: int
    patients: int
    size: tuple[float, float, float]
    mpp: tuple[float, float, float]
    depth: tuple[float, float, float]


@dataclass(frozen=True)
class Pair:
    """Two items that are one image; ``how``: "identical" or "nearly identical". ``apart``: of different patients."""

    first: str
    second: str
    how: str
    apart: bool


@dataclass(frozen=True)
class Outlier:
    """An item far from the others of its modality; ``times``: its distance over their median."""

    item: str
    modality: str
    times: float


@dataclass(frozen=True)
class Overview:
    """The facts of a cohort.

    Attributes:
        file, encoder: names. items, regions, patients: how many; patients are 0 where none are known.
        embedding: (I, D) of the items with regions. ids: (I,) theirs.
        kinds: most items first.
        columns: name → (I,) groups by which maps are coloured.
        described: (column, values with counts in words) of every column of the manifest.
        tissue: (T,) share of tissue of each tile. per_item: (I,) regions of each item.
        empty: ids of items without a region. failures: (source, message, remedy). skipped: reason → files.
        flagged_scale: items whose scale was given by hand. unknown_patients: items without patient.
        pairs: copies. outliers: farthest first. judged: items in modalities that are large enough to tell.
    """

    file: str
    encoder: str
    items: int
    regions: int
    patients: int
    embedding: Floats32
    ids: Texts
    kinds: tuple[Kind, ...]
    columns: dict[str, Texts]
    described: tuple[tuple[str, str], ...]
    tissue: Floats
    per_item: Ints
    empty: tuple[str, ...]
    failures: tuple[tuple[str, str, str], ...]
    skipped: dict[str, int]
    flagged_scale: int
    unknown_patients: int
    pairs: tuple[Pair, ...]
    outliers: tuple[Outlier, ...]
    judged: int


def overview_of(path: Path, by: Sequence[str] = ()) -> Overview:
    """Look through a feature file; reads its tables and means, not its features.

    Args:
        by: columns that colour the maps; () takes the modality, centres and what looks like a label.

    Raises:
        SetupError: no such file or column, or no item has a region.
    """
    with FeatureFile(path) as file:
        items = file.items
        kept = np.flatnonzero(items["count"] > 0)
        if not len(kept):
            raise SetupError(f"{path.name}: no item has a region", remedy="umedfeat info tells what happened")
        patients = np.asarray(items["patient"], np.str_)[kept]
        modality = np.asarray(items["modality"], np.str_)[kept]
        ids = np.asarray(items["id"], np.str_)[kept]
        rows = file.embeddings[kept]
        distances, judged = _within(rows, patients, modality)
        return Overview(
            file=path.name,
            encoder=str(file.encoder.get("name", "")),
            items=len(file),
            regions=file.n_rows,
            patients=len(set(patients.tolist()) - {""}),
            embedding=rows,
            ids=ids,
            kinds=_kinds(file, kept),
            columns={name: _grouped(file, name)[kept] for name in by or _usual(file)},
            described=tuple((name, _in_words(values)) for name, values in file.meta.items()),
            tissue=_tissue(file),
            per_item=np.asarray(items["count"][kept], np.intp),
            empty=tuple(np.asarray(items["id"], np.str_)[items["count"] == 0].tolist()),
            failures=_failures(file),
            skipped=_counted(file.skipped["reason"]),
            flagged_scale=int((items["mpp_source"] == "flag").sum()),
            unknown_patients=int((patients == "").sum()),
            pairs=_pairs(rows, np.asarray(items["content_sha256"], np.str_)[kept], ids, patients),
            outliers=_outliers(distances, ids, modality),
            judged=int(judged.sum()),
        )


# ---- kinds --------------------------------------------------------------------------------------------------------


def _kinds(file: FeatureFile, kept: Ints) -> tuple[Kind, ...]:
    items = file.items
    found = []
    pairs = {(str(items["modality"][k]), str(items["format"][k])) for k in kept}
    for modality, form in pairs:
        there = kept[(items["modality"][kept] == modality) & (items["format"][kept] == form)]
        found.append(
            Kind(
                modality,
                form,
                len(there),
                int(items["count"][there].sum()),
                len(set(items["patient"][there].tolist()) - {""}),
                _range(np.maximum(items["width"], items["height"])[there]),
                _range(items["mpp_x"][there]),
                _range(items["depth"][there]),
            )
        )
    return tuple(sorted(found, key=lambda kind: (-kind.items, kind.modality, kind.format)))


def _range(values: npt.NDArray[np.generic]) -> tuple[float, float, float]:
    known = values.astype(np.float64)[np.isfinite(values.astype(np.float64))]
    return (float(known.min()), float(np.median(known)), float(known.max())) if len(known) else (np.nan,) * 3


def _tissue(file: FeatureFile) -> Floats:
    """Of tiles alone: whole images have no mask."""
    tiled = np.repeat(file.items["tile_extent"] > 0, file.items["count"])
    return np.asarray(file.tiles("tissue"), np.float64)[tiled]


def _failures(file: FeatureFile) -> tuple[tuple[str, str, str], ...]:
    """Input, what was wrong, remedy; the input is not named twice."""
    told = zip(*(file.failures[column].tolist() for column in ("source", "message", "remedy")), strict=True)
    return tuple((source, message.removeprefix(f"{source}: "), remedy) for source, message, remedy in told)


# ---- columns ------------------------------------------------------------------------------------------------------


def _usual(file: FeatureFile) -> list[str]:
    """Labels first, then centres, then the modality: those with a few different values."""
    sizes = {name: len(set(values.tolist()) - {""}) for name, values in file.meta.items()}
    good = [name for name, size in sizes.items() if 2 <= size <= _MOST_GROUPS]
    sites = [name for name in good if name.lower() in SITE_COLUMNS]
    labels = [name for name in good if name not in sites and name.lower() not in {"split", "fold"}]
    several = ["modality"] if len(set(file.items["modality"].tolist())) > 1 else []
    return [*labels[: _MAPS - 2], *sites[:1], *several] or ["modality"]


def _grouped(file: FeatureFile, name: str) -> Texts:
    """A column as groups: text as it is, numbers of many values by their quarters."""
    values = file.labels(name)
    unknown = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=np.bool_)
    texts = np.where(unknown, "", np.asarray([str(value).strip() for value in values], np.str_))
    texts = np.where((texts == "unknown") & (name == "modality"), "", texts)
    if len(set(texts.tolist())) <= _MOST_GROUPS:
        return texts
    try:
        numbers = np.asarray([float(text) if text else np.nan for text in texts])
    except ValueError:
        return texts
    return _quarters(numbers)


def _quarters(numbers: Floats) -> Texts:
    known = np.isfinite(numbers)
    if not known.any():
        return np.full(len(numbers), "", dtype="U1")
    edges = np.quantile(numbers[known], [0, 0.25, 0.5, 0.75, 1])
    names = np.asarray([f"{plain(a, 4)} to {plain(b, 4)}" for a, b in pairwise(edges)], np.str_)
    place = np.searchsorted(edges[1:-1], np.where(known, numbers, edges[0]), side="right")
    return np.where(known, names[place], "")


def _in_words(values: npt.NDArray[np.generic]) -> str:
    counts = _counted(values)
    empty = counts.pop("", 0)
    if len(counts) > _MOST_GROUPS:
        told = f"{len(counts):,} different values"
    else:
        told = ", ".join(f"{value} {count:,}" for value, count in counts.items()) or "nothing"
    return told + (f"; empty {empty:,}" if empty else "")


def _counted(values: npt.NDArray[np.generic]) -> dict[str, int]:
    """Value → how often, the most frequent first."""
    names, counts = np.unique(np.asarray(values, np.str_), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(names[k]): int(counts[k]) for k in order}


# ---- copies and items far from the others ---------------------------------------------------------------------------


def _pairs(rows: Floats32, content: Texts, ids: Texts, patients: Texts) -> tuple[Pair, ...]:
    """Those of different patients first."""
    twins = find_twins(rows, content)
    found = [
        Pair(str(ids[a]), str(ids[b]), how, bool(patients[a] != patients[b]) and "" not in (patients[a], patients[b]))
        for how, pairs in (("identical", twins.identical), ("nearly identical", twins.near))
        for a, b in pairs
    ]
    return tuple(sorted(found, key=lambda pair: not pair.apart))


def _within(rows: Floats32, patients: Texts, modality: Texts) -> tuple[Floats, Bools]:
    """(I,) distance over the median of the item's modality where it is far out, else 0; (I,) which could be judged."""
    times, judged = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.bool_)
    for name in np.unique(modality):
        there = np.flatnonzero(modality == name)
        if len(there) >= FEWEST:
            distances = loneliness(rows[there], patients[there])
            finite = np.isfinite(distances)
            if not finite.any():  # all of one patient: there is no other to be far from
                continue
            far = far_out(distances)
            judged[there] = True
            times[there[far]] = distances[far] / np.median(distances[finite])
    return times, judged


def _outliers(times: Floats, ids: Texts, modality: Texts) -> tuple[Outlier, ...]:
    order = [k for k in np.argsort(-times, kind="stable") if times[k] > 0]
    return tuple(Outlier(str(ids[k]), str(modality[k]), float(times[k])) for k in order)
