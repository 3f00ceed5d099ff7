"""Reshapes and transposes: values are NumPy's, labels move as the data does."""

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.classes import classify
from solver_nas.errors import LayerError
from solver_nas.graph import Port

Ints = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def numbered(*shape: int) -> np.ndarray:
    """Two samples that number their elements."""
    return np.arange(2 * np.prod(shape)).reshape(2, *shape).astype(float)


def classes(net: nn.Network, name: str) -> Ints:
    class_of, _ = classify(net.labels)
    found: Ints = class_of[net.tensor(name).neurons["label"]]
    return found


def test_flatten() -> None:
    net = nn.Network()
    v = nn.flatten(net.input("x", (3, 2, 4)))
    x = numbered(3, 2, 4)
    np.testing.assert_array_equal(net(x), x.reshape(2, -1))
    np.testing.assert_array_equal(net(x[1]), x[1].reshape(-1))
    assert v.shape == (None, 24)


def test_a_flattened_channel_is_all_its_pixels() -> None:
    net = nn.Network()
    x = nn.conv(net.input("x", (2, 2, 3)), 4, 1, name="before")
    nn.flatten(x, name="flat")
    flat, before = net.tensor("flat").neurons, net.tensor("before").neurons
    np.testing.assert_array_equal(flat["label"], np.repeat(before["label"], 6))
    assert len(np.unique(flat)) == 24, "the copies of one label are told apart"


def test_pixels_first_interleaves_the_channels() -> None:
    net = nn.Network()
    x = nn.conv(net.input("x", (2, 2, 3)), 4, 1, name="before")
    nn.flatten(nn.transpose(x, (0, 2, 3, 1)), name="flat")
    expected = np.tile(net.tensor("before").neurons["label"], 6)
    np.testing.assert_array_equal(net.tensor("flat").neurons["label"], expected)


@pytest.mark.parametrize("shape", [(4, 6), (-1, 6), (2, -1, 3), (24,), (1, 24, 1)])
def test_reshape(shape: tuple[int, ...]) -> None:
    net = nn.Network()
    v = nn.reshape(net.input("x", (3, 8)), shape)
    x = numbered(3, 8)
    np.testing.assert_array_equal(net(x), x.reshape(2, *shape))
    np.testing.assert_array_equal(net(x[0]), x[0].reshape(shape))
    assert v.shape[1:] == x.reshape(2, *shape).shape[1:]


def test_a_vector_seen_as_an_image_has_rows_of_pixels() -> None:
    net = nn.Network()
    x = nn.dense(net.input("x", 2), 12, name="before")
    image = nn.reshape(x, (3, 2, 2), name="image")
    (block,) = net.tensor(image.name).blocks
    assert block.axes == (1, 2, 3)
    assert len(np.unique(classes(net, "image"))) == 12
    nn.conv(image, 2, 2, name="reader")
    np.testing.assert_array_equal(classes(net, "before"), np.repeat(classes(net, "before")[::4], 4))


def test_fixed_axes_keep_rows_whole() -> None:
    net = nn.Network()
    x = nn.dense(net.input("x", 2), 12, name="before")
    image = nn.reshape(x, (3, 2, 2), fixed=(2, -1), name="image")
    (block,) = net.tensor(image.name).blocks
    assert block.axes == (1,)
    np.testing.assert_array_equal(classes(net, "before"), np.repeat(classes(net, "image"), 4))


def test_a_reshape_and_back_is_nothing() -> None:
    net = nn.Network()
    x = nn.dense(net.input("x", 2), 12, name="before")
    nn.reshape(nn.reshape(x, (3, 4)), (12,), name="back")
    np.testing.assert_array_equal(classes(net, "back"), classes(net, "before"))


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (0, -1, 1, 2), (0, 1, 2, 3)])
def test_transpose(order: tuple[int, ...]) -> None:
    net = nn.Network()
    nn.transpose(net.input("x", (2, 3, 4)), order)
    x = numbered(2, 3, 4)
    np.testing.assert_array_equal(net(x), x.transpose([axis % 4 for axis in order]))
    np.testing.assert_array_equal(net(x[0]), net(x)[0])


def test_channel_shuffle_takes_groups_in_turn() -> None:
    net = nn.Network()
    x = nn.conv(net.input("x", (2, 1, 1)), 6, 1, name="before")
    nn.channel_shuffle(x, 2, name="shuffled")
    order = [0, 3, 1, 4, 2, 5]
    np.testing.assert_array_equal(classes(net, "shuffled"), classes(net, "before")[order])
    found = net.activations(numbered(2, 1, 1))
    np.testing.assert_array_equal(found["shuffled"], found["before"][:, order])


@pytest.mark.parametrize("rank", [1, 2])
def test_pixel_shuffle_puts_channels_between_pixels(rank: int) -> None:
    net = nn.Network()
    sizes = (3, 2)[:rank]
    nn.pixel_shuffle(net.input("x", (2 * 2**rank, *sizes)), 2, name="large")
    x = numbered(2 * 2**rank, *sizes)
    found = net(x)
    for channel in range(2):
        for offset in np.ndindex(*[2] * rank):
            place = np.ravel_multi_index(offset, [2] * rank)
            pixels = found[(slice(None), channel, *(slice(start, None, 2) for start in offset))]
            np.testing.assert_array_equal(pixels, x[:, channel * 2**rank + place])


def test_the_channels_of_a_pixel_go_together() -> None:
    net = nn.Network()
    x = nn.conv(net.input("x", (2, 3, 3)), 12, 1, name="before")
    nn.pixel_shuffle(x, 2, name="large")
    assert net.labels.tensors[Port("large")].shape == (None, 3, 6, 6)
    np.testing.assert_array_equal(classes(net, "before"), np.repeat(classes(net, "large"), 4))


def test_impossible_arguments_are_named() -> None:
    net = nn.Network()
    x = net.input("x", (3, 8))
    with pytest.raises(LayerError, match=r"reshape 'r': a sample of 'x' has shape \(3, 8\)"):
        nn.reshape(x, (5, 5), name="r")
    with pytest.raises(LayerError, match=r"reshape: a sample of 'x' has shape .* does not fit \(-1, 7\)"):
        nn.reshape(x, (-1, 7))
    with pytest.raises(LayerError, match="only one size may be -1"):
        nn.reshape(x, (-1, -1))
    with pytest.raises(LayerError, match=r"fixed axes \(3,\) are not axes of a result with 3 axes"):
        nn.reshape(x, (4, 6), fixed=(3,))
    with pytest.raises(LayerError, match=r"order names all 3 axes of 'x', the batch \(0\) first"):
        nn.transpose(x, (1, 0, 2))
    with pytest.raises(LayerError, match="names an axis twice"):
        nn.transpose(x, (0, 1, 1))
    with pytest.raises(LayerError, match=r"flatten: axis 1 of 'y' has no known size"):
        nn.flatten(net.input("y", (None, 2), axis=-1))
    with pytest.raises(LayerError, match=r"factor \*\* 2 is 4, which does not divide 6"):
        nn.pixel_shuffle(net.input("z", (6, 2, 2)), 2)
