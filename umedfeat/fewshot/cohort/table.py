"""What a study needs of a feature file: items with their columns, rows on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats32, Ints, Texts
from umedfeat.errors import CohortError
from umedfeat.store import FeatureFile, Header

__all__ = ["TONES", "FeatureTable", "read_table"]


#: What is known of every file without looking at its pixels, and the column that tells it.
_FACTS = {
    "image width": "width",
    "image height": "height",
    "number of slices": "depth",
    "number of regions": "count",
    "file format": "format",
    "modality": "modality",
}


#: What pictures show without an encoder → name under "tone" of an item's detail.
TONES = {"mean intensity": "mean", "contrast": "contrast"}


@dataclass(frozen=True)
class FeatureTable:
    """The items of one feature file that have rows.

    Attributes:
        path: of the file. encoder: name. fingerprint: of the settings. key_check: of the pseudonyms.
        weights: SHA-256 of the encoder's weights (``Header.weights``). header: encoder and settings in full.
        policy: the settings of those kinds of input that are there, as text ("image: fit pad, size 224").
        number: (I,) their numbers in the file. count: (I,) rows of each.
        ids, sources, patients, content: (I,) text columns; patients are pseudonyms or "".
        identifiers: "patient", "study", "series", "accession" → (I,) pseudonyms or "".
        meta: the manifest's own columns, each (I,), and "modality".
        facts: size and kind of the files, and ``TONES`` where each item is one picture, each (I,) of str.
        empty: number of items without rows (a slide without tissue), left out of everything else.
        failed: number of inputs that could not be embedded.
    """

    path: Path
    encoder: str
    fingerprint: str
    key_check: str
    weights: str
    policy: str
    header: Header
    number: Ints
    count: Ints
    ids: Texts
    sources: Texts
    patients: Texts
    content: Texts
    identifiers: Mapping[str, Texts]
    meta: Mapping[str, Texts]
    facts: Mapping[str, Texts]
    empty: int
    failed: int

    def pooled(self, items: Ints, how: str) -> Floats32:
        """(I, D) one row per item: the stored mean, or "max", or "mean+std" (I, 2 D) of its rows."""
        with FeatureFile(self.path) as file:
            if how == "mean":
                numbers = self.number[items]
                first, last = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, -1)
                return np.asarray(file.read("items/embedding", slice(first, last + 1))[numbers - first], np.float32)
            return np.stack([_pool(file.features(int(n)).astype(np.float32), how) for n in self.number[items]])

    def rows(self, items: Ints) -> tuple[Floats32, Ints]:
        """(N, D) all rows of some items, and the place (N,) of each row's item in ``items``."""
        owner = np.repeat(np.arange(len(items)), self.count[items])
        with FeatureFile(self.path) as file:
            values = np.empty((len(owner), file.dim), dtype=np.float32)
            end = 0
            for item in items:
                begin, end = end, end + int(self.count[item])
                values[begin:end] = file.features(int(self.number[item]))
        return values, owner


def _pool(rows: Floats32, how: str) -> Floats32:
    if how == "max":
        return np.asarray(rows.max(axis=0))
    return np.concatenate([rows.mean(axis=0), rows.std(axis=0)])


def read_table(path: Path) -> FeatureTable:
    """Read the columns of a feature file.

    Raises:
        SetupError: there is no such file, or it is not a feature file.
        CohortError: no item has rows.
    """
    with FeatureFile(path) as file:
        kept = np.flatnonzero(np.asarray(file.items["count"]) > 0)
        if not len(kept):
            raise CohortError(f"{path.name}: it holds no features", remedy="umedfeat info tells what happened")

        def text(column: npt.NDArray[np.generic]) -> Texts:
            return np.asarray([str(value).strip() for value in column], dtype=np.str_)[kept]

        return FeatureTable(
            path=path,
            encoder=str(file.encoder.get("name", "")),
            fingerprint=file.fingerprint,
            key_check=file.key_check,
            weights=file.header.weights,
            policy=_policy_text(file),
            header=file.header,
            number=kept,
            count=np.asarray(file.items["count"])[kept].astype(np.intp),
            ids=text(file.items["id"]),
            sources=text(file.items["source"]),
            patients=text(file.items["patient"]),
            content=text(file.items["content_sha256"]),
            identifiers={kind: text(file.items[kind]) for kind in ("patient", "study", "series", "accession")},
            meta={name: text(values) for name, values in _columns(file).items()},
            facts={name: text(file.items[column]) for name, column in _FACTS.items()} | _tones(file, kept),
            empty=len(file) - len(kept),
            failed=len(file.failures["source"]),
        )


def _columns(file: FeatureFile) -> dict[str, npt.NDArray[np.generic]]:
    """The manifest's own columns, and the modality where it has none of that name."""
    return {**file.meta, "modality": file.meta.get("modality", file.items["modality"])}


def _tones(file: FeatureFile, kept: Ints) -> dict[str, Texts]:
    """Mean and contrast of the pictures, where every item is one."""
    details = [file.detail(number).get("tone") for number in kept.tolist()]
    told = [tone for tone in details if isinstance(tone, dict) and set(TONES.values()) <= set(tone)]
    if len(told) < len(kept):
        return {}
    return {name: np.asarray([str(tone[key]) for tone in told], dtype=np.str_) for name, key in TONES.items()}


def _policy_text(file: FeatureFile) -> str:
    """What of the policy the inputs met: slides are not spoken of where there are none, CT windows not without CT."""
    tiled = (np.asarray(file.items["tile_extent"]) > 0) | (file.header.of_tiles is not None)
    modality = np.asarray(file.items["modality"], dtype=np.str_)
    coloured = np.isin(modality, ["photo", "histology", "WSI"]) | (np.asarray(file.items["format"], np.str_) == "jpeg")
    grey = modality[~coloured & ~tiled]
    met = {
        "slide": tiled.any(),
        "image": not tiled.all(),
        "intensity": len(grey) > 0,
        "volume": (np.asarray(file.items["depth"]) > 1).any(),
        "roi": any(file.policy.get("roi", {}).values()),
    }
    unmet = {"ct_window": "CT" not in grey, "window": bool((grey == "CT").all())}
    parts = []
    for kind in (kind for kind, there in met.items() if there and kind in file.policy):
        said = [(name, value) for name, value in file.policy[kind].items() if value not in (None, "", False)]
        told = [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in said if not unmet.get(name)]
        parts.append(f"{kind}: {', '.join(told)}")
    return "; ".join(parts)


def _plain(value: object) -> str:
    return " to ".join(map(str, value)) if isinstance(value, list | tuple) else str(value).replace("True", "yes")
