"""What a model that ``edgetpu_compiler`` made holds, for ``inspect``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeconv.core.mapped import mapped
from edgeconv.targets.coral.placement.package import CUSTOM_OP, packages
from edgeconv.tflite import file as tflite


def describe(path: Path) -> dict[str, Any] | None:
    """Return the packages of a compiled model; ``None`` of any other file.

    Raises:
        InvalidModel: It is compiled, and damaged.
    """
    # Most files are not compiled, and reading one whole only to see that may take seconds.
    if mapped(path).find(CUSTOM_OP.encode()) < 0:
        return None
    found = packages(tflite.load(path), str(path))
    return {"packages": [{"op": index, **one.to_dict()} for index, one in found]} if found else None


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Return the packages for a terminal."""
    for package in found["packages"]:
        yield from _package(package)


def _package(package: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"operator {package['op']} holds a package for the Edge TPU"
    yield f"  minimum runtime     {package['min_runtime_version']}"
    yield f"  cached parameters   {package['cached_parameter_bytes']:,} bytes"
    yield f"  streamed parameters {package['streamed_parameter_bytes']:,} bytes"
    yield f"  instructions        {package['instruction_bytes']:,} bytes"
    yield f"  peak activations    {package['activation_bytes_per_tile']:,} bytes per tile"
    yield f"  caching token       {package['caching_token']}"
    yield f"  compiler            {package['compiler_version'] or 'not told'}"
    for item in package["executables"]:
        yield (
            f"  executable          {item['type']}: {item['parameter_bytes']:,} bytes of "
            f"parameters, {item['instruction_bytes']:,} of instructions"
        )
    for kind in ("inputs", "outputs"):
        for layer in package[kind]:
            shape = " x ".join(str(side) for side in layer["shape"])
            yield (
                f"  {kind[:-1] + ' layer':<19} {layer['name']}: {shape} (y, x, z), "
                f"{layer['data_type']}, scale {layer['scale']:.6g}, "
                f"zero point {layer['zero_point']}"
            )
