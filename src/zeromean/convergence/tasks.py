"""What the models learn: the data's own classes, which way up a picture is, or a random teacher.

Only the first is the user's own task. The others stand in where there are no labels; they show
the same effect in the same order of magnitude, on another task, and are called by their names.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeromean.convergence.intake import Sample
from zeromean.errors import PatternError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TASKS = ("labels", "rotation", "teacher")
TURNS = ("upright", "turned by 90°", "turned by 180°", "turned by 270°")
_COMPONENTS, _SURE = 20, 3.0


@dataclass(frozen=True)
class Task:
    """Samples (n, d) and their classes.

    Attributes
    ----------
    kind : {"labels", "rotation", "teacher"}
    x : ndarray of float64, (n, d)
    y : ndarray of int, (n,)
    classes : tuple of str
    notes : tuple of str
    """

    kind: str
    x: Floats
    y: Ints
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def chance(self) -> float:
        """Entropy of the class shares in nats: what a guess costs."""
        share = np.bincount(self.y) / len(self.y)
        share = share[share > 0]
        return float(-(share * np.log(share)).sum())


def task_of(sample: Sample, wanted: str | None) -> Task:
    """The task that was asked for; else labels, else rotation if it can be learned, else teacher.

    Parameters
    ----------
    sample : Sample
    wanted : str or None

    Returns
    -------
    Task

    Raises
    ------
    PatternError
        For an unknown task, or one that these data do not have.
    """
    if wanted is not None and wanted not in TASKS:
        raise PatternError(f"task is {wanted!r}; choose one of {', '.join(TASKS)}")
    if wanted == "labels" and sample.codes is None:
        raise PatternError(
            f"{sample.source} came without labels; give labels=, or choose task='rotation' or "
            "'teacher'"
        )
    if sample.codes is not None and wanted in (None, "labels"):
        return _labels(sample)
    if wanted == "teacher":
        return _teacher(sample)
    turned = _rotation(sample)
    if wanted == "rotation":
        if turned is None:
            raise PatternError("task='rotation' needs square pictures; choose 'teacher'")
        return turned
    if turned is not None and _learnable(turned):
        return turned
    found = _teacher(sample)
    why = "cannot be told" if turned is not None else "means nothing here"
    note = f"Which way up a sample is {why}, so the classes come from a random teacher."
    return Task(found.kind, found.x, found.y, found.classes, (note,))


def _flat(x: Floats) -> Floats:
    return x.reshape(len(x), -1)


def _labels(sample: Sample) -> Task:
    """The classes that occur, without gaps."""
    assert sample.codes is not None
    held, y = np.unique(sample.codes, return_inverse=True)
    return Task("labels", _flat(sample.x), y, tuple(sample.classes[i] for i in held))


def _rotation(sample: Sample) -> Task | None:
    """Every picture turned by a random number of quarter turns, which is to be told."""
    x = sample.x
    if x.ndim != 4 or x.shape[1] != x.shape[2] or x.shape[1] < 2:
        return None
    y = np.random.default_rng(4).permutation(len(x)) % 4
    turned = np.stack([np.rot90(one, int(k)) for one, k in zip(x, y, strict=True)])
    note = "The classes are made: which way up a picture is. This is not your own task."
    return Task("rotation", _flat(turned), y, TURNS, (note,))


def _teacher(sample: Sample) -> Task:
    """The largest of some random linear functions of the whitened principal components."""
    x = _flat(sample.x)
    random = np.random.default_rng(5)
    centered = x - x.mean(axis=0)
    u, values, _ = np.linalg.svd(centered, full_matrices=False)
    kept = min(_COMPONENTS, int((values > 1e-6 * values[0]).sum()))
    classes = 10 if len(x) >= 500 else 3
    scores = u[:, :kept] @ random.standard_normal((kept, classes))
    held, y = np.unique(scores.argmax(axis=1), return_inverse=True)
    note = "The classes are made by a random linear teacher. This is not your own task."
    return Task("teacher", x, y, tuple(f"class {i}" for i in held), (note,))


def _learnable(task: Task) -> bool:
    """Whether a linear model tells classes of samples that it has not seen better than chance."""
    z = (task.x - task.x.mean(axis=0)) / (task.x.std() or 1.0)
    z = np.concatenate([z, np.ones((len(z), 1))], axis=1)
    order = np.random.default_rng(6).permutation(len(z))
    seen, unseen = order[: len(z) // 2], order[len(z) // 2 :]
    classes = len(task.classes)
    ridge = 0.1 * len(seen) * np.eye(z.shape[1])
    moments = z[seen].T @ z[seen] + ridge
    w = np.linalg.solve(moments, z[seen].T @ np.eye(classes)[task.y[seen]])
    right = float(((z[unseen] @ w).argmax(axis=1) == task.y[unseen]).mean())
    chance = float(np.bincount(task.y).max() / len(z))
    return right > chance + _SURE * float(np.sqrt(chance * (1 - chance) / len(unseen)))
