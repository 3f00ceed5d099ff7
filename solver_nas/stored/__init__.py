"""Size problems without a network, as files: which widths keep the most utility at a lower cost."""

from __future__ import annotations

from solver_nas.stored.answering import Amounts, Answer, answer
from solver_nas.stored.document import Cost, Document, Group, Layer, Width, amount
from solver_nas.stored.posing import Ask, conflicts, pose
from solver_nas.stored.reading import parse, read

__all__ = [
    "Amounts",
    "Answer",
    "Ask",
    "Cost",
    "Document",
    "Group",
    "Layer",
    "Width",
    "amount",
    "answer",
    "conflicts",
    "parse",
    "pose",
    "read",
]
