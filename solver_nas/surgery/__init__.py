"""Changing a structure as a value: edits, and the prospective structure that they lead to."""

from solver_nas.surgery.edits import Input, Reconnect, Wiring, behind, takes, with_edge, without, without_edge
from solver_nas.surgery.rewiring import Gap, Prospect, Rewiring, finished
from solver_nas.surgery.stacking import (
    Layout,
    UntrackedError,
    cut,
    downstream,
    is_stack,
    layout,
    on_one_axis,
    padded,
    stacks,
)

__all__ = [
    "Gap",
    "Input",
    "Layout",
    "Prospect",
    "Reconnect",
    "Rewiring",
    "UntrackedError",
    "Wiring",
    "behind",
    "cut",
    "downstream",
    "finished",
    "is_stack",
    "layout",
    "on_one_axis",
    "padded",
    "stacks",
    "takes",
    "with_edge",
    "without",
    "without_edge",
]
