"""Changed models of the library transformers that its own `from_pretrained` can load again.

Such a model is built from a configuration, which has one number for all layers. So all layers have to stay equal, and
heads have to have the sizes that the configuration computes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from solver_nas.errors import RequestError
from solver_nas.limits import equal, multiple_of, sizes

if TYPE_CHECKING:
    from solver_nas.frontend import Handle
    from solver_nas.limits import Limit
    from solver_nas.torch.model import TorchModel


class _Family(NamedTuple):
    """How a family of models is built.

    Args:
        width: the module whose output is as wide as the residual stream.
        alike: patterns of modules; those that fit one of them have equal sizes.
        attention: patterns of modules that are as wide as the residual stream times a number, since the size of a
            head is computed from that.
        halves: patterns of modules of which whole halves go, so that the residual stream, in multiples of the heads
            that there are, remains a multiple of the heads that stay; their configuration insists on that.
        fields: what the configuration says, from the sizes of modules: pattern -> output size of the first that fits.
    """

    width: str
    alike: tuple[str, ...]
    attention: Mapping[str, int]
    halves: tuple[str, ...]
    fields: Callable[[Callable[[str], int], Any], dict[str, int]]


def _bert(size: Callable[[str], int], config: Any) -> dict[str, int]:
    head = config.hidden_size // config.num_attention_heads
    width = size("*embeddings.word_embeddings")
    return {
        "hidden_size": width,
        "num_attention_heads": width // head,
        "intermediate_size": size("*intermediate.dense"),
    }


def _distilbert(size: Callable[[str], int], config: Any) -> dict[str, int]:
    head = config.dim // config.n_heads
    width = size("*embeddings.word_embeddings")
    return {"dim": width, "n_heads": width // head, "hidden_dim": size("*ffn.lin1")}


def _vit(size: Callable[[str], int], config: Any) -> dict[str, int]:
    head = config.hidden_size // config.num_attention_heads
    width = size("*patch_embeddings.projection")
    return {"hidden_size": width, "num_attention_heads": width // head, "intermediate_size": size("*mlp.fc1")}


def _gpt2(size: Callable[[str], int], config: Any) -> dict[str, int]:
    head = config.n_embd // config.n_head
    width = size("*wte")
    return {"n_embd": width, "n_head": width // head, "n_inner": size("*mlp.c_fc")}


def _llama(size: Callable[[str], int], config: Any) -> dict[str, int]:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {
        "hidden_size": size("*embed_tokens"),
        "intermediate_size": size("*mlp.gate_proj"),
        "num_attention_heads": size("*self_attn.q_proj") // head,
        "num_key_value_heads": size("*self_attn.k_proj") // head,
        "head_dim": head,
    }


def _t5(size: Callable[[str], int], config: Any) -> dict[str, int]:
    inner = "*DenseReluDense.wi" if not config.is_gated_act else "*DenseReluDense.wi_0"
    return {"d_model": size("*shared"), "num_heads": size("*SelfAttention.q") // config.d_kv, "d_ff": size(inner)}


_LLAMA = _Family(
    "*embed_tokens", ("*self_attn.q_proj", "*self_attn.k_proj", "*mlp.gate_proj"), {}, ("*self_attn.q_proj",), _llama
)
_BERT = _Family(
    "*embeddings.word_embeddings",
    ("*intermediate.dense",),
    {
        "*attention.self.query": 1,
        "*attention.self.value": 1,
        "*pooler.dense": 1,
        "*classifier.dense": 1,
        "*lm_head.dense": 1,
    },
    (),
    _bert,
)
_FAMILIES = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "distilbert": _Family(
        "*embeddings.word_embeddings",
        ("*ffn.lin1",),
        {"*attention.q_lin": 1, "*attention.v_lin": 1, "*pre_classifier": 1, "*vocab_transform": 1},
        (),
        _distilbert,
    ),
    "gpt2": _Family("*wte", ("*mlp.c_fc",), {"*attn.c_attn": 3}, (), _gpt2),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "t5": _Family(
        "*shared",
        ("*Attention.q", "*DenseReluDense.wi*"),
        {},
        (),
        _t5,
    ),
    "vit": _Family(
        "*patch_embeddings.projection",
        ("*mlp.fc1",),
        {"*attention.q_proj": 1, "*attention.v_proj": 1},
        (),
        _vit,
    ),
}


def _family(module: torch.nn.Module) -> _Family:
    """How the model is built.

    Raises:
        RequestError: nobody knows.
    """
    kind = getattr(getattr(module, "config", None), "model_type", None)
    if kind not in _FAMILIES:
        raise RequestError(
            f"models of type {kind!r} cannot be loaded again by from_pretrained, as far as is known here (known are "
            f"{', '.join(_FAMILIES)}); save them with solver_nas.torch.save"
        )
    return _FAMILIES[kind]


def loadable(model: TorchModel) -> list[Limit]:
    """Limits with which a changed model of transformers can be saved and loaded by its own methods.

    All layers stay equally wide; heads go from all layers alike, in whole groups where keys and values are shared.
    Behind the change, `fit_config` brings the configuration up to date.

    Args:
        model: a traced BERT, RoBERTa, DistilBERT, GPT-2, Llama, Mistral, Qwen2, Qwen3, T5 or ViT.

    Raises:
        RequestError: it is none of these, or was traced with `whole_heads=False`.

    >>> # shrink(model, [macs(model) <= 0.5 * now, *loadable(model)])
    >>> # fit_config(model.module).save_pretrained(folder)
    """
    family = _family(model.module)
    if not model.whole_heads:
        raise RequestError("heads have to stay as they are inside: trace the model with whole_heads=True")
    limits: list[Limit] = []
    for pattern in family.alike:
        found = _outer(model, pattern)
        if len(found) > 1:
            limits += equal(*found)
    for pattern, times in family.attention.items():
        (width, *_) = _outer(model, family.width)
        limits += [sizes[handle] == times * sizes[width] for handle in model.find(pattern) if handle.nout]
    for pattern in family.halves:
        config: Any = model.module.config
        heads = int(config.num_attention_heads)
        limits.append(multiple_of(heads, _outer(model, family.width)))
        for handle in _outer(model, pattern):
            limits.append(multiple_of(handle.nout // (2 if heads % 2 == 0 else 1), [handle]))
    return limits


def _outer(model: TorchModel, pattern: str) -> list[Handle]:
    """The vertices of modules of that name that have neurons."""
    found = [handle for handle in model if fnmatchcase(handle.name, pattern) and handle.nout]
    if not found:
        raise RequestError(f"the model has no module {pattern!r}, as models of its type do")
    return found


def fit_config(module: torch.nn.Module) -> torch.nn.Module:
    """Bring the configuration of a changed model of transformers up to date, so that `save_pretrained` saves it whole.

    Args:
        module: a changed model; it gets a configuration of its own, with the new sizes, in place of the one that it
            may share with other models.

    Returns:
        The module.

    Raises:
        RequestError: its layers differ, so that no configuration describes it; nothing is changed.
    """
    if not isinstance(module, torch.nn.Module):
        raise RequestError(f"fit_config takes the changed module (model.module), got a {type(module).__name__}")
    family, config = _family(module), copy.deepcopy(module.config)

    def size(pattern: str) -> int:
        for name, part in module.named_modules():
            weight = getattr(part, "weight", None)
            if fnmatchcase(name, pattern) and isinstance(weight, torch.Tensor):
                behind = isinstance(part, torch.nn.Embedding) or type(part).__name__ == "Conv1D"
                return int(weight.shape[1 if behind else 0])
        raise RequestError(f"the model has no module {pattern!r}, as models of its type do")

    new = family.fields(size, config)
    for name, value in new.items():
        setattr(config, name, value)
    with torch.device("meta"):
        built = type(module)(config)
    expected = dict(built.named_parameters())
    for name, parameter in module.named_parameters():
        if name not in expected or expected[name].shape != parameter.shape:
            wanted = tuple(expected[name].shape) if name in expected else None
            raise RequestError(
                f"no configuration describes this model: {name!r} has shape {tuple(parameter.shape)}, with "
                f"{', '.join(f'{key}={value}' for key, value in new.items())} it would be {wanted}; plan the change "
                f"with the limits loadable(model), or save it with solver_nas.torch.save"
            )
    before = module.config
    for part in module.modules():
        if getattr(part, "config", None) is before:
            part.config = config
    return module
