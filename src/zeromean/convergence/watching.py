"""Follows a training run: checks the loss, drops what diverged, and says when enough is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeromean.convergence.rates import first_stay
from zeromean.convergence.results import STAYS

Floats = npt.NDArray[np.floating]
Tick = Callable[[], None]
_PATIENCE = 3  # times the updates of the quickest rate


@dataclass(frozen=True)
class Limits:
    """How long a run may go on.

    Attributes
    ----------
    max_steps, every : int
        Updates allowed, and updates between two checks.
    target : float or None
        With a target, a run ends at three times the updates of its quickest rate.
    tick : callable
        Called at each check; raises when the study must stop.
    all_rates : bool
        With a target, a run ends when all rates have reached it.
    """

    max_steps: int
    every: int
    target: float | None
    tick: Tick
    all_rates: bool = False


@dataclass
class Watch:
    """The losses of some rates at once, check by check."""

    limits: Limits
    losses: list[Floats] = field(default_factory=list)
    alive: npt.NDArray[np.bool_] | None = None
    _end: int | None = None
    _reached: npt.NDArray[np.bool_] | None = None

    def check(self, step: int, losses: Floats) -> bool:
        """Take the losses before update `step`; True when the run is over."""
        self.limits.tick()
        # High is not lost: a net may swing to many times its first loss, and then learn quickly.
        fine = np.isfinite(losses)
        self.alive = fine if self.alive is None else self.alive & fine
        self.losses.append(np.where(self.alive, losses, np.inf))
        if self._end is None and self.limits.target is not None:
            self._end = self._last(self.limits.target, step)
        end = self.limits.max_steps if self._end is None else self._end
        return step >= end or not self.alive.any()

    def _last(self, target: float, step: int) -> int | None:
        """Where to end, once some rate has stayed below the target."""
        stays = first_stay(np.stack(self.losses[-STAYS:]), target) >= 0
        assert self.alive is not None
        if self.limits.all_rates:
            self._reached = stays if self._reached is None else self._reached | stays
            return step if (self._reached | ~self.alive).all() else None
        if not stays.any():
            return None
        reached = (len(self.losses) - STAYS) * self.limits.every
        enough = max(_PATIENCE * reached, reached + STAYS * self.limits.every)
        return min(self.limits.max_steps, enough)

    def history(self) -> Floats:
        """All losses, (checks, rates)."""
        return np.stack(self.losses)
