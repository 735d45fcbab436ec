"""Runs contestants in interleaved rounds, checks that all computed the same, and compares times.

A round runs every contestant once, in one order (A B C A B C ...), so that whatever slows the
machine for a while slows all of them. Ratios are taken within a round and then summarized.
A contestant whose answer is further from the exact one than its arithmetic can explain stops
the run: the ratio of two different computations means nothing.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]
_HALF_ULP = 2.0**-53


class DisagreementError(AssertionError):
    """A contestant computed something else than the others."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Mean and std of each feature."""

    mean: _Floats
    std: _Floats


@dataclass(frozen=True, slots=True)
class Deviation:
    """Largest distance from the exact answer in units of the std, and what was allowed there."""

    found: float
    allowed: float


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to do the job.

    Attributes
    ----------
    name : str
    clock : callable
        Runs once and gives (seconds, outcome).
    check : callable
        Takes the outcome; gives a `Deviation` or None, or raises `DisagreementError`.
    """

    name: str
    clock: Callable[[], tuple[float, Any]]
    check: Callable[[Any], Deviation | None]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, smallest and largest of a few figures."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarize one figure from each round."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 3) -> str:
        """Median (low to high), to so many significant digits."""
        first, low, high = (rounded(v, digits) for v in (self.median, self.low, self.high))
        return f"{first} ({low}–{high})"


def rounded(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, without an exponent."""
    if value == 0 or not np.isfinite(value):
        return f"{value:.0f}"
    places = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{places}f}"


@dataclass(slots=True)
class Race:
    """Times of all contestants, round by round.

    Attributes
    ----------
    title : str
    work : float
        How much one run does, in `unit`.
    unit : str
        Such as "megapixels".
    seconds : dict of str to list of float
    deviations : dict of str to Deviation
    """

    title: str
    work: float
    unit: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    deviations: dict[str, Deviation] = field(default_factory=dict)

    def ratio(self, slower: str, faster: str) -> Spread:
        """How many times as long one contestant takes as another, round by round."""
        pairs = zip(self.seconds[slower], self.seconds[faster], strict=True)
        return Spread.of([a / b for a, b in pairs])

    def rate(self, name: str) -> Spread:
        """Work per second of one contestant."""
        return Spread.of([self.work / s for s in self.seconds[name]])

    def table(self, base: str) -> str:
        """All contestants as a Markdown table, beside the one called `base`."""
        head = ["contestant", "milliseconds", f"{self.unit}/s", "time : ours", "off by (allowed)"]
        rows = [
            [
                name,
                Spread.of([1e3 * s for s in seconds]).text(),
                rounded(self.rate(name).median),
                self.ratio(name, base).text(),
                self._off(name),
            ]
            for name, seconds in self.seconds.items()
        ]
        return f"**{self.title}**\n\n" + table(head, rows)

    def _off(self, name: str) -> str:
        deviation = self.deviations.get(name)
        if deviation is None:
            return "computes no statistics"
        if deviation.allowed == 0:
            return "0 (exact)"
        return f"{deviation.found:.1e} ({deviation.allowed:.0e})"


def run_race(race: Race, contestants: Sequence[Contestant], rounds: int) -> Race:
    """Let everybody warm up once, then run the rounds; every answer is checked every time."""
    for contestant in contestants:
        _run_once(race, contestant)
    gc.collect()
    gc.freeze()  # or each collection between the runs walks through all of Numba
    for _ in range(rounds):
        for contestant in contestants:
            seconds = _run_once(race, contestant)
            race.seconds.setdefault(contestant.name, []).append(seconds)
    return race


def _run_once(race: Race, contestant: Contestant) -> float:
    gc.collect()
    seconds, outcome = contestant.clock()
    try:
        deviation = contestant.check(outcome)
    except DisagreementError as error:
        raise DisagreementError(f"{race.title}: {contestant.name}: {error}") from None
    if deviation is not None:
        race.deviations[contestant.name] = deviation
    return seconds


def timed(function: Callable[[], Any]) -> Callable[[], tuple[float, Any]]:
    """A clock for a function that runs in this process."""

    def clock() -> tuple[float, Any]:
        start = time.perf_counter()
        outcome = function()
        return time.perf_counter() - start, outcome

    return clock


# ---------------------------------------------------------------- agreement


def same_bits(exact: Answer) -> Callable[[Answer], Deviation]:
    """A check for ourselves: the very same bits, whatever the workers and instructions."""

    def check(answer: Answer) -> Deviation:
        zero = np.zeros_like(exact.std)
        return compare(answer, exact, zero, zero)

    return check


def within(
    exact: Answer, n: int, *, value_error: float = 0.0, one_pass: bool = False
) -> Callable[[Answer], Deviation]:
    """A check for floating-point peers: within the worst case of their arithmetic.

    Summing n values in any order errs by at most gamma = n u of the sum of magnitudes, which is
    at most n times the root mean square (Higham, *Accuracy and Stability of Numerical
    Algorithms*, 2nd ed., 4.2). `one_pass` is E[x²] - E[x]², which loses the digits that the two
    have in common.

    Parameters
    ----------
    exact : Answer
    n : int
        Values of each feature.
    value_error : float
        Relative error of each value as the peer sees it, such as 2**-24 for float32 of x/255.
    one_pass : bool
    """
    gamma = n * _HALF_ULP + value_error
    rms = np.sqrt(exact.mean**2 + exact.std**2)
    variance = 4 * gamma * exact.std**2 + 2 * gamma * rms * exact.std + (gamma * rms) ** 2
    if one_pass:
        variance = 4 * gamma * rms**2
    spread = np.minimum(variance / exact.std, np.sqrt(variance)) + 4 * _HALF_ULP * exact.std

    def check(answer: Answer) -> Deviation:
        return compare(answer, exact, gamma * rms, spread)

    return check


def compare(answer: Answer, exact: Answer, mean_bound: _Floats, std_bound: _Floats) -> Deviation:
    """The largest deviation in units of the std.

    Raises
    ------
    DisagreementError
        When any mean or std is further off than its bound, or is NaN.
    """
    for what, bound in (("mean", mean_bound), ("std", std_bound)):
        found, wanted = np.asarray(getattr(answer, what), np.float64), getattr(exact, what)
        if found.shape != wanted.shape:
            raise DisagreementError(f"{what} has shape {found.shape}, not {wanted.shape}")
        if not (np.abs(found - wanted) <= bound).all():
            j = int(np.argmax(np.abs(found - wanted) - bound))
            raise DisagreementError(
                f"{what} of feature {j} is {found[j]!r}, exactly {wanted[j]!r}; "
                f"at most {bound[j]:.1e} off was expected"
            )
    off = np.maximum(np.abs(answer.mean - exact.mean), np.abs(answer.std - exact.std))
    allowed = np.maximum(mean_bound, std_bound)
    return Deviation(float((off / exact.std).max()), float((allowed / exact.std).max()))


def equals(expected: Any) -> Callable[[Any], None]:
    """A check for baselines that compute no statistics: they touched all the data."""

    def check(outcome: Any) -> None:
        if outcome != expected:
            raise DisagreementError(f"gave {outcome!r}, not {expected!r}")

    return check


# ---------------------------------------------------------------- the table


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of what must be reached.

    Attributes
    ----------
    what : str
    measured : Spread
    floor : float
        At least this; at most this where `at_most`.
    aim : float or None
    unit : str
        Written behind the numbers.
    at_most : bool
    """

    what: str
    measured: Spread
    floor: float
    aim: float | None = None
    unit: str = "×"
    at_most: bool = False

    @property
    def verdict(self) -> str:
        """Aim met, met, or missed; by the median."""
        if self.aim is not None and self._reaches(self.aim):
            return "met, and the aim"
        return "met" if self._reaches(self.floor) else "**missed**"

    def _reaches(self, mark: float) -> bool:
        return self.measured.median <= mark if self.at_most else self.measured.median >= mark

    def row(self) -> list[str]:
        """Cells for the page."""
        sign = "≤" if self.at_most else "≥"
        aim = "" if self.aim is None else f"{sign} {self.aim:g}{self.unit}"
        measured = f"{self.measured.text()}{self.unit}"
        return [self.what, measured, f"{sign} {self.floor:g}{self.unit}", aim, self.verdict]


def goal_table(goals: Sequence[Goal]) -> str:
    """All goals as a Markdown table."""
    return table(["what", "measured", "at least", "aim", ""], [goal.row() for goal in goals])


@dataclass(slots=True)
class Part:
    """One lettered part of the benchmark: its page section, its races and its goals."""

    title: str
    text: list[str] = field(default_factory=list)
    races: list[Race] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
