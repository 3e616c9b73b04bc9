"""Resuming believes content: what changed is embedded again and named, what was only touched is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from store_cases import DIM, header, item, write

from umedfeat.cli import run
from umedfeat.contract import Failure, Source
from umedfeat.errors import SetupError
from umedfeat.extraction.settings import RunSettings
from umedfeat.naming import files_stat, identify
from umedfeat.store import FeatureFile, FeatureStore, Item, verify


def placed(folder: Path, name: str, *texts: str, seed: int = 0) -> Item:
    """An item made of real files, as a run would store it."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{name}.{k}" for k in range(len(texts))]
    for path, text in zip(files, texts, strict=True):
        path.write_text(text)
    return seen(replace(item(name, 2, seed=seed), source=replace(item(name, 2).source, files=tuple(files))))


def seen(one: Item) -> Item:
    """The same with the identity that its files have now."""
    files = one.source.files
    return replace(one, plan=replace(one.plan, **identify(files, "", files_stat(files))._asdict()))


def resumed(out: Path, items: Iterable[Item], again: Iterable[Item] = (), *, prune: bool = False) -> object:
    sources = [one.source for one in items]
    with FeatureStore(out, header(), dim=DIM) as store:
        found = store.resume(sources, sources, prune=prune)
        for one in again:
            store.add(one)
        store.finish({})
    return found


def names(sources: Iterable[Source]) -> list[str]:
    return [source.id for source in sources]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Item, Item]:
    return placed(tmp_path / "in", "a", "one", "two"), placed(tmp_path / "in", "b", "three")


def _touch(path: Path) -> None:
    os.utime(path, ns=(5, 5))


def _same_size(path: Path) -> None:
    path.write_text(path.read_text()[::-1])
    _touch(path)


def _longer(path: Path) -> None:
    before = path.stat()
    path.write_text(path.read_text() + "!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(("change", "todo"), [(_touch, []), (_same_size, ["a"]), (_longer, ["a"]), (os.unlink, ["a"])])
def test_every_file_of_an_item_counts(
    tmp_path: Path, pair: tuple[Item, Item], number: int, change: Callable[[Path], None], todo: list[str]
) -> None:
    out = write(tmp_path / "feats.h5", pair)
    change(pair[0].source.files[number])
    with FeatureStore(out, header(), dim=DIM) as store:
        found = store.resume([one.source for one in pair], [one.source for one in pair])
        assert names(found.todo) == todo
        assert list(found.changed) == [f"{name}.svs" for name in todo]


def test_an_untouched_file_is_not_read(
    tmp_path: Path, pair: tuple[Item, Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write(tmp_path / "feats.h5", pair)
    monkeypatch.setattr("umedfeat.store.resume.content_sha256", lambda files: pytest.fail(f"{files} was read"))
    assert not resumed(out, pair).todo


def test_a_touched_file_is_hashed_once_and_its_time_remembered(
    tmp_path: Path, pair: tuple[Item, Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write(tmp_path / "feats.h5", pair)
    _touch(pair[0].source.files[0])
    resumed(out, pair)
    direct = write(tmp_path / "direct.h5", [seen(one) for one in pair])
    assert out.read_bytes() == direct.read_bytes()
    monkeypatch.setattr("umedfeat.store.resume.content_sha256", lambda files: pytest.fail(f"{files} was read again"))
    assert not resumed(out, pair).todo


def test_changed_features_replace_the_old_ones_and_are_gone_if_they_fail(tmp_path: Path) -> None:
    one, other = placed(tmp_path / "in", "a", "one"), placed(tmp_path / "in", "b", "two")
    out = write(tmp_path / "feats.h5", [one, other])
    new = placed(tmp_path / "in", "a", "another patient", seed=1)
    resumed(out, [new, other], [new])
    assert out.read_bytes() == write(tmp_path / "direct.h5", [new, other]).read_bytes()
    newer = placed(tmp_path / "in", "a", "cut", seed=2)
    with FeatureStore(out, header(), dim=DIM) as store:
        assert names(store.resume([newer.source, other.source], [newer.source, other.source]).todo) == ["a"]
        store.fail(Failure("a.svs", "read", "UnreadableInput", "a.svs: truncated"))
        store.finish({})
    with FeatureFile(out) as file:
        assert file.ids == ("b",)
        assert file.failures["source"].tolist() == ["a.svs"]
    assert verify(out).faults == ()


def test_a_failure_of_today_is_told_beside_an_item_of_the_same_source(tmp_path: Path) -> None:
    """Two volumes of one file: one is embedded, the other fails."""
    out = write(tmp_path / "feats.h5", [item("a", 1)], failures=["a.svs"])
    with FeatureFile(out) as file:
        assert file.failures["source"].tolist() == ["a.svs"]


def test_items_whose_inputs_are_gone_are_kept_unless_pruned(tmp_path: Path, pair: tuple[Item, Item]) -> None:
    out = write(tmp_path / "feats.h5", pair, failures=["c.svs"], skipped=["notes.txt"])
    found = resumed(out, pair[:1])
    assert found.gone == {"b": "b.svs"}
    with FeatureFile(out) as file:
        assert file.ids == ("a", "b")
    resumed(out, pair[:1], prune=True)
    assert out.read_bytes() == write(tmp_path / "direct.h5", pair[:1]).read_bytes()


def test_other_shards_inputs_are_not_gone(tmp_path: Path, pair: tuple[Item, Item]) -> None:
    out = write(tmp_path / "feats.h5", pair)
    with FeatureStore(out, header(), dim=DIM) as store:
        assert not store.resume([pair[0].source], [one.source for one in pair], prune=True).gone


def test_what_is_another_shards_by_now_is_left_to_it(tmp_path: Path, pair: tuple[Item, Item]) -> None:
    """Inputs came, and the parts are divided anew: an item in two shards could contradict itself."""
    out = write(tmp_path / "feats.h5", pair)
    with FeatureStore(out, header(), dim=DIM) as store:
        assert not store.resume([pair[0].source], [one.source for one in pair]).todo
        store.finish({})
    with FeatureFile(out) as file:
        assert file.ids == (pair[0].source.id,)


def test_allowed_failures() -> None:
    assert RunSettings().allows(0, 10) and not RunSettings().allows(1, 10)
    assert RunSettings(allow_failed="2").allows(2, 10) and not RunSettings(allow_failed="2").allows(3, 10)
    assert RunSettings(allow_failed="12.5%").allows(1, 8) and not RunSettings(allow_failed="12.5%").allows(1, 7)
    for wrong in ("-1", "101%", "five", "", "nan", "1e3", "%"):
        with pytest.raises(SetupError, match="allow_failed"):
            RunSettings(allow_failed=wrong)


def test_the_command_names_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slide replaced under its old name kept the old features once, with exit code 0."""
    folder, out = tmp_path / "in", tmp_path / "feats.h5"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(folder / f"{name}.png")
    extract = ["extract", "--input", str(folder), "--out", str(out), "--encoder", "efficientnet-lite0"]
    extract += ["--device", "cpu", "--workers", "1", "--progress", "none"]
    assert run(extract) == 0
    with FeatureFile(out) as file:
        before = file.embeddings
    shutil.copy2(folder / "b.png", folder / "a.png")
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:100])
    (folder / "c.png").unlink()
    assert run(extract) == 1
    told = capsys.readouterr().err
    assert "a.png: changed since it was embedded" in told and "c.png" in told and "--prune" in told
    with FeatureFile(out) as file:
        assert file.ids == ("a", "c")  # b fails now: its old features are not those of its file
        np.testing.assert_allclose(file.embeddings, [before[1], before[2]], atol=1e-6)
    assert run([*extract, "--allow-failed", "50%", "--prune"]) == 0
    with FeatureFile(out) as file:
        assert file.ids == ("a",) and file.failures["source"].tolist() == ["b.png"]
