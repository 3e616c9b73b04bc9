"""The program's log: lines for people above a running bar, or JSON for machines; always on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from typing import TYPE_CHECKING, TextIO

from umedfeat.naming import printable
from umedfeat.terminal.bar import write_line

__all__ = ["Hints", "configure_logging"]

log = logging.getLogger("umedfeat")

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:  # takes a type from Python 3.11 on
    _StreamHandler = logging.StreamHandler


def configure_logging(verbosity: int, *, as_json: bool) -> None:
    """Send the program's log to stderr: warnings by default, ``-v`` info, ``-vv`` debug, ``-q`` errors only."""
    levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
    handler = _BarAwareHandler()
    handler.setFormatter(_JsonFormatter() if as_json else logging.Formatter("%(levelname)s: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(levels.get(max(-1, verbosity), logging.DEBUG))
    log.propagate = False


class Hints(Counter[str]):
    """Counts what readers would rather be told; the first of a kind is a warning at once, the others need ``-v``."""

    def tell(self, name: str, hint: str) -> None:
        """A hint about one source; nothing where it is empty."""
        if hint:
            log.log(logging.INFO if hint in self else logging.WARNING, "%s: %s", name, hint)
            self[hint] += 1


class _BarAwareHandler(_StreamHandler):
    """Writes log lines above a running progress bar; no message can forge another, or speak to the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args = printable(record.getMessage()), ()  # one record, one line
        write_line(self.format(record), sys.stderr)


class _JsonFormatter(logging.Formatter):
    """One object a line. No traceback: it would name paths of this machine."""

    def format(self, record: logging.LogRecord) -> str:
        level, when = record.levelname.lower(), round(record.created, 3)
        return json.dumps({"event": "log", "level": level, "time": when, "message": record.getMessage()})
