"""What runs on a board behind SSH: takes files, runs the runner on them, sends the results back.

It arrives through stdin and is never stored. Its syntax is that of Python 3.5, so that an older
interpreter than the runner needs can say so. All files live in one temporary directory, which is
removed whatever happens: also when the connection drops, which closes stdin.

From the host, after this text: a line with the length of a JSON header ``{"python", "seconds",
"files": [{"name", "bytes", "sha256"}], "results"}``, the header, the files. To the host: one line
``EDGECONV {...}``, and the bytes of the results file.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from typing import Any, BinaryIO, Iterator

CHUNK = 1 << 20


class Refused(Exception):
    """Carries a kind of failure that the host knows, and its details."""


def take(stream: BinaryIO, size: int) -> "Iterator[bytes]":
    """Yield exactly that many bytes in chunks."""
    while size:
        chunk = stream.read(min(size, CHUNK))
        if not chunk:
            raise Refused("interrupted", "the copy ended early")
        size -= len(chunk)
        yield chunk


def store(stream: BinaryIO, directory: str, entry: "dict[str, Any]") -> None:
    """Store a file under a temporary name; it gets its own once its digest is right."""
    if os.path.basename(entry["name"]) != entry["name"]:
        raise Refused("damaged", "a file name has directories")
    final = os.path.join(directory, entry["name"])
    digest = hashlib.sha256()
    with open(final + ".partial", "wb") as file:
        for chunk in take(stream, entry["bytes"]):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != entry["sha256"]:
        raise Refused("damaged", "the digest of %s is wrong" % entry["name"])
    os.rename(final + ".partial", final)


def check_python(python: str) -> None:
    """Refuse an interpreter that is missing or too old for the runner."""
    code = "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"
    try:
        said = subprocess.check_output([python, "-c", code], stdin=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Refused("no-python", "%s: %s" % (python, error))
    version = said.decode("ascii", "replace")
    if tuple(int(part) for part in version.split(".")) < (3, 7):
        raise Refused("old-python", version)


def execute(stream: BinaryIO, directory: str, header: "dict[str, Any]") -> "tuple[str, str]":
    """Run the runner; end it when the host goes away."""
    environment = dict(os.environ, TMPDIR=directory, PYTHONDONTWRITEBYTECODE="1")
    process = subprocess.Popen(
        [header["python"], os.path.join(directory, "runner.py"), directory],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    gone = []  # type: list[bool]

    def end() -> None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            pass

    def watch() -> None:
        # The host sends nothing more, and keeps its end open until it has the answer.
        if not stream.read(1):
            gone.append(True)
            end()

    threading.Thread(target=watch, daemon=True).start()
    try:
        out, err = process.communicate(timeout=header["seconds"])
    except subprocess.TimeoutExpired:
        raise Refused("timeout", "%g" % header["seconds"])
    finally:
        end()
    if gone:
        raise Refused("interrupted", "the host went away")
    return out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def serve(stream: BinaryIO, answers: BinaryIO) -> None:
    """Do all of it, and answer."""
    directory = None  # type: str | None
    payload = b""
    try:
        size = int(stream.readline())
        header = json.loads(b"".join(take(stream, size)).decode("utf-8"))
        check_python(header["python"])
        directory = tempfile.mkdtemp(prefix="edgeconv-")
        for entry in header["files"]:
            store(stream, directory, entry)
        out, err = execute(stream, directory, header)
        answer = {"stdout": out, "stderr": err[-4000:]}  # type: dict[str, Any]
        results = os.path.join(directory, header["results"])
        if os.path.exists(results):
            with open(results, "rb") as file:
                payload = file.read()
    except Refused as refused:
        answer = {"refused": refused.args[0], "details": refused.args[1]}
    except OSError as error:
        answer = {"refused": "os", "errno": error.errno, "details": str(error)}
    finally:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
    if directory is not None and os.path.exists(directory):
        answer["left"] = directory
    answer["bytes"] = len(payload)
    answer["sha256"] = hashlib.sha256(payload).hexdigest()
    answers.write(b"EDGECONV " + json.dumps(answer).encode("utf-8") + b"\n" + payload)
    answers.flush()


def stop(signum: int, _frame: object) -> None:
    """Leave through the ``finally`` that removes the directory."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    for name in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(name, stop)
    serve(sys.stdin.buffer, sys.stdout.buffer)
    os._exit(0)  # the thread still waits for stdin
