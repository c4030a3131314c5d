"""Every kind of bad input: the message, the exit code, and that nothing is left half-written."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeconv.cli import run
from edgeconv.core.artifacts import Arrays
from edgeconv.toolchain.worker.pool import WorkerPool

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs a conversion that must end with exit code 2 and leave nothing; returns the message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(WorkerPool, "start", lambda *_: None)

    def check(*arguments: object, output: str = "new/out.edgeconv", code: int = 2) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert run(["torch2tflite", *map(str, arguments), "--output", output]) == code
        out, err = capfd.readouterr()
        assert out == ""
        assert "Traceback" not in err
        assert err.startswith(("error: ", "Usage: ")), err
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return check


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small network in every kind of file that PyTorch writes."""
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU()).eval()
    example = torch.zeros(1, 8)
    directory = tmp_path_factory.mktemp("saved")
    paths = {name: directory / name for name in ("m.pt2", "script.pt", "state.pt", "module.pt")}
    torch.export.save(torch.export.export(network, (example,)), paths["m.pt2"])
    torch.jit.save(torch.jit.trace(network, example), paths["script.pt"])
    torch.save(network.state_dict(), paths["state.pt"])
    torch.save(network, paths["module.pt"])
    return paths


def damaged(path: Path, directory: Path, how: str) -> Path:
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[: len(data) * 2 // 3]
    elif how == "corrupted":
        for position in range(len(data) // 3, len(data) // 3 + 200):
            data[position] ^= 0xA5
    else:
        data = bytearray()
    copy = directory / path.name
    copy.write_bytes(data)
    return copy


def test_a_missing_file(refused: Callable[..., str]) -> None:
    assert "nowhere.pt2" in refused("nowhere.pt2")


def test_no_model_at_all(refused: Callable[..., str]) -> None:
    assert "--model package.module:function" in refused()


def test_a_directory(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    assert "directory" in refused("d")


def test_something_that_is_no_model(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_text("This is not a model.\n" * 50)
    assert "model.pt2" in refused("model.pt2")


@pytest.mark.parametrize("name", ["m.pt2", "script.pt", "state.pt"])
@pytest.mark.parametrize("how", ["truncated", "corrupted", "emptied"])
def test_a_damaged_pytorch_file(
    refused: Callable[..., str], saved: dict[str, Path], tmp_path: Path, name: str, how: str
) -> None:
    path = damaged(saved[name], tmp_path, how)
    assert name in refused(path, "--input-shape", "1,8")


@pytest.mark.parametrize("how", ["truncated", "emptied"])
def test_a_damaged_onnx_file(
    refused: Callable[..., str], onnx_model: Path, tmp_path: Path, how: str
) -> None:
    assert "small.onnx" in refused(damaged(onnx_model, tmp_path, how))


class Malicious:
    """Unpickling it would create a file."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("hacked", "w")


def test_a_pickle_is_not_loaded_without_trust(
    refused: Callable[..., str], saved: dict[str, Path], tmp_path: Path
) -> None:
    message = refused(saved["module.pt"], "--input-shape", "1,8")
    assert "--trust-pickle" in message
    assert "code" in message
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Malicious()))
    assert "--trust-pickle" in refused("evil.pt", "--input-shape", "1,8")
    assert not (tmp_path / "hacked").exists()


def test_external_data_outside_the_models_directory(
    refused: Callable[..., str], onnx_model: Path, tmp_path: Path
) -> None:
    import onnx

    model = onnx.load(onnx_model)
    tensor = model.graph.initializer[1]
    (tmp_path / "secret.bin").write_bytes(tensor.raw_data)
    onnx.external_data_helper.set_external_data(tensor, location="../secret.bin")
    tensor.ClearField("raw_data")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "m.onnx").write_bytes(model.SerializeToString())
    assert "secret.bin" in refused("d/m.onnx")


@pytest.mark.parametrize("name", ["script.pt", "module.pt"])
def test_a_file_without_shapes_asks_for_them(
    refused: Callable[..., str], saved: dict[str, Path], name: str
) -> None:
    assert "--input-shape" in refused(saved[name], "--trust-pickle")


@pytest.mark.parametrize(
    "shape", ["1,9", "1,8,1,1", "other=1,8", "1,x", "1,0", "-1,8", "", "1,8=1,8"]
)
def test_wrong_shapes(refused: Callable[..., str], saved: dict[str, Path], shape: str) -> None:
    message = refused(saved["script.pt"], f"--input-shape={shape}")
    assert "shape" in message


def test_a_state_dict_asks_for_its_model(
    refused: Callable[..., str], saved: dict[str, Path]
) -> None:
    assert "--model" in refused(saved["state.pt"], "--input-shape=1,8")


@pytest.mark.parametrize(
    "factory", ["nowhere", "nowhere:f", "json:nothing", "json:dumps", "os:sep"]
)
def test_a_factory_that_is_none(refused: Callable[..., str], factory: str) -> None:
    assert "--model" in refused("--model", factory, "--input-shape=1,8")


GOOD: Arrays = {"image": np.zeros((4, 1, 3, 8, 8), np.float32)}
BAD_DATA: dict[str, tuple[Arrays, str]] = {
    "names": ({"picture": GOOD["image"]}, "image"),
    "shape": ({"image": GOOD["image"][..., :7]}, "8"),
    "rank": ({"image": GOOD["image"].reshape(-1)}, "image"),
    "layout": ({"image": np.moveaxis(GOOD["image"], 2, -1)}, "3"),
    "nan": ({"image": np.full_like(GOOD["image"], np.nan)}, "NaN"),
    "infinite": ({"image": np.full_like(GOOD["image"], np.inf)}, "inf"),
    "no samples": ({"image": GOOD["image"][:0]}, "sample"),
    "no arrays": ({}, "image"),
    "dtype": ({"image": np.full((4, 1, 3, 8, 8), "x")}, "image"),
    "objects": ({"image": np.array([{}], dtype=object)}, "Python objects"),
}


@pytest.mark.parametrize("option", ["--calibration-data", "--verify-data"])
@pytest.mark.parametrize("case", list(BAD_DATA))
def test_data_that_does_not_fit(
    refused: Callable[..., str], onnx_model: Path, tmp_path: Path, option: str, case: str
) -> None:
    arrays, words = BAD_DATA[case]
    np.savez(tmp_path / "data.npz", allow_pickle=True, **arrays)
    message = refused(onnx_model, "--quantize=int8", option, "data.npz")
    assert words in message
    assert "data.npz" in message


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"no array"])
def test_data_that_is_none(
    refused: Callable[..., str], onnx_model: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    (tmp_path / "images").mkdir()
    assert "data.npz" in refused(onnx_model, "--calibration-data=data.npz")
    assert "nowhere" in refused(onnx_model, "--calibration-data=nowhere")
    assert "images" in refused(onnx_model, "--calibration-data=images")


def test_an_output_that_cannot_be_written(
    refused: Callable[..., str], onnx_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(onnx_model, output="file/out")
    assert "cannot write" in refused(onnx_model, output="/proc/out")
    assert "not a directory" in refused(onnx_model, output="file", code=2)


def test_an_output_that_is_somebody_elses(
    refused: Callable[..., str], onnx_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1").write_text("")
    assert "is not a bundle" in refused(onnx_model, "--force", output="thesis")


def test_an_existing_bundle(refused: Callable[..., str], onnx_model: Path, tmp_path: Path) -> None:
    manifest = {"schema_version": 1, "status": "complete", "stages": []}
    (tmp_path / "b.edgeconv").mkdir()
    (tmp_path / "b.edgeconv" / "manifest.json").write_text(json.dumps(manifest))
    assert "--force" in refused(onnx_model, output="b.edgeconv")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--quantize=int3"],
        ["--io-dtype=int8"],
        ["--target=toaster"],
        ["--calibrator=guess"],
        ["--calibration-samples=0"],
        ["--parity-samples=-1"],
        ["--seed=-1"],
        ["--timeout=0"],
        ["--timeout=nan"],
        ["--gate=sqnr"],
        ["--gate=nowhere:sqnr_db=3"],
        ["--image-mean=a,b"],
        ["--no-such-option"],
        ["a", "second"],
    ],
)
def test_wrong_options(refused: Callable[..., str], onnx_model: Path, arguments: list[str]) -> None:
    message = refused(onnx_model, *arguments)
    assert arguments[0].partition("=")[0] in message or "second" in message


def test_errors_are_json_on_demand(
    onnx_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["torch2tflite", str(tmp_path / "no.onnx"), "--json"]) == 2
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert (found["error"], found["exit_code"]) == ("InvalidModel", 2)
    assert "no.onnx" in found["where"]
    assert err.startswith("error: ")


def test_an_unforeseen_error_is_one_line(
    onnx_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from edgeconv.pipeline import run as pipeline

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(pipeline, "load", fail)
    arguments = ["torch2tflite", str(onnx_model), "-o", str(tmp_path / "o")]
    assert run(arguments) == 3
    err = capfd.readouterr().err
    assert "RuntimeError: first" in err
    assert "second" not in err
    assert "--verbose" in err
    assert run([*arguments, "--verbose"]) == 3
    assert "Traceback" in capfd.readouterr().err
