"""Small networks, one or more for every kind of layer, on which laws are tested.

The layer in question stands between layers that make and read its neurons, so that all its sizes can change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solver_nas import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from solver_nas.frontend import Array
    from solver_nas.nn.network import Network
    from solver_nas.nn.vertex import NetworkVertex

_BATCH = 3


@dataclass(frozen=True, slots=True)
class Specimen:
    """One network of the zoo.

    Args:
        build: makes it from a seed, with random weights and statistics everywhere.
        exact: whether dropping neurons equals masking them.
        growing: whether new neurons change nothing.
    """

    build: Callable[[int], Network]
    exact: bool = True
    growing: bool = True


def inputs(net: Network, rng: np.random.Generator) -> dict[str, Array]:
    """A batch for a network of the zoo: normal numbers, or tokens where an embedding reads them."""
    batch: dict[str, Array] = {}
    for vertex in net.inputs:
        shape = (_BATCH, *(size or 4 for size in vertex.shape[1:]))
        tables = [reader.op.weight for reader in vertex.outputs if reader.kind == "embedding"]
        batch[vertex.name] = rng.integers(0, len(tables[0]), shape) if tables else rng.normal(size=shape)
    return batch


def randomised(net: Network, seed: int) -> Network:
    """The network with random arrays: ones and zeros would hide mistakes."""
    rng = np.random.default_rng(seed)
    for key, array in net.arrays.items():
        spread = 1 / np.sqrt(max(array[0].size, 1)) if array.ndim > 1 else 0.5
        positive = key.endswith((".var", ".scale"))
        new = rng.uniform(0.5, 1.5, array.shape) if positive else rng.normal(0, spread, array.shape)
        net.arrays[key] = new.astype(array.dtype)
    return net


def _image(middle: Callable[[NetworkVertex], NetworkVertex], channels: int = 6) -> Callable[[int], Network]:
    """A layer between two convolutions over images."""

    def build(seed: int) -> Network:
        net = nn.Network(seed=seed)
        x = nn.conv(net.input("image", (2, 7, 6)), channels, 3, padding=1, name="before")
        after = nn.conv(middle(nn.relu(x)), 5, 2, name="after")
        net.output(nn.dense(nn.global_avg_pool(after), 5, name="out"))
        return randomised(net, seed)

    return build


def _spatial(sizes: tuple[int, ...], middle: Callable[[NetworkVertex], NetworkVertex]) -> Callable[[int], Network]:
    """A layer between two 1x1 convolutions over one to three axes."""

    def build(seed: int) -> Network:
        net = nn.Network(seed=seed)
        x = nn.conv(net.input("signal", (2, *sizes)), 6, 1, activation="tanh", name="before")
        net.output(nn.conv(middle(x), 5, 1, name="out"))
        return randomised(net, seed)

    return build


def _vector(middle: Callable[[NetworkVertex], NetworkVertex], units: int = 6) -> Callable[[int], Network]:
    """A layer between two dense layers."""

    def build(seed: int) -> Network:
        net = nn.Network(seed=seed)
        x = nn.dense(net.input("features", 5), units, activation="tanh", name="before")
        net.output(nn.dense(middle(x), 5, name="out"))
        return randomised(net, seed)

    return build


def _sequence(middle: Callable[[NetworkVertex], NetworkVertex]) -> Callable[[int], Network]:
    """A layer between two dense layers over the steps of a sequence."""

    def build(seed: int) -> Network:
        net = nn.Network(seed=seed)
        x = nn.dense(net.input("sequence", (5, 4), axis=-1), 6, activation="tanh", name="before")
        net.output(nn.dense(middle(x), 5, name="out"))
        return randomised(net, seed)

    return build


def _tokens(middle: Callable[[NetworkVertex], NetworkVertex]) -> Callable[[int], Network]:
    """A layer between an embedding and a dense layer."""

    def build(seed: int) -> Network:
        net = nn.Network(seed=seed)
        x = nn.embedding(net.tokens("tokens", 5), 11, 6, name="before")
        net.output(nn.dense(middle(x), 5, name="out"))
        return randomised(net, seed)

    return build


def _squeeze_excite(x: NetworkVertex) -> NetworkVertex:
    pooled = nn.global_avg_pool(x, keepdims=True)
    squeezed = nn.conv(pooled, 3, 1, activation="relu", name="squeeze")
    return x * nn.conv(squeezed, 6, 1, activation="sigmoid", name="excite")


def _inverted_residual(x: NetworkVertex) -> NetworkVertex:
    y = nn.batch_norm(nn.conv(x, 8, 1, activation="relu6", name="expand"))
    y = nn.batch_norm(nn.conv(y, 8, 3, padding=1, groups=8, activation="relu6", name="layer"))
    return x + nn.conv(y, 6, 1, name="project")


def _shuffle_unit(x: NetworkVertex) -> NetworkVertex:
    y = nn.channel_shuffle(nn.conv(x, 6, 1, groups=2, name="first"), 2, name="shuffle")
    return nn.conv(y, 6, 3, padding=1, groups=2, name="second")


def _cross_over(x: NetworkVertex) -> NetworkVertex:
    left, right = nn.split(x, (4, 2), name="split")
    return nn.concat([nn.dense(right, 3, name="layer"), left, right])


def _cross_attention(x: NetworkVertex) -> NetworkVertex:
    context = nn.dense(x.model.input("context", (4, 3), axis=-1), 5, name="context_before")
    return nn.attention(x, context, num_heads=3, head_dim=3, value_dim=4, units=5, name="layer")


def _transformer_block(x: NetworkVertex) -> NetworkVertex:
    x = x + nn.attention(nn.layer_norm(x), num_heads=2, causal=True, name="layer")
    y = nn.dense(nn.layer_norm(x), 8, activation="gelu", name="widen")
    return x + nn.dense(y, 6, name="narrow")


def _pixels(x: NetworkVertex) -> NetworkVertex:
    return nn.pixel_shuffle(nn.conv(x, 12, 1, name="layer"), 2, name="shuffle")


def _vector_as_image(x: NetworkVertex) -> NetworkVertex:
    image = nn.reshape(nn.dense(x, 24, name="layer"), (4, 3, 2), name="image")
    return nn.flatten(nn.conv(image, 3, 2, name="conv"), name="vector")


_GROUPED: Mapping[str, Callable[[NetworkVertex], NetworkVertex]] = {
    "grouped convolution": lambda x: nn.conv(x, 8, 3, groups=2, name="layer"),
    "grouped convolution, three groups, strided": lambda x: nn.conv(
        x, 9, 3, groups=3, stride=2, padding=1, name="layer"
    ),
    "depthwise convolution": lambda x: nn.conv(x, 6, 3, groups=6, padding=1, name="layer"),
    "depthwise convolution, two filters a channel": lambda x: nn.conv(x, 12, 3, groups=6, name="layer"),
    "inverted residual": _inverted_residual,
    "shuffle unit": _shuffle_unit,
    "grouped transposed convolution": lambda x: nn.conv_transpose(x, 4, 3, groups=2, stride=2, name="layer"),
    "depthwise transposed convolution": lambda x: nn.conv_transpose(x, 6, 2, groups=6, name="layer"),
}

_IMAGES: Mapping[str, Callable[[NetworkVertex], NetworkVertex]] = {
    **_GROUPED,
    "convolution": lambda x: nn.conv(x, 7, 3, activation="relu", name="layer"),
    "convolution, strided, dilated": lambda x: nn.conv(
        x, 7, 2, stride=2, dilation=2, padding=1, bias=False, name="layer"
    ),
    "convolution, same padding": lambda x: nn.conv(x, 7, (3, 2), padding="same", name="layer"),
    "transposed convolution": lambda x: nn.conv_transpose(x, 5, 3, stride=2, padding=1, output_padding=1, name="layer"),
    "max pool": lambda x: nn.max_pool(x, 3, stride=2, padding=1, name="layer"),
    "mean pool": lambda x: nn.avg_pool(x, 2, padding=1, count_padding=False, name="layer"),
    "batch norm": lambda x: nn.batch_norm(x, name="layer"),
    "batch norm without scale": lambda x: nn.batch_norm(x, scale=False, shift=False, name="layer"),
    "instance norm": lambda x: nn.instance_norm(x, affine=True, name="layer"),
    "scale and bias": lambda x: nn.bias(nn.scale(x, name="layer")),
    "dropout": lambda x: nn.dropout(x, 0.4, name="layer"),
    "upsample": lambda x: nn.upsample(x, (2, 1), name="layer"),
    "pad pixels": lambda x: nn.pad(x, [1, (0, 2)], constant=0.5, name="layer"),
    "pad channels": lambda x: nn.pad(x, [(1, 2), 0, 0], constant=0.5, name="layer"),
    "pixel shuffle": _pixels,
    "squeeze and excite": _squeeze_excite,
    "times its maximum": lambda x: x * nn.global_max_pool(x, keepdims=True, name="layer"),
    "residual": lambda x: x + nn.conv(x, 6, 3, padding=1, name="layer"),
    "transposed image": lambda x: nn.transpose(x, (0, 1, 3, 2), name="layer"),
    "flipped channels": lambda x: nn.flip(x, name="layer"),
    "flipped pixels": lambda x: nn.flip(x, axis=2, name="layer"),
}

_VECTORS: Mapping[str, Callable[[NetworkVertex], NetworkVertex]] = {
    "dense": lambda x: nn.dense(x, 7, activation="sigmoid", name="layer"),
    "batch norm of vectors": lambda x: nn.batch_norm(x, name="layer"),
    "vector as image": _vector_as_image,
    "split": _cross_over,
    "constants": lambda x: 1.5 - (2 * x + 1) / 3,
    "take": lambda x: nn.take(x, [4, 0, 4, 1, 5, 5], name="layer"),
    "concat with itself": lambda x: nn.concat([x, nn.dense(x, 2, name="layer"), x]),
}

_SEQUENCES: Mapping[str, Callable[[NetworkVertex], NetworkVertex]] = {
    "position": lambda x: nn.position(x, name="layer"),
    "simple rnn": lambda x: nn.simple_rnn(x, 5, name="layer"),
    "lstm": lambda x: nn.lstm(x, 5, name="layer"),
    "gru": lambda x: nn.gru(x, 5, name="layer"),
    "gru in reverse, last state": lambda x: nn.gru(x, 5, reverse=True, return_sequences=False, name="layer"),
    "bidirectional lstm": lambda x: nn.bidirectional(nn.lstm, x, 4, name="layer"),
    "flatten": lambda x: nn.flatten(x, name="layer"),
    "steps and features swapped": lambda x: nn.transpose(
        nn.dense(nn.transpose(x, (0, 2, 1)), 4, name="layer"), (0, 2, 1)
    ),
}

_ATTENTION: Mapping[str, Callable[[NetworkVertex], NetworkVertex]] = {
    "attention": lambda x: nn.attention(x, num_heads=2, head_dim=4, value_dim=3, name="layer"),
    "attention, causal, without bias": lambda x: nn.attention(x, num_heads=3, causal=True, bias=False, name="layer"),
    "attention, grouped": lambda x: nn.attention(x, num_heads=6, kv_heads=3, head_dim=2, name="layer"),
    "attention to another sequence": _cross_attention,
}

_INEXACT: Mapping[str, Callable[[int], Network]] = {
    "layer norm": _sequence(lambda x: nn.layer_norm(x, name="layer")),
    "layer norm of channels": _image(lambda x: nn.layer_norm(x, axes=1, name="layer")),
    "layer norm of images": _image(lambda x: nn.layer_norm(x, axes=(1, 2, 3), name="layer")),
    "rms norm": _sequence(lambda x: nn.rms_norm(x, name="layer")),
    "group norm": _image(lambda x: nn.group_norm(x, 3, name="layer")),
    "group norm without scale": _image(lambda x: nn.group_norm(x, 2, affine=False, name="layer")),
    "softmax": _vector(lambda x: nn.softmax(x, name="layer")),
    "transformer block": _sequence(_transformer_block),
}

#: All networks by name.
ZOO: Mapping[str, Specimen] = {
    **{name: Specimen(_image(layer)) for name, layer in _IMAGES.items()},
    **{name: Specimen(_vector(layer)) for name, layer in _VECTORS.items()},
    **{name: Specimen(_sequence(layer)) for name, layer in _SEQUENCES.items()},
    **{name: Specimen(_sequence(layer)) for name, layer in _ATTENTION.items()},
    "convolution over one axis": Specimen(
        _spatial((7,), lambda x: nn.conv(x, 4, 3, groups=2, name="layer")), exact=True
    ),
    "convolution over three axes": Specimen(
        _spatial((3, 4, 3), lambda x: nn.max_pool(nn.conv(x, 5, 2, name="layer"), 2, stride=1)), exact=True
    ),
    "embedding": Specimen(_tokens(lambda x: nn.position(x, name="layer"))),
    **{name: Specimen(build, exact=False, growing=False) for name, build in _INEXACT.items()},
}
