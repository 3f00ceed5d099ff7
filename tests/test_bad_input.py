"""Bad input gets an error that names the place and the way out, and nothing is changed."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from solver_nas import (
    Network,
    absorb,
    concat,
    delta_nin,
    delta_nout,
    delta_size,
    immutable,
    nn,
    plan_change,
    relaxed,
)
from solver_nas.errors import GraphError, ImpossibleError, LayerError, RequestError, TimeLimitError, UtilityError
from solver_nas.frontend import Handle
from tests.unchanged import bits, network, unchanged


@pytest.fixture
def net() -> Iterator[Network]:
    """A network that has to be the same in the end."""
    with unchanged(network()) as made:
        yield made


def nan_for_b(v: Handle) -> np.ndarray:
    worth = np.ones(v.nout)
    if v.name == "b":
        worth[2] = np.nan
    return worth


@pytest.mark.parametrize(
    ("utility", "message"),
    [
        (nan_for_b, r"vertex 'b': the utility of neuron 2 is nan"),
        (lambda v: np.full(v.nout, np.inf), r"vertex 'a': the utility of neuron 0 is inf"),
        (lambda v: np.ones(v.nout + 1), r"vertex 'a': its utility has shape \(5,\), it has 4 neurons"),
        (lambda v: float("nan"), r"vertex 'a': its utility is nan"),  # noqa: ARG005 - a utility takes a vertex
        (lambda v: "much", r"vertex 'a': its utility is 'much'"),  # noqa: ARG005 - a utility takes a vertex
        (lambda v: np.ones((v.nout, 1)), r"vertex 'a': its utility has shape \(4, 1\)"),
    ],
)
def test_utilities(net: Network, utility: Callable[[Handle], object], message: str) -> None:
    with pytest.raises(UtilityError, match=message):
        delta_nout(net["a"], -1, utility=utility)


def test_an_error_inside_the_utility_passes_through(net: Network) -> None:
    def broken(v: Handle) -> float:
        raise ZeroDivisionError(v.name)

    with pytest.raises(ZeroDivisionError, match="a"):
        delta_nout(net["a"], -1, utility=broken)


def test_unknown_and_foreign_vertices(net: Network) -> None:
    with pytest.raises(GraphError, match=r"no vertex 'bot'; did you mean 'both'"):
        net["bot"]
    other = copy.deepcopy(net)
    with pytest.raises(GraphError, match=r"vertex 'b' belongs to another network than 'a'"):
        delta_nout({net["a"]: -1, other["b"]: -1})
    with pytest.raises(GraphError, match=r"the utility names vertex 'a' of another network"):
        delta_nout(net["a"], -1, utility={other["a"]: 1.0})
    with pytest.raises(GraphError, match="is not a vertex of this network"):
        nn.add([net["a"], other["b"]])
    with pytest.raises(GraphError, match=r"expected a vertex such as net\['hidden'\], got 'a'"):
        delta_nout({"a": -1})


def test_two_requests_for_one_vertex(net: Network) -> None:
    with pytest.raises(RequestError, match="two requests for one vertex: 'a'"):
        delta_nout([(net["a"], -1), (net["a"], -2)])
    with pytest.raises(RequestError, match="the same tensor and ask for different sizes"):
        delta_nin({net["b"]: -1, net["add_1"]: (-2, None)})


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        (-4, r"nout\(a\) is 4; a change by -4 leaves 0, at least 1 has to stay"),
        (1.5, r"a size change is a whole number of neurons, got 1.5"),
        (True, r"a size change is a whole number of neurons, got True"),
        ("1", r"a size change is a whole number of neurons, got '1'"),
        (None, r"by how much should 'a' change"),
        (relaxed(1, 2), r"vertex 'a': relaxed\(1, 2\) has several deltas"),
    ],
)
def test_deltas(net: Network, delta: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        delta_nout(net["a"], delta)  # type: ignore[arg-type]  # what is tested


def test_numbers_of_inputs(net: Network) -> None:
    with pytest.raises(RequestError, match=r"vertex 'both' has 2 inputs, got 3 deltas"):
        delta_nin(net["both"], (1, 2, None))


def test_what_never_changes(net: Network) -> None:
    with pytest.raises(RequestError, match="vertex 'in' is an input vertex, its size never changes"):
        delta_nout(net["in"], 1)
    with pytest.raises(RequestError, match="vertex 'in' is an input vertex"):
        delta_nin(net["a"], 1)
    fixed = Network()
    v = immutable(lambda x: x, nn.dense(fixed.input("in", 2), 3, name="before"), size=3, name="fixed")
    with pytest.raises(RequestError, match="vertex 'fixed' is an immutable vertex"):
        delta_nout(v, 1)
    with pytest.raises(ImpossibleError, match="nothing is known about this operation"):
        delta_nout(fixed["before"], 1, on_failure="raise")


def test_requests_of_the_wrong_kind(net: Network) -> None:
    with pytest.raises(RequestError, match="the request is empty"):
        delta_nout({})
    with pytest.raises(RequestError, match="a delta goes with a single vertex"):
        delta_nout({net["a"]: -1}, -1)
    with pytest.raises(RequestError, match=r"on_failure is 'relax', 'raise' or 'keep', got 'ignore'"):
        delta_nout(net["a"], -1, on_failure="ignore")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(RequestError, match="init is 'preserve', 'zeros', a callable"):
        plan_change(net["a"], 1, init="ones")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(RequestError, match="the time limit is a positive number of seconds"):
        delta_size(net, time_limit=float("nan"))


def test_too_little_time_for_any_solution() -> None:
    net = Network()
    x = net.input("in", 2)
    joined = concat([nn.dense(x, 30 + i, name=f"d{i}") for i in range(40)], name="joined")
    before, structure = bits(net), net.graph
    with pytest.raises(TimeLimitError, match="no solution was found within 1e-09 s; give it more time"):
        delta_nout(joined, relaxed(-100), time_limit=1e-9)
    assert (bits(net), net.graph) == (before, structure)


def test_layers_that_disagree_with_their_arrays(net: Network) -> None:
    a = net["a"]
    with pytest.raises(LayerError, match=r"'w' has 2 axes of sizes \(4, 5\), declared are \('out',\)"):
        absorb(lambda x, w: x @ w, a, parameters={"w": np.ones((4, 5))}, axes={"w": ("out",)})
    with pytest.raises(Exception, match=r"declared as 'in' and has size 3, which is 4 elsewhere"):
        absorb(lambda x, w: x @ w, a, parameters={"w": np.ones((3, 5))}, axes={"w": ("in", "out")})
    with pytest.raises(LayerError, match="none of the parameters"):
        absorb(lambda x, w: x @ w, a, parameters={"w": np.ones((4, 5))}, axes={"w": ("in", None)})
    with pytest.raises(LayerError, match=r"vertex 'a': 'weight' has shape \(4, 3\), got \(4, 4\)"):
        net["a"].op.weight = np.ones((4, 4))
    with pytest.raises(AttributeError, match=r"vertex 'a' \(dense\) has no array 'wieght'"):
        net["a"].op.wieght = np.ones((4, 3))
    with pytest.raises(GraphError, match="vertex 'a' is there already"):
        nn.dense(a, 2, name="a")


def test_a_failed_layer_can_be_added_again() -> None:
    net = Network()
    a = nn.dense(net.input("in", 3), 4, name="a")
    with pytest.raises(Exception, match="which is 4 elsewhere"):
        absorb(lambda x, w: x @ w, a, parameters={"w": np.ones((3, 5))}, axes={"w": ("in", "out")}, name="m")
    made = absorb(lambda x, w: x @ w, a, parameters={"w": np.ones((4, 6))}, axes={"w": ("in", "out")}, name="m")
    delta_nout(a, -1)
    assert made.op.w.shape == (3, 6)


def test_inputs_of_a_call(net: Network) -> None:
    with pytest.raises(LayerError, match=r"the network takes 1 inputs \['in'\], got 2 by position"):
        net(np.ones((1, 3)), np.ones((1, 3)))
    with pytest.raises(LayerError, match=r"got 0 by position and \['inn'\] by name"):
        net(inn=np.ones((1, 3)))
    with pytest.raises(LayerError, match=r"input 'in' takes arrays of shape \(batch, 3,\), got \(1, 4\)"):
        net(np.ones((1, 4)))


def test_a_cycle_is_named() -> None:
    from solver_nas.graph import Graph, Port, Vertex

    graph = Graph([Vertex("a", "add", (Port("b"),)), Vertex("b", "add", (Port("a"),))])
    with pytest.raises(GraphError, match=r"the vertices form a cycle: (a -> b|b -> a)"):
        _ = graph.order
