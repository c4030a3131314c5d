from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeconv.core.errors import UsageError
from edgeconv.core.user_code import import_function, is_reference


def test_a_function_is_named_by_its_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "some where"
    folder.mkdir()
    (folder / "beside_it_39.py").write_text("ANSWER = 42\n")
    (folder / "net_39.py").write_text(
        "import beside_it_39\ndef make():\n    return beside_it_39.ANSWER\n"
    )
    reference = f"{folder}/net_39.py:make"
    assert is_reference(reference)
    assert import_function(reference, "factory")() == 42
    assert import_function(reference, "factory") is import_function(reference, "factory")
    with pytest.raises(UsageError, match="has no 'nothing'"):
        import_function(f"{folder}/net_39.py:nothing", "factory")
    with pytest.raises(UsageError, match="cannot import"):
        import_function(f"{folder}/absent_39.py:make", "factory")
    assert "absent_39" not in sys.modules
