"""Which convolutions can be followed, and how the weight of a grouped one is seen."""

from collections.abc import Sequence

import pytest

from solver_nas.errors import RuleError
from solver_nas.graph import Parameter, Vertex
from solver_nas.labels import Tensor
from solver_nas.rules import Scope, Tape, Weight
from solver_nas.rules.windows import Style, convolution, style_of


def scope(*shape: int) -> Scope:
    return Scope(Vertex("v", "conv", parameters={"W": Parameter("v.W", shape)}), (), Tape())


@pytest.mark.parametrize("spatial", [(), (5, 5, 5, 5)], ids=["none", "four"])
def test_windows_have_one_to_three_axes(spatial: tuple[int, ...]) -> None:
    seen = scope(4, 2, *spatial)
    with pytest.raises(RuleError, match=rf"vertex 'v' \(conv\): {len(spatial)} spatial axes"):
        convolution(
            seen,
            Tensor((None, 2, *spatial)),
            lambda view: seen.weight("W", view),
            spatial,
            style=Style.PLAIN,
            kernel_shape=(4, 2, *spatial),
        )


def test_of_a_weight_that_is_not_known_all_channels_are_seen() -> None:
    assert style_of(None, 4) is Style.PLAIN


@pytest.mark.parametrize(
    ("shape", "transposed", "channels", "expected"),
    [((6, 4, 3), False, 8, [(2, 3), (4,), (3,)]), ((8, 3, 3), True, 8, [(2, 4), (3,), (3,)])],
    ids=["conv", "transposed"],
)
def test_a_weight_is_seen_in_groups(
    shape: tuple[int, ...], transposed: bool, channels: int, expected: list[tuple[int, ...]]
) -> None:
    asked: list[Sequence[Sequence[int]] | None] = []
    seen = scope(*shape)

    def kernel(view: Sequence[Sequence[int]] | None) -> Weight:
        asked.append(view)
        return seen.weight("W", view)

    y = convolution(
        seen,
        Tensor((None, channels, 7)),
        kernel,
        (None,),
        style=style_of(shape, 2),
        kernel_shape=shape,
        groups=2,
        transposed=transposed,
    )
    assert asked == [expected]
    assert y.shape == (None, 6, None)
