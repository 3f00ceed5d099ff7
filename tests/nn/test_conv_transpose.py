"""Transposed convolutions against loops that scatter every input element."""

import itertools
from typing import Any

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.errors import LayerError
from solver_nas.testing.zoo import randomised

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
SIZES = {1: (5,), 2: (4, 3), 3: (3, 2, 3)}


def scattered(x: Array, v: nn.NetworkVertex, stride: int, cut: int, extra: int, dilation: int, groups: int) -> Array:
    weight, bias = v.parameters["weight"], v.parameters["bias"]
    sizes = [
        (n - 1) * stride + dilation * (k - 1) + 1 + extra for n, k in zip(x.shape[2:], weight.shape[2:], strict=True)
    ]
    inside, outside = len(weight) // groups, weight.shape[1]
    y = np.zeros((len(x), groups * outside, *sizes))
    for channel, out in itertools.product(range(len(weight)), range(outside)):
        target = channel // inside * outside + out
        for place in itertools.product(*map(range, x.shape[2:])):
            for offset in itertools.product(*map(range, weight.shape[2:])):
                at = (p * stride + o * dilation for p, o in zip(place, offset, strict=True))
                source: tuple[Any, ...] = (slice(None), channel, *place)
                sink: tuple[Any, ...] = (slice(None), target, *at)
                y[sink] += x[source] * weight[(channel, out, *offset)]
    y += bias.reshape(-1, *[1] * len(sizes))
    kept: tuple[Any, ...] = (..., *(slice(cut, size - cut) for size in sizes))
    return np.asarray(y[kept])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("groups", "channels", "filters"), [(1, 2, 3), (2, 4, 6), (3, 3, 3)])
@pytest.mark.parametrize(("stride", "cut", "extra", "dilation"), [(1, 0, 0, 1), (2, 1, 1, 1), (3, 0, 2, 2)])
def test_values(
    rank: int,
    groups: int,
    channels: int,
    filters: int,
    stride: int,
    cut: int,
    extra: int,
    dilation: int,
) -> None:
    net = nn.Network()
    v = nn.conv_transpose(
        net.input("x", (channels, *SIZES[rank])),
        filters,
        (3, 2, 3)[:rank],
        stride=stride,
        padding=cut,
        output_padding=extra,
        dilation=dilation,
        groups=groups,
    )
    randomised(net, 0)
    x = np.random.default_rng(1).normal(size=(2, channels, *SIZES[rank]))
    expected = scattered(x, v, stride, cut, extra, dilation, groups)
    np.testing.assert_allclose(net(x), expected, atol=1e-12)
    np.testing.assert_allclose(net(x[0]), expected[0], atol=1e-12)
    assert v.shape == (None, *expected.shape[1:])


def test_it_is_the_adjoint_of_a_convolution() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, 2, 7)), rng.normal(size=(1, 3, 3))
    net = nn.Network()
    there = nn.conv(net.input("x", (2, 7)), 3, 3, stride=2, bias=False)
    back = nn.conv_transpose(net.input("y", (3, 3)), 2, 3, stride=2, bias=False)
    back.op.weight = there.op.weight
    forth, adjoint = net(x, y)
    np.testing.assert_allclose((forth * y).sum(), (adjoint * x).sum())


def test_groups_keep_equally_many_channels_each() -> None:
    net = nn.Network()
    x = nn.conv(net.input("x", (2, 4)), 6, 1, name="before")
    nn.conv_transpose(x, 4, 2, groups=2, name="grouped")
    weight = net.labels.parameters["grouped.weight"]
    assert weight.view == (2, 3, 2, 2)
    assert [(use.axes, use.role) for use in weight.uses] == [((0, 1), "contract"), ((0, 2), "fresh")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_padding": 2, "stride": 2}, "output_padding 2 has to be less than stride or dilation"),
        ({"padding": 4}, "leaves nothing of the output"),
        ({"padding": "same"}, "not 'same'"),
        ({"groups": 4}, "groups is 4, which does not divide 6"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    x = nn.Network().input("x", (6, 4))
    with pytest.raises(LayerError, match=message):
        nn.conv_transpose(x, 6, 3, **arguments)  # type: ignore[arg-type] # wrong on purpose
