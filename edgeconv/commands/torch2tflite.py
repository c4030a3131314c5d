"""`edgeconv torch2tflite`: the whole pipeline, from a PyTorch model to a bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from edgeconv.commands.choice import choice, memory_option
from edgeconv.commands.console import EXIT_GATE, Display, reported, show
from edgeconv.core import options as choices
from edgeconv.core.errors import UsageError
from edgeconv.core.gates import parse_gate
from edgeconv.core.options import ConvertOptions, parse_memory
from edgeconv.core.sniff import Kind, kind_of
from edgeconv.sources.workers import worker_pool
from edgeconv.toolchain.worker.pool import WorkerKind, WorkerPool

_DEFAULTS = ConvertOptions()


@click.command()
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option(
    "--model",
    "factory",
    metavar="MODULE:FACTORY",
    help="Function that builds the module, for a state dict or without any file.",
)
@click.option(
    "--input-shape",
    "input_shapes",
    multiple=True,
    metavar="[NAME=]1,3,224,224",
    help="Shape of an input, where the file has none. Repeatable.",
)
@click.option(
    "--trust-pickle", is_flag=True, help="Load pickled modules: this runs code from the file."
)
@click.option(
    "--quantize",
    type=choice(choices.QuantizeMode),
    default=_DEFAULTS.quantize,
    show_default=True,
    help="fp16, dynamic, weight-only: weights. int8: everything. int16x8: int16 activations.",
)
@click.option(
    "--keep-float",
    multiple=True,
    metavar="OP|PATTERN",
    help="Operators not to quantize, by type or by name, with * and ?. Repeatable.",
)
@click.option(
    "--keep-int16",
    multiple=True,
    metavar="OP|PATTERN",
    help="Operators whose activations get 16 bits, likewise. Repeatable.",
)
@click.option(
    "--recipe",
    metavar="FILE",
    help="TOML or JSON with rules like these; ai-edge-quantizer's recipes are read too.",
)
@click.option(
    "--max-drop",
    metavar="DB|POINTS",
    help="Keep the fewest layers in 16 bits with which int8 loses no more, as 3dB or 0.5%.",
)
@click.option(
    "--calibration-data",
    metavar="DATA",
    help=".npz, .npy, a directory of images, or module:function; the int8 ranges come from it.",
)
@click.option(
    "--calibration-samples",
    type=int,
    default=_DEFAULTS.calibration_samples,
    show_default=True,
    help="How many of them to use at most.",
)
@click.option(
    "--calibrator",
    type=choice(choices.CalibratorName),
    default=_DEFAULTS.calibrator,
    show_default=True,
    help="How ranges are chosen.",
)
@click.option(
    "--input-range",
    multiple=True,
    metavar="[NAME=]LO,HI",
    help="What an input ranges over, such as 0,1 for images; else the samples tell. Repeatable.",
)
@click.option(
    "--disable-recovery",
    multiple=True,
    metavar="NAME|all",
    help="Leave a method out that wins int8 accuracy back, such as equalize. Repeatable.",
)
@click.option(
    "--preprocess",
    type=choice(choices.PreprocessMode),
    default=_DEFAULTS.preprocess,
    show_default=True,
    help="fold: mean and standard deviation go into the first layer; the model takes bytes.",
)
@click.option("--image-mean", metavar="M,M,M", help="Subtracted from images in 0..1, per channel.")
@click.option("--image-std", metavar="S,S,S", help="What they are divided by then.")
@click.option(
    "--io-dtype",
    type=choice(choices.IoDtype),
    default=_DEFAULTS.io_dtype,
    show_default="float32; int8 where the target needs it",
    help="Type of an integer model's inputs and outputs.",
)
@click.option(
    "--split-outputs",
    type=choice(choices.SplitOutputs),
    default=_DEFAULTS.split_outputs,
    show_default=True,
    help="Make several of an integer output whose parts one scale cannot hold.",
)
@click.option(
    "--io-layout",
    type=choice(choices.IoLayout),
    default=_DEFAULTS.io_layout,
    show_default=True,
    help="Layout of image inputs and outputs.",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    metavar="IN=OUT|none",
    help="Input that this output, or a part OUT[0:1] of it, is fed to in the next step of a"
    " stream; none for no states. Repeatable.  [default: found by names and graph]",
)
@click.option(
    "--target",
    default=_DEFAULTS.target,
    metavar="NAME",
    show_default=True,
    help="What to convert for.",
)
@click.option(
    "--allow-approximate",
    is_flag=True,
    help="Replace what the target lacks by close functions where exact ones do not exist.",
)
@click.option(
    "--outputs",
    multiple=True,
    metavar="NAME[=NEW]",
    help="Return these outputs alone, in this order, under new names. Repeatable.",
)
@click.option(
    "--cut",
    multiple=True,
    metavar="NODE|auto",
    help="Leave what follows this ONNX node to the CPU, as a model of its own. Repeatable.",
)
@click.option(
    "--compiler-image", metavar="IMAGE", help="Container image that holds the target's compiler."
)
@click.option(
    "--min-runtime-version",
    type=int,
    metavar="N",
    help="Oldest runtime of the device that must run the result.  [default: the newest]",
)
@click.option(
    "--search-delegate",
    is_flag=True,
    help="Where the target's compiler fails, cut the model earlier and earlier.",
)
@click.option("--bisect", is_flag=True, help="Search the operator that the compiler fails on.")
@click.option(
    "--converter",
    type=choice(choices.ConverterName),
    default=_DEFAULTS.converter,
    show_default=True,
    help="What turns ONNX into a SavedModel. auto: onnx-tf where native lacks an operator.",
)
@click.option(
    "--runtime",
    type=choice(choices.RuntimeName),
    default=_DEFAULTS.runtime,
    show_default=True,
    help="What runs .tflite files for parity.",
)
@click.option(
    "--verify-data",
    metavar="DATA",
    help="Inputs to measure parity on; calibration data by default.",
)
@click.option(
    "--parity-samples",
    type=int,
    default=_DEFAULTS.parity_samples,
    show_default=True,
    help="How many of them to use at most.",
)
@click.option(
    "--gate",
    "gates",
    multiple=True,
    metavar="[STAGE:]METRIC=VALUE",
    help="Limit that parity must hold, for example tflite_int8:sqnr_db=20. Repeatable.",
)
@click.option("--no-layers", is_flag=True, help="Do not measure the error of each layer.")
@click.option(
    "--explain",
    is_flag=True,
    help="Say which layers lost accuracy, and try what keeping the worst in float gains.",
)
@click.option("--no-verify", is_flag=True, help="Skip parity; the bundle is marked as unverified.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Bundle directory.  [default: ./<model>.edgeconv]",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option(
    "--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Seed of generated inputs."
)
@click.option(
    "--timeout",
    type=float,
    default=_DEFAULTS.timeout,
    show_default=True,
    help="Seconds that one call into a native runtime may take.",
)
@memory_option
@click.option("--json", "as_json", is_flag=True, help="Print the manifest, or the error, as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress and no warnings on stderr.")
@click.option("-v", "--verbose", is_flag=True, help="Log in detail, with tracebacks.")
def torch2tflite(as_json: bool, quiet: bool, verbose: bool, **values: Any) -> None:
    """Convert MODEL to ONNX, SavedModel, TFLite and quantized TFLite, checking parity each time.

    MODEL is a torch.export program (.pt2), a TorchScript archive, a state dict with --model, a
    pickled module with --trust-pickle, or an ONNX file; its content tells which.
    """
    with reported(as_json=as_json, verbose=verbose):
        with (
            worker_pool(
                timeout=values["timeout"], memory=parse_memory(values["memory_limit"])
            ) as workers,
            Display(quiet=quiet, verbose=verbose) as display,
        ):
            explained = bool(values["explain"])
            job = _job(values)
            _check_data(job)
            _start(workers, values["model"])
            from edgeconv.pipeline import run as pipeline
            from edgeconv.reports import text as report

            result = pipeline.convert(job, display, workers)
        if as_json:
            show(json.dumps(result.manifest, indent=2, ensure_ascii=False))
        else:
            # Warnings went to stderr, unless that was to be quiet.
            shown: dict[str, Any] = {} if quiet else {"warnings": []}
            show(report.render_text({**result.manifest, **shown}, result.parity))
            if explained:
                show(report.explain(result.manifest, result.parity))
            show(f"\nbundle: {result.path}\nmodel:  {result.model.path}")
    if not result.passed:
        raise click.exceptions.Exit(EXIT_GATE)


def _check_data(job: Any) -> None:
    """Refuse data that cannot be used before a process loads the model."""
    if job.calibration_data is not None or job.verify_data is not None:
        from edgeconv.sources.samples import check_data

        check_data(job)


def _start(workers: WorkerPool, model: Path | None) -> None:
    """Start what any conversion of such a file needs first; our own imports take time too."""
    try:
        exported = model is not None and kind_of(model) is Kind.ONNX
    except UsageError:
        return
    workers.start(WorkerKind.ONNXRUNTIME if exported else WorkerKind.TORCH, WorkerKind.TENSORFLOW)


def _job(values: dict[str, Any]) -> Any:
    from edgeconv.core.input_shapes import parse_input_shapes
    from edgeconv.core.job import Job
    from edgeconv.targets.gates import known_gates

    gates: dict[str, dict[str, float]] = {}
    for text in values.pop("gates"):
        stage, metric, limit = parse_gate(text, known_gates())
        gates.setdefault(stage, {})[metric] = limit
    fields = [name for name in ConvertOptions.__dataclass_fields__ if name in values]
    return Job(
        source=values["model"],
        options=ConvertOptions(
            **{name: values[name] for name in fields},
            gates=gates,
            verify=not values["no_verify"],
            layers=not values["no_layers"],
        ),
        factory=values["factory"],
        input_shapes=parse_input_shapes(values["input_shapes"]),
        trust_pickle=values["trust_pickle"],
        calibration_data=values["calibration_data"],
        verify_data=values["verify_data"],
        image_mean=_numbers("--image-mean", values["image_mean"]),
        image_std=_numbers("--image-std", values["image_std"]),
        output=values["output"],
        force=values["force"],
        command=("edgeconv", *sys.argv[1:]),
    )


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"{option} {text} is not understood", hint=f"write it as {option} 0.485,0.456,0.406"
        ) from None
