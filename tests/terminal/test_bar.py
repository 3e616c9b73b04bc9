"""The one bar under all others: silent where nobody watches, exact where a total is learnt late."""

from __future__ import annotations

import io

import pytest

from umedfeat.terminal.bar import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_silent_in_a_log_file() -> None:
    log = io.StringIO()
    with Bar("verify", 10, stream=log) as bar:
        bar.update(10)
    assert log.getvalue() == ""


def test_a_total_that_is_learnt_on_the_way() -> None:
    terminal = Terminal()
    with Bar("fitting", unit="draw", stream=terminal, delay=0, leave=True) as bar:
        for done in range(1, 6):
            bar.reach(done, 5)
    last = terminal.getvalue().rpartition("\r")[2]
    assert "fitting" in last and "5/5" in last


@pytest.mark.parametrize(("unit", "told"), [("row", "1.50M"), ("draw", "1500000")])
def test_only_rows_and_bytes_are_shortened(unit: str, told: str) -> None:
    terminal = Terminal()
    with Bar("x", 1_500_000, unit, stream=terminal, delay=0, leave=True) as bar:
        bar.update(1_500_000)
    assert told in terminal.getvalue()
