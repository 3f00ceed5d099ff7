"""Files that are wrong in any way are complained about, with the place; nothing else ever happens."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solver_nas.errors import SolverNasError, StoreError
from solver_nas.stored import Ask, Cost, answer, parse, read
from tests.solve.problems import NAMES, path_of
from tests.stored.problems import encoded, small

Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize("name", NAMES)
def test_stored_problems_are_read(name: str) -> None:
    raw = json.loads(path_of(name).read_text())
    document = read(path_of(name))
    assert document.title == f"{raw['model']}, {raw['weights']}"
    assert document.sizes == tuple(group["size"] for group in raw["groups"])
    assert [group.utility.tolist() for group in document.groups] == [group["utility"] for group in raw["groups"]]
    assert document.total == pytest.approx(raw["total_utility"])


def test_what_is_read_cannot_be_written_to() -> None:
    group = parse(encoded(small())).groups[0]
    with pytest.raises(ValueError, match="read-only"):
        group.utility[0] = 1.0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no JSON that can be read"),
        (b"{", "no JSON that can be read"),
        (b"\xff\xfe\xfa", "no JSON that can be read"),
        (b'{"groups": NaN}', "NaN is no number of JSON"),
        (b'{"groups": [-Infinity]}', "-Infinity is no number of JSON"),
        (b'{"a": 1, "a": 2}', "'a' stands twice in one object"),
        (b"[" * 100_000, "too deeply nested"),
        (b'{"groups": 1' + b"0" * 5000 + b"}", "no JSON that can be read"),
        (b"[]", "found []; expected an object"),
        (b"null", "found None; expected an object"),
        (b"{}", "found an object with keys []; expected a key 'groups'"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_other_documents_are_named(data: bytes, reason: str) -> None:
    with pytest.raises(StoreError, match=re.escape(reason)) as raised:
        parse(data, "some.json")
    assert str(raised.value).startswith("some.json: ")


WRONG: list[tuple[str, Change, str]] = [
    ("no groups", lambda d: d.pop("groups"), "a key 'groups'"),
    ("no size", lambda d: d["groups"][1].pop("size"), "groups[1]: found an object with keys"),
    ("groups are no array", lambda d: d.update(groups={}), "groups: found {}; expected an array of groups"),
    ("a group is a number", lambda d: d["groups"].append(3), "groups[2]: found 3; expected an object"),
    ("size is a text", lambda d: d["groups"][0].update(size="3"), "groups[0].size: found '3'; expected a whole number"),
    ("size is negative", lambda d: d["groups"][0].update(size=-3), "groups[0].size: found -3"),
    ("size is zero", lambda d: d["groups"][0].update(size=0, utility=[]), "groups[0].size: found 0"),
    ("size is true", lambda d: d["groups"][0].update(size=True), "groups[0].size: found True"),
    ("size is a float", lambda d: d["groups"][0].update(size=3.0), "groups[0].size: found 3.0"),
    ("too few utilities", lambda d: d["groups"][0].update(size=4), "groups[0].utility: found 3 numbers; expected 4 of"),
    ("utility is null", lambda d: d["groups"][0].update(utility=None), "groups[0].utility: found None; expected an"),
    ("utility in it is null", lambda d: d["groups"][1]["utility"].__setitem__(2, None), "groups[1].utility[2]: found"),
    ("utility in it is true", lambda d: d["groups"][1]["utility"].__setitem__(2, True), "groups[1].utility[2]: found"),
    ("utility is too large", lambda d: d["groups"][1]["utility"].__setitem__(2, 1e200), "expected a finite number, up"),
    ("utility is larger", lambda d: d["groups"][1]["utility"].__setitem__(2, 10**400), "groups[1].utility[2]: found"),
    ("nobody's neurons", lambda d: d["groups"][1].update(members=[]), "groups[1].members: found []; expected the name"),
    ("member is a number", lambda d: d["groups"][1].update(members=[1]), "groups[1].members[0]: found 1; expected a t"),
    (
        "no such group",
        lambda d: d["cost_terms"][1].update(og=2),
        "cost_terms[1].og: found 2; expected a whole number f",
    ),
    ("no group before", lambda d: d["cost_terms"][1].update(ig=-1), "cost_terms[1].ig: found -1"),
    ("no group at all", lambda d: d.update(groups=[]), "cost_terms[0].og: found 0; expected null, as there are no gro"),
    ("constant off", lambda d: d["cost_terms"][1].update(oc=7), "cost_terms[1].oc: found 7; expected 4, the size of"),
    ("constant times off", lambda d: d["cost_terms"][2].update(ic=7), "expected 8, 2 times the size of group 1"),
    ("no constant", lambda d: d["cost_terms"][2].update(oc=None), "cost_terms[2].oc: found None"),
    ("area is huge", lambda d: d["cost_terms"][0].update(area=10**30), "from 1 to 1,000,000,000"),
    ("position zero", lambda d: d["cost_terms"][0].update(pos=0), "cost_terms[0].pos: found 0"),
    ("bias is a number", lambda d: d["cost_terms"][0].update(bias=1), "cost_terms[0].bias: found 1; expected true or"),
    ("factor missing", lambda d: d["cost_terms"][0].pop("imul"), "expected a key 'imul'"),
    ("norms are an array", lambda d: d.update(batchnorm_groups=[0]), "batchnorm_groups: found [0]; expected an object"),
    ("norm of no group", lambda d: d["batchnorm_groups"].update(x=2), "batchnorm_groups['x']: found 2"),
    ("odd name of a norm", lambda d: d["batchnorm_groups"].update({"\ud800\n": 2}), r"batchnorm_groups['\ud800\n']"),
    ("wrong parameters", lambda d: d.update(params0=7), "params0: found 7; expected 220, what the layers come to"),
    ("wrong multiplications", lambda d: d.update(macs0=0), "macs0: found 0; expected"),
    ("wrong total", lambda d: d.update(total_utility=12.0), "total_utility: found 12.0; expected 13.0, the sum of all"),
    ("total is a text", lambda d: d.update(total_utility="x"), "total_utility: found 'x'; expected a finite number"),
    ("title is a number", lambda d: d.update(model=3), "model: found 3; expected a text"),
]


@pytest.mark.parametrize(("change", "reason"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_what_is_wrong_is_named_with_its_place(change: Change, reason: str) -> None:
    document = small()
    change(document)
    with pytest.raises(StoreError, match=re.escape(reason)):
        parse(encoded(document), "some.json")


def test_costs_beyond_all_bounds_are_refused() -> None:
    document = small()
    for term in document["cost_terms"]:
        term.update(area=10**9, pos=10**9)
    with pytest.raises(StoreError, match=r"cost_terms: found macs of [0-9,]+ in all; expected at most 1,000,000,000,"):
        parse(encoded(document | {"params0": 58 * 10**9 + 18}))


def test_utilities_are_worth_something_and_can_be_added() -> None:
    document = small()
    document["groups"][0]["utility"] = [9e149, -9e149, 0.0]
    with pytest.raises(StoreError, match=r"utilities of 1.8e\+150 in all; expected at most 1e\+150; scale them down"):
        parse(encoded(document))
    for group in document["groups"]:
        group["utility"] = [0.0] * group["size"]
    with pytest.raises(StoreError, match="total_utility: found 0; expected more than 0: give some"):
        parse(encoded(document | {"total_utility": 0}))
    document["groups"][0]["utility"] = [-1.0, 3.0, 0.0]
    assert answer(parse(encoded(document | {"total_utility": 2.0})), Ask()).kept[0] == 2


def test_devices_without_an_end_are_no_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("solver_nas.stored.reading._LONGEST", 1000)
    (tmp_path / "long").write_bytes(b" " * 1001)
    with pytest.raises(StoreError, match="more than 1,000 bytes are no size problem"):
        read(tmp_path / "long")


JUNK: list[Any] = [
    None, True, False, "", "x", "\ud800", [], {}, [[]], [None], -1, 0, 1, 2, 3, 4, 0.5, -0.0, 1e-320, 1e308, -1e150,
    1e150, 10**9, 10**19, -(10**400), {"groups": []}, [1.0, 2.0], {"x": 0}, "[red]", "[/red]",
]  # fmt: skip


def mutated(rng: np.random.Generator) -> bytes:
    """A small problem with something wrong; now and then only a little, so that it is a problem still."""
    document: Any = small()
    for _ in range(int(rng.integers(1, 4))):
        node = document
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = keys[int(rng.integers(len(keys)))]
            if not isinstance(node[key], dict | list) or not node[key] or rng.random() < 0.3:
                break
            node = node[key]
        _damage(rng, node, key)
        if not document:
            break
    data = bytearray(encoded(document))
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(1, 4))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
    return bytes(data[: int(rng.integers(len(data)))] if rng.random() < 0.05 else data)


def _damage(rng: np.random.Generator, node: Any, key: Any) -> None:
    kind = rng.random()
    if kind < 0.2:
        del node[key]
    elif kind < 0.3 and isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    elif kind < 0.5 and isinstance(node[key], int | float):
        node[key] = node[key] + int(rng.integers(-2, 3))
    else:
        node[key] = copy.deepcopy(JUNK[int(rng.integers(len(JUNK)))])


@pytest.mark.parametrize("seed", range(10))
def test_damaged_problems_are_read_or_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outcomes = {outcome(mutated(rng)) for _ in range(100)}
    assert outcomes == {"refused", "answered"}


def outcome(data: bytes) -> str:
    try:
        found = answer(parse(data, "some.json"), Ask({Cost.PARAMS: 0.7, Cost.MACS: 0.7}), time_limit=2.0)
    except SolverNasError as error:
        refusal = str(error)
    else:
        pairs = [] if found.conflicts else zip(found.kept, found.document.sizes, strict=True)
        assert all(0 < kept <= size for kept, size in pairs)
        return "answered"
    assert refusal.startswith("some.json: ")
    assert refusal.isascii()
    return "refused"
