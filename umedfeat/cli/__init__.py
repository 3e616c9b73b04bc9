"""The command line: parse, call the library, print. Heavy imports happen inside the commands.

stdout is data (tables, JSON with ``--json``), stderr is progress and logs. Exit codes: 0 all embedded, 1 some inputs
failed, 2 usage or set-up, 3 leakage or failed sanity check, 130 interrupted.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click
from click.exceptions import NoSuchCommand

from umedfeat._version import __version__
from umedfeat.cli.blame import blamed
from umedfeat.cli.guardian import guarded
from umedfeat.errors import SetupError, UmedfeatError
from umedfeat.naming import printable
from umedfeat.terminal.streams import outlive_readers

__all__ = ["COMMANDS", "main", "root"]

#: Every command in the order of ``--help``; each lives in ``umedfeat.cli.<name>`` as ``command``.
COMMANDS: dict[str, str] = {
    "demo": "Run the whole way on a small mixed cohort, under two minutes.",
    "extract": "Images in, one HDF5 file of features out.",
    "aggregate": "Tiles of each slide to one vector, by a slide encoder.",
    "preview": "See what the encoder will see: overlays, contact sheets, one page.",
    "info": "Tell what is inside a feature file.",
    "report": "A cohort on one page: kinds, scales, copies, outliers, maps.",
    "probe": "How few labels are enough? Linear probe and kNN over fractions.",
    "compare": "Two or more encoders on the same draws: differences, data needed.",
    "predict": "A saved probe on new patients: table, page, heatmaps.",
    "similar": "The nearest items or regions to an item, a region or a new image.",
    "verify": "Check a feature file: schema, ranges, checksums.",
    "merge": "Pack shards or several feature files into one.",
    "export": "Write CLAM, TRIDENT, STAMP, .pt, Parquet or AnnData layouts.",
    "pretrain": "Train an encoder on your own labels: classes, masks and boxes.",
    "doctor": "Would extract run here? A line each, with a remedy.",
    "key": "The key for pseudonyms: make one for the site, check it.",
    "encoders": "List the encoders: licence, image size, length of the embedding.",
    "weights": "List, fetch, verify and convert encoder weights.",
}

EPILOG = """\b
Examples:
  umedfeat demo
  umedfeat extract --input slides/ --out feats.h5
  umedfeat extract --input study.csv --out feats.h5 --encoder uni2-h
  umedfeat probe --fraction 0.01
  umedfeat COMMAND --help
"""


def _write_privately(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        os.umask(0o077)  # of this process and of those it starts


#: An option of every command, because every command may write.
_PRIVATE = click.Option(
    ["--private"],
    is_flag=True,
    expose_value=False,
    callback=_write_privately,
    help="Write files that nobody else on this machine can read (mode 0600).",
)


def _note_json(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    ctx.meta[_JSON] = wanted


def _tell_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    as_json = ctx.meta.get(_JSON, False)
    if as_json and not wanted:
        raise click.UsageError("--json stands behind the command, or beside --version")
    if not wanted or ctx.resilient_parsing:
        return
    if as_json:
        from umedfeat.doctor.versions import versions

        click.echo(json.dumps(versions(), indent=2))
    else:
        click.echo(f"umedfeat, version {__version__}")
    ctx.exit()


_JSON = "umedfeat.json"


class CommandTable(click.Group):
    """Loads a command's module only when it runs, so that ``--help`` does not import torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command, imported when it is asked for; None for a name that is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"umedfeat.cli.{cmd_name}").command
        command.name = cmd_name  # click calls it after its function
        parts = command.commands.values() if isinstance(command, click.Group) else [command]
        for part in parts:
            if _PRIVATE not in part.params:
                part.params.append(_PRIVATE)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        """As click does, which knows no names of commands that are not imported yet, to suggest one."""
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as error:
            raise NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands in the order of the table, with their one line; nothing is imported for that."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=CommandTable, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, expose_value=False, callback=_tell_version, help="Show the version and exit.")
@click.option(
    "--json",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_note_json,
    help="With --version: as JSON, with Python, the system and the packages (for bug reports).",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def root(debug: bool) -> None:
    """Frozen features from biomedical images, and how little labelled data they need."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the ``umedfeat`` command: one-line errors with the remedy, exit codes as documented."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    if argv is None:
        outlive_readers()
    if debug or argv is not None:
        sys.exit(run(arguments, debug=debug))

    def tell(message: str, remedy: str) -> None:
        report_error(SetupError(message, remedy=remedy), 2, debug, as_json="--log-json" in arguments)

    sys.exit(guarded(lambda: run(arguments), tell))


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command line and return its exit code; nothing escapes but SystemExit of a broken interpreter."""
    try:
        outcome = root.main(arguments, prog_name="umedfeat", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        shown = io.StringIO()
        blamed(error).show(shown)
        click.echo(printable(shown.getvalue(), keep="\n\t"), err=True, nl=False)
        return 2
    except (click.Abort, KeyboardInterrupt) as ended:
        if isinstance(ended.__cause__, EOFError):  # click takes it for an interruption
            return _report_unforeseen(ended.__cause__, debug, as_json="--log-json" in arguments)
        click.echo("Interrupted.", err=True)
        return 130
    except UmedfeatError as error:
        return report_error(error, error.exit_code, debug, as_json="--log-json" in arguments)
    except OSError as error:
        return report_error(error, 2, debug, as_json="--log-json" in arguments)
    except MemoryError:
        lack = SetupError("not enough memory", remedy=_MEMORY)
        return report_error(lack, 2, debug, as_json="--log-json" in arguments)
    except Exception as error:  # noqa: BLE001 - exit 1 means that some inputs failed, and a traceback would give it
        return _report_unforeseen(error, debug, as_json="--log-json" in arguments)
    return outcome if isinstance(outcome, int) else 0


_MEMORY = "raise the memory limit, or use fewer --workers, a smaller --batch-size or another --device"
_UNFORESEEN = "this is a fault of umedfeat, or a lack of memory or threads: --debug shows where; please report it"


def _report_unforeseen(error: Exception, debug: bool, *, as_json: bool) -> int:
    if debug:
        traceback.print_exception(error)
    first_line = next(iter(str(error).splitlines()), "")[:200]
    named = SetupError(f"unforeseen {type(error).__name__}: {first_line}", remedy=_UNFORESEEN)
    return report_error(named, 2, debug=False, as_json=as_json)


def report_error(error: Exception, code: int, debug: bool, *, as_json: bool = False) -> int:
    """Print an error as one line with its remedy (the traceback with ``--debug``), or as one JSON object."""
    if debug:
        traceback.print_exception(error)
    message = error.message if isinstance(error, UmedfeatError) else str(error)
    remedy = error.remedy if isinstance(error, UmedfeatError) else ""
    if as_json:
        click.echo(json.dumps({"event": "error", "message": message, "remedy": remedy, "exit_code": code}), err=True)
        return code
    click.echo(f"Error: {printable(message)}", err=True)
    if remedy:
        click.echo(f"  → {printable(remedy)}", err=True)
    return code
