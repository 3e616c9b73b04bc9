"""Feature files that somebody tampered with: every one must be refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from store_cases import item, write

#: Lies in the file that hostile ones point to; must never be printed, exported or merged.
SECRET = b"root:x:0:0:SECRET-OF-THE-SYSTEM:/root:/bin/sh\n" * 40

Change = Callable[[h5py.File, Path], None]


def sound(folder: Path) -> Path:
    """A sound file with rows, an empty item, dropped regions, failures and a manifest column."""
    items = [item("a", 3, dropped=1, label="x"), item("b", 0, label="y"), item("c", 40, label="x")]
    return write(folder / "sound.h5", items, failures=["broken.svs"], skipped=["notes.txt"])


def tampered(folder: Path, name: str) -> Path:
    """A copy of the sound file (``sound``) in a folder, after one of ``CHANGES``."""
    secret = folder / "secret.txt"
    secret.write_bytes(SECRET)
    with h5py.File(folder / "foreign.h5", "w") as file:
        file["features"] = np.frombuffer(SECRET, "<f4", 43 * 4).reshape(43, 4)
        file["text"] = np.array([SECRET[:40]] * 3, dtype=h5py.string_dtype("utf-8", 40))
    path = folder / "hostile.h5"
    path.write_bytes((folder / "sound.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        CHANGES[name](file, folder)
    return path


def _replace(name: str, make: Callable[[h5py.File, Path], object]) -> Change:
    def change(file: h5py.File, folder: Path) -> None:
        made = make(file, folder)
        if name in file:
            del file[name]
        file[name] = made

    return change


def _external_storage(name: str, shape: tuple[int, ...], dtype: object) -> Change:
    def change(file: h5py.File, folder: Path) -> None:
        if name in file:
            del file[name]
        secret = [(str(folder / "secret.txt"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset(name, shape, dtype, external=secret)

    return change


def _virtual(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((43, 4), "<f4")
    layout[:] = h5py.VirtualSource(str(folder / "foreign.h5"), "features", (43, 4))
    del file["features"]
    file.create_virtual_dataset("features", layout)


def _stored(name: str, shape: tuple[int, ...], dtype: object, **options: object) -> Change:
    """A dataset of that shape of which nothing is written."""

    def change(file: h5py.File, folder: Path) -> None:
        if name in file:
            del file[name]
        file.create_dataset(name, shape, dtype, **options)

    return change


def _foreign_filter(file: h5py.File, folder: Path) -> None:
    del file["features"]
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_chunk((43, 4))
    created.set_filter(h5py.h5z.FILTER_LZF, h5py.h5z.FLAG_OPTIONAL)
    h5py.h5d.create(file.id, b"features", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((43, 4)), created)


def _bomb(file: h5py.File, folder: Path) -> None:
    del file["features"], file["coords"], file["items/count"]
    rows = 200_000_000
    file.create_dataset("features", (rows, 4), "<f4", chunks=(4_000_000, 4), compression="gzip")
    file.create_dataset("coords", (rows, 2), "<i8", chunks=(4_000_000, 2), compression="gzip")
    file["items/count"] = np.array([0, 0, rows])


def _circle(file: h5py.File, folder: Path) -> None:
    file["items/again"] = file["/"]


def _deep(file: h5py.File, folder: Path) -> None:
    file.create_group("/".join(["g"] * 200))


def _crowd(file: h5py.File, folder: Path) -> None:
    group = file.create_group("crowd")
    for number in range(10_001):
        group.id.links.create_hard(str(number).encode(), file.id, b"coords")


def _attribute(name: str, value: object) -> Change:
    def change(file: h5py.File, folder: Path) -> None:
        del file.attrs[name]
        file.attrs[name] = value

    return change


def _value(name: str, place: object, value: object) -> Change:
    def change(file: h5py.File, folder: Path) -> None:
        file[name][place] = value

    return change


def _without(name: str) -> Change:
    def change(file: h5py.File, folder: Path) -> None:
        del file[name]

    return change


def _named_type(file: h5py.File, folder: Path) -> None:
    file["kind"] = np.dtype("<f4")


_COLUMNS = ("id", "source", "patient", "start", "count", "mpp_x", "content_sha256", "rows_sha256", "detail")

CHANGES: dict[str, Change] = {
    "external link to rows": _replace("features", lambda f, d: h5py.ExternalLink(str(d / "foreign.h5"), "/features")),
    "external link to texts": _replace(
        "items/meta/label", lambda f, d: h5py.ExternalLink(str(d / "foreign.h5"), "/text")
    ),
    "external link in passing": _replace("extra", lambda f, d: h5py.ExternalLink(str(d / "foreign.h5"), "/text")),
    "external link to nowhere": _replace("items/meta/x", lambda f, d: h5py.ExternalLink("/nowhere.h5", "/")),
    "soft link": _replace("tiles/slice", lambda f, d: h5py.SoftLink("/tiles/item")),
    "soft link to nowhere": _replace("items/meta/x", lambda f, d: h5py.SoftLink("/nowhere")),
    "soft link to itself": _replace("items/meta/x", lambda f, d: h5py.SoftLink("/items/meta/x")),
    "external storage of rows": _external_storage("features", (43, 4), "<f4"),
    "external storage of texts": _external_storage("items/meta/secret", (3,), h5py.string_dtype("utf-8", 400)),
    "external storage of failures": _external_storage("failures/message", (1,), h5py.string_dtype("utf-8", 900)),
    "external storage in passing": _external_storage("extra", (10,), "<f4"),
    "virtual dataset": _virtual,
    "foreign filter": _foreign_filter,
    "compressed bomb": _bomb,
    "claims rows without end": _stored("features", (1 << 40, 4), "<f4", chunks=(65536, 4)),
    "claims items without end": _stored("items/id", (1 << 40,), h5py.string_dtype("utf-8", 8), chunks=(65536,)),
    "claims a long text": _stored("items/meta/label", (3,), h5py.string_dtype("utf-8", 1 << 30), chunks=(1,)),
    "circle of groups": _circle,
    "deep groups": _deep,
    "crowd of objects": _crowd,
    "named type": _named_type,
    "group for a dataset": _replace("coords", lambda f, d: f.create_group("other")),
    "dataset for a group": _replace("items/meta", lambda f, d: np.zeros(3)),
    "scalar rows": _replace("features", lambda f, d: np.float32(3)),
    "rows of another rank": _replace("features", lambda f, d: np.zeros(172, "<f4")),
    "empty rows": _replace("features", lambda f, d: h5py.Empty("<f4")),
    "whole numbers for features": _replace("features", lambda f, d: np.zeros((43, 4), "<i4")),
    "big endian": _replace("features", lambda f, d: np.zeros((43, 4), ">f4")),
    "texts for coordinates": _replace("coords", lambda f, d: np.full((43, 2), b"x")),
    "texts of any length": _replace("items/id", lambda f, d: np.array(["a", "b", "c"], dtype=object)),
    "numbers for texts": _replace("items/meta/label", lambda f, d: np.full(3, np.nan)),
    "references": _replace("items/meta/label", lambda f, d: np.array([f.ref] * 3, dtype=h5py.ref_dtype)),
    "compound": _replace("items/count", lambda f, d: np.zeros(3, dtype=[("a", "<i8"), ("b", "<i8")])),
    "fewer coordinates": _replace("coords", lambda f, d: np.zeros((42, 2), "<i8")),
    "more manifest values": _replace(
        "items/meta/label", lambda f, d: np.array([b"x"] * 9, dtype=h5py.string_dtype("utf-8", 1))
    ),
    "negative count": _value("items/count", 0, -3),
    "huge count": _value("items/count", 2, 1 << 62),
    "counts that overflow": _value("items/count", slice(None), [1 << 62, 1 << 62, 43 - (1 << 63)]),
    "negative start": _value("items/start", 2, -5),
    "huge start": _value("items/start", 2, 1 << 62),
    "two items of one id": _value("items/id", 1, b"a"),
    "unsorted ids": _value("items/id", 0, b"z"),
    "infinite scale": _value("items/mpp_x", 0, np.inf),
    "negative scale": _value("items/mpp_y", 0, -0.25),
    "extent that is no number": _value("items/tile_extent", 0, np.nan),
    "negative width": _value("items/width", 0, -1),
    "dim of another sign": _attribute("dim", -4),
    "huge dim": _attribute("dim", 1 << 62),
    "dim of another size": _attribute("dim", 5),
    "dim as text": _attribute("dim", "four"),
    "dim as a list": _attribute("dim", [4, 4]),
    "dim without value": _attribute("dim", h5py.Empty("<i8")),
    "dtype of objects": _attribute("dtype", "object"),
    "dtype as a number": _attribute("dtype", 32),
    "schema as text": _attribute("schema", "two"),
    "schema without end": _attribute("schema", np.uint64(1 << 63)),
    "schema below zero": _attribute("schema", -1),
    "complete as text": _attribute("complete", "yes"),
    "settings that are none": _attribute("encoder", "no JSON"),
    "settings as a list": _attribute("preprocessing", "[1, 2]"),
    "settings without end": _attribute("encoder", "[" * 60_000),
    "settings nested": _attribute("preprocessing", '{"a":' * 9_000 + "1" + "}" * 9_000),
    "settings with NaN": _attribute("encoder", '{"name": NaN}'),
    "settings as bytes": _attribute("encoder", np.void(b"\xff\xfe")),
    "fingerprint as a number": _attribute("fingerprint", 7),
    "key check as a list": _attribute("key_check", ["a", "b"]),
    **{f"no items/{name}": _without(f"items/{name}") for name in _COLUMNS},
    **{f"no {name}": _without(name) for name in ("features", "coords", "tiles", "items", "dropped", "failures")},
    "no meta": _without("items/meta"),
    "no embedding": _without("items/embedding"),
    "no fingerprint": lambda file, folder: file.attrs.__delitem__("fingerprint"),
    "no dim": lambda file, folder: file.attrs.__delitem__("dim"),
}

#: What only a reader of that very value finds (and ``verify``).
LATER: dict[str, Change] = {
    "dropped of no item": _value("dropped/item", 0, 17),
    "dropped before the first": _value("dropped/item", 0, -1),
    "rows of another item": _value("tiles/item", 1, 1 << 30),
    "rows that were changed": _value("features", (5, 1), 9.0),
    "coordinates that were changed": _value("coords", (5, 1), 9),
    "texts that are no UTF-8": _value("items/meta/label", 0, b"\xff"),
    "details that are none": _value("items/detail", 0, b"[[["),
    "details of another kind": _value("items/detail", 0, b"[1, 2]"),
    "settings of strange kinds": _attribute("preprocessing", json.dumps({"slide": [1], "image": 3, "intensity": "x"})),
    "settings of other kinds": _attribute("preprocessing", json.dumps({"slide": {"min_tissue": "x", "mpp": {}}})),
}
CHANGES |= LATER
