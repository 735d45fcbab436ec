"""Draws the figures of a study; `figures` knows nothing about studies."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zeromean.convergence.results import Benchmark, NeuronRun, Outcome, Study
from zeromean.convergence.wording import median_text, missing
from zeromean.errors import PatternError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zeromean.figures.rate_curves import RateCurve
    from zeromean.figures.ratios import Ratio
    from zeromean.figures.weight_paths import PathPanel

KINDS = ("rates", "zigzag", "prediction", "speedups")


def draw_study(study: Study, kind: str, *, narrow: bool = False) -> Figure:
    """Draw one figure of a study; `narrow` for a phone.

    Raises
    ------
    PatternError
        For an unknown kind, or one whose part was left out.
    """
    if kind not in KINDS:
        raise PatternError(f"kind is {kind!r}; choose one of {', '.join(KINDS)}")
    if (study.neuron is None) if kind == "zigzag" else not study.benchmarks:
        raise PatternError(f"this study has nothing to draw for {kind!r}: it was left out")
    draw = {"rates": _rates, "zigzag": _zigzag, "prediction": _prediction, "speedups": _speedups}
    return draw[kind](study, narrow)


def _where(study: Study) -> str:
    made_up = {"rotation": ", made-up task: rotation", "teacher": ", made-up task: random teacher"}
    return study.data.source.rstrip("/").rpartition("/")[2] + made_up.get(study.data.task, "")


# ---------------------------------------------------------------- learning rates


def _rates(study: Study, narrow: bool) -> Figure:
    from zeromean.figures.rate_curves import rate_curves

    panels = [(b.name, [_curve(o) for o in _sides(b, study)]) for b in study.benchmarks]
    panels = [(name, curves) for name, curves in panels if len(curves) > 1][:6]
    note = (
        "Every dot a seed, lines their medians; ring: the rate that counts; x: target not reached "
        "by most seeds. Right above each other: both sides at one and the same rate. What is "
        "gained beyond that is gained by a higher rate."
    )
    title = f"Updates against learning rate: {_where(study)}"
    return rate_curves(panels, columns=1 if narrow else 3, title=title, note=note)


def _sides(benchmark: Benchmark, study: Study) -> list[Outcome]:
    wanted = ("original", study.main_variant, "standardized")
    return [benchmark[key] for key in wanted if key in benchmark and "original" in benchmark]


def _curve(outcome: Outcome) -> RateCurve:
    from zeromean.figures.rate_curves import RateCurve

    steps = [[np.nan if n is None else n for n in point.steps] for point in outcome.curve]
    rates = [point.rate for point in outcome.curve]
    return RateCurve(outcome.label, rates, steps, sorted(set(outcome.rates)))


# ---------------------------------------------------------------- zig-zag


def _zigzag(study: Study, narrow: bool) -> Figure:
    from zeromean.figures.weight_paths import weight_paths

    neuron = study.neuron
    assert neuron is not None
    panels = [
        _panel(study, neuron.run("all_positive", 0), "mean +2, its best rate"),
        _panel(study, neuron.run("x2_negated", 0), "same, x₂ negated"),
        _panel(study, neuron.run("all_positive", 0, "timid"), "mean +2, timid rate"),
        _panel(study, neuron.run("zero_mean", 0), "mean 0, its best rate"),
        _panel(study, neuron.run("all_positive", 1), "mean +2, one sample"),
        _panel(study, neuron.run("x2_negated", 1), "same, x₂ negated"),
        _panel(study, neuron.run("zero_mean", 0, "same_rate"), "mean 0, rate of mean +2"),
        _panel(study, neuron.run("zero_mean", 1), "mean 0, one sample"),
    ]
    note = (
        "Labels, start (●) and optimum (★) are the same in every panel, but that negating x₂ "
        "mirrors the optimum, and the path exactly: sharing a sign is a symptom. The cause is the "
        "narrow valley, which caps the rate. Updates are medians over seeds, shares means, paths "
        "those of the first seed; one or two updates are too few for an exact ratio."
    )
    if narrow:  # one number a line
        panels = [replace(p, caption=p.caption.replace(", ", "\n")) for p in panels]
    size = {"columns": 2, "size": 2.3} if narrow else {"columns": 4, "size": 3.15}
    title = "A sigmoid neuron with two weights"
    return weight_paths(panels, title=title, note=note, **size)  # type: ignore[arg-type]


def _panel(study: Study, run: NeuronRun, title: str) -> PathPanel:
    from zeromean.figures.weight_paths import PathPanel

    neuron = study.neuron
    assert neuron is not None
    x = np.array(neuron.samples)
    labels = 1 / (1 + np.exp(-x @ np.array(neuron.optimum)))
    inputs, best = x + (run.data != "zero_mean") * neuron.shift, neuron.optimum
    if run.data == "x2_negated":
        inputs, best = inputs * np.array([1.0, -1.0]), (best[0], -best[1])
    caption = (
        f"{median_text(run)} update{'s' * (run.median_steps != 1)}{missing(run)}\n"
        f"learning rate {run.rate:.3g}\n"
        f"same sign {run.same_sign:.0%}, turns back {run.turns:.0%}"
    )
    return PathPanel(
        title, caption, np.array(run.path), best, inputs, labels, int(run.data == "zero_mean") ^ 1
    )


# ---------------------------------------------------------------- ratios


def _ratio(outcome: Outcome) -> Ratio:
    from zeromean.figures.ratios import Ratio

    sure = outcome.verdict in ("faster", "slower")
    return Ratio(
        outcome.label, outcome.speedup, outcome.low, outcome.high, outcome.predicted,
        sure, outcome.bound,
    )  # fmt: skip


def _prediction(study: Study, narrow: bool) -> Figure:
    from zeromean.figures.ratios import predicted_ratios

    benchmark = study.benchmark("softmax_gd") if _has(study, "softmax_gd") else None
    if benchmark is None:
        raise PatternError("this study has nothing to draw for 'prediction': it was left out")
    note = (
        "Full-batch gradient descent on softmax regression, 95 % intervals over paired seeds. "
        "Gray: within a factor of 1.3; arrows: a bound. The prediction is from λ₁ of the inputs of "
        "the task, without training; it says nothing about nets."
    )
    ratios = [_ratio(outcome) for outcome in benchmark.outcomes]
    title = f"Predicted and measured: {_where(study)}"
    return predicted_ratios(ratios, width=4.6 if narrow else 6.4, title=title, note=note)


def _has(study: Study, key: str) -> bool:
    return any(benchmark.key == key for benchmark in study.benchmarks)


def _speedups(study: Study, narrow: bool) -> Figure:
    from zeromean.figures.ratios import all_ratios

    groups = []
    for benchmark in study.benchmarks:
        control = [o for o in benchmark.outcomes if o.verdict == "control"]
        band = (control[0].low, control[0].high) if control else (1.0, 1.0)
        rows = [_ratio(o) for o in benchmark.outcomes[1:] if o.verdict != "control"]
        against = benchmark.outcomes[0]
        base = "" if against.variant == "original" else f"(base: {against.label})"
        base = f"\n{base}" if narrow and base else f" {base}" if base else ""
        groups.append((benchmark.name + base, band, rows))
    note = (
        "95 % intervals over paired seeds, each side at its own best rate; gray: the A/A control. "
        "Rings: no difference shown. Arrows: a bound, without an interval (a seed missed the "
        "target or had it at the first check, or the grid of rates ended). Updates to a training "
        "loss, not final accuracy."
    )
    return all_ratios(groups, narrow=narrow, title=f"Speed-ups: {_where(study)}", note=note)
