"""What a network may cost and which sizes it may have: limits for every verb, as values that compose."""

from solver_nas.limits.costs import Peak, activation_memory, flops, macs, params, weight_memory
from solver_nas.limits.expression import Expression, Now, now
from solver_nas.limits.latency import Grid, LatencyTable, latency
from solver_nas.limits.neurons import drop, freeze, keep
from solver_nas.limits.sizes import (
    equal,
    fixed,
    inserted,
    inserted_at_most,
    kept,
    maximum,
    minimum,
    multiple_of,
    removed_at_most,
    sizes,
)
from solver_nas.limits.view import Limit, Limits, View, listed, resolved

__all__ = [
    "Expression",
    "Grid",
    "LatencyTable",
    "Limit",
    "Limits",
    "Now",
    "Peak",
    "View",
    "activation_memory",
    "drop",
    "equal",
    "fixed",
    "flops",
    "freeze",
    "inserted",
    "inserted_at_most",
    "keep",
    "kept",
    "latency",
    "listed",
    "macs",
    "maximum",
    "minimum",
    "multiple_of",
    "now",
    "params",
    "removed_at_most",
    "resolved",
    "sizes",
    "weight_memory",
]
