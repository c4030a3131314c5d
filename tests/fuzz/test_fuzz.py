"""A bounded number of cases of every reader; ``make fuzz`` runs many more."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeconv.core.errors import InvalidModel
from edgeconv.core.sniff import require_checksums
from tests.fuzz.cases import found_before, judge, run, run_again
from tests.fuzz.readers import CORPUS, READERS, ROOT

_CASES = {"pt2": 12, "torchscript": 20, "onnx": 60, "saved_model": 60}
_MOST = 150


@pytest.mark.parametrize("name", READERS)
def test_changed_inputs_are_read_or_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = run(name, _CASES.get(name, _MOST))
    assert found.bad == 0, found.unforeseen[:5]
    assert found.cases >= _CASES.get(name, _MOST)
    # Of a compiler's log, lines that are not known are passed over.
    assert found.counts["refused"] > 0 or name == "compiler_log"


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if not reader.native])
def test_sound_inputs_are_read(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    path = tmp_path / f"sound{reader.suffix}"
    outcomes = []
    for content in reader.seeds():
        path.write_bytes(content)
        outcomes.append(judge(reader, path)[0])
    assert "unforeseen" not in outcomes
    assert "read" in outcomes or name in ("board",)


@pytest.mark.parametrize("name", [name for name in READERS if found_before(READERS[name])])
def test_what_was_found_before_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    outcomes = run_again(name)
    assert len(outcomes) == len(found_before(READERS[name]))
    assert {kind for kind, _ in outcomes.values()} <= {"read", "refused"}, outcomes


def test_an_archive_that_ends_within_a_member_is_refused() -> None:
    with pytest.raises(InvalidModel, match="corrupt"):
        require_checksums(CORPUS / "pt2-ends-within-a-member")
