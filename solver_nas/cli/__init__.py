"""The command `solver-nas`: what the library does, from a shell."""

from __future__ import annotations

from solver_nas.cli.app import main

__all__ = ["main"]
