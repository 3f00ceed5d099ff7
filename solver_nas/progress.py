"""Showing how far a long computation is, on a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATIENCE = 1.0  # seconds before a bar appears by itself: what is over sooner needs none


@contextmanager
def progress(label: str, total: int, *, show: bool | None = None) -> Iterator[Callable[[], None]]:
    """Hand out a function to be called after each of `total` steps.

    Args:
        label: what is being done.
        total: how many steps it takes.
        show: `True` and `False` for always and never; `None` for on a terminal, when it takes long.

    >>> with progress("counting", 2) as advance:
    ...     for _ in range(2):
    ...         advance()
    """
    bar = _Bar(label, total, show=show)
    try:
        yield bar.advance
    finally:
        bar.close()


class _Bar:
    def __init__(self, label: str, total: int, *, show: bool | None) -> None:
        self._label, self._total = label, total
        self._wanted = sys.stderr.isatty() if show is None else show
        self._start = time.monotonic() if show is None else float("-inf")
        self._fleeting = show is None  # a bar that nobody asked for leaves nothing behind
        self._done = 0
        self._close: Callable[[], None] | None = None
        self._tell: Callable[[int], None] | None = None

    def advance(self) -> None:
        self._done += 1
        if not self._wanted:
            return
        if self._tell is None and time.monotonic() - self._start > _PATIENCE:
            self._open()
        if self._tell is not None:
            self._tell(self._done)

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        bar = Progress(console=Console(stderr=True), transient=self._fleeting)
        task = bar.add_task(self._label, total=self._total)
        bar.start()
        self._close = bar.stop
        self._tell = lambda done: bar.update(task, completed=done)

    def close(self) -> None:
        if self._close is not None:
            self._close()
