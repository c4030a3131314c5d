"""Run cases in a worker process, which may crash or be stopped; the parent counts."""

from __future__ import annotations

import random
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeconv.core.errors import EdgeconvError, LimitExceeded, WorkerCrashed, WorkerTimeout
from edgeconv.toolchain.worker.process import ProgressCallback, Worker
from tests.fuzz.readers import CORPUS, READERS, ROOT, Reader

_SECONDS = 120.0


@dataclass(slots=True)
class Outcome:
    """What became of a reader's cases.

    Attributes:
        reader: Its name.
        cases: How many there were.
        counts: Of these, ``read``, ``refused``, ``limited`` (stopped by a limit of the reader's
            own), ``crash``, ``hang`` and ``unforeseen``.
        unforeseen: Exceptions that are no `EdgeconvError`: the case, and where it was raised.
    """

    reader: str
    cases: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    unforeseen: list[tuple[int, str]] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """Crashes, hangs and unforeseen exceptions."""
        return self.counts["crash"] + self.counts["hang"] + self.counts["unforeseen"]


def content_of(reader: Reader, number: int) -> bytes:
    """Return the input of a case: an equal number makes an equal input."""
    rng = random.Random(f"{reader.name}/{number}")
    content = rng.choice(reader.seeds())
    for _ in range(rng.choice((1, 1, 1, 2))):
        content = rng.choice(reader.mutations)(content, rng)
    return content


def found_before(reader: Reader) -> list[Path]:
    """Return the inputs in the corpus that were found for a reader."""
    return sorted(CORPUS.glob(f"{reader.name}-*"))


def read_again(name: str) -> dict[str, tuple[str, str]]:
    """Read what is in the corpus, in this process; return what became of each file."""
    reader, outcomes = READERS[name], {}
    with tempfile.TemporaryDirectory(prefix="edgeconv-fuzz-") as folder:
        path = Path(folder) / f"found{reader.suffix}"
        for file in found_before(reader):
            path.write_bytes(file.read_bytes())
            outcomes[file.name] = judge(reader, path)
    return outcomes


def run_again(name: str) -> dict[str, Sequence[str]]:
    """Read what is in the corpus in a worker, as `run` reads cases.

    Raises:
        WorkerError: It dies, or takes longer than it may.
    """
    with _worker(name) as worker:
        outcomes: dict[str, Sequence[str]] = worker.call("tests.fuzz.cases:read_again", name=name)
    return outcomes


def _worker(name: str) -> Worker:
    return Worker(f"fuzz {name}", timeout=_SECONDS, memory=2 << 30)


def batch(
    name: str, first: int, count: int, progress: ProgressCallback | None = None
) -> list[tuple[int, str, str]]:
    """Run cases, in this process; return the number, what became of each, and where it failed."""
    reader = READERS[name]
    results = []
    with tempfile.TemporaryDirectory(prefix="edgeconv-fuzz-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / f"case{reader.suffix}"
        for number in range(first, first + count):
            if progress is not None:
                progress(number, first + count)
            reader.seeds()
            try:
                path.write_bytes(content_of(reader, number))
            except Exception:  # noqa: BLE001 - a second change of what the first one has broken
                path.write_bytes(b"")
            results.append((number, *judge(reader, path)))
    return results


def judge(reader: Reader, path: Path) -> tuple[str, str]:
    """Read a file; return what became of it, and where an unforeseen exception was raised."""
    try:
        reader.read(path)
    except EdgeconvError:
        return "refused", ""
    except Exception as error:  # noqa: BLE001 - they are what is looked for
        frames = traceback.extract_tb(error.__traceback__)
        own = [
            frame
            for frame in frames
            if str(ROOT) in frame.filename and ".venv" not in frame.filename
        ]
        place = own[-1] if own else frames[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return "unforeseen", f"{type(error).__name__} at {where}: {str(error)[:100]}"
    return "read", ""


def run(name: str, cases: int, first: int = 0) -> Outcome:
    """Run cases of a reader in workers, a new one after each that dies."""
    outcome = Outcome(name)
    number, last = first, first + cases
    at = [first]
    with _worker(name) as worker:
        while number < last:
            size = min(50, last - number)
            at[0] = number
            try:
                found = worker.call(
                    "tests.fuzz.cases:batch",
                    lambda done, _: at.__setitem__(0, done),
                    name=name,
                    first=number,
                    count=size,
                )
            except (LimitExceeded, WorkerCrashed, WorkerTimeout) as error:
                kinds = {LimitExceeded: "limited", WorkerCrashed: "crash", WorkerTimeout: "hang"}
                kind = kinds[type(error)]
                outcome.cases += at[0] + 1 - number
                outcome.counts["refused"] += at[0] - number
                outcome.counts[kind] += 1
                if kind != "limited":
                    outcome.unforeseen.append((at[0], f"{kind}: {error.what}; {error.why}"[:300]))
                number = at[0] + 1
                continue
            _count(outcome, found)
            number += size
    return outcome


def _count(outcome: Outcome, found: Sequence[Any]) -> None:
    for number, kind, where in found:
        outcome.cases += 1
        outcome.counts[kind] += 1
        if kind == "unforeseen":
            outcome.unforeseen.append((number, where))
