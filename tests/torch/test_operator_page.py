"""The page about operators says what the registry says."""

from __future__ import annotations

import re
from pathlib import Path

from solver_nas.torch import operators

PAGE = Path(__file__).parents[2] / "docs" / "torch-operators.md"


def test_the_table_of_operators_is_that_of_the_registry() -> None:
    rows = re.findall(r"^\| `([\w:]+)` \| (.+) \| (yes|no) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    # Documents and tests register operators of their own.
    known = {name: one for name, one in operators().items() if name.split("::")[0] in {name, "torchvision"}}
    assert rows == [(name, one.note, "yes" if one.exact else "no") for name, one in known.items()]
