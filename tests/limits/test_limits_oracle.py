"""Limits against an oracle that tries every selection and counts costs by formulas of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from functools import cache
from typing import Literal, TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray

from solver_nas import Network, Plan, concat, nn, plan_change, relaxed, strategies
from solver_nas.errors import ImpossibleError
from solver_nas.frontend import Handle
from solver_nas.graph import Port
from solver_nas.limits import (
    Expression,
    Limit,
    activation_memory,
    drop,
    equal,
    fixed,
    freeze,
    inserted,
    inserted_at_most,
    keep,
    kept,
    macs,
    maximum,
    minimum,
    multiple_of,
    now,
    params,
    removed_at_most,
    sizes,
    weight_memory,
)
from solver_nas.limits.view import Of
from solver_nas.nn.vertex import NetworkVertex
from solver_nas.solve import limited
from solver_nas.testing.counting import count
from solver_nas.testing.limits_oracle import Body, Ledger, Multiple, Named, Peak, Rule, Still, Sum, What
from solver_nas.testing.oracle import Selections, Step, Verdict, Wanted, sources
from solver_nas.testing.oracle import sizes as sizes_of

T = TypeVar("T")
Floats = NDArray[np.float64]
Term = tuple[Fraction, What, tuple[int, ...] | None]
Terms = tuple[Term, ...]
#: A limit as the library takes it, and what it means to the oracle.
Pair = tuple[list[Limit], list[Rule]]

# -- random networks -------------------------------------------------------------------------


def chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def one_of(rng: np.random.Generator, members: Sequence[T]) -> T:
    return members[int(rng.integers(len(members)))]


@dataclass
class Sketch:
    """A random network while it is being drawn."""

    rng: np.random.Generator
    left: int
    steps: list[Step] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)
    # Whether neurons stand several times in a row, so that no cut may go between them.
    copied: list[bool] = field(default_factory=list)

    @property
    def total(self) -> list[int]:
        return sizes_of(self.steps)

    def add(self, step: Step, body: Body, *, copied: bool | None = None) -> None:
        self.steps.append(step)
        self.bodies.append(body)
        self.copied.append(any(self.copied[i] for i in step.inputs) if copied is None else copied)

    def alike(self, place: int) -> list[int]:
        """Steps of the same height and width."""
        return [i for i, body in enumerate(self.bodies) if body.spatial == self.bodies[place].spatial]

    def any_step(self) -> int:
        return int(self.rng.integers(len(self.steps)))

    def source(self) -> None:
        of, size = self.any_step(), int(self.rng.integers(1, min(self.left, 4) + 1)) if self.left else 0
        if not size:
            return
        self.left -= size
        spatial, bias = self.bodies[of].spatial, chance(self.rng, 0.6)
        if spatial == (2, 2) and chance(self.rng, 0.3):
            body = Body((1, 1), 2, 2, bias)
        else:
            body = Body(spatial, int(self.rng.integers(1, 3)) if spatial else 1, 1, bias)
        self.add(Step("source", (of,), size), body, copied=False)

    def again(self) -> None:
        makers = [i for i, step in enumerate(self.steps) if step.kind == "source"]
        if not makers:
            return
        of, total = one_of(self.rng, makers), self.total
        (read,) = self.steps[of].inputs
        others = [i for i in self.alike(read) if total[i] == total[read]]
        self.add(Step("again", (one_of(self.rng, others),), of), self.bodies[of], copied=False)

    def sum(self) -> None:
        of, total = self.any_step(), self.total
        others = [i for i in self.alike(of) if total[i] == total[of]]
        if len(others) > 1:
            self.add(Step("sum", (of, one_of(self.rng, others))), Body(self.bodies[of].spatial))

    def join(self) -> None:
        of, total = self.any_step(), self.total
        inside = (of, *(one_of(self.rng, self.alike(of)) for _ in range(int(self.rng.integers(1, 3)))))
        if sum(total[i] for i in inside) <= 12:
            self.add(Step("join", inside), Body(self.bodies[of].spatial))

    def part(self) -> None:
        of, total = self.any_step(), self.total
        if total[of] > 1 and not self.copied[of]:
            start = int(self.rng.integers(total[of]))
            stop = int(self.rng.integers(start + 1, total[of] + 1))
            self.add(Step("part", (of,), start, stop), Body(self.bodies[of].spatial))

    def grouped(self) -> None:
        total = self.total
        able = [(i, g) for i in range(len(self.steps)) for g in (2, 3) if total[i] % g == 0 and not self.copied[i]]
        able = [(i, g) for i, g in able if self.bodies[i].spatial and self.steps[i].kind != "input"]
        if not able:
            return
        of, groups = one_of(self.rng, able)
        per_group = int(self.rng.integers(1, 3))
        if groups * per_group <= self.left:
            self.left -= groups * per_group
            body = Body(self.bodies[of].spatial, int(self.rng.integers(1, 3)), 1, chance(self.rng, 0.6))
            self.add(Step("grouped", (of,), groups, per_group), body, copied=False)

    def spread(self) -> None:
        of = self.any_step()
        # A single channel is no axis of its own behind a reshape, and stays single.
        if self.bodies[of].spatial and self.total[of] > 1 and self.total[of] * self.bodies[of].area <= 12:
            area = self.bodies[of].area
            self.add(Step("spread", (of,), area), Body(), copied=area > 1 or self.copied[of])

    def norm(self) -> None:
        of = self.any_step()
        if self.steps[of].kind != "input":
            self.add(Step("norm", (of,)), Body(self.bodies[of].spatial))


def draw_network(rng: np.random.Generator, positions: int) -> tuple[list[Step], list[Body]]:
    """A network with up to so many neurons in all sources together."""
    while True:
        sketch = Sketch(rng, positions)
        spatial = one_of(rng, [(), (1, 1), (2, 2), (2, 2), (1, 3)])
        sketch.add(Step("input", size=int(rng.integers(1, 4))), Body(spatial), copied=False)
        kinds = [sketch.source, sketch.again, sketch.sum, sketch.join, sketch.part, sketch.spread, sketch.norm]
        if spatial:
            kinds += [sketch.grouped, sketch.grouped]
        sketch.source()
        for _ in range(int(rng.integers(1, 7))):
            one_of(rng, [sketch.source, sketch.source, *kinds])()
        if sources(sketch.steps):
            return sketch.steps, sketch.bodies


def build(steps: list[Step], bodies: list[Body]) -> tuple[Network, list[NetworkVertex]]:
    """The network of real layers."""
    net, made = Network(), list[NetworkVertex]()
    for place, (step, body) in enumerate(zip(steps, bodies, strict=True)):
        inside = [made[i] for i in step.inputs]
        name, window = f"v{place}", {"stride": body.stride, "padding": "same" if body.stride == 1 else 0}
        match step.kind:
            case "input":
                v = net.input(name, (step.size, *body.spatial))
            case "source" if body.spatial:
                v = nn.conv(inside[0], step.size, body.kernel, bias=body.bias, name=name, **window)  # type: ignore[arg-type]  # a mapping of several types
            case "source":
                v = nn.dense(inside[0], step.size, bias=body.bias, name=name)
            case "grouped":
                v = nn.conv(
                    inside[0],
                    step.size * step.stop,
                    body.kernel,
                    padding="same",
                    groups=step.size,
                    bias=body.bias,
                    name=name,
                )
            case "again":
                first = net.graph.vertex(f"v{step.size}")
                keys = {role: parameter.key for role, parameter in first.parameters.items()}
                v = net.add(first.kind, name, inside, first.attributes, keys=keys)
            case "sum":
                v = nn.add(inside, name=name)
            case "join":
                v = concat(inside, name=name)
            case "part":
                axis = -1 - len(body.spatial)
                v = net.add("part", name, inside, {"axis": axis, "start": step.size, "stop": step.stop})
            case "spread":
                v = nn.flatten(inside[0], name=name)
            case _:
                v = nn.batch_norm(inside[0], name=name)
        made.append(v)
    return net, made


# -- random limits ---------------------------------------------------------------------------

Sign = Literal["<=", ">=", "=="]
_SMALL: Sequence[Literal["keep", "grow"]] = ("keep", "keep", "grow")
_SIGNS: Sequence[Sign] = ("<=", "<=", "<=", "<=", ">=", "==")
_COSTS: dict[What, Callable[..., Expression]] = {"params": params, "macs": macs, "weight_memory": weight_memory}
_NEURONS: dict[What, Callable[[Handle], Expression]] = {
    "sizes": sizes.__getitem__,
    "kept": kept.__getitem__,
    "inserted": inserted.__getitem__,
}


def compared(left: Expression, sign: Sign, right: object) -> Limit:
    return left <= right if sign == "<=" else left >= right if sign == ">=" else left == right


class Drawer:
    """Draws limits that some selections keep and others do not."""

    def __init__(self, rng: np.random.Generator, ledger: Ledger, net: Network, made: list[NetworkVertex]) -> None:
        self.rng, self.ledger, self.net, self.made = rng, ledger, net, made
        self.steps, self.before = ledger.steps, ledger.selections.before
        self.makers = [place for place in sources(self.steps) if not self.follows(place)]
        self.valid = np.flatnonzero(ledger.selections.valid)
        self.able = [i for i, step in enumerate(self.steps) if step.kind != "input"]

    def follows(self, place: int) -> bool:
        """Whether a depthwise convolution has one filter per channel, so that its neurons are those of its input."""
        step = self.steps[place]
        return step.kind == "grouped" and step.stop == 1 and self.before[step.inputs[0]] == step.size

    def spoken_of(self, rules: Iterable[Rule]) -> bool:
        """Whether a limit is about the whole network, so that all of it may change."""
        return any(isinstance(rule, Sum) and any(of is None for _, _, of in rule.terms) for rule in rules)

    def draw(self) -> Pair:
        kinds = [
            self.budget,
            self.budget,
            self.budget,
            self.peak,
            self.linear,
            self.linear,
            self.mixed,
            self.multiple,
            self.multiple,
            self.ends,
            self.removed,
            self.news,
            self.alike,
            self.named,
            self.still,
        ]
        return one_of(self.rng, kinds)()

    def several(self) -> tuple[int, ...]:
        chosen = self.rng.permutation(self.able)[: int(self.rng.integers(1, 3))]
        return tuple(sorted(int(place) for place in chosen))

    def of(self, places: tuple[int, ...]) -> Of:
        """Some steps as a caller would name them."""
        handles = [self.made[place] for place in places]
        return one_of(self.rng, [handles, handles[0].name if len(handles) == 1 else [v.name for v in handles]])

    def whose(self) -> tuple[Of, tuple[int, ...]]:
        """Vertices for a limit that takes all sources unless told otherwise."""
        if chance(self.rng, 0.4):
            return None, tuple(self.makers)
        places = self.several()
        return self.of(places), places

    def level(self, amount: NDArray[np.int64], sign: Sign = "<=") -> int:
        """An amount that some of the valid selections come to, rather one that excludes many of them."""
        share = self.rng.uniform(0.0, 0.6)
        return int(np.quantile(amount[self.valid], 1 - share if sign == ">=" else share, method="nearest"))

    def sided(self, expression: Expression, rule: Sum) -> Pair:
        """Compare a sum with a number, or with what there is now."""
        new = any(what == "inserted" for _, what, _ in rule.terms)
        total, scale = rule.amount(self.ledger)
        sign = one_of(self.rng, _SIGNS)
        present = Fraction(int(total[self.present]), scale)
        if sign == "<=" and present > 0 and not new and chance(self.rng, 0.3):
            share = int(self.rng.integers(20, 100))
            return [expression <= share / 100 * now], [Sum(rule.terms, None, present * share / 100)]
        # Factors are quarters, so that amounts are exact in float64.
        end = Fraction(self.level(total, sign), scale)
        limit = compared(expression, sign, int(end) if end.denominator == 1 else float(end))
        return [limit], [self.between(rule.terms, sign, end)]

    @staticmethod
    def between(terms: Terms, sign: Sign, end: Fraction) -> Rule:
        return Sum(terms, None if sign == "<=" else end, None if sign == ">=" else end)

    @property
    def present(self) -> int:
        """The selection that changes nothing."""
        tables = self.ledger.selections.tables
        same = np.ones(len(self.ledger.selections), bool)
        for place in sources(self.steps):
            same &= tables.kept[place].all(1) & (tables.new[place] == 0).all(1)
        return int(np.flatnonzero(same)[0])

    # -- kinds -------------------------------------------------------------------------------

    def budget(self) -> Pair:
        what = one_of(self.rng, list(_COSTS))
        places = None
        if chance(self.rng, 0.25):
            # Arrays that two vertices share belong to the first of them.
            places = tuple(i for i in self.several() if self.steps[i].kind != "again") or (self.makers[0],)
        expression = _COSTS[what](self.net, of=None if places is None else self.of(places))
        return self.sided(expression, Sum(((Fraction(1), what, places),)))

    def peak(self) -> Pair:
        peak, present = self.ledger.peak, int(self.ledger.peak[self.present])
        if chance(self.rng, 0.4):
            share = int(self.rng.integers(30, 100))
            return [activation_memory(self.net) <= share / 100 * now], [Peak(Fraction(present * share, 100))]
        level = self.level(peak)
        return [activation_memory(self.net) <= level], [Peak(Fraction(level))]

    def linear(self) -> Pair:
        left, terms = self.terms(int(self.rng.integers(1, 4)))
        if chance(self.rng, 0.3):
            right, others = self.terms(1)
            gap = int(self.rng.integers(-2, 3))
            sign = one_of(self.rng, _SIGNS)
            both = (*terms, *((-factor, what, of) for factor, what, of in others))
            return [compared(left, sign, right + gap)], [self.between(both, sign, Fraction(gap))]
        return self.sided(left, Sum(terms))

    def terms(self, number: int) -> tuple[Expression, Terms]:
        expression, terms = None, list[Term]()
        for _ in range(number):
            factor = one_of(self.rng, [1, 1, 2, 3, 0.5, 0.25, -1])
            what: What = one_of(self.rng, ["sizes", "sizes", "kept", "inserted"])
            place = one_of(self.rng, self.able)
            mine = factor * _NEURONS[what](self.made[place])
            expression = mine if expression is None else expression + mine
            terms.append((Fraction(repr(float(factor))), what, (place,)))
        assert expression is not None
        return expression, tuple(terms)

    def mixed(self) -> Pair:
        """Two costs, or a cost and sizes, in one sum."""
        one, other = one_of(self.rng, list(_COSTS)), one_of(self.rng, list(_COSTS))
        expression, terms = _COSTS[one](self.net), list[Term]([(Fraction(1), one, None)])
        factor = int(self.rng.integers(1, 4))
        if chance(self.rng, 0.5):
            expression = expression + factor * _COSTS[other](self.net)
            terms.append((Fraction(factor), other, None))
        else:
            more, sizes_ = self.terms(1)
            expression = expression - factor * more
            terms += [(-factor * by, what, of) for by, what, of in sizes_]
        return self.sided(expression, Sum(tuple(terms)))

    def multiple(self) -> Pair:
        said, places = self.whose()
        number, small = int(self.rng.integers(2, 5)), one_of(self.rng, _SMALL)
        # Said of all, it leaves out what the network returns and what cannot change; here it is meant of these.
        limit = multiple_of(number, self.of(places) if said is None else said, small=small)
        return [limit], [Multiple(place, number, small == "keep") for place in places]

    def ends(self) -> Pair:
        said, places = self.whose()
        if said is not None and chance(self.rng, 0.25):
            return [fixed(said)], [self.size(i, self.before[i], self.before[i]) for i in places]
        if chance(self.rng, 0.5):
            least = int(self.rng.integers(1, 4))
            if said is None:
                # What the network returns is meant by those alone who name it.
                returned = {port.vertex for port in self.net.graph.returned}
                places = tuple(place for place in places if self.made[place].name not in returned)
            return [minimum(least, said)], [self.size(i, least, None) for i in places]
        most = int(self.rng.integers(1, 5))
        return [maximum(most, said)], [self.size(i, None, most) for i in places]

    @staticmethod
    def size(place: int, low: int | None, high: int | None, what: What = "sizes") -> Rule:
        ends = [None if end is None else Fraction(end) for end in (low, high)]
        return Sum(((Fraction(1), what, (place,)),), *ends)

    def removed(self) -> Pair:
        said, places = self.whose()
        share = int(self.rng.integers(0, 11))
        rules: list[Rule] = [
            Sum(((Fraction(1), "kept", (i,)),), self.before[i] * (1 - Fraction(share, 10))) for i in places
        ]
        return [removed_at_most(share / 10, said)], rules

    def news(self) -> Pair:
        said, places = self.whose()
        most = int(self.rng.integers(0, 3))
        return [inserted_at_most(most, said)], [self.size(i, None, most, "inserted") for i in places]

    def alike(self) -> Pair:
        first, second = one_of(self.rng, self.able), one_of(self.rng, self.able)
        one, other = self.made[first], self.made[second]
        by = one_of(self.rng, [1, 1, 2, 3])
        rule = Sum(((Fraction(1), "sizes", (first,)), (Fraction(-by), "sizes", (second,))), Fraction(0), Fraction(0))
        return (equal(one, other) if by == 1 else [sizes[one] == by * sizes[other]]), [rule]

    def named(self) -> Pair:
        place, stay = one_of(self.rng, self.able), chance(self.rng, 0.5)
        most = self.before[place] if stay else max(self.before[place] // 2, 1)
        chosen = self.rng.permutation(self.before[place])[: int(self.rng.integers(1, most + 1))]
        places = tuple(int(neuron) for neuron in chosen)
        return [(keep if stay else drop)(self.made[place], places)], [Named(place, places, stay)]

    def still(self) -> Pair:
        places = self.several()
        what = one_of(self.rng, ["outputs", "outputs", "inputs", "parameters"])
        touched: list[int] = []
        for place in places:
            step = self.steps[place]
            if what == "outputs" or (what == "parameters" and step.kind in ("source", "grouped", "norm", "again")):
                touched.append(place)
            if what == "inputs" or (what == "parameters" and step.kind in ("source", "grouped", "again")):
                touched += step.inputs
        return [freeze(self.of(places), what)], [Still(place) for place in touched]


# -- comparing -------------------------------------------------------------------------------


def draw_wishes(rng: np.random.Generator, before: Sequence[int], able: Sequence[int], growth: int) -> list[Wanted]:
    if chance(rng, 0.4):
        return []
    asked = [int(i) for i in rng.permutation(able)[: int(rng.integers(1, 3))]]
    return [Wanted(i, int(rng.integers(max(1 - before[i], -3), growth + 1)), chance(rng, 0.4)) for i in asked]


def draw_utility(rng: np.random.Generator, before: Sequence[int]) -> list[Floats]:
    # Multiples of 1/4 are summed without rounding, so that equal utilities are equal for both.
    low, high = one_of(rng, [(-8, 24), (-8, 24), (0, 2), (-1, 2), (0, 1), (-6, 3)])
    return [rng.integers(low, high, n) / 4 for n in before]


@dataclass(frozen=True)
class Case:
    """A network, a request, and the oracle's verdict.

    Args:
        steps: the network.
        bodies: what its steps are made of.
        net: the same as real layers.
        wishes: sizes that are asked for.
        utility: what neurons are worth.
        limits: as the library takes them.
        rules: what they mean.
        also: what may change without a wish.
        most_new: how many new neurons after one position were tried; with 0, none may come.
        judged: the best that there is.
        free: the best without the limits.
    """

    steps: list[Step]
    bodies: list[Body]
    net: Network
    wishes: list[Wanted]
    utility: list[Floats]
    limits: list[Limit]
    rules: list[Rule]
    also: Network | tuple[()]
    most_new: int
    judged: Verdict
    free: Verdict

    @classmethod
    def drawn(cls, seed: int, positions: int, most_new: int) -> Case:
        """A random one."""
        rng = np.random.default_rng(seed)
        steps, bodies = draw_network(rng, positions)
        net, made = build(steps, bodies)
        everything = Selections.all(steps, most_new)
        ledger = Ledger(everything, bodies)
        drawer = Drawer(rng, ledger, net, made)
        wishes = draw_wishes(rng, everything.before, drawer.able, most_new)
        utility = draw_utility(rng, everything.before)
        pairs = [drawer.draw() for _ in range(int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15])))]
        rules = [rule for pair in pairs for rule in pair[1]]
        return cls(
            steps,
            bodies,
            net,
            wishes,
            utility,
            [limit for pair in pairs for limit in pair[0]],
            rules,
            () if wishes and drawer.spoken_of(rules) else net,
            most_new,
            everything.best(wishes, utility, (rule.holds(ledger) for rule in rules)),
            everything.best(wishes, utility),
        )

    @property
    def limited(self) -> bool:
        """Whether the limits make a difference."""
        return self.judged.key != self.free.key

    def plan(self) -> Plan | None:
        """What the engine says; `None` if it says that nothing is possible."""
        request = [(self.net[f"v{w.step}"], w.delta if w.exact else relaxed(w.delta)) for w in self.wishes]
        strategy = None if self.most_new else strategies.mixed(most_new=0).then(strategies.fail())

        def worth(v: Handle) -> Floats:
            return self.utility[int(v.name[1:])]

        try:
            return plan_change(
                request, also=self.also, limits=self.limits, utility=worth, on_failure="raise", strategy=strategy
            )
        except ImpossibleError:
            return None

    def answer(self, plan: Plan) -> tuple[tuple[float, ...] | None, Ledger, int]:
        """A plan's key (`None` if it breaks a limit), its costs, and the most new neurons at one place."""
        rows = selection(self.net, self.steps, plan)
        mine = Selections(self.steps, *rows)
        ledger = Ledger(mine, self.bodies)
        found = mine.best(self.wishes, self.utility, (rule.holds(ledger) for rule in self.rules))
        return found.key, ledger, int(rows[1].max())


def check(case: Case) -> None:
    """The engine and the oracle say the same."""
    judged, plan = case.judged.key, case.plan()
    if plan is None:
        assert judged is None, f"{case.limits}: the engine found nothing, the oracle {judged}"
        return
    plan.check()
    key, ledger, new = case.answer(plan)
    assert key is not None, f"{case.limits}: the engine's selection is not valid: {plan}"
    if judged is None or key < judged:
        assert new > case.most_new, f"{case.limits}: {key} is better than all that was tried, {judged}"
    else:
        assert key == pytest.approx(judged, abs=1e-9), f"{case.limits}"
    assert plan.certificate.status.value == "optimal"
    assert plan.certificate.gap <= 1e-9
    check_costs(plan, case.net, ledger)


def selection(net: Network, steps: list[Step], plan: Plan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The engine's answer as one row of the oracle's tables."""
    kept_, new = [], []
    for place in sources(steps):
        neurons = net.labels.tensors[Port(f"v{place}")].neurons
        index = plan.indices[f"v{place}"]
        k = np.zeros(len(neurons), np.int64)
        k[index[index >= 0]] = 1
        kept_.append(k)
        new.append(plan.blueprint.moves.inserted(neurons))
    return np.concatenate(kept_)[None], np.concatenate(new)[None]


def check_costs(plan: Plan, net: Network, ledger: Ledger) -> None:
    """The oracle's formulas give what the changed network is counted to cost."""
    plan.apply()
    costs = count(net)
    assert costs.params == ledger.amount("params")[0]
    assert costs.macs == ledger.amount("macs")[0]
    assert costs.weight_bytes == ledger.amount("weight_memory")[0]
    assert costs.activation_bytes == ledger.peak[0]


#: Neurons in a network, and how many new ones after each of them are tried.
_FAMILIES = {"shrinking": (8, 1), "growing": (5, 3), "without insertion": (9, 0)}
_BLOCK = 100


@pytest.mark.parametrize("block", range(6))
@pytest.mark.parametrize("family", _FAMILIES)
def test_agrees_with_trying_everything(family: str, block: int) -> None:
    cases = {seed: Case.drawn(seed, *_FAMILIES[family]) for seed in range(block * _BLOCK, (block + 1) * _BLOCK)}
    for case in cases.values():
        check(case)
    # Not all are possible, and where they are, limits matter.
    possible = [case for case in cases.values() if case.judged.key is not None]
    assert 0.4 * _BLOCK <= len(possible) <= 0.8 * _BLOCK
    assert sum(case.limited for case in possible) >= 0.15 * _BLOCK


# -- the way that large problems take --------------------------------------------------------


class Fault(Enum):
    """What can be wrong with an answer that is not found by complete search."""

    CRASH = "no answer at all"
    FEASIBLE = "impossible, or not allowed"
    DEVIATION = "relaxed wishes are missed by more than they have to be"
    BOUND = "more utility is possible than the bound says"
    TIES = "among equals, it is not the one with most old and fewest new neurons"


def fault(case: Case) -> Fault | None:
    """What is wrong with the engine's answer to a case; it may miss the best utility by as much as it says."""
    judged = case.judged.key
    try:
        plan = case.plan()
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError):
        return Fault.CRASH
    if plan is None:
        return None if judged is None else Fault.FEASIBLE
    key, _, new = case.answer(plan)
    if key is None:
        return Fault.FEASIBLE
    untried = new > case.most_new
    if judged is None:
        return None if untried else Fault.FEASIBLE
    if key[:2] != judged[:2]:
        return None if key < judged and untried else Fault.DEVIATION
    slack = plan.certificate.bound - plan.certificate.objective
    if key[2] - judged[2] > slack + 1e-6:
        return Fault.BOUND
    return Fault.TIES if plan.certificate.gap <= 1e-9 and key > judged else None


@cache
def faults() -> dict[tuple[str, int], Fault | None]:
    """Of many cases, all of which go the way of large ones in all their parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limited, "_SMALL", 0.0)
        return {
            (family, seed): fault(Case.drawn(seed, *size))
            for family, size in _FAMILIES.items()
            for seed in range(10 * _BLOCK, 11 * _BLOCK)
        }


# Which of equally good selections it is is only found out by complete search.
@pytest.mark.parametrize("kind", [kind for kind in Fault if kind is not Fault.TIES], ids=lambda kind: kind.name.lower())
def test_the_way_of_large_problems_agrees_with_trying_everything(kind: Fault) -> None:
    assert [case for case, found in faults().items() if found is kind] == []


def wide() -> Network:
    """Four dense layers that are too wide to try everything."""
    net = Network()
    x = net.input("in", 8)
    for name, size in {"a": 40, "b": 40, "c": 30, "d": 30}.items():
        x = nn.dense(x, size, name=name)
    net.output(x)
    return net


def rising(v: Handle) -> Floats:
    return np.arange(v.nout, dtype=np.float64) + 1.0


@pytest.mark.parametrize("cost", [params, macs, weight_memory, activation_memory])
def test_a_budget_that_leaves_room_changes_nothing(cost: Callable[[Network], Expression]) -> None:
    net = wide()
    plan = plan_change(net, limits=[cost(net) <= 2 * now], utility=rising, on_failure="raise")
    plan.check()
    assert plan.empty


@pytest.mark.parametrize("delta", [-5, 5])
@pytest.mark.parametrize("share", [0.8, 2])
def test_relaxed_wishes_come_before_utility(delta: int, share: float) -> None:
    net = wide()
    plan = plan_change(
        {net["a"]: relaxed(delta)},
        also=net,
        limits=[params(net) <= share * now],
        utility=rising,
        on_failure="raise",
    )
    assert plan.sizes["a"][1] == 40 + delta
    assert plan.certificate.deviation == 0
