"""What a study says in words: gains and nulls alike, and never more than was measured."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from zeromean.convergence.prediction import UNLIKE as SCALES
from zeromean.convergence.results import Benchmark, NeuronRun, Outcome, Prediction, Study

_NAMES = {"labels": "your labels", "rotation": "rotation, not your own task",
          "teacher": "a random teacher, not your own task"}  # fmt: skip
UNLIKE, _NEAR = 10.0, 1.3  # fold between the stds of columns from which scale is a story


def headline(study: Study) -> str:
    """What was found, with what was not, in a few plain sentences."""
    said = [_about_scale(study), _about_gradient_descent(study), _about_nets(study)]
    said += [_about_half_range(study), _about_batch_norm(study), _about_left_out(study)]
    return " ".join(text for text in said if text)


def _found(study: Study, key: str, variant: str) -> Outcome | None:
    for benchmark in study.benchmarks:
        if benchmark.key == key and variant in benchmark:
            return benchmark[variant]
    return None


def times(outcome: Outcome | NeuronRun) -> str:
    """A speed-up with its interval; a bound is a bound, and has none.

    Returns
    -------
    str
        Such as ``"14.2× [13.5, 14.9]"``, ``"≥ 12.0×"``, or ``"?"`` where it is open both ways.
    """
    if isinstance(outcome, Outcome):
        bound, value = outcome.bound, outcome.speedup
    else:
        bound, value = "at least" if outcome.unreached else "", outcome.slowdown
    if bound == "unknown":
        return "?"
    if bound:
        return f"{_MARKS[bound]}{factor(value)}×"
    return f"{factor(value)}× [{factor(outcome.low)}, {factor(outcome.high)}]"


_MARKS = {"at least": "≥ ", "at most": "≤ "}


def factor(value: float) -> str:
    """Three digits are more than any of these numbers deserves.

    Examples
    --------
    >>> factor(14.234), factor(0.04), factor(1.0), factor(185.7)
    ('14.2', '0.040', '1.00', '186')
    """
    if value >= 99.95:
        return f"{value:.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.0995 else f"{value:.3f}"


# ---------------------------------------------------------------- sentences


def _about_gradient_descent(study: Study) -> str:
    """Full-batch softmax regression, measured beside predicted."""
    main = study.main_variant
    predicted = study.prediction(main)
    found = _found(study, "softmax_gd", main)
    if found is None:
        ratio = f"{factor(predicted.ratio)}× [{factor(predicted.low)}, {factor(predicted.high)}]"
        return f"λ₁ predicts a speed-up of {ratio} for full-batch gradient descent; not measured."
    task = "" if study.data.task == "labels" else f" ({_NAMES[study.data.task]})"
    text = f"Full-batch softmax regression{task}{_easier(study)}: {_verdict(found)}"
    own = found.predicted if found.predicted is not None else predicted.ratio
    said = f"{text}; {_TURNED[study.data.task == 'rotation']} {_held(found, own)}"
    return f"{said}{_fold(study)}.{_at_one_rate(study)}"


def _fold(study: Study) -> str:
    """How far all predictions of the table were off."""
    fold = study.predicted_fold
    if fold is None:
        return ""
    return f" (measured ÷ predicted of all rows: {factor(fold[0])} to {factor(fold[1])})"


_TURNED = ("the label-free prediction of", "the prediction from the turned pictures, of")


def _held(found: Outcome, predicted: float) -> str:
    """The predicted factor, and what became of it."""
    text, fate = f"{factor(predicted)}×", fate_of(found, predicted)
    if fate == "off":
        quotient = found.speedup / predicted
        return f"{text} was off by {factor(max(quotient, 1 / quotient))}×"
    return text + {"held": " held", "open": " stays open"}.get(fate, f" was too {fate}")


def fate_of(found: Outcome, predicted: float) -> str:
    """Whether a prediction was right to within a factor of 1.3.

    Parameters
    ----------
    found : Outcome
    predicted : float

    Returns
    -------
    {"held", "off", "low", "high", "open"}
        Against a bound it can be too low or too high, or nothing can be said.
    """
    quotient = found.speedup / predicted
    if not found.bound:
        return "held" if 1 / _NEAR <= quotient <= _NEAR else "off"
    if found.bound == "at least" and quotient > _NEAR:
        return "low"
    return "high" if found.bound == "at most" and quotient < 1 / _NEAR else "open"


def _easier(study: Study) -> str:
    """Of tables with a race to a lower loss: that this one goes less far."""
    lower = next((b.target for b in study.benchmarks if b.key == "scale_gd"), None)
    race = study.benchmark("softmax_gd")
    if lower is None or race.target <= lower or study.data.unlike_scales < UNLIKE:
        return ""
    lowest = "the lowest that it reaches uncentered in time"
    return f" on one common scale, to a loss of {target_of(race)}, {lowest}"


def target_of(benchmark: Benchmark) -> str:
    """The training loss to reach, everywhere with the same digits."""
    return f"{benchmark.target:.3g}"


def _at_one_rate(study: Study) -> str:
    """Both sides at the base's best rate: the gain is a higher ceiling, not a quicker step."""
    pair = at_one_rate(study.benchmark("softmax_gd"), study.main_variant)
    if pair is None:
        return ""
    numbers = f"{pair[0]:g} against {pair[1]:g} updates"
    return f" At one rate for both and all seeds, the original's most chosen one: {numbers}."


def at_one_rate(benchmark: Benchmark, variant: str) -> tuple[float, float] | None:
    """Median updates of base and variant at the base's most chosen rate, where both reached.

    Parameters
    ----------
    benchmark : Benchmark
    variant : str

    Returns
    -------
    (float, float) or None
    """
    base = benchmark.outcomes[0]
    rate = max(sorted(set(base.rates)), key=base.rates.count)
    medians = []
    for outcome in (base, benchmark[variant]):
        steps = [n for point in outcome.curve if point.rate == rate for n in point.steps]
        if not steps or None in steps:
            return None
        medians.append(median(n for n in steps if n is not None))
    return medians[0], medians[1]


def _verdict(outcome: Outcome) -> str:
    """One outcome in words."""
    if outcome.verdict == "faster":
        return f"zero mean needed {times(outcome)} fewer updates"
    if outcome.verdict == "slower":
        return f"zero mean was slower, {times(outcome)}"
    return f"no difference shown, {times(outcome)}"


def _about_nets(study: Study) -> str:
    nets = [b for b in study.benchmarks if b.name.startswith("MLP") and "norm" not in b.name]
    parts = []
    for benchmark in nets:
        if study.main_variant in benchmark:
            outcome = benchmark[study.main_variant]
            what = benchmark.name.removeprefix("MLP, ")
            null = "" if outcome.verdict == "faster" else f" ({outcome.verdict})"
            parts.append(f"{what} {times(outcome)}{null}")
    return f"Nets, from minibatches: {'; '.join(parts)}." if parts else ""


def _about_scale(study: Study) -> str:
    """Tables: whether scale is the larger story."""
    unlike = study.data.unlike_scales
    if study.data.is_pictures or unlike < UNLIKE:
        return ""
    text = f"The columns have unlike scales: their stds differ {factor(unlike)}-fold."
    alone, both = (_found(study, "scale_gd", key) for key in ("zero_mean_column", "standardized"))
    if alone is None or both is None:
        return text
    race = study.benchmark("scale_gd")
    story = {
        "slower": "Scale is the story here, not centering alone",
        "faster": "Centering alone was quicker here than scaling alone",
    }.get(alone.verdict, "No difference between centering alone and scaling alone was shown")
    return (
        f"{text} {story}: to a loss of {target_of(race)}, dividing each column by its std took "
        f"{race.outcomes[0].median_steps:g} updates, centering with one common scale "
        f"{_updates(alone, race)}, and both together {_updates(both, race)}."
    )


def _updates(outcome: Outcome, race: Benchmark) -> str:
    """The median number of updates, and how many seeds did not arrive at all."""
    seeds = len(outcome.steps)
    if not outcome.median_open:
        return f"{outcome.median_steps:g}" + missing(outcome)
    if outcome.unreached == seeds:
        return f"did not get there in {race.max_steps}"
    return f"did not get there in {race.max_steps} with {outcome.unreached} of {seeds} seeds"


def missing(outcome: Outcome | NeuronRun) -> str:
    """How many seeds never arrived, to stand behind a median that counts them as infinite."""
    seeds = len(outcome.steps)
    return f", {outcome.unreached} of {seeds} never arrived" if outcome.unreached else ""


def median_text(outcome: Outcome | NeuronRun) -> str:
    """A median number of updates; what was not enough for half of the seeds is a bound.

    Returns
    -------
    str
        Such as ``"68.5"`` or ``"> 500"``.
    """
    return "> " * outcome.median_open + f"{outcome.median_steps:g}"


def _about_half_range(study: Study) -> str:
    found = _found(study, "softmax_gd", "minus_128")
    if found is None or found.verdict != "slower":
        return ""
    return f"Subtracting half of the range ({found.label}) made it slower: {times(found)}."


def _about_batch_norm(study: Study) -> str:
    found = _found(study, "batch_norm_sgd", study.main_variant)
    if found is None:
        return ""
    base = study.benchmark("batch_norm_sgd").outcomes[0]
    if found.steps == base.steps:
        return "With batch norm after the first layer centering changed nothing: 1.00× exactly."
    return f"With batch norm after the first layer: {times(found)}."


def _about_left_out(study: Study) -> str:
    return f"Left out: {'; '.join(study.left_out)}." if study.left_out else ""


# ---------------------------------------------------------------- tables


def rows_of(benchmark: Benchmark) -> tuple[list[str], list[list[str]]]:
    """Column heads, and one row for each variant."""
    heads = ["", "updates", "speed-up [95 %]", "predicted", "rate", "verdict"]
    body, base = [], benchmark.outcomes[0]
    for o in benchmark.outcomes:
        rates = sorted(set(o.rates))
        span = f"{rates[0]:.3g}" + (f"–{rates[-1]:.3g}" if len(rates) > 1 else "")
        marks = [missing(o).removeprefix(", ")] * bool(o.unreached)
        marks += ["edge of the grid"] * o.edge
        same = "batch_norm" in benchmark.key and o.steps == base.steps
        words = {"base": "", "control": "A/A control", "not shown": "the same" if same else ""}
        verdict = words.get(o.verdict, o.verdict) or ("not shown" if o is not base else "")
        said = ", ".join([verdict, *marks]) if verdict else ", ".join(marks)
        ratio = "" if o.verdict == "base" else times(o)
        predicted = "" if o.predicted is None else f"{factor(o.predicted)}×"
        body.append([o.label, median_text(o), ratio, predicted, span, said])
    if not any(row[3] for row in body):
        return heads[:3] + heads[4:], [row[:3] + row[4:] for row in body]
    return heads, body


def prediction_rows(predictions: Sequence[Prediction]) -> tuple[list[str], list[list[str]]]:
    """Column heads, and one row for each variant."""
    heads = ["", "λ₁", "share of trace", "predicted speed-up [95 %]", "1 + ‖μ‖²/λ₁(Σ)"]
    body = []
    for p in predictions:
        ratio = f"{factor(p.ratio)}× [{factor(p.low)}, {factor(p.high)}]"
        ratio = "" if p.variant == "original" else ratio if p.predicts else "– (another scale)"
        closed = "" if p.closed_form is None else f"{factor(p.closed_form)}×"
        body.append([p.label, f"{p.lambda1:.4g}", f"{p.share:.2f}", ratio, closed])
    return heads, body


_DATA = {"zero_mean": "mean 0", "all_positive": "mean +2 (all x ≥ 1)",
         "x2_negated": "mean +2, x₂ negated"}  # fmt: skip
_CONTROL = {"": "", "timid": ", timid rate", "same_rate": ", at the rate of mean +2"}


def neuron_rows(study: Study) -> tuple[list[str], list[list[str]]]:
    """Column heads, and one row for each run of the two-weight neuron."""
    heads = ["", "batch", "rate", "updates", "slow-down [95 %]", "same sign (chance 50 %)",
             "turns > 90°", "path ÷ distance"]  # fmt: skip
    body = []
    assert study.neuron is not None
    for r in study.neuron.runs:
        base = r.data == "zero_mean" and not r.control
        body.append(
            [_DATA[r.data] + _CONTROL[r.control], str(r.batch or "all"), f"{r.rate:.3g}",
             median_text(r) + missing(r), "" if base else times(r), f"{r.same_sign:.0%}",
             f"{r.turns:.0%}", f"{r.path_ratio:.2f}"]
        )  # fmt: skip
    return heads, body


def sections(study: Study) -> list[tuple[str, list[str], list[list[str]], str]]:
    """Title, column heads, rows and note of every table."""
    made = [
        (
            "Prediction, without labels or training: λ₁ of E[x̃ x̃ᵀ] of the samples as they are",
            *prediction_rows(study.predictions),
            f"The ratio predicts full-batch gradient descent on a linear model, and nothing else. "
            f"No ratio where columns are divided by numbers more than {SCALES:g}-fold apart. "
            "Whitened: a lower training loss is not a better model.",
        )
    ]
    turned = study.data.task == "rotation"
    made += [(_title(b), *rows_of(b), _note(b, turned)) for b in study.benchmarks]
    if study.neuron is not None:
        mirrored = f"Largest difference of mirrored weights: {study.neuron.mirror_difference:g}."
        note = f"{mirrored} The shared sign is a symptom, not the cause."
        made.append(("Two-weight sigmoid neuron (made-up data)", *neuron_rows(study), note))
    if study.signs:
        made.append(_sign_section(study))
    return made


def _title(benchmark: Benchmark) -> str:
    batch = "all" if benchmark.batch == 0 else str(benchmark.batch)
    checked = "each update" if benchmark.every == 1 else f"every {benchmark.every}"
    most = f"at most {benchmark.max_steps}, checked {checked}"
    return f"{benchmark.name}: updates to a loss of {target_of(benchmark)} (batch {batch}, {most})"


def _note(benchmark: Benchmark, turned: bool) -> str:
    said = []
    if any(o.predicted is not None for o in benchmark.outcomes):
        text = "predicted: from λ₁ of the turned pictures, of which this task is made, not of the "
        said.append(f"{text}pictures as they are." if turned else "")
    else:
        said.append("λ₁ predicts no nets." if benchmark.name.startswith("MLP") else "")
    if benchmark.identical:
        said.append("Some rows have the very same updates for every seed.")
    return " ".join(text for text in said if text)


def _sign_section(study: Study) -> tuple[str, list[str], list[list[str]], str]:
    keys = sorted({(s.hidden, s.layer, s.variant) for s in study.signs})
    batches = sorted({s.batch for s in study.signs})
    share = {(s.hidden, s.layer, s.variant, s.batch): s.share for s in study.signs}
    body = [
        [f"{hidden}, layer {layer}, {variant}",
         *(f"{share[hidden, layer, variant, b]:.0%}" for b in batches)]
        for hidden, layer, variant in keys
    ]  # fmt: skip
    title = "Share of neurons whose weights are all pushed one way"
    note = "Centering the inputs reaches layer 1 only."
    return title, ["", *(f"batch {b}" for b in batches)], body, note


def as_text(study: Study) -> str:
    """Headline and all tables as aligned text."""
    lines = [headline(study), "", what_was_studied(study)]
    for title, heads, body, note in sections(study):
        lines += ["", title, *_aligned(heads, body)]
        lines += [f"  {note}"] if note else []
    return "\n".join(lines + footnotes(study)) + "\n"


def what_was_studied(study: Study) -> str:
    """Data and task in one line."""
    data, settings = study.data, study.settings
    shape = " × ".join(map(str, data.shape))
    form = "columns" if not data.is_pictures else "pictures"
    return (
        f"{data.source}: {data.samples:,} of {data.available:,} samples, {form} {shape}, mean "
        f"{data.mean:.4g}, std {data.std:.4g}, |mean| ÷ std of all values together "
        f"{data.ratio:.2f}; task: {_NAMES[data.task]} ({len(data.classes)} classes); "
        f"{settings.seeds} paired seeds"
    )


FOOTNOTES = (
    "Median updates to a training loss that stays reached for five checks, each side at its own "
    "best constant rate, chosen for each seed on the other seeds. It says nothing about final "
    "accuracy. Unless its name says otherwise, a row is divided by the std of all values.",
    "Below 1.3× or inside the A/A control nothing is called a difference. The control is an exact "
    "mirror in full batch; in minibatches it shows what chance does.",
    "≥ and ≤ are bounds and have no interval: a seed missed the target (it is infinite in the "
    "median and counts as all updates allowed in the ratio), or had it at the first check, or the "
    "grid of rates ended. ? is open both ways.",
)


def footnotes(study: Study) -> list[str]:
    """What must be known to read the tables."""
    return ["", *FOOTNOTES, *study.notes]


def _aligned(heads: list[str], body: list[list[str]]) -> list[str]:
    table = [heads, *body]
    widths = [max(len(row[i]) for row in table) for i in range(len(heads))]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]),
        *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in table
    ]  # fmt: skip
