"""How neurons pass through operations: one rule per kind, made of a few primitives."""

from solver_nas.labels import Memory
from solver_nas.rules.label import label, label_vertex
from solver_nas.rules.registry import Flow, Resized, Rewrite, Rule, Takes, changed, kinds, rule, rule_of
from solver_nas.rules.scope import Scope, Weight
from solver_nas.rules.tape import Replay, Tape

__all__ = [
    "Flow",
    "Memory",
    "Replay",
    "Resized",
    "Rewrite",
    "Rule",
    "Scope",
    "Takes",
    "Tape",
    "Weight",
    "changed",
    "kinds",
    "label",
    "label_vertex",
    "rule",
    "rule_of",
]
