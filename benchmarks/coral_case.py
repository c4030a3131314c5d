"""One model of the Coral benchmark, before and after legalising, in a process of its own.

    python -m benchmarks.coral_case NAME DIRECTORY [REAL_MODELS]

writes ``DIRECTORY/outcome.json``.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgeconv.core.artifacts import Array, Arrays, Artifact

CALIBRATION = 16
EVALUATION = 8


def measure(name: str, directory: Path, real_models: Path | None) -> dict[str, Any]:
    """Convert, legalise, quantize and predict one model.

    Args:
        name: An architecture of the zoo, or a file of ``real_models`` without ``.pt2``.
        directory: An existing directory for the files.
        real_models: Where pretrained models are.

    Returns:
        ``before`` and ``after``, each with the prediction's figures and the least int8 SQNR in dB;
        ``float_sqnr_db`` of the legalised float model against the plain one; ``rewrites``.
    """
    from edgeconv.targets.coral.legalise.engine import legalise

    model, calibration, feeds = _load(name, real_models)
    reference = [model.run(feed) for feed in feeds]
    plain = _converted(model, directory)
    answer = legalise(plain.to_dict(), str(directory / "legal.tflite"), allow_approximate=True)
    legal = Artifact.from_dict(answer["artifact"])
    np.savez(directory / "calibration.npz", allow_pickle=False, **calibration)
    floats = _run(plain, feeds)
    outcome: dict[str, Any] = {
        "rewrites": {entry["name"]: len(entry["where"]) for entry in answer["applied"]},
        "approximate": [entry["name"] for entry in answer["applied"] if entry["error"]],
        "float_sqnr_db": _worst(floats, _run(legal, feeds)),
    }
    for label, artifact in (("before", plain), ("after", legal)):
        outcome[label] = _quantized(artifact, directory / f"{label}.tflite", feeds, reference)
    return outcome


def _load(name: str, real_models: Path | None) -> tuple[Any, Arrays, list[Arrays]]:
    """Return the model, its calibration samples, and inputs to evaluate on."""
    from benchmarks.architectures import TEN, find
    from edgeconv.convert.torch.load import load_model
    from edgeconv.convert.torch.model import TorchModel, from_module

    if name in TEN:
        architecture = find(name)
        model = from_module(architecture.build(), architecture.example(0), name)
        rows = [architecture.example(seed) for seed in range(1, 1 + CALIBRATION + EVALUATION)]
        samples = {
            spec.name: np.stack([row[i].numpy() for row in rows])
            for i, spec in enumerate(model.inputs)
        }
        calibration = {key: array[:CALIBRATION] for key, array in samples.items()}
        return model, calibration, _rows({k: array[CALIBRATION:] for k, array in samples.items()})
    assert real_models is not None
    model = cast(TorchModel, load_model(real_models / f"{name}.pt2"))
    data = []
    for kind in ("calib", "eval"):
        with np.load(real_models / f"{name}_{kind}.npz") as archive:
            data.append({spec.name: archive[f"in{i}"] for i, spec in enumerate(model.inputs)})
    return model, data[0], _rows(data[1])


def _rows(samples: Arrays) -> list[Arrays]:
    count = len(next(iter(samples.values())))
    return [{key: array[row] for key, array in samples.items()} for row in range(count)]


def _converted(model: Any, directory: Path) -> Artifact:
    """Return the float .tflite; one that an earlier run left in the directory is used again."""
    from edgeconv.convert.saved_model.to_tflite import convert
    from edgeconv.convert.saved_model.translate import translate
    from edgeconv.convert.torch.export import export

    record = directory / "float.json"
    if not record.exists():
        onnx = export(model, directory / "model.onnx")
        saved = translate(onnx.to_dict(), str(directory / "saved_model"))
        answer = convert(saved, str(directory / "model.tflite"))
        record.write_text(json.dumps(answer))
    return Artifact.from_dict(json.loads(record.read_text()))


def _quantized(
    artifact: Artifact, path: Path, feeds: list[Arrays], reference: list[Any]
) -> dict[str, Any]:
    from edgeconv.quantize.engine import quantize
    from edgeconv.targets.coral.target import Coral

    rules = [rule.to_dict() for rule in Coral().precision_rules]
    samples = str(path.parent / "calibration.npz")
    answer = quantize(artifact.to_dict(), str(path), "int8", "int8", samples, rules=rules)
    integer = Artifact.from_dict(answer)
    found = _run(integer, feeds)
    return {"int8_sqnr_db": _worst(reference, found), **_placement(path)}


def _run(artifact: Artifact, feeds: list[Arrays]) -> list[list[Array]]:
    """Return the outputs of each sample, as the source model has them."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(artifact.path), num_threads=1)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for feed in feeds:
        for detail, spec in zip(inputs, artifact.inputs, strict=True):
            interpreter.set_tensor(detail["index"], spec.store(feed[spec.name]))
        interpreter.invoke()
        found = (interpreter.get_tensor(detail["index"]) for detail in outputs)
        pairs = zip(artifact.outputs, found, strict=True)
        rows.append([spec.restore(array) for spec, array in pairs])
    return rows


def _placement(path: Path) -> dict[str, Any]:
    from edgeconv.targets.coral.placement.predict import predict

    prediction = predict(path)
    left = Counter((op.op, op.status) for op in prediction.ops if not op.mappable)
    refused = Counter((item.op, item.why) for item in prediction.objections)
    return {
        "ops": len(prediction.ops),
        "on_edgetpu": prediction.on_edgetpu,
        "macs_share": prediction.macs_share,
        "left": [[op, why, count] for (op, why), count in left.most_common()],
        "stranded": sum(op.placement == "cpu" and op.mappable for op in prediction.ops),
        "refused": [[op, why, count] for (op, why), count in refused.most_common()],
    }


def _worst(reference: list[Any], found: list[Any]) -> float | None:
    """Return the least SQNR in dB over the outputs, over all samples; ``None`` if all are equal."""
    ratios = []
    for expected, actual in zip(
        zip(*reference, strict=True), zip(*found, strict=True), strict=True
    ):
        signal = np.stack(expected).astype(np.float64)
        noise = float(np.square(signal - np.stack(actual)).sum())
        ratios.append(
            10 * np.log10(float(np.square(signal).sum()) / noise) if noise else float("inf")
        )
    worst = float(min(ratios))
    return None if worst == float("inf") else worst


def main() -> None:
    """Measure one model."""
    name, directory, *rest = sys.argv[1:]
    outcome = measure(name, Path(directory), Path(rest[0]) if rest else None)
    (Path(directory) / "outcome.json").write_text(json.dumps(outcome, allow_nan=False))


if __name__ == "__main__":
    main()
