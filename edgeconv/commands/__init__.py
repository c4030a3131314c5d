"""The subcommands, one module each. A new one is a module here and its name in `COMMANDS`."""

from __future__ import annotations

import click

from edgeconv.commands.benchmark import benchmark
from edgeconv.commands.compile import compile_command
from edgeconv.commands.deploy import deploy
from edgeconv.commands.doctor import doctor
from edgeconv.commands.inspect import inspect
from edgeconv.commands.toolchain import toolchain
from edgeconv.commands.torch2tflite import torch2tflite
from edgeconv.commands.verify import verify

COMMANDS: tuple[click.Command, ...] = (
    torch2tflite,
    compile_command,
    deploy,
    verify,
    inspect,
    benchmark,
    doctor,
    toolchain,
)
"""Every subcommand, in the order of ``edgeconv --help``."""
