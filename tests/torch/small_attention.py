"""Small models with attention, in the spellings that people use."""

# mypy: disable-error-code="no-any-return, no-untyped-call"
# For mypy, a call of a module is Any, and some functions of torch are untyped.

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone gives it
from torch import Tensor, nn

from tests.torch.cases import Expectation, case, images, normal, tokens


class ViTAttention(nn.Module):
    """Heads and their width are literals, the position is a Parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 64, 4, stride=4)
        self.position = nn.Parameter(torch.zeros(1, 16, 64))
        self.norm = nn.LayerNorm(64)
        self.q, self.k, self.v = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        self.proj = nn.Linear(64, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        b, t, _ = x.shape
        y = self.norm(x)
        q = self.q(y).view(b, t, 4, 16).transpose(1, 2)
        k = self.k(y).view(b, t, 4, 16).transpose(1, 2)
        v = self.v(y).view(b, t, 4, 16).transpose(1, 2)
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(16), dim=-1)
        y = (weights @ v).transpose(1, 2).reshape(b, t, 64)
        x = x + self.proj(y)
        return self.head(x.mean(dim=1))


class PackedAttention(nn.Module):
    """The spelling of timm: one projection for q, k and v, a class token, sizes from attributes."""

    def __init__(self, dim: int = 32, num_heads: int = 4) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.scale = self.head_dim**-0.5
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        b, n, c = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attn = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1)
        x = x + self.proj((attn @ v).transpose(1, 2).reshape(b, n, c))
        return self.head(x[:, 0])


class KeysWithoutBias(nn.Module):
    """As in Swin v2: the keys' part of the bias is set to zero each time."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.width = 4, 8
        self.inner = nn.Linear(32, 24)
        self.qkv = nn.Linear(24, 3 * self.heads * self.width)
        self.proj = nn.Linear(self.heads * self.width, 10)

    def forward(self, x: Tensor) -> Tensor:
        bias = self.qkv.bias.clone()
        length = bias.numel() // 3
        bias[length : 2 * length].zero_()
        x = F.linear(self.inner(x), self.qkv.weight, bias)
        b, n, _ = x.shape
        q, k, v = x.reshape(b, n, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        mixed = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
        return self.proj((mixed.softmax(dim=-1) @ v).transpose(1, 2).reshape(b, n, -1))


class EinsumAttention(nn.Module):
    """Weights of rank 3, one axis of them for the heads."""

    def __init__(self, dim: int = 32, heads: int = 4, width: int = 8) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, dim)
        self.wq = nn.Parameter(torch.zeros(dim, heads, width))
        self.wk = nn.Parameter(torch.zeros(dim, heads, width))
        self.wv = nn.Parameter(torch.zeros(dim, heads, width))
        self.wo = nn.Parameter(torch.zeros(heads, width, dim))
        self.head = nn.Linear(dim, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x)
        q = torch.einsum("btd,dhk->bhtk", x, self.wq)
        k = torch.einsum("btd,dhk->bhtk", x, self.wk)
        v = torch.einsum("btd,dhk->bhtk", x, self.wv)
        weights = torch.einsum("bhik,bhjk->bhij", q, k).softmax(-1)
        return self.head(x + torch.einsum("bhij,bhjk,hkd->bid", weights, v, self.wo))


class SelfAttentionLayer(nn.Module):
    """`nn.MultiheadAttention`, which checks its own `embed_dim`."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, dim)
        self.attention = nn.MultiheadAttention(dim, 4, batch_first=True)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        y, _ = self.attention(x, x, x, need_weights=False)
        return self.head(self.norm(x + y))


class CrossAttention(nn.Module):
    """DETR: learned queries look at features of another width."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.queries = nn.Embedding(5, dim)
        self.embed = nn.Linear(8, 24)
        self.attention = nn.MultiheadAttention(dim, 4, kdim=24, vdim=24, batch_first=True)
        self.head = nn.Linear(dim, 4)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.embed(x)
        queries = self.queries.weight.unsqueeze(0).repeat(x.size(0), 1, 1)
        return self.head(queries + self.attention(queries, memory, memory)[0])


class GroupedQueryAttention(nn.Module):
    """8 heads share 2 heads of keys and values, which are repeated as in transformers."""

    def __init__(self, dim: int = 64, heads: int = 8, kv_heads: int = 2) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = heads, kv_heads, dim // heads
        self.embed = nn.Linear(16, dim)
        self.q_proj = nn.Linear(dim, heads * self.width, bias=False)
        self.k_proj = nn.Linear(dim, kv_heads * self.width, bias=False)
        self.v_proj = nn.Linear(dim, kv_heads * self.width, bias=False)
        self.o_proj = nn.Linear(heads * self.width, dim, bias=False)
        self.head = nn.Linear(dim, 4)

    def repeat(self, x: Tensor) -> Tensor:
        b, kv_heads, t, width = x.shape
        times = self.heads // self.kv_heads
        return x[:, :, None].expand(b, kv_heads, times, t, width).reshape(b, kv_heads * times, t, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, self.heads, self.width).transpose(1, 2)
        k = self.repeat(self.k_proj(x).view(b, t, self.kv_heads, self.width).transpose(1, 2))
        v = self.repeat(self.v_proj(x).view(b, t, self.kv_heads, self.width).transpose(1, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(x + self.o_proj(y.transpose(1, 2).reshape(b, t, -1)))


class GroupedQueryEnabled(GroupedQueryAttention):
    """The same with `enable_gqa`, so that nothing in the graph says repeat."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, self.heads, self.width).transpose(1, 2)
        k = self.k_proj(x).view(b, t, self.kv_heads, self.width).transpose(1, 2)
        v = self.v_proj(x).view(b, t, self.kv_heads, self.width).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.head(x + self.o_proj(y.transpose(1, 2).reshape(b, t, -1)))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position: the two halves of a head are the two coordinates."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class FusedRotaryAttention(nn.Module):
    """One projection holds 8 heads of q, 2 of k and 2 of v; q and k are rotated."""

    cos: Tensor
    sin: Tensor

    def __init__(self, dim: int = 64, heads: int = 8, kv_heads: int = 2, length: int = 32) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = heads, kv_heads, dim // heads
        self.embed = nn.Linear(16, dim)
        self.norm = nn.RMSNorm(dim)
        self.qkv = nn.Linear(dim, (heads + 2 * kv_heads) * self.width, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)
        self.head = nn.Linear(dim, 4)
        frequencies = 100.0 ** -(torch.arange(0, self.width, 2) / self.width)
        angles = torch.outer(torch.arange(length), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, t, _ = x.shape
        sizes = [self.heads * self.width, self.kv_heads * self.width, self.kv_heads * self.width]
        q, k, v = self.qkv(self.norm(x)).split(sizes, dim=-1)
        q = q.view(b, t, self.heads, self.width).transpose(1, 2)
        k = k.view(b, t, self.kv_heads, self.width).transpose(1, 2)
        v = v.view(b, t, self.kv_heads, self.width).transpose(1, 2)
        q, k = rotate(q, self.cos[:t], self.sin[:t]), rotate(k, self.cos[:t], self.sin[:t])
        k = k.repeat_interleave(self.heads // self.kv_heads, dim=1)
        v = v.repeat_interleave(self.heads // self.kv_heads, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(x + self.proj(y.transpose(1, 2).contiguous().view(b, t, -1)))


class TiedEmbedding(nn.Module):
    def __init__(self, vocabulary: int = 50, dim: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.norm = nn.LayerNorm(dim)
        self.fc1, self.fc2 = nn.Linear(dim, 64), nn.Linear(64, dim)
        self.head = nn.Linear(dim, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        x = x + self.fc2(F.gelu(self.fc1(self.norm(x))))
        return self.head(x)


class Gated(nn.Module):
    """SwiGLU with both halves in one projection."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.embed, self.up, self.down = nn.Linear(8, dim), nn.Linear(dim, 64), nn.Linear(32, dim)
        self.head = nn.Linear(dim, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.head(x + self.down(F.silu(gate) * value))


class LinearAttention(nn.Module):
    """Softmax over the features of a head, as in Efficient Attention: dropping one changes the others."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, dim)
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(self.embed(x)).chunk(3, dim=-1)
        context = k.softmax(dim=1).transpose(1, 2) @ v
        return self.proj(q.softmax(dim=-1) @ context)


ATTENTION = (
    case("vit_attention", ViTAttention, images(16), note="heads are literals: 4, 16 and 64 in `forward` stay"),
    case("keys_without_bias", KeysWithoutBias, normal((9, 32))),
    case(
        "packed_attention",
        PackedAttention,
        normal((9, 32)),
        expectation=Expectation.PINNED,
        note="as wide as what the model is given",
    ),
    case("einsum_attention", EinsumAttention, normal((9, 32))),
    case("multihead_attention", SelfAttentionLayer, normal((9, 8))),
    case("cross_attention", CrossAttention, normal((9, 8))),
    case("grouped_query", GroupedQueryAttention, normal((9, 16))),
    case("grouped_query_enabled", GroupedQueryEnabled, normal((9, 16))),
    case("fused_grouped_rotary", FusedRotaryAttention, normal((9, 16))),
    case("tied_embedding", TiedEmbedding, tokens(9, 50)),
    case("gated_feed_forward", Gated, normal((9, 8))),
    case(
        "softmax_over_features",
        LinearAttention,
        normal((9, 8)),
        expectation=Expectation.PINNED,
        note="q is normalised over its features, which k shares; v, embed and the output side are free",
    ),
)
