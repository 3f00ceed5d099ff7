"""How a changed module is kept in a file: its tensors, and the attributes that say how large they are.

A file in the safetensors format (https://github.com/huggingface/safetensors): nothing in it is executed. Its metadata
are

    format      "solver_nas.module"
    version     "1"
    attributes  JSON: [path of the module, attributes and positions from there on, number] for every attribute from
                which the module's code reads a size
    shared      JSON: path -> path of the same tensor, for those that are shared
    factors     JSON: [path of the module, attribute, number] for every attribute that is a `float`: scales, rates. A
                module that is built with other arguments than the saved one often differs there
    checksum    SHA-256, in hexadecimal digits, of attributes, shared, factors, and the tensors, by name
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as as_bytes

from solver_nas.errors import RequestError, StoreError
from solver_nas.files import replace_file
from solver_nas.frontend import untraced
from solver_nas.torch.attributes import declared, sized
from solver_nas.torch.binding import held
from solver_nas.torch.shadow import shadow_of, whole_numbers, write
from solver_nas.torch.tensors import laid_out
from solver_nas.torch.trees import Attribute
from solver_nas.torch.unwrapping import unwrapped
from solver_nas.torch.writing import Writing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from solver_nas.torch.model import TorchModel

FORMAT = "solver_nas.module"
VERSION = "1"

_DAMAGED = "the file is damaged or was changed; take another copy, or save the module again"


class _Content(NamedTuple):
    tensors: dict[str, torch.Tensor]
    attributes: dict[Attribute, int]
    shared: dict[str, str]
    factors: dict[tuple[str, str], float]


def save(model: TorchModel, path: str | os.PathLike[str]) -> None:
    """Write what a module has become to a file, from which `load` makes the same of a freshly built one.

    The file holds tensors and sizes, and no code: the module's class has to be there when it is loaded. A file that
    is there is replaced in one go: if anything fails, Ctrl-C and a full disk included, it is what it was.

    Args:
        model: a traced module; stays as it is.
        path: the file's, by custom with the suffix `.safetensors`.

    Raises:
        GraphError: the model's changes are not written into a module.
        RequestError: this is no model of a module.
        OSError: the file cannot be written.
    """
    if isinstance(model, torch.nn.Module) or not hasattr(model, "structure"):
        raise RequestError(f"save takes what trace returns, got {untraced(model)}")
    module = model.module
    numbers = whole_numbers(module)
    read = {*_read(model), *sized(module)} & numbers.keys()
    keys = _keys(module)
    tensors = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in model.tensors.items()}
    attributes = json.dumps([[one.module, one.path, numbers[one]] for one in sorted(read, key=str)])
    shared = json.dumps({name: key for name, key in keys.items() if name != key}, sort_keys=True)
    factors = json.dumps([[*place, value] for place, value in sorted(_factors(module).items())])
    told = {"attributes": attributes, "shared": shared, "factors": factors}
    metadata = {"format": FORMAT, "version": VERSION, **told, "checksum": _checksum(told, tensors)}
    replace_file(path, as_bytes(tensors, metadata))


def load(module: torch.nn.Module, path: str | os.PathLike[str]) -> torch.nn.Module:
    """Make of a freshly built module what another one of its class was when it was saved.

    Parameters stay the same objects. All or nothing: if anything is wrong, the module is what it was.

    Args:
        module: of the same class, built with the same arguments; its sizes and tensors are replaced. Numbers of type
            `float` that its parts hold in attributes, such as scales, have to be those of the saved one.
        path: the file's.

    Returns:
        The module.

    Raises:
        StoreError: the file is damaged, of another format, or of another kind of module; the message says how.
        RequestError: this is no module.
        OSError: the file cannot be read.
    """
    if not isinstance(module, torch.nn.Module):
        raise RequestError(
            f"load takes a freshly built module and a file, in this order; got a {type(module).__name__}"
        )
    with Path(path).open("rb"):
        pass
    what = f"{os.fspath(path)!r} cannot be loaded into this {type(module).__name__}"
    module = unwrapped(module)
    try:
        content = _content(path)
        writing = _writing(module, content)
    except StoreError as error:
        raise StoreError(f"{what}: {error}") from error
    writing.carry_out()
    return module


def _read(model: TorchModel) -> Iterator[Attribute]:
    """The attributes that the code reads sizes from, or that have changed."""
    yield from model.structure.read
    yield from model.values


def _keys(module: torch.nn.Module) -> dict[str, str]:
    """Path of every parameter and buffer -> the first path of the same tensor."""
    first: dict[int, str] = {}
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


def _content(path: str | os.PathLike[str]) -> _Content:
    """What a file holds.

    Raises:
        StoreError: it is damaged, or another kind of file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise StoreError("it is a safetensors file of another kind; only files made by `save` hold a module")
            if metadata.get("version") != VERSION:
                raise StoreError(f"its version is {metadata.get('version')!r}, this is {VERSION}; update solver_nas")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise StoreError(f"it is not a whole safetensors file ({error}); {_DAMAGED}") from error
    told = {name: metadata.get(name, "") for name in ("attributes", "shared", "factors")}
    if _checksum(told, tensors) != metadata.get("checksum"):
        raise StoreError(f"its checksum does not fit its content; {_DAMAGED}")
    try:
        listed, factors = json.loads(told["attributes"]), json.loads(told["factors"])
        numbers = {Attribute(str(name), tuple(steps)): int(number) for name, steps, number in listed}
        known = {(str(name), str(attribute)): float(value) for name, attribute, value in factors}
        return _Content(tensors, numbers, dict(json.loads(told["shared"])), known)
    except (TypeError, ValueError) as error:
        raise StoreError(f"its attributes cannot be read ({error}); {_DAMAGED}") from error


def _factors(module: torch.nn.Module) -> dict[tuple[str, str], float]:
    """Every number of type `float` that a module or one of its parts holds."""
    return {
        (path, name): value
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if type(value) is float
    }


def _checksum(told: Mapping[str, str], tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256("\n".join(told.values()).encode())
    for name in sorted(tensors):
        digest.update(f"\n{name}\n".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _writing(module: torch.nn.Module, content: _Content) -> Writing:
    """The steps that make of a module what a file holds.

    Raises:
        StoreError: the file is of another kind of module.
    """
    keys, owners = _keys(module), held(module)
    if {name: key for name, key in keys.items() if name != key} != content.shared:
        raise StoreError("other parameters are shared; build the module as it was built when it was saved")
    own = {name for name, key in keys.items() if name == key}
    if own != content.tensors.keys():
        odd = sorted(own ^ content.tensors.keys())
        raise StoreError(f"{odd[0]!r} is in one of them only; build the module as it was built when it was saved")
    new = {}
    for key, tensor in content.tensors.items():
        owner = owners[key]
        if owner.dim() != tensor.dim() or owner.dtype != tensor.dtype:
            raise StoreError(
                f"{key!r} is {tensor.dtype} with {tensor.dim()} axes in the file and {owner.dtype} with {owner.dim()} "
                f"axes in the module; build the module as it was built when it was saved, or convert it (module.to)"
            )
        new[key] = laid_out(tensor.to(owner.device), owner)
    _compare_factors(content.factors, _factors(module))
    numbers = whole_numbers(module)
    if missing := content.attributes.keys() - numbers.keys():
        raise StoreError(f"the module has no {min(map(str, missing))}; build it as it was built when it was saved")
    changed = {attribute: value for attribute, value in content.attributes.items() if numbers[attribute] != value}
    shadow = shadow_of(module, {owners[key]: _like(owners[key], tensor) for key, tensor in new.items()})
    write(shadow, changed)
    if wrong := declared(shadow):
        raise StoreError(f"{min(map(str, wrong))} does not fit the tensors in the file; {_DAMAGED}")
    writing = Writing()
    for key, tensor in new.items():
        writing.tensor(owners[key], tensor, None)
    writing.attributes(module, changed, numbers)
    return writing


def _compare_factors(saved: Mapping[tuple[str, str], float], own: Mapping[tuple[str, str], float]) -> None:
    """Numbers that no change of sizes touches.

    Raises:
        StoreError: one of them is another one.
    """
    for place in sorted(saved.keys() & own.keys()):
        if saved[place] != own[place] and not (math.isnan(saved[place]) and math.isnan(own[place])):
            raise StoreError(
                f"{'.'.join(filter(None, place))} is {saved[place]} in the file and {own[place]} in the module; build "
                f"it with the arguments that the saved one was built with, or set it before"
            )


def _like(owner: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    learned = isinstance(owner, torch.nn.Parameter)
    return torch.nn.Parameter(tensor, requires_grad=owner.requires_grad) if learned else tensor
