"""How an ONNX model is kept in a file, with large tensors beside it; written in one go."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import ModelProto

from solver_nas.files import replace_file, replaceable
from solver_nas.onnx.source import LARGEST_FILE, size_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGE = 1024  # bytes from which on a tensor is kept beside the model


def write(model: ModelProto, path: Path, *, external: bool | None = None) -> None:
    """Write a model; what was there before stays if anything fails, Ctrl-C included.

    Args:
        model: stays as it is.
        path: the file's.
        external: whether large tensors go into a file beside it, `path` with `.data` added; by default, where the
            model is too large otherwise.

    Raises:
        OSError: it cannot be written.
    """
    path = replaceable(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r} to write {path.name!r} to")
    if external is None:
        external = size_of(model) > LARGEST_FILE
    if not external:
        replace_file(path, model.SerializeToString())
        return
    beside = replaceable(path.with_name(f"{path.name}.data"))
    copy = ModelProto()
    copy.CopyFrom(model)
    folder = path.with_name(f".{secrets.token_hex(8)}.folder")
    folder.mkdir()
    try:
        onnx.save_model(
            copy,
            str(folder / path.name),
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=beside.name,
            size_threshold=_LARGE,
        )
        pairs = [(folder / path.name, path)]
        if (folder / beside.name).exists():
            pairs.insert(0, (folder / beside.name, beside))
        for made, target in pairs:
            # The folder was made for nobody else to look into; a new file has the rights of its neighbour.
            shutil.copymode(target if target.exists() else folder / path.name, made)
        _replace_all(pairs, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace_all(pairs: Sequence[tuple[Path, Path]], folder: Path) -> None:
    """Put files in the place of others: all of them, or none."""
    done: list[tuple[Path, Path | None]] = []
    try:
        for made, target in pairs:
            before = folder / f"{target.name}.before" if target.exists() else None
            done.append((target, before))
            if before is not None:
                _keep(target, before)
            made.replace(target)
    except BaseException:
        for target, before in reversed(done):
            with suppress(OSError):
                target.unlink(missing_ok=True) if before is None else before.replace(target)
        raise


def _keep(file: Path, name: Path) -> None:
    """Keep what a file holds under another name."""
    try:
        os.link(file, name)
    except OSError:  # not every file system has links
        file.replace(name)
