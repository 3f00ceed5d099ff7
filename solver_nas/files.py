"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path


def replaceable(path: str | os.PathLike[str]) -> Path:
    """Where a file really is that is to be replaced, links followed.

    Raises:
        OSError: there is something else than a file.
    """
    try:
        target = Path(path).resolve()
    except (RuntimeError, ValueError) as error:  # a loop of links, a character that no path has
        raise OSError(f"{os.fspath(path)!r} is no path of a file: {error}") from error
    if target.exists() and not target.is_file():
        kind = IsADirectoryError if target.is_dir() else FileExistsError
        raise kind(f"{str(path)!r} is no file and cannot be replaced by one")
    return target


def replace_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Put a file in the place of another in one step; what was there before stays if anything fails, Ctrl-C included.

    A link stays one (what it points to is replaced), and the permissions of the file stay.

    Args:
        path: where to; its folder exists.
        data: what the file then holds.

    Raises:
        OSError: it cannot be written, or there is something else than a file, such as a device or a pipe.
    """
    target = replaceable(path)
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
