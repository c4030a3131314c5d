"""Run a compiled model on an Edge TPU: the part of the runner that only this target knows.

It lies beside ``runner.py`` on boards, and is read by Python 3.7; see
``edgeconv/toolchain/device/part.py``. Google's pycoral is taken where it is installed, else the
TFLite runtime with libedgetpu as its delegate.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LIBRARIES = {
    "Linux": "libedgetpu.so.1",
    "Darwin": "libedgetpu.1.dylib",
    "Windows": "edgetpu.dll",
}

# (pattern in what a library said, what it means, what to do). The first that fits counts.
# fmt: off
FAILURES = (
    (r"libusb[-.\w]*: cannot open shared object",
     "libedgetpu cannot be loaded because libusb-1.0 is missing",
     "install libusb-1.0-0, for example with apt-get install libusb-1.0-0"),
    (r"(libedgetpu|edgetpu\.dll)[^\n]*(cannot open|image not found|no such file|not find)",
     "the Edge TPU runtime, libedgetpu, is not installed",
     "install libedgetpu1-std from Google's package repository, see coral.ai/software"),
    (r"edgetpu_list_devices: 0",
     "libedgetpu is installed but finds no Edge TPU that this user may open",
     ("check lsusb (1a6e:089a or 18d1:9302) or ls /dev/apex_*; for a USB device join the group "
      "plugdev, in a container pass the device")),
    (r"Failed to load delegate from",
     ("libedgetpu could not open an Edge TPU: there is none, this user may not open it, or the "
      "device name is wrong"),
     "check lsusb or ls /dev/apex_*, the group plugdev, and --device"),
    (r"edgetpu-custom-op",
     "the compiled model was loaded without an Edge TPU",
     "run the model that it was compiled from on the CPU, or attach an Edge TPU"),
    (r"requires runtime version \((\d+)\), which is newer than this runtime version \((\d+)\)",
     "the model was compiled for Edge TPU runtime {0}, and this device has runtime {1}",
     "update libedgetpu, or compile again with --min-runtime-version {1}"),
    (r"transfer on tag \d+ failed|USB transfer error|HandleQueuedBulkIn transfer in failed",
     "the Edge TPU vanished while it worked, and libedgetpu ended the process",
     "use another cable and a USB 3 port with 900 mA or a powered hub, then plug it in again"),
    (r"no TFLite runtime",
     "the device has neither tflite_runtime, ai_edge_litert nor pycoral",
     ("install one for the Python that is used: pip install tflite-runtime 'numpy<2', or "
      "ai-edge-litert; name another Python with --python")),
    (r"builtin opcode|[Oo]p builtin_code out of range|Didn't find op",
     "the device's TFLite runtime is older than the model",
     ("install a newer runtime on the device, or convert with --target coral, which keeps to old "
      "operator versions")),
)
CRASHES = (
    (r"killed by SIGSEGV",
     ("the TFLite runtime crashed while it set up the Edge TPU: libedgetpu was built for an older "
      "runtime"),
     ("use tflite-runtime 2.5 with Google's libedgetpu 16.0, or a libedgetpu that was built for "
      "the installed runtime")),
    (r"killed by SIG(?!KILL|BUS)\w+",
     "the native library ended the process that ran the model",
     "plug the device in again; if it stays, compare the versions of runtime and libedgetpu"),
)
# fmt: on


def tpu_count(library: str) -> int:
    """Return how many Edge TPUs libedgetpu sees.

    Raises:
        OSError: It, or a library that it needs, cannot be loaded.
    """
    import ctypes

    size = ctypes.c_size_t(0)
    loaded = ctypes.CDLL(library)
    list_devices = loaded.edgetpu_list_devices
    list_devices.restype = ctypes.c_void_p
    list_devices.argtypes = [ctypes.POINTER(ctypes.c_size_t)]
    devices = list_devices(ctypes.byref(size))
    if devices:
        loaded.edgetpu_free_devices.argtypes = [ctypes.c_void_p]
        loaded.edgetpu_free_devices(devices)
    return int(size.value)


def open_model(model: str, device: str, tflite: Callable[[], tuple[Any, str]]) -> tuple[Any, str]:
    """Return an interpreter of a compiled model, and the name of the runtime.

    Raises:
        ImportError: There is no runtime.
        OSError: libedgetpu cannot be loaded.
        RuntimeError: There is no Edge TPU.
    """
    try:
        coral = importlib.import_module("pycoral.utils.edgetpu")
    except ImportError:
        coral = None  # PyPI's package of that name is another project
    if coral is not None:
        return coral.make_interpreter(model, device=device or None), _pycoral()
    library = LIBRARIES.get(platform.system(), LIBRARIES["Linux"])
    if tpu_count(library) == 0:
        raise RuntimeError("edgetpu_list_devices: 0")
    runtime, name = tflite()
    delegate = runtime.load_delegate(library, {"device": device} if device else {})
    interpreter = runtime.Interpreter(model_path=model, experimental_delegates=[delegate])
    return interpreter, name + ", libedgetpu"


def _pycoral() -> str:
    try:
        metadata = importlib.import_module("importlib.metadata")
        return "pycoral " + str(metadata.version("pycoral"))
    except ImportError:  # not installed by pip, or Python 3.7
        return "pycoral"


def look(
    paths: Sequence[str],
    folder_of: Callable[[str, Sequence[str]], Path | None],
    version_of: Callable[[str, Path], str],
) -> dict[str, Any]:
    """Return what is known of the package pycoral; Google's has ``utils/edgetpu.py``."""
    folder = folder_of("pycoral", paths)
    if folder is None:
        return {"pycoral": None}
    found = {
        "google": (folder / "pycoral" / "utils" / "edgetpu.py").exists(),
        "version": version_of("pycoral", folder),
        "where": str(folder),
    }
    return {"pycoral": found}
