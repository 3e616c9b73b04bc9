"""Feature files of others are not trusted: whatever points out of the file or claims what is not there is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_features import CHANGES, LATER, SECRET, sound, tampered

from umedfeat.errors import OutputError, SetupError
from umedfeat.fewshot.cohort.table import read_table
from umedfeat.store import FeatureFile, FeatureStore, export, merge, verify
from umedfeat.store.info import describe, listing, overview


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile")
    sound(place)
    return place


@pytest.mark.parametrize("name", sorted(CHANGES.keys() - LATER.keys()))
def test_refused_by_name_before_anything_is_read(folder: Path, name: str) -> None:
    path = tampered(folder, name)
    with pytest.raises(OutputError, match=r"hostile\.h5") as caught, FeatureFile(path) as file:
        file.items  # noqa: B018
    assert caught.value.remedy and "SECRET" not in str(caught.value)
    assert verify(path).faults


@pytest.mark.parametrize("name", sorted(LATER))
def test_every_use_of_the_rest_is_right_or_refused_by_name(folder: Path, name: str, tmp_path: Path) -> None:
    path = tampered(folder, name)
    assert verify(path).faults
    for use in USES:
        try:
            use(path, tmp_path / "out")
        except SetupError as error:
            assert error.remedy


def _info(path: Path, out: Path) -> None:
    with FeatureFile(path) as file:
        overview(describe(file))
        for part in ("items", "failures", "skipped", "dropped"):
            listing(file, part)


USES = (
    _info,
    lambda path, out: read_table(path),
    lambda path, out: merge([path], out.with_suffix(".h5")),
    lambda path, out: export(path, out, "anndata"),
    lambda path, out: export(path, out, "stamp"),
)


@pytest.mark.parametrize("name", [name for name in CHANGES if name.startswith(("external", "virtual", "soft"))])
def test_no_foreign_byte_is_told_exported_or_merged(folder: Path, name: str, tmp_path: Path) -> None:
    path = tampered(folder, name)
    for use in USES:
        with pytest.raises(OutputError):
            use(path, tmp_path / "out")
    assert not [found for found in tmp_path.rglob("*") if found.is_file() and SECRET[:20] in found.read_bytes()]


def test_changed_rows_are_not_merged(folder: Path, tmp_path: Path) -> None:
    path = tampered(folder, "rows that were changed")
    with pytest.raises(OutputError, match=r"item 'c': its rows are not those that were written"):
        merge([path], tmp_path / "out.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_hostile_output_is_not_resumed(folder: Path, tmp_path: Path) -> None:
    path = tampered(folder, "external storage of rows")
    with FeatureFile(folder / "sound.h5") as file:
        settings = file.header
    with pytest.raises(OutputError, match="another file"):
        FeatureStore(path, settings, dim=4).__enter__()


def test_filter_plugins_are_not_loaded(tmp_path: Path) -> None:
    """Neither in this process nor in those it starts."""
    assert os.environ["HDF5_PLUGIN_PRELOAD"] == "::"
    (tmp_path / "libplugin.so").write_bytes(b"not a library")
    code = "import umedfeat.store, h5py; print(h5py.h5z.filter_avail(307))"
    environment = os.environ | {"HDF5_PLUGIN_PATH": str(tmp_path)}
    environment.pop("HDF5_PLUGIN_PRELOAD")
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_pipe_is_no_feature_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(SetupError, match="no such feature file"):
        FeatureFile(tmp_path / "pipe.h5")


def test_a_folder_of_images_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="a folder, no feature file") as caught:
        FeatureFile(tmp_path)
    assert "--dry-run" in caught.value.remedy
