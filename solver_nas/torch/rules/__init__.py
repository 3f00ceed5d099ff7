"""How neurons pass through PyTorch's operations; importing this registers all rules."""

from solver_nas.torch.rules import (
    attention,
    contractions,
    elementwise,
    indices,
    layouts,
    normalisations,
    recurrent,
    reductions,
    sealed,
    segments,
    windows,
)

__all__ = [
    "attention",
    "contractions",
    "elementwise",
    "indices",
    "layouts",
    "normalisations",
    "recurrent",
    "reductions",
    "sealed",
    "segments",
    "windows",
]
