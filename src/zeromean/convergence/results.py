"""What a study found: plain numbers, for every seed, in frozen dataclasses.

Everything here is data: tuples of Python numbers and strings, None where there is no number. So
two studies compare with ``==``, and a study fits in a JSON file without loss.

The words that all parts share:

variant
    One way to prepare the same data, by its key. The base is ``original``; every other is compared
    with it. All of them are divided by the same standard deviation s of all values, unless the
    name says otherwise, so that scale is never mistaken for centering.

    ====================  =======================================================================
    ``original``          x / s: the base
    ``zero_mean``         (x − one mean of all values) / s: what the usual article does
    ``zero_mean_channel`` (x − a mean for each channel) / s
    ``zero_mean_pixel``   (x − a mean for each pixel, the mean picture) / s
    ``zero_mean_column``  (x − a mean for each column) / s: tables only
    ``standardized``      (x − its own mean) / its own std, for each pixel or column
    ``scaled``            x / std of each column, not centered: tables only
    ``minus_128``         (x − half of the range) / s: 128 for 8-bit pictures
    ``whitened``          ZCA: prediction only
    ``original_255``      x / 255, or x / the largest value: trained only; only the scale differs
    ``sign_flipped``      x / s with half of the columns negated: the A/A control
    ====================  =======================================================================

steps
    Updates until the training loss is at most the target and stays there for five checks; None
    when that never happened within the benchmark's `max_steps`.
speed-up
    Geometric mean over the paired seeds of steps(base) ÷ steps(variant), each at the learning rate
    that was best on the *other* seeds; `low` and `high` are the ends of the 95 % t-interval of the
    log ratios. Above 1 the variant is quicker than the base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zeromean.convergence.mechanisms import BatchNormCheck, Neuron, NeuronRun, SignShare

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure

__all__ = [
    "SMALLEST_EFFECT",
    "STAYS",
    "BatchNormCheck",
    "Benchmark",
    "Data",
    "Neuron",
    "NeuronRun",
    "Outcome",
    "Prediction",
    "RatePoint",
    "Settings",
    "SignShare",
    "Study",
]

#: Differences below this factor are never called a speed-up or a slow-down.
SMALLEST_EFFECT = 1.3
#: How many checks in a row must be at or below the target.
STAYS = 5


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for.

    Attributes
    ----------
    size : int
        Pictures are at most size × size.
    n, seeds : int
        Samples at most, and paired seeds.
    budget : float
        Seconds after which no new work is begun.
    full : bool
        Whether the longer benchmarks were asked for.
    colors : str
        How pictures became channels, ``"gray"`` or ``"RGB"``.
    """

    size: int
    n: int
    seeds: int
    budget: float
    full: bool
    colors: str


@dataclass(frozen=True, slots=True)
class Data:
    """What was studied, and on which task.

    Attributes
    ----------
    source : str
        Where the samples came from.
    samples, available : int
        How many samples were used, and how many the source has (at least).
    shape : tuple of int
        Of one sample: (height, width, channels) of a picture, (columns,) of a row.
    mean, std, low, high : float
        Of all values together, in the data's own units; population std.
    ratio : float
        |mean| ÷ std: 2.0 for ordinary photographs, 0.8 for pictures on black.
    unlike_scales : float
        Largest ÷ smallest standard deviation of a column (constant ones left out); 1 or more.
    task : {"labels", "rotation", "teacher"}
        The data's own classes; which way up a picture is (synthetic labels); or a random
        linear teacher (synthetic labels). Only ``"labels"`` is the user's own task.
    classes : tuple of str
        Names of the classes.
    chance : float
        Loss of a guess: the entropy of the class shares, in nats.
    columns : tuple of str
        Names of the columns of a table that has names; else empty.
    digest : str
        Of all picture files of the source, as in a profile: the sum of their SHA-256 mod 2²⁵⁶, 64
        hex digits; empty for other sources and for more than 256 MB.
    """

    source: str
    samples: int
    available: int
    shape: tuple[int, ...]
    mean: float
    std: float
    low: float
    high: float
    ratio: float
    unlike_scales: float
    task: str
    classes: tuple[str, ...]
    chance: float
    columns: tuple[str, ...] = ()
    digest: str = ""

    @property
    def is_pictures(self) -> bool:
        """Whether the samples are pictures; else they are rows of a table."""
        return len(self.shape) == 3


@dataclass(frozen=True, slots=True)
class Prediction:
    """The largest eigenvalue λ₁ of E[x̃ x̃ᵀ] (x̃ = the inputs and a 1 for the bias) of a variant.

    Attributes
    ----------
    variant, label : str
        Key, and its name, such as ``"zero-mean, one mean"``.
    lambda1 : float
        λ₁; the yard-stick of the learning rate is 2 ÷ λ₁.
    share : float
        λ₁ ÷ trace.
    ratio : float
        λ₁(original) ÷ λ₁(variant): the predicted speed-up of full-batch gradient descent on a
        linear model. It predicts nothing about deeper nets, momentum or Adam.
    low, high : float
        95 % interval of `ratio`, from random halves of the samples.
    subsamples : tuple of float
        The ratio in each half.
    closed_form : float or None
        1 + ‖μ‖² ÷ λ₁(Σ), for variants that subtract the mean and keep the scale.
    predicts : bool
        False where `ratio` compares unlike scales (whitening, tables scaled by column) and
        predicts no number of steps.
    """

    variant: str
    label: str
    lambda1: float
    share: float
    ratio: float
    low: float
    high: float
    subsamples: tuple[float, ...]
    closed_form: float | None
    predicts: bool


@dataclass(frozen=True, slots=True)
class RatePoint:
    """Steps to the target at one learning rate, one number a seed.

    Attributes
    ----------
    rate : float
        Learning rate.
    steps : tuple of (int or None)
        For each seed; None when not reached.
    tried : tuple of int
        How many updates were tried, for each seed. A rate that cannot be chosen any more ends at
        three times the updates of the quickest one; every other has all that are allowed.
    """

    rate: float
    steps: tuple[int | None, ...]
    tried: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One variant in one benchmark.

    Attributes
    ----------
    variant, label : str
        Key, and its name.
    rates : tuple of float
        The learning rate of each seed, chosen on the other seeds.
    steps : tuple of (int or None)
        Updates to the target at that rate, for each seed; None when not reached.
    median_steps : float
        Their median, unreached ones counted as infinite; `max_steps`, a bound, where that makes
        the median infinite (`median_open`).
    unreached : int
        How many seeds did not reach the target.
    edge : bool
        True when a chosen rate is the smallest or largest that was tried: low quality.
    speedup, low, high : float
        Against the base, with the 95 % t-interval; all 1 for the base itself.
    bound : {"", "at least", "at most", "unknown"}
        What `speedup` is where a seed did not reach the target, or had it at the first check, or
        where the best rate lies at the edge of the grid: then `low` and `high` mean nothing.
    predicted : float or None
        λ₁ ratio of the inputs of the task (of turned pictures for rotation); only for full-batch
        gradient descent on a linear model.
    verdict : {"base", "control", "faster", "slower", "not shown"}
        ``"faster"`` only if the interval lies above 1 and above the A/A control, and the
        estimate above 1.3; ``"slower"`` likewise.
    curve : tuple of RatePoint
        Steps against learning rate, in increasing order: all that was tried.
    """

    variant: str
    label: str
    rates: tuple[float, ...]
    steps: tuple[int | None, ...]
    median_steps: float
    unreached: int
    edge: bool
    speedup: float
    low: float
    high: float
    bound: str
    predicted: float | None
    verdict: str
    curve: tuple[RatePoint, ...]

    @property
    def median_open(self) -> bool:
        """Whether so many seeds did not reach the target that `median_steps` is a bound."""
        return 2 * self.unreached >= len(self.steps)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One model, one optimizer, all variants.

    Attributes
    ----------
    key : str
        ``"softmax_gd"``; of tables also ``"scale_gd"`` (base ``scaled``); ``"sigmoid_sgd"``,
        ``"relu_sgd"``; and with `full` also ``"tanh_sgd"``, ``"relu_adam"``,
        ``"batch_norm_sgd"``, ``"hidden_1"`` to ``"hidden_3"``.
    name : str
        A few words, such as ``"MLP, sigmoid, SGD"``.
    batch : int
        Samples an update; 0 for all of them.
    target : float
        Training loss to reach, in nats.
    max_steps, every : int
        Updates allowed, and updates between two checks.
    outcomes : tuple of Outcome
        The base first. In ``hidden_…`` the variants are ``"sigmoid"`` (base) and
        ``"sigmoid_minus_half"``: the inputs are zero-mean in both.
    """

    key: str
    name: str
    batch: int
    target: float
    max_steps: int
    every: int
    outcomes: tuple[Outcome, ...]

    @property
    def identical(self) -> list[Outcome]:
        """Variants with the very same updates for every seed, the base and the control left out."""
        own = [o for o in self.outcomes if o.verdict not in ("base", "control")]
        taken = [o.steps for o in own]
        return [o for o in own if taken.count(o.steps) > 1 and o.unreached < len(o.steps)]

    def __getitem__(self, variant: str) -> Outcome:
        """The outcome of a variant, by its key."""
        found = {outcome.variant: outcome for outcome in self.outcomes}
        return found[variant]

    def __contains__(self, variant: object) -> bool:
        """Whether this variant was run."""
        return any(outcome.variant == variant for outcome in self.outcomes)


@dataclass(frozen=True)
class Study:
    """What `zeromean.study` found. Compare with ``==``, keep with `save`, read with `table`.

    Attributes
    ----------
    settings : Settings
    data : Data
    predictions : tuple of Prediction
        Of the data as they are, ``original`` first. No labels and no training are needed.
    neuron : Neuron or None
        The two-weight neuron; it does not depend on the data.
    benchmarks : tuple of Benchmark
        Full-batch softmax regression, then the nets.
    batch_norm : BatchNormCheck or None
        With `full`.
    signs : tuple of SignShare
        With `full`.
    left_out : tuple of str
        What the budget or Ctrl-C cut off, one sentence fragment each.
    notes : tuple of str
        What else must be known to read the numbers, one sentence each.
    """

    settings: Settings
    data: Data
    predictions: tuple[Prediction, ...]
    neuron: Neuron | None = None
    benchmarks: tuple[Benchmark, ...] = ()
    batch_norm: BatchNormCheck | None = None
    signs: tuple[SignShare, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def prediction(self, variant: str) -> Prediction:
        """The prediction for a variant.

        Parameters
        ----------
        variant : str
            Its key; KeyError when there is none.
        """
        return {p.variant: p for p in self.predictions}[variant]

    def benchmark(self, key: str) -> Benchmark:
        """A benchmark.

        Parameters
        ----------
        key : str
            KeyError when it was not run.
        """
        return {b.key: b for b in self.benchmarks}[key]

    @property
    def main_variant(self) -> str:
        """The variant that the headline is about: ``zero_mean``, of tables ``zero_mean_column``."""
        return "zero_mean" if self.data.is_pictures else "zero_mean_column"

    @property
    def predicted_fold(self) -> tuple[float, float] | None:
        """Smallest and largest measured ÷ predicted speed-up, over two or more without bounds."""
        found = [o for b in self.benchmarks if b.key == "softmax_gd" for o in b.outcomes]
        folds = [o.speedup / o.predicted for o in found if o.predicted and not o.bound]
        return (min(folds), max(folds)) if len(folds) > 1 else None

    @property
    def headline(self) -> str:
        """What was found, with what was not, in a few plain sentences."""
        from zeromean.convergence.wording import headline

        return headline(self)

    @property
    def table(self) -> str:
        """Headline and all numbers as text."""
        from zeromean.convergence.wording import as_text

        return as_text(self)

    def __repr__(self) -> str:
        return f"Study of {self.data.source}: {self.headline} (print(study.table) shows all)"

    def to_json(self) -> str:
        """What `save` writes."""
        from zeromean.convergence.document import to_json

        return to_json(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .json file; the same study gives the same bytes. `zeromean.load` reads it.

        Parameters
        ----------
        path : path
            Ends in `.json`.

        Raises
        ------
        FormatError
            For another suffix, or a folder that cannot be written to.
        """
        from zeromean.convergence.document import save

        save(self, path)

    def plot(self, kind: str = "rates") -> Figure:
        """Draw a figure.

        Parameters
        ----------
        kind : {"rates", "zigzag", "prediction", "speedups"}
            Updates against learning rate, for both sides of every benchmark; the paths of the
            two-weight neuron; λ₁ ratios beside measured speed-ups; all speed-ups with intervals.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        PatternError
            For an unknown kind, or one whose part was left out.
        ImportError
            Without matplotlib.
        """
        from zeromean.convergence.drawing import draw_study

        return draw_study(self, kind)
