"""The options that say which device a model runs on, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeconv.commands.choice import memory_option
from edgeconv.core.errors import UsageError
from edgeconv.core.options import parse_memory

if TYPE_CHECKING:
    from edgeconv.toolchain.device.job import Device, Probe, RunOptions

_OPTIONS = (
    click.option("--host", metavar="USER@HOST", help="Run on this machine over SSH."),
    click.option("--port", type=int, help="Port of its SSH server."),
    click.option("--identity", type=click.Path(path_type=Path), help="Private key to use."),
    click.option(
        "--ssh-config",
        type=click.Path(path_type=Path),
        help="OpenSSH configuration file to use instead of yours.",
    ),
    click.option(
        "--python",
        metavar="PATH",
        help="Python on the board that has numpy and a TFLite runtime.  [default: python3]",
    ),
    click.option("--device", default="", metavar="NAME", help="Which device: usb, pci, usb:0, ..."),
    click.option("--threads", type=int, default=1, show_default=True, help="Threads on a CPU."),
    click.option(
        "--runs", type=int, default=50, show_default=True, help="Runs that latency is taken over."
    ),
    click.option(
        "--timeout",
        type=float,
        default=600.0,
        show_default=True,
        help="Seconds that running the model may take.",
    ),
    memory_option,
    click.option(
        "--no-cpu-fallback", is_flag=True, help="Fail where only a CPU can run the model."
    ),
)


def device_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run_options(values: Mapping[str, Any]) -> RunOptions:
    """Return how to run from a command's values."""
    from edgeconv.toolchain.device.job import RunOptions

    return RunOptions(
        device=values["device"],
        threads=values["threads"],
        runs=values["runs"],
        cpu_fallback=not values["no_cpu_fallback"],
        timeout=values["timeout"],
        runtime=values.get("runtime") or "",
        memory=parse_memory(values["memory_limit"]),
    )


def device_of(values: Mapping[str, Any]) -> tuple[Device, Probe, str]:
    """Return what runs the model, what says which runtimes it has, and its name.

    Raises:
        UsageError: An option of SSH is given without ``--host``.
    """
    from edgeconv.toolchain.device.local import WHERE, probe_here, run_here
    from edgeconv.toolchain.device.ssh import Board

    if values["host"] is None:
        for name in ("port", "identity", "ssh_config", "python"):
            if values[name] is not None:
                raise UsageError(f"--{name.replace('_', '-')} needs --host")
        return run_here, probe_here, WHERE
    board = Board(
        values["host"],
        values["port"],
        values["identity"],
        values["ssh_config"],
        values["python"] or "python3",
    )
    return board.run, board.probe, values["host"]
