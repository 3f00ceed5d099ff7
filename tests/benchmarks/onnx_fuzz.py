"""Damaged and hostile ONNX files: only clear errors, no crash, no hang, and no file written.

`python -m tests.benchmarks.onnx_fuzz` mutates small models in many ways, opens what comes out, and shrinks what can be
opened. Every batch runs in a process of its own, so that a crash in native code or a hang is seen as such.

    --count     how many files; 2,000 by default
    --seed      of the first one
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from solver_nas import errors, shrink
from solver_nas import onnx as front_end
from solver_nas.limits import now, params

if TYPE_CHECKING:
    from collections.abc import Callable

_BATCH = 100  # files per process
_PATIENCE = 300  # seconds for a batch
_SLOW = 20.0  # seconds for one file, which would be a hang to a person
_HUGE = 2**40


def small_model(seed: int = 0) -> ModelProto:
    """A model with convolutions, a residual, heads by reshape, a recurrence, a branch, and weights of several kinds."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)

    def branch(name: str, factor: float) -> onnx.GraphProto:
        scale = helper.make_node(
            "Constant", [], [f"{name}.s"], value=numpy_helper.from_array(np.array(factor, np.float32))
        )
        made = helper.make_node("Mul", ["r", f"{name}.s"], [f"{name}.y"])
        out = helper.make_tensor_value_info(f"{name}.y", TensorProto.FLOAT, None)
        return helper.make_graph([scale, made], name, [], [out])

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c"], name="conv", pads=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node(
            "If", ["flag"], ["f"], name="if", then_branch=branch("then", 1.5), else_branch=branch("else", 0.5)
        ),
        helper.make_node("Conv", ["f", "w2"], ["d"], name="deep", group=4),
        helper.make_node("Add", ["d", "r"], ["a"], name="add"),
        helper.make_node("Transpose", ["a"], ["t"], name="turn", perm=[2, 0, 1]),
        helper.make_node("LSTM", ["t", "w3", "r3", "b3"], ["l"], name="lstm", hidden_size=6),
        helper.make_node("Squeeze", ["l", "one"], ["s"], name="squeeze"),
        helper.make_node("Reshape", ["s", "heads"], ["h"], name="heads"),
        helper.make_node("ReduceMean", ["h"], ["m"], name="mean", axes=[0], keepdims=0),
        helper.make_node("Flatten", ["m"], ["v"], name="flat"),
        helper.make_node("Gemm", ["v", "w4", "b4"], ["y"], name="head", transB=1),
    ]
    tensors = [
        *(weight("w1", 8, 3, 3), weight("b1", 8), weight("w2", 8, 2, 1), weight("w3", 1, 24, 8)),
        *(weight("r3", 1, 24, 6), weight("b3", 1, 48), weight("w4", 5, 6), weight("b4", 5)),
        numpy_helper.from_array(np.array([1]), "one"),
        numpy_helper.from_array(np.array([0, 0, 2, 3]), "heads"),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 10]),
        helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])]
    graph = helper.make_graph(nodes, "small", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def mutant(number: int) -> tuple[str, bytes]:
    """The file with that number, and what was done to it."""
    rng = np.random.default_rng(number)
    kinds = sorted(_MUTATIONS)
    kind = kinds[number % len(kinds)]
    return kind, _MUTATIONS[kind](small_model(), rng)


def _truncated(model: ModelProto, rng: np.random.Generator) -> bytes:
    data = model.SerializeToString()
    return data[: int(rng.integers(0, len(data)))]


def _flipped(model: ModelProto, rng: np.random.Generator) -> bytes:
    data = bytearray(model.SerializeToString())
    for place in rng.integers(0, len(data), int(rng.integers(1, 12))):
        data[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def _flipped_in_structure(model: ModelProto, rng: np.random.Generator) -> bytes:
    """Most bytes are weights, in which a flip changes nothing of interest."""
    for tensor in model.graph.initializer:
        del tensor.float_data[:]
    data = bytearray(model.SerializeToString())
    end = data.find(b"w1\x08") if b"w1\x08" in data else len(data) // 3
    for place in rng.integers(0, max(end, 1), int(rng.integers(1, 4))):
        data[place] = int(rng.integers(0, 256))
    return bytes(data)


def _overwritten(model: ModelProto, rng: np.random.Generator) -> bytes:
    data = bytearray(model.SerializeToString())
    start = int(rng.integers(0, len(data)))
    size = int(rng.integers(1, 64))
    data[start : start + size] = rng.bytes(size)
    return bytes(data)


def _missing(model: ModelProto, rng: np.random.Generator) -> bytes:
    del model.graph.initializer[int(rng.integers(0, len(model.graph.initializer)))]
    return model.SerializeToString()


def _misshapen(model: ModelProto, rng: np.random.Generator) -> bytes:
    tensor = model.graph.initializer[int(rng.integers(0, len(model.graph.initializer)))]
    if tensor.dims:
        place = int(rng.integers(0, len(tensor.dims)))
        tensor.dims[place] = int(rng.choice([0, 1, 2, 7, -1, _HUGE, 2**62]))
    return model.SerializeToString()


def _retyped(model: ModelProto, rng: np.random.Generator) -> bytes:
    tensor = model.graph.initializer[int(rng.integers(0, len(model.graph.initializer)))]
    tensor.data_type = int(rng.integers(0, 30))
    return model.SerializeToString()


def _resized(model: ModelProto, rng: np.random.Generator) -> bytes:
    """A consistent tensor of another shape than its reader expects."""
    tensor = model.graph.initializer[int(rng.integers(0, len(model.graph.initializer)))]
    shape = [int(size) for size in rng.integers(1, 9, len(tensor.dims))]
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    tensor.CopyFrom(numpy_helper.from_array(rng.normal(0, 3, shape).astype(kind), tensor.name))
    return model.SerializeToString()


def _renumbered(model: ModelProto, rng: np.random.Generator) -> bytes:
    """An attribute with another number."""
    node = _some_node(model, rng)
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.INT:
            attribute.i = int(rng.choice([-1, 0, 1, 3, 100, _HUGE, -(2**63)]))
        elif attribute.type == onnx.AttributeProto.INTS and attribute.ints:
            attribute.ints[0] = int(rng.choice([-5, 0, 3, 100, _HUGE]))
    return model.SerializeToString()


def _rewired(model: ModelProto, rng: np.random.Generator) -> bytes:
    """An input that comes from somewhere else, also from behind."""
    node = _some_node(model, rng)
    names = [name for other in model.graph.node for name in other.output] + ["", "nowhere", "x", "w1"]
    if node.input:
        node.input[int(rng.integers(0, len(node.input)))] = str(rng.choice(names))
    return model.SerializeToString()


def _renamed(model: ModelProto, rng: np.random.Generator) -> bytes:
    """Another operator, domain or name."""
    node = _some_node(model, rng)
    what = int(rng.integers(0, 4))
    if what == 0:
        node.op_type = str(rng.choice(["Mystery", "Relu", "Concat", "Loop", "Scan", "If", "Gemm", "", "SequenceAt"]))
    elif what == 1:
        node.domain = "com.example"
    elif what == 2:
        node.output[0] = str(rng.choice(["x", "c", "y", "w1"]))
    else:
        node.name = model.graph.node[0].name
    return model.SerializeToString()


def _rearranged(model: ModelProto, rng: np.random.Generator) -> bytes:
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes[: int(rng.integers(0, len(nodes) + 1))])
    return model.SerializeToString()


def _outside(model: ModelProto, rng: np.random.Generator) -> bytes:
    """A tensor that wants to be read from somewhere else."""
    tensor = model.graph.initializer[int(rng.integers(0, len(model.graph.initializer)))]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key = "location"
    entry.value = str(rng.choice(["/etc/passwd", "../../etc/passwd", "weights.bin", "", "."]))
    return model.SerializeToString()


def _declared(model: ModelProto, rng: np.random.Generator) -> bytes:
    """Inputs and outputs of other types and sizes, and other versions."""
    what = int(rng.integers(0, 5))
    if what == 0:
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = int(rng.choice([0, -1, 1, _HUGE]))
    elif what == 1:
        model.graph.input[0].type.tensor_type.elem_type = int(rng.integers(0, 24))
    elif what == 2:
        model.opset_import[0].version = int(rng.choice([0, 1, 5, 11, 28, 1000, -3]))
    elif what == 3:
        model.ir_version = int(rng.choice([0, 1, 3, 13, 99]))
    else:
        model.graph.output[0].name = str(rng.choice(["nothing", "x", "w1", ""]))
    return model.SerializeToString()


def _some_node(model: ModelProto, rng: np.random.Generator) -> NodeProto:
    return model.graph.node[int(rng.integers(0, len(model.graph.node)))]


_MUTATIONS: dict[str, Callable[[ModelProto, np.random.Generator], bytes]] = {
    "truncated": _truncated,
    "bits flipped": _flipped,
    "structure flipped": _flipped_in_structure,
    "overwritten": _overwritten,
    "initializer missing": _missing,
    "wrong shape": _misshapen,
    "wrong type": _retyped,
    "another size": _resized,
    "another attribute": _renumbered,
    "rewired": _rewired,
    "another operator": _renamed,
    "nodes rearranged": _rearranged,
    "data elsewhere": _outside,
    "declared otherwise": _declared,
}


def attempt(data: bytes, folder: Path) -> str:
    """Open a file, shrink what it holds, and save it; how that ended.

    Raises:
        AssertionError: something was written although it failed, or it took too long.
    """
    source, target = folder / "model.onnx", folder / "smaller.onnx"
    source.write_bytes(data)
    target.unlink(missing_ok=True)
    start = time.perf_counter()
    try:
        model = front_end.load(source)
        shrink(model, [params(model) <= 0.7 * now], time_limit=5.0)
        model.save(target)
        ending = "shrunk"
    except (errors.SolverNasError, OSError) as error:
        assert not target.exists(), "a file was written although it failed"
        assert sorted(path.name for path in folder.iterdir()) == ["model.onnx"], "something was left behind"
        ending = type(error).__name__ if str(error).strip() else "an error without a word"
    assert time.perf_counter() - start < _SLOW, "it took too long"
    return ending


def run_batch(first: int, count: int) -> Counter[tuple[str, str]]:
    """How files of consecutive numbers end, in this process."""
    warnings.simplefilter("ignore")
    found: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            kind, data = mutant(number)
            try:
                found[kind, attempt(data, Path(folder))] += 1
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                print(f"FAILED file {number} ({kind}): {type(error).__name__}: {error}", flush=True)
                found[kind, "FAILED"] += 1
    return found


def main() -> None:
    """Run batches in processes of their own and print how files ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.batch is not None:
        for (kind, ending), number in sorted(run_batch(*given.batch).items()):
            print(f"{kind}\t{ending}\t{number}")
        return
    total: Counter[tuple[str, str]] = Counter()
    for first in range(given.seed, given.seed + given.count, _BATCH):
        size = min(_BATCH, given.seed + given.count - first)
        command = [sys.executable, "-m", "tests.benchmarks.onnx_fuzz", "--batch", str(first), str(size)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            total["batch", f"HANG from {first}"] += 1
            continue
        if done.returncode:
            total["batch", f"CRASH ({done.returncode}) from {first}"] += 1
        for line in done.stdout.splitlines():
            if line.startswith("FAILED"):
                print(line)
            elif line.count("\t") == 2:
                kind, ending, count = line.split("\t")
                total[kind, ending] += int(count)
    for (kind, ending), times in sorted(total.items()):
        print(f"{kind:<22} {ending:<24} {times:>5}")
    bad = sum(times for (_, ending), times in total.items() if ending.split()[0] in ("FAILED", "CRASH", "HANG", "an"))
    print(f"{sum(total.values())} files, {bad} that crashed, hung, failed without a clear error, or left a file behind")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
