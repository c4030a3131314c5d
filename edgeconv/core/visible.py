"""Text of others, made safe to show.

Names in models, file names, and what boards and compilers answer may hold anything: sequences that
a terminal obeys, and marks that turn the order of what is read around (Unicode TR 36, section 3.2).
"""

from __future__ import annotations

import re

# C0 and C1 but tab and newline, DEL; line and paragraph separators; bidirectional marks,
# embeddings, overrides and isolates; zero-width characters and the byte order mark; lone
# surrogates, which are bytes of file names that are no UTF-8.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Return text with every character that is obeyed and not seen spelled out, as ``\x1b``.

    JSON stays JSON: what may stand in its strings is spelled as it spells it, ``\u009b``.
    """
    return _UNSEEN.sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}"
