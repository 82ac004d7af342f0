"""How the command shows errors, tables and payloads."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

PREVIEW_BYTES = 256
"""Of a payload, looked at for a preview; it is cut to `PREVIEW_CHARS` for the line."""
PREVIEW_CHARS = 64
HEX_BYTES = 24


def error(failure: BaseException | str) -> None:
    """One error on standard error, with its notes."""
    # Rows come first that came first, where both go to one terminal.
    sys.stdout.flush()
    print(f"error: {failure}", file=sys.stderr)
    for note in getattr(failure, "__notes__", ()):
        print(note, file=sys.stderr)


def warning(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def table(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Lines with aligned columns, the first `left` of them to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(widths[i]) if i < left else cell.rjust(widths[i]) for i, cell in enumerate(row)]
        lines.append("  ".join(cells).rstrip())
    return lines


def preview(payload: memoryview, form: str) -> str:
    """The beginning of a payload, on one line: its text, or hexadecimal where it is none."""
    if form == "hex":
        return _hex(payload)
    text = _decoded(bytes(payload[:PREVIEW_BYTES]), cut=len(payload) > PREVIEW_BYTES)
    if text is None:
        return _hex(payload)
    shown = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    if len(shown) <= PREVIEW_CHARS and len(payload) <= PREVIEW_BYTES:
        return shown
    return shown[:PREVIEW_CHARS] + "…"


def _hex(payload: memoryview) -> str:
    return bytes(payload[:HEX_BYTES]).hex(" ") + (" …" if len(payload) > HEX_BYTES else "")


def _decoded(head: bytes, *, cut: bool) -> str | None:
    try:
        text = head.decode()
    except UnicodeDecodeError as wrong:
        # A character may have been cut in two, at the end of what is looked at.
        if not cut or wrong.end != len(head) or wrong.start < len(head) - 3:
            return None
        text = head[: wrong.start].decode()
    is_text = all(char.isprintable() or char in "\t\r\n" for char in text)
    return text if is_text else None


def json_value(payload: memoryview) -> object:
    """For `--show json`: JSON as itself, other text as a string, the rest as its size."""
    try:
        text = bytes(payload).decode()
    except UnicodeDecodeError:
        return {"bytes": len(payload), "hex": bytes(payload[:HEX_BYTES]).hex()}
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value
