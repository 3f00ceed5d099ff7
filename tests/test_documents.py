"""README.md and docs/ keep their word: Python blocks run, top to bottom, one namespace a file.

A file is one test rather than one per block, since tests run in random order.
"""

import re
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from pathlib import Path

import pytest
from sybil import Document, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

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
    kinds = {region.lexemes["kind"] for region in ANY_BLOCK(Document.parse(str(document)))}
    assert kinds <= {"python"} | NOT_RUN, "Python blocks open with ```python and nothing more"
