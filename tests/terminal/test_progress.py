"""What is shown while a run goes on: a bar that fits, plain lines in a log, JSON that parses."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import pytest

from umedfeat.cli import run
from umedfeat.terminal import progress as module
from umedfeat.terminal.log import configure_logging
from umedfeat.terminal.progress import BarProgress, JsonProgress, LineProgress, Progress, SilentProgress, make_progress


def play(progress: Progress) -> None:
    """Ten inputs of 20 regions; one fails; then packing."""
    progress.note("three settings")
    progress.begin(10)
    for k in range(10):
        progress.planned(20)
        if k != 4:
            progress.encoded(20)
        progress.finished(f"s{k}", "failed" if k == 4 else "embedded")
    progress.close()
    progress.packed(180)
    progress.close()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", [60, 120])
def test_bar(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs come first, so that a narrow terminal cuts the rate and not what is done."""
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal()
    play(BarProgress(terminal))
    told = terminal.getvalue()
    last = told.rpartition("\r")[2]
    assert "three settings\n" in told
    assert "10/10 inputs, 1 failed 100%" in last
    assert "180/180 [00:00<00:00, " in last
    assert ("|" in last) == (columns == 120)
    assert len(last.partition("<")[0]) < columns  # the rate is cut first


def test_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a log file: no carriage returns, a line now and then, and the last word."""
    log = io.StringIO()
    play(LineProgress(log))
    assert "\r" not in log.getvalue()
    settings, last = log.getvalue().splitlines()
    assert settings == "three settings"
    assert last.startswith("10/10 inputs, 1 failed: 180 of 200 images, ")
    monkeypatch.setattr(LineProgress, "every", 0.0)
    log = io.StringIO()
    play(LineProgress(log))
    assert "planned 1/10 inputs: 0 of 200 images, 0.0/s" in log.getvalue()
    assert "packing: 180 rows" in log.getvalue()


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JsonProgress, "every", 0.0)
    log = io.StringIO()
    play(JsonProgress(log))
    events = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [event["event"] for event in events][:2] == ["note", "progress"]
    assert events[-1] == {"event": "packing", "rows_done": 180}
    last = [event for event in events if event["event"] == "progress"][-1]
    assert (last["inputs"], last["embedded"], last["failed"]) == (10, 9, 1)
    assert (last["regions_done"], last["regions_expected"]) == (180, 200)
    assert last["per_second"] > 0


def test_the_total_is_projected_until_all_is_planned() -> None:
    progress = LineProgress(io.StringIO())
    progress.begin(100)
    assert (progress.expected, progress.eta_seconds) == (0, None)
    progress.planned(30)
    progress.planned(10)
    assert progress.expected == 2000
    progress.encoded(40)
    assert progress.eta_seconds is not None


def test_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_progress("none"), SilentProgress)
    assert isinstance(make_progress("json"), JsonProgress)
    assert isinstance(make_progress("bar"), LineProgress)
    monkeypatch.setattr(module.sys, "stderr", Terminal())
    assert isinstance(make_progress("bar"), BarProgress)


@pytest.mark.parametrize(("verbosity", "told"), [(-1, "e"), (0, "ew"), (1, "ewi"), (2, "ewid")])
def test_verbosity(verbosity: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(verbosity, as_json=False)
    log = logging.getLogger("umedfeat")
    for letter, level in (("e", logging.ERROR), ("w", logging.WARNING), ("i", logging.INFO), ("d", logging.DEBUG)):
        log.log(level, "%s", letter)
    assert [line[-1] for line in capsys.readouterr().err.splitlines()] == list(told)


def test_everything_on_stderr_is_json_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Log, progress, warnings and the error at the end; no path of this machine in them."""
    monkeypatch.setenv("UMEDFEAT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    arguments = [
        "extract",
        "--input",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "f.h5"),
        "--keep-ids",
        "--log-json",
    ]
    assert run([*arguments, "--encoder", "efficientnet-lite0", "--device", "cpu", "--on-error", "stop", "-v"]) == 1
    lines = capsys.readouterr().err.splitlines()
    events = [json.loads(line) for line in lines]
    assert {event["event"] for event in events} == {"log", "note", "progress", "error"}
    assert any("broken.png" in event["message"] for event in events if event.get("level") == "warning")
    assert events[-1]["exit_code"] == 1
    assert events[-1]["remedy"]
    assert str(tmp_path) not in "\n".join(lines)


def test_a_cluster_shows_its_nodes_and_what_was_given_out_again() -> None:
    stream = io.StringIO()
    progress = JsonProgress(stream)
    progress.begin(3)
    assert "nodes" not in json.loads(stream.getvalue().splitlines()[-1])  # this machine
    progress.cluster(nodes=2, lost=4)
    assert progress.inputs == "planned 0/3 inputs, 2 nodes, 4 given out again"
    progress.close()
    told = json.loads(stream.getvalue().splitlines()[-1])
    assert (told["nodes"], told["leases_lost"]) == (2, 4)


@pytest.mark.parametrize("kind", [BarProgress, LineProgress, JsonProgress])
def test_a_file_that_is_packed_without_a_run(kind: type[Progress]) -> None:
    """Files were only touched, or pruned: nothing begins, and the file is packed anew."""
    stream = io.StringIO()
    progress = kind(stream)  # type: ignore[call-arg]
    progress.packed(3)
    progress.close()
