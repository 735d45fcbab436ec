"""The page of benchmarks, on which each script has a section of its own.

A section begins with a comment that names its script and reaches to the next such comment, so a
script replaces what it wrote before and leaves alone what others wrote.
"""

from __future__ import annotations

import re
from pathlib import Path

_TITLE = "# Benchmarks\n"
_MARK = "<!-- made by bench/{}.py -->"
_ANY_MARK = re.compile(r"^<!-- made by bench/(\w+)\.py -->\n", re.MULTILINE)
_ORDER = ("bench_measure", "bench_apply", "bench_estimators", "bench_whitening")


def write_section(path: Path, script: str, text: str) -> None:
    """Write one script's section and keep the others.

    Parameters
    ----------
    path : Path
        The page; made if it is not there. A page without marks was made by `bench_measure`.
    script : str
        Name of the script without its suffix.
    text : str
        Markdown that begins with a heading of the first or second level.
    """
    sections = read_sections(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections[script] = text.removeprefix(_TITLE).strip()
    known = [name for name in _ORDER if name in sections]
    names = known + sorted(sections.keys() - set(known))
    blocks = [f"{_MARK.format(name)}\n\n{sections[name]}\n" for name in names]
    path.write_text("\n".join([_TITLE, *blocks]), encoding="utf-8")


def read_sections(page: str) -> dict[str, str]:
    """Text of each script's section."""
    head, *rest = _ANY_MARK.split(page)
    if not rest:
        text = head.removeprefix(_TITLE).strip()
        return {"bench_measure": text} if text else {}
    return {name: text.strip() for name, text in zip(rest[::2], rest[1::2], strict=True)}
