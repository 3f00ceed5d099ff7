"""A function has a name, and a name has one function."""

from collections.abc import Callable
from typing import Any

import pytest

from solver_nas import nn
from solver_nas.errors import LayerError
from solver_nas.nn import named


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "_FUNCTIONS", {})


def test_registering_as_a_decorator_and_as_a_call() -> None:
    @nn.register("double")
    def double(x: Any) -> Any:
        return 2 * x

    assert double(2) == 4
    assert nn.register("twice", double) is double
    assert named.function_of("twice") is named.function_of("double") is double
    assert named.name_of(double) == "double"
    assert nn.register("double", double) is double
    assert named.function_of("half") is None
    assert named.name_of(abs) is None


def test_a_name_that_is_taken() -> None:
    nn.register("size", abs)
    with pytest.raises(LayerError, match=r"the name 'size' belongs to .*abs.*; give .*len.* another one"):
        nn.register("size", len)
    assert named.function_of("size") is abs


def test_methods_are_the_same_each_time() -> None:
    class Scale:
        __hash__ = None  # type: ignore[assignment] # functions need not be hashable

        def __init__(self, factor: float) -> None:
            self.factor = factor

        def __call__(self, x: Any) -> Any:
            return self.factor * x

        def apply(self, x: Any) -> Any:
            return self(x)

    one, other = Scale(1), Scale(2)
    nn.register("one", one.apply)
    nn.register("other", other)
    assert named.name_of(one.apply) == "one"
    assert named.name_of(other.apply) is None
    assert named.name_of(other) == "other"
    with pytest.raises(LayerError, match="belongs to"):
        nn.register("one", other.apply)


@pytest.mark.parametrize("name", ["", 3, None, abs])
def test_names_are_strings(name: Any) -> None:
    with pytest.raises(LayerError, match=r"register takes a name first, such as 'mine\.swish', got"):
        nn.register(name, abs)


@pytest.mark.parametrize("function", [3, "abs"])
def test_functions_can_be_called(function: Any) -> None:
    keep: Callable[[Any], Any] = nn.register("name")
    with pytest.raises(LayerError, match="what is called 'name' has to be a function"):
        keep(function)
