"""Small models with normalisations, and with functions that mix channels and therefore pin them."""

# mypy: disable-error-code="no-any-return, no-untyped-call"
# For mypy, a call of a module is Any, and some functions of torch are untyped.

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone gives it
from torch import Tensor, nn

from tests.torch.cases import Expectation, case, images, normal


class Between(nn.Module):
    """conv -> something with 16 channels in and `out` channels out -> conv."""

    def __init__(self, middle: Callable[[Tensor], Tensor], out: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.middle = middle
        self.conv2 = nn.Conv2d(out, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.middle(self.conv1(x)))


class RMSNormFeedForward(nn.Module):
    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, dim)
        self.norm = nn.RMSNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, 64), nn.Linear(64, dim)
        self.head = nn.Linear(dim, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(x + self.fc2(F.silu(self.fc1(self.norm(x)))))


class RMSNormByHand(nn.Module):
    """As in transformers."""

    def __init__(self, dim: int = 32, eps: float = 1e-6) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, dim), nn.Linear(dim, 4)
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)))


class LayerNorm2d(nn.LayerNorm):
    """As in ConvNeXt: channels are last only for the norm."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ChannelsFirstNorm(nn.Module):
    """The other norm of ConvNeXt, by hand."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class EfficientChannelAttention(nn.Module):
    """A convolution over the channels: each knows its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.mean((2, 3)).view(x.shape[0], 1, -1))
        return x * y.view(x.shape[0], -1, 1, 1).sigmoid()


class Maxout(nn.Module):
    def __init__(self, pieces: int = 2) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, c // self.pieces, self.pieces, h, w).amax(dim=2)


class WeightStandardised(nn.Conv2d):
    """Each filter is normalised over its own inputs before use, as in BiT."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / (self.weight.std(dim=(1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ScaledStandardised(nn.Conv2d):
    """Likewise, as in NFNets: each filter flattened, and normalised by the function for batches."""

    def __init__(self, *, scaled: bool = True) -> None:
        super().__init__(16, 16, 3, padding=1)
        self.gain = nn.Parameter(torch.ones(16, 1, 1, 1)) if scaled else None

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        gain = None if self.gain is None else (self.gain * 0.5).view(-1)
        flat = F.batch_norm(flat, None, None, weight=gain, training=True, momentum=0.0)
        return F.conv2d(x, flat.reshape_as(self.weight), self.bias, self.stride, self.padding)


class Cosine(nn.Module):
    """Logits are cosines, as in face recognition."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 32)
        self.weight = nn.Parameter(torch.zeros(10, 32))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(F.gelu(self.fc(x))), F.normalize(self.weight))


def _spectrum(x: Tensor) -> Tensor:
    return torch.fft.fft(x, dim=1).real


def _weighted_by_softmax(x: Tensor) -> Tensor:
    return x * x.mean((2, 3), keepdim=True).softmax(dim=1)


def _largest(x: Tensor) -> Tensor:
    return torch.topk(x, 5, dim=1).values


def _sorted(x: Tensor) -> Tensor:
    return torch.sort(x, dim=1).values


_PINNED = partial(case, inputs=images(8), expectation=Expectation.PINNED)
_WORKS = partial(case, inputs=images(8))

NORMS = (
    _WORKS("group_norm", lambda: Between(nn.Sequential(nn.GroupNorm(4, 16), nn.ReLU()))),
    _WORKS(
        "group_norm_one_group", lambda: Between(nn.GroupNorm(1, 16)), note="mean and variance are over the channels"
    ),
    _WORKS("group_norm_per_channel", lambda: Between(nn.GroupNorm(16, 16)), note="`num_groups` is the width"),
    _WORKS("instance_norm", lambda: Between(nn.InstanceNorm2d(16, affine=True))),
    case("rms_norm", RMSNormFeedForward, normal((5, 8))),
    case("rms_norm_by_hand", RMSNormByHand, normal((5, 8)), note="a mean over the channels"),
    _WORKS("layer_norm_2d", lambda: Between(LayerNorm2d(16))),
    _WORKS("layer_norm_by_hand", lambda: Between(ChannelsFirstNorm(16)), note="means over the channels"),
    _WORKS("prelu", lambda: Between(nn.PReLU(16))),
    _WORKS("glu", lambda: Between(nn.GLU(1), 8)),
    _WORKS("maxout", lambda: Between(Maxout(), 8)),
    _WORKS("weight_standardised", lambda: Between(WeightStandardised(16, 16, 3, padding=1)), note="mean over a filter"),
    _WORKS(
        "flat_standardised", lambda: Between(ScaledStandardised(scaled=False)), note="likewise, as in timm's ResNetV2"
    ),
    _WORKS("scaled_standardised", lambda: Between(ScaledStandardised()), note="mean over a flattened filter"),
    case("cosine_logits", Cosine, normal((8,)), note="a norm over the features"),
    _WORKS("channel_attention_softmax", lambda: Between(_weighted_by_softmax), note="a sum over exp: may be pinned"),
    _PINNED("channel_neighbours", lambda: Between(EfficientChannelAttention()), note="Conv1d over the channels"),
    _PINNED("local_response_norm", lambda: Between(nn.LocalResponseNorm(3)), note="a window over the channels"),
    _PINNED("cumsum", lambda: Between(lambda x: x.cumsum(dim=1)), note="a sum over the channels before"),
    _PINNED("topk", lambda: Between(_largest, 5), note="5 of 16 channels, by value"),
    _PINNED("sort", lambda: Between(_sorted), note="channels change places, by value"),
    _PINNED("fft", lambda: Between(_spectrum), note="Fourier transform over the channels"),
    _PINNED("channel_max", lambda: Between(lambda x: torch.cat([x.amax(1, True), x.mean(1, True)], 1), 2), note="CBAM"),
)
