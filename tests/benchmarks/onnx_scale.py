"""How the time for an ONNX model grows with its nodes: `python -m tests.benchmarks.onnx_scale [--nodes 500 1000 ...]`.

The models are stacked residual blocks (two convolutions, two rectifiers, a sum) of random weights. Every one is read,
labelled, shrunk to half its multiplications, written, checked and compared with the masked original. The last column is
the time for a node in labels and planning, relative to that in the smallest model: 1 is linear growth.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from solver_nas import shrink
from solver_nas.limits import macs, now
from solver_nas.onnx import load
from solver_nas.rules import label

_NODES = (500, 1000, 2000, 5000)
_PER_BLOCK = 5
_CHANNELS = 16
_AROUND = 4  # nodes before and after the blocks
_RUNS = 3


def stacked(nodes: int) -> ModelProto:
    """Residual blocks between a convolution and a classifier; of about so many nodes."""
    rng, made, weights = np.random.default_rng(0), [], []

    def weight(name: str, *shape: int) -> str:
        array = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        made.append(helper.make_node(operator, inputs, [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def conv(name: str, x: str, size: int) -> str:
        filters, bias = weight(f"{name}.weight", _CHANNELS, size, 3, 3), weight(f"{name}.bias", _CHANNELS)
        return node("Conv", name, x, filters, bias, pads=[1, 1, 1, 1])

    x = conv("stem", "image", 3)
    for block in range((nodes - _AROUND) // _PER_BLOCK):
        inner = node("Relu", f"block{block}.relu1", conv(f"block{block}.conv1", x, _CHANNELS))
        x = node("Add", f"block{block}.add", x, conv(f"block{block}.conv2", inner, _CHANNELS))
        x = node("Relu", f"block{block}.relu2", x)
    x = node("Flatten", "flatten", node("GlobalAveragePool", "pool", x))
    x = node("Gemm", "head", x, weight("head.weight", 10, _CHANNELS), transB=1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])
    scores = helper.make_tensor_value_info(x, TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(made, "stacked", [image], [scores], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def measured(nodes: int) -> tuple[int, dict[str, float], float]:
    """Nodes, seconds by phase (the least of some runs), and the proven gap."""
    proto, runs, gap = stacked(nodes), [], 0.0
    for _ in range(_RUNS):
        clock = [time.perf_counter()]
        model = load(proto)
        clock.append(time.perf_counter())
        label(model.graph)
        clock.append(time.perf_counter())
        plan = shrink.plan(model, [macs(model) <= 0.5 * now])
        clock.append(time.perf_counter())
        plan.apply()
        clock.append(time.perf_counter())
        runs.append(np.diff(clock))
        gap = plan.certificate.gap
    phases = zip(("read", "label", "plan", "write and compare"), np.min(runs, axis=0).tolist(), strict=True)
    return len(proto.graph.node), dict(phases), gap


def main() -> None:
    """Print a row for every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", nargs="+", type=int, default=_NODES)
    first: float | None = None
    for wanted in parser.parse_args().nodes:
        nodes, phases, gap = measured(wanted)
        each = (phases["label"] + phases["plan"]) / nodes
        first = first or each
        seconds = ", ".join(f"{name} {value:.2f} s" for name, value in phases.items())
        print(f"{nodes:>6} nodes: {seconds}; gap {gap:.1e}; {each / first:.2f}", flush=True)


if __name__ == "__main__":
    main()
