"""Where layers come from, told without the paths of the machine that exported them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeconv.convert.onnx.origin import shown_path


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("/work/job/net.py", "net.py"),
        ("/work/job/models/net.py", "models/net.py"),
        ("/opt/env/lib/python3.11/site-packages/timm/layers/mlp.py", "timm/layers/mlp.py"),
        ("/usr/lib/python3/dist-packages/pkg/a.py", "pkg/a.py"),
        ("/tmp/holdout/src/blazeface/blazeface.py", "blazeface/blazeface.py"),
        ("/home/bob/net.py", "net.py"),
        ("/root/net.py", "net.py"),
        ("/tmp/net.py", "net.py"),
        ("/home/bob/detector/net.py", "detector/net.py"),
        ("C:\\Users\\bob\\detector\\net.py", "detector/net.py"),
        ("C:\\Users\\bob\\net.py", "net.py"),
        ("<eval_with_key>.1", "<eval_with_key>.1"),
        ("net.py", "net.py"),
    ],
)
def test_paths_are_told_from_the_package_or_the_working_directory(file: str, shown: str) -> None:
    assert shown_path(file, Path("/work/job")) == shown
