"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path


def replace_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Put a file in the place of another in one step; what was there before stays if anything fails, Ctrl-C included.

    A link stays one (what it points to is replaced), and the permissions of the file stay.

    Args:
        path: where to; its folder exists.
        data: what the file then holds.

    Raises:
        OSError: it cannot be written.
    """
    target = Path(path).resolve()
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
