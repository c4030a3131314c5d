"""Show on a terminal what `edgeconv.inspection.inspect` found."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgeconv import targets
from edgeconv.reports.text import WIDTH
from edgeconv.targets.placement import CPU

_MIB = 1024**2
_RIGHT = ("#", "v", "MACs", "bytes", "count", "version")


def render(found: Mapping[str, Any]) -> str:
    """Return what was found as text, without a final newline."""
    lines: Iterable[str]
    if found["format"] == "bundle":
        lines = _bundle(found)
    elif "on_cpu" in found:
        lines = _placement(found)
    else:
        lines = _model(found)
    return "\n".join(lines)


def size(count: int) -> str:
    """Return a number of bytes in a readable unit."""
    if count < 1000:
        return f"{count} B"
    if count < 1_000_000:
        return f"{count / 1000:.1f} kB"
    return f"{count / 1_000_000:.1f} MB"


def _bundle(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['file']}: bundle of {found['model']}, {size(found['bytes'])}"
    yield f"status {found['status']}, parity {found['verdict']}"
    for stage in found["stages"]:
        yield ""
        yield f"stage {stage['stage']}"
        yield from _model(stage, each=False)


def _model(found: Mapping[str, Any], *, each: bool = True) -> Iterator[str]:
    made_for = found.get("compiled_for")
    kind = _KINDS[found["format"]] if made_for is None else _compiled(made_for)
    yield f"{found['file']}: {kind}, {size(found['bytes'])}"
    yield from _facts(found)
    yield from _interface(found)
    for join in found.get("joins", ()):
        parts = ", ".join(f"{part['name']} at {_slices(part)}" for part in join["parts"])
        yield f"{join['output']} is joined along axis {join['axis']}: {parts}"
    for signature in found.get("signatures", ()):
        if isinstance(signature, Mapping):
            yield f"signature {signature['name']}"
            yield from _interface(signature)
    if made_for in targets.names():
        yield from targets.find(made_for).description(found)
    if each and "ops" in found:
        yield ""
        yield from _table(("#", "op", "version", "MACs", "bytes", "output"), _tflite_rows(found))
    elif "ops" in found or "op_counts" in found:
        yield ""
        yield from _table(("op", "count"), [(op, str(n)) for op, n in _counts(found).items()])
    if each and "nodes" in found:
        yield ""
        yield from _table(("op", "node", "makes", "module"), _node_rows(found))
    yield from _problems(found)


_KINDS = {
    "tflite": "TFLite model",
    "onnx": "ONNX model",
    "saved_model": "SavedModel",
}


def _compiled(name: str) -> str:
    if name not in targets.names():
        return f"model compiled for {name}, a target that is not installed here"
    target = targets.find(name)
    kind = "TFLite model" if target.suffix.endswith(".tflite") else "model"
    return f"{kind} compiled for {target.label}"


def _facts(found: Mapping[str, Any]) -> Iterator[str]:
    if "opsets" in found:
        opsets = ", ".join(f"{domain} {version}" for domain, version in found["opsets"].items())
        yield f"opset {opsets}; made by {found['producer'] or 'an unknown program'}"
    if "tensorflow_version" in found:
        yield f"made by TensorFlow {found['tensorflow_version'] or 'of an unknown version'}"
    if found.get("description"):
        yield f"description: {found['description']}"
    if "constant_bytes" in found:
        yield f"weights: {size(found['constant_bytes'])}"
    names = [name for name in found.get("signatures", ()) if isinstance(name, str)]
    if names:
        yield f"signatures: {', '.join(names)}"
    if found.get("subgraphs", 1) > 1:
        yield f"{found['subgraphs']} subgraphs; the first is shown"


def _interface(found: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("inputs", "outputs"):
        for spec in found.get(kind, ()):
            yield f"{kind[:-1]}  {spec['name']}  {_tensor(spec)}"


def _slices(part: Mapping[str, Any]) -> str:
    """Return where a part lies, as Python's slices."""
    return " and ".join(
        f"{start}:{stop}" + (f":{step}" if step != 1 else "")
        for start, stop, step in part["slices"]
    )


def _tensor(spec: Mapping[str, Any]) -> str:
    shape = ", ".join("?" if item is None else str(item) for item in spec["shape"])
    text = f"{spec['dtype']}[{shape}]"
    scales: Sequence[float] = spec.get("scale", ())
    if len(scales) == 1:
        text += f"  scale {scales[0]:.6g}, zero point {spec['zero_point'][0]}"
    elif scales:
        text += f"  {len(scales)} scales"
    return text


def _tflite_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            str(op["index"]),
            op["op"],
            str(op["version"]),
            f"{op['macs']:,}" if op["macs"] else "",
            f"{op['constant_bytes']:,}" if op["constant_bytes"] else "",
            _outputs(op["outputs"]),
        )
        for op in found["ops"]
    ]


def _node_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the nodes by the names that ``--cut``, ``--isolate`` and ``--keep-float`` take."""
    return [
        (node["op"], node["name"], ", ".join(node["outputs"]), node["module"])
        for node in found["nodes"]
        if node["op"] != "Constant"
    ]


def _outputs(specs: Sequence[Mapping[str, Any]]) -> str:
    first = _tensor(specs[0]) if specs else ""
    return f"{first}, and {len(specs) - 1} more" if len(specs) > 1 else first


def _counts(found: Mapping[str, Any]) -> dict[str, int]:
    if "op_counts" in found:
        return dict(found["op_counts"])
    return dict(Counter(op["op"] for op in found.get("ops", ())).most_common())


def _problems(found: Mapping[str, Any]) -> Iterator[str]:
    if "unsupported" not in found:
        return
    problems = found["unsupported"]
    yield ""
    if problems is None:
        yield from _wrapped(
            f"whether it can be converted was not found out: {found['not_checked']}"
        )
        return
    if not problems:
        yield "every operator can be converted"
        return
    yield f"{len(problems)} of its nodes cannot be converted:"
    for problem in problems:
        text = f"{problem['op']} ({problem['node']}): {problem['reason']}"
        yield from _wrapped(f"{text}; {problem['hint']}" if problem["hint"] else text)


def _placement(found: Mapping[str, Any]) -> Iterator[str]:
    target, total = targets.find(found["target"]), len(found["ops"])
    there = found[f"on_{target.place}"]
    if there == total and target.place == CPU:
        yield f"{found['file']}: all {total} operators run on the CPU"
        return
    share = f"{found['macs_share']:.1%} of the multiplications"
    yield f"{found['file']}: {there} of {total} operators on {target.label}, {share}"
    for item in found["refused"]:
        where = f"operator {item['index']} ({item['op']}): " if item["index"] is not None else ""
        yield ""
        yield from _wrapped(f"the compiler refuses this model: {where}{item['why']}")
        yield from _wrapped(f"next: {item['advice']}", 2)
    yield ""
    rows = [(str(op["index"]), op["op"], op["placement"], op["reason"]) for op in found["ops"]]
    yield from _table(("#", "op", "placement", "reason"), rows)
    yield from _cut_lines(found["cuts"])
    if "chip_bytes" in found:
        cached, streamed = found["cached_parameter_bytes"], found["streamed_parameter_bytes"]
        chip = found["chip_bytes"] / _MIB
        yield ""
        yield f"parameters, estimated: {size(cached)} cached in the {chip:g} MiB on the chip,"
        yield f"{size(streamed)} streamed with each inference"
    for name, figure in found["figures"].items():
        yield f"{name}: {figure}"


def _cut_lines(cuts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for cut in cuts:
        yield ""
        yield from _wrapped(
            f"operator {cut['index']} ({cut['op']}) does not map: {cut['why']}. "
            f"With what depends on it, it keeps {cut['ops']:.1%} of the operators, "
            f"{cut['macs']:.1%} of the multiplications and {cut['bytes']:.1%} of the bytes of "
            "weights on the CPU"
        )
        yield from _wrapped(f"next: {cut['advice']}", 2)


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2)
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    columns = list(zip(heads, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    for row in (heads, *rows):
        cells = (
            cell.rjust(width) if head in _RIGHT else cell.ljust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()
