"""Reading what real releases of the compiler printed."""

from __future__ import annotations

import pytest

from edgeconv.targets.coral.compiler.advice import CAUSES, STATUSES, cause_of
from edgeconv.targets.coral.compiler.report import parse, parse_size

V16 = """\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 3438 ms.

Input model: yolov5s-int8.tflite
Input size: 7.31MiB
Output model: yolov5s-int8_edgetpu.tflite
Output size: 7.52MiB
On-chip memory used for caching model parameters: 6.89MiB
On-chip memory remaining for caching model parameters: 1.00KiB
Off-chip memory used for streaming uncached model parameters: 175.00KiB
Number of Edge TPU subgraphs: 1
Total number of operations: 229
Operation log: yolov5s-int8_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of \
the model will instead run on the CPU, which is slower. For details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: 222
Number of operations that will run on CPU: 7
See the operation log file for individual operation details.
Compilation child process completed within timeout period.
Compilation succeeded! \n"""

V2 = """\
Edge TPU Compiler version 2.0.267685300

Model compiled successfully in 557 ms.

Input model: mobilenet.tflite
Input size: 3.85MiB
Output model: mobilenet_edgetpu.tflite
Output size: 4.09MiB
On-chip memory available for caching model parameters: 7.88MiB
On-chip memory used for caching model parameters: 3.50MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 31
Operation log: mobilenet_edgetpu.log
See the operation log file for individual operation details.
"""

LOG = """\
Edge TPU Compiler version 15.0.340273435
Input: mnist4.tflite
Output: mnist4_edgetpu.tflite

Operator                       Count      Status

CONV_2D                        2          Mapped to Edge TPU
QUANTIZE                       1          Operation is otherwise supported, but not mapped due to \
some unspecified limitation
DEQUANTIZE                     1          Operation is working on an unsupported data type
"""

SEARCH = """\
Edge TPU Compiler version 16.0.384591198
Searching for valid delegate with step 1
Try to compile segment with 261 ops
Started a compilation timeout timer of 180 seconds.
ERROR: Restored original execution plan after delegate application failure.
Compilation failed: Compilation failed due to large activation tensors in model.
Compilation child process completed within timeout period.
Compilation failed!
Try to compile segment with 260 ops
Intermediate tensors: a,b,c
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 2000 ms.

Input model: big.tflite
Output model: big_edgetpu.tflite
Number of Edge TPU subgraphs: 1
Total number of operations: 261
Number of operations that will run on Edge TPU: 250
Number of operations that will run on CPU: 11
Compilation succeeded!
"""


def test_release_16() -> None:
    found = parse(V16)
    assert (found.version, found.failed) == ("16.0.384591198", False)
    (model,) = found.models
    assert (model.input, model.output) == ("yolov5s-int8.tflite", "yolov5s-int8_edgetpu.tflite")
    assert (model.operations, model.on_edgetpu, model.on_cpu) == (229, 222, 7)
    assert model.cached_bytes == round(6.89 * 1024**2)
    assert (model.free_bytes, model.streamed_bytes) == (1024, 175 * 1024)
    assert model.milliseconds == 3438


def test_release_2_with_its_order_and_everything_mapped() -> None:
    (model,) = parse(V2).models
    assert model.free_bytes == round(7.88 * 1024**2)
    assert model.cached_bytes == round(3.5 * 1024**2)
    assert (model.streamed_bytes, model.on_edgetpu, model.on_cpu) == (0, 31, 0)


def test_the_log_with_its_table() -> None:
    found = parse(LOG)
    (model,) = found.models
    assert (model.input, model.output) == ("mnist4.tflite", "mnist4_edgetpu.tflite")
    assert [(row.op, row.count, row.mapped) for row in model.statuses] == [
        ("CONV_2D", 2, True),
        ("QUANTIZE", 1, False),
        ("DEQUANTIZE", 1, False),
    ]
    assert all(row.advice for row in model.statuses if not row.mapped)


def test_only_the_last_attempt_of_a_search_counts() -> None:
    found = parse(SEARCH)
    assert found.attempts == (261, 260)
    assert not found.failed
    assert found.models[0].on_edgetpu == 250


def test_segments_are_reported_one_by_one() -> None:
    second = V2.replace("mobilenet", "second")
    assert [model.input for model in parse(V2 + second).models] == [
        "mobilenet.tflite",
        "second.tflite",
    ]


def test_nothing_is_a_failure() -> None:
    found = parse("Edge TPU Compiler version 15.0.340273435\n")
    assert found.failed
    assert not found.models


@pytest.mark.parametrize(
    ("text", "size"), [("0.00B", 0), ("94.75KiB", 97024), ("1.00MiB", 1048576), ("much", None)]
)
def test_sizes(text: str, size: int | None) -> None:
    assert parse_size(text) == size


def test_every_status_and_cause_has_advice() -> None:
    assert all(STATUSES.values())
    assert all(cause.why and cause.hint for cause in CAUSES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ERROR: Encountered unresolved custom op: Atan.", "custom operator"),
        ("ERROR: :317 scale_diff / output_scale <= 0.02 was not true.", "scale of a bias"),
        ("ERROR: :349 input->dims->data[3] != filter->dims->data[3] (65 != 64)", "contradict"),
        ("The number of lists given to intermediate_tensors doesn't match the number", "one list"),
        ("non-broadcastable operands", "channels first"),
    ],
)
def test_errors_are_explained(text: str, words: str) -> None:
    assert words in cause_of(text).why
