"""Makes `import torchvision` work next to a PyTorch without CUDA.

The compiled part of the torchvision that PyPI ships needs CUDA libraries. Where it does not load, the schemas of two
operators are missing, on which `import torchvision` (and with it timm and transformers) stumbles.
"""

# mypy: disable-error-code="no-untyped-call"
# torch.library has no types.

from __future__ import annotations

from functools import cache

import torch


@cache  # keeps the schemas alive, which vanish with the library
def make_ready() -> torch.library.Library | None:
    """To be called before anything that imports torchvision; returns what it had to declare."""
    try:
        import torchvision  # noqa: F401 - the attempt is what counts
    except ImportError:  # not installed: timm and transformers do without
        return None
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None
