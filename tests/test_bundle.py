from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeconv.core import bundle
from edgeconv.core.arrays import write_npz
from edgeconv.core.artifacts import Artifact, Format, Quantization, TensorSpec
from edgeconv.core.bundle import BundleWriter, open_bundle
from edgeconv.core.errors import InvalidModel, UsageError


def fill(directory: Path, *, status: str = "complete", content: str = "model") -> dict[str, Any]:
    """Write a small bundle's files and return its manifest."""
    saved = directory / "m_saved_model"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_text(content)
    (saved / "variables" / "v").write_text("v")
    spec = TensorSpec("x", (1, 4, 4, 3), "int8", (0, 2, 3, 1), Quantization(0.5, -3))
    artifact = Artifact(Format.SAVED_MODEL, saved, (spec,), (spec,))
    vectors = bundle.vectors_of({"x": np.zeros((2, 1, 3, 4, 4))}, {"input/y": np.ones((2, 1))})
    write_npz(directory / bundle.VECTORS, vectors)
    return {
        "schema_version": bundle.SCHEMA_VERSION,
        "status": status,
        "failure": {"stage": "tflite_int8"} if status == "failed" else None,
        "stages": [{"name": "saved_model", **bundle.describe_artifact(artifact, directory)}],
        "files": [bundle.describe_file(directory / bundle.VECTORS, directory)],
    }


def make(target: Path, *, force: bool = False, **options: str) -> bool:
    with BundleWriter(target, force=force) as writer:
        return writer.finish(fill(writer.directory, **options))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def content(target: Path) -> str:
    return (target / "m_saved_model" / "saved_model.pb").read_text()


def test_a_finished_bundle_opens_with_everything_in_it(tmp_path: Path) -> None:
    assert make(tmp_path / "new" / "deep" / "m.edgeconv")
    found = open_bundle(tmp_path / "new" / "deep" / "m.edgeconv")
    artifact = found.artifacts["saved_model"]
    assert artifact.path.is_dir()
    assert artifact.inputs[0].quantization == Quantization(0.5, -3)
    inputs, outputs = found.vectors()
    assert (list(inputs), list(outputs)) == (["x"], ["input/y"])
    assert names(tmp_path / "new" / "deep") == ["m.edgeconv"]


def test_a_bundle_has_the_permissions_of_any_new_directory(tmp_path: Path) -> None:
    make(tmp_path / "m")
    (tmp_path / "plain").mkdir()
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "plain").stat().st_mode
    )


def test_leaving_without_finish_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), BundleWriter(tmp_path / "new" / "m") as writer:
        fill(writer.directory)
        raise RuntimeError
    assert names(tmp_path) == []


def test_an_existing_bundle_needs_force(tmp_path: Path) -> None:
    make(tmp_path / "m", content="old")
    with pytest.raises(UsageError, match="force=True"):
        make(tmp_path / "m")
    assert content(tmp_path / "m") == "old"
    assert make(tmp_path / "m", force=True, content="new")
    assert content(tmp_path / "m") == "new"
    assert names(tmp_path) == ["m"]


def test_the_old_bundle_survives_a_run_that_fails(tmp_path: Path) -> None:
    make(tmp_path / "m", content="old")
    with pytest.raises(RuntimeError), BundleWriter(tmp_path / "m", force=True):
        raise RuntimeError
    assert not make(tmp_path / "m", force=True, status="failed")
    assert content(tmp_path / "m") == "old"
    assert names(tmp_path) == ["m"]


def test_a_failed_bundle_is_opened_on_demand_only_and_replaced_freely(tmp_path: Path) -> None:
    assert make(tmp_path / "m", status="failed")
    with pytest.raises(InvalidModel, match="failed at tflite_int8"):
        open_bundle(tmp_path / "m")
    assert not open_bundle(tmp_path / "m", allow_failed=True).complete
    assert make(tmp_path / "m")
    assert open_bundle(tmp_path / "m").complete


def test_only_bundles_are_overwritten(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.txt").write_text("precious")
    (tmp_path / "d" / "manifest.json").write_text('{"name": "somebody else\'s"}')
    (tmp_path / "f").write_text("precious")
    for name in "df":
        with pytest.raises(UsageError):
            make(tmp_path / name, force=True)
    assert (tmp_path / "d" / "thesis.txt").exists()
    assert names(tmp_path) == ["d", "f"]


def test_an_empty_directory_is_used(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    assert make(tmp_path / "m")
    assert names(tmp_path) == ["m"]


def test_a_link_to_a_bundle_stays_a_link(tmp_path: Path) -> None:
    make(tmp_path / "real", content="old")
    (tmp_path / "link").symlink_to("real")
    make(tmp_path / "link", force=True, content="new")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real") == "new"


@pytest.mark.parametrize("target", ["file/m", "/proc/m", "/proc/new/m"])
def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write the output directory"):
        make(tmp_path / target)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: object) -> None:
        path.write_text("{")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(bundle, "write_json", full)
    with pytest.raises(UsageError, match="the disk is full"):
        make(tmp_path / "m")
    assert names(tmp_path) == []


def test_somebody_elses_files_in_the_meantime_are_not_lost(tmp_path: Path) -> None:
    with pytest.raises(UsageError), BundleWriter(tmp_path / "m") as writer:
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "precious").write_text("")
        writer.finish(fill(writer.directory))
    assert names(tmp_path) == ["m"]
    assert names(tmp_path / "m") == ["precious"]


def test_what_a_killed_run_left_is_removed_and_a_living_one_is_not(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from edgeconv.core.bundle import BundleWriter\n"
        "w = BundleWriter(Path(sys.argv[1])).__enter__()\n"
        "(w.directory / 'manifest.json').write_text('{}'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "m")], check=False)
    (stale,) = tmp_path.iterdir()
    with pytest.raises(InvalidModel):
        open_bundle(stale)
    with BundleWriter(tmp_path / "m") as living:
        assert not stale.exists()
        make(tmp_path / "m", content="second")
        assert living.directory.exists()
    assert content(tmp_path / "m") == "second"
    assert names(tmp_path) == ["m"]


def test_a_file_system_without_locks_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / ".m.partial-1").mkdir()
    monkeypatch.setattr("fcntl.flock", unsupported)
    assert make(tmp_path / "m")
    assert names(tmp_path) == [".m.partial-1", "m"]


def test_a_bundle_that_a_killed_run_had_set_aside_comes_back(tmp_path: Path) -> None:
    make(tmp_path / "m", content="old")
    (tmp_path / "m").rename(tmp_path / ".m.replaced-00")
    with pytest.raises(UsageError, match="exists already"):
        make(tmp_path / "m")
    assert content(tmp_path / "m") == "old"


def damage_file(target: Path) -> None:
    (target / "m_saved_model" / "variables" / "v").write_text("w")


def remove_file(target: Path) -> None:
    (target / bundle.VECTORS).unlink()


def add_file(target: Path) -> None:
    (target / "m_saved_model" / "extra").write_text("")


def truncate_manifest(target: Path) -> None:
    path = target / bundle.MANIFEST
    path.write_text(path.read_text()[:100])


def remove_manifest(target: Path) -> None:
    (target / bundle.MANIFEST).unlink()


def point_outside(target: Path) -> None:
    (target.parent / "outside").write_text("x")
    edit(target, lambda m: m["files"].append({"file": "../outside", "sha256": "", "bytes": 1}))


def tail_outside(target: Path) -> None:
    """Two levels down."""
    outside = target.parent / "outside"
    outside.write_text("x")
    evil = {**bundle.describe_file(outside, target.parent), "file": "../outside"}

    def change(manifest: Any) -> None:
        inner = {**manifest["stages"][0], "tail": evil}
        manifest["stages"][0]["tail"] = inner
        del manifest["artifacts_sha256"]

    edit(target, change)


def link_outside(target: Path) -> None:
    """The digest is right, and the file is somebody else's."""
    vectors = target / bundle.VECTORS
    vectors.rename(target.parent / "elsewhere")
    vectors.symlink_to("../elsewhere")


def linked_folder(target: Path) -> None:
    """What the walk over a directory does not enter."""
    saved = target / "m_saved_model"
    (target.parent / "assets").mkdir()
    (saved / "assets").symlink_to(target.parent / "assets")


def absolute(target: Path) -> None:
    name = str(target / bundle.VECTORS)
    edit(target, lambda m: m["files"][0].update(file=name))


def with_backslashes(target: Path) -> None:
    (target / "..\\x").write_text("")
    edit(target, lambda m: m["files"].append(bundle.describe_file(target / "..\\x", target)))


def without_end(target: Path) -> None:
    path = target / bundle.MANIFEST
    path.write_text('{"stages":' + "[" * 100_000)


def another_list(target: Path) -> None:
    edit(target, lambda m: m.update(stages=[]))


def newer_schema(target: Path) -> None:
    edit(target, lambda m: m.update(schema_version=2))


def odd_stages(target: Path) -> None:
    edit(target, lambda m: m.update(stages=[{"file": "vectors.npz"}]))


def edit(target: Path, change: Any) -> None:
    manifest = json.loads((target / bundle.MANIFEST).read_text())
    change(manifest)
    (target / bundle.MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "damage",
    [
        damage_file,
        remove_file,
        add_file,
        truncate_manifest,
        remove_manifest,
        point_outside,
        tail_outside,
        link_outside,
        linked_folder,
        absolute,
        with_backslashes,
        without_end,
        another_list,
        newer_schema,
        odd_stages,
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(tmp_path: Path, damage: Any) -> None:
    make(tmp_path / "m")
    damage(tmp_path / "m")
    with pytest.raises(InvalidModel):
        open_bundle(tmp_path / "m")


@pytest.mark.parametrize("damage", [tail_outside, link_outside, linked_folder, with_backslashes])
def test_what_leads_out_of_a_bundle_is_named(tmp_path: Path, damage: Any) -> None:
    make(tmp_path / "m")
    damage(tmp_path / "m")
    with pytest.raises(InvalidModel, match="names a file outside of itself"):
        open_bundle(tmp_path / "m")


def test_bundles_of_before_have_no_digest_and_open(tmp_path: Path) -> None:
    make(tmp_path / "m")
    edit(tmp_path / "m", lambda m: m.pop("artifacts_sha256"))
    assert open_bundle(tmp_path / "m").complete


def test_the_digest_of_all_artifacts_is_that_of_sha256sum(tmp_path: Path) -> None:
    make(tmp_path / "m")
    manifest = open_bundle(tmp_path / "m").manifest
    line = f"{manifest['stages'][0]['sha256']}  m_saved_model\n"
    assert manifest["artifacts_sha256"] == hashlib.sha256(line.encode()).hexdigest()


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="no such directory"):
        open_bundle(tmp_path / "m")


def test_a_stage_that_a_bundle_lacks_is_named_with_those_it_has(tmp_path: Path) -> None:
    assert make(tmp_path / "m.edgeconv")
    found = open_bundle(tmp_path / "m.edgeconv")
    assert found.artifact("saved_model").format is Format.SAVED_MODEL
    with pytest.raises(UsageError, match="no stage onnx") as caught:
        found.artifact("onnx")
    assert "saved_model" in caught.value.why
