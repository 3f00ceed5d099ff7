"""A bar appears where somebody can see it, and goes when the work ends."""

import sys

import pytest

from solver_nas import progress as module
from solver_nas.progress import progress


def run(**options: bool | None) -> None:
    with progress("counting", 3, **options) as advance:
        for _ in range(3):
            advance()


def test_nothing_is_shown_off_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.0)
    run()
    assert capsys.readouterr() == ("", "")


def test_nothing_is_shown_for_what_is_over_soon(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run()
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_shown_on_a_terminal_when_it_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(module, "_PATIENCE", -1.0)
    run()
    out, err = capsys.readouterr()
    assert out == ""
    assert "counting" in err


def test_never_means_never(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(module, "_PATIENCE", -1.0)
    run(show=False)
    assert capsys.readouterr() == ("", "")


def test_the_bar_is_gone_when_the_work_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with progress("counting", 3, show=True) as advance:
            advance()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    capsys.readouterr()
    run(show=False)
    assert capsys.readouterr().err == ""
