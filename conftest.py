"""Which pages and modules need a package that may be absent: their examples are left out then."""

from __future__ import annotations

from importlib.util import find_spec

_NEEDS = {
    "jinja2": ["docs/report.md", "src/zeromean/reporting"],
    "pandas": ["docs/tables.md"],
    "polars": ["docs/tables.md", "src/zeromean/tabular.py"],
    "pyarrow": ["docs/tables.md"],
    "sklearn": ["src/zeromean/sklearn", "docs/sklearn.md"],
    "torch": ["src/zeromean/torch", "docs/torch.md"],
}

collect_ignore = [path for name, paths in _NEEDS.items() if not find_spec(name) for path in paths]
