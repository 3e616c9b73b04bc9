"""However the work was split, ordered or interrupted, the packed file is the same to the byte."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_cases import DIM, header, item, write

from umedfeat.errors import OutputError
from umedfeat.store import FeatureFile, FeatureStore, Item, gather, merge, verify

ITEMS = [item(f"s{k:02d}", rows, label="ab"[k % 2], dropped=k % 3) for k, rows in enumerate([3, 0, 1, 700, 2, 5, 1, 9])]


@pytest.fixture(scope="module")
def undivided(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a run that was never divided."""
    folder = tmp_path_factory.mktemp("undivided")
    return write(folder / "feats.h5", ITEMS, failures=["bad.svs"], skipped=["notes.txt"]).read_bytes()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_and_segments(data: st.DataObject, undivided: bytes, tmp_path: Path) -> None:
    """Segments cut anywhere, items in any order, the run started again anywhere."""
    order = data.draw(st.permutations(range(len(ITEMS))))
    cuts = data.draw(st.sets(st.integers(1, len(ITEMS) - 1)))
    restarts = data.draw(st.sets(st.integers(1, len(ITEMS) - 1)))
    out = _fresh(tmp_path) / "feats.h5"
    store = FeatureStore(out, header(), dim=DIM).__enter__()
    for place, number in enumerate(order):
        if place in restarts:
            store.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
            store = FeatureStore(out, header(), dim=DIM).__enter__()
            assert store.done == {ITEMS[k].source.id for k in order[:place]}
        elif place in cuts:
            store.flush()
        store.add(ITEMS[number])
    store.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert write(out, [], failures=["bad.svs"], skipped=["notes.txt"]).read_bytes() == undivided


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_shards_and_grouping(data: st.DataObject, undivided: bytes, tmp_path: Path) -> None:
    """Shards of any content merged in any order, some of them beforehand."""
    folder = _fresh(tmp_path)
    owners = data.draw(st.lists(st.integers(0, 4), min_size=len(ITEMS), max_size=len(ITEMS)))
    shards = [
        write(folder / f"{k}.h5", [i for i, o in zip(ITEMS, owners, strict=True) if o == k], skipped=["notes.txt"])
        for k in range(5)
    ]
    shards.append(write(folder / "failed.h5", ITEMS[:1], failures=["bad.svs"]))
    shards = data.draw(st.permutations(shards))
    middle = data.draw(st.integers(1, len(shards) - 1))
    part = merge(shards[:middle], folder / "part.h5")
    assert merge([part, *shards[middle:]], folder / "all.h5").read_bytes() == undivided


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


def test_pipeline_shards(undivided: bytes, tmp_path: Path) -> None:
    """--shard i/n for every i, then merge."""
    out = tmp_path / "feats.h5"
    shards = [
        write(out, ITEMS[k - 1 :: 3], shard=(k, 3), failures=["bad.svs"], skipped=["notes.txt"]) for k in (2, 1, 3)
    ]
    assert sorted(path.name for path in shards) == ["1-of-3.h5", "2-of-3.h5", "3-of-3.h5"]
    assert merge(shards, out).read_bytes() == undivided


def test_growing_output(undivided: bytes, tmp_path: Path) -> None:
    """New inputs into a finished file: as if all had been there at once."""
    out = tmp_path / "feats.h5"
    write(out, ITEMS[5:], failures=["bad.svs", "s00.svs"])
    assert write(out, ITEMS[:5], skipped=["notes.txt"]).read_bytes() == undivided
    assert not (tmp_path / "feats.h5.partial").exists()


def test_rows_stay_with_their_items(tmp_path: Path) -> None:
    out = write(tmp_path / "feats.h5", reversed(ITEMS))
    with FeatureFile(out) as file:
        assert file.ids == tuple(each.source.id for each in ITEMS)
        for each in ITEMS:
            np.testing.assert_array_equal(file.features(each.source.id), each.features)
            np.testing.assert_array_equal(file.coords(each.source.id)[:, 0], each.plan.regions["x"])
        assert file.tiles("item").tolist() == np.repeat(np.arange(8), [len(i.features) for i in ITEMS]).tolist()
        assert file.dropped["item"].tolist() == [1, 2, 2, 4, 5, 5, 7]
    assert verify(out).faults == ()


def test_scattered_rows_and_few_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items of many files interleaved, more files than may be open, blocks smaller than an item."""
    monkeypatch.setattr(gather, "_OPEN_FILES", 2)
    items = [item(f"{k:03d}", 1 + k % 40) for k in range(90)]
    shards = [write(tmp_path / f"{k}.h5", items[k::6]) for k in range(6)]
    whole = write(tmp_path / "whole.h5", items)
    assert merge(shards, tmp_path / "merged.h5").read_bytes() == whole.read_bytes()
    with gather.FilePool(shards) as pool:
        pieces = gather.Pieces(np.array([0, 3, 0, 5]), np.array([40, 0, 2, 7]), np.array([3, 5, 2, 1]))
        blocks = [block for (block,) in gather.gather(pool, pieces, ["features"], 4)]
        expected = np.concatenate(
            [pool.dataset(f, "features")[s : s + n] for f, s, n in zip(*vars(pieces).values(), strict=True)]
        )
    assert [len(block) for block in blocks] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate(blocks), expected)


def test_merge_refuses_other_settings(tmp_path: Path) -> None:
    one = write(tmp_path / "a.h5", ITEMS[:1])
    two = write(tmp_path / "b.h5", ITEMS[1:2], settings=header(precision="bf16"))
    with pytest.raises(OutputError, match=r"encoder\.precision: fp32 → bf16"):
        merge([one, two], tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()


@pytest.mark.parametrize(
    ("other", "what"),
    [(item("s00", 3, label="a", seed=1), "content_sha256"), (item("s00", 3, label="b"), "meta/label")],
)
def test_merge_refuses_contradictions(tmp_path: Path, other: Item, what: str) -> None:
    one, two = write(tmp_path / "a.h5", ITEMS[:1]), write(tmp_path / "b.h5", [other])
    with pytest.raises(OutputError, match=rf"'s00' stands in a.h5 and b.h5 with .*{what}"):
        merge([two, one], tmp_path / "c.h5")


def test_merge_names_a_damaged_file(tmp_path: Path) -> None:
    one = write(tmp_path / "a.h5", ITEMS[3:4])
    two = write(tmp_path / "b.h5", ITEMS[:1])
    with h5py.File(one, "r+") as file:
        del file["tiles/tissue"]
    with pytest.raises(OutputError, match=r"a\.h5: damaged"):
        merge([one, two], tmp_path / "c.h5")
