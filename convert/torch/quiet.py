"""Keep PyTorch's warnings and log messages about itself away from the user."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOGGERS = ("torch.export", "torch._export", "torch.fx")
_CHATTY = ("torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir", "torch.fx")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings and PyTorch's loggers; a failure is reported by the error it raises."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def captured(chatter: io.StringIO) -> Iterator[list[warnings.WarningMessage]]:
    """Keep what exporters print, warn and log away from stdout and stderr; yield the warnings.

    The TorchScript exporter prints from native code, past ``sys.stdout``.
    """
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            _native_stdout(chatter),
            contextlib.redirect_stdout(chatter),
            contextlib.redirect_stderr(chatter),
        ):
            warnings.simplefilter("always")
            yield caught
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _native_stdout(chatter: io.StringIO) -> Iterator[None]:
    """Send file descriptor 1 to a file, and what arrived there to ``chatter`` at the end."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), 1)
            try:
                yield
            finally:
                os.dup2(kept, 1)
                file.seek(0)
                chatter.write(file.read().decode(errors="replace"))
    finally:
        os.close(kept)
