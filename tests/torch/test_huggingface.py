"""Changed models of transformers go through its own methods of saving and loading."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from solver_nas import delta_nout, shrink
from solver_nas.errors import RequestError
from solver_nas.limits import macs, now
from solver_nas.torch import fit_config, loadable, trace
from tests.torch.nets import mlp
from tests.torch.torchvision_ready import make_ready

make_ready()
transformers = pytest.importorskip("transformers", reason="pip install 'solver_nas[test]' brings it")

IDS = torch.arange(10).reshape(1, 10)
SMALL: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 50}


def _llama(kind: str) -> tuple[Any, dict[str, Any]]:
    config = getattr(transformers, f"{kind}Config")(
        **SMALL, intermediate_size=96, num_attention_heads=8, num_key_value_heads=2, bos_token_id=1, eos_token_id=2
    )
    return getattr(transformers, f"{kind}ForCausalLM")(config), {"input_ids": IDS, "use_cache": False}


def _bert(kind: str, task: str) -> tuple[Any, dict[str, Any]]:
    config = getattr(transformers, f"{kind}Config")(**SMALL, num_attention_heads=4, intermediate_size=96)
    return getattr(transformers, f"{kind}For{task}")(config), {"input_ids": IDS}


def _distilbert() -> tuple[Any, dict[str, Any]]:
    config = transformers.DistilBertConfig(dim=64, n_layers=2, vocab_size=50, n_heads=4, hidden_dim=96)
    return transformers.DistilBertForSequenceClassification(config), {"input_ids": IDS}


def _gpt2() -> tuple[Any, dict[str, Any]]:
    config = transformers.GPT2Config(
        n_embd=64, n_layer=2, n_head=4, vocab_size=50, n_positions=32, bos_token_id=1, eos_token_id=2
    )
    return transformers.GPT2LMHeadModel(config), {"input_ids": IDS, "use_cache": False}


def _t5() -> tuple[Any, dict[str, Any]]:
    config = transformers.T5Config(d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4, vocab_size=50)
    model = transformers.T5ForConditionalGeneration(config)
    return model, {"input_ids": IDS, "decoder_input_ids": IDS[:, :6], "use_cache": False}


def _vit() -> tuple[Any, dict[str, Any]]:
    config = transformers.ViTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=32, patch_size=8
    )
    return transformers.ViTForImageClassification(config), {"pixel_values": torch.ones(1, 3, 32, 32)}


FAMILIES: dict[str, tuple[Callable[[], tuple[Any, dict[str, Any]]], float]] = {
    "bert": (lambda: _bert("Bert", "SequenceClassification"), 0.6),
    "roberta": (lambda: _bert("Roberta", "SequenceClassification"), 0.6),
    "roberta words": (lambda: _bert("Roberta", "MaskedLM"), 0.6),
    "distilbert": (_distilbert, 0.6),
    "gpt2": (_gpt2, 0.6),
    "llama": (lambda: _llama("Llama"), 0.5),
    "qwen2": (lambda: _llama("Qwen2"), 0.5),
    "qwen3": (lambda: _llama("Qwen3"), 0.5),
    # What the encoder returns is a result of the model, so that it stays as wide as it is.
    "t5": (_t5, 0.8),
    "vit": (_vit, 0.6),
}


def built(name: str) -> tuple[Any, dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model, inputs = FAMILIES[name][0]()
    return model.eval(), inputs


@pytest.mark.parametrize("name", FAMILIES)
def test_what_was_made_loadable_is_loaded_and_computes_the_same(name: str, tmp_path: Path) -> None:
    module, inputs = built(name)
    model = trace(module, (), inputs)
    limits = [macs(model) <= FAMILIES[name][1] * now, *loadable(model)]
    change = shrink(model, limits, normalise="mean", time_limit=3, gap=0.01)
    assert any(after < before for before, after in change.sizes.values())
    config, before = module.config, module.config.to_dict()
    saved: Any = fit_config(module)
    assert config.to_dict() == before  # another model may have it, too
    saved.save_pretrained(tmp_path)
    again: Any = type(module).from_pretrained(tmp_path).eval()
    expected, found = (torch.utils._pytree.tree_leaves(one(**inputs)) for one in (module, again))
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_uneven_layers_have_no_configuration() -> None:
    module, inputs = built("gpt2")
    model = trace(module, (), inputs)
    delta_nout(model["transformer.h.0.mlp.c_fc"], -8)
    with pytest.raises(RequestError, match=r"no configuration describes this model: .*solver_nas\.torch\.save"):
        fit_config(module)
    assert module.config.n_inner is None


def test_other_models_are_refused() -> None:
    with pytest.raises(RequestError, match="models of type None cannot be loaded again by from_pretrained"):
        loadable(trace(mlp(), torch.ones(1, 4)))


def test_heads_have_to_be_whole() -> None:
    module, inputs = built("llama")
    with pytest.raises(RequestError, match="trace the model with whole_heads=True"):
        loadable(trace(module, (), inputs, whole_heads=False))


def test_rotary_embeddings_are_no_hurdle_when_heads_are_whole() -> None:
    module, inputs = built("llama")
    model = trace(module, (), inputs)
    # A complete search, which is for columns that really are shared, finds next to nothing in this time.
    change = shrink.plan(model, [macs(model) <= 0.5 * now], normalise="mean", time_limit=5)
    assert change.certificate.gap < 0.01
