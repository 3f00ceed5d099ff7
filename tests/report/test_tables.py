"""Tables say what is there."""

import functools

import numpy as np
import pytest

from solver_nas import nn
from solver_nas.errors import RequestError
from solver_nas.frontend import Handle
from solver_nas.report.tables import summary, table, text


def test_a_summary_counts_shared_arrays_once() -> None:
    net = nn.Network()
    x = net.input("in", (4, 6), axis=-1)
    a = nn.dense(x, 6, name="a")
    b = net.add("dense", "b", (a,), {"activation": "identity"}, keys={"weight": "a.weight", "bias": "a.bias"})
    net.output(nn.concat([b, x], name="joined"))
    rows = [line.split() for line in summary(net).splitlines()]
    assert ["a", "dense", "in", "6", "6", "(None,", "4,", "6)", "42"] in rows
    assert ["b", "dense", "a", "6", "6", "(None,", "4,", "6)", "42"] in rows
    assert ["joined", "concat", "b,", "in", "6,", "6", "12", "(None,", "4,", "12)", "0"] in rows
    assert rows[-1] == ["total", "42"]
    assert net.summary() == summary(net)


def test_long_names_are_not_folded() -> None:
    name = "x" * 200
    assert name in text(table("title", ["vertex"], [[name]]))


def cells(*columns: object) -> list[list[str]]:
    """A summary of a small network, cell by cell."""
    net = nn.Network()
    x = nn.dense(net.input("in", 3), 4, activation="relu", name="x")
    net.output((x + nn.dense(x, 4, name="y")).named("[red]sum"))
    lines = net.summary(*columns).splitlines()
    return [line.split() for line in (lines[0], *lines[2:])]


def test_columns_are_chosen_by_name() -> None:
    assert cells("nout", "vertex", "outputs") == [
        ["nout", "vertex", "outputs"],
        ["3", "in", "x"],
        ["4", "x", "y,", "[red]sum"],
        ["4", "y", "[red]sum"],
        ["4", "[red]sum"],
    ]
    assert cells("arrays", "dtype")[1:3] == [[], ["weight", "(4,", "3),", "bias", "(4,)", "float64"]]


def test_a_total_stands_under_the_parameters() -> None:
    assert cells("kind", "parameters")[-1] == ["total", "36"]
    assert cells("kind", ("size", "parameters"))[-1] == ["total", "36"]
    assert cells("kind", "nin")[-1] == ["add", "4,", "4"]
    assert cells("parameters")[-1] == ["0"]


def test_an_attribute_is_a_column() -> None:
    assert cells("vertex", "activation") == [
        ["vertex", "activation"],
        ["in"],
        ["x", "relu"],
        ["y", "identity"],
        ["[red]sum"],
    ]


def readers(v: Handle) -> tuple[Handle, ...]:
    return v.descendants


def test_a_function_is_a_column() -> None:
    assert cells(readers, ("first", lambda v: v.inputs[0] if v.inputs else None)) == [
        ["readers", "first"],
        ["x,", "y,", "[red]sum"],
        ["y,", "[red]sum", "in"],
        ["[red]sum", "x"],
        ["x"],
    ]
    assert cells("vertex", functools.partial(readers))[0] == ["vertex", "partial"]
    assert cells(("third", lambda _: np.float32(1 / 3)), ("is", lambda _: len))[1] == ["0.3333", "len"]


def test_texts_stand_to_the_left_and_numbers_to_the_right() -> None:
    net = nn.Network()
    net.input("in", 3)
    first = net.summary(("long heading", "vertex"), ("text", lambda _: "a"), ("number", lambda v: v.nout))
    assert first.splitlines()[-1] == "  in             a           3"


@pytest.mark.parametrize("column", ["size", 3, None, (lambda v: v, "heading"), ("heading", ("nout", "nin")), ("a",)])
def test_an_unknown_column_is_an_error_that_lists_the_known_ones(column: object) -> None:
    with pytest.raises(RequestError, match=r"there is no column .*; there are vertex, kind, .* \(activation, axis"):
        cells("vertex", column)
