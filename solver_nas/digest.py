"""Noticing that arrays are others."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping


def fingerprint(arrays: Mapping[str, object]) -> str:
    """A digest of arrays or tensors with their names; of anything else, of its `repr`."""
    digest = sha256()
    for name, value in arrays.items():
        digest.update(f"{name} ".encode())
        if hasattr(value, "shape"):
            # Not all types of PyTorch have a counterpart in NumPy.
            plain = value.detach().cpu().double() if hasattr(value, "detach") else value
            array = np.ascontiguousarray(plain)
            digest.update(f"{array.dtype} {array.shape} ".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()
