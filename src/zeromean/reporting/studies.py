"""What the page says about a study: the headline, tables, controls, figures."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zeromean.convergence.drawing import draw_study
from zeromean.convergence.prediction import UNLIKE as SCALES
from zeromean.convergence.wording import UNLIKE, at_one_rate, fate_of, target_of
from zeromean.drawing import is_image
from zeromean.reporting.charts import as_pixels, as_svg, translated
from zeromean.reporting.gathering import Table
from zeromean.reporting.wording import Words, count, factor_text, number

if TYPE_CHECKING:
    from zeromean.convergence.results import Benchmark, Outcome, Study
    from zeromean.profile import Profile

FIGURES = ("speedups", "prediction", "rates", "zigzag")


@dataclass(frozen=True)
class Chart:
    """A figure for a wide and for a narrow screen."""

    alt: str
    wide: Any
    narrow: Any


@dataclass(frozen=True)
class Story:
    """A study, ready to print."""

    said: list[Any]
    predictions: Table | None
    benchmarks: list[tuple[Table, list[Any]]]
    figures: list[Chart | None]
    controls: list[Any]
    signs: Table | None
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    settings: Any = ""
    bounds: Any = ""
    pasted: Any = ""
    predicts_not: Any = ""


def story(study: Study, words: Words, pairs: Any, profile: Profile, kin: str) -> Story:
    """Everything that the page says about a study."""
    settings, pairs = study.settings, [*pairs, *names_of(words)]
    return Story(
        said=headline(study, words, sure=kin == "same"),
        predictions=_predictions(study, words),
        benchmarks=[_benchmark(b, study, words) for b in study.benchmarks],
        figures=_figures(study, words, pairs),
        controls=_controls(study, words),
        signs=_signs(study, words),
        left_out=[translated(text, pairs) for text in study.left_out],
        notes=[translated(text, pairs) for text in study.notes],
        bounds=_about_bounds(study, words),
        pasted=pasted_row(profile, study, words),
        predicts_not=words("study.predicts_not", fold=f"{SCALES:g}"),
        settings=words(
            "study.settings" if study.data.is_pictures else "study.settings_table",
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


def headline(study: Study, words: Words, *, sure: bool = True) -> list[Any]:
    """The sentences that a reader takes away; of the reader's data where that is `sure`."""
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
        unlike = factor_text(data.unlike_scales)
        said.append(words("study.scale", unlike=unlike, ratio=f"{data.ratio:.2f}"))
        said += _apart(study, words)
    return said + _main(study, words, words("study.whose_same" if sure else "study.whose_other"))


def _apart(study: Study, words: Words) -> list[Any]:
    """What scaling and what centering is worth by itself, for columns of unlike scales."""
    found = {b.key: b for b in study.benchmarks}.get("scale_gd")
    keys = ("scaled", "zero_mean_column", "standardized")
    if found is None or not all(key in found for key in keys):
        return []
    story = {"slower": "scale_story", "faster": "scale_center"}
    said = words(f"study.{story.get(found[keys[1]].verdict, 'scale_even')}")
    numbers = dict(zip("abc", (_updates(found[key], words) for key in keys), strict=True))
    return [words("study.apart", target=target_of(found), story=said, **numbers)]


def _updates(outcome: Outcome, words: Words) -> str:
    """A median number of updates, or how many were not enough for half of the seeds."""
    text = f"{outcome.median_steps:g}"
    return words.plain("study.more_than", number=text) if outcome.median_open else text


def _main(study: Study, words: Words, whose: Any) -> list[Any]:
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
        "target": target_of(found),
        "whose": whose,
    }
    said = [words(f"study.{key}", **numbers)]
    if outcome.bound:
        said.append(words("study.bound"))
    if "scale_gd" in races and races["scale_gd"].target < found.target:
        said.append(words("study.easier", target=target_of(found)))
    if outcome.predicted is not None:
        key = "had_predicted_turned" if study.data.task == "rotation" else "had_predicted"
        predicted = words.times(outcome.predicted)
        fates = words.together([_fate(outcome, words), *_fold(study, words)])
        said.append(words(f"study.{key}", predicted=predicted, fate=fates))
    pair = at_one_rate(found, study.main_variant)
    if pair is not None and outcome.verdict == "faster":
        said.append(words("study.one_rate", a=f"{pair[0]:g}", b=f"{pair[1]:g}"))
    if "minus_128" in found:
        said.append(_half(found["minus_128"], study, words))
    return said


def _fold(study: Study, words: Words) -> list[Any]:
    """How far the predictions of all rows were off."""
    fold = study.predicted_fold
    if fold is None:
        return []
    rows = sum(o.predicted is not None and not o.bound
               for o in study.benchmark("softmax_gd").outcomes)  # fmt: skip
    low, high = map(factor_text, fold)
    return [words("study.prediction_fold", count=rows, low=low, high=high)]


_CLOSE = 0.25  # standard deviations between the mean and half of the range: a lucky guess


def _half(outcome: Outcome, study: Study, words: Words) -> Any:
    """What half of the range did, and that it did so by luck."""
    half, data = _number_in(outcome.label), study.data
    given = {"half": half, "mean": number(data.mean, 4)}
    close = half and abs(float(half) - data.mean) <= _CLOSE * data.std
    said = [words("study.half_near", **given)] if close else []
    said.append(words("study.half", half=half, speedup=speedup_text(outcome, words)))
    said += [] if close else [words("study.half_far", **given)]
    return words.together([*said, words("study.half_dark")])


def _number_in(label: str) -> str:
    """The number that a variant's name holds."""
    found = re.search(r"\d[\d.e+]*", label)
    return found[0] if found else ""


def pasted_row(profile: Profile, study: Study, words: Words) -> Any:
    """Which row of the study is the code that the page shows; nothing where none is near."""
    columns, pictures = profile.n_features, study.data.is_pictures
    key, exact = "zero_mean", columns == 1
    if is_image(profile) or (not pictures and columns == study.data.shape[0] > 1):
        key, exact = "standardized", True
    elif columns > 1 and not pictures:
        return ""
    elif columns > 1 and study.data.shape[-1] == columns:
        key = "zero_mean_channel"
    held = {p.variant: p.label for p in study.predictions}
    if key not in held:
        return ""
    row = variant_name(key, held[key], words)
    return words("study.pasted_is" if exact else "study.pasted_near", row=row)


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
    return f"{factor_text(low)} …\N{NO-BREAK SPACE}{factor_text(high)}"


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
    key = "standardized_column" if key == "standardized" and "column" in label else key
    return str(words.texts.get(f"variant.{key}", label)).format(number=_number_in(label))


def names_of(words: Words) -> list[list[str]]:
    """Rules that bring the names of variants and benchmarks in figures into the page's language.

    The longest come first, since some begin with others.
    """
    english = Words("en").texts
    names = {english[k]: v for k, v in words.texts.items()
             if k.startswith(("variant.", "benchmark."))}  # fmt: skip
    rules = []
    for name in sorted(names, key=len, reverse=True):
        before, _, after = name.partition("{number}")
        found = re.escape(before) + (r"(\d[\d.e+]*)" + re.escape(after)) * ("{" in name)
        said = names[name].replace("{number}", r"\1")
        rules.append([rf"(?<![\w(]){found}(?!\w)", said])
    return rules if words.language != "en" else []


def benchmark_name(benchmark: Benchmark, words: Words) -> str:
    """A benchmark in the page's language; its own name where the page knows none."""
    return str(words.texts.get(f"benchmark.{benchmark.key}", benchmark.name))


def _benchmark(benchmark: Benchmark, study: Study, words: Words) -> tuple[Table, list[Any]]:
    predicts = any(o.predicted is not None for o in benchmark.outcomes)
    keys = ["variant", "steps", "speedup_interval", "verdict", "rate"]
    keys += ["predicted_column"] if predicts else []
    rows = []
    for outcome in benchmark.outcomes:
        base = outcome.verdict == "base"
        row = [
            variant_name(outcome.variant, outcome.label, words),
            _updates(outcome, words),
            "1" if base else speedup_text(outcome, words),
            words(f"study.verdict_{outcome.verdict.replace(' ', '_')}"),
            _rate(outcome),
        ]
        if predicts:
            row.append("" if outcome.predicted is None else words.times(outcome.predicted))
        rows.append(row)
    caption = words(
        "study.benchmark_caption",
        name=benchmark_name(benchmark, words),
        target=target_of(benchmark),
        most=benchmark.max_steps,
    )
    heads = [words.plain(f"study.{key}") for key in keys]
    return Table(caption, heads, rows), _remarks(benchmark, study, predicts, words)


def _rate(outcome: Outcome) -> str:
    """The rates of the seeds, from the smallest to the largest; † where at the grid's edge."""
    low, high = min(outcome.rates, default=math.nan), max(outcome.rates, default=math.nan)
    text = f"{low:.3g}" if low == high else f"{low:.3g} …\N{NO-BREAK SPACE}{high:.3g}"
    return text + (" †" if outcome.edge else "")


def _remarks(benchmark: Benchmark, study: Study, predicts: bool, words: Words) -> list[Any]:
    said: list[Any] = []
    if any(outcome.edge for outcome in benchmark.outcomes):
        said.append("† " + words("study.edge"))
    for outcome in benchmark.outcomes:
        if outcome.unreached:
            name = variant_name(outcome.variant, outcome.label, words)
            key = "lost" if _is_lost(outcome, benchmark) else "unreached"
            seeds = len(outcome.steps)
            given = {"count": outcome.unreached, "seeds": seeds, "most": benchmark.max_steps}
            said.append(words("study.of_row", name=name, text=words(f"study.{key}", **given)))
    if benchmark.identical:
        same = [variant_name(o.variant, o.label, words) for o in benchmark.identical]
        said.append(words("study.identical", names="; ".join(same)))
    if predicts and study.data.task == "rotation":
        said.append(words("study.predicted_turned"))
    if not predicts and benchmark.batch:
        said.append(words("study.smoothed"))
    return said


def _is_lost(outcome: Outcome, benchmark: Benchmark) -> bool:
    """Whether what did not arrive overflowed, and was not just slow."""
    tried = {point.rate: point.tried for point in outcome.curve}
    missed = [tried[rate][k] for k, (rate, n) in enumerate(zip(outcome.rates, outcome.steps,
              strict=True)) if n is None and rate in tried]  # fmt: skip
    return bool(missed) and all(n + benchmark.every <= benchmark.max_steps for n in missed)


def _figures(study: Study, words: Words, pairs: Any) -> list[Chart | None]:
    """The study's own figures; None for those that it cannot draw."""
    return [_chart(study, kind, words, pairs) for kind in FIGURES]


def _chart(study: Study, kind: str, words: Words, pairs: Any) -> Chart | None:
    if not _drawable(study, kind):
        return None
    alt, drawn = words.plain(f"study.figure_{kind}"), []
    for narrow, prefix in ((False, kind[0]), (True, f"{kind[0]}n")):
        figure = as_pixels(draw_study(study, kind, narrow=narrow))
        drawn.append(as_svg(figure, prefix, alt, pairs, ticks=True, fold=narrow))
    return Chart(alt, *drawn)


def _drawable(study: Study, kind: str) -> bool:
    """Whether a study that was cut short holds what a figure shows."""
    if kind == "zigzag":
        return study.neuron is not None
    if kind == "prediction":  # one dot in a large square says less than the sentence above it
        races = [b for b in study.benchmarks if b.key == "softmax_gd"]
        return any(sum(o.predicted is not None for o in b.outcomes) > 1 for b in races)
    return bool(study.benchmarks)


def _controls(study: Study, words: Words) -> list[Any]:
    said = []
    if study.neuron is not None:
        difference = f"{study.neuron.mirror_difference:.1e}"
        if study.neuron.mirror_difference == 0:
            difference = "0"
        said.append(words("study.mirror", difference=difference))
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
