"""The file type detector of magika, on source and data files that come with Python and with packages this one needs.

Source: magika 1.0.3, `magika.py`, for how a file becomes an input.
"""

from __future__ import annotations

import json
import sysconfig
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.benchmarks.measures.real import Real
from tests.benchmarks.measures.wheels import Wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.measures.real import Array, Feed, Run

MAGIKA = Wheel("magika", "1.0.3", "magika")
_FOLDER = "models/standard_v3_3"
_PACKAGES = {"numpy": "numpy", "scipy": "scipy", "scikit-learn": "sklearn", "matplotlib": "matplotlib", "onnx": "onnx"}
#: What the extensions stand for, by the labels of the model.
_LABELS = {
    ".c": "c", ".cc": "cpp", ".cpp": "cpp", ".css": "css", ".csv": "csv", ".f90": "fortran", ".gif": "gif",
    ".gz": "gzip", ".html": "html", ".ico": "ico", ".ini": "ini", ".jpg": "jpeg", ".js": "javascript", ".json": "json",
    ".md": "markdown", ".npy": "npy", ".npz": "npz", ".onnx": "onnx", ".pdf": "pdf", ".pickle": "pickle",
    ".pkl": "pickle", ".png": "png", ".proto": "proto", ".ps1": "powershell", ".py": "python", ".pyi": "python",
    ".rst": "rst", ".so": "elf", ".svg": "svg", ".toml": "toml", ".ttf": "ttf", ".txt": "txt", ".wav": "wav",
    ".xml": "xml",
}  # fmt: skip
_EACH = 12  # files of an extension, at most: those with the first names; every fourth is for calibration
_MORE = 24  # of the files behind those, for calibration too
_FOURTH = 4
_SMALLEST = 256  # bytes; the type of smaller files can hardly be told
_BLOCK, _PART, _PADDING = 4096, 1024, 256  # bytes that are read from an end, kept of them; no byte
_BATCH = 32
#: Folders of the standard library that are not part of it, or that some installations leave out.
_ELSEWHERE = {"site-packages", "dist-packages", "test", "tests", "idle_test"}


def models() -> tuple[Real, ...]:
    """The only model."""
    return (
        Real(
            name="magika",
            wheel=MAGIKA,
            file=f"{_FOLDER}/model.onnx",
            input_shapes={"bytes": (1, 2 * _PART)},
            samples=_samples,
            score=_accuracy,
            measure="accuracy by extension",
            expected=0.93,
        ),
    )


def _samples() -> Feed:
    chosen = [path for place, path in enumerate(_files()) if place % _FOURTH == 0]
    return {"bytes": np.stack([_features(path) for path in (*chosen, *_others())])}


def _accuracy(run: Run) -> float:
    """Which part of the files is of the type that the extension tells."""
    chosen = [path for place, path in enumerate(_files()) if place % _FOURTH]
    labels = json.loads(MAGIKA.file(f"{_FOLDER}/config.min.json").read_text(encoding="utf-8"))["target_labels_space"]
    right = 0
    for start in range(0, len(chosen), _BATCH):
        batch = chosen[start : start + _BATCH]
        (scores,) = run({"bytes": np.stack([_features(path) for path in batch])}).values()
        guesses = [labels[best] for best in scores.argmax(axis=1)]
        right += sum(guess == _LABELS[path.suffix] for guess, path in zip(guesses, batch, strict=True))
    return right / len(chosen)


@cache
def _ranked() -> dict[str, list[Path]]:
    """All files by extension, those with the first names first."""
    by_extension: dict[str, list[Path]] = {extension: [] for extension in _LABELS}
    for path in _candidates():
        if path.suffix in by_extension and path.is_file() and path.stat().st_size >= _SMALLEST:
            by_extension[path.suffix].append(path)
    return {extension: sorted(found, key=_rank) for extension, found in by_extension.items()}


@cache
def _files() -> tuple[Path, ...]:
    """The pinned files, by extension and name."""
    return tuple(path for found in _ranked().values() for path in found[:_EACH])


def _others() -> tuple[Path, ...]:
    """Files that come behind them, and are copies of none of them."""
    known = {path.read_bytes() for path in _files()}
    more = (path for found in _ranked().values() for path in found[_EACH : _EACH + _MORE])
    return tuple(path for path in more if path.read_bytes() not in known)


def _rank(path: Path) -> tuple[str, int, str]:
    """Names first, so that no package has most of the files."""
    return path.name, path.stat().st_size, path.as_posix()


def _candidates() -> Iterator[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    for path in library.rglob("*"):
        if not _ELSEWHERE & set(path.relative_to(library).parts):
            yield path
    for name, package in _PACKAGES.items():
        yield from Wheel(name, "", package).file(".").rglob("*")


@cache
def _features(path: Path) -> Array:
    """What the model sees of a file: the first and the last bytes that are no blanks, shape `(2048,)`."""
    content = path.read_bytes()
    first, last = content[:_BLOCK].lstrip()[:_PART], content[-_BLOCK:].rstrip()[-_PART:]
    features = np.full(2 * _PART, _PADDING, dtype=np.int32)
    features[: len(first)] = np.frombuffer(first, np.uint8)
    features[2 * _PART - len(last) :] = np.frombuffer(last, np.uint8)
    return features
