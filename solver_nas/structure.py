"""The verbs that change the structure: insert, remove, connect, disconnect, replace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from solver_nas.edit_plan import EditPlan
from solver_nas.errors import GraphError, ImpossibleError, PlanError, RequestError, RuleError
from solver_nas.frontend import Handle, owner
from solver_nas.graph import Port
from solver_nas.limits import listed
from solver_nas.nn.activations import set_activation
from solver_nas.nn.kernels import resize_kernel
from solver_nas.planning import strategy_of
from solver_nas.restructure import Draft, Options
from solver_nas.solve import TIME_LIMIT
from solver_nas.surgery import Wiring, behind, stacks, with_edge, without, without_edge
from solver_nas.verbs import Outcome, verb

if TYPE_CHECKING:
    from solver_nas.aligning import Align
    from solver_nas.frontend import Model
    from solver_nas.limits import Limits
    from solver_nas.planning import InitOf, OnFailure
    from solver_nas.strategies import Strategy, Utility
    from solver_nas.surgery import Reconnect

Factory = Callable[..., object]


def _options(
    utility: Utility | None,
    on_failure: OnFailure,
    strategy: Strategy | None,
    time_limit: float,
    seed: int,
    init: InitOf,
    align: Align,
    limits: Limits,
) -> Options:
    steps = strategy_of(on_failure, strategy, ("raise", "keep"))
    return Options(utility, steps, time_limit, seed, init, align, listed(limits))


@verb(EditPlan)
def insert(
    vertex: Handle,
    factory: Factory,
    where: Literal["all"] | Handle | Iterable[Handle] = "all",
    *,
    align: Align = "new",
    limits: Limits = (),
    utility: Utility | None = None,
    on_failure: OnFailure = "raise",
    strategy: Strategy | None = None,
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    init: InitOf = "preserve",
) -> Outcome[EditPlan]:
    """Insert new vertices behind one: what read it reads them.

    With layers that start as identities (`weights="identity"`, or a branch whose last layer has
    `weights="zeros"`), the network computes what it did.

    Args:
        vertex: behind which to insert.
        factory: called with the handle to build on; returns the last of the new vertices. It works on a copy of
            the network, so that nothing has happened if it fails.
        where: which readers of the vertex read the new one instead: `"all"` (then the new vertex is also an
            output of the network if the old one was), or some of them.
        align: if the new vertex has another size than its readers expect: take that of the `"new"` vertex,
            `"increase"` the smaller side, `"decrease"` the larger one, or meet in between (`"both"`); where that
            is impossible, the nearest size. `"none"`: refuse.
        limits: what the edited network may cost and which sizes it may have; see `solver_nas.limits`. Other vertices
            that a limit speaks of may change for it.
        utility: what neurons are worth, as for `delta_nout`.
        on_failure: if sizes cannot be aligned: `"raise"`, or `"keep"` everything and return a false `Change`.
        strategy: more than a word can say, see `solver_nas.strategies`.
        time_limit: for the solver, in seconds.
        seed: for ties in the solver and for new weights.
        init: how weights are made that alignment adds, as for `delta_nout`; new vertices make their own.

    Returns:
        A `Change`; `change.plan.unchanged` says whether the network computes what it did.

    Raises:
        GraphError: an unknown or foreign vertex, a factory that returns no new vertex, shapes that cannot be
            brought together.
        ImpossibleError: no sizes fit; the message explains why.

    In every case of an error the network is what it was.

    >>> from solver_nas import Network, nn
    >>> net = Network()
    >>> hidden = nn.dense(net.input("in", 2), 4, activation="relu", name="hidden")
    >>> out = nn.dense(hidden, 1, name="out")
    >>> change = insert(hidden, lambda x: nn.dense(x, x.nout, weights="identity", name="extra"))
    >>> print(change)
    insert behind hidden
    added: extra (4 neurons)
    the network computes what it did
    >>> out.inputs
    (<extra: dense 4 -> 4>,)
    """
    model, name = owner(vertex), vertex.name
    options = _options(utility, on_failure, strategy, time_limit, seed, init, align, limits)
    draft = Draft(model, f"insert behind {name}")
    readers = _readers(model, vertex, where)
    new = draft.make(factory, (name,))
    graph = draft.graph
    if name not in graph.ancestors(new):
        raise GraphError(f"{draft.title}: the function returned {new!r}, which is not computed from {name!r}")
    wiring = behind(graph, name, Port(new), readers)
    if where == "all":
        outputs = tuple(Port(new) if port.vertex == name else port for port in graph.outputs)
        wiring = Wiring(wiring.inputs, outputs)
    return Outcome(model, draft.plan(wiring, options), options.strategy.callbacks)


def _readers(model: Model, vertex: Handle, where: object) -> tuple[str, ...]:
    readers = model.graph.consumers(vertex.name)
    if isinstance(where, str):
        if where != "all":
            raise RequestError(f"where is 'all' or some of the vertices that read {vertex.name!r}, got {where!r}")
        return readers
    chosen = [where] if isinstance(where, Handle) else list(where) if isinstance(where, Iterable) else None
    if not chosen:
        raise RequestError(f"where is 'all' or some of the vertices that read {vertex.name!r}, got {where!r}")
    for handle in chosen:
        if owner(handle) is not model or handle.name not in readers:
            raise GraphError(
                f"{handle.name!r} does not read {vertex.name!r}; {', '.join(map(repr, readers)) or 'nothing'} does"
            )
    return tuple(dict.fromkeys(handle.name for handle in chosen))


@verb(EditPlan)
def remove(
    vertex: Handle,
    *,
    reconnect: Reconnect = "all",
    align: Align = "increase",
    limits: Limits = (),
    utility: Utility | None = None,
    on_failure: OnFailure = "raise",
    strategy: Strategy | None = None,
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    init: InitOf = "preserve",
) -> Outcome[EditPlan]:
    """Remove a vertex; what read it reads its inputs instead.

    If input and output of the vertex differ in size, both sides keep the neurons that are worth most and are
    matched by their order.

    Args:
        vertex: what to remove.
        reconnect: `"all"`: what read it reads all of its inputs, at the same place; `"none"`: nothing comes in
            its place.
        align: as for `insert`.
        limits: as for `insert`.
        utility: as for `insert`.
        on_failure: as for `insert`.
        strategy: as for `insert`.
        time_limit: as for `insert`.
        seed: as for `insert`.
        init: as for `insert`.

    Raises:
        GraphError: an input of the network, or the only path to what reads it.
        ImpossibleError: no sizes fit.

    >>> from solver_nas import Network, nn
    >>> net = Network()
    >>> x = nn.dense(nn.dense(net.input("in", 3), 5, name="first"), 4, name="second")
    >>> print(remove.plan(net["first"]))
    remove first
    removed: first
    optimal: utility ... of at most ... (gap ...), 5 neurons -> 5 classes -> 1 count, ... ms
    the network computes something else than before
    sizes 3 and 5 were aligned at 3, as 5 is impossible
    >>> bool(remove(net["first"]))
    True
    >>> x
    <second: dense 3 -> 4>
    """
    model, name = owner(vertex), vertex.name
    if reconnect not in ("all", "none"):
        raise RequestError(f"reconnect is 'all' or 'none', got {reconnect!r}")
    options = _options(utility, on_failure, strategy, time_limit, seed, init, align, limits)
    draft = Draft(model, f"remove {name}")
    wiring = without(draft.graph, draft.fork.labels, name, reconnect, implied=draft.implied)
    return Outcome(model, draft.plan(wiring, options), options.strategy.callbacks)


@verb(EditPlan)
def create_edge(
    source: Handle,
    target: Handle,
    *,
    slot: int | None = None,
    entry: Literal["plain", "zero"] = "plain",
    align: Align = "increase",
    limits: Limits = (),
    utility: Utility | None = None,
    on_failure: OnFailure = "raise",
    strategy: Strategy | None = None,
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    init: InitOf = "preserve",
) -> Outcome[EditPlan]:
    """Let a vertex read one more: an addition gets another summand, a concatenation another part.

    What reads a concatenation gets new weights of zero for its new neurons, so that the network computes
    what it did. A further summand counts at once, unless it enters through a scale that is zero at first.

    Args:
        source: what is to be read.
        target: what is to read it: a vertex that takes any number of inputs, such as an addition,
            a product or a concatenation.
        slot: the new edge's place among the inputs of the target, from 0 on; by default the last.
        entry: `"plain"`, or `"zero"` for a learned scale between source and target that is zero at first (for a
            product, with a bias of one), so that an element-wise target computes what it did.
        align: as for `insert`, for element-wise targets.
        limits: as for `insert`.
        utility: as for `insert`.
        on_failure: as for `insert`.
        strategy: as for `insert`.
        time_limit: as for `insert`.
        seed: as for `insert`.
        init: as for `insert`.

    Raises:
        GraphError: vertices of two networks, an edge that would close a cycle, no such slot, or a target that
            takes no further input.
        ImpossibleError: no sizes fit.
    """
    model = _same_model(source, target)
    if entry not in ("plain", "zero"):
        raise RequestError(f"entry is 'plain' or 'zero', got {entry!r}")
    options = _options(utility, on_failure, strategy, time_limit, seed, init, align, limits)
    draft = Draft(model, f"create edge {source.name} -> {target.name}")
    # Refused before anything is made in between.
    wiring = with_edge(draft.graph, source.name, target.name, slot)
    if entry == "zero" and not stacks(draft.graph, wiring):
        there = set(draft.graph.order)
        new = draft.make(lambda x: draft.fork.entrance(x, target.kind), (source.name,))
        draft.hold(set(draft.graph.order) - there)
        wiring = with_edge(draft.graph, new, target.name, slot)
    return Outcome(model, draft.plan(wiring, options), options.strategy.callbacks)


def _same_model(source: Handle, target: Handle) -> Model:
    model = owner(source)
    if owner(target) is not model:
        raise GraphError(f"{source.name!r} and {target.name!r} belong to two networks; an edge cannot join them")
    return model


@verb(EditPlan)
def remove_edge(
    source: Handle,
    target: Handle,
    *,
    which: int | None = None,
    align: Align = "increase",
    limits: Limits = (),
    utility: Utility | None = None,
    on_failure: OnFailure = "raise",
    strategy: Strategy | None = None,
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    init: InitOf = "preserve",
) -> Outcome[EditPlan]:
    """Let a vertex read one less: an addition loses a summand, a concatenation a part.

    Args:
        source: what is not to be read any more; it stays in the network.
        target: what reads it.
        which: which of several edges between the two, counted from 0; by default the first.
        align: as for `insert`.
        limits: as for `insert`.
        utility: as for `insert`.
        on_failure: as for `insert`.
        strategy: as for `insert`.
        time_limit: as for `insert`.
        seed: as for `insert`.
        init: as for `insert`.

    Raises:
        GraphError: there is no such edge, or it is the only one into its target.
        ImpossibleError: no sizes fit.
    """
    model = _same_model(source, target)
    options = _options(utility, on_failure, strategy, time_limit, seed, init, align, limits)
    draft = Draft(model, f"remove edge {source.name} -> {target.name}")
    wiring = without_edge(draft.graph, source.name, target.name, which)
    return Outcome(model, draft.plan(wiring, options), options.strategy.callbacks)


@verb(EditPlan)
def replace(
    vertex: Handle,
    factory: Factory,
    *,
    align: Align = "new",
    limits: Limits = (),
    utility: Utility | None = None,
    on_failure: OnFailure = "raise",
    strategy: Strategy | None = None,
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    init: InitOf = "preserve",
) -> Outcome[EditPlan]:
    """Put a new vertex in the place of another one.

    Args:
        vertex: what goes.
        factory: called with the handles of the vertex's inputs; returns the new vertex, which gets the name of
            the old one unless it is given another. It works on a copy of the network.
        align: as for `insert`.
        limits: as for `insert`.
        utility: as for `insert`.
        on_failure: as for `insert`.
        strategy: as for `insert`.
        time_limit: as for `insert`.
        seed: as for `insert`.
        init: as for `insert`.

    Raises:
        GraphError: an input of the network, a factory that returns no new vertex, or shapes that cannot be
            brought together.
        ImpossibleError: no sizes fit.

    >>> from solver_nas import Network, nn
    >>> net = Network()
    >>> hidden = nn.dense(net.input("in", 2), 4, name="hidden")
    >>> out = nn.dense(hidden, 1, name="out")
    >>> bool(replace(hidden, lambda x: nn.dense(x, 6, activation="tanh")))
    True
    >>> hidden, hidden.op.activation, out
    (<hidden: dense 2 -> 6>, 'tanh', <out: dense 6 -> 1>)
    """
    model, name = owner(vertex), vertex.name
    if vertex.vertex.is_input:
        raise GraphError(f"vertex {name!r} is an input of the network; it cannot be replaced")
    options = _options(utility, on_failure, strategy, time_limit, seed, init, align, limits)
    draft = Draft(model, f"replace {name}")
    inputs = tuple(port.vertex for port in model.graph.vertex(name).inputs)
    aside = draft.shelve(name)
    new = draft.make(factory, inputs)
    kind = draft.graph.vertex(new).kind
    if name not in draft.graph and new.startswith(f"{kind}_") and new[len(kind) + 1 :].isdecimal():
        draft.fork.rename(new, name)
        new = name
    graph = draft.graph
    wiring = behind(graph, aside, Port(new), graph.consumers(aside))
    outputs = tuple(Port(new) if port.vertex == aside else port for port in graph.outputs)
    wiring = Wiring(wiring.inputs, outputs, frozenset((aside,)))
    return Outcome(model, draft.plan(wiring, options), options.strategy.callbacks)


@verb(EditPlan)
def change_kernel_size(
    vertex: Handle,
    change: int | Sequence[int],
    *,
    padding: str | int | Sequence[int | tuple[int, int]] | None = None,
    limits: Limits = (),
) -> Outcome[EditPlan]:
    """Make the window of a convolution or a pooling larger or smaller, all around its centre.

    What is added to a window is zero, so that a larger convolution computes what it did.

    Args:
        vertex: a convolution, a transposed one, or a pooling.
        change: how many elements to add or (negative) to remove: one number, or one per spatial axis.
        padding: the new padding, as for `nn.conv`; by default one that keeps the output's size.
        limits: what the edited network has to keep; no other vertex changes for it.

    Raises:
        LayerError: no window, nothing left of it, or padding that would have to be negative.
        ImpossibleError: the output's shape changes, and what reads it cannot take that.

    >>> from solver_nas import Network, nn
    >>> net = Network()
    >>> layer = nn.conv(net.input("in", (3, 8, 8)), 7, (5, 5), padding=2, name="layer")
    >>> bool(change_kernel_size(layer, (-2, -2)))
    True
    >>> layer.op.weight.shape, layer.shape
    ((7, 3, 3, 3), (None, 7, 8, 8))
    """
    model, name = owner(vertex), vertex.name
    title = f"change the window of {name}"
    return _edited(model, title, lambda fork: resize_kernel(fork, name, change, padding), limits)


@verb(EditPlan)
def change_activation(vertex: Handle, activation: str) -> Outcome[EditPlan]:
    """Let a layer use another activation.

    Args:
        vertex: a layer that has one.
        activation: its name; see `solver_nas.nn.ACTIVATIONS`.

    Raises:
        LayerError: there is no such activation, or the vertex has none.
    """
    model, name = owner(vertex), vertex.name
    return _edited(model, f"change the activation of {name}", lambda fork: set_activation(fork, name, activation), ())


def _edited(model: Model, title: str, change: Callable[[Any], object], limits: Limits) -> Outcome[EditPlan]:
    """An edit of a vertex itself, which leaves all edges as they are."""
    draft = Draft(model, title)
    try:
        change(draft.fork)
        options = Options(None, strategy_of("raise", None), TIME_LIMIT, 0, "preserve", "increase", listed(limits))
        return Outcome(model, draft.plan(None, options))
    except (RuleError, PlanError) as error:
        raise ImpossibleError(f"{title} is impossible: {error}", (str(error),)) from error
