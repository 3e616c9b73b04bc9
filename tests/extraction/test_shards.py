"""Parts of a run: complete, disjoint, of nearly equal size, the same everywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umedfeat.contract import Source
from umedfeat.discovery import Discovery
from umedfeat.errors import OutputError, SetupError
from umedfeat.extraction.shards import balanced, portion_of
from umedfeat.store import Shard, refuse_incomplete


def found_in(folder: Path, sizes: list[int]) -> Discovery:
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes):
        (folder / f"{number:03d}").write_bytes(b"x" * size)
    paths = sorted(folder.iterdir())
    sources = tuple(Source(path.name, "raster", path, (path,), path.name) for path in paths)
    return Discovery(sources, (), ())


@given(sizes=st.lists(st.integers(0, 1000), max_size=60), total=st.integers(1, 9))
def test_no_part_is_much_fuller_than_it_must_be(sizes: list[int], total: int) -> None:
    parts = balanced(sizes, total)
    assert len(parts) == len(sizes)
    loads = [sum(size for size, part in zip(sizes, parts, strict=True) if part == each) for each in range(total)]
    least = max(sum(sizes) / total, max(sizes, default=0))
    assert max(loads) <= 4 / 3 * least + sum(sizes) / total + len(sizes)  # what Graham's bound allows at the most
    assert max(loads) - min(loads) <= max(sizes, default=0) + len(sizes)


def test_one_huge_slide_does_not_share_a_machine() -> None:
    parts = balanced([1, 1, 1000, 1, 1, 1], 2)
    assert [part for part in parts if part != parts[2]] == [parts[0]] * 5


def test_empty_files_are_spread() -> None:
    assert sorted(balanced([0] * 6, 3)) == [0, 0, 1, 1, 2, 2]


def test_parts_add_up_and_agree_on_the_listing(tmp_path: Path) -> None:
    found = found_in(tmp_path / "in", [5, 0, 70, 70, 3, 1000, 12])
    portions = [portion_of(found, (number, 3)) for number in (1, 2, 3)]
    assert sorted(s.id for portion in portions for s in portion.sources) == [s.id for s in found.sources]
    assert len({portion.shard.listing for portion in portions if portion.shard}) == 1
    assert portion_of(found, None).sources == found.sources


def test_another_machine_another_mount_the_same_parts(tmp_path: Path) -> None:
    sizes = [5, 0, 70, 70, 3, 1000, 12]
    here, there = (portion_of(found_in(tmp_path / name, sizes), (2, 3)) for name in ("here", "there"))
    assert [source.id for source in here.sources] == [source.id for source in there.sources]
    assert here.shard == there.shard


def test_a_file_that_changed_its_size_is_another_listing(tmp_path: Path) -> None:
    found = found_in(tmp_path / "in", [5, 6])
    before = portion_of(found, (1, 2)).shard
    found.sources[0].path.write_bytes(b"longer than it was")
    assert portion_of(found, (1, 2)).shard != before


def test_files_that_are_no_shards_are_let_pass(tmp_path: Path) -> None:
    from store_cases import item, write

    whole = write(tmp_path / "whole.h5", [item("a", 1)])
    refuse_incomplete([whole])
    part = write(tmp_path / "feats.h5", [item("b", 1)], shard=(2, 3))
    with pytest.raises(SetupError, match="shard 1/3, 3/3 is missing"):
        refuse_incomplete([whole, part])
    refuse_incomplete([whole, part], partial=True)


def test_a_shard_that_is_named_twice(tmp_path: Path) -> None:
    from store_cases import item, write

    first, second = (write(tmp_path / f"{n}.h5", [item(str(n), 1)], shard=(n, 2)) for n in (1, 2))
    refuse_incomplete([first, second])
    with pytest.raises(SetupError, match=r"shard 1/2 is there twice: .*1-of-2\.h5 and .*1-of-2\.h5"):
        refuse_incomplete([first, second, first])


def test_shards_of_older_versions_are_told_by_their_names(tmp_path: Path) -> None:
    from store_cases import item, write

    folder = tmp_path / "feats.h5.shards"
    folder.mkdir()
    part = write(folder / "2-of-2.h5", [item("a", 1)])
    with pytest.raises(SetupError, match=r"feats\.h5\.shards: shard 1/2 is missing"):
        refuse_incomplete([part])


def test_text() -> None:
    assert Shard(3, 16, "5f").text == "3/16 5f"


def test_a_shard_replaces_nothing_but_itself(tmp_path: Path) -> None:
    from store_cases import DIM, header, item, write

    from umedfeat.store import FeatureStore

    def enter(out: Path, shard: Shard, *, overwrite: bool = False) -> None:
        with FeatureStore(out, replace(header(), shard=shard.text), dim=DIM, overwrite=overwrite):
            pass

    part = write(tmp_path / "part.h5", [item("a", 1)], shard=(1, 2))
    whole = write(tmp_path / "whole.h5", [item("a", 1)])
    older = write(tmp_path / "2-of-2.h5", [item("a", 1)])
    enter(part, Shard(1, 2, "other"))
    enter(older, Shard(2, 2, "5f"))
    for out, told in ((part, "holds shard 1/2"), (whole, "holds a whole run")):
        with pytest.raises(OutputError, match=rf"{out.name}: {told}, and this is shard 2/2"):
            enter(out, Shard(2, 2, "5f"))
    enter(part, Shard(2, 2, "5f"), overwrite=True)
