"""Where a model comes from: bytes, a file or a proto, read without trusting it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from solver_nas.errors import StoreError
from solver_nas.onnx import tensors
from solver_nas.onnx.flatten import bodies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from onnx import GraphProto, NodeProto

LARGEST_FILE = 2**31 - 1  # bytes that a protobuf message can have; larger models keep tensors in files beside it
DEEPEST = 32  # bodies within bodies


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """A model as it was read; never changed.

    Args:
        proto: with local functions replaced by what they do.
        whole: as it was.
        name: for messages.
        beside: files that hold tensors of it.
    """

    proto: ModelProto
    whole: ModelProto
    name: str
    beside: tuple[Path, ...]


def open_model(source: str | os.PathLike[str] | bytes | ModelProto) -> Origin:
    """Read a model and check that it is one.

    Raises:
        StoreError: it is no model, or damaged, or asks for files that it may not have.
        OSError: there is no such file.
    """
    if isinstance(source, ModelProto):
        proto, folder, name = ModelProto(), None, "the model"
        proto.CopyFrom(source)
    elif isinstance(source, bytes | bytearray | memoryview):
        proto, folder, name = _parsed(bytes(source), "these bytes"), None, "the model"
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        size = path.stat().st_size
        if not path.is_file():
            raise StoreError(f"{str(path)!r} is no file")
        if size > LARGEST_FILE:
            raise StoreError(
                f"{str(path)!r} is no ONNX file: it has {size:,} bytes, at most {LARGEST_FILE:,} are possible"
            )
        proto, folder, name = _parsed(path.read_bytes(), repr(str(path))), path.absolute().parent, repr(str(path))
    else:
        raise StoreError(f"a model is a path, bytes or an onnx.ModelProto, got {type(source).__name__}")
    beside = _check(proto, folder, name)
    whole = proto
    if proto.functions:
        proto = _inlined(proto, name)
    return Origin(proto, whole, name, beside)


def _parsed(data: bytes, name: str) -> ModelProto:
    try:
        return ModelProto.FromString(data)
    except (DecodeError, RecursionError, ValueError) as error:
        raise StoreError(f"{name}: this is no ONNX model, or only a part of one: {error}") from error


def _check(proto: ModelProto, folder: Path | None, name: str) -> tuple[Path, ...]:
    """Refuse what is no model; read tensors in files beside it, and return these files."""
    if not proto.HasField("graph") or not proto.graph.output:
        raise StoreError(f"{name}: this is no ONNX model: it has no graph that returns anything")
    # Before the checker follows them anywhere.
    beside = {
        tensors.place_of(tensor, folder, tensor.name)
        for tensor in _every_tensor(proto)
        if tensor.data_location == TensorProto.EXTERNAL
    }
    for tensor in _every_tensor(proto):
        if tensor.data_location == TensorProto.EXTERNAL:
            tensors.gather(tensor, folder)
    try:
        if size_of(proto) <= LARGEST_FILE:
            onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError, RuntimeError, MemoryError, UnicodeDecodeError) as error:
        text = str(error).strip().splitlines()
        raise StoreError(f"{name}: ONNX's checker refuses it: {text[0] if text else error}") from error
    return tuple(sorted(beside))


def _every_tensor(proto: ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a model, those in local functions included."""
    yield from all_tensors(proto.graph)
    for function in proto.functions:
        yield from _of_nodes(function.node, 0)


def all_tensors(graph: GraphProto, depth: int = 0) -> Iterator[TensorProto]:
    """Every tensor of a graph and of the bodies in it."""
    if depth > DEEPEST:
        raise StoreError(f"bodies are nested more than {DEEPEST} deep; the file is damaged")
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node, depth)


def _of_nodes(nodes: Iterable[NodeProto], depth: int) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in [
                *attribute.sparse_tensors,
                *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
            ]:
                yield from (sparse.values, sparse.indices)
        for _, body in bodies(node):
            yield from all_tensors(body, depth + 1)


def size_of(proto: ModelProto) -> int:
    """Bytes of a model, nearly; unlike the size of its message, it may be above 2 GB."""
    return sum(len(tensor.raw_data) for tensor in all_tensors(proto.graph)) or proto.ByteSize()


def _inlined(proto: ModelProto, name: str) -> ModelProto:
    """The same model with local functions replaced by what they do."""
    from onnx import inliner

    try:
        return inliner.inline_local_functions(proto)
    except Exception as error:  # whatever the library finds wrong
        raise StoreError(f"{name}: its local functions cannot be replaced by what they do: {error}") from error
