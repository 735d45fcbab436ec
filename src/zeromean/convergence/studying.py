"""`study`: why zero mean, on the user's own data: prediction, zig-zag, races; results are data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from zeromean.convergence import batch_norm
from zeromean.convergence.benchmarks import Plan, plans_of, run
from zeromean.convergence.intake import Sample, Wanted, gather
from zeromean.convergence.neuron import neuron_of
from zeromean.convergence.prediction import largest_eigenvalues, predictions_of
from zeromean.convergence.results import Data, Settings, Study
from zeromean.convergence.schedule import OutOfTimeError, Progress, Schedule, one_blas_thread
from zeromean.convergence.signs import sign_shares
from zeromean.convergence.tasks import Task, task_of
from zeromean.convergence.variants import Variant, variants_of
from zeromean.errors import PatternError


def study(
    source: Any,
    *,
    labels: Any = None,
    task: str | None = None,
    size: int = 16,
    n: int = 1500,
    seeds: int = 8,
    budget: float = 60.0,
    full: bool = False,
    colors: str = "gray",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Study:
    """Show, on your own data, why zero-mean inputs train faster, and when they do not.

    Every variant of the data is trained at its own best learning rate, on the same seeds, and
    the number of updates to one training loss is compared. The prediction needs no labels and no
    training: the largest eigenvalue λ₁ of E[x xᵀ], before ÷ after. Give it training data: the mean
    must come from the training split.

    Parameters
    ----------
    source : path, array, data frame, or pair (X, y)
        A folder of pictures, `.npy`, `.npz`, CSV or Parquet; an array (n, columns), (n, h, w) or
        (n, h, w, channels); or what scikit-learn's `load_...` functions return.
    labels : array, "folder", column name, or "none", optional
        Classes of the samples. Left out: class folders or y if there are any. Without, the task is
        made up, and called so.
    task : {"labels", "rotation", "teacher"}, optional
        Left out: labels if there are any; else which way up a picture is, if that can be told;
        else a random linear teacher.
    size : int
        Pictures are reduced to at most size × size, each pixel the mean of its area.
    n : int
        Samples at most, evenly spread and always the same.
    seeds : int
        Paired seeds, three or more.
    budget : float
        Seconds; what does not fit is named in `left_out`. So is what Ctrl-C cuts off.
    full : bool
        Also tanh, Adam, batch norm, hidden σ against σ − ½, and the signs of the gradients:
        about three times as long, so raise the budget.
    colors : {"gray", "RGB"}
        How pictures become channels.
    workers : int, optional
        Threads; the result does not depend on it.
    progress : callable, optional
        Called with what is being done, and the share of the budget that is spent.

    Returns
    -------
    Study

    Raises
    ------
    PatternError, SourceError
        For data that cannot be studied.
    ImportError
        Without SciPy or threadpoolctl.

    Notes
    -----
    The mechanism: Y. LeCun, I. Kanter, S. Solla, "Eigenvalues of covariance matrices: application
    to neural-network learning", Physical Review Letters 66 (1991).

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> random = np.random.default_rng(0)
    >>> x = 100 + 20 * random.normal(size=(200, 1)) + 20 * random.normal(size=(200, 4))
    >>> found = zm.study(x, labels=x[:, 0] > x[:, 1], seeds=3, budget=1e-6)
    >>> print(f"{found.prediction('zero_mean_column').ratio:.0f} times fewer updates")
    22 times fewer updates
    >>> found.left_out[0]
    'two-weight neuron (budget of 1e-06 s spent)'
    """
    settings = _settings(size, n, seeds, budget, full, colors)
    with one_blas_thread():
        schedule = Schedule(budget, workers, progress)
        if progress is not None:
            progress("reading", 0.0)
        sample = gather(source, Wanted(labels, size, n, colors))
        return _studied(sample, task, settings, schedule)


def _settings(size: int, n: int, seeds: int, budget: float, full: bool, colors: str) -> Settings:
    if colors not in ("gray", "RGB"):
        raise PatternError(f"colors is {colors!r}; choose 'gray' or 'RGB'")
    for name, value, least in (("size", size, 2), ("n", n, 40), ("seeds", seeds, 3)):
        if value < least:
            raise PatternError(f"{name} is {value}; choose {least} or more")
    if not budget > 0:
        raise PatternError(f"budget is {budget}; give seconds")
    return Settings(size, n, seeds, float(budget), full, colors)


def _studied(sample: Sample, wanted: str | None, settings: Settings, schedule: Schedule) -> Study:
    """All parts in the order of their weight; what time does not allow is named."""
    shape = sample.x.shape[1:]
    x = sample.x.reshape(len(sample.x), -1)
    task = task_of(sample, wanted)
    predictions = predictions_of(x, variants_of(x, shape, sample.top))
    notes = (*sample.notes, *task.notes)
    found = Study(settings, _data(sample, task), predictions, notes=notes)
    parts = _Parts(task, variants_of(task.x, shape, sample.top), settings, schedule)
    left: list[str] = []
    for name, part in parts.all():
        try:
            schedule.say(name)
            found, missing = part(found)
            left += missing
        except OutOfTimeError:
            left.append(name)
        except KeyboardInterrupt:
            schedule.stop()
            left.append(name)
    why = "stopped by Ctrl-C" if schedule.interrupted else f"budget of {settings.budget:g} s spent"
    return replace(found, left_out=tuple(f"{name} ({why})" for name in left))


_Part = Callable[[Study], tuple[Study, list[str]]]


class _Parts:
    """What a study does beyond the prediction."""

    def __init__(
        self, task: Task, variants: tuple[Variant, ...], settings: Settings, schedule: Schedule
    ) -> None:
        self._task, self._variants = task, variants
        self._settings, self._schedule = settings, schedule

    def all(self) -> Iterator[tuple[str, _Part]]:
        """Name and work of each part."""
        yield "two-weight neuron", self._neuron
        lambdas = largest_eigenvalues(self._task.x, self._variants)
        for plan in plans_of(self._task, self._variants, lambdas, self._settings.full):
            yield plan.name, partial(self._benchmark, plan)
        if self._settings.full:
            yield "batch norm check", self._batch_norm
            yield "signs of the gradients", self._signs

    def _neuron(self, found: Study) -> tuple[Study, list[str]]:
        return replace(found, neuron=neuron_of(self._settings.seeds)), []

    def _benchmark(self, plan: Plan, found: Study) -> tuple[Study, list[str]]:
        made, left = run(plan, self._settings.seeds, self._schedule)
        if made is None:
            return found, left
        return replace(found, benchmarks=(*found.benchmarks, made)), left

    def _batch_norm(self, found: Study) -> tuple[Study, list[str]]:
        x = (self._task.x - self._task.x.mean()) / self._task.x.std()
        checked = batch_norm.check(x, self._task.y, len(self._task.classes))
        return replace(found, batch_norm=checked), []

    def _signs(self, found: Study) -> tuple[Study, list[str]]:
        wanted = ("original", found.main_variant)
        sides = {v.key: v.of(self._task.x) for v in self._variants if v.key in wanted}
        y, classes = self._task.y, len(self._task.classes)
        return replace(found, signs=sign_shares(sides, y, classes, self._schedule.tick)), []


def _data(sample: Sample, task: Task) -> Data:
    x = sample.x
    spread = x.reshape(len(x), -1).std(axis=0)
    spread = spread[spread > 0]
    return Data(
        source=sample.source,
        samples=len(x),
        available=sample.available,
        shape=tuple(x.shape[1:]),
        mean=float(x.mean()),
        std=float(x.std()),
        low=float(x.min()),
        high=float(x.max()),
        ratio=float(abs(x.mean()) / x.std()),
        unlike_scales=float(spread.max() / spread.min()),
        task=task.kind,
        classes=task.classes,
        chance=task.chance,
        columns=sample.columns,
        digest=sample.digest,
    )
