"""Attributes in which PyTorch's own modules keep the sizes of their parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from solver_nas.torch.trees import Attribute

Sizes = Callable[[Any], Mapping[str, int | tuple[int, ...]]]


def _linear(module: Any) -> dict[str, int | tuple[int, ...]]:
    return {"in_features": module.weight.shape[1], "out_features": module.weight.shape[0]}


def _bilinear(module: Any) -> dict[str, int | tuple[int, ...]]:
    made, one, other = module.weight.shape
    return {"in1_features": one, "in2_features": other, "out_features": made}


def _conv(module: Any) -> dict[str, int | tuple[int, ...]]:
    first, second = module.weight.shape[:2]
    if module.transposed:
        return {"in_channels": first, "out_channels": second * module.groups}
    return {"in_channels": second * module.groups, "out_channels": first}


def _features(module: Any) -> dict[str, int | tuple[int, ...]]:
    known = next((one for one in (module.weight, module.running_mean) if one is not None), None)
    return {} if known is None else {"num_features": known.shape[0]}


def _group(module: Any) -> dict[str, int | tuple[int, ...]]:
    return {} if module.weight is None else {"num_channels": module.weight.shape[0]}


def _normalised(module: Any) -> dict[str, int | tuple[int, ...]]:
    return {} if module.weight is None else {"normalized_shape": tuple(module.weight.shape)}


def _embedding(module: Any) -> dict[str, int | tuple[int, ...]]:
    return {"num_embeddings": module.weight.shape[0], "embedding_dim": module.weight.shape[1]}


def _recurrent(module: Any) -> dict[str, int | tuple[int, ...]]:
    return {"input_size": module.weight_ih_l0.shape[1], "hidden_size": module.weight_hh_l0.shape[1]}


def _cell(module: Any) -> dict[str, int | tuple[int, ...]]:
    return {"input_size": module.weight_ih.shape[1], "hidden_size": module.weight_hh.shape[1]}


def _attention(module: Any) -> dict[str, int | tuple[int, ...]]:
    total = module.out_proj.weight.shape[1]
    found: dict[str, int | tuple[int, ...]] = {"embed_dim": total, "head_dim": total // module.num_heads}
    if module.in_proj_weight is not None:
        return {**found, "kdim": module.in_proj_weight.shape[1], "vdim": module.in_proj_weight.shape[1]}
    return {**found, "kdim": module.k_proj_weight.shape[1], "vdim": module.v_proj_weight.shape[1]}


def _slopes(module: Any) -> dict[str, int | tuple[int, ...]]:
    return {"num_parameters": module.weight.shape[0]}


_KNOWN: tuple[tuple[type | tuple[type, ...], Sizes], ...] = (
    (nn.Linear, _linear),
    (nn.Bilinear, _bilinear),
    (nn.modules.conv._ConvNd, _conv),  # noqa: SLF001 - what all convolutions are derived from
    (nn.modules.batchnorm._NormBase, _features),  # noqa: SLF001 - likewise, batch and instance normalisations
    (nn.GroupNorm, _group),
    ((nn.LayerNorm, nn.RMSNorm), _normalised),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    (nn.RNNBase, _recurrent),
    (nn.RNNCellBase, _cell),
    (nn.MultiheadAttention, _attention),
    (nn.PReLU, _slopes),
)


def sized(module: nn.Module) -> set[Attribute]:
    """The attributes of PyTorch's own modules in which they keep sizes."""
    found: set[Attribute] = set()
    for name, part in module.named_modules():
        for kind, sizes in _KNOWN:
            if isinstance(part, kind):
                for attribute, value in _sizes(part, sizes).items():
                    places = range(len(value)) if isinstance(value, tuple) else [None]
                    found |= {Attribute(name, (attribute,) if one is None else (attribute, one)) for one in places}
    return found


def declared(module: nn.Module) -> dict[Attribute, int]:
    """What the attributes of PyTorch's own modules should be, going by their parameters; those that are not."""
    found: dict[Attribute, int] = {}
    for name, part in module.named_modules():
        for kind, sizes in _KNOWN:
            if isinstance(part, kind):
                for attribute, value in _sizes(part, sizes).items():
                    before = getattr(part, attribute, None)
                    if isinstance(value, tuple):
                        if isinstance(before, tuple) and len(before) == len(value):
                            pairs = zip(before, value, strict=True)
                            new = {place: now for place, (old, now) in enumerate(pairs) if now != old}
                            found.update({Attribute(name, (attribute, place)): now for place, now in new.items()})
                    elif isinstance(before, int) and before != value:
                        found[Attribute(name, (attribute,))] = int(value)
    return found


def _sizes(module: Any, sizes: Sizes) -> Mapping[str, int | tuple[int, ...]]:
    try:
        with torch.no_grad(), _unmoved(module):
            return sizes(module)
    except AttributeError:
        # A class of the user's own that has taken something away.
        return {}


@contextmanager
def _unmoved(module: nn.Module) -> Iterator[None]:
    """Weights that are computed when they are looked at (spectral norms) learn nothing from that."""
    learning = [part for part in module.modules() if part.training] if is_parametrized(module) else []
    for part in learning:
        part.training = False
    try:
        yield
    finally:
        for part in learning:
            part.training = True
