"""What the page says about a study: the headline, tables, controls, figures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zeromean.convergence.wording import UNLIKE, at_one_rate, fate_of
from zeromean.reporting.charts import as_pixels, as_svg, translated
from zeromean.reporting.gathering import Table
from zeromean.reporting.wording import Words, count, factor_text

if TYPE_CHECKING:
    from zeromean.convergence.results import Benchmark, Outcome, Study

FIGURES = ("speedups", "prediction", "rates", "zigzag")


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
    bounds: Any = ""


def story(study: Study, words: Words, pairs: Any) -> Story:
    """Everything that the page says about a study."""
    settings = study.settings
    return Story(
        said=headline(study, words),
        predictions=_predictions(study, words),
        benchmarks=[_benchmark(b, study, words) for b in study.benchmarks],
        figures=_figures(study, words, pairs),
        controls=_controls(study, words),
        signs=_signs(study, words),
        left_out=[translated(text, pairs) for text in study.left_out],
        notes=[translated(text, pairs) for text in study.notes],
        bounds=_about_bounds(study, words),
        settings=words(
            "study.settings",
            size=settings.size,
            n=count(settings.n),
            seeds=settings.seeds,
            budget=f"{settings.budget:g}",
        ),
    )


def _about_bounds(study: Study, words: Words) -> Any:
    """What ≥ and ≤ mean, where they occur."""
    outcomes = [outcome for benchmark in study.benchmarks for outcome in benchmark.outcomes]
    return words("study.bounds") if any(outcome.bound for outcome in outcomes) else ""


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
    if not data.is_pictures and data.unlike_scales >= UNLIKE:
        said.append(words("study.scale", unlike=factor_text(data.unlike_scales)))
        said += _apart(study, words)
    return said + _main(study, words)


def _apart(study: Study, words: Words) -> list[Any]:
    """What scaling and what centering is worth by itself, for columns of unlike scales."""
    found = {b.key: b for b in study.benchmarks}.get("scale_gd")
    keys = ("scaled", "zero_mean_column", "standardized")
    if found is None or not all(key in found for key in keys):
        return []
    story = {"slower": "scale_story", "faster": "scale_center"}
    said = words(f"study.{story.get(found[keys[1]].verdict, 'scale_even')}")
    numbers = dict(zip("abc", (_updates(found[key], words) for key in keys), strict=True))
    return [words("study.apart", target=f"{found.target:.2f}", story=said, **numbers)]


def _updates(outcome: Outcome, words: Words) -> str:
    """A median number of updates, or how many were not enough for half of the seeds."""
    text, open_end = f"{outcome.median_steps:g}", 2 * outcome.unreached >= len(outcome.steps)
    return words.plain("study.more_than", number=text) if open_end else text


def _main(study: Study, words: Words) -> list[Any]:
    """What full-batch training showed for the main variant, whichever way it went."""
    races = {b.key: b for b in study.benchmarks}
    found = races.get("softmax_gd")
    if found is None or study.main_variant not in found:
        return []
    outcome, base = found[study.main_variant], found.outcomes[0]
    key = outcome.verdict if outcome.verdict in ("faster", "slower") else "not_shown"
    numbers = {
        "a": _updates(outcome, words),
        "b": _updates(base, words),
        "speedup": speedup_text(outcome, words),
        "target": f"{found.target:.3g}",
    }
    said = [words(f"study.{key}", **numbers)]
    if outcome.bound:
        said.append(words("study.bound"))
    if "scale_gd" in races and races["scale_gd"].target < found.target:
        said.append(words("study.easier", target=f"{found.target:.2f}"))
    if outcome.predicted is not None:
        key = "had_predicted_turned" if study.data.task == "rotation" else "had_predicted"
        predicted = words.times(outcome.predicted)
        said.append(words(f"study.{key}", predicted=predicted, fate=_fate(outcome, words)))
    pair = at_one_rate(found, study.main_variant)
    if pair is not None and outcome.verdict == "faster":
        said.append(words("study.one_rate", a=f"{pair[0]:g}", b=f"{pair[1]:g}"))
    if "minus_128" in found:
        said.append(words("study.half", speedup=speedup_text(found["minus_128"], words)))
    return said


def _fate(outcome: Outcome, words: Words) -> Any:
    """What became of a prediction."""
    fate = fate_of(outcome, outcome.predicted or math.nan)
    return words(f"study.prediction_{fate if fate in ('held', 'open') else 'missed'}")


def speedup_text(outcome: Outcome, words: Words) -> str:
    """A speed-up with its interval; a bound is a bound, and has none."""
    text = words.times(outcome.speedup)
    if outcome.bound == "unknown":
        return words.plain("study.unknown")
    if outcome.bound:
        return words.plain(f"study.{outcome.bound.replace(' ', '_')}", number=text)
    ends = {"low": factor_text(outcome.low), "high": factor_text(outcome.high)}
    return words.plain("study.with_interval", number=text, **ends)


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


def _benchmark(benchmark: Benchmark, study: Study, words: Words) -> tuple[Table, list[Any]]:
    predicts = any(o.predicted is not None for o in benchmark.outcomes)
    keys = ["variant", "steps", "speedup_interval", "rate", "verdict"]
    keys += ["predicted_column"] if predicts else []
    rows = []
    for outcome in benchmark.outcomes:
        base = outcome.verdict == "base"
        row = [
            variant_name(outcome.variant, outcome.label, words),
            _updates(outcome, words),
            "1" if base else speedup_text(outcome, words),
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
    return Table(caption, heads, rows), _remarks(benchmark, study, predicts, words)


def _rate(outcome: Outcome) -> str:
    """The rates of the seeds, from the smallest to the largest; † where at the grid's edge."""
    low, high = min(outcome.rates, default=math.nan), max(outcome.rates, default=math.nan)
    text = f"{low:.2g}" if low == high else f"{low:.2g} … {high:.2g}"
    return text + (" †" if outcome.edge else "")


def _remarks(benchmark: Benchmark, study: Study, predicts: bool, words: Words) -> list[Any]:
    said: list[Any] = []
    if any(outcome.edge for outcome in benchmark.outcomes):
        said.append("† " + words("study.edge"))
    for outcome in benchmark.outcomes:
        if outcome.unreached:
            name = variant_name(outcome.variant, outcome.label, words)
            text = words("study.unreached", count=outcome.unreached, seeds=study.settings.seeds)
            said.append(words("study.of_row", name=name, text=text))
    if predicts and study.data.task == "rotation":
        said.append(words("study.predicted_turned"))
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
