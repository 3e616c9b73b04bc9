"""In a Jupyter kernel functions show a widget, elsewhere nothing."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from umedfeat.terminal import bar
from umedfeat.terminal.bar import Bar, in_notebook
from umedfeat.terminal.progress import BarProgress, SilentProgress, own_progress


class ZMQInteractiveShell:
    """Named as IPython names the shell of a kernel."""


class Widget:
    """Stands for tqdm's widget: remembers how it was made."""

    made: dict[str, object]

    def __init__(self, **options: object) -> None:
        Widget.made = options


def test_elsewhere_nothing_is_shown() -> None:
    assert not in_notebook() and isinstance(own_progress(), SilentProgress)


def test_a_kernel_shows_a_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=ZMQInteractiveShell))
    monkeypatch.setitem(sys.modules, "tqdm.notebook", SimpleNamespace(tqdm=Widget))
    monkeypatch.setattr(bar, "find_spec", lambda name: object())
    assert in_notebook() and isinstance(own_progress(), BarProgress)
    Bar("reading", 10)
    assert (Widget.made["desc"], Widget.made["total"], Widget.made["disable"]) == ("reading", 10, False)


def test_a_kernel_without_widgets_shows_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=ZMQInteractiveShell))
    monkeypatch.setattr(bar, "find_spec", lambda name: None)
    with Bar("reading", 10, delay=0, mininterval=0) as shown:
        shown.update(10)
    assert "reading" in capsys.readouterr().err


def test_other_shells_of_ipython_are_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not in_notebook()
