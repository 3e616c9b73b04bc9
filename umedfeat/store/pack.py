"""Packing: any number of feature files become one, sorted by id, streaming, byte-identical in any order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from umedfeat.contract import Failure, Skipped
from umedfeat.errors import OutputError
from umedfeat.store.checksums import compared, compared_tokens
from umedfeat.store.file_writer import Contents, block_rows, move_whole, write_file
from umedfeat.store.gather import FilePool, Pieces, gather
from umedfeat.store.one_key import one_key
from umedfeat.store.read import FeatureFile
from umedfeat.store.rows import ROW_DATASETS, Rows
from umedfeat.store.schema import (
    DROPPED_COLUMNS,
    FAILURE_COLUMNS,
    ITEM_COLUMNS,
    SKIPPED_COLUMNS,
    TOKEN_COLUMNS,
    Grid,
    Header,
)
from umedfeat.store.segment import table_of
from umedfeat.store.table import Table, concatenate, text_array
from umedfeat.store.tokens import Tokens, tokens_at_once

__all__ = ["Described", "Today", "identical", "newest", "pack"]


@dataclass(frozen=True)
class _Part:
    """All of a feature file but its rows."""

    name: str
    key_check: str
    shard: str
    items: Table
    meta: Mapping[str, npt.NDArray[Any]]
    dropped: Table
    failures: Table
    skipped: Table

    def __len__(self) -> int:
        return len(self.items["id"])


class Described(NamedTuple):
    """What is known today of an item that is done: columns of /items and /items/meta; "" leaves what is stored."""

    columns: dict[str, str]
    meta: Mapping[str, str]


@dataclass(frozen=True)
class Today:
    """What the present run knows besides the files.

    Attributes:
        failures, skipped: of this run; those in the files are kept too, unless their input was embedded since.
        described: id → what replaces stored columns.
        left_out: ids of items that are worth nothing any more.
        fresh: forget what the files tell of failures and skipped files.
    """

    failures: Sequence[Failure] = ()
    skipped: Sequence[Skipped] = ()
    described: Mapping[str, Described] = field(default_factory=dict)
    left_out: Collection[str] = ()
    fresh: bool = False


#: (part, item) of an item.
_Place = tuple[int, int]
#: Which of two places of the same id counts.
Choice = Callable[[Sequence[_Part], _Place, _Place], _Place]


def pack(
    paths: Sequence[Path],
    out: Path,
    header: Header,
    dim: int,
    *,
    choose: Choice,
    today: Today = Today(),
    on_rows: Callable[[int], None] | None = None,
    own: bool = False,
) -> None:
    """Write all items of ``paths`` into ``out``, sorted by id.

    The pseudonyms of all of them are of one key, which goes into ``out``.

    The result depends on the items, failures and skipped files alone: not on how they were split over files, nor on the
    order of the files. ``out`` may be one of ``paths``.

    Args:
        choose: ``identical`` or ``newest``: what happens to an id that stands in several files.
        today: what the present run knows besides the files.
        on_rows: told the number of rows after every block (for a progress bar).
        own: the files are the run's own: a single one that is the result already is moved, or left where it is, instead
            of being copied. The rows of files that others may have changed are compared with their checksums.

    Raises:
        OutputError: settings or keys differ, an id stands twice with different features, a file is damaged, the disk is
            full.
    """
    parts = [_read_part(path, header) for path in paths]
    key = one_key([(part.name, part.key_check) for part in parts] + [(f"this run for {out.name}", header.key_check)])
    header = replace(header, key_check=key)
    places = [place for place in _places(parts, choose) if _id(parts, place) not in today.left_out]
    file = np.array([f for f, _ in places], dtype=np.int64)
    item = np.array([k for _, k in places], dtype=np.int64)
    size = block_rows(dim, header.dtype)
    with FilePool(paths) as pool:
        contents = _contents(parts, places, today, header.grid)
        _describe(contents, today.described)
        if own and len(parts) == 1 and parts[0].shard == header.shard and _holds(parts[0], contents):
            move_whole(paths[0], out)
            return
        means = gather(pool, Pieces(file, item, np.ones_like(item)), ["items/embedding"], block_rows(dim, "<f4"))
        contents = replace(contents, embedding=(block for (block,) in means))
        starts = np.array([parts[f].items["start"][k] for f, k in places], dtype=np.int64)
        pieces = Pieces(file, starts, contents.items["count"].astype(np.int64))
        names = [name for name, _ in ROW_DATASETS.values()]
        rows = _told(gather(pool, pieces, names, size), on_rows)
        with FilePool(paths) as other:  # tokens are read with their own files: one thread may still hash rows
            contents = replace(contents, tokens=_tokens(other, pieces, header, contents.items, own))
            write_file(out, header, dim, contents, rows if own else compared(rows, contents.items))


def _tokens(pool: FilePool, pieces: Pieces, header: Header, items: Table, own: bool) -> Tokens | None:
    """The tokens of all pieces, where the files hold some."""
    if header.grid is None:
        return None
    found = gather(pool, pieces, ["tokens"], tokens_at_once(header.grid, header.dtype))
    blocks = (block for (block,) in found)
    return Tokens(header.grid, blocks if own else compared_tokens(blocks, items))


def _holds(part: _Part, contents: Contents) -> bool:
    """Is a file what would be written?"""
    tables = ("items", "meta", "dropped", "failures", "skipped")
    return all(_same(getattr(part, name), getattr(contents, name)) for name in tables)


def _same(one: Mapping[str, npt.NDArray[Any]], other: Mapping[str, npt.NDArray[Any]]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name], equal_nan=one[name].dtype.kind == "f") for name in one
    )


def _told(blocks: Iterator[list[npt.NDArray[Any]]], on_rows: Callable[[int], None] | None) -> Iterator[Rows]:
    for arrays in blocks:
        yield Rows(*arrays)
        if on_rows is not None:
            on_rows(len(arrays[0]))


def _read_part(path: Path, header: Header) -> _Part:
    with FeatureFile(path) as file:
        if file.fingerprint != header.fingerprint:
            differences = "; ".join(header.differences(file.header)[:5]) or "the fingerprint"
            raise OutputError(
                f"{path.name}: written with other settings: {differences}",
                remedy="extract it again with the same settings, or keep the files apart",
            )
        items = file.items | file.token_checksums
        return _Part(path.name, file.key_check, file.shard, items, file.meta, file.dropped, file.failures, file.skipped)


# ---- which items --------------------------------------------------------------------------------------------------


def _places(parts: Sequence[_Part], choose: Choice) -> list[_Place]:
    best: dict[str, _Place] = {}
    for number, part in enumerate(parts):
        for item, name in enumerate(part.items["id"]):
            place = (number, item)
            best[name] = choose(parts, best[name], place) if name in best else place
    return [best[name] for name in sorted(best)]


def _id(parts: Sequence[_Part], place: _Place) -> str:
    return str(parts[place[0]].items["id"][place[1]])


def newest(parts: Sequence[_Part], first: _Place, second: _Place) -> _Place:
    """The later file counts: an input that was embedded again replaces what it was."""
    return second


def identical(parts: Sequence[_Part], first: _Place, second: _Place) -> _Place:
    """Both are the same; anything else is refused. When the files were touched last is no difference: the lesser
    mark of it counts, whatever the order.

    Raises:
        OutputError: they differ in their features or in a column.
    """
    one, other = _described(parts, first), _described(parts, second)
    stats = one.pop("files_stat"), other.pop("files_stat")
    if one == other:
        return first if stats[0] <= stats[1] else second
    column = next(name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name))
    what = "different features" if column == "rows_sha256" else f"a different {column}"
    names = f"{parts[first[0]].name} and {parts[second[0]].name}"
    raise OutputError(
        f"item {one['id']!r} stands in {names} with {what}",
        remedy="the input changed between the runs, or two inputs share an id: keep one of the files",
    )


def _described(parts: Sequence[_Part], place: _Place) -> dict[str, str]:
    part, item = parts[place[0]], place[1]
    columns = {name: str(values[item]) for name, values in part.items.items() if name != "start"}
    return columns | {f"meta/{name}": str(values[item]) for name, values in part.meta.items() if values[item]}


# ---- tables -------------------------------------------------------------------------------------------------------


def _contents(parts: Sequence[_Part], places: Sequence[_Place], today: Today, grid: Grid | None) -> Contents:
    earlier = [] if today.fresh else parts
    offsets = np.cumsum([0, *(len(part) for part in parts)])
    order = np.array([offsets[number] + item for number, item in places], dtype=np.int64)
    columns = ITEM_COLUMNS if grid is None else ITEM_COLUMNS | TOKEN_COLUMNS
    items = {name: values[order] for name, values in concatenate([p.items for p in parts], columns).items()}
    names = sorted({name for part in parts for name in part.meta})
    meta = {name: np.concatenate([_meta(part, name) for part in parts])[order] for name in names}
    return Contents(
        items=items,
        embedding=iter(()),
        meta=meta,
        dropped=_dropped(parts, places),
        failures=_failures(earlier, today.failures, set(items["source"])),
        skipped=_skipped(earlier, today.skipped),
    )


def _meta(part: _Part, name: str) -> npt.NDArray[Any]:
    return part.meta[name] if name in part.meta else text_array([""] * len(part))


def _describe(contents: Contents, described: Mapping[str, Described]) -> None:
    """Lay what a manifest says today over what it said when the features were made; what it does not mention stays."""
    for number, name in enumerate(contents.items["id"]):
        today = described.get(name)
        if today is None:
            continue
        for column, value in today.columns.items():
            contents.items[column][number] = value or contents.items[column][number]
        for column, value in today.meta.items():
            values = contents.meta.setdefault(column, text_array([""] * len(contents.items["id"])))
            values[number] = str(value)


def _dropped(parts: Sequence[_Part], places: Sequence[_Place]) -> Table:
    """Dropped regions in item order; within an item they keep their order."""
    numbers = {place: number for number, place in enumerate(places)}
    tables: list[Table] = []
    for p, part in enumerate(parts):
        new = np.array([numbers.get((p, int(item)), -1) for item in part.dropped["item"]], dtype=np.int64)
        kept = new >= 0
        tables.append({name: values[kept] for name, values in (part.dropped | {"item": new}).items()})
    table = concatenate(tables, DROPPED_COLUMNS)
    order = np.argsort(table["item"], kind="stable")
    return {name: values[order] for name, values in table.items()}


def _failures(parts: Sequence[_Part], new: Sequence[Failure], embedded: set[str]) -> Table:
    """Those of earlier runs go when their input is embedded; those of the present run are told in any case."""
    rows: dict[str, dict[str, Any]] = {}
    for part in parts:
        for k in range(len(part.failures["source"])):
            row = {name: values[k] for name, values in part.failures.items()}
            held = rows.get(row["source"])
            if held is None or tuple(row.values()) < tuple(held.values()):  # order-free when files disagree
                rows[row["source"]] = row
    rows = {source: row for source, row in rows.items() if source not in embedded}
    for failure in new:
        rows[failure.source] = {name: getattr(failure, name) for name in FAILURE_COLUMNS}
    return table_of([rows[source] for source in sorted(rows)], FAILURE_COLUMNS)


def _skipped(parts: Sequence[_Part], new: Sequence[Skipped]) -> Table:
    rows = {(s, r) for part in parts for s, r in zip(part.skipped["source"], part.skipped["reason"], strict=True)}
    rows |= {(skip.name, skip.reason) for skip in new}
    return table_of([{"source": source, "reason": reason} for source, reason in sorted(rows)], SKIPPED_COLUMNS)
