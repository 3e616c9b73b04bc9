"""The layout of a feature file, in one place: names, types, chunking. See ``FeatureFile`` for how to read one."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

__all__ = [
    "DROPPED_COLUMNS",
    "FAILURE_COLUMNS",
    "ITEM_COLUMNS",
    "NEWER_COLUMNS",
    "OLDEST_SCHEMA",
    "SCHEMA",
    "SKIPPED_COLUMNS",
    "TILE_COLUMNS",
    "TOKENS_SCHEMA",
    "TOKEN_COLUMNS",
    "Grid",
    "Header",
    "chunk_rows",
    "grid_in",
]

#: Version of the layout. Readers refuse newer ones; what older ones lack is told as unknown.
#: 2: ``key_check``, /items/files_sha256 and /items/files_stat.
SCHEMA = 3
OLDEST_SCHEMA = 1
#: Of files with /tokens, which older versions would merge without them; files without tokens stay readable there.
TOKENS_SCHEMA = 4
#: Version of what the numbers mean: part of the fingerprint, so that a new layout does not part comparable features.
_MEANING = 1

#: /items/<column>: "str" or a numpy type. ``content_sha256``, ``files_sha256`` and ``files_stat``: see
#: ``umedfeat.naming.Identity``; ``rows_sha256`` is of the item's features, coords and slices.
ITEM_COLUMNS: dict[str, str] = {
    "id": "str",
    "source": "str",
    "format": "str",
    "modality": "str",
    "patient": "str",
    "study": "str",
    "series": "str",
    "accession": "str",
    "start": "<i8",
    "count": "<i8",
    "width": "<i8",
    "height": "<i8",
    "depth": "<i8",
    "mpp_x": "<f8",
    "mpp_y": "<f8",
    "mpp_source": "str",
    "spacing": "str",
    "tile_extent": "<f8",
    "n_dropped": "<i8",
    "content_sha256": "str",
    "files_sha256": "str",
    "files_stat": "str",
    "rows_sha256": "str",
    "detail": "str",
}

#: Datasets that older files lack → the schema that brought them.
NEWER_COLUMNS = {"items/files_sha256": 2, "items/files_stat": 2, "items/series": 3, "items/accession": 3}

#: /items/<column> of files with /tokens: checksum of the item's tokens (``rows.RowsDigest`` of one column).
TOKEN_COLUMNS: dict[str, str] = {"tokens_sha256": "str"}

#: /tiles/<column>: one value per row of /features.
TILE_COLUMNS: dict[str, str] = {"item": "<i4", "slice": "<i4", "tissue": "<f4", "position": "<f4"}

DROPPED_COLUMNS: dict[str, str] = {"item": "<i8", "x": "<i8", "y": "<i8", "slice": "<i8", "reason": "str"}
FAILURE_COLUMNS: dict[str, str] = {"source": "str", "stage": "str", "error": "str", "message": "str", "remedy": "str"}
SKIPPED_COLUMNS: dict[str, str] = {"source": "str", "reason": "str"}

_CHUNK_BYTES = 1 << 20
_MOST_TOKENS = 1 << 30  # values of one region's grid

#: (rows, columns, C) of the tokens of one region.
Grid = tuple[int, int, int]


def chunk_rows(dim: int, dtype: str) -> int:
    """Rows per chunk of /features (or of /tokens, whose rows have ``dim`` values): about 1 MiB."""
    return max(1, _CHUNK_BYTES // max(1, dim * np.dtype(dtype).itemsize))


def grid_in(encoder: Mapping[str, Any]) -> Grid | None:
    """The grid of tokens that an encoder's settings tell of, or None.

    Raises:
        ValueError: they tell of none that can be.
    """
    told = encoder.get("tokens")
    if told is None:
        return None
    legal = isinstance(told, (list, tuple)) and len(told) == 3 and all(type(side) is int and side > 0 for side in told)
    if not legal or math.prod(told) > _MOST_TOKENS:
        raise ValueError(f"no grid of tokens: {str(told)[:40]}")
    return told[0], told[1], told[2]


@dataclass(frozen=True)
class Header:
    """What makes features comparable: the encoder and how the pixels were read.

    Attributes:
        encoder: ``Encoder.settings`` (name, weights sha256, precision …).
        policy: ``Policy.to_dict()``.
        dtype: "float32" or "float16".
        key_check: of the key of the patients' pseudonyms (``Pseudonyms.key_check``); not part of the fingerprint.
        shard: ``Shard.text`` of a part of a run, "" for a whole one; not part of the fingerprint either.
    """

    encoder: Mapping[str, Any]
    policy: Mapping[str, Any]
    dtype: str = "float32"
    key_check: str = ""
    shard: str = ""

    @property
    def grid(self) -> Grid | None:
        """Of the tokens that stand beside the features; None: there are none."""
        return grid_in(self.encoder)

    @property
    def of_features(self) -> Header:
        """The same without tokens: what decides the features themselves."""
        return replace(self, encoder={key: value for key, value in self.encoder.items() if key != "tokens"})

    @property
    def of_tiles(self) -> Header | None:
        """Of the tiles that a slide encoder made the features of; None: the encoder saw the pixels itself."""
        told = self.encoder.get("tiles")
        if not isinstance(told, Mapping) or not isinstance(told.get("encoder"), Mapping):
            return None
        return Header(told["encoder"], self.policy, str(told.get("dtype", "float32")), self.key_check)

    @property
    def weights(self) -> str:
        """SHA-256 of the encoder's weights, "" where none is told; of a slide encoder with the package that it is from,
        and with the encoder of its tiles and its weights."""
        own, tiles = str(self.encoder.get("weights_sha256", "")), self.of_tiles
        if tiles is None:
            return own
        of_tiles = f"tiles by {tiles.encoder.get('name', '')}, weights SHA-256 {tiles.weights or 'unknown'}"
        return f"{own or 'unknown'}, {self.encoder.get('package', '')}; {of_tiles}"

    @property
    def facts(self) -> dict[str, Any]:
        """Every setting under its dotted name, as ``differences`` calls them: "policy.slide.mpp" → 0.5."""
        return _flat(json.loads(self.to_json()))

    @property
    def fingerprint(self) -> str:
        """Features with the same fingerprint can stand in one file."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON of everything in the fingerprint."""
        settings = {"schema": _MEANING, "encoder": self.encoder, "policy": self.policy, "dtype": self.dtype}
        return json.dumps(settings, sort_keys=True, separators=(",", ":"), default=str)

    @classmethod
    def from_json(cls, text: str) -> Header:
        """Inverse of ``to_json``."""
        settings = json.loads(text)
        return cls(settings["encoder"], settings["policy"], settings["dtype"])

    def differences(self, other: Header) -> list[str]:
        """What differs, one line each: "policy.slide.mpp: 0.5 → 1.0"."""
        before, after = self.facts, other.facts
        keys = sorted(before.keys() | after.keys())
        return [f"{key}: {before.get(key)} → {after.get(key)}" for key in keys if before.get(key) != after.get(key)]


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
