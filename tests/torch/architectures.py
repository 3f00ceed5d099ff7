"""The 32 architectures on which the peers were measured.

Vision models have their published widths and small pictures; language models have small configurations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tests.torch.cases import Case, case, images, tokens
from tests.torch.own_architectures import YOLO, Encoder, FusedLlama, RecurrentClassifier, UNet
from tests.torch.torchvision_ready import make_ready


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    """A model of torchvision, without weights."""

    def make() -> nn.Module:
        make_ready()
        from torchvision.models import get_model

        model: nn.Module = get_model(name, weights=None, **options)
        return model

    return make


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    """A model of timm, without weights."""

    def make() -> nn.Module:
        make_ready()
        import timm

        made: nn.Module = timm.create_model(name, pretrained=False, **options)
        return made

    return make


def _bert() -> nn.Module:
    make_ready()
    from transformers import BertConfig, BertModel

    return BertModel(
        BertConfig(
            vocab_size=200,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=256,
            max_position_embeddings=64,
        )
    )


def _gpt2() -> nn.Module:
    make_ready()
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=200, n_positions=64, n_embd=128, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config)


def _llama() -> nn.Module:
    make_ready()
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=200,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=8,
            num_key_value_heads=2,
            max_position_embeddings=64,
        )
    )


def _with_mask() -> tuple[Tensor, Tensor]:
    """Tokens, and a mask that hides the last four of the second text."""
    (ids,) = tokens(16, 200)()
    mask = torch.ones_like(ids)
    mask[1, -4:] = 0
    return ids, mask


# What `weights=...` gives to the users of torchvision has no auxiliary heads either.
_NO_HEADS = {"init_weights": False, "aux_logits": False}
_text = partial(case, inputs=tokens(16, 200))
_uncached = partial(_text, kwargs=lambda: {"use_cache": False})

ARCHITECTURES: tuple[Case, ...] = (
    case("vgg16_bn", _torchvision("vgg16_bn", init_weights=False), images(64)),
    case("resnet18", _torchvision("resnet18"), images(64)),
    case("resnet50", _torchvision("resnet50"), images(64)),
    case("densenet121", _torchvision("densenet121"), images(64)),
    case("googlenet", _torchvision("googlenet", **_NO_HEADS), images(64)),
    case("inception_v3", _torchvision("inception_v3", **_NO_HEADS), images(128), note="75 pixels are the least"),
    case("squeezenet", _torchvision("squeezenet1_1"), images(64)),
    case("mobilenet_v2", _torchvision("mobilenet_v2"), images(64)),
    case("mobilenet_v3", _torchvision("mobilenet_v3_large"), images(64)),
    case("mnasnet", _torchvision("mnasnet1_0"), images(64)),
    case("efficientnet_b0", _torchvision("efficientnet_b0"), images(64)),
    case("resnext50", _torchvision("resnext50_32x4d"), images(64)),
    case("regnet_y_1_6gf", _torchvision("regnet_y_1_6gf"), images(64)),
    case("convnext_tiny", _torchvision("convnext_tiny"), images(64)),
    case(
        "deeplabv3",
        _torchvision("deeplabv3_resnet50", weights_backbone=None, num_classes=21),
        images(64),
        note="the output is a dict",
    ),
    case("repvgg_a0", _timm("repvgg_a0"), images(64)),
    case("unet", UNet, images(64)),
    case("vit_small", _timm("vit_small_patch16_224", img_size=64), images(64)),
    case("bert", _bert, _with_mask),
    case("vit_b_16", _torchvision("vit_b_16", image_size=64), images(64)),
    _text("transformer_encoder", Encoder, note="`nn.TransformerEncoder`; a fast path in eval mode under `no_grad`"),
    _uncached("llama", _llama, note="8 heads, 2 of keys and values"),
    case("shufflenet_v2", _torchvision("shufflenet_v2_x1_0"), images(64)),
    case("mlp_mixer", _timm("mixer_s16_224", img_size=64), images(64)),
    case("yolo", YOLO, images(64), note="the output is nested"),
    _text("lstm_classifier_2_layers", partial(RecurrentClassifier, nn.LSTM, 2)),
    _text("lstm_classifier_1_layer", partial(RecurrentClassifier, nn.LSTM, 1)),
    _text("llama_fused", FusedLlama, note="q, k, v in one projection; 8 heads, 2 of keys and values"),
    case("swin_t", _torchvision("swin_t"), images(64), note="windows of 7 are padded"),
    case("ecaresnet26t", _timm("ecaresnet26t"), images(64), note="its Conv1d over channels ties what it gates"),
    _uncached("gpt2", _gpt2, note="`Conv1D` has weights (in, out); tied head"),
    _text("gru_classifier", partial(RecurrentClassifier, nn.GRU, 1)),
)
