"""Whose key: made whole, never replaced, weak ones told; two keys never meet in one study."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_factory import body, image, save
from store_cases import header, item, write

from umedfeat.cli import run
from umedfeat.errors import OutputError, SetupError
from umedfeat.fewshot import compare_files
from umedfeat.keys import check_key, default_key_path, key_check, load_key, new_key
from umedfeat.naming import Pseudonyms
from umedfeat.store import FeatureFile, FeatureStore, merge

A, B = item("a", 3), item("b", 2)
ONE, OTHER = replace(header(), key_check="1" * 12), replace(header(), key_check="2" * 12)
WITHOUT = replace(B, source=replace(B.source, patient=""))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a key."""
    monkeypatch.delenv("UMEDFEAT_ID_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return default_key_path()


def test_a_key_check_tells_keys_apart_and_nothing_else() -> None:
    keys = [b"a" * 16, b"b" * 16, b"a" * 17]
    assert len({key_check(key) for key in keys}) == 3
    assert Pseudonyms(keys[0]).key_check == key_check(keys[0])
    assert Pseudonyms(keys[0], keep=True).key_check == "readable"
    assert Pseudonyms(keys[0]).of(key_check(keys[0])) != key_check(keys[0])


def test_merging_two_keys_is_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "one.h5", [A], settings=ONE)
    other = write(tmp_path / "other.h5", [B], settings=OTHER)
    with pytest.raises(OutputError, match=r"one\.h5 and other\.h5: patients stand under two keys") as caught:
        merge([one, other], tmp_path / "both.h5")
    assert "--id-key" in caught.value.remedy
    assert run(["merge", str(one), str(other), "--out", str(tmp_path / "both.h5")]) == 2
    assert not (tmp_path / "both.h5").exists()


def test_without_pseudonyms_no_key_matters_and_bytes_are_the_same(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{k}.h5", [WITHOUT], settings=each) for k, each in enumerate((ONE, OTHER))]
    assert files[0].read_bytes() == files[1].read_bytes()
    one = write(tmp_path / "one.h5", [A], settings=ONE)
    with FeatureFile(merge([files[1], one], tmp_path / "both.h5")) as file:
        assert file.key_check == "1" * 12
    direct = write(tmp_path / "direct.h5", [A, WITHOUT], settings=ONE)
    assert direct.read_bytes() == (tmp_path / "both.h5").read_bytes()


@pytest.mark.parametrize("finished", [True, False])
def test_resuming_with_another_key_is_refused(tmp_path: Path, finished: bool) -> None:
    out = tmp_path / "feats.h5"
    if finished:
        write(out, [A], settings=ONE)
    else:
        with pytest.raises(KeyboardInterrupt), FeatureStore(out, ONE, dim=4) as store:
            store.add(A)
            raise KeyboardInterrupt
    with pytest.raises(OutputError, match="two keys"):
        FeatureStore(out, OTHER, dim=4).__enter__()
    with FeatureStore(out, ONE, dim=4) as store:
        assert store.done == {"a"}
    with FeatureStore(out, OTHER, dim=4, overwrite=True) as store:
        assert store.done == frozenset()


def test_comparing_two_keys_is_refused(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.h5", "other.h5")]
    for path, settings in zip(files, (ONE, OTHER), strict=True):
        write(path, [A, B], settings=settings)
    with pytest.raises(OutputError, match="two keys"):
        compare_files(files)


def test_a_key_made_at_that_moment_stops_a_shard(own: Path, tmp_path: Path) -> None:
    save(image("DX", body(3).astype(np.uint16)), tmp_path / "in" / "film.dcm")
    extract = ["extract", "--input", str(tmp_path / "in"), "--out", str(tmp_path / "f.h5"), "--device", "cpu"]
    extract += ["--encoder", "efficientnet-lite0", "--workers", "1", "--progress", "none"]
    with pytest.raises(SetupError, match="no key yet") as caught:
        load_key(shared=True)
    assert "umedfeat key new" in caught.value.remedy
    assert run([*extract, "--shard", "1/2"]) == 2
    assert not own.exists() and not list(tmp_path.glob("f.h5*"))
    key = new_key(tmp_path / "site.key")
    assert run([*extract, "--shard", "1/2", "--id-key", str(key.path)]) == 0
    with FeatureFile(tmp_path / "f.h5.shards" / "1-of-2.h5") as file:
        assert file.key_check == key.check
    extract[4] = str(tmp_path / "kept.h5")
    assert run([*extract, "--shard", "1/2", "--keep-ids"]) == 0  # no key is needed: no pseudonyms


def test_a_new_key_is_strong_private_and_never_replaced(own: Path, tmp_path: Path) -> None:
    facts = new_key(tmp_path / "deep" / "site.key")
    assert facts.warnings == () and facts.path.stat().st_mode & 0o777 == 0o600
    assert facts == check_key(facts.path) and facts.check == key_check(load_key(facts.path))
    before = facts.path.read_bytes()
    with pytest.raises(SetupError, match="exists"):
        new_key(facts.path)
    assert facts.path.read_bytes() == before and len(before) == 64
    assert not own.exists()
    with pytest.raises(SetupError, match="no key"):
        check_key()


@pytest.mark.parametrize(
    ("key", "mode", "told"),
    [
        (b"a secret of 21 bytes.", 0o600, "short"),
        (b"x" * 64, 0o600, "repeats itself"),
        (b"abcdefghijkl" * 4, 0o600, "repeats itself"),
        (b"0123456789abcdefghijklmnopqrstuv", 0o640, "read by others"),
        (b"0123456789abcdefghijklmnopqrstuv", 0o604, "read by others"),
    ],
)
def test_weak_and_open_keys_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, key: bytes, mode: int, told: str
) -> None:
    path = tmp_path / "site.key"
    path.write_bytes(key)
    path.chmod(mode)
    with caplog.at_level(logging.WARNING, "umedfeat"):
        load_key(path)
    assert told in caplog.text and key.decode() not in caplog.text
    assert any(told in warning for warning in check_key(path).warnings)


def test_a_key_that_is_a_link_or_a_pipe_is_refused(own: Path, tmp_path: Path) -> None:
    real, link, pipe = new_key(tmp_path / "real").path, tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(real)
    os.mkfifo(pipe)
    for path, told in ((link, "a link"), (pipe, "not a regular file")):
        with pytest.raises(SetupError, match=told):
            load_key(path)
    own.parent.mkdir(parents=True)
    own.symlink_to(tmp_path / "nowhere")
    with pytest.raises(SetupError, match="a link"):
        load_key()
    assert not (tmp_path / "nowhere").exists()


def test_the_command_makes_and_checks(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "site.key"
    assert run(["key", "new", str(path), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    facts = check_key(path)
    assert made == {"path": str(path), "key_check": facts.check, "warnings": []}
    ours = write(tmp_path / "ours.h5", [A], settings=replace(header(), key_check=facts.check))
    theirs = write(tmp_path / "theirs.h5", [B], settings=OTHER)
    assert run(["key", "check", str(path), "--features", str(ours)]) == 0
    assert facts.check in capsys.readouterr().out
    assert run(["key", "check", str(path), "--features", str(ours), "--features", str(theirs)]) == 2
    told = capsys.readouterr().err
    assert "theirs.h5" in told and "two keys" in told and path.read_text() not in told
    path.chmod(0o644)
    assert run(["key", "check", str(path)]) == 0
    assert "chmod 600" in capsys.readouterr().out
    assert run(["key", "new", str(path)]) == 2
    assert run(["key", "check"]) == 2
