"""The doctor tells what would stop a run, and what it says is what a run does."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pydicom.uid
import pytest

from umedfeat.cli import run
from umedfeat.doctor import device, key, limits, place, program, weights
from umedfeat.doctor.checkup import Checkup, examine
from umedfeat.doctor.finding import Finding, Wish
from umedfeat.encoders.choice import EncoderChoice
from umedfeat.encoders.weights.models import MODELS
from umedfeat.errors import OutputError
from umedfeat.readers.dicom import decode

SECRET = "5ecre7 of the test suite, 0123456789abcdef"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with a home, a key and a cache of their own."""
    for name in ("UMEDFEAT_ID_KEY", "XDG_CONFIG_HOME", "SLURM_JOB_ID", "UMEDFEAT_CORES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UMEDFEAT_CACHE", str(tmp_path / "cache"))
    for folder in ("home", "cache", "out"):
        (tmp_path / folder).mkdir()


def wish(tmp_path: Path, encoder: str = "efficientnet-lite0", **choice: object) -> Wish:
    made = replace(EncoderChoice(encoder, device="cpu"), **choice)  # type: ignore[arg-type]
    return Wish(made, tmp_path / "out" / "feats.h5")


def write_key(path: Path, text: str = SECRET) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_sound_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_key(tmp_path / "home" / ".config" / "umedfeat" / "id-key")
    out = str(tmp_path / "out" / "feats.h5")
    assert run(["doctor", "-e", "efficientnet-lite0", "--device", "cpu", "--out", out, "--json"]) == 0
    told = capsys.readouterr().out
    report = json.loads(told)
    assert report["sound"]
    assert {"python", "torch", "driver", "cpu", "openslide", "codec", "key", "disk", "cores", "slurm", "ray"} <= {
        finding["name"] for finding in report["findings"]
    }
    assert report["findings"][-1]["name"] == "trial run"
    assert report["findings"][-1]["state"] == "ok"
    assert SECRET not in told
    assert str(tmp_path / "home") not in told
    assert not list((tmp_path / "out").iterdir())


def test_missing_weights_end_with_1_and_their_remedy(tmp_path: Path) -> None:
    for offline in (True, False):
        found = examine(wish(tmp_path, "umedpt", offline=offline), [weights.encoder]).findings
        if not offline and found[0].state == "note":
            continue  # this machine has a network
        assert found[0].state == "fail"
        assert "encoder-1.0.4.pt.zip" in found[0].seen + found[0].remedy
        assert "--encoder umedfeat-open" in found[0].remedy


class _Answers(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Answers) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/weights"
        served.shutdown()


def test_weights_that_a_server_has_are_no_failure(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "umedpt", replace(MODELS["umedpt"], urls=("http://127.0.0.1:9/", server)))
    (found,) = examine(wish(tmp_path, "umedpt", offline=False), [weights.encoder]).findings
    assert (found.state, found.remedy) == ("note", "`umedfeat weights fetch umedpt` does it now")
    assert not list((tmp_path / "cache").iterdir())


def test_cached_weights_are_told_with_their_hash_and_pin(tmp_path: Path) -> None:
    path = tmp_path / "cache" / MODELS["umedpt"].file
    path.write_bytes(b"weights")
    (found,) = examine(wish(tmp_path, "umedpt"), [weights.cache]).findings
    assert (found.state, "no pin yet" in found.seen) == ("ok", True)
    path.with_name(path.name + ".sha256").write_text("0" * 64)
    (found,) = examine(wish(tmp_path, "umedpt"), [weights.cache]).findings
    assert found.state == "fail"
    (found,) = examine(wish(tmp_path), [weights.cache]).findings
    assert found.state == "note"


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    (found,) = examine(wish(tmp_path, device="cuda:99"), [device.devices]).findings
    assert found.state == "fail"
    assert "--device" in found.remedy


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023", "535.54.03"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.90.07  Release Build", "550.90.07"),
        ("something else", ""),
    ],
)
def test_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, version: str) -> None:
    monkeypatch.setattr(device, "_DRIVER", tmp_path / "version")
    assert device.driver_version() == ""
    (tmp_path / "version").write_text(text)
    assert device.driver_version() == version


def test_a_driver_that_torch_cannot_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "driver_version", lambda: "550.90.07")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", None)
    (found,) = examine(wish(tmp_path), [device.driver]).findings
    assert (found.state, "CPU only" in found.seen) == ("note", True)


def test_keys(tmp_path: Path) -> None:
    own = tmp_path / "home" / ".config" / "umedfeat" / "id-key"
    (none,) = examine(wish(tmp_path), [key.key]).findings
    assert (none.state, own.exists()) == ("ok", False)
    write_key(own)
    (found,) = examine(wish(tmp_path), [key.key]).findings
    assert found.state == "ok"
    assert "the user's own, 0 days old" in found.seen
    own.chmod(0o644)
    (weak,) = examine(wish(tmp_path), [key.key]).findings
    assert (weak.state, "chmod 600" in weak.remedy) == ("note", True)
    (missing,) = examine(replace(wish(tmp_path), id_key=tmp_path / "none"), [key.key]).findings
    assert (missing.state, bool(missing.remedy)) == ("fail", True)
    assert SECRET not in str([none, found, weak, missing])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_where_no_key_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "home").chmod(0o500)
    (found,) = examine(wish(tmp_path), [key.key]).findings
    assert found.state == "fail"
    (tmp_path / "home").chmod(0o700)


def test_an_output_folder_that_is_not_there(tmp_path: Path) -> None:
    (found,) = examine(Wish(out=tmp_path / "none" / "feats.h5"), [place.output_folder]).findings
    assert (found.state, "create it" in found.remedy) == ("fail", True)


@pytest.mark.parametrize("what", ["rename", "fsync", "locks"])
def test_what_a_file_system_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    def refuse_lock(*args: object) -> None:
        raise OutputError("no lock")

    if what == "rename":
        monkeypatch.setattr(Path, "replace", refuse)
    elif what == "fsync":
        monkeypatch.setattr(os, "fsync", refuse)
    else:
        monkeypatch.setattr(place, "OutputLock", refuse_lock)
    found = examine(wish(tmp_path), [place.output_folder]).findings
    assert [finding.name for finding in found if finding.state == "fail"] == [f"output folder: {what}"]
    assert not list((tmp_path / "out").iterdir())


def test_the_file_system_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_MOUNTS", tmp_path / "mounts")
    (tmp_path / "mounts").write_text(f"disk / ext4 rw 0 0\nserver:/x {tmp_path.resolve()} nfs4 rw 0 0\n")
    assert place.file_system_of(tmp_path / "out") == "nfs4"
    assert place.file_system_of(Path("/")) == "ext4"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_LEAST_SPACE", 1 << 60)
    found = examine(wish(tmp_path), [place.disks]).findings
    assert found[0].state == "fail"


def test_a_job_that_reaches_more_cores_than_it_was_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "usable_cores", lambda: 64)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    (found,) = examine(wish(tmp_path), [limits.slurm]).findings
    assert (found.state, found.remedy) == ("note", "export UMEDFEAT_CORES=$SLURM_CPUS_PER_TASK")
    monkeypatch.setattr(limits, "usable_cores", lambda: 8)
    (found,) = examine(wish(tmp_path), [limits.slurm]).findings
    assert found.state == "ok"


@pytest.mark.parametrize("asked", ["abc", "0", "-2", "1.5"])
def test_a_number_of_cores_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv("UMEDFEAT_CORES", asked)
    (found,) = examine(wish(tmp_path), [limits.cores]).findings
    assert found.state == "note" and "UMEDFEAT_CORES" in found.seen and "unset" in found.remedy


def test_codecs_are_those_of_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = examine(wish(tmp_path), [program.codecs]).findings
    told = {finding.seen.rpartition(": ")[0]: finding for finding in found}
    assert {pydicom.uid.JPEG2000.name, pydicom.uid.RLELossless.name, pydicom.uid.JPEGLSLossless.name} <= told.keys()
    monkeypatch.setitem(decode._PLUGINS_OF, pydicom.uid.JPEG2000, ())
    found = examine(wish(tmp_path), [program.codecs]).findings
    (without,) = [finding for finding in found if finding.seen.startswith(f"{pydicom.uid.JPEG2000.name}:")]
    assert (without.state, without.remedy) == ("note", "pip install pylibjpeg pylibjpeg-openjpeg")


def test_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "REQUIRED", ("numpy", "no-such-package"))
    known = program.versions()
    monkeypatch.setattr(program, "versions", lambda: known | {"no-such-package": ""})
    found = examine(wish(tmp_path), [program.packages]).findings
    assert (found[0].state, "no-such-package" in found[0].seen) == ("fail", True)


def test_a_check_that_fails_itself_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    def odd_machine(wish: Wish) -> Iterator[Finding]:
        yield Finding("seen", "ok", "before")
        raise ZeroDivisionError("odd")

    checkup = examine(wish(tmp_path), [odd_machine, limits.cores])
    assert not checkup.sound
    assert "odd machine" in checkup.to_text()
    assert checkup.findings[-1].name == "cores"


def test_text_marks_failures_and_shows_remedies() -> None:
    text = Checkup((Finding("a", "ok", "fine"), Finding("disk", "fail", "full", "free some"))).to_text()
    assert text.splitlines() == [
        "✓ a     fine",
        "✗ disk  full",
        "        → free some",
        "",
        "extract would fail here",
    ]


def test_versions_for_bug_reports(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["umedfeat"]
    assert told["numpy"]
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"umedfeat, version {told['umedfeat']}\n"
    assert run(["--json"]) == 2
