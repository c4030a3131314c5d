"""The part of the runner that a target brings: how a compiled model is run on its device.

It is one file of Python 3.7 or later that is written beside ``runner.py`` on the board, and which
imports nothing but the standard library before it is called. It has::

    FAILURES = ((pattern, meaning, advice), ...)
    CRASHES = ((pattern, meaning, advice), ...)

    def open_model(model, device, tflite):
        ...

``open_model`` gets the path of the compiled file, the name of the device that the user asked for
(or ``""``), and a function that imports the TFLite runtime and returns its module and its name with
version. It returns what has the methods of TFLite's ``Interpreter`` that ``runner.py`` calls, and
the name of the runtime. What it raises, or a library prints before it ends the process, is told by
the first of the failures whose pattern is found in it, before those of ``runner.py``; the crashes
are for ``killed by SIGSEGV`` and the like, and may be left out.

It may have ``look(paths, folder_of, version_of)``, which says what a board has before anything is
sent to it, and is given the search path and two functions of ``probe.py``: by the name of each
thing ``None`` or a mapping of texts and truth values.
"""

from __future__ import annotations

from dataclasses import dataclass

FILE = "device_part.py"
"""Name of the file on the device."""


@dataclass(frozen=True, slots=True)
class DevicePart:
    """How a target's compiled models are run.

    Attributes:
        place: The target's word for its device; ``ran_on`` in reports.
        label: What sentences call the device.
        suffix: What the names of compiled files end with.
        source: The text of the file.
        needs: A sentence that says what the file needs on the board; for the README of an export.
        rounding: A word on how the device's numbers differ, likewise; empty where they do not.
    """

    place: str
    label: str
    suffix: str
    source: str
    needs: str = ""
    rounding: str = ""
