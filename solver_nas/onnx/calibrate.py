"""What the neurons of an ONNX model do while data pass through: recorded, so that it is known what they are worth."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from onnx import ValueInfoProto

from solver_nas.observe import ActivationStatistics, by_neuron, observed
from solver_nas.onnx import runtime
from solver_nas.progress import progress as show_progress
from solver_nas.worth import worth_watching

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from onnx import ModelProto

    from solver_nas.frontend import Array
    from solver_nas.onnx.model import OnnxModel

_CHUNK = 8  # samples that pass at once: all activations of them are in memory


def calibrate(model: OnnxModel, data: Mapping[str, Array], *, progress: bool | None = None) -> None:
    """Record the activations of every vertex whose neurons have a worth, replacing earlier ones.

    From then on, neurons are worth by default what they contribute to the vertices that read them; see
    `solver_nas.worth.contribution`. What is inside the bodies of loops and branches is not recorded.

    Args:
        model: run as it is.
        data: arrays by the names of inputs, as the model takes them; where the number of samples is open, as
            many as there are, otherwise in rows of that number.
        progress: whether to show a bar; by default on a terminal if it takes long.

    Raises:
        RequestError: other names, types or sizes than the model takes.
        StoreError: onnxruntime cannot run the model with these arrays.
    """
    given = runtime.checked(model.structure, data, rows=True)
    proto = model.proto
    wanted = {name: pairs for name, pairs in worth_watching(model).items() if _local(model, proto, name)}
    names = {name: _local(model, proto, name) for name in wanted}
    shown = {value.name for value in proto.graph.output}
    proto.graph.output.extend(ValueInfoProto(name=name) for name in dict.fromkeys(names.values()) if name not in shown)
    runner = runtime.session(proto)
    found = {name: ActivationStatistics.empty(model[name].nout, pairs=pairs) for name, pairs in wanted.items()}
    chunks = list(_chunks(model, given))
    with show_progress("gathering statistics", len(chunks), show=progress) as advance:
        for chunk in chunks:
            values = runtime.run(runner, chunk)
            for name, statistics in found.items():
                tensor = model.tensor(name)
                found[name] = statistics.seen(by_neuron(values[names[name]], tensor))
            advance()
    model.observers.update(
        {name: replace(observed(model[name]), statistics=statistics) for name, statistics in found.items()}
    )


def _local(model: OnnxModel, proto: ModelProto, name: str) -> str:
    """The value of a vertex in the main graph; empty for what is inside a body."""
    vertex = model.graph.vertex(name)
    while "value" not in vertex.attributes and vertex.inputs:
        vertex = model.graph.vertex(vertex.inputs[0].vertex)
    value = str(vertex.attributes.get("value", vertex.attributes.get("name")))
    outside = {output for node in proto.graph.node for output in node.output} | {one.name for one in proto.graph.input}
    return value if value in outside else ""


def _chunks(model: OnnxModel, given: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """The data in parts that the model takes."""
    shapes = {name: model.structure.declared[name] for name in given}
    batches = {shape[0] for shape in shapes.values() if shape}
    samples = {len(array) for name, array in given.items() if shapes[name]}
    if len(batches) != 1 or len(samples) != 1 or any(not shape for shape in shapes.values()):
        yield dict(given)
        return
    (size,), (total,) = batches, samples
    step = _CHUNK if size is None else size
    for start in range(0, total - (total % step if size is not None else 0), step):
        yield {name: array[start : start + step] for name, array in given.items()}
