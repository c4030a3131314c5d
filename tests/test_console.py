from __future__ import annotations

import logging

import pytest

from edgeconv.commands.console import Display

LOG = logging.getLogger("edgeconv.somewhere")


def talk(*, quiet: bool = False, verbose: bool = False) -> None:
    before = (logging.getLogger("edgeconv").level, logging.getLogger("edgeconv").handlers[:])
    with Display(quiet=quiet, verbose=verbose) as display:
        display.started("step")
        display.advanced("step", 1, 2)
        LOG.debug("detail [red]")
        LOG.warning("careful")
        LOG.error("wrong")
        display.finished("step")
    assert (logging.getLogger("edgeconv").level, logging.getLogger("edgeconv").handlers) == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "warning: careful\nerror: wrong\n"),
        ({"quiet": True}, "error: wrong\n"),
        ({"verbose": True}, "debug: detail [red]\nwarning: careful\nerror: wrong\n"),
    ],
)
def test_logs_go_to_stderr_and_progress_to_terminals_only(
    options: dict[str, bool], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    talk(**options)
    assert capsys.readouterr() == ("", expected)


def test_a_terminal_sees_the_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    talk()
    out, err = capsys.readouterr()
    assert out == ""
    assert "step" in err
    talk(quiet=True)
    assert "step" not in capsys.readouterr().err
