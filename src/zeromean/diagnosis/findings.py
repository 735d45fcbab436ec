"""`Findings`: what a check found, in sentences for people and names for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from zeromean.errors import PatternError

#: From harmless to harmful. A note is something to know; the others make a check fail.
SEVERITIES = ("note", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes
    ----------
    name : str
        What it is about, one word for each kind of finding, such as "twice".
    severity : {"note", "warning", "error"}
    sentence : str
        What was found, where, with numbers.
    repair : str
        What to do about it; empty for notes that need nothing.
    """

    name: str
    severity: str
    sentence: str
    repair: str = ""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise PatternError(f"severity is {self.severity!r}; the choice is {SEVERITIES}")

    def __str__(self) -> str:
        tail = f"\n  {self.repair}" if self.repair else ""
        return f"{self.severity} ({self.name}): {self.sentence}{tail}"


@dataclass(frozen=True)
class Findings:
    """Everything that a check found.

    Iterates over the findings, worst first.

    Attributes
    ----------
    subject : str
        What was checked.
    items : tuple of Finding

    Examples
    --------
    >>> found = Findings("net.onnx", (Finding("none", "note", "no normalization inside"),))
    >>> found
    net.onnx: nothing wrong
    note (none): no normalization inside
    >>> found.ok, len(found), "none" in found
    (True, 1, True)
    """

    subject: str
    items: tuple[Finding, ...]

    def __post_init__(self) -> None:
        ordered = sorted(self.items, key=lambda f: -SEVERITIES.index(f.severity))
        object.__setattr__(self, "items", tuple(ordered))

    @property
    def ok(self) -> bool:
        """Whether there is nothing but notes."""
        return all(finding.severity == "note" for finding in self.items)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __contains__(self, name: object) -> bool:
        """Whether there is a finding of this name."""
        return any(finding.name == name for finding in self.items)

    def __getitem__(self, name: str) -> Finding:
        """The first finding of a name.

        Raises
        ------
        KeyError
        """
        for finding in self.items:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def __repr__(self) -> str:
        wrong = sum(finding.severity != "note" for finding in self.items)
        said = "nothing wrong" if not wrong else "1 problem" if wrong == 1 else f"{wrong} problems"
        return "\n".join([f"{self.subject}: {said}", *map(str, self.items)])

    def to_fields(self) -> dict[str, Any]:
        """As JSON values: subject, ok, findings."""
        return {
            "subject": self.subject,
            "ok": self.ok,
            "findings": [asdict(finding) for finding in self.items],
        }
