"""Whole architectures that no installed package has, written as their authors do."""

# mypy: disable-error-code="no-any-return, no-untyped-call"
# For mypy, a call of a module is Any, and some functions of torch are untyped.

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone gives it
from torch import Tensor, nn

from tests.torch.small_attention import rotate
from tests.torch.small_joints import C2f, ConvBnAct


class DoubleConv(nn.Sequential):
    def __init__(self, c1: int, c2: int) -> None:
        super().__init__(
            nn.Conv2d(c1, c2, 3, padding=1, bias=False),
            nn.BatchNorm2d(c2),
            nn.ReLU(inplace=True),
            nn.Conv2d(c2, c2, 3, padding=1, bias=False),
            nn.BatchNorm2d(c2),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Ronneberger et al. 2015 with padding and batch norm; 64 to 1024 channels."""

    def __init__(self, channels: int = 3, classes: int = 2, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(5)]
        self.inc = DoubleConv(channels, widths[0])
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * a, a, 2, stride=2) for a in reversed(widths[:-1]))
        self.conv = nn.ModuleList(DoubleConv(2 * a, a) for a in reversed(widths[:-1]))
        self.outc = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inc(x)
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(F.max_pool2d(x, 2))
        for up, conv in zip(self.up, self.conv, strict=True):
            x, skip = up(x), skips.pop()
            dy, dx = skip.size(2) - x.size(2), skip.size(3) - x.size(3)
            x = F.pad(x, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
            x = conv(torch.cat([skip, x], dim=1))
        return self.outc(x)


class SPPF(nn.Module):
    def __init__(self, c1: int, c2: int, k: int = 5) -> None:
        super().__init__()
        self.cv1 = ConvBnAct(c1, c1 // 2)
        self.cv2 = ConvBnAct(c1 // 2 * 4, c2)
        self.m = nn.MaxPool2d(k, 1, k // 2)

    def forward(self, x: Tensor) -> Tensor:
        y = [self.cv1(x)]
        y.extend(self.m(y[-1]) for _ in range(3))
        return self.cv2(torch.cat(y, 1))


class DFL(nn.Module):
    """The expected value over 16 bins, as a convolution with fixed weights."""

    def __init__(self, bins: int = 16) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        b, _, a = x.shape
        return self.conv(x.view(b, 4, self.bins, a).transpose(2, 1).softmax(1)).view(b, 4, a)


class Detect(nn.Module):
    """The head of YOLOv8 without anchors' offsets."""

    def __init__(self, classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.nc, self.reg_max = classes, 16
        self.no = classes + 4 * self.reg_max
        c2, c3 = max(16, widths[0] // 4, self.reg_max * 4), max(widths[0], min(classes, 100))
        self.cv2 = nn.ModuleList(self.branch(c, c2, 4 * self.reg_max) for c in widths)
        self.cv3 = nn.ModuleList(self.branch(c, c3, classes) for c in widths)
        self.dfl = DFL(self.reg_max)

    @staticmethod
    def branch(c1: int, c2: int, out: int) -> nn.Sequential:
        return nn.Sequential(ConvBnAct(c1, c2, 3), ConvBnAct(c2, c2, 3), nn.Conv2d(c2, out, 1))

    def forward(self, x: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        for i in range(len(x)):
            x[i] = torch.cat((self.cv2[i](x[i]), self.cv3[i](x[i])), 1)
        flat = torch.cat([xi.view(x[0].shape[0], self.no, -1) for xi in x], 2)
        box, classes = flat.split((self.reg_max * 4, self.nc), 1)
        return torch.cat((self.dfl(box), classes.sigmoid()), 1), x


class YOLO(nn.Module):
    """YOLOv8n: C2f everywhere, SPPF, a path up and a path down, detection at three scales."""

    def __init__(self, classes: int = 20) -> None:
        super().__init__()
        self.stem, self.down2 = ConvBnAct(3, 16, 3, 2), ConvBnAct(16, 32, 3, 2)
        self.c2 = C2f(32, 32, 1, shortcut=True)
        self.down3, self.c3 = ConvBnAct(32, 64, 3, 2), C2f(64, 64, 2, shortcut=True)
        self.down4, self.c4 = ConvBnAct(64, 128, 3, 2), C2f(128, 128, 2, shortcut=True)
        self.down5, self.c5 = ConvBnAct(128, 256, 3, 2), C2f(256, 256, 1, shortcut=True)
        self.sppf = SPPF(256, 256)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.up4, self.up3 = C2f(384, 128, 1), C2f(192, 64, 1)
        self.pan3, self.pan4 = ConvBnAct(64, 64, 3, 2), ConvBnAct(128, 128, 3, 2)
        self.out4, self.out5 = C2f(192, 128, 1), C2f(384, 256, 1)
        self.detect = Detect(classes, (64, 128, 256))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        p3 = self.c3(self.down3(self.c2(self.down2(self.stem(x)))))
        p4 = self.c4(self.down4(p3))
        p5 = self.sppf(self.c5(self.down5(p4)))
        n4 = self.up4(torch.cat([self.upsample(p5), p4], 1))
        n3 = self.up3(torch.cat([self.upsample(n4), p3], 1))
        n4 = self.out4(torch.cat([self.pan3(n3), n4], 1))
        n5 = self.out5(torch.cat([self.pan4(n4), p5], 1))
        return self.detect([n3, n4, n5])


class FusedLlamaBlock(nn.Module):
    """Grouped heads of keys and values; q, k, v in one projection, gate and up in another."""

    def __init__(self, dim: int, heads: int, kv_heads: int, hidden: int) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = heads, kv_heads, dim // heads
        self.norm1, self.norm2 = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.wqkv = nn.Linear(dim, (heads + 2 * kv_heads) * self.head_dim, bias=False)
        self.wo = nn.Linear(heads * self.head_dim, dim, bias=False)
        self.w13, self.w2 = nn.Linear(dim, 2 * hidden, bias=False), nn.Linear(hidden, dim, bias=False)

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        b, t, _ = x.shape
        kv_size = self.n_kv_heads * self.head_dim
        q, k, v = self.wqkv(x).split([self.n_heads * self.head_dim, kv_size, kv_size], dim=-1)
        q = rotate(q.view(b, t, self.n_heads, self.head_dim).transpose(1, 2), cos, sin)
        k = rotate(k.view(b, t, self.n_kv_heads, self.head_dim).transpose(1, 2), cos, sin)
        v = v.view(b, t, self.n_kv_heads, self.head_dim).transpose(1, 2)
        k = k.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1)
        v = v.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(y.transpose(1, 2).contiguous().view(b, t, self.n_heads * self.head_dim))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x), cos, sin)
        gate, up = self.w13(self.norm2(x)).chunk(2, dim=-1)
        return x + self.w2(F.silu(gate) * up)


class FusedLlama(nn.Module):
    cos: Tensor
    sin: Tensor

    def __init__(
        self, vocabulary: int = 256, dim: int = 128, heads: int = 8, kv_heads: int = 2, length: int = 64
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.layers = nn.ModuleList(FusedLlamaBlock(dim, heads, kv_heads, 256) for _ in range(2))
        self.norm = nn.RMSNorm(dim)
        self.output = nn.Linear(dim, vocabulary, bias=False)
        width = dim // heads
        angles = torch.outer(torch.arange(length), 10000.0 ** -(torch.arange(0, width, 2) / width)).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        cos, sin = self.cos[: ids.size(1)], self.sin[: ids.size(1)]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.output(self.norm(x))


class Encoder(nn.Module):
    """`nn.TransformerEncoder` between an embedding with positions and a classifier."""

    def __init__(self, vocabulary: int = 200, dim: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.position = nn.Parameter(torch.zeros(1, 32, dim))
        layer = nn.TransformerEncoderLayer(dim, 4, 256, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3)
        self.head = nn.Linear(dim, 10)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.position[:, : ids.size(1)]
        return self.head(self.encoder(x).mean(dim=1))


class RecurrentClassifier(nn.Module):
    """Embedding -> recurrent layers -> the last step -> two linear layers."""

    def __init__(self, layer: Callable[..., nn.RNNBase], layers: int, vocabulary: int = 200, hidden: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, 64)
        self.rnn = layer(64, hidden, num_layers=layers, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(hidden, 64), nn.Linear(64, 10)

    def forward(self, ids: Tensor) -> Tensor:
        y, _ = self.rnn(self.embedding(ids))
        return self.fc2(F.gelu(self.fc1(y[:, -1])))
