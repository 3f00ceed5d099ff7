"""README.md and docs/ keep their word: Python blocks run, top to bottom, one namespace a file.

A file is one test rather than one per block, since tests run in random order.
"""

import re
import runpy
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from pathlib import Path

import pytest
from sybil import Document, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from solver_nas.rules import kinds
from tests.torch.torchvision_ready import make_ready

make_ready()  # for transformers, which a page imports

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_RUN = {"bash", "text"}
SYBIL = Sybil([PythonCodeBlockParser(doctest_optionflags=ELLIPSIS | NORMALIZE_WHITESPACE)])
ANY_BLOCK = RawFencedCodeBlockLexer(re.compile(r"(?P<kind>.*)$\n", re.MULTILINE))

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])


@each_document
def test_python_blocks_run(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for example in SYBIL.parse(document).examples():
        example.evaluate()


@each_document
def test_no_block_is_overlooked(document: Path) -> None:
    found = {region.lexemes["kind"] for region in ANY_BLOCK(Document.parse(str(document)))}
    assert found <= {"python"} | NOT_RUN, "Python blocks open with ```python and nothing more"


@each_document
def test_files_that_are_linked_to_are_there(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).is_file()] == []


def test_every_kind_of_layer_is_in_the_table() -> None:
    import solver_nas.nn  # noqa: F401 - registers the kinds

    text = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
    signs = {sign + constant for sign in ("add", "subtract", "multiply", "divide") for constant in ("", "_constant")}
    own = {kind for kind in kinds() if "." not in kind} - {"input", "bridge"} - signs | {"add", "multiply"}
    assert {kind for kind in own if f"`{kind}`" not in text} == set()


def test_the_table_of_onnx_operators_is_that_of_the_registry() -> None:
    from solver_nas.onnx import operators

    text = (ROOT / "docs" / "onnx-operators.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (yes|no) \|$", text, re.MULTILINE)
    # Those with a lower case letter in front are no operators but what enters the bodies of loops; documents register
    # an operator of another domain.
    known = {name: one for name, one in operators().items() if name[0].isupper() and "::" not in name}
    assert rows == [(name, one.note, "yes" if one.exact else "no") for name, one in known.items()]


@pytest.mark.parametrize("name", ["flow", "measured", "structure", "trade_off"])
def test_the_figures_can_be_drawn(name: str, tmp_path: Path) -> None:
    script = runpy.run_path(str(ROOT / "docs" / "examples" / f"figure_{name}.py"))
    script["main"](tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").stat().st_size > 10_000
