"""What a command did to the program's log is not what the next test finds."""

from __future__ import annotations

import logging

import pytest

from umedfeat.terminal.log import configure_logging, log


@pytest.fixture(scope="module", autouse=True)
def _a_quiet_command() -> None:
    configure_logging(-1, as_json=False)


def test_a_warning_is_seen_after_a_quiet_command(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        log.warning("3 of 6 files are not there")
    assert "3 of 6 files" in caplog.text
