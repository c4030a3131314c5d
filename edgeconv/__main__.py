"""``python -m edgeconv``."""

from __future__ import annotations

from edgeconv.cli import main

if __name__ == "__main__":
    main()
