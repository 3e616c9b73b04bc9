"""The main job through the command line: one test per modality, and every way it can go wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from killing import running_in_group
from nifti_factory import write as write_volume
from PIL import Image

from umedfeat.cli import run
from umedfeat.demo.cohort import _ct, _radiographs, _real
from umedfeat.demo.cohort import _slide as write_demo_slide
from umedfeat.encoders.runtimes.choosing import openvino_is_installed
from umedfeat.errors import SetupError
from umedfeat.extraction.run import writable
from umedfeat.store import FeatureFile

ENCODER = ["--encoder", "efficientnet-lite0", "--device", "cpu", "--workers", "1", "--progress", "none"]


@pytest.fixture(autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path_factory.mktemp("key") / "id-key"
    key.write_text("a secret of the test suite")
    monkeypatch.setenv("UMEDFEAT_ID_KEY", str(key))


def extract(source: Path, out: Path, *options: str) -> int:
    return run(["extract", "--input", str(source), "--out", str(out), *ENCODER, *options])


def write_images(folder: Path, count: int = 6) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        pixels = np.random.default_rng(k).integers(0, 255, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"image{k}.png")
    return folder


def test_slide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_demo_slide(tmp_path / "in", np.random.default_rng(0), side=1800)
    options = ["--mpp", "1.0", "--preview", str(tmp_path / "look"), "--geojson"]
    assert extract(tmp_path / "in", tmp_path / "f.h5", *options) == 0
    grid = json.loads(next((tmp_path / "look" / "geojson").rglob("*.geojson")).read_text())
    tiles = [feature for feature in grid["features"] if feature["properties"]["objectType"] == "tile"]
    with FeatureFile(tmp_path / "f.h5") as file:
        assert len(tiles) == file.n_rows
        assert file.items["modality"].tolist() == ["WSI"]
        assert file.items["mpp_x"][0] == pytest.approx(0.5)
        assert file.items["tile_extent"][0] == pytest.approx(448)
        assert file.n_rows > 10
        assert (file.coords() % 448 == 0).all()
        assert np.allclose(file.embeddings[0], file.features().mean(axis=0), atol=1e-5)
    assert (tmp_path / "look" / "index.html").is_file()
    assert "WSI" in capsys.readouterr().out


def test_a_grid_for_qupath_needs_a_folder(tmp_path: Path) -> None:
    assert extract(write_images(tmp_path / "in", 1), tmp_path / "f.h5", "--geojson") == 2
    assert not (tmp_path / "f.h5").exists()


def test_a_ct_that_nobody_declared_is_told_at_once_and_in_the_end(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        write_volume(tmp_path / f"{name}.nii")
    (tmp_path / "notes.txt").write_text("nothing")
    told = "values look like Hounsfield units: declare modality CT (--modality, manifest) to window them"
    assert run(["extract", "--input", str(tmp_path), *ENCODER, "--dry-run"]) == 0
    assert f"note: 2 × {told}" in capfd.readouterr().out
    assert extract(tmp_path, tmp_path / "a.h5") == 0
    printed = capfd.readouterr()
    assert f"WARNING: a.nii: {told}" in printed.err and "b.nii" not in printed.err
    assert f"note 2 × {told}" in " ".join(printed.out.split())
    assert "1 × not an image format that is read here" in printed.out
    assert extract(tmp_path, tmp_path / "b.h5", "--modality", "ct", "--json") == 0
    printed = capfd.readouterr()
    assert told not in printed.err and json.loads(printed.out)["hints"] == {}


def test_ct_series_and_its_order(tmp_path: Path) -> None:
    _ct(tmp_path / "in", np.random.default_rng(0))
    assert extract(tmp_path / "in", tmp_path / "a.h5", "--slices", "4") == 0
    shuffled = tmp_path / "shuffled"
    shuffled.mkdir()
    for k, path in enumerate(sorted((tmp_path / "in").iterdir(), key=lambda p: hash(p.name))):
        shutil.copy(path, shuffled / f"x{k}.bin")
    assert extract(shuffled, tmp_path / "b.h5", "--slices", "4") == 0
    with FeatureFile(tmp_path / "a.h5") as a, FeatureFile(tmp_path / "b.h5") as b:
        assert a.items["modality"].tolist() == ["CT"]
        assert np.array_equal(a.features(), b.features())
        steps = np.diff(a.tiles("position"))
        assert (np.abs(steps) > 2).all()


def test_mr_nifti_and_a_real_ct_slice(tmp_path: Path) -> None:
    _real(tmp_path / "in")
    code = extract(tmp_path / "in", tmp_path / "f.h5", "--include-derived")
    with FeatureFile(tmp_path / "f.h5") as file:
        kinds = dict(zip(file.ids, file.items["format"], strict=True))
        assert kinds["anatomical"] == "nifti"
        assert any(kind == "dicom-ct" for kind in kinds.values())
        assert file.items["count"][file.find("anatomical")] > 10
    assert code == 0


def test_radiographs_then_probe_with_no_further_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("umedfeat.demo.cohort.PATIENTS", 16)
    rows = _radiographs(tmp_path / "in", np.random.default_rng(0))
    lines = [f"{Path(row['path']).name},{row['patient']},{row['label']}" for row in rows]
    (tmp_path / "in" / "study.csv").write_text("\n".join(["path,patient,label", *lines]))
    assert extract(tmp_path / "in" / "study.csv", tmp_path / "feats.h5", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["modalities"] == {"DX": {"inputs": 32, "regions": 32}}
    monkeypatch.chdir(tmp_path)
    assert run(["probe", "--fraction", "0.01"]) == 0
    assert (tmp_path / "probe" / "results.csv").is_file()
    assert (tmp_path / "probe" / "summary.json").is_file()
    text = capsys.readouterr().out
    assert "1 %" in text
    with FeatureFile("feats.h5") as file:
        assert not any("demo-" in patient for patient in file.items["patient"])
        assert len(set(file.items["patient"])) == 16


def test_flat_images_resume_and_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_images(tmp_path / "in", 4), tmp_path / "f.h5"
    assert extract(source, out) == 0
    first = out.read_bytes()
    write_images(source, 6)
    capsys.readouterr()
    assert extract(source, out) == 0
    assert "4 inputs from an earlier run" in capsys.readouterr().out
    undivided = tmp_path / "g.h5"
    assert extract(source, undivided) == 0
    assert out.read_bytes() == undivided.read_bytes() != first
    assert extract(source, out, "--image-size", "96") == 2
    told = capsys.readouterr().err
    assert "policy.image.size: 224 → 96" in told
    assert "--overwrite" in told
    assert extract(source, out, "--image-size", "96", "--overwrite") == 0


def test_shards_merge_to_the_same_bytes(tmp_path: Path) -> None:
    source, whole = write_images(tmp_path / "in", 7), tmp_path / "whole.h5"
    assert extract(source, whole) == 0
    out = tmp_path / "feats.h5"
    for shard in ("2/3", "1/3", "3/3"):
        assert extract(source, out, "--shard", shard) == 0
    parts = sorted((tmp_path / "feats.h5.shards").glob("*.h5"))
    assert len(parts) == 3
    assert run(["merge", *map(str, reversed(parts)), "--out", str(out)]) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert run(["verify", str(out)]) == 0


def test_shards_in_files_of_their_own_names_know_what_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A workflow names its files itself; what was added between two of its steps must not go missing."""
    source = write_images(tmp_path / "in", 3)
    one, two = tmp_path / "one.h5", tmp_path / "two.h5"
    merge = ["merge", str(one), str(two), "--out", str(tmp_path / "all.h5")]
    assert extract(source, tmp_path / "f.h5", "--shard", "1/2", "--shard-out", str(one)) == 0
    assert not (tmp_path / "f.h5.shards").exists()
    assert run([merge[0], merge[1], *merge[3:]]) == 2
    assert "shard 2/2 is missing" in capsys.readouterr().err
    write_images(source / "late", 1)
    assert extract(source, tmp_path / "f.h5", "--shard", "2/2", "--shard-out", str(two)) == 0
    assert run(merge) == 2
    assert "two different lists of inputs" in capsys.readouterr().err
    assert extract(source, tmp_path / "f.h5", "--shard", "1/2", "--shard-out", str(one)) == 0
    assert run(merge) == 0
    assert extract(source, tmp_path / "whole.h5") == 0
    assert (tmp_path / "all.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_failures_are_told_listed_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_images(tmp_path / "in", 3), tmp_path / "f.h5"
    whole = (source / "image1.png").read_bytes()
    (source / "image1.png").write_bytes(whole[: len(whole) // 2])
    (source / "notes.txt").write_text("no image")
    assert extract(source, out) == 1
    assert "image1.png" in capsys.readouterr().out
    table = (tmp_path / "f.h5.failures.csv").read_text()
    assert table.startswith("source,stage,error,message,remedy")
    assert "image1.png" in table
    with FeatureFile(out) as file:
        assert file.ids == ("image0", "image2")
        assert file.failures["source"].tolist() == ["image1.png"]
        assert file.skipped["source"].tolist() == ["notes.txt"]
    (source / "image1.png").write_bytes(whole)
    assert extract(source, out) == 0
    assert not (tmp_path / "f.h5.failures.csv").exists()
    with FeatureFile(out) as file:
        assert file.ids == ("image0", "image1", "image2")
        assert len(file.failures["source"]) == 0


def test_dry_run_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UMEDFEAT_ID_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    source = write_images(tmp_path / "in", 3)
    assert extract(source, tmp_path / "f.h5", "--dry-run") == 0
    text = capsys.readouterr().out
    assert "3 regions" in text
    assert "Nothing was written" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["extract", "--input", "nowhere"], "no such file"),
        (["extract", "--input", "empty"], "no image found"),
        (["extract", "--input", "in", "--out", "missing/f.h5", "-e", "random"], "does not exist"),
        (["extract", "--input", "in", "--out", "in", "-e", "random"], "is a folder"),
        (["extract", "--input", "in", "--encoder", "umedtp"], "did you mean umedpt"),
        (["extract", "--input", "in", "--offline"], "--encoder umedfeat-open"),
        (["extract", "--input", "in", "--window", "liver"], "soft-tissue"),
        (["extract", "--input", "in", "--shard", "4/3"], "1 ≤ i ≤ n"),
        (["extract", "--input", "in", "--shard-out", "part.h5"], "add --shard i/n"),
        (["extract"], "--input"),
        (["info", "nothing.h5"], "no such feature file"),
        (["info", "in/image0.png"], "not a feature file"),
        (["probe"], "feats.h5"),
        (["nonsense"], "No such command"),
        (["extrct"], "'extract'"),
    ],
)
def test_errors_are_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UMEDFEAT_CACHE", str(tmp_path / "cache"))
    write_images(tmp_path / "in", 1)
    (tmp_path / "empty").mkdir()
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_debug_shows_the_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(tmp_path / "nothing.h5")], debug=True) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "device"), [pytest.param(signal.SIGTERM, "cpu", marks=pytest.mark.slow), (signal.SIGINT, "cpu,cpu")]
)
def test_interrupt_keeps_what_is_finished(tmp_path: Path, number: signal.Signals, device: str) -> None:
    source, out = write_images(tmp_path / "in", 160), tmp_path / "f.h5"
    command = [sys.executable, "-m", "umedfeat", "extract", "--input", str(source), "--out", str(out), *ENCODER]
    command += ["--device", device]
    start = [*command, "--batch-size", "4", "-v"]
    process = subprocess.Popen(start, stderr=subprocess.PIPE, text=True, env=os.environ, start_new_session=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "image" in line:
            break
    time.sleep(0.3)
    os.killpg(process.pid, number)  # as a terminal or a scheduler does
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 130, told
    assert "run the same command again" in told
    assert "going on without it" not in told
    assert "reading process" not in told, "the workers took the signal, too"
    assert not running_in_group(process.pid)
    assert not out.exists()
    assert list((tmp_path / "f.h5.partial").glob("*.h5"))
    for k in range(60, 160):
        (source / f"image{k}.png").unlink()
    finished = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(finished.stdout)["resumed"] > 0


def test_every_shared_file_is_accounted_for(data_dir: Path, tmp_path: Path) -> None:
    """Every real file ends as part of an embedded or failed source, or skipped with a reason; none is lost."""
    from umedfeat.discovery import discover
    from umedfeat.naming import Pseudonyms
    from umedfeat.policy import Policy

    found = discover([data_dir], Policy(), Pseudonyms(b"k" * 16))
    claimed = [path for source in found.sources for path in source.files]
    assert len(claimed) == len(set(claimed))
    files = [path for path in data_dir.rglob("*") if path.is_file()]
    assert len(claimed) + len(found.skipped) + len(found.failures) == len(files)


def test_two_devices_write_the_file_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_images(tmp_path / "in", 7)
    assert extract(source, tmp_path / "one.h5") == 0
    options = ["--device", "cpu,cpu", "--batch-size", "2", "--progress", "json"]
    assert extract(source, tmp_path / "two.h5", *options) == 0
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    log = json.loads((tmp_path / "two.h5.run.json").read_text())
    assert str(tmp_path) not in json.dumps(log)
    assert (log["device"], log["devices"], log["precision"], log["batch_size"]) == ("cpu,cpu", 2, "fp32", 2)
    assert set(log["waited_for"]) == {"plan", "read", "encode", "write"}
    told = capsys.readouterr()
    how = f"fp32, {'openvino' if openvino_is_installed() else 'torch'}"
    assert f"efficientnet-lite0 on cpu,cpu ({how}), batches of 2, 1 reading processes" in told.err
    assert "waited for" in told.out


def test_nan_from_the_encoder_fails_only_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-precision encoder overflows on one image of a batch: that input fails by name, the others are kept."""
    import torch

    from umedfeat.encoders.runtimes.torch_runtime import TorchEncoder

    source = write_images(tmp_path / "in", 4)
    reddish = np.random.default_rng(9).integers(0, 9, (64, 80, 3)) + np.array([240, 10, 10])
    Image.fromarray(reddish.astype(np.uint8)).save(source / "glare.png")
    plain = TorchEncoder.__call__

    def overflowing(self: TorchEncoder, images: torch.Tensor) -> torch.Tensor:
        features = plain(self, images)
        assert len(images) == 5
        features[images[:, 0].mean((1, 2)) - images[:, 2].mean((1, 2)) > 0.3, 7] = torch.inf
        return features

    monkeypatch.setattr(TorchEncoder, "__call__", overflowing)
    assert extract(source, tmp_path / "f.h5", "--runtime", "torch") == 1
    with FeatureFile(tmp_path / "f.h5") as file:
        assert file.ids == ("image0", "image1", "image2", "image3")
        assert file.failures["source"].tolist() == ["glare.png"]
        assert file.failures["error"].tolist() == ["NotFinite"]
        assert file.failures["stage"].tolist() == ["encode"]
    monkeypatch.setattr(TorchEncoder, "__call__", plain)
    assert extract(source, tmp_path / "f.h5", "--runtime", "torch") == 0


def test_an_output_that_is_no_file_is_left_alone(tmp_path: Path) -> None:
    """A pipe, or /dev/null, would be replaced."""
    out = tmp_path / "feats.h5"
    os.mkfifo(out)
    with pytest.raises(SetupError, match=r"feats\.h5: is a .*, not a file"):
        writable(out)
    assert out.is_fifo()
