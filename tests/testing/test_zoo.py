"""The zoo itself: every layer of the library is in it, and every network can be differentiated."""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

from solver_nas.nn.forward import evaluate
from solver_nas.rules import kinds, rule_of
from solver_nas.testing.zoo import ZOO, inputs

each_specimen = pytest.mark.parametrize("name", ZOO)
_STEP = 1e-6  # of finite differences; rounding and curvature are both about 1e-9 there

#: Builders that make no vertex of a kind of their own, or are not layers of arrays and axes.
ELSEWHERE = {"input", "immutable", "absorb", "invariant", "stack", "subtract", "multiply", "divide", "bridge"}


@each_specimen
def test_gradients_are_slopes(name: str) -> None:
    net = ZOO[name].build(5)
    rng = np.random.default_rng(6)
    batch = inputs(net, rng)
    (out,) = net.outputs
    weights = rng.normal(size=np.shape(evaluate(net.graph, net.arrays, batch, rng)[out.name]))
    way = {key: rng.normal(size=array.shape) for key, array in net.arrays.items()}

    def loss(step: float) -> object:
        arrays = {key: array + step * way[key] for key, array in net.arrays.items()}
        return anp.sum(evaluate(net.graph, arrays, batch, net.rng)[out.name] * weights)

    slope = (loss(_STEP) - loss(-_STEP)) / (2 * _STEP)  # type: ignore[operator] # autograd has no types
    np.testing.assert_allclose(grad(loss)(0.0), slope, rtol=1e-5, atol=1e-6)


@each_specimen
def test_a_single_sample_is_a_batch_of_one(name: str) -> None:
    net = ZOO[name].build(5)
    batch = inputs(net, np.random.default_rng(6))
    together = net(*batch.values())
    alone = net(*(x[0] for x in batch.values()))
    np.testing.assert_allclose(alone, together[0], rtol=1e-10, atol=1e-12)


@each_specimen
def test_shapes_are_what_is_computed(name: str) -> None:
    net = ZOO[name].build(5)
    for vertex, value in net.activations(*inputs(net, np.random.default_rng(6)).values()).items():
        assert net[vertex].shape[1:] == value.shape[1:], vertex


@each_specimen
def test_exact_is_what_the_rules_say(name: str) -> None:
    net = ZOO[name].build(5)
    found = [rule_of(v.kind) for v in net.vertices]
    assert ZOO[name].exact == all(rule.exact for rule in found if rule is not None)


def test_every_kind_of_layer_is_in_the_zoo() -> None:
    seen = {vertex.kind for specimen in ZOO.values() for vertex in specimen.build(0).vertices}
    ours = {kind for kind in kinds() if "." not in kind}
    assert ours - ELSEWHERE <= seen


def test_nothing_is_left_at_its_initial_value() -> None:
    for specimen in ZOO.values():
        for key, array in specimen.build(0).arrays.items():
            assert len(np.unique(array)) > 1 or array.size == 1, key
