"""Damaged files: a sample of what `python -m tests.benchmarks.onnx_fuzz` tries by thousands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.onnx_fuzz import attempt, mutant


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("first", range(0, 140, 14))
def test_only_clear_errors(first: int, tmp_path: Path) -> None:
    endings = [attempt(mutant(number)[1], tmp_path) for number in range(first, first + 14)]
    assert all(ending.isidentifier() for ending in endings)
    # Some damage is harmless, most is not.
    assert "StoreError" in endings
