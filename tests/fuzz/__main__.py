"""Fuzz at length: ``python -m tests.fuzz --cases 10000 [READER...]``; prints a table."""

from __future__ import annotations

import argparse
import os
from collections import Counter

from tests.fuzz.cases import run
from tests.fuzz.readers import READERS, ROOT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", default=list(READERS))
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)
    print("| reader | cases | read | refused | limited | crashes | hangs | unforeseen |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.readers:
        found = run(name, options.cases, options.first)
        kinds = ("read", "refused", "limited", "crash", "hang", "unforeseen")
        figures = " | ".join(f"{found.counts[kind]:,}" for kind in kinds)
        print(f"| {name} | {found.cases:,} | {figures} |", flush=True)
        seen = Counter(text for _, text in found.unforeseen)
        for text, count in seen.most_common(20):
            number = next(case for case, other in found.unforeseen if other == text)
            print(f"    {count} x {text} (first: case {number})", flush=True)


if __name__ == "__main__":
    main()
