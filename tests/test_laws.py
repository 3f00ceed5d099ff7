"""The laws that every layer obeys, on every network of the zoo."""

import numpy as np
import pytest

from solver_nas import delta_nout, plan_change, relaxed
from solver_nas.frontend import Handle
from solver_nas.nn.network import Network
from solver_nas.testing.laws import check_masked
from solver_nas.testing.zoo import ZOO, inputs

each_specimen = pytest.mark.parametrize("name", ZOO)
each_seed = pytest.mark.parametrize("seed", range(4))


def changeable(net: Network) -> list[Handle]:
    return [v for v in net.vertices if v.kind not in ("input", "immutable") and v.nout > 1]


def request(net: Network, rng: np.random.Generator, sign: int) -> dict[Handle, object]:
    """Wishes for one to three vertices, all shrinking or all growing."""
    able = changeable(net)
    chosen = rng.permutation(len(able))[: int(rng.integers(1, 4))]
    return {able[i]: relaxed(sign * int(rng.integers(1, max(2, able[i].nout)))) for i in chosen}


@each_seed
@each_specimen
def test_pruning_is_masking(name: str, seed: int) -> None:
    rng, specimen = np.random.default_rng(seed), ZOO[name]
    net = specimen.build(seed)
    plan = plan_change(request(net, rng, -1), utility=lambda v: rng.random(v.nout))
    plan.check()
    batch = inputs(net, rng)
    if specimen.exact:
        check_masked(net, plan, batch)
    plan.apply()
    assert {v.name: v.nout for v in net.vertices} == {n: after for n, (_, after) in plan.sizes.items()}
    assert np.isfinite(net(*batch.values())).all()


@each_seed
@each_specimen
def test_growing_changes_nothing(name: str, seed: int) -> None:
    rng, specimen = np.random.default_rng(seed), ZOO[name]
    net = specimen.build(seed)
    plan = plan_change(request(net, rng, 1), utility=lambda v: rng.random(v.nout))
    plan.check()
    batch = inputs(net, rng)
    if specimen.growing:
        # A rectangle may lose a row to grow by a number that does not fit; what goes is masked.
        check_masked(net, plan, batch)
    plan.apply()
    assert np.isfinite(net(*batch.values())).all()


@each_specimen
def test_every_vertex_alone_shrinks_and_grows_back(name: str) -> None:
    net = ZOO[name].build(0)
    rng = np.random.default_rng(0)
    batch = inputs(net, rng)
    for v in changeable(net):
        size = v.nout
        for wish in (-1, 1) if size > 1 else ():
            assert delta_nout(v, relaxed(wish), utility=lambda v: rng.random(v.nout))
            assert v.nout - size <= 0 if wish < 0 else v.nout >= 1
            assert np.isfinite(net(*batch.values())).all()
