"""A test double of ``edgetpu_compiler``. It compiles nothing.

It plays what real releases printed, takes their flags, and writes what they would leave behind: for
the pair in the repository the compiler's own output, for other models a file in which one custom
operator with that pair's package takes the place of all operators.

The first argument is the scenario, the rest is the compiler's command line.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

PAIR = Path(__file__).parent / "data" / "split_concat"
V16, V15 = "16.0.384591198", "15.0.340273435"

REFUSALS = {
    "not_quantized": "Invalid model: {model}\nModel not quantized",
    "version": (
        "ERROR: Didn't find op for builtin opcode 'CONV_2D' version '6'. An older version of this "
        "builtin might be supported. Are you using an old TFLite binary with a newer model?\n"
        "ERROR: Registration failed.\nInvalid model: {model}\nModel could not be parsed"
    ),
    "builtin": (
        "ERROR: Op builtin_code out of range: 151. Are you using old TFLite binary with newer "
        "model?\nERROR: Registration failed.\nInvalid model: {model}\nModel could not be parsed"
    ),
    "dynamic": (
        "ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph "
        "that has dynamic-sized tensors.\nCompilation failed: Model failed in Tflite interpreter. "
        "Please ensure model can be loaded/run in Tflite interpreter."
    ),
    "large": (
        "ERROR: Restored original execution plan after delegate application failure.\n"
        "Compilation failed: Compilation failed due to large activation tensors in model."
    ),
    "internal": (
        "ERROR: Restored original execution plan after delegate application failure.\n"
        "Compilation failed: Internal error."
    ),
    "old_internal": "Internal compiler error. Aborting!",
    "own_timeout": "Compilation timeout. This is usually caused by large activations.",
    "unexplained": "",
}

REPORT = """
Model compiled successfully in 3438 ms.

Input model: {name}.tflite
Input size: 1.83KiB
Output model: {name}_edgetpu.tflite
Output size: 57.13KiB
On-chip memory used for caching model parameters: 192.00B
On-chip memory remaining for caching model parameters: 7.96MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: {subgraphs}
Total number of operations: 3
Operation log: {name}_edgetpu.log
"""

TABLE = """
Operator                       Count      Status

CONCATENATION                  2          {status}
SPLIT                          1          {status}
"""


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Play a scenario, and return the exit status."""
    scenario, *rest = sys.argv[1:]
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-o", "--out_dir", type=Path, default=Path())
    parser.add_argument("-s", "--show_operations", action="store_true")
    parser.add_argument("-v", "--version", action="store_true")
    parser.add_argument("-m", "--min_runtime_version", type=int)
    parser.add_argument("-n", "--num_segments", type=int, default=1)
    parser.add_argument("-i", "--intermediate_tensors")
    parser.add_argument("-d", "--search_delegate", action="store_true")
    parser.add_argument("-k", "--delegate_search_step", type=int)
    parser.add_argument("-a", "--enable_multiple_subgraphs", action="store_true")
    if not scenario.startswith("v15"):
        parser.add_argument("-t", "--timeout_sec", type=int, default=180)
    parser.add_argument("models", nargs="*", type=Path)
    given = parser.parse_args(rest)
    version = V15 if scenario.startswith("v15") else V16
    _say(f"Edge TPU Compiler version {version}")
    if given.version:
        return 0
    return _play(scenario, given)


def _play(scenario: str, given: argparse.Namespace) -> int:
    if scenario == "hang":
        if os.fork() == 0:
            time.sleep(600)
        time.sleep(600)
    if scenario == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if scenario == "wrapper_crash":
        _say("/usr/bin/edgetpu_compiler: line 3: 7 Segmentation fault (core dumped)")
        return 139
    if scenario == "silent":
        return 0
    if not scenario.startswith("v15"):
        _say("Started a compilation timeout timer of 180 seconds.\n")
    if scenario in REFUSALS:
        return _refuse(REFUSALS[scenario].format(model=given.models[0]))
    if scenario == "fails_on_split" and _has(given.models[0], "SPLIT"):
        return _refuse(REFUSALS["internal"])
    for model in given.models:
        _compile(scenario, model, given)
    _say("Compilation child process completed within timeout period.\nCompilation succeeded! ")
    return 0


def _refuse(text: str) -> int:
    _say(text)
    _say("Compilation child process completed within timeout period.\nCompilation failed! ")
    return 1


def _has(model: Path, name: str) -> bool:
    from edgeconv.tflite import file as tflite  # takes a second, which most scenarios do not need

    content = tflite.load(model)
    return any(tflite.operator_name(content, op) == name for op in content.subgraphs[0].operators)


def _compile(scenario: str, model: Path, given: argparse.Namespace) -> None:
    stems = [model.stem]
    if given.num_segments > 1:
        stems = [
            f"{model.stem}_segment_{i}_of_{given.num_segments}" for i in range(given.num_segments)
        ]
        for stem in stems:
            (given.out_dir / f"{stem}.tflite").write_bytes(model.read_bytes())
    status = "Mapped to Edge TPU"
    if scenario in ("nothing", "fails_on_split"):
        status = "Operation is working on an unsupported data type"
    for stem in stems:
        _say(REPORT.format(name=stem, subgraphs=0 if status.startswith("Op") else 1))
        if given.show_operations:
            _say(TABLE.format(status=status))
        if scenario != "no_output":
            content = _content(scenario, model, status)
            (given.out_dir / f"{stem}_edgetpu.tflite").write_bytes(content)
            (given.out_dir / f"{stem}_edgetpu.log").write_text(TABLE.format(status=status))


def _content(scenario: str, model: Path, status: str) -> bytes:
    if scenario == "stub":
        return b"\0" * 1000
    if status.startswith("Op"):
        return model.read_bytes()
    compiled = (PAIR / "compiled.tflite").read_bytes()
    if scenario == "other_model" or model.read_bytes() == (PAIR / "source.tflite").read_bytes():
        return compiled
    return _pretended(model, compiled)


def _pretended(model: Path, compiled: bytes) -> bytes:
    from edgeconv.tflite import file as tflite

    content, pair = tflite.load(model), tflite.parse(compiled)
    graph, custom = content.subgraphs[0], pair.subgraphs[0].operators[0]
    content.operatorCodes = [pair.operatorCodes[custom.opcodeIndex]]
    custom.opcodeIndex = 0
    custom.inputs, custom.outputs = graph.inputs, graph.outputs
    graph.operators = [custom]
    content.signatureDefs = []
    return bytes(tflite.serialize(content))


if __name__ == "__main__":
    sys.exit(main())
