"""Sums on the way, in a file, so that gathering them can go on where it was interrupted."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solver_nas.digest import fingerprint
from solver_nas.errors import CalibrationError
from solver_nas.files import replace_file, replaceable

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from solver_nas.passage import Batch

Arrays = dict[str, NDArray[Any]]

_DONE, _KEY = "done", "key"  # names in the file; those of sums have a dot
_SAVES = 10  # in all


class Checkpoint:
    """A file of sums over the first batches."""

    def __init__(
        self, path: str | os.PathLike[str], arrays: Mapping[str, object], batches: Sequence[Batch], settings: object
    ) -> None:
        """Nothing is read or written yet.

        Args:
            path: of the file; it need not exist.
            arrays: the parameters of the model.
            batches: all samples.
            settings: whatever else the sums depend on, with a `repr` that tells it apart.

        Raises:
            CalibrationError: there is something else than a file.
        """
        try:
            self._path = replaceable(path)
        except OSError as error:
            raise CalibrationError(f"no checkpoint can be kept: {error}") from error
        samples = {
            f"{place} {name}": value for place, batch in enumerate(batches) for name, value in batch.inputs.items()
        }
        self._key = " ".join([fingerprint(arrays), fingerprint(samples), fingerprint({"settings": settings})])
        self._every = -(-len(batches) // _SAVES)
        self._last = len(batches)

    def found(self) -> tuple[int, Arrays]:
        """How many batches are done, and the sums over them; none if there is no file.

        Raises:
            CalibrationError: the file is something else, or of another model, samples or settings.
        """
        if not self._path.exists():
            return 0, {}
        way_out = "delete it, or give another path"
        try:
            with np.load(io.BytesIO(self._path.read_bytes()), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            done, key = int(arrays.pop(_DONE)), str(arrays.pop(_KEY))
        except Exception as error:  # numpy and zipfile raise all kinds of errors for files that are none of theirs
            raise CalibrationError(f"{str(self._path)!r} is no checkpoint of a calibration; {way_out}") from error
        if key != self._key:
            raise CalibrationError(
                f"the checkpoint {str(self._path)!r} is of another model, other samples or other settings; {way_out}"
            )
        return done, arrays

    def due(self, done: int) -> bool:
        """Whether sums are to be kept after so many batches."""
        return done % self._every == 0 or done == self._last

    def keep(self, done: int, arrays: Arrays) -> None:
        """Write the file, as a whole or not at all.

        Raises:
            CalibrationError: it cannot be written.
        """
        content = io.BytesIO()
        np.savez(content, **{_DONE: np.array(done), _KEY: np.array(self._key)}, **arrays)  # type: ignore[arg-type] # names of sums are no options
        try:
            replace_file(self._path, content.getvalue())
        except OSError as error:
            raise CalibrationError(f"no checkpoint can be kept: {error}; nothing was recorded") from error
