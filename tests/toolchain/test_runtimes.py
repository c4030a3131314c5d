from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeconv.core.arrays import read_npz, write_npz
from edgeconv.core.artifacts import Arrays, Artifact, Format, Quantization, TensorSpec
from edgeconv.core.errors import EdgeconvError, InvalidData, InvalidModel
from edgeconv.metrics import parity
from edgeconv.toolchain.runtimes import RUNTIMES
from edgeconv.toolchain.worker.pool import WorkerPool

SPECS = (TensorSpec.plain("a", (1, 3), "float32"), TensorSpec.plain("b", (1, 3), "float32"))
OUTPUTS = (
    TensorSpec.plain("sum", (1, 3), "float32"),
    TensorSpec.plain("a_less_b", (1, 3), "float32"),
)


@pytest.fixture(scope="session")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(timeout=120) as pool:
        yield pool


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[Format, Artifact]:
    """The same function of two inputs in every format."""
    import onnx
    import tensorflow as tf

    from edgeconv.convert.saved_model import to_tflite as saved_model_to_tflite

    directory = tmp_path_factory.mktemp("runtimes")
    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[1,3] a, float[1,3] b) => (float[1,3] sum, float[1,3] a_less_b) {
        sum = Add(a, b)  a_less_b = Sub(a, b) }"""
    onnx.save(onnx.parser.parse_model(text), directory / "m.onnx")
    module = tf.Module()
    module.serve = tf.function(
        lambda a, b: {"sum": a + b, "a_less_b": a - b},
        input_signature=[tf.TensorSpec([1, 3], tf.float32, name=name) for name in "ab"],
    )
    tf.saved_model.save(module, str(directory / "saved"), {"serving_default": module.serve})
    saved = Artifact(Format.SAVED_MODEL, directory / "saved", SPECS, OUTPUTS)
    converted = saved_model_to_tflite.convert(saved.to_dict(), str(directory / "m.tflite"))
    return {
        Format.ONNX: Artifact(Format.ONNX, directory / "m.onnx", SPECS, OUTPUTS),
        Format.SAVED_MODEL: saved,
        Format.TFLITE: Artifact.from_dict(converted),
    }


def run(pool: WorkerPool, artifact: Artifact, feeds: Arrays, directory: Path) -> Arrays:
    write_npz(directory / "feeds.npz", feeds)
    kind, function = RUNTIMES[artifact.format]
    seen: list[tuple[int, int]] = []
    answer = pool.call(
        kind,
        function,
        lambda *at: seen.append(at),
        artifact=artifact.to_dict(),
        feeds=str(directory / "feeds.npz"),
        results=str(directory / "results.npz"),
    )
    assert answer["runtime"].split()[0] in ("onnxruntime", "tensorflow", "ai-edge-litert")
    count = len(next(iter(feeds.values())))
    assert seen == [(index + 1, count) for index in range(count)]
    return read_npz(directory / "results.npz")


def samples(count: int = 4) -> Arrays:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(count, 1, 3)).astype(np.float32) for name in "ab"}


@pytest.mark.parametrize("form", list(RUNTIMES))
def test_samples_run_one_by_one(
    pool: WorkerPool, artifacts: dict[Format, Artifact], form: Format, tmp_path: Path
) -> None:
    feeds = samples()
    found = run(pool, artifacts[form], feeds, tmp_path)
    assert list(found) == ["sum", "a_less_b"]
    np.testing.assert_allclose(found["sum"], feeds["a"] + feeds["b"], rtol=1e-6)
    np.testing.assert_allclose(found["a_less_b"], feeds["a"] - feeds["b"], rtol=1e-6)


@pytest.mark.parametrize("form", list(RUNTIMES))
@pytest.mark.parametrize("change", ["order", "name", "dtype", "shape"])
def test_an_artifact_that_is_not_what_it_says_is_refused(
    pool: WorkerPool, artifacts: dict[Format, Artifact], form: Format, change: str, tmp_path: Path
) -> None:
    if (form, change) == (Format.SAVED_MODEL, "order"):
        pytest.skip("the tensors of a signature have no order")
    wrong = {
        "order": tuple(reversed(OUTPUTS)),
        "name": (replace(OUTPUTS[0], name="total"), OUTPUTS[1]),
        "dtype": (replace(OUTPUTS[0], dtype="float16"), OUTPUTS[1]),
        "shape": (replace(OUTPUTS[0], shape=(3, 1)), OUTPUTS[1]),
    }[change]
    artifact = replace(artifacts[form], outputs=wrong)
    with pytest.raises(InvalidModel, match="expected"):
        run(pool, artifact, samples(), tmp_path)


def test_quantization_must_be_what_the_artifact_says(
    pool: WorkerPool, artifacts: dict[Format, Artifact], tmp_path: Path
) -> None:
    outputs = (replace(OUTPUTS[0], quantization=Quantization(0.1, 0)), OUTPUTS[1])
    artifact = replace(artifacts[Format.TFLITE], outputs=outputs)
    with pytest.raises(InvalidModel, match="scale"):
        run(pool, artifact, samples(), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda feeds: {"a": feeds["a"]}, "named a"),
        (lambda feeds: {**feeds, "a": feeds["a"][:, 0]}, r"float32 \[3\]"),
        (lambda feeds: {**feeds, "a": feeds["a"].astype(np.float64)}, "float64"),
        (lambda feeds: {**feeds, "a": feeds["a"][:2]}, "equally many"),
        (lambda feeds: {name: array[:0] for name, array in feeds.items()}, "no samples"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    pool: WorkerPool,
    artifacts: dict[Format, Artifact],
    change: Callable[[Arrays], Arrays],
    message: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(InvalidData, match=message):
        run(pool, artifacts[Format.ONNX], change(samples()), tmp_path)


def test_a_damaged_tflite_file_is_an_error_and_not_the_end(
    pool: WorkerPool, artifacts: dict[Format, Artifact], tmp_path: Path
) -> None:
    whole = artifacts[Format.TFLITE]
    broken = replace(whole, path=tmp_path / "broken.tflite")
    broken.path.write_bytes(whole.path.read_bytes()[:100])
    with pytest.raises(EdgeconvError):
        run(pool, broken, samples(), tmp_path)
    assert run(pool, whole, samples(), tmp_path)


def test_parity_of_the_runtimes(
    pool: WorkerPool, artifacts: dict[Format, Artifact], tmp_path: Path
) -> None:
    onnx, saved, tflite = (run(pool, artifacts[form], samples(), tmp_path) for form in RUNTIMES)
    for candidate in (saved, tflite):
        for figures in parity.compare(onnx, candidate):
            assert figures.sqnr_db is not None
            assert figures.sqnr_db > 120
