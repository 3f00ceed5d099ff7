"""What multiplies and adds: Gemm, MatMul, Einsum, with weights on either side and between activations."""

from typing import Any

import numpy as np
import pytest

from solver_nas.onnx import load
from tests.onnx.models import BATCH, DELTAS, TOKENS, Builder, Middle, held, image, law, tokens, vector, weight

# -- Gemm ----------------------------------------------------------------------------------------------

C_SHAPES = {"none": None, "scalar": (), "one": (1,), "row": (12,), "row of a table": (1, 12), "column": (4, 1)}


#: What goes is silenced where it is made, since the tensor that is read has another axis with neurons as well.
MADE: dict[str, Any] = {"readers": (), "makers": ("first",)}


def gemm(c: tuple[int, ...] | None, **attributes: Any) -> Builder:
    """(4, 6) -> Gemm -> Tanh -> Gemm, with four samples."""
    made = Builder()
    flip = attributes.get("transA", 0)
    x = made.input("x", *((6, 4) if flip else (4, 6)))
    kernel = made.weight(*((12, 6) if attributes.get("transB", 0) else (6, 12)), name="first.W")
    extra = [] if c is None else [made.weight(*c, name="first.c")]
    y = made.node("Tanh", made.node("Gemm", x, kernel, *extra, name="first", **attributes))
    made.output(made.dense(y, 12, 3, "head"))
    return made


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("flips", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("c", C_SHAPES)
def test_gemm(c: str, flips: tuple[int, int], delta: int) -> None:
    made = gemm(C_SHAPES[c], transA=flips[0], transB=flips[1], alpha=0.5, beta=2.0)
    done = law(made.model(), delta)
    size = done.plan.sizes["first"][1]
    assert weight(done.after, "first.W").shape == ((size, 6) if flips[1] else (6, size))
    if c.startswith("row"):
        assert weight(done.after, "first.c").shape[-1] == size


@pytest.mark.parametrize("delta", DELTAS)
def test_gemm_of_weights_on_the_left(delta: int) -> None:
    # The neurons are rows: (C, 6) x (6, 4).
    made = Builder()
    x = made.input("x", 6, 4)
    y = made.node("Gemm", made.weight(12, 6, name="first.W"), x, made.weight(12, 1), name="first")
    made.output(made.node("MatMul", made.weight(3, 12, name="out.W"), y, name="out"))
    done = law(made.model(), delta, readers=())
    size = done.plan.sizes["first"][1]
    assert weight(done.after, "first.W").shape == (size, 6)
    assert weight(done.after, "out.W").shape == (3, size)


@pytest.mark.parametrize("delta", DELTAS)
def test_gemm_of_two_activations(delta: int) -> None:
    # x (12, 4) and its transpose: (12, 12) would tie rows to columns; (4, 12) x (12, 4) contracts the neurons.
    made = Builder()
    x = made.dense(made.input("x", 4, 6), 6, 12, "first")
    y = made.node("Gemm", x, made.dense("x", 6, 12, "second"), transB=1, name="product")
    made.output(made.dense(y, 4, 3, "head"))
    done = law(made.model(), delta, readers=(), makers=("first", "second"))
    assert done.plan.sizes["second"] == done.plan.sizes["first"]


# -- MatMul --------------------------------------------------------------------------------------------


def batched(made: Builder, x: str) -> str:
    """(N, T, C) x (T, C, 9): one matrix per token."""
    y = made.node("MatMul", made.node("Unsqueeze", x, made.numbers(2)), made.weight(TOKENS, 12, 9, name="mid.W"))
    return made.node("Squeeze", y, made.numbers(2))


def turned(made: Builder, x: str) -> str:
    """Weights on the left: (9, C) x (N, C, T), as a convolution over channels."""
    y = made.node("MatMul", made.weight(9, 12, name="mid.W"), made.node("Transpose", x, perm=[0, 2, 1]))
    return made.node("Transpose", y, perm=[0, 2, 1])


def to_vector(made: Builder, x: str) -> str:
    """(N, T, C) x (C,) -> (N, T), as weights of tokens."""
    y = made.node("MatMul", x, made.weight(12, name="mid.W"))
    return made.node("Mul", x, made.node("Unsqueeze", made.node("Tanh", y), made.numbers(2)))


def gram(made: Builder, x: str) -> str:
    """softmax(q k^T) v with one head; q, k and v made by further layers."""
    q, k, v = (made.linear(x, 12, 8, name) for name in ("q", "k", "v"))
    scores = made.node("MatMul", q, made.node("Transpose", k, perm=[0, 2, 1]))
    shares = made.node("Softmax", made.node("Mul", scores, made.constant(0.3)), axis=-1)
    return made.node("MatMul", shares, v)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize(
    "middle", [batched, turned, to_vector], ids=["batched weights", "weights left", "a vector on the right"]
)
def test_matmul(middle: Middle, delta: int) -> None:
    proto = tokens(middle)
    if delta > 0:
        law(proto, delta)
        return
    # What goes is contracted: silencing those that make it is the independent statement.
    done = law(proto, delta, readers=(), makers=("first",) if middle is not to_vector else ())
    assert 12 + delta in weight(done.after, "mid.W").shape


@pytest.mark.parametrize("delta", DELTAS)
def test_vector_times_matrix(delta: int) -> None:
    # (6,) x (6, 12) -> (12,), then (12,) x (12,) -> ().
    made = Builder()
    x = made.input("x", 6)
    y = made.node("MatMul", x, made.weight(6, 12, name="first.W"), name="first")
    made.output(made.node("MatMul", y, made.weight(12, name="last.W"), name="last"), [])
    done = law(made.model(), delta, readers=("last",))
    assert weight(done.after, "last.W").shape == (done.plan.sizes["first"][1],)


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("vertex", ["q", "k"])
def test_inner_sizes_of_attention(vertex: str, delta: int) -> None:
    # Growth: q and k both get new neurons, of which one has to be silent.
    done = law(tokens(gram), delta, vertex=vertex, readers=(), makers=("q", "k"))
    assert done.plan.sizes["q"] == done.plan.sizes["k"]
    assert done.plan.sizes["v"] == (8, 8)


@pytest.mark.parametrize("delta", DELTAS)
def test_values_of_attention(delta: int) -> None:
    done = law(tokens(gram), delta, vertex="v")
    assert done.plan.sizes["q"] == (8, 8)


@pytest.mark.parametrize("delta", DELTAS)
def test_input_of_attention(delta: int) -> None:
    law(tokens(gram), delta, readers=("q", "k", "v"))


@pytest.mark.parametrize("delta", DELTAS)
def test_a_mixer_between_tokens_stays(delta: int) -> None:
    # (T, T) x (N, T, C): the tokens cannot change, the channels can.
    done = law(tokens(lambda m, x: m.node("MatMul", m.weight(TOKENS, TOKENS, name="mix"), x)), delta, **MADE)
    assert weight(done.after, "mix").shape == (TOKENS, TOKENS)


@pytest.mark.parametrize("delta", DELTAS)
def test_one_weight_in_two_layers(delta: int) -> None:
    # A square matrix that is applied twice: its rows and columns are tied.
    def middle(made: Builder, x: str) -> str:
        shared = made.weight(12, 12, name="shared")
        return made.node("MatMul", made.node("Tanh", made.node("MatMul", x, shared)), shared)

    done = law(tokens(middle), delta, readers=(), grows=True)
    assert weight(done.after, "shared").shape == (12 + delta, 12 + delta)


# -- Einsum --------------------------------------------------------------------------------------------


def einsum(equation: str, *shape: int) -> Middle:
    return lambda made, x: made.node("Einsum", x, made.weight(*shape, name="mid.W"), equation=equation, name="einsum")


#: Equation, shape of the weight.
EQUATIONS = {
    "ntc,cd->ntd": (12, 9),
    "ntc , dc -> ntd": (9, 12),
    "...c,cd->...d": (12, 9),
    "ntc,tcd->ntd": (TOKENS, 12, 9),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum_with_a_weight(equation: str, delta: int) -> None:
    done = law(tokens(einsum(equation, *EQUATIONS[equation])), delta, readers=(), makers=("first",))
    assert 12 + delta in weight(done.after, "mid.W").shape
    # Its other axis makes neurons of its own.
    more = law(tokens(einsum(equation, *EQUATIONS[equation])), -4, vertex="einsum")
    assert 5 in weight(more.after, "mid.W").shape


@pytest.mark.parametrize("delta", DELTAS)
def test_einsum_with_implicit_output(delta: int) -> None:
    # "abk,kz" -> abz.
    done = law(tokens(einsum("abk,kz", 12, 9)), delta, readers=(), makers=("first",))
    assert weight(done.after, "mid.W").shape == (12 + delta, 9)


@pytest.mark.parametrize("delta", DELTAS)
def test_einsum_follows_channels(delta: int) -> None:
    # A scale per channel: the letter stays.
    done = law(tokens(einsum("ntc,c->ntc", 12)), delta)
    assert weight(done.after, "mid.W").shape == (12 + delta,)


def einsum_attention(made: Builder, x: str) -> str:
    q, k, v = (
        made.node("Einsum", x, made.weight(12, 4, 3, name=f"{name}.W"), equation="btc,chd->bthd", name=name)
        for name in "qkv"
    )
    shares = made.node("Softmax", made.node("Einsum", q, k, equation="bthd,bshd->bhts"), axis=-1)
    y = made.node("Einsum", shares, v, equation="bhts,bshd->bthd", name="context")
    return made.node("Einsum", y, made.weight(4, 3, 12, name="o.W"), equation="bthd,hdc->btc", name="o")


@pytest.mark.parametrize("delta", [-4, -6, 4])
def test_heads_of_einsum_attention(delta: int) -> None:
    # Four heads of three: a head goes with its row in all four weights, or each head gets one column less.
    done = law(tokens(einsum_attention), delta, vertex="v", readers=())
    shapes = {name: weight(done.after, f"{name}.W").shape for name in "qkvo"}
    assert shapes["v"][1:] == shapes["o"][:2]
    assert shapes["q"] == shapes["k"]
    assert shapes["q"][1] == shapes["v"][1]


def test_heads_go_from_queries_on() -> None:
    done = law(tokens(einsum_attention), -3, vertex="q", readers=())
    shapes = {name: weight(done.after, f"{name}.W").shape for name in "qkvo"}
    assert shapes["q"] == shapes["k"]


def test_einsum_of_activations() -> None:
    def middle(made: Builder, x: str) -> str:
        return made.node("Einsum", x, made.node("Tanh", x), equation="ntc,nsc->nts", name="gram")

    law(tokens(middle, width=TOKENS), -6, readers=(), makers=("first",))


def test_diagonals_are_pinned() -> None:
    made = Builder()
    x = made.linear(made.input("x", BATCH, 12, 6), 6, 12, "first")
    y = made.node("Einsum", x, equation="nii->ni", name="diagonal")
    made.output(made.dense(y, 12, 3, "head"))
    model = load(made.model())
    assert [reason.vertex for reason in held(model)] == ["diagonal"]
    assert "twice" in held(model)[0].rule
    assert model["first"].nout == 12
    labels = model.tensor("first").neurons["label"]
    assert not model.labels.tensors or len(labels) == 12


# -- weights are found behind what only shows them another way -------------------------------------------


def stored(made: Builder, where: str) -> str:
    """A (12, 12) weight, however it is stored."""
    match where:
        case "initializer":
            return made.weight(12, 12, name="kernel")
        case "constant":
            return made.node("Constant", value=_tensor(made, 12, 12))
        case "identity":
            return made.node("Identity", made.weight(12, 12, name="kernel"))
        case "transpose":
            return made.node("Transpose", made.weight(12, 12, name="kernel"), perm=[1, 0])
        case "reshape":
            return made.node("Reshape", made.weight(12, 12, 1, name="kernel"), made.numbers(12, 12))
        case "squeeze":
            return made.node("Squeeze", made.weight(1, 12, 12, name="kernel"), made.numbers(0))
        case "cast":
            half = made.constant(made.rng.normal(size=(12, 12)).astype(np.float16), name="kernel")
            return made.node("Cast", half, to=1)
        case "chain":
            turned = made.node("Transpose", made.weight(12, 1, 12, name="kernel"), perm=[2, 0, 1])
            return made.node("Identity", made.node("Squeeze", turned, made.numbers(2)))
        case "fill":
            filled = made.node("ConstantOfShape", made.numbers(12, 12), value=_fill(0.25))
            return made.node("Add", filled, made.weight(12, 12))
        case _:
            raise KeyError(where)


def _tensor(made: Builder, *shape: int) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(made.rng.normal(size=shape).astype(np.float32))


def _fill(value: float) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array([value], np.float32))


PLACES = ("initializer", "constant", "identity", "transpose", "reshape", "squeeze", "cast", "chain", "fill")


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("where", PLACES)
def test_weights_wherever_they_are(where: str, delta: int) -> None:
    def middle(made: Builder, x: str) -> str:
        return made.node("MatMul", x, stored(made, where), name="second")

    # Both of its axes can change.
    law(tokens(middle), delta, readers=(), makers=("first",))
    law(tokens(middle), delta, vertex="second")


@pytest.mark.parametrize("delta", DELTAS)
def test_weights_of_equal_numbers(delta: int) -> None:
    # ConstantOfShape as a bias; its length is a literal.
    def middle(made: Builder, x: str) -> str:
        return made.node("Add", x, made.node("ConstantOfShape", made.numbers(12), value=_fill(0.5)))

    law(tokens(middle), delta, lighter=False)


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 17, 18, 23])
def test_versions(opset: int) -> None:
    law(vector(lambda m, x: m.node("Tanh", m.dense(x, 12, 12, "second")), opset=opset), -6, readers=("second",))


def test_old_format_with_initializers_as_inputs() -> None:
    made = Builder(8, ir=3)
    x = made.dense(made.input("x", BATCH, 6), 6, 12, "first")
    made.output(made.dense(made.node("Relu", x), 12, 3, "head"))
    done = law(made.model(), -6)
    sizes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in done.after.graph.input}
    assert sizes["first.W"] == [6, 6]
    assert sizes["head.W"] == [6, 3]


def test_images_keep_their_sizes() -> None:
    # MatMul over the last axis of an image: width is no neuron.
    done = law(image(lambda m, x: m.node("MatMul", x, m.weight(6, 6, name="along"))), -6, **MADE)
    assert weight(done.after, "along").shape == (6, 6)
