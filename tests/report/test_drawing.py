"""A drawing shows every vertex, what hangs together and what a plan changes, whatever the names are."""

import re
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver_nas import Network, Plan, nn, plan_change
from solver_nas.classes import classify
from solver_nas.errors import RequestError
from solver_nas.graph import Port
from solver_nas.groups import classes_by_vertex, shares
from solver_nas.report.drawing import draw
from solver_nas.report.drawing.colouring import coloured
from solver_nas.report.drawing.faces import COLOURS, GREY
from solver_nas.report.drawing.layers import layers
from solver_nas.report.drawing.places import places
from solver_nas.report.drawing.routes import routes

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "a<b>&\"'\x00\n]]></title></script><script>alert(1)</script>\u202e--"


class Picture:
    """A drawing, read again."""

    def __init__(self, path: Path) -> None:
        root = ET.parse(path).getroot()
        svg = root if root.tag == f"{SVG}svg" else root.find(f".//{SVG}svg")
        assert svg is not None
        self.root = root
        self.boxes = {box.attrib["id"]: box for box in svg.iter(f"{SVG}g") if box.get("class") == "box"}
        self.wires = [
            (wire.attrib["data-from"], wire.attrib["data-to"])
            for wire in svg.iter(f"{SVG}g")
            if wire.get("class") == "wire"
        ]
        self.stops = {
            gradient.attrib["id"]: [stop.attrib["stop-color"] for stop in gradient]
            for gradient in svg.iter(f"{SVG}linearGradient")
        }
        self.names = {key: box.attrib["data-names"].split("\n") for key, box in self.boxes.items()}
        self.box_of = {name: key for key, names in self.names.items() for name in names}

    def box(self, name: str) -> Element:
        return self.boxes[self.box_of[name]]

    def texts(self, name: str) -> list[str]:
        return ["".join(text.itertext()) for text in self.box(name).iter(f"{SVG}text")]

    def told(self, name: str) -> str:
        return self.box(name).findtext(f"{SVG}title") or ""

    def groups(self, name: str) -> set[str]:
        return set(self.box(name).attrib["data-groups"].split())

    def fills(self, name: str) -> list[str]:
        frame = self.box(name).find(f"{SVG}rect")
        assert frame is not None
        fill = frame.attrib["fill"]
        return list(dict.fromkeys(self.stops[fill[5:-1]])) if fill.startswith("url(#") else [fill]

    def classes(self, name: str) -> set[str | None]:
        return {rect.get("class") for rect in self.box(name).iter(f"{SVG}rect")}


def drawn(net: Network, folder: Path, *, plan: Plan | None = None, fold: bool = True, ending: str = ".svg") -> Picture:
    path = folder / f"net{ending}"
    draw(net, path, plan=plan, fold=fold)
    return Picture(path)


def blocks(count: int = 3) -> Network:
    """Residual blocks with activations of their own, a concatenation and an operation that nobody knows."""
    net = Network()
    x = nn.dense(net.input("in", 3), 8, name="stem")
    for number in range(count):
        inner = nn.dense(x, 5, name=f"inner{number}")
        gate = nn.relu(inner, name=f"gate{number}")
        y = nn.dense((inner + gate).named(f"gated{number}"), 8, name=f"outer{number}")
        x = (x + y).named(f"sum{number}")
    joined = nn.concat([x, nn.dense(x, 4, name="side")], name="joined")
    strange = nn.immutable(lambda a: np.cumsum(a, axis=1), nn.dense(joined, 6, name="last"), size=6, name="strange")
    net.output(nn.dense(strange, 2, name="out"))
    return net


@pytest.mark.parametrize("fold", [True, False])
def test_every_vertex_is_in_one_box(fold: bool, tmp_path: Path) -> None:
    net = blocks()
    picture = drawn(net, tmp_path, fold=fold)
    assert sorted(name for names in picture.names.values() for name in names) == sorted(net.graph.order)
    assert (len(picture.boxes) < len(net)) == fold
    for name in net.graph.order:
        assert name in picture.told(name)
        assert net[name].kind in picture.told(name)


@pytest.mark.parametrize("fold", [True, False])
def test_wires_are_the_edges_between_boxes(fold: bool, tmp_path: Path) -> None:
    net = blocks()
    net.output(nn.multiply([net["stem"], net["stem"]], name="square"))
    picture = drawn(net, tmp_path, fold=fold)
    edges = Counter(
        (picture.box_of[port.vertex], picture.box_of[vertex.name])
        for vertex in net.graph.vertices
        for port in vertex.inputs
    )
    assert Counter(picture.wires) == Counter({edge: times for edge, times in edges.items() if edge[0] != edge[1]})


def test_what_is_computed_from_one_vertex_alone_is_in_its_box(tmp_path: Path) -> None:
    picture = drawn(blocks(1), tmp_path)
    # The product and the sum of a tensor with itself change no neurons; the sum of two tensors is something new.
    assert [names for names in picture.names.values() if len(names) > 1] == [["inner0", "gate0", "gated0"]]
    assert picture.texts("gate0")[:2] == ["inner0", f"dense + {blocks()['gate0'].kind} + add"]


def test_a_vertex_that_is_read_elsewhere_is_not_hidden(tmp_path: Path) -> None:
    net = Network()
    a = nn.dense(net.input("in", 3), 4, name="a")
    b = nn.relu(a, name="b")
    net.output(nn.dense(a, 2, name="c"), nn.relu(nn.relu(b, name="d"), name="e"))
    assert list(drawn(net, tmp_path).names.values()) == [["in"], ["a"], ["b", "d"], ["c"], ["e"]]


def test_groups_are_the_neurons_that_stand_or_fall_together() -> None:
    net = blocks()
    labels = net.labels
    class_of, _ = classify(labels)
    found = shares(*classes_by_vertex(labels, net.graph.order))
    members = {name: set(class_of[labels.tensors[Port(name)].neurons["label"]].tolist()) - {0} for name in found}
    for one, other in combinations(found, 2):
        common = {group for group, _ in found[one]} & {group for group, _ in found[other]} - {0}
        assert bool(common) == bool(members[one] & members[other])
    assert {name: sum(count for _, count in groups) for name, groups in found.items()} == {v.name: v.nout for v in net}


def test_only_what_is_coupled_shares_a_colour_with_its_neighbours(tmp_path: Path) -> None:
    picture = drawn(blocks(), tmp_path)
    assert picture.groups("stem") == picture.groups("sum2") == picture.groups("outer1") != picture.groups("inner0")
    assert picture.groups("joined") == picture.groups("sum2") | picture.groups("side")
    for source, target in picture.wires:
        one, other = picture.names[source][0], picture.names[target][0]
        same = set(picture.fills(one)) & set(picture.fills(other)) - {GREY}
        assert len(same) == len(picture.groups(one) & picture.groups(other))
    colours: dict[str, set[str]] = {}
    for name in picture.box_of:
        if len(picture.groups(name)) == 1:
            colours.setdefault(picture.groups(name).pop(), set()).update(picture.fills(name))
    assert all(len(found) == 1 for found in colours.values())


def test_several_groups_stand_side_by_side(tmp_path: Path) -> None:
    picture = drawn(blocks(), tmp_path)
    assert picture.fills("joined") == [*picture.fills("sum2"), *picture.fills("side")]
    assert "8 neurons in group #1\n4 neurons in group" in picture.told("joined")


def test_what_cannot_change_is_grey(tmp_path: Path) -> None:
    picture = drawn(blocks(), tmp_path)
    for name in ("in", "last", "strange"):
        assert picture.fills(name) == [GREY]
        assert not picture.groups(name)


def test_what_is_pinned_is_marked_with_the_reason(tmp_path: Path) -> None:
    picture = drawn(blocks(), tmp_path)
    assert {name for name in picture.box_of if "pin" in picture.classes(name)} == {"strange"}
    assert "pinned: nothing is known about this operation" in picture.told("strange")
    assert "pinned" in "".join(picture.root.itertext())


def test_a_plan_shows_widths_before_and_after(tmp_path: Path) -> None:
    net = blocks()
    plan = plan_change(net["sum0"], -3)
    for picture in (drawn(net, tmp_path, plan=plan), drawn_after(net, plan, tmp_path)):
        for name in picture.box_of:
            before, after = plan.sizes[name]
            shown = f"{before} \u2192 {after}" if before != after else str(before)
            assert shown in picture.texts(name)
            assert ("changed" in picture.classes(name)) == (before != after)
        assert "planned: 8 neurons become 5, 5 kept and 0 new" in picture.told("stem")


def drawn_after(net: Network, plan: Plan, folder: Path) -> Picture:
    plan.apply()
    return drawn(net, folder, plan=plan)


def test_other_neurons_in_the_same_number_are_a_change_too(tmp_path: Path) -> None:
    net = Network()
    net.output(nn.dense(nn.dense(net.input("in", 2), 4, name="a"), 1, name="out"))
    plan = plan_change(net["a"], 0, utility={net["a"]: np.array([1.0, -9.0, 1.0, 1.0])})
    picture = drawn(net, tmp_path, plan=plan)
    assert "4 \u2192 4" in picture.texts("a")
    assert "4 neurons become 4, 3 kept and 1 new" in picture.told("a")
    assert "changed" not in picture.classes("in")


def test_a_plan_for_another_model_is_refused(tmp_path: Path) -> None:
    net = blocks()
    plan = plan_change(net["sum0"], -3)
    with pytest.raises(RequestError, match="for another model"):
        draw(blocks(), tmp_path / "net.svg", plan=plan)
    plan_change(net["sum0"], -1).apply()
    with pytest.raises(RequestError, match="has changed since this plan was made"):
        draw(net, tmp_path / "net.svg", plan=plan)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".svg", ".html"])
def test_names_of_strangers_are_text(ending: str, tmp_path: Path) -> None:
    net = Network()
    hidden = nn.dense(net.input(NASTY, 2), 3, name=NASTY + "2")
    net.output(nn.relu(hidden, name=NASTY + "3"))
    path = tmp_path / f"net{ending}"
    draw(net, path, title=NASTY)
    shown = re.sub("[\x00\n\u202e]", "\ufffd", NASTY)
    assert list(Picture(path).box_of) == [shown, shown + "2", shown + "3"]
    text = path.read_text(encoding="utf-8")
    assert text.count("alert(1)") == text.count("&lt;script&gt;alert(1)&lt;/script&gt;")
    assert "\x00" not in text
    assert text.count("<script") == (ending == ".html")


def test_long_names_are_shortened_in_the_middle_and_told_in_full(tmp_path: Path) -> None:
    name = "encoder/" + "x" * 200 + "/weight"
    net = Network()
    net.output(nn.dense(net.input("in", 2), 3, name=name))
    picture = drawn(net, tmp_path)
    shown = picture.texts(name)[0]
    assert re.fullmatch("encoder/x+…x+/weight", shown)
    assert len(shown) < 30
    assert name in picture.told(name)


def test_a_page_holds_the_same_picture_and_loads_nothing(tmp_path: Path) -> None:
    net = blocks()
    page, picture = drawn(net, tmp_path, ending=".html"), drawn(net, tmp_path)
    assert {key: ET.tostring(box) for key, box in page.boxes.items()} == {
        key: ET.tostring(box) for key, box in picture.boxes.items()
    }
    text = (tmp_path / "net.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "default-src 'none'" in text.replace("&#x27;", "'")
    assert not re.search(r"\b(src|href)=|@import|url\((?!#)", text)


@pytest.mark.parametrize("ending", [".svg", ".html"])
def test_the_same_network_makes_the_same_file(ending: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        draw(blocks(), tmp_path / f"{name}{ending}", title="blocks")
    assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"two{ending}").read_bytes()


@pytest.mark.parametrize("name", ["net.png", "net", "svg"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"ends in \.svg or \.html"):
        draw(blocks(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_empty_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nothing to draw"):
        draw(Network(), tmp_path / "net.svg")


def test_a_single_vertex_is_a_picture(tmp_path: Path) -> None:
    net = Network()
    net.input("in", 2)
    assert list(drawn(net, tmp_path).box_of) == ["in"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        draw(blocks(), tmp_path / "missing" / "net.svg")
    (tmp_path / "net.svg").write_text("before")

    def refuse(*_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        draw(blocks(), tmp_path / "net.svg")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("net.svg", "before")]


def test_onnx_operators_go_without_their_prefix(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from solver_nas.onnx import load

    weight = onnx.numpy_helper.from_array(np.ones((3, 4), np.float32), "weight")
    nodes = [onnx.helper.make_node("MatMul", ["x", "weight"], ["y"], name="product")]
    nodes += [onnx.helper.make_node("Relu", ["y"], ["z"], name="rectified")]
    given = onnx.helper.make_tensor_value_info("x", 1, ["batch", 3])
    made = onnx.helper.make_tensor_value_info("z", 1, ["batch", 4])
    graph = onnx.helper.make_graph(nodes, "graph", [given], [made], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "net.onnx")
    draw(load(tmp_path / "net.onnx"), tmp_path / "net.svg")
    picture = Picture(tmp_path / "net.svg")
    assert picture.texts("product")[:2] == ["product", "MatMul + Relu"]
    assert picture.texts("x") == ["x", "input", "3"][: len(picture.texts("x"))]
    assert "onnx." not in (tmp_path / "net.svg").read_text()


def test_groups_get_different_colours_as_far_as_there_are_enough() -> None:
    chain = [((group, 1),) for group in range(1, 30)]
    found = coloured(chain, dict.fromkeys(pairwise(range(29)), 1), len(COLOURS))
    assert all(found[group] != found[group + 1] for group in range(1, 29))
    # Group 8 is the first one for which a colour has to be used again.
    ring = coloured(chain[:8], {(0, 7): 1}, len(COLOURS))
    assert ring[1] != ring[8]
    star = coloured([tuple((group, 1) for group in range(1, 8))], {}, len(COLOURS))
    assert len(set(star.values())) == 7


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[int, ...]]:
    """Inputs of each box; producers first."""
    count = draw(st.integers(1, 40))
    far = draw(st.sampled_from([2, 5, 40]))
    return [
        tuple(draw(st.lists(st.integers(max(0, node - far), node - 1), max_size=4))) if node else ()
        for node in range(count)
    ]


@given(graphs())
def test_rows_go_down_along_every_connection(inputs: list[tuple[int, ...]]) -> None:
    made = layers(inputs)
    row_of = made.row_of
    assert sorted(node for row in made.rows for node in row) == sorted(row_of)
    assert set(range(len(inputs))) <= set(row_of)
    assert all(made.rows)
    assert all(row_of[target] == row_of[source] + 1 for source, target in made.segments)
    owner = {node: box for box, lane in made.lanes.items() for node in (box, *lane)}
    reached = Counter((owner[source], target) for source, target in made.segments if target < made.boxes)
    assert reached == Counter((source, node) for node, sources in enumerate(inputs) for source in sources)


@given(graphs(), st.data())
def test_boxes_do_not_touch_and_connections_end_at_them(inputs: list[tuple[int, ...]], data: st.DataObject) -> None:
    sizes = [
        (data.draw(st.sampled_from([92.0, 150.0, 210.0])), data.draw(st.sampled_from([38.0, 66.0]))) for _ in inputs
    ]
    made = layers(inputs)
    where = places(made, sizes)
    edges = [
        (x - width / 2, x + width / 2, y - height / 2, y + height / 2)
        for (x, y), (width, height) in zip((where.centres[box] for box in range(len(inputs))), sizes, strict=True)
    ]
    for (left, right, top, bottom), (other_left, other_right, other_top, other_bottom) in combinations(edges, 2):
        apart = (other_left - right, left - other_right, other_top - bottom, top - other_bottom)
        assert max(apart) > 9
    wide, high = where.size
    assert all(left > -1 and right < wide + 1 and top > -1 and bottom < high + 1 for left, right, top, bottom in edges)
    for route in routes(made, where, sizes):
        left, right, top, _ = edges[route.target]
        assert left < route.tip[0] < right
        assert route.tip[1] == pytest.approx(top)
        assert route.path.startswith("M")
