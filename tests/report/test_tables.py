"""Tables say what is there."""

from solver_nas import nn
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
