"""Split, take and flip; their literal positions follow the neurons."""

import numpy as np
import pytest

from solver_nas import nn, plan_change
from solver_nas.errors import LayerError
from solver_nas.testing.zoo import randomised


def test_split_in_equal_parts() -> None:
    net = nn.Network()
    nn.split(net.input("x", (6, 2)), 3, name="part")
    x = np.random.default_rng(0).normal(size=(4, 6, 2))
    for place, found in enumerate(net(x)):
        np.testing.assert_array_equal(found, x[:, 2 * place : 2 * place + 2])


def test_split_in_given_parts_of_any_axis() -> None:
    net = nn.Network()
    first, second = nn.split(net.input("x", (6, 4)), [1, 3], axis=2)
    x = np.random.default_rng(0).normal(size=(4, 6, 4))
    np.testing.assert_array_equal(net(x)[1], x[..., 1:])
    np.testing.assert_array_equal(net(x[0])[1], x[0, :, 1:])
    assert (first.shape, second.shape) == ((None, 6, 1), (None, 6, 3))


def test_bounds_follow_the_neurons() -> None:
    net = nn.Network()
    x = nn.dense(net.input("x", 3), 6, name="before")
    nn.dense(nn.concat(nn.split(x, (2, 3, 1), name="part")[::-1]), 2)
    after = plan_change(x, -2, utility={x: [1.0, 0.5, 1.0, 0.0, 0.0, 1.0]}).blueprint.after
    bounds = [after.vertex(f"part.{place}").attributes for place in range(3)]
    assert [(b["start"], b["stop"]) for b in bounds] == [(0, 2), (2, 3), (3, 4)]


def test_take_any_order_with_repetitions() -> None:
    net = nn.Network()
    v = nn.take(net.input("x", (4, 3)), [2, 0, 2])
    x = np.random.default_rng(0).normal(size=(2, 4, 3))
    np.testing.assert_array_equal(net(x), x[:, [2, 0, 2]])
    np.testing.assert_array_equal(net(x[0]), x[0, [2, 0, 2]])
    assert v.shape == (None, 3, 3)


def test_what_is_taken_twice_goes_twice() -> None:
    net = nn.Network()
    x = nn.dense(net.input("x", 3), 4, name="before")
    taken = nn.take(x, [3, 1, 3, 0, 2], name="taken")
    nn.dense(taken, 2)
    assert len(np.unique(net.tensor("taken").neurons)) == 5
    plan = plan_change(x, -1, utility={x: [1.0, 0.0, 1.0, 1.0]})
    assert plan.blueprint.after.vertex("taken").attributes["index"] == (2, 2, 0, 1)
    plan = plan_change(x, -1, utility={x: [1.0, 1.0, 1.0, 0.0]})
    assert plan.blueprint.after.vertex("taken").attributes["index"] == (1, 0, 2)


def test_flip() -> None:
    net = nn.Network()
    x = net.input("x", (4, 3))
    nn.flip(x, name="channels")
    nn.flip(x, axis=-1, name="pixels")
    given = np.random.default_rng(0).normal(size=(2, 4, 3))
    channels, pixels = net(given)
    np.testing.assert_array_equal(channels, given[:, ::-1])
    np.testing.assert_array_equal(pixels, given[..., ::-1])


def test_flipped_neurons_stay_flipped() -> None:
    net = nn.Network()
    x = nn.dense(net.input("x", 3), 4, name="before")
    nn.dense(nn.flip(x, name="flipped"), 2, name="out")
    randomised(net, 0)
    plan = plan_change(x, -2, utility={x: [1.0, 0.0, 1.0, 0.0]})
    np.testing.assert_array_equal(plan.indices["flipped"], [1, 3])
    np.testing.assert_array_equal(plan.build()["out.weight"], net.arrays["out.weight"][:, [1, 3]])


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (4, r"split 's': sections is 4, which does not divide 6; possible are \[1, 2, 3, 6\]"),
        ([2, 3], r"sections \[2, 3\] add up to 5, the axis has 6"),
        ([7, -1], "a section is an integer of at least 1, got -1"),
    ],
)
def test_parts_add_up(sections: int | list[int], message: str) -> None:
    with pytest.raises(LayerError, match=message):
        nn.split(nn.Network().input("x", 6), sections, name="s")


@pytest.mark.parametrize("index", [[], [4], [-1], [0.5]])
def test_positions_are_there(index: list[int]) -> None:
    with pytest.raises(LayerError, match="position"):
        nn.take(nn.Network().input("x", 4), index)
