"""What the page says about a study: the headline, tables, controls, figures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zeromean.reporting.charts import as_pixels, as_svg, translated
from zeromean.reporting.gathering import Table
from zeromean.reporting.wording import Words, count, factor_text

if TYPE_CHECKING:
    from zeromean.convergence.results import Benchmark, Outcome, Study

FIGURES = ("speedups", "prediction", "rates", "zigzag")
_UNLIKE = 10.0  # largest ÷ smallest std of the columns from which scale is the story


@dataclass(frozen=True)
class Story:
    """A study, ready to print."""

    said: list[Any]
    predictions: Table | None
    benchmarks: list[tuple[Table, list[Any]]]
    figures: list[tuple[str, Any]]
    controls: list[Any]
    signs: Table | None
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    settings: Any = ""


def story(study: Study, words: Words, pairs: Any) -> Story:
    """Everything that the page says about a study."""
    settings = study.settings
    return Story(
        said=headline(study, words),
        predictions=_predictions(study, words),
        benchmarks=[_benchmark(b, settings.seeds, words) for b in study.benchmarks],
        figures=_figures(study, words, pairs),
        controls=_controls(study, words),
        signs=_signs(study, words),
        left_out=[translated(text, pairs) for text in study.left_out],
        notes=[translated(text, pairs) for text in study.notes],
        settings=words(
            "study.settings",
            size=settings.size,
            n=count(settings.n),
            seeds=settings.seeds,
            budget=f"{settings.budget:g}",
        ),
    )


def headline(study: Study, words: Words) -> list[Any]:
    """The sentences that a reader takes away."""
    data = study.data
    shape = ""
    if data.is_pictures:
        height, width, channels = data.shape
        shape = words("study.size", height=height, width=width, channels=channels)
    elif data.shape:
        shape = words("study.columns", columns=count(data.shape[0]))
    said = [
        words(
            f"study.task_{data.task}",
            classes=len(data.classes),
            samples=count(data.samples),
            size=shape,
        )
    ]
    if not data.is_pictures and data.unlike_units >= _UNLIKE:
        said.append(words("study.scale", unlike=factor_text(data.unlike_units)))
        apart = _apart(study, words)
        if apart:
            return said + apart
    return said + _main(study, words)


def _apart(study: Study, words: Words) -> list[Any]:
    """What scaling and what centering is worth by itself, for columns of unlike units."""
    found = {b.key: b for b in study.benchmarks}.get("scale_gd")
    keys = ("scaled", "zero_mean_column", "standardized")
    if found is None or not all(key in found for key in keys):
        return []
    steps = [f"{found[key].median_steps:g}" for key in keys]
    centered = found["zero_mean_column"]
    if centered.unreached:
        steps[1] = words.plain("study.at_least", number=steps[1])
    speedup = _bounded(centered, words)
    numbers = dict(zip("abc", steps, strict=True))
    said = [words("study.apart", speedup=speedup, **numbers)]
    if centered.bound:
        said.append(words("study.bound"))
    return said


def _main(study: Study, words: Words) -> list[Any]:
    """What full-batch training showed for the main variant, whichever way it went."""
    found = {b.key: b for b in study.benchmarks}.get("softmax_gd")
    if found is None or study.main_variant not in found:
        return []
    outcome, base = found[study.main_variant], found.outcomes[0]
    key = outcome.verdict if outcome.verdict in ("faster", "slower") else "not_shown"
    numbers = {
        "a": f"{outcome.median_steps:g}",
        "b": f"{base.median_steps:g}",
        "speedup": _bounded(outcome, words),
        "low": words.times(outcome.low),
        "high": words.times(outcome.high),
    }
    said = [words(f"study.{key}", **numbers)]
    if outcome.bound:
        said.append(words("study.bound"))
    if outcome.predicted is not None:
        said.append(words("study.had_predicted", predicted=words.times(outcome.predicted)))
    if "minus_128" in found:
        said.append(words("study.half", speedup=_bounded(found["minus_128"], words)))
    return said


def _bounded(outcome: Outcome, words: Words) -> str:
    """A speed-up, marked where it is but a bound."""
    text = words.times(outcome.speedup)
    if not outcome.bound:
        return text
    key = {"at least": "at_least", "at most": "at_most"}.get(outcome.bound, "unknown")
    return words.plain(f"study.{key}", number=text)


def _interval(low: float, high: float) -> str:
    return f"{factor_text(low)} … {factor_text(high)}"


def _predictions(study: Study, words: Words) -> Table | None:
    if not study.predictions:
        return None
    keys = ("variant", "lambda1", "share", "predicted", "interval", "closed")
    rows = [
        [
            variant_name(p.variant, p.label, words),
            f"{p.lambda1:.4g}",
            words.percent(p.share),
            words.times(p.ratio) if p.predicts else "–",
            _interval(p.low, p.high) if p.predicts else "–",
            "" if p.closed_form is None else words.times(p.closed_form),
        ]
        for p in study.predictions
    ]
    heads = [words.plain(f"study.{key}") for key in keys]
    return Table(words("study.predictions_caption"), heads, rows)


def variant_name(key: str, label: str, words: Words) -> str:
    """A variant in the page's language; its own label where the page knows none."""
    return str(words.texts.get(f"variant.{key}", label))


def benchmark_name(benchmark: Benchmark, words: Words) -> str:
    """A benchmark in the page's language; its own name where the page knows none."""
    return str(words.texts.get(f"benchmark.{benchmark.key}", benchmark.name))


def _benchmark(benchmark: Benchmark, seeds: int, words: Words) -> tuple[Table, list[Any]]:
    predicts = any(o.predicted is not None for o in benchmark.outcomes)
    keys = ["variant", "steps", "speedup", "interval", "rate", "verdict"]
    keys += ["predicted_column"] if predicts else []
    rows = []
    for outcome in benchmark.outcomes:
        base = outcome.verdict == "base"
        row = [
            variant_name(outcome.variant, outcome.label, words),
            f"{outcome.median_steps:g}",
            "1" if base else _bounded(outcome, words),
            "" if base else _interval(outcome.low, outcome.high),
            _rate(outcome),
            words(f"study.verdict_{outcome.verdict.replace(' ', '_')}"),
        ]
        if predicts:
            row.append("" if outcome.predicted is None else words.times(outcome.predicted))
        rows.append(row)
    caption = words(
        "study.benchmark_caption",
        name=benchmark_name(benchmark, words),
        target=f"{benchmark.target:.3g}",
    )
    heads = [words.plain(f"study.{key}") for key in keys]
    return Table(caption, heads, rows), _remarks(benchmark, seeds, predicts, words)


def _rate(outcome: Outcome) -> str:
    """The rates of the seeds, from the smallest to the largest; † where at the grid's edge."""
    low, high = min(outcome.rates, default=math.nan), max(outcome.rates, default=math.nan)
    text = f"{low:.2g}" if low == high else f"{low:.2g} … {high:.2g}"
    return text + (" †" if outcome.edge else "")


def _remarks(benchmark: Benchmark, seeds: int, predicts: bool, words: Words) -> list[Any]:
    said = []
    if any(outcome.edge for outcome in benchmark.outcomes):
        said.append("† " + words("study.edge"))
    for outcome in benchmark.outcomes:
        if outcome.unreached:
            name = variant_name(outcome.variant, outcome.label, words)
            text = words("study.unreached", count=outcome.unreached, seeds=seeds)
            said.append(f"{name}: " + text)
    if not predicts:
        said.append(words("study.smoothed"))
    return said


def _figures(study: Study, words: Words, pairs: Any) -> list[tuple[str, Any]]:
    """The study's own figures, those that it can draw."""
    plot = getattr(study, "plot", None)
    found = []
    for kind in FIGURES if plot else ():
        if not _drawable(study, kind):
            continue
        alt = words.plain(f"study.figure_{kind}")
        figure = as_pixels(plot(kind))  # type: ignore[misc]
        svg = as_svg(figure, kind[0], alt, pairs, themed=kind != "zigzag", ticks=True)
        found.append((alt, svg))
    return found


def _drawable(study: Study, kind: str) -> bool:
    """Whether a study that was cut short holds what a figure shows."""
    if kind == "zigzag":
        return study.neuron is not None
    if kind == "prediction":
        return any(b.key == "softmax_gd" for b in study.benchmarks)
    return bool(study.benchmarks)


def _controls(study: Study, words: Words) -> list[Any]:
    said = []
    if study.neuron is not None:
        runs = sum(run.data == "x2_negated" for run in study.neuron.runs)
        difference = f"{study.neuron.mirror_difference:.1e}"
        if study.neuron.mirror_difference == 0:
            difference = "0"
        said.append(words("study.mirror", runs=runs, difference=difference))
    check = study.batch_norm
    if check is not None:
        said.append(
            words(
                "study.batch_norm",
                shifts=words.listed(f"{s:g}" for s in check.shifts),
                difference=f"{max(check.largest_difference):.0e}",
                steps=count(check.steps),
                losses=words.listed(f"{v:.3f}" for v in check.eval_losses),
            )
        )
    return said


def _signs(study: Study, words: Words) -> Table | None:
    if not study.signs:
        return None
    keys = ("variant", "net", "layer", "batch", "sign_share")
    heads = [words.plain(f"study.{key}") for key in keys]
    rows: list[list[Any]] = [
        [
            variant_name(s.variant, s.variant, words),
            s.hidden,
            s.layer,
            s.batch,
            words.percent(s.share),
        ]
        for s in study.signs
    ]
    return Table(words("study.signs_caption"), heads, rows)
