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

from solver_nas.onnx.source import LARGEST_FILE, size_of

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r} to write {path.name!r} to")
    mark = secrets.token_hex(8)
    made = path.with_name(f".{path.name}.{mark}")
    beside = path.with_name(f"{path.name}.data")
    if external is None:
        external = size_of(model) > LARGEST_FILE
    try:
        if external:
            copy = ModelProto()
            copy.CopyFrom(model)
            folder = made.with_name(f"{made.name}.folder")
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
                _replace([(folder / beside.name, beside), (folder / path.name, path)])
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return
        with made.open("xb") as file:
            file.write(model.SerializeToString())
            file.flush()
            os.fsync(file.fileno())
        _replace([(made, path)])
    finally:
        with suppress(OSError):
            made.unlink(missing_ok=True)


def _replace(pairs: Iterable[tuple[Path, Path]]) -> None:
    for made, path in pairs:
        if not made.exists():
            continue
        if path.exists():
            shutil.copymode(path, made)
        made.replace(path)
