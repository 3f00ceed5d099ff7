"""Why a request is impossible: right, minimal, and with sizes that work."""

import numpy as np
import pytest

from solver_nas import Network, concat, delta_nout, explain, nn
from solver_nas.errors import RequestError


def test_the_sentence() -> None:
    net = Network()
    start = nn.dense(net.input("in", 6), 6, name="start")
    split = nn.dense(start, 2, name="split")
    out = (start + concat([split, split, split], name="joined")).named("out")
    assert str(explain(out, 2)) == (
        "nout(out): 6 -> 8 is impossible.\n"
        "  out = start + joined   (element-wise: equal sizes)\n"
        "  joined = concat(split, split, split)   (so nout(joined) is a multiple of 3)\n"
        "nearest possible: 6, 9"
    )
    assert explain(out, 3)
    assert str(explain(out, 3)) == "The request is possible."


@pytest.mark.parametrize("seconds", [0, -1, "soon"])
def test_time_to_explain_is_positive(seconds: object) -> None:
    net = Network()
    start = nn.dense(net.input("in", 6), 6, name="start")
    with pytest.raises(RequestError, match="positive number of seconds"):
        explain(start, -1, time_limit=seconds)  # type: ignore[arg-type] # that is the point


def test_two_wishes_that_contradict_each_other() -> None:
    net = Network()
    x = net.input("in", 3)
    a, b = nn.dense(x, 4, name="a"), nn.dense(x, 4, name="b")
    unrelated = nn.dense(x, 4, name="unrelated")
    total = (a + b).named("total")
    explanation = explain({a: -1, b: -2, unrelated: -1, total: relaxed_zero()})
    assert not explanation
    assert explanation.wishes == ("nout(a): 4 -> 3", "nout(b): 4 -> 2")
    assert explanation.reasons == ("total = a + b   (element-wise: equal sizes)",)
    assert explanation.nearest == {"a": (2,), "b": (3,)}


def relaxed_zero() -> object:
    from solver_nas import relaxed

    return relaxed(0)


def test_an_input_is_named_as_the_cause() -> None:
    net = Network()
    x = net.input("in", 3)
    total = (nn.dense(x, 3, name="a") + x).named("total")
    explanation = explain(total, 1)
    assert any("an input: its size is given from outside" in line for line in explanation.reasons)
    assert explanation.nearest == {"total": (3,)}


def test_a_rectangle_is_named_as_the_cause() -> None:
    net = Network()
    a = nn.dense(net.input("in", 3), 6, name="a")
    rows = nn.reshape(a, (3, 2), name="rows")
    vector = nn.flatten(rows, name="vector")
    explanation = explain({a: -1, vector: -1})
    assert not explanation
    assert any("every row keeps equally many" in line for line in explanation.reasons)


@pytest.mark.parametrize("seed", range(20))
def test_every_line_is_needed_and_the_nearest_sizes_work(seed: int) -> None:
    """Random sums and concatenations: leave out any wish of the conflict, and the others are possible."""
    rng = np.random.default_rng(seed)
    net = Network()
    known = [nn.dense(net.input("in", 2), 4, name="d0")]
    for place in range(1, 9):
        kind = rng.integers(3)
        first, other = (known[int(i)] for i in rng.integers(len(known), size=2))
        if kind == 0:
            known.append(nn.dense(first, int(rng.integers(1, 4)) * 2, name=f"d{place}"))
        elif kind == 1:
            known.append(concat([first, other], name=f"c{place}"))
        else:
            equal = [v for v in known if v.nout == first.nout]
            known.append(nn.add([first, equal[int(rng.integers(len(equal)))]], name=f"s{place}"))
    chosen = rng.permutation(len(known))[:4]
    request = {known[i]: int(rng.integers(1, 4)) for i in chosen}
    explanation = explain(request)
    by_text = {f"nout({v.name}): {v.nout} -> {v.nout + d}": (v, d) for v, d in request.items()}
    if explanation:
        assert delta_nout(request, on_failure="raise", utility=dict.fromkeys(known, 1.0))
        return
    conflict = [by_text[text] for text in explanation.wishes]
    for left_out in conflict:
        assert explain({v: d for v, d in conflict if v is not left_out[0]} or {known[0]: 0})
    for name, sizes in (explanation.nearest or {}).items():
        v = net[name]
        others = {u: d for u, d in request.items() if u is not v and u.name != name}
        wished = v.nout + next(d for u, d in request.items() if u.name == name)
        for size in range(1, wished + 12):
            possible = bool(explain({**others, v: size - v.nout}))
            between = (sizes[0] if sizes and sizes[0] < wished else 0) < size < max([*sizes, wished])
            if size in sizes:
                assert possible
            elif between and size != wished:
                assert not possible
