"""A JSON file that is there already: read, changed in place, and written in its own manner."""

from __future__ import annotations

import json
import re
from typing import Any

from zeromean.errors import FormatError


def read_existing(content: bytes, title: str, path: str) -> dict[str, Any]:
    """The object in a file, its keys in order.

    Parameters
    ----------
    content : bytes
    title : str
        Of the target, for the message.
    path : str
        Of the file, for the message.

    Raises
    ------
    FormatError
        When it is not a JSON object.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"{path}: is there already and is not JSON ({error}), so {title} cannot update it: "
            "write to another path, or move it away"
        ) from None
    if not isinstance(value, dict):
        raise FormatError(
            f"{path}: is there already and holds a JSON {type(value).__name__}, and {title} "
            "updates an object: write to another path, or move it away"
        )
    return value


def written_like(document: dict[str, Any], content: bytes | None) -> bytes:
    """A document as JSON, with the indentation, escapes and last line break of the old file.

    Examples
    --------
    >>> print(written_like({"a": [1], "b": 2}, b'{\\n "a": 1}').decode())
    {
     "a": [
      1
     ],
     "b": 2
    }
    """
    if content is None:
        return (json.dumps(document, indent=2) + "\n").encode()
    found = re.match(rb"\s*\{\r?\n([ \t]+)", content)
    indent: str | None = found.group(1).decode() if found else None
    text = json.dumps(document, indent=indent, ensure_ascii=content.isascii())
    return (text + "\n" * content.endswith(b"\n")).encode()
