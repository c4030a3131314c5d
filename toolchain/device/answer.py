"""Read what a board answers, and believe none of it: sizes, types and letters are checked.

A board that is broken, or not ours, may send anything without end. Everything has a limit, and what
does not fit is one error: the board's answer is not understood.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from edgeconv.core.errors import WorkerError

MARK = b"EDGECONV "
LINE_BYTES = 4 << 20
"""The longest line."""

NOISE_BYTES = 16 << 20
"""The most that a login shell may print before the answer."""

NOISE_LINES = 100_000
PAYLOAD_BYTES = 1 << 30
SAID_BYTES = 1 << 20
"""The most that ssh and the board may print on stderr."""

_CHUNK = 1 << 16
_KINDS = frozenset({"interrupted", "damaged", "no-python", "old-python", "timeout", "os"})
_LONGEST_TEXT = 4000


class NotUnderstood(WorkerError):
    """The board's answer is not understood; `why` says what is wrong with it."""

    def __init__(self, why: str, where: str = "", details: str = "") -> None:
        super().__init__(
            "the board's answer is not understood",
            where=where,
            why=why,
            hint="check that it is the board you mean, and what its login shell prints",
            details=details,
        )


def read_stream(stream: IO[bytes], results: Path) -> dict[str, Any] | None:
    """Return the answer, and write the bytes that come with it to a file.

    A login shell may print before the answer; that is passed over.

    Returns:
        The answer; ``None`` where the connection ended before there was one.

    Raises:
        NotUnderstood: What comes is too much, or of another form.
    """
    noise = 0
    for _ in range(NOISE_LINES):
        line = stream.readline(LINE_BYTES)
        if not line:
            return None
        if len(line) == LINE_BYTES and not line.endswith(b"\n"):
            raise NotUnderstood(f"a line has more than {LINE_BYTES >> 20} MB")
        if line.startswith(MARK):
            answer = checked(_object(line[len(MARK) :]))
            return answer if _store(stream, answer, results) else None
        noise += len(line)
        if noise > NOISE_BYTES:
            raise NotUnderstood(f"it prints more than {NOISE_BYTES >> 20} MB before it answers")
    raise NotUnderstood(f"it prints more than {NOISE_LINES:,} lines before it answers")


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise NotUnderstood("it is not JSON") from error
    if not isinstance(value, dict):
        raise NotUnderstood("it is no JSON object")
    return value


def checked(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer of the receiver whose types are right.

    Raises:
        NotUnderstood: One is not.
    """
    size = answer.get("bytes", -1)
    if not _is_count(size) or size > PAYLOAD_BYTES:
        raise NotUnderstood(f"it announces {_shown(size)} bytes")
    wanted: tuple[str, ...] = ("sha256", "stdout", "stderr")
    if "refused" in answer:
        wanted = ("sha256", "refused", "details")
        if not isinstance(answer["refused"], str) or answer["refused"] not in _KINDS:
            raise NotUnderstood(f"it refuses for a reason that is not known: {_shown(answer)}")
        if answer["refused"] == "os" and not _is_count(answer.get("errno")):
            raise NotUnderstood("an error of its system has no number")
    if "left" in answer:
        wanted += ("left",)
    for name in wanted:
        if not isinstance(answer.get(name), str):
            raise NotUnderstood(f"its {name} is no text")
    return {
        **answer,
        **{name: clean(answer[name]) for name in ("details", "left") if name in answer},
    }


def _store(stream: IO[bytes], answer: Mapping[str, Any], results: Path) -> bool:
    """Write the payload; return whether all of it came."""
    state, left = hashlib.sha256(), int(answer["bytes"])
    with results.open("wb") as file:
        while left:
            chunk = stream.read(min(left, _CHUNK))
            if not chunk:
                return False
            state.update(chunk)
            file.write(chunk)
            left -= len(chunk)
    return bool(state.hexdigest() == answer["sha256"])


class Said:
    """Reads stderr in a thread: keeps the beginning, and calls back where there is too much."""

    def __init__(self, stream: IO[bytes], too_much: Callable[[], None]) -> None:
        self._stream = stream
        self._too_much = too_much
        self._kept = bytearray()
        self.exceeded = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while chunk := self._stream.read1(_CHUNK):  # type: ignore[attr-defined]  # a BufferedReader
            self._kept += chunk
            if len(self._kept) > SAID_BYTES:
                self.exceeded = True
                self._too_much()
                return

    def text(self) -> str:
        """Return what was said, once the process has ended."""
        self._thread.join(10)
        return clean(bytes(self._kept).decode(errors="replace")).strip()


def clean(text: str) -> str:
    """Return a text without control characters, which terminals obey; lines stay apart."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)


def is_text(value: object) -> bool:
    """Tell whether a value is a short text that can be shown."""
    return isinstance(value, str) and len(value) < _LONGEST_TEXT and value.isprintable()


def require_ran(answer: Any, where: str, places: Sequence[str]) -> dict[str, Any]:
    """Return what the runner printed, with the types that it has.

    Args:
        answer: What it printed.
        where: The device.
        places: What the model can have run on.

    Raises:
        NotUnderstood: One is another.
    """
    if not isinstance(answer, dict):
        raise NotUnderstood("the runner printed no JSON object", where)
    optional = ("fallback", "advice", "failure")
    for name in (*optional, *(() if "failure" in answer else ("runtime", "python", "machine"))):
        value = answer.get(name)
        if not (is_text(value) or (value is None and name in optional)):
            raise NotUnderstood(f"its {name} is no text", where)
    if "failure" in answer:
        return {**answer, "details": clean(str(answer.get("details", "")))}
    times = answer.get("latency_ms")
    if answer.get("ran_on") not in places:
        raise NotUnderstood("it does not say what the model ran on", where)
    if not isinstance(times, dict) or not all(
        _is_number(times.get(name)) for name in ("first", "median", "p90", "runs")
    ):
        raise NotUnderstood("its times are no numbers", where)
    if answer.get("memory_bytes") is not None and not _is_count(answer["memory_bytes"]):
        raise NotUnderstood("its memory is no number", where)
    return answer


def require_probed(answer: Any) -> bool:
    """Tell whether what ``probe.py`` printed has its types."""
    return (
        isinstance(answer, dict)
        and isinstance(answer.get("runtimes"), list)
        and all(map(is_text, answer["runtimes"]))
        and all(is_text(answer.get(name)) for name in ("python", "machine"))
        and _is_part(answer.get("part"))
    )


def _is_part(value: object) -> bool:
    return value is None or (
        isinstance(value, dict) and all(map(is_text, value)) and all(map(_is_thing, value.values()))
    )


def _is_thing(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, dict) and all(
        isinstance(item, bool | None) or is_text(item) for item in value.values()
    )


def numbered(arrays: Mapping[str, Any]) -> Sequence[Any]:
    """Return arrays that are named 0, 1, ... in order.

    Raises:
        NotUnderstood: They are named otherwise.
    """
    names = [str(number) for number in range(len(arrays))]
    if set(names) != set(arrays):
        raise NotUnderstood("its outputs are not numbered")
    return [arrays[name] for name in names]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _shown(value: object) -> str:
    return clean(repr(value))[:100]
