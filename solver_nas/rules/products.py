"""How products are spelled as contractions: of matrices by their ranks, others by an equation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solver_nas.rules.contract import einsum

if TYPE_CHECKING:
    from solver_nas.labels import Tensor
    from solver_nas.rules.contract import Operand
    from solver_nas.rules.scope import Scope


def matmul(scope: Scope, left: Operand, right: Operand) -> Tensor:
    """A product of matrices, or of stacks of them, as NumPy makes it."""
    one, other = len(left.shape), len(right.shape)
    if one == 1 and other == 1:
        spec = "k,k->"
    elif one == 1:
        spec = "k,...kn->...n"
    elif other == 1:
        spec = "...mk,k->...m"
    else:
        spec = "...mk,...kn->...mn"
    return einsum(scope, spec, left, right, why="matrix product: inner sizes are equal")


def explicit(equation: str) -> str | None:
    """An equation of `numpy.einsum` with the right side that it means; `None` if a letter stands twice in one term.

    >>> explicit("bij, jk"), explicit("...i,...i"), explicit("ii->i")
    ('bij,jk->bik', '...i,...i->...', None)
    """
    spec = equation.replace(" ", "")
    if "->" not in spec:
        letters = sorted({letter for letter in spec if letter.isalpha()})
        spec += "->" + ("..." if "." in spec else "") + "".join(one for one in letters if spec.count(one) == 1)
    left, _, right = spec.partition("->")
    if any(len(set(term)) < len(term.replace("...", ".")) for term in (*left.split(","), right)):
        return None
    return spec
