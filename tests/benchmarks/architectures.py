"""Well-known architectures made of this library's layers: `python -m tests.benchmarks.architectures`.

They are as published at width 1, and every hidden width can be multiplied. Networks of any size can be built without
memory for their weights, since planning reads shapes only: all weights are then views of a single zero.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from solver_nas import Network, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from solver_nas.frontend import Array, Handle
    from solver_nas.graph import Vertex
    from solver_nas.nn import NetworkVertex

Weights = Literal["random", "zeros"]

CLASSES, VOCABULARY = 1000, 8192


# -- networks without memory for their weights ----------------------------------------------------


class _Zeros(np.random.Generator):
    """Every number drawn is zero, and all of them are the same one."""

    def uniform(self, *args: Any, **_: Any) -> Any:
        return np.broadcast_to(np.float32(0), args[2])

    def normal(self, *args: Any, **_: Any) -> Any:
        return np.broadcast_to(np.float32(0), args[2])


_ZEROS = _Zeros(np.random.PCG64(0))


class Light(Network):
    """A network whose weights are read-only views of a single zero, so that they take no memory."""

    @property
    def rng(self) -> np.random.Generator:
        """What new weights are drawn from: zeros."""
        return _ZEROS

    def add(
        self,
        kind: str,
        name: str | None,
        inputs: Sequence[Handle],
        attributes: Mapping[str, object] | None = None,
        arrays: Mapping[str, Array] | None = None,
        *,
        fills: Mapping[str, float] | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> NetworkVertex:
        """Add a vertex as any network does, but without copying the weights."""
        name = self.free_name(kind) if name is None else name
        copied, shared = dict(arrays or {}), dict(keys or {})
        for role in [role for role, array in copied.items() if array.ndim and not any(array.strides)]:
            if role not in (fills or {}):
                shared[role] = self._free_key(f"{name}.{role}")
                self.arrays[shared[role]] = copied.pop(role)
        return super().add(kind, name, inputs, attributes, copied, fills=fills, keys=shared)


# -- what many of them have in common -------------------------------------------------------------


def scaled(size: int, width: float, multiple: int = 1) -> int:
    """A size times a width, rounded to a multiple and at least one of it."""
    return max(1, round(size * width / multiple)) * multiple


def _image(net: Network, side: int) -> NetworkVertex:
    return net.input("image", (3, side, side))


def _conv_norm(
    x: NetworkVertex, filters: int, kernel: int, names: tuple[str, str], *, stride: int = 1, groups: int = 1
) -> NetworkVertex:
    """A convolution without bias that keeps positions, and its batch norm."""
    conv = nn.conv(x, filters, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False, name=names[0])
    return nn.batch_norm(conv, name=names[1])


def _channels(x: NetworkVertex) -> int:
    return x.shape[1] or 0


# -- convolutional networks -----------------------------------------------------------------------


def _vgg16(net: Network, width: float, side: int) -> NetworkVertex:
    x, place = _image(net, side), 0
    for filters, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            x = nn.conv(x, scaled(filters, width), 3, padding=1, name=f"features.{place}")
            x = nn.relu(nn.batch_norm(x, name=f"features.{place + 1}"), name=f"features.{place + 2}")
            place += 3
        x = nn.max_pool(x, 2, name=f"features.{place}")
        place += 1
    x = nn.flatten(x, name="flatten")
    for place in (0, 3):
        x = nn.relu(nn.dense(x, scaled(4096, width), name=f"classifier.{place}"), name=f"classifier.{place + 1}")
        x = nn.dropout(x, 0.5, name=f"classifier.{place + 2}")
    return nn.dense(x, CLASSES, name="classifier.6")


def _bottleneck(x: NetworkVertex, planes: int, stride: int, name: str) -> NetworkVertex:
    y = nn.relu(_conv_norm(x, planes, 1, (f"{name}.conv1", f"{name}.bn1")), name=f"{name}.relu1")
    y = _conv_norm(y, planes, 3, (f"{name}.conv2", f"{name}.bn2"), stride=stride)
    y = nn.relu(y, name=f"{name}.relu2")
    y = _conv_norm(y, 4 * planes, 1, (f"{name}.conv3", f"{name}.bn3"))
    if stride > 1 or _channels(x) != 4 * planes:
        x = _conv_norm(x, 4 * planes, 1, (f"{name}.downsample.0", f"{name}.downsample.1"), stride=stride)
    return nn.relu(nn.add([y, x], name=f"{name}.add"), name=f"{name}.relu")


def _resnet50(net: Network, width: float, side: int) -> NetworkVertex:
    x = nn.relu(_conv_norm(_image(net, side), scaled(64, width), 7, ("conv1", "bn1"), stride=2), name="relu")
    x = nn.max_pool(x, 3, stride=2, padding=1, name="maxpool")
    for layer, (planes, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(blocks):
            stride = 2 if layer > 1 and block == 0 else 1
            x = _bottleneck(x, scaled(planes, width), stride, f"layer{layer}.{block}")
    return nn.dense(nn.global_avg_pool(x, name="avgpool"), CLASSES, name="fc")


def _densenet121(net: Network, width: float, side: int) -> NetworkVertex:
    growth = scaled(32, width)
    names = ("features.conv0", "features.norm0")
    x = nn.relu(_conv_norm(_image(net, side), scaled(64, width), 7, names, stride=2), name="features.relu0")
    x = nn.max_pool(x, 3, stride=2, padding=1, name="features.pool0")
    for block, layers in enumerate((6, 12, 24, 16), 1):
        parts = [x]
        for layer in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            y = nn.concat(parts, name=f"{name}.concat") if layer > 1 else x
            y = nn.relu(nn.batch_norm(y, name=f"{name}.norm1"), name=f"{name}.relu1")
            y = _conv_norm(y, 4 * growth, 1, (f"{name}.conv1", f"{name}.norm2"))
            y = nn.relu(y, name=f"{name}.relu2")
            parts.append(nn.conv(y, growth, 3, padding=1, bias=False, name=f"{name}.conv2"))
        x = nn.concat(parts, name=f"features.denseblock{block}")
        if block < 4:
            name = f"features.transition{block}"
            y = nn.relu(nn.batch_norm(x, name=f"{name}.norm"), name=f"{name}.relu")
            y = nn.conv(y, _channels(x) // 2, 1, bias=False, name=f"{name}.conv")
            x = nn.avg_pool(y, 2, name=f"{name}.pool")
    x = nn.relu(nn.batch_norm(x, name="features.norm5"), name="features.relu5")
    return nn.dense(nn.global_avg_pool(x, name="avgpool"), CLASSES, name="classifier")


def _mobilenet_v2(net: Network, width: float, side: int) -> NetworkVertex:
    def full(x: NetworkVertex, filters: int, kernel: int, name: str, stride: int = 1, groups: int = 1) -> NetworkVertex:
        y = _conv_norm(x, filters, kernel, (f"{name}.0", f"{name}.1"), stride=stride, groups=groups)
        return nn.activation(y, "relu6", name=f"{name}.2")

    x = full(_image(net, side), scaled(32, width), 3, "features.0", 2)
    place = 1
    # Expansion, channels, repeats and first stride: table 2 of Sandler et al. 2018.
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, filters, repeats, first in table:
        for repeat in range(repeats):
            stride, name, y = first if repeat == 0 else 1, f"features.{place}.conv", x
            if expansion > 1:
                y = full(y, expansion * _channels(x), 1, f"{name}.0")
            y = full(y, _channels(y), 3, f"{name}.{int(expansion > 1)}", stride, _channels(y))
            last = 1 + int(expansion > 1)
            y = _conv_norm(y, scaled(filters, width), 1, (f"{name}.{last}", f"{name}.{last + 1}"))
            # As published, by place: at small widths, neighbouring stages may round to the same size.
            x = nn.add([x, y], name=f"features.{place}.add") if repeat else y
            place += 1
    x = full(x, scaled(1280, width), 1, f"features.{place}")
    x = nn.dropout(nn.global_avg_pool(x, name="avgpool"), 0.2, name="classifier.0")
    return nn.dense(x, CLASSES, name="classifier.1")


def _shuffle_unit(x: NetworkVertex, filters: int, stride: int, name: str, *, groups: int, first: int) -> NetworkVertex:
    """A unit of ShuffleNet v1; `first` is the number of groups of its first convolution."""
    inner = scaled(filters, 1 / 4, groups)
    y = nn.relu(_conv_norm(x, inner, 1, (f"{name}.gconv1", f"{name}.bn1"), groups=first), name=f"{name}.relu1")
    y = nn.channel_shuffle(y, groups, name=f"{name}.shuffle")
    y = _conv_norm(y, inner, 3, (f"{name}.dwconv", f"{name}.bn2"), stride=stride, groups=inner)
    outer = filters - _channels(x) if stride > 1 else filters
    y = _conv_norm(y, outer, 1, (f"{name}.gconv2", f"{name}.bn3"), groups=groups)
    if stride > 1:
        joined = nn.concat([nn.avg_pool(x, 3, stride=2, padding=1, name=f"{name}.pool"), y], name=f"{name}.concat")
    else:
        joined = nn.add([x, y], name=f"{name}.add")
    return nn.relu(joined, name=f"{name}.relu")


def _shufflenet(net: Network, width: float, side: int) -> NetworkVertex:
    groups = 3
    x = _conv_norm(_image(net, side), scaled(24, width, groups), 3, ("conv1", "bn1"), stride=2)
    x = nn.max_pool(nn.relu(x, name="relu1"), 3, stride=2, padding=1, name="maxpool")
    for stage, (filters, units) in enumerate(((240, 4), (480, 8), (960, 4)), 2):
        for unit in range(units):
            start = unit == 0
            x = _shuffle_unit(
                x,
                scaled(filters, width, groups),
                2 if start else 1,
                f"stage{stage}.{unit}",
                groups=groups,
                first=1 if start and stage == 2 else groups,
            )
    return nn.dense(nn.global_avg_pool(x, name="avgpool"), CLASSES, name="fc")


def _shuffle_unit_v2(x: NetworkVertex, filters: int, stride: int, name: str) -> NetworkVertex:
    half = filters // 2
    if stride > 1:
        one, right = f"{name}.branch1", x
        left = _conv_norm(x, _channels(x), 3, (f"{one}.0", f"{one}.1"), stride=stride, groups=_channels(x))
        left = nn.relu(_conv_norm(left, half, 1, (f"{one}.2", f"{one}.3")), name=f"{one}.4")
    else:
        left, right = nn.split(x, 2, name=f"{name}.split")
    two = f"{name}.branch2"
    right = nn.relu(_conv_norm(right, half, 1, (f"{two}.0", f"{two}.1")), name=f"{two}.2")
    right = _conv_norm(right, half, 3, (f"{two}.3", f"{two}.4"), stride=stride, groups=half)
    right = nn.relu(_conv_norm(right, half, 1, (f"{two}.5", f"{two}.6")), name=f"{two}.7")
    return nn.channel_shuffle(nn.concat([left, right], name=f"{name}.concat"), 2, name=f"{name}.shuffle")


def _shufflenet_v2(net: Network, width: float, side: int) -> NetworkVertex:
    x = nn.relu(_conv_norm(_image(net, side), scaled(24, width), 3, ("conv1.0", "conv1.1"), stride=2), name="conv1.2")
    x = nn.max_pool(x, 3, stride=2, padding=1, name="maxpool")
    for stage, (filters, units) in enumerate(((116, 4), (232, 8), (464, 4)), 2):
        for unit in range(units):
            x = _shuffle_unit_v2(x, scaled(filters, width, 2), 1 if unit else 2, f"stage{stage}.{unit}")
    x = nn.relu(_conv_norm(x, scaled(1024, width), 1, ("conv5.0", "conv5.1")), name="conv5.2")
    return nn.dense(nn.global_avg_pool(x, name="avgpool"), CLASSES, name="fc")


def _unet(net: Network, width: float, side: int) -> NetworkVertex:
    def double(x: NetworkVertex, filters: int, name: str) -> NetworkVertex:
        for place in (0, 3):
            x = _conv_norm(x, filters, 3, (f"{name}.{place}", f"{name}.{place + 1}"))
            x = nn.relu(x, name=f"{name}.{place + 2}")
        return x

    base = scaled(64, width)
    x = double(_image(net, side), base, "inc.double_conv")
    skips = []
    for depth in range(1, 5):
        skips.append(x)
        x = nn.max_pool(x, 2, name=f"down{depth}.maxpool_conv.0")
        x = double(x, base * 2**depth, f"down{depth}.maxpool_conv.1.double_conv")
    for step in range(1, 5):
        filters = base * 2 ** (4 - step)
        y = nn.conv_transpose(x, filters, 2, stride=2, name=f"up{step}.up")
        y = nn.concat([skips.pop(), y], name=f"up{step}.concat")
        x = double(y, filters, f"up{step}.conv.double_conv")
    return nn.conv(x, 2, 1, name="outc.conv")


# -- transformers ---------------------------------------------------------------------------------


def _vit_b(net: Network, width: float, side: int) -> NetworkVertex:
    size, heads = scaled(768, width), scaled(12, width)
    per_head = scaled(size, 1 / heads)
    size = heads * per_head
    x = nn.conv(_image(net, side), size, 16, stride=16, name="conv_proj")
    x = nn.reshape(x, (size, (side // 16) ** 2), name="patches")
    x = nn.transpose(x, (0, 2, 1), name="tokens")
    # The class token is a token of zeros, and what is learned of it is its position.
    x = nn.pad(x, [(1, 0), 0], name="class_token")
    x = nn.position(x, name="encoder.pos_embedding")
    for block in range(12):
        name = f"encoder.layers.encoder_layer_{block}"
        y = nn.layer_norm(x, epsilon=1e-6, name=f"{name}.ln_1")
        y = nn.attention(y, num_heads=heads, head_dim=per_head, name=f"{name}.self_attention")
        x = nn.add([x, y], name=f"{name}.add_1")
        y = nn.layer_norm(x, epsilon=1e-6, name=f"{name}.ln_2")
        y = nn.dense(y, scaled(3072, width), activation="gelu", name=f"{name}.mlp.0")
        y = nn.dense(y, size, name=f"{name}.mlp.3")
        x = nn.add([x, y], name=f"{name}.add_2")
    x = nn.layer_norm(x, epsilon=1e-6, name="encoder.ln")
    x = nn.flatten(nn.take(x, [0], axis=1, name="first"), name="representation")
    return nn.dense(x, CLASSES, name="heads.head")


def _gqa_decoder(net: Network, width: float, length: int) -> NetworkVertex:
    shared = scaled(4, width)
    heads = scaled(16, width, shared)
    per_head = scaled(1024, width / heads)
    size = heads * per_head
    x = nn.embedding(net.tokens("tokens", length), VOCABULARY, size, name="model.embed_tokens")
    for block in range(8):
        name = f"model.layers.{block}"
        y = nn.rms_norm(x, name=f"{name}.input_layernorm")
        y = nn.attention(
            y,
            num_heads=heads,
            kv_heads=shared,
            head_dim=per_head,
            causal=True,
            bias=False,
            name=f"{name}.self_attn",
        )
        x = nn.add([x, y], name=f"{name}.add_1")
        y = nn.rms_norm(x, name=f"{name}.post_attention_layernorm")
        inner = scaled(2816, width)
        gate = nn.dense(y, inner, activation="silu", bias=False, name=f"{name}.mlp.gate_proj")
        up = nn.dense(y, inner, bias=False, name=f"{name}.mlp.up_proj")
        y = nn.multiply([gate, up], name=f"{name}.mlp.product")
        y = nn.dense(y, size, bias=False, name=f"{name}.mlp.down_proj")
        x = nn.add([x, y], name=f"{name}.add_2")
    return nn.dense(nn.rms_norm(x, name="model.norm"), VOCABULARY, bias=False, name="lm_head")


# -- all of them ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture.

    Args:
        make: adds all vertices to a network, given width and resolution; returns the output.
        resolution: side of the published input image, or number of tokens.
        reduced: a small resolution that it can be evaluated at.
        published: number of parameters at width 1, without running statistics, where one is known.
        note: where this number and that of the network here differ, and why.
    """

    make: Callable[[Network, float, int], NetworkVertex]
    resolution: int
    reduced: int
    published: int | None = None
    note: str = ""

    def build(
        self, width: float = 1.0, seed: int = 0, *, resolution: int | None = None, weights: Weights = "random"
    ) -> Network:
        """The network, in single precision.

        Args:
            width: multiplies every hidden width; inputs and the last layer's outputs stay. The heads of an attention
                are multiplied too, and their dimensions stay where that gives whole heads.
            seed: for the weights.
            resolution: side of the input image, or number of tokens; by default the published one.
            weights: `"random"`, or `"zeros"` that take no memory, whatever the width.
        """
        network = Network if weights == "random" else Light
        net = network(seed=seed, dtype=np.float32)
        net.output(self.make(net, width, resolution or self.resolution))
        return net


#: All architectures by name.
ARCHITECTURES: Mapping[str, Architecture] = {
    # torchvision's with batch norm. Its adaptive pooling to 7x7, which does nothing at 224, is left out.
    "vgg16": Architecture(_vgg16, 224, 64, 138_365_992),
    # torchvision's "v1.5": the stride is that of the 3x3 convolution.
    "resnet50": Architecture(_resnet50, 224, 64, 25_557_032),
    # torchvision's.
    "densenet121": Architecture(_densenet121, 224, 64, 7_978_856),
    # torchvision's, but for its rounding of scaled widths to multiples of 8.
    "mobilenet_v2": Architecture(_mobilenet_v2, 224, 64, 3_504_872),
    # Zhang et al. 2017 with 3 groups; the number is that of imgclsmob's `shufflenet_g3_w1`.
    "shufflenet": Architecture(_shufflenet, 224, 64, 1_865_728),
    # torchvision's 1.0x.
    "shufflenet_v2": Architecture(_shufflenet_v2, 224, 64, 2_278_604),
    # Ronneberger et al. 2015 with padding and batch norm; names and number are those of milesial/Pytorch-UNet.
    "unet": Architecture(_unet, 256, 32, 31_037_698),
    # torchvision's ViT-B/16.
    "vit_b": Architecture(_vit_b, 224, 64, 86_567_656, "class token and its position are one vector here"),
    # A small Llama with grouped keys and values; without rotary positions, for which there is no layer.
    "gqa_decoder": Architecture(_gqa_decoder, 128, 16),
}


def parameters(net: Network) -> int:
    """The number of parameters, without running statistics."""
    return sum(
        prod(parameter.shape)
        for vertex in net.graph.vertices
        for role, parameter in vertex.parameters.items()
        if (vertex.kind, role) not in {("batch_norm", "mean"), ("batch_norm", "var")}
    )


# -- utilities ------------------------------------------------------------------------------------


def utility(net: Network, seed: int = 0, spread: float = 0.5) -> dict[Handle, NDArray[np.float64]]:
    """What neurons would be worth in a trained network, made up from shapes alone.

    A neuron of a vertex with a `weight` is worth

        sqrt(2 fan_in / (fan_in + fan_out)) * max(0.1, 1 + sqrt(0.2 / fan_in) * N(0, 1)) * exp(spread * N(0, 1))

    where `fan_in` is how many weights it has and `fan_out` how many weights read one input of its vertex (for an
    embedding: one token). The first factor is the root of the expected squared L2 norm of Glorot weights, the second
    how much that norm varies among uniform weights, the third what training made of the neuron.

    Args:
        net: a network of any size; its arrays are not read.
        seed: with the vertex's name, all that the random numbers depend on.
        spread: of the logarithm of the third factor.

    Returns:
        A vector of length v.nout, positive, for every vertex v with a weight.
    """
    worth: dict[Handle, NDArray[np.float64]] = {}
    for vertex in net.graph.vertices:
        if "weight" in vertex.parameters:
            neurons, fan_in, fan_out = _fans(vertex)
            rng = np.random.default_rng([seed, *vertex.name.encode()])
            gain = np.exp(spread * rng.standard_normal(neurons))
            noise = np.maximum(0.1, 1 + np.sqrt(0.2 / fan_in) * rng.standard_normal(neurons))
            worth[net.handle(vertex.name)] = np.sqrt(2 * fan_in / (fan_in + fan_out)) * noise * gain
    return worth


def _fans(vertex: Vertex) -> tuple[int, int, int]:
    """How many neurons there are, weights of a neuron, and weights that read an input."""
    first, second, *window = vertex.parameters["weight"].shape
    groups, area = int(str(vertex.attributes.get("groups", 1))), prod(window)
    if vertex.kind in ("conv_transpose", "embedding"):
        return second * groups, first // groups * area, second * area
    return first, second * area, first // groups * area


# -- the table ------------------------------------------------------------------------------------


def main() -> None:
    """Print the number of parameters of every architecture, and what it is in the original."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(ARCHITECTURES)}; by default all")
    parser.add_argument("--width", type=float, default=1.0, help="multiplies all hidden widths")
    parser.add_argument("--zeros", action="store_true", help="no memory for weights")
    parser.add_argument("--evaluate", action="store_true", help="evaluate one sample of reduced resolution")
    options = parser.parse_args()
    heads = f"{'architecture':<13} {'width':>6} {'vertices':>8} {'neurons':>9}"
    print(f"{heads} {'parameters':>15} {'missing':>7} {'build':>7}")
    for name in options.names or ARCHITECTURES:
        architecture = ARCHITECTURES[name]
        resolution = architecture.reduced if options.evaluate else None
        start = time.perf_counter()
        weights: Weights = "zeros" if options.zeros else "random"
        net = architecture.build(options.width, resolution=resolution, weights=weights)
        seconds, count = time.perf_counter() - start, parameters(net)
        neurons = sum(map(len, utility(net).values()))
        known = architecture.published if options.width == 1 and resolution is None else None
        missing = f"{known - count:,}" if known else ""
        line = f"{name:<13} {options.width:>6g} {len(net):>8} {neurons:>9,} {count:>15,} {missing:>7} {seconds:>6.2f}s"
        print(f"{line}  {architecture.note if known != count else ''}" if known else line)
        if options.evaluate:
            _evaluate(net)


def _evaluate(net: Network) -> None:
    rng = np.random.default_rng(0)
    shape = (1, *(size or 1 for size in net.inputs[0].shape[1:]))
    tokens = net.inputs[0].name == "tokens"
    start = time.perf_counter()
    y = net(rng.integers(0, VOCABULARY, shape) if tokens else rng.normal(size=shape).astype(np.float32))
    seconds = time.perf_counter() - start
    finite, spread = np.isfinite(y).all(), y.std()
    print(f"{'':<13} {shape} -> {y.shape} in {seconds:.2f}s, finite: {finite}, standard deviation {spread:.2g}")


if __name__ == "__main__":
    main()
