"""Convolutions against loops over every output element, and their labels."""

import itertools
from typing import Any

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.classes import classify
from solver_nas.errors import LayerError
from solver_nas.graph import Port
from solver_nas.labels import FIXED
from solver_nas.testing.zoo import randomised

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
SIZES = {1: (9,), 2: (7, 6), 3: (5, 4, 6)}


def convolved(x: Array, v: nn.NetworkVertex, stride: int, before: int, dilation: int, groups: int) -> Array:
    """The definition, element by element; padding `before` on both sides."""
    weight, bias = v.parameters["weight"], v.parameters["bias"]
    rank = weight.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *[(before, before)] * rank])
    reach = [dilation * (k - 1) + 1 for k in weight.shape[2:]]
    positions = [(n - r) // stride + 1 for n, r in zip(x.shape[2:], reach, strict=True)]
    y = np.zeros((len(x), len(weight), *positions))
    inside, outside = weight.shape[1], len(weight) // groups
    for out in range(len(weight)):
        first = out // outside * inside
        for place in itertools.product(*map(range, positions)):
            total = np.full(len(x), bias[out])
            for channel in range(inside):
                for offset in itertools.product(*map(range, weight.shape[2:])):
                    at = (p * stride + o * dilation for p, o in zip(place, offset, strict=True))
                    source: tuple[Any, ...] = (slice(None), first + channel, *at)
                    total += weight[(out, channel, *offset)] * x[source]
            target: tuple[Any, ...] = (slice(None), out, *place)
            y[target] = total
    return y


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("groups", "channels", "filters"), [(1, 2, 3), (2, 4, 6), (3, 3, 3), (3, 3, 6)])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (3, 2, 2)])
def test_values(rank: int, groups: int, channels: int, filters: int, stride: int, padding: int, dilation: int) -> None:
    net = nn.Network()
    kernel = (3, 2, 1)[:rank]
    v = nn.conv(
        net.input("x", (channels, *SIZES[rank])),
        filters,
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    randomised(net, 0)
    x = np.random.default_rng(1).normal(size=(2, channels, *SIZES[rank]))
    expected = convolved(x, v, stride, padding, dilation, groups)
    np.testing.assert_allclose(net(x), expected, atol=1e-12)
    np.testing.assert_allclose(net(x[0]), expected[0], atol=1e-12)
    assert v.shape == (None, *expected.shape[1:])


@pytest.mark.parametrize(("stride", "expected"), [(1, (7, 6)), (2, (4, 3)), (3, (3, 2))])
def test_same_padding_has_one_position_per_step(stride: int, expected: tuple[int, ...]) -> None:
    net = nn.Network()
    v = nn.conv(net.input("x", (2, 7, 6)), 3, (3, 2), stride=stride, padding="same")
    assert v.shape[2:] == expected
    assert net(np.zeros((1, 2, 7, 6))).shape[2:] == expected


def test_same_padding_puts_the_odd_element_behind() -> None:
    net = nn.Network()
    v = nn.conv(net.input("x", (1, 4)), 1, 2, padding="same", bias=False)
    v.op.weight = np.array([[[1.0, 10.0]]])
    np.testing.assert_array_equal(net(np.array([[1.0, 2.0, 3.0, 4.0]])), [[21.0, 32.0, 43.0, 4.0]])


def test_pairs_pad_each_side_by_itself() -> None:
    net = nn.Network()
    v = nn.conv(net.input("x", (1, 3)), 1, 2, padding=[(2, 0)], bias=False)
    v.op.weight = np.array([[[1.0, 10.0]]])
    np.testing.assert_array_equal(net(np.array([[1.0, 2.0, 3.0]])), [[0.0, 10.0, 21.0, 32.0]])


def test_activation_is_applied() -> None:
    net = nn.Network()
    nn.conv(net.input("x", (2, 5)), 3, 2, activation="relu")
    assert (net(np.random.default_rng(0).normal(size=(4, 2, 5))) >= 0).all()


def test_unknown_spatial_sizes_stay_unknown() -> None:
    net = nn.Network()
    v = nn.conv(net.input("x", (2, None, 5)), 4, 2, groups=2)
    assert v.shape == (None, 4, None, 4)
    assert net(np.zeros((1, 2, 9, 5))).shape == (1, 4, 8, 4)


def _two(filters: int, groups: int) -> tuple[nn.Network, nn.NetworkVertex]:
    net = nn.Network()
    x = nn.conv(net.input("x", (3, 5, 5)), 6, 1, name="before")
    return net, nn.conv(x, filters, 3, groups=groups, name="grouped")


def test_a_plain_convolution_makes_labels_of_its_own() -> None:
    net, v = _two(4, 1)
    weight = net.labels.parameters["grouped.weight"]
    assert [(use.axes, use.role) for use in weight.uses] == [((1,), "contract"), ((0,), "fresh")]
    np.testing.assert_array_equal(weight.uses[0].levels[0], net.tensor("before").neurons)
    np.testing.assert_array_equal(weight.uses[1].levels[0], net.tensor(v.name).neurons)


def test_groups_keep_equally_many_channels_each() -> None:
    net, _ = _two(4, 2)
    weight = net.labels.parameters["grouped.weight"]
    assert weight.view == (2, 2, 3, 3, 3)
    assert [(use.axes, use.role) for use in weight.uses] == [((0, 2), "contract"), ((0, 1), "fresh")]
    inside = net.tensor("before").neurons["label"].reshape(2, 3)
    outside = net.tensor("grouped").neurons["label"].reshape(2, 2)
    rectangles = [joint.cells.tolist() for joint in net.labels.joints]
    assert inside.tolist() in rectangles
    assert outside.tolist() in rectangles
    class_of, _ = classify(net.labels)
    assert len(np.unique(class_of[np.concatenate([inside.ravel(), outside.ravel()])])) == 10


def test_a_depthwise_convolution_follows_its_input() -> None:
    net, _ = _two(6, 6)
    np.testing.assert_array_equal(net.tensor("grouped").neurons, net.tensor("before").neurons)
    assert not net.labels.joints


def test_filters_of_one_channel_share_a_row() -> None:
    net, _ = _two(12, 6)
    inside = net.tensor("before").neurons["label"]
    outside = net.tensor("grouped").neurons["label"].reshape(6, 2)
    (joint,) = net.labels.joints
    np.testing.assert_array_equal(joint.rows, inside)
    np.testing.assert_array_equal(joint.cells, outside)


def test_windows_and_images_never_change() -> None:
    net, _ = _two(4, 1)
    assert all(set(block.axes) == {1} for port, t in net.labels.tensors.items() for block in t.blocks)
    uses = net.labels.parameters["grouped.weight"].uses
    assert not {2, 3} & {axis for use in uses for axis in use.axes}


def test_an_image_without_neurons_fixes_what_reads_it() -> None:
    net = nn.Network()
    x = nn.dense(net.input("x", 4), 6, name="vector")
    nn.conv(nn.reshape(x, (1, 2, 3)), 2, (1, 2), name="conv")
    class_of, _ = classify(net.labels)
    assert (class_of[net.labels.tensors[Port("vector")].neurons["label"]] == FIXED).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": 0, "kernel": 3}, "conv 'c': filters is an integer of at least 1, got 0"),
        ({"filters": 4, "kernel": 3, "groups": 4}, "groups is 4, which does not divide 6; possible are"),
        ({"filters": 4, "kernel": 3, "groups": 3}, "groups is 3, which does not divide 4"),
        ({"filters": 4, "kernel": (3, 3, 3)}, "kernel is one integer or 2 of them"),
        (
            {"filters": 4, "kernel": 9},
            "the window spans 9 elements on spatial axis 0, the padded input has 5",
        ),
        ({"filters": 4, "kernel": 3, "padding": "full"}, "padding is 'same', 'valid'"),
        ({"filters": 4, "kernel": 3, "padding": -1}, "padding is an integer of at least 0, got -1"),
        ({"filters": 4, "kernel": 3, "stride": 0}, "stride is an integer of at least 1"),
        ({"filters": 4, "kernel": 3, "activation": "swoosh"}, "no activation 'swoosh'"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    net = nn.Network()
    x = net.input("x", (6, 5, 5))
    with pytest.raises(LayerError, match=message):
        nn.conv(x, name="c", **arguments)  # type: ignore[arg-type] # wrong on purpose
    assert len(net) == 1


def test_vectors_are_refused() -> None:
    with pytest.raises(LayerError, match=r"takes \(batch, channels, 1 to 3 spatial axes\), 'x' has shape"):
        nn.conv(nn.Network().input("x", 6), 4, 3)
