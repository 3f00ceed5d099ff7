"""How a command speaks: results on standard output, reasons on standard error, and the status that it ends with."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, nullcontext
from enum import IntEnum
from io import StringIO, TextIOWrapper
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from solver_nas.errors import ImpossibleError, RequestError, SolverNasError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from rich.table import Table

_STATUSES = (
    "0    all went well",
    "1    it failed; the reason is on standard error",
    "2    wrong usage",
    "3    what is asked for is impossible",
    "4    the changed model does not compute what it should; nothing was written",
    "130  interrupted (Ctrl-C)",
)


_WIDE = 500  # characters of a line that nobody has to see at once


class ExitStatus(IntEnum):
    """What a command ends with, if not all went well."""

    FAILED = 1
    USAGE = 2
    IMPOSSIBLE = 3
    UNVERIFIED = 4
    INTERRUPTED = 130  # as shells have it: 128 and the number of the signal


def epilog(*examples: str) -> str:
    """What stands below the help of every command: examples, and what exit statuses mean."""
    # "\b" keeps lines as they are.
    return "\n\n".join(
        "\b\n" + "\n  ".join(lines) for lines in (("Examples:", *examples), ("Exit status:", *_STATUSES))
    )


@contextmanager
def failures_told() -> Iterator[None]:
    """Turn errors and Ctrl-C into a line on standard error and an exit status."""
    try:
        yield
    except KeyboardInterrupt:
        raise _told("interrupted", ExitStatus.INTERRUPTED) from None
    except BrokenPipeError:
        # Nobody reads on; typer knows what to do.
        raise
    except (SolverNasError, OSError) as error:
        raise _told(str(error), _status(error)) from error


@contextmanager
def impossible_told(*, quiet: bool) -> Iterator[None]:
    """Print an object on standard output about what is impossible, unless nobody asked for objects."""
    try:
        yield
    except ImpossibleError as error:
        if not quiet:
            nearest = {name: list(sizes) for name, sizes in error.nearest.items()}
            show_json(
                {
                    "status": "impossible",
                    "reasons": list(error.reasons),
                    "nearest": nearest,
                    "limits": list(error.limits),
                    "reachable": dict(error.reachable),
                    "text": str(error),
                }
            )
        raise


def _status(error: Exception) -> ExitStatus:
    match error:
        case RequestError():
            return ExitStatus.USAGE
        case ImpossibleError():
            return ExitStatus.IMPOSSIBLE
        case VerificationError():
            return ExitStatus.UNVERIFIED
        case _:
            return ExitStatus.FAILED


def _told(reason: str, status: ExitStatus) -> typer.Exit:
    typer.echo(f"solver-nas: {reason}", err=True)
    return typer.Exit(status)


def show_table(made: Table) -> None:
    """Print a table; letters that standard output cannot show are written as numbers."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    console = Console()
    if console.is_terminal:
        console.print(made)
        return
    # Files and other programs have room for whole lines.
    text = StringIO()
    Console(file=text, width=_WIDE).print(made)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()))


def show_json(found: Mapping[str, object]) -> None:
    """Print one JSON object."""
    typer.echo(json.dumps(found, allow_nan=False))


def waiting(what: str, *, quiet: bool = False) -> AbstractContextManager[object]:
    """Show on a terminal that something is being done, until it is; nothing stays behind."""
    if quiet or not sys.stderr.isatty():
        return nullcontext()
    return Console(stderr=True).status(f"{what} ...")
