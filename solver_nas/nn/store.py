"""How a network is kept in a file.

A file in the safetensors format (https://github.com/huggingface/safetensors): a header of JSON, then plain
arrays. Nothing in it is executed. Its metadata are

    format     "solver_nas.network"
    version    "1"
    structure  JSON: what `solver_nas.nn.document` describes, and under "tensors" what each tensor is as an array
    checksum   SHA-256, in hexadecimal digits, of the structure and then of the tensors' bytes in the order in
               which "tensors" has them

Whoever changes what a document holds, or renames a kind of layer or one of its attributes, has to go on reading
the files of old: `tests/data` keeps one of each version.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as as_bytes

from solver_nas.errors import StoreError
from solver_nas.files import replace_file
from solver_nas.nn.document import describe, restore
from solver_nas.nn.packing import Shelf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from solver_nas.frontend import Array
    from solver_nas.nn.network import Network

FORMAT = "solver_nas.network"
VERSION = 1

_DAMAGED = "the file is damaged or was changed; take another copy, or save the network again"
_LONGEST_HEADER = 100_000_000  # bytes; readers of the format refuse longer ones


def save(net: Network, path: str | os.PathLike[str]) -> None:
    """Write a network to a file, from which `load` makes one that computes bit for bit the same.

    The file holds structure, arrays, statistics of activations, and the state of the random numbers, but not
    what `undo` would take back. Nothing in it is code: functions of yours (in `absorb`, `invariant`, `stack`,
    `immutable`) are written by the name that `register` gave them.

    A file that is there is replaced in one go: if anything fails, Ctrl-C and a full disk included, it is what it
    was.

    Args:
        net: stays as it is.
        path: the file's, by custom with the suffix `.safetensors`.

    Raises:
        StoreError: a function without a name, or a value that no file can hold; the message says where.
        OSError: the file cannot be written.

    >>> import tempfile
    >>> from solver_nas import Network, nn
    >>> net = Network()
    >>> net.output(nn.dense(net.input("in", 2), 3, name="out"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(net, folder + "/net.safetensors")
    ...     twin = load(folder + "/net.safetensors")
    >>> twin["out"]
    <out: dense 2 -> 3>
    """
    try:
        data = _packed(net)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # anything may be among the attributes and arrays
        raise StoreError(f"the network cannot be saved to {os.fspath(path)!r}: {error}") from error
    replace_file(path, data)


def load(path: str | os.PathLike[str]) -> Network:
    """The network that was saved in a file.

    Everything is checked before there is a network. What the network was made with has to be there: functions
    of yours under their names (`register`), operations of your own with their rules.

    Args:
        path: the file's.

    Raises:
        StoreError: the file is damaged, of another format or of a newer version, or needs a function or an
            operation that is not registered; the message says which.
        OSError: the file cannot be read.
    """
    # What is wrong with the path is told by Python, in its usual classes.
    with Path(path).open("rb"):
        pass
    what = f"no network can be loaded from {os.fspath(path)!r}"
    try:
        return restore(*_unpacked(path))
    except StoreError as error:
        raise StoreError(f"{what}: {error}") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a structure made by hand may be anything
        raise StoreError(
            f"{what}: its structure is not that of version {VERSION} ({type(error).__name__}: {error}); {_DAMAGED}"
        ) from error


def _packed(net: Network) -> bytes:
    document, tensors = describe(net)
    shelves = {name: Shelf.of(array) for name, array in tensors.items()}
    document["tensors"] = {name: shelf.written() for name, shelf in shelves.items()}
    structure = json.dumps(document, allow_nan=False, separators=(",", ":"))
    # Nothing is written that could not be read. The views keep the network's arrays as they are.
    restore(json.loads(structure), {name: array.view() for name, array in tensors.items()})
    packed = {name: shelf.pack(tensors[name]) for name, shelf in shelves.items()}
    checksum = _checksum(structure, packed)
    metadata = {"format": FORMAT, "version": str(VERSION), "structure": structure, "checksum": checksum}
    data = as_bytes(packed, metadata)
    if int.from_bytes(data[:8], "little") > _LONGEST_HEADER:
        raise StoreError(f"its structure takes more than {_LONGEST_HEADER:,} bytes; keep long tables in arrays")
    return data


def _unpacked(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """The structure and the arrays of a file, checked against each other."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            structure = _structure(metadata)
            document = _parsed(structure)
            shelves = {name: Shelf.read(node) for name, node in document["tensors"].items()}
            _compare(shelves, {name: file.get_slice(name) for name in file.keys()})  # noqa: SIM118 - not a mapping
            packed = {name: file.get_tensor(name) for name in shelves}
    except SafetensorError as error:
        raise StoreError(f"it is not a whole safetensors file ({error}); {_DAMAGED}") from error
    if _checksum(structure, packed) != metadata.get("checksum"):
        raise StoreError(f"its checksum does not fit its content; {_DAMAGED}")
    return document, {name: shelf.unpack(packed[name]) for name, shelf in shelves.items()}


def _structure(metadata: Mapping[str, str]) -> str:
    if metadata.get("format") != FORMAT:
        raise StoreError("it is a safetensors file of another kind; only files made by `save` hold a network")
    version = metadata.get("version", "")
    if not (version.isascii() and version.isdigit()):
        raise StoreError(f"its version is {version!r}, which is no number; {_DAMAGED}")
    if version != str(VERSION):
        # Compared by length first: Python refuses to convert very long numbers.
        if (len(version), version) > (len(str(VERSION)), str(VERSION)):
            raise StoreError(
                f"it was made by a newer version of solver_nas (its format is {version[:20]}, this one reads up to "
                f"{VERSION}); update solver_nas"
            )
        raise StoreError(f"its version is {version}, the first one is 1; {_DAMAGED}")
    if "structure" not in metadata:
        raise StoreError(f"its structure is missing; {_DAMAGED}")
    return metadata["structure"]


def _parsed(structure: str) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    try:
        document = json.loads(structure, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"its structure is not JSON ({error}); {_DAMAGED}") from error
    if not isinstance(document, dict) or not isinstance(document.get("tensors"), dict):
        raise StoreError(f"its structure does not say which tensors there are; {_DAMAGED}")
    return document


def _compare(shelves: Mapping[str, Shelf], found: Mapping[str, Any]) -> None:
    """Before anything is read: are the tensors of the file those that its structure names?"""
    if missing := sorted(shelves.keys() - found.keys()):
        raise StoreError(f"the tensors {missing} are missing; {_DAMAGED}")
    if extra := sorted(found.keys() - shelves.keys()):
        raise StoreError(f"the tensors {extra} are not in its structure; {_DAMAGED}")
    for name, shelf in shelves.items():
        code, shape = found[name].get_dtype(), tuple(found[name].get_shape())
        if (code, shape) != (shelf.code, shelf.stored_shape):
            raise StoreError(
                f"tensor {name!r} is {code} of shape {shape}, "
                f"its structure says {shelf.code} of shape {shelf.stored_shape}; {_DAMAGED}"
            )


def _checksum(structure: str, packed: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(structure.encode())
    for array in packed.values():
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
