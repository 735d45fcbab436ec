"""What the page says of a study: gains, losses and nulls alike, never more than was measured."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import zeromean as zm
from zeromean.convergence.results import (
    BatchNormCheck,
    Benchmark,
    Data,
    Neuron,
    NeuronRun,
    Outcome,
    Prediction,
    RatePoint,
    Settings,
    SignShare,
    Study,
)
from zeromean.reporting import studies
from zeromean.reporting.wording import Words

pytest.importorskip("jinja2", reason="the report needs jinja2")
pytest.importorskip("matplotlib", reason="the report needs matplotlib")

MOST_BYTES = 400_000


def label(variant):
    """As a study of 8-bit pictures names it."""
    return Words("en").texts[f"variant.{variant}"].replace("{number}", "128")


def outcome(variant, steps, speedup=1.0, verdict="faster", **more):
    """One variant that took these steps with both seeds."""
    given = {
        "variant": variant,
        "label": label(variant),
        "rates": (0.5, 0.5),
        "steps": (steps, steps),
        "median_steps": float(steps),
        "unreached": 0,
        "edge": False,
        "speedup": speedup,
        "low": speedup * 0.9,
        "high": speedup * 1.1,
        "bound": "",
        "predicted": None,
        "verdict": verdict,
        "curve": tuple(RatePoint(rate, (steps, steps + 1), (99, 99)) for rate in (0.25, 0.5, 1.0)),
    }
    return Outcome(**{**given, **more})


def benchmark(key, name, *outcomes):
    base = outcome("original", 340, verdict="base")
    control = outcome("sign_flipped", 340, verdict="control")
    batch = 64 if name.startswith("MLP") else 0
    return Benchmark(key, name, batch, 1.78, 600, 5, (base, *outcomes, control))


def prediction(variant, lambda1, ratio, **more):
    given = {"low": ratio * 0.9, "high": ratio * 1.1, "subsamples": (ratio,), "share": 0.5}
    given |= {"closed_form": None, "predicts": True}
    return Prediction(variant, label(variant), lambda1, ratio=ratio, **{**given, **more})


def neuron_run(data, batch, control=""):
    path = tuple((0.1 * k, -0.1 * k) for k in range(6))
    numbers = (1.4, (50, 51), 50.5, 0, 12.0, 10.0, 14.0, 0.9, 0.5, 0.9, 8.0, 8.4)
    return NeuronRun(data, batch, control, *numbers, path)


@pytest.fixture(scope="module")
def study():
    runs = [
        neuron_run(data, batch)
        for data in ("zero_mean", "all_positive", "x2_negated")
        for batch in (1, 8, 0)
    ]
    runs += [neuron_run("all_positive", 0, "timid"), neuron_run("zero_mean", 0, "same_rate")]
    points = tuple(
        (float(a), float(b)) for a, b in np.random.default_rng(0).uniform(-1, 1, (20, 2))
    )
    return Study(
        settings=Settings(16, 1500, 8, 60.0, True, "gray"),
        data=Data(
            "data/train", 8, 12, (16, 16, 1), 97.0, 57.0, 1.0, 198.0, 2.0, 1.2, "labels",
            ("cat", "dog"), 0.69,
        ),
        predictions=(
            prediction("original", 1200.0, 1.0),
            prediction("zero_mean", 83.4, 14.4, closed_form=14.3),
            prediction("whitened", 1.0, 1234.0, predicts=False),
        ),
        neuron=Neuron(tuple(runs), 0.0, (3.0, -3.0), points, 2.0),
        benchmarks=(
            benchmark(
                "softmax_gd",
                "softmax regression, full batch",
                outcome("zero_mean", 23, 14.8, predicted=14.4),
                outcome("minus_128", 1400, 0.24, "slower", predicted=0.21),
            ),
            benchmark(
                "relu_sgd",
                "MLP, ReLU, SGD",
                outcome("zero_mean", 320, 1.06, "not shown"),
                outcome("standardized", 20, 17.0, bound="at least", unreached=1, edge=True),
            ),
        ),
        batch_norm=BatchNormCheck((2.0, -5.0), (1e-15, 6e-11), (1.7, 2.1), 300),
        signs=(SignShare("original", "relu", 1, 64, 0.02, 0.4),),
        left_out=("MLP, ReLU, SGD: (x − mean) / s (budget of 60 s spent)",),
        notes=("3 of 1500 pictures could not be read.",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def profile():
    images = np.random.default_rng(4).integers(0, 200, (12, 9, 7, 3), dtype=np.uint8)
    return zm.measure(images, "n h w c -> c", channels="RGB")


def visible(page):
    body = re.sub(r"<(script|style|pre|code|cite)[ >].*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def said(study):
    return " ".join(str(sentence) for sentence in studies.headline(study, Words("en")))


def with_data(study, **changes):
    return replace(study, data=replace(study.data, **changes))


def with_main(study, **changes):
    """The study with another result of its main variant."""
    first = study.benchmarks[0]
    main = replace(first["zero_mean"], **changes)
    others = tuple(main if o.variant == "zero_mean" else o for o in first.outcomes)
    return replace(study, benchmarks=(replace(first, outcomes=others), *study.benchmarks[1:]))


# ---------------------------------------------------------------- the page


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_study_has_its_tables_figures_and_controls(study, profile, language):
    page = zm.report(profile, study, lang=language)
    assert len(page.encode()) < MOST_BYTES
    assert page.count("<svg") == 2 + 2 * 4  # each of a study twice: wide, narrow
    text, words = visible(page), Words(language)
    for number in ("14.8", "14.4", "0.24", "1.06", "83.4"):
        assert number in text
    for key in ("softmax_gd", "relu_sgd"):
        assert words.texts[f"benchmark.{key}"] in text
    at_least = words.plain("study.at_least", number=words.times(17.0))
    assert " ".join(at_least.split()) in text
    assert words.texts["study.edge"] in text
    assert text.count(words.texts["study.bounds"]) == 1
    assert words.texts["study.verdict_not_shown"] in text
    assert "6e-11" in text
    assert text.count(words.texts["study.smoothed"]) == 1  # under the net, not under softmax
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_a_chinese_study_is_chinese(study, profile):
    page = zm.report(profile, study, lang="zh", title="图")
    english = re.findall(r"(?:\b[A-Za-z]{2,}\b[ ,]+){2,}[A-Za-z]{2,}\b", visible(page))
    assert [e for e in english if "Bottou" not in e] == []
    assert "1500 张图片中有 3 张无法读取" in page
    assert "时限 60 秒已用完" in page


def test_without_a_study_the_page_says_how_to_make_one(profile):
    assert "zeromean study DATA -o study.json" in zm.report(profile)


def test_what_was_left_out_is_not_drawn(study, profile):
    short = replace(study, neuron=None, benchmarks=(), batch_norm=None, signs=())
    page = zm.report(profile, short)
    assert page.count("<svg") == 2
    assert "budget of 60 s spent" in page


# ---------------------------------------------------------------- the sentences


def test_a_gain_is_told_with_its_interval_and_its_prediction(study):
    text = said(study)
    assert "<strong>23 instead of 340 updates</strong>" in text
    assert "14.8× [13.3,\N{NO-BREAK SPACE}16.3] (geometric mean over seeds), each" in text
    assert "λ₁ of the inputs had predicted 14.4×" in text
    assert "gave a speed-up of 0.24× [0.22,\N{NO-BREAK SPACE}0.26] over the original" in text


def test_nulls_and_losses_are_told_as_plainly(study):
    null = said(with_main(study, verdict="not shown", speedup=1.1, low=0.9, high=1.3))
    assert "<strong>no difference that can be shown</strong>" in null
    loss = said(with_main(study, verdict="slower", speedup=0.4, low=0.3, high=0.5))
    assert "became <strong>slower</strong>" in loss
    for text in (null, loss):
        assert "instead of 340 updates</strong>" not in text


def test_a_bound_is_no_number(study):
    text = said(with_main(study, bound="at least"))
    assert "≥\N{NO-BREAK SPACE}14.8× (geometric mean over seeds), each side" in text
    assert "are bounds, not numbers, and have no interval" in text
    assert "14.8× [" in said(study)
    assert "14.8× [" not in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_bound_has_no_interval_in_any_table(study, language):
    """What is open on one side must not look two-sided; what is open on both is no number."""
    words = Words(language)
    rows = {}
    for bound in ("", "at least", "at most", "unknown"):
        open_end = with_main(study, bound=bound)
        table, _ = studies._benchmark(open_end.benchmarks[0], open_end, words)
        rows[bound] = table.rows[1]
        alone = replace(open_end, benchmarks=open_end.benchmarks[:1])
        assert bool(studies._about_bounds(alone, words)) == bool(bound)
    number = words.times(14.8)
    assert rows[""][2] == f"{number} [13.3,\N{NO-BREAK SPACE}16.3]"
    assert rows["at least"][2] == f"≥\N{NO-BREAK SPACE}{number}"
    assert rows["at most"][2] == f"≤\N{NO-BREAK SPACE}{number}"
    assert rows["unknown"][2] == words.plain("study.unknown")
    assert not re.search(r"\d", rows["unknown"][2])


@pytest.mark.parametrize(("task", "words"), [("rotation", "which way up"), ("teacher", "teacher")])
def test_made_up_tasks_are_called_so(study, task, words):
    text = said(with_data(study, task=task))
    assert words in text
    assert "synthetic task" in text
    assert "not those of your own task" in text
    assert "synthetic" not in said(study)


def test_in_tables_of_unlike_columns_scale_is_the_story(study):
    table = with_data(study, shape=(13,), unlike_scales=2500.0)
    assert "The columns have unlike scales" in said(table)
    assert "2500 times" in said(table)
    assert "scale is the story" not in said(table), "no race between scale and center was run"
    alike = with_data(study, shape=(13,), unlike_scales=2.0)
    assert "unlike scales" not in said(alike)


def with_scales(study, verdict="slower", unreached=2, steps=500):
    """A table of unlike scales whose race between scale and center went this way."""
    bound = "at most" if unreached else ""
    apart = Benchmark(
        "scale_gd", "softmax regression, scale against centering", 0, 0.2, 500, 1,
        (
            outcome("scaled", 217, verdict="base"),
            outcome("zero_mean_column", steps, 217 / steps, verdict, unreached=unreached,
                    bound=bound),
            outcome("standardized", 1, 217.0),
        ),
    )  # fmt: skip
    first = study.benchmarks[0]
    main = replace(first["zero_mean"], variant="zero_mean_column", bound="at least")
    first = replace(first, outcomes=(first.outcomes[0], main))
    table = with_data(study, shape=(13,), unlike_scales=2500.0)
    return replace(table, benchmarks=(first, apart))


def test_unlike_columns_are_told_apart_by_scale_and_center(study):
    """The headline of a table is what each half of standardizing is worth by itself."""
    text = said(with_scales(study))
    assert "In this table scale is the story, not centering alone." in text
    assert "needed 217 updates" in text
    assert "share one scale more than 500" in text
    even = said(with_scales(study, "not shown", 0, 200))
    assert "No difference between centering alone and scaling alone was shown" in even
    assert "scale is the story" not in even
    assert "centering alone was quicker" in said(with_scales(study, "faster", 0, 20))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_two_targets_of_a_table_are_told_apart(study, language):
    """A gain to an easy loss stands beside a failure at a hard one: each with its loss."""
    words = Words(language)
    text = " ".join(map(str, studies.headline(with_scales(study), words)))
    assert " 0.2" in text
    assert str(words("study.easier", target="1.78")) in text
    assert str(words("study.easier", target="1.78")) not in " ".join(
        map(str, studies.headline(study, words))
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_units_are_not_claimed(study, language):
    """Standard deviations tell scales; what units a column has they do not tell."""
    words = Words(language)
    text = " ".join(map(str, studies.headline(with_scales(study), words)))
    assert "unit" not in text
    assert "单位" not in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_prediction_says_what_it_is_computed_from(study, language):
    """With rotation there are two: of the turned pictures, and of the pictures as they are."""
    words = Words(language)
    turned = with_data(study, task="rotation")
    texts = {
        task: " ".join(map(str, studies.headline(s, words)))
        for task, s in (("labels", study), ("rotation", turned))
    }
    number = words.times(14.4)
    given = {"predicted": number, "fate": words("study.prediction_held")}
    assert str(words("study.had_predicted_turned", **given)) in texts["rotation"]
    assert str(words("study.had_predicted", **given)) in texts["labels"]
    note = words("study.predicted_turned")
    assert note in studies._benchmark(turned.benchmarks[0], turned, words)[1]
    assert note not in studies._benchmark(study.benchmarks[0], study, words)[1]
    caption = str(studies._predictions(study, words).caption)
    assert {"en": "as they are", "zh": "原样"}[language] in caption


@pytest.mark.parametrize(
    ("changes", "fate"),
    [
        ({}, "held"),
        ({"speedup": 40.0}, "missed"),
        ({"speedup": 5.0}, "missed"),
        ({"speedup": 40.0, "bound": "at least"}, "missed"),
        ({"speedup": 5.0, "bound": "at least"}, "open"),
        ({"speedup": 5.0, "bound": "at most"}, "missed"),
        ({"bound": "unknown"}, "open"),
    ],
)
def test_a_wrong_prediction_is_called_wrong(study, changes, fate):
    """A bound beyond the prediction says so as well; one on its side leaves it open."""
    text = said(with_main(study, **changes))
    told = {key: str(Words("en")(f"study.prediction_{key}")) for key in ("held", "missed", "open")}
    assert [key for key, words in told.items() if words in text] == [fate]


def test_a_median_is_open_only_where_half_of_the_seeds_are(study):
    """One missing of four leaves the middle of the others a number."""
    for unreached, steps in ((0, "500"), (1, "500"), (2, "more than 500")):
        four = replace(outcome("zero_mean", 500), steps=(1, 2, 3, 4))
        one = replace(four, unreached=unreached)
        assert studies._updates(one, Words("en")) == steps


def test_lambda_is_no_prediction_for_nets(study):
    """Only full-batch softmax regression has the column."""
    words = Words("en")
    tables = [studies._benchmark(b, study, words)[0] for b in study.benchmarks]
    heads = ["predicted by λ₁ of the inputs" in table.heads for table in tables]
    assert heads == [True, False]


def test_a_ratio_of_unlike_scales_is_no_prediction(study):
    rows = {row[0]: row for row in studies._predictions(study, Words("en")).rows}
    assert rows["whitened (ZCA)"][3:5] == ["–", "–"]
    assert rows["zero-mean, one mean"][3:] == ["14.4×", "13.0 …\N{NO-BREAK SPACE}15.8", "14.3×"]


def test_the_mirror_is_told_with_its_difference(study):
    (mirror, _) = studies._controls(study, Words("en"))
    assert "the largest difference of any weight was 0." in mirror
    off = replace(study, neuron=replace(study.neuron, mirror_difference=2e-3))
    assert "was 2.0e-03." in studies._controls(off, Words("en"))[0]


# ---------------------------------------------------------------- one name for one thing


@pytest.mark.parametrize(
    ("shape", "top"), [((6, 6, 1), 255.0), ((6, 6, 3), 255.0), ((6, 6, 1), None), ((5,), None)]
)
def test_tables_figures_and_text_use_the_same_names(shape, top):
    """What a study calls a preparation, the English page calls it as well."""
    from zeromean.convergence.variants import variants_of

    x = np.random.default_rng(0).uniform(1, 9, (40, int(np.prod(shape))))
    words = Words("en")
    for variant in variants_of(x, shape, top):
        assert studies.variant_name(variant.key, variant.label, words) == variant.label
        assert studies.variant_name(variant.key, variant.label, Words("zh")) != variant.label


def test_benchmarks_have_one_name(study):
    from zeromean.convergence import benchmarks
    from zeromean.convergence.tasks import Task
    from zeromean.convergence.variants import variants_of

    x = np.random.default_rng(0).uniform(1, 9, (60, 5)) * [1, 10, 100, 1, 1]
    task = Task("labels", x, np.arange(60) % 2, ("a", "b"))
    variants = variants_of(x, (5,), None)
    plans = benchmarks.plans_of(task, variants, {v.key: 1.0 for v in variants}, True)
    words = Words("en")
    for plan in plans:
        assert words.texts[f"benchmark.{plan.key}"] == plan.name
    assert f"{benchmarks._WIDTH} units" in words.texts["study.checks_net"]


def test_standardized_is_said_to_be_another_thing_than_the_code(study, profile):
    """With one number for all pixels the code divides by one std, that row by each pixel's."""
    gray = np.random.default_rng(0).integers(0, 200, (12, 9, 7, 1), dtype=np.uint8)
    measured = {
        "gray": zm.measure(gray, "n h w c -> c", channels="L"),
        "RGB": profile,
        "pixels": zm.measure(gray, "n h w c -> h w c", channels="L"),
    }
    said = {key: str(studies.pasted_row(p, study, Words("en"))) for key, p in measured.items()}
    assert said["gray"] == "The code above is the row “zero-mean, one mean”."
    assert "No row is exactly the code above" in said["RGB"]
    assert said["pixels"] == ""  # that row was left out of this study
    rows = studies._benchmark(study.benchmarks[1], study, Words("en"))[0].rows
    assert "zero-mean, mean picture, each pixel ÷ its std" in [row[0] for row in rows]
    table = with_data(study, shape=(4,))
    columns = zm.measure(np.random.default_rng(0).normal(size=(9, 4)), "n d -> d")
    held = (*study.predictions[:1], replace(prediction("standardized", 4.7, 3.2, predicts=False),
            label="zero-mean, column means, each column ÷ its std"))  # fmt: skip
    text = str(studies.pasted_row(columns, replace(table, predictions=held), Words("en")))
    assert text == "The code above is the row “zero-mean, column means, each column ÷ its std”."


def test_the_rule_of_the_dash_is_that_of_the_program(study):
    from zeromean.convergence import benchmarks, prediction

    assert benchmarks.UNLIKE is prediction.UNLIKE
    story = studies.story(study, Words("en"), [], zm.measure(np.arange(9.0)), "agrees")
    assert f"more than {prediction.UNLIKE:g}-fold" in story.predicts_not


def test_whose_data_it_is_hangs_on_what_is_known(study):
    """Equal digests make it the reader's; else it is the study's."""
    for sure, whose in ((True, "on your data"), (False, "on the study's data")):
        text = " ".join(map(str, studies.headline(study, Words("en"), sure=sure)))
        assert f"Full-batch softmax regression {whose}" in text


def test_a_lucky_guess_is_called_lucky(study):
    near, far = (said(with_data(study, mean=mean)) for mean in (120.645, 40.0))
    assert "By luck: the mean of the samples in the study is 120.6, close to 128." in near
    assert "By luck" not in far
    assert "The mean is 40, not 128." in far


def test_all_predictions_are_judged(study):
    assert "Over the 2 rows with a prediction, what was measured was 1.03 to 1.14 times" in said(
        study
    )
    alone = with_main(study, bound="at least")
    assert alone.predicted_fold is None
    assert "rows with a prediction" not in said(alone)


def test_same_numbers_are_said_to_be_the_same_runs(study):
    first = study.benchmarks[1]
    twice = replace(first, outcomes=(*first.outcomes, outcome("zero_mean_pixel", 320)))
    assert [o.variant for o in twice.identical] == ["zero_mean", "zero_mean_pixel"]
    assert first.identical == []
    remarks = studies._benchmark(twice, study, Words("en"))[1]
    same = "Very same updates for every seed: zero-mean, one mean; zero-mean, mean picture."
    assert same in [str(r) for r in remarks]


@pytest.mark.parametrize(
    ("tried", "word"), [(600, "had not arrived after all 600"), (5, "diverged")]
)
def test_what_never_arrived_is_told_with_its_limit(study, tried, word):
    """Nothing is called slow that was ended early: it had all updates, or overflowed."""
    first = study.benchmarks[1]
    late = replace(
        outcome("zero_mean", 320, bound="at most", unreached=1),
        steps=(320, None),
        curve=(RatePoint(0.5, (320, None), (600, tried)),),
    )
    race = replace(first, outcomes=(first.outcomes[0], late))
    remarks = " ".join(map(str, studies._benchmark(race, study, Words("en"))[1]))
    assert f"1 of 2 seeds {word}" in remarks
    assert "infinite in the median" in remarks


def test_the_neuron_says_how_many_never_arrived(study):
    """In the figure and in the table; and what is a median is not called a mean."""
    from zeromean.convergence.drawing import draw_study
    from zeromean.convergence.wording import neuron_rows

    late = tuple(
        replace(run, steps=(50, 60, None), unreached=1, median_steps=60.0)
        for run in study.neuron.runs
    )
    missed = replace(study, neuron=replace(study.neuron, runs=late))
    for narrow in (False, True):
        figure = draw_study(missed, "zigzag", narrow=narrow)
        captions = [t.get_text() for axes in figure.axes for t in axes.texts]
        assert len(captions) == 8
        gap = "\n" if narrow else ", "
        assert all(f"60 updates{gap}1 of 3 never arrived" in text for text in captions)
        (note,) = [t.get_text() for t in figure.texts if "Labels, start" in t.get_text()]
        assert "Updates are medians" in " ".join(note.split())
    assert {row[3] for row in neuron_rows(missed)[1]} == {"60, 1 of 3 never arrived"}


def test_the_page_names_its_limits_and_its_grain(study, profile):
    """How many updates, how often checked, how far rates are apart; and what the control is."""
    text = visible(zm.report(profile, study))
    assert "checked after every update, for at most 600 updates" in text
    assert "checked every 5 updates, for at most 600" in text
    assert "an exact mirror in full batch" in text
    assert "updates to a training loss of 1.78, at most 600" in text
    assert "the figure shows the first and the last of these pairs" in text
