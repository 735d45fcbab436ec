"""What the small experiments beside the races found: two weights, batch norm, signs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NeuronRun:
    """The two-weight sigmoid neuron on one data set with one batch size.

    Attributes
    ----------
    data : {"zero_mean", "all_positive", "x2_negated"}
        Inputs uniform on a square: around 0; moved by +2 so that all are ≥ 1; moved, and the
        second input negated. Labels, optimum (up to that sign) and start are the same.
    batch : int
        Samples an update; 0 for all of them.
    control : {"", "timid", "same_rate"}
        ``"timid"``: 0.3 × the best rate. ``"same_rate"``: the best rate of ``all_positive``.
    rate : float
        Median of the chosen rates.
    steps : tuple of (int or None)
        Updates until the excess loss stays at most 1 % of the start, for each seed.
    median_steps, unreached
        As for `Outcome`.
    slowdown, low, high : float
        Against ``zero_mean`` with the same batch size: geometric mean and 95 % t-interval.
    same_sign, chance : float
        Share of updates in which both gradients have one sign, and what chance gives (0.5).
    turns : float
        Share of successive updates that turn by more than 90°.
    path_ratio : float
        Length of the path ÷ distance from its start to its end; 1 is straight.
    lambda1 : float
        Of E[x xᵀ].
    path : tuple of (float, float)
        The weights of the first seed, from the start until the target stays reached.
    """

    data: str
    batch: int
    control: str
    rate: float
    steps: tuple[int | None, ...]
    median_steps: float
    unreached: int
    slowdown: float
    low: float
    high: float
    same_sign: float
    chance: float
    turns: float
    path_ratio: float
    lambda1: float
    path: tuple[tuple[float, float], ...]

    @property
    def median_open(self) -> bool:
        """As for `Outcome`."""
        return 2 * self.unreached >= len(self.steps)


@dataclass(frozen=True, slots=True)
class Neuron:
    """All runs of the two-weight neuron.

    Attributes
    ----------
    runs : tuple of NeuronRun
        Three data sets × batch 1, 8 and 0 (all), then the controls.
    mirror_difference : float
        Largest difference between the weights of ``all_positive`` and of ``x2_negated`` with its
        second weight negated back, over all batches, seeds, rates and updates: exactly 0.0.
    optimum : (float, float)
        Of ``zero_mean`` and ``all_positive``; of ``x2_negated`` the second weight has the other
        sign.
    samples : tuple of (float, float)
        The ``zero_mean`` inputs of the first seed, for drawing the loss.
    shift : float
        What ``all_positive`` adds to both inputs.
    """

    runs: tuple[NeuronRun, ...]
    mirror_difference: float
    optimum: tuple[float, float]
    samples: tuple[tuple[float, float], ...]
    shift: float

    def run(self, data: str, batch: int, control: str = "") -> NeuronRun:
        """One of the runs."""
        found = {(r.data, r.batch, r.control): r for r in self.runs}
        return found[data, batch, control]


@dataclass(frozen=True, slots=True)
class BatchNormCheck:
    """Training with batch norm right after the first layer, on shifted and unshifted inputs.

    Attributes
    ----------
    shifts : tuple of float
        How far the inputs were moved, in standard deviations.
    largest_difference : tuple of float
        For each shift, the largest difference of any weight after `steps` updates (float64):
        rounding only.
    eval_losses : tuple of float
        For each shift, the loss through the running averages, as in evaluation: not the same.
    steps : int
        Updates.
    """

    shifts: tuple[float, ...]
    largest_difference: tuple[float, ...]
    eval_losses: tuple[float, ...]
    steps: int


@dataclass(frozen=True, slots=True)
class SignShare:
    """Share of (neuron, update) whose weight gradients all have one sign, in a real net.

    Attributes
    ----------
    variant, hidden : str
        ``"original"`` or ``"zero_mean"``; ``"sigmoid"``, ``"relu"`` or ``"tanh"``.
    layer, batch : int
        Layer 1 sees the inputs; samples an update.
    share : float
        Of the neurons and updates with a gradient; zeros are not counted.
    imbalance : float
        Mean of |n₊ − n₋| ÷ (n₊ + n₋).
    """

    variant: str
    hidden: str
    layer: int
    batch: int
    share: float
    imbalance: float
