"""Random changes of an architecture, for search."""

from solver_nas.mutation.core import Every, Local, Mutation, OneOf, Report, Step, mutate
from solver_nas.mutation.operators import (
    Activation,
    AddEdge,
    InsertLayer,
    KernelSize,
    Narrow,
    RemoveEdge,
    RemoveLayer,
    Widen,
    identity_layer,
)

__all__ = [
    "Activation",
    "AddEdge",
    "Every",
    "InsertLayer",
    "KernelSize",
    "Local",
    "Mutation",
    "Narrow",
    "OneOf",
    "RemoveEdge",
    "RemoveLayer",
    "Report",
    "Step",
    "Widen",
    "identity_layer",
    "mutate",
]
