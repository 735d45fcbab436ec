"""A study on small data: what it finds, what it refuses to find, files, budget, and the command."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import zeromean as zm
from zeromean.cli import main
from zeromean.convergence import benchmarks, schedule, studying
from zeromean.convergence.races import Course
from zeromean.convergence.results import SMALLEST_EFFECT

pytest.importorskip("scipy")
pytest.importorskip("threadpoolctl")


@pytest.fixture(autouse=True, scope="module")
def shorter():
    """Fewer updates: what is tested here does not need them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmarks, "_GD", replace(benchmarks._GD, max_steps=150))
        patch.setattr(benchmarks, "_SCALE", replace(benchmarks._SCALE, max_steps=300))
        for name in ("_NET", "_NORM", "_DEEP"):
            patch.setattr(benchmarks, name, replace(getattr(benchmarks, name), max_steps=80))
        yield


@pytest.fixture
def only(monkeypatch):
    """Leave out all benchmarks but some, and the neuron."""

    def keep(*keys):
        plans = studying.plans_of
        monkeypatch.setattr(
            studying, "plans_of", lambda *given: (p for p in plans(*given) if p.key in keys)
        )
        monkeypatch.setattr(studying, "neuron_of", lambda seeds: None)

    return keep


def photographs(n=240, side=6, mean=120.0, seed=0):
    """Smooth random pictures of two classes, with the mean ÷ std of photographs."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % 2
    waves = np.stack([np.sin(np.linspace(0, 3 * k, side)) for k in (1, 2, 3)])
    weights = random.normal(size=(n, 3, 3))
    weights[:, 0, 1] += 0.6 * (2 * y - 1)
    x = np.einsum("nij,ia,jb->nab", weights, waves, waves)
    x += 0.3 * random.normal(size=x.shape)
    return np.clip(mean + 0.45 * mean * x / x.std(), 0, 255).astype(np.uint8), y


def wine():
    datasets = pytest.importorskip("sklearn.datasets")
    return datasets.load_wine()


@pytest.fixture(scope="module")
def small():
    x, y = photographs()
    return zm.study(x, labels=y, seeds=4, budget=600)


# ---------------------------------------------------------------- what is found


def test_zero_mean_is_faster_and_predicted(small):
    """Photographs: the gain in full-batch descent is real, and so is the scale control's null."""
    race = small.benchmark("softmax_gd")
    assert race["zero_mean"].verdict == "faster"
    assert race["zero_mean"].speedup > 3
    assert race["original"].speedup == 1
    assert race["zero_mean"].predicted == pytest.approx(small.prediction("zero_mean").ratio)
    assert "zero mean needed" in small.headline


def test_the_sign_flip_control_is_exactly_one(small):
    """Same steps for every seed: gradient descent from 0 takes the mirrored path."""
    race = small.benchmark("softmax_gd")
    control = race["sign_flipped"]
    assert control.verdict == "control"
    assert control.steps == race["original"].steps
    assert (control.speedup, control.low, control.high) == (1, 1, 1)


def test_every_number_of_every_seed_is_there(small):
    """Speed-ups can be worked out again from the steps."""
    for race in small.benchmarks:
        base = race.outcomes[0]
        for outcome in race.outcomes:
            assert len(outcome.steps) == len(outcome.rates) == 4
            for seed, rate in enumerate(outcome.rates):
                (point,) = [p for p in outcome.curve if p.rate == rate]
                assert point.steps[seed] == outcome.steps[seed]
            if None not in base.steps + outcome.steps:
                logs = np.log(np.array(base.steps) / np.array(outcome.steps))
                assert outcome.speedup == pytest.approx(np.exp(logs.mean()), rel=1e-12)


def test_minus_128_is_slower_than_raw_on_dark_pictures(only):
    """|mean − 128| > mean exactly when mean < 64: then the usual advice hurts."""
    only("softmax_gd")
    x, y = photographs(mean=120.0)
    dark = (x * 0.25).astype(np.uint8)
    found = zm.study(dark, labels=y, seeds=4, budget=600)
    race = found.benchmark("softmax_gd")
    assert found.prediction("minus_128").ratio < 0.5
    assert race["minus_128"].verdict == "slower"
    assert race["zero_mean"].verdict == "faster"
    assert "Subtracting half of the range (minus 128) made it slower" in found.headline


def test_a_table_of_unlike_scales_says_that_scale_is_the_story(tmp_path, only):
    """Wine as a CSV file, classes in a column of text."""
    only("softmax_gd", "scale_gd")
    data = wine()
    names = [str(name).replace("/", "_") for name in data.feature_names]
    rows = [",".join([*names, "kind"])]
    for row, target in zip(data.data, data.target, strict=True):
        rows.append(",".join([*map(repr, map(float, row)), f"kind {target}"]))
    path = tmp_path / "wine.csv"
    path.write_text("\n".join(rows))
    pytest.importorskip("pyarrow")
    found = zm.study(path, labels="kind", seeds=4, budget=600)
    assert found.data.classes == ("kind 0", "kind 1", "kind 2")
    assert found.data.samples == 178
    assert found.data.unlike_scales > 1000
    assert "The columns have unlike scales" in found.headline
    assert "Scale is the story here, not centering alone: to a loss of" in found.headline
    assert "unit" not in found.table
    assert found.data.columns == tuple(names)
    first, second = (found.benchmark(key) for key in ("softmax_gd", "scale_gd"))
    assert f"to a loss of {second.target:.3g}, dividing each column by its std" in found.headline
    assert f"to a loss of {first.target:.3g}, the lowest that it reaches unc" in found.headline
    assert found.headline.index("Scale is the story") < found.headline.index("zero mean needed")
    scale = found.benchmark("scale_gd")
    assert scale["zero_mean_column"].verdict == "slower"
    assert scale["standardized"].verdict == "faster"
    same = zm.study(data, seeds=4, budget=600)
    assert same.benchmarks == found.benchmarks
    assert same.data.columns == ()


def test_centered_data_show_no_gain():
    """Nulls are said: zero-mean data gain nothing from centering."""
    random = np.random.default_rng(1)
    x = random.normal(size=(200, 8))
    x -= x.mean(axis=0)
    y = (x[:, 0] + 0.5 * random.normal(size=200) > 0).astype(int)
    found = zm.study(x, labels=y, seeds=4, budget=600)
    for race in found.benchmarks:
        if "zero_mean_column" in race and race.outcomes[0].variant == "original":
            assert race["zero_mean_column"].verdict == "not shown"
    assert "no difference shown" in found.headline
    assert "(not shown)" in found.headline


def test_batch_norm_makes_centering_a_no_op():
    """Exactly: the same updates for every seed, and weights that differ by rounding only."""
    x, y = photographs(n=100, side=4)
    found = zm.study(x, labels=y, seeds=3, budget=600, full=True)
    race = found.benchmark("batch_norm_sgd")
    assert race["zero_mean"].rates == race["original"].rates
    assert race["zero_mean"].steps == race["original"].steps
    assert (race["zero_mean"].speedup, race["zero_mean"].low, race["zero_mean"].high) == (1, 1, 1)
    assert "1.00× exactly" in found.headline
    assert max(found.batch_norm.largest_difference) < 1e-9
    clean, *shifted = found.batch_norm.eval_losses
    assert all(loss != clean for loss in shifted), "running averages are another matter"
    first = {(s.variant, s.hidden, s.batch): s for s in found.signs if s.layer == 1}
    second = {(s.variant, s.hidden, s.batch): s for s in found.signs if s.layer == 2}
    assert first["original", "sigmoid", 1].share == 1
    assert first["zero_mean", "sigmoid", 1].share < 0.5
    assert second["zero_mean", "sigmoid", 1].share == 1, "centering reaches layer 1 only"
    assert {b.key for b in found.benchmarks} >= {"tanh_sgd", "relu_adam", "hidden_1", "hidden_3"}


# ---------------------------------------------------------------- reproducible


def test_threads_do_not_matter(only):
    """The same bytes with one and with two threads."""
    only("softmax_gd", "relu_sgd")
    x, y = photographs(n=120, side=5)
    one, two = (zm.study(x, labels=y, seeds=3, budget=600, workers=k) for k in (1, 2))
    assert one == two
    assert one.to_json() == two.to_json()
    assert one.table == two.table


def test_files(small, tmp_path):
    """JSON there and back with ==; the same study, the same bytes."""
    path = tmp_path / "study.json"
    small.save(path)
    assert zm.load(path) == small
    assert path.read_text() == small.to_json()
    document = json.loads(path.read_text())
    assert (document["format"], document["kind"]) == ("zeromean/1", "study")
    with pytest.raises(zm.FormatError, match=r"a study is saved as \.json"):
        small.save(tmp_path / "study.txt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["data"].pop("mean"), "lacks the field 'study.data.mean'"),
        (lambda d: d["data"].update(mean="x"), "field 'study.data.mean' must be float, not str"),
        (lambda d: d["data"].update(samples=True), "must be int, not bool"),
        (lambda d: d.update(notes="x"), "field 'study.notes' must be a list"),
        (lambda d: d["neuron"].update(optimum=[1.0]), "must have 2 entries, not 1"),
        (lambda d: d["settings"].update(seeds=9), "field 'checksum' does not match"),
    ],
)
def test_damaged_files(small, tmp_path, change, said):
    """Each damage is named."""
    document = json.loads(small.to_json())
    change(document)
    path = tmp_path / "study.json"
    path.write_text(json.dumps(document))
    with pytest.raises(zm.FormatError, match=said.replace(".", r"\.")):
        zm.load(path)


# ---------------------------------------------------------------- budget and Ctrl-C


def test_the_budget_stops_cleanly_and_says_what_was_left_out():
    x, y = photographs(n=120, side=5)
    found = zm.study(x, labels=y, seeds=3, budget=1e-6)
    assert found.predictions
    assert found.neuron is None
    assert found.benchmarks == ()
    assert found.left_out[0] == "two-weight neuron (budget of 1e-06 s spent)"
    assert "Left out: two-weight neuron" in found.headline
    assert "not measured" in found.headline
    for kind in ("rates", "zigzag", "prediction", "speedups"):
        with pytest.raises(zm.PatternError, match="it was left out"):
            found.plot(kind)


def test_ctrl_c_keeps_what_is_done(monkeypatch, only):
    """Pressed while the second benchmark runs."""
    only("softmax_gd", "sigmoid_sgd", "relu_sgd")
    x, y = photographs(n=120, side=5)
    run = studying.run

    def pressed(plan, seeds, given):
        if plan.key == "sigmoid_sgd":
            raise KeyboardInterrupt
        return run(plan, seeds, given)

    monkeypatch.setattr(studying, "run", pressed)
    found = zm.study(x, labels=y, seeds=3, budget=600)
    assert [b.key for b in found.benchmarks] == ["softmax_gd"]
    assert found.left_out == (
        "MLP, sigmoid, SGD (stopped by Ctrl-C)",
        "MLP, ReLU, SGD (stopped by Ctrl-C)",
    )


def test_a_benchmark_cut_in_the_middle_keeps_its_variants(monkeypatch, only):
    """Base, zero-mean and control are done; the rest is named."""
    only("softmax_gd", "relu_sgd")
    x, y = photographs(n=120, side=5)
    said = []

    def say(self, what):
        said.append(what)
        if what == "softmax regression, full batch: zero-mean, mean picture":
            raise schedule.OutOfTimeError
        if what.startswith("MLP"):
            raise schedule.OutOfTimeError

    monkeypatch.setattr(schedule.Schedule, "say", say)
    found = zm.study(x, labels=y, seeds=3, budget=600)
    (race,) = found.benchmarks
    assert [o.variant for o in race.outcomes] == ["original", "zero_mean", "sign_flipped"]
    assert any("mean picture" in text for text in found.left_out)
    assert any("MLP, ReLU" in text for text in found.left_out)


# ---------------------------------------------------------------- tasks and words


def test_without_labels_the_task_is_made_up_and_called_so(only):
    """Rotation where up can be told, else a random teacher; neither is your own task."""
    only("softmax_gd")
    x, _ = photographs()
    x = np.clip(x * np.linspace(0.5, 1.3, 6)[:, None], 0, 255).astype(np.uint8)  # sky above
    turned = zm.study(x, seeds=3, budget=600)
    assert turned.data.task == "rotation"
    assert len(turned.data.classes) == 4
    assert "rotation, not your own task" in turned.headline
    noise = np.random.default_rng(0).integers(0, 256, (200, 5, 5), dtype=np.uint8)
    taught = zm.study(noise, seeds=3, budget=600)
    assert taught.data.task == "teacher"
    assert "a random teacher, not your own task" in taught.headline
    assert any("Which way up a sample is cannot be told" in note for note in taught.notes)


def test_no_sentence_claims_too_much(small):
    """The limits stand beside the numbers."""
    text = small.table
    assert "It says nothing about final accuracy" in text
    assert "each side at its own best constant rate" in text
    assert "λ₁ predicts no nets" in text
    assert "The shared sign is a symptom, not the cause" in text
    assert "Whitened: a lower training loss is not a better model" in text
    assert "Below 1.3× or inside the A/A control nothing is called a difference" in text
    assert small.prediction("whitened").predicts is False
    for race in small.benchmarks:
        for outcome in race.outcomes:
            if race.key != "softmax_gd":
                assert outcome.predicted is None
            if outcome.verdict == "faster":
                assert outcome.speedup > 1.3
                control = race["sign_flipped"]
                assert outcome.low > max(1, control.high)


def test_unreached_is_marked(small):
    """Bounds are said with their sign, never as exact numbers."""
    from zeromean.convergence.wording import times

    outcome = small.benchmark("softmax_gd")["zero_mean"]
    outcome = replace(outcome, speedup=14.2, low=13.5, high=14.9)
    assert times(replace(outcome, bound="")) == "14.2× [13.5, 14.9]"
    assert times(replace(outcome, bound="at least")) == "≥ 14.2×"
    assert times(replace(outcome, bound="at most")) == "≤ 14.2×"
    assert times(replace(outcome, bound="unknown")) == "?"
    run = small.neuron.run("all_positive", 1)
    assert times(replace(run, unreached=0)).endswith("]")
    assert times(replace(run, unreached=1)) == f"≥ {run.slowdown:.2f}×"


def test_scale_alone_changes_nothing_in_full_batch_descent(only, monkeypatch):
    """The grid goes along with the scale: no side is called slower for where its rates lie."""
    only("softmax_gd")
    monkeypatch.setattr(benchmarks, "_GD", replace(benchmarks._GD, max_steps=500))
    datasets = pytest.importorskip("sklearn.datasets")
    found = zm.study(datasets.load_digits(), budget=600)
    race = found.benchmark("softmax_gd")
    scale = race["original_255"]
    assert scale.verdict == "not shown"
    assert 1 / SMALLEST_EFFECT < scale.speedup < SMALLEST_EFFECT
    ratio = (16 / found.data.std) ** 2
    for own, base in zip(scale.rates, race["original"].rates, strict=True):
        assert 0.5 < own / ratio / base < 2, "the curve is flat near its least point"


def test_what_is_told_of_two_predictions(only):
    """Turned pictures have another λ₁ than pictures as they are; the text says which is which."""
    only("softmax_gd")
    x, y = photographs()
    x = np.clip(x * np.linspace(0.5, 1.3, 6)[:, None], 0, 255).astype(np.uint8)
    turned = zm.study(x, seeds=3, budget=600)
    assert turned.data.task == "rotation"
    assert turned.benchmark("softmax_gd")["zero_mean"].predicted != pytest.approx(
        turned.prediction("zero_mean").ratio, rel=1e-6
    )
    note = "from λ₁ of the turned pictures"
    assert note in turned.table
    assert "the prediction from the turned pictures, of" in turned.headline
    assert "of the samples as they are" in turned.table
    labeled = zm.study(x, labels=y, seeds=3, budget=600)
    assert note not in labeled.table


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": 2}, "seeds is 2; choose 3 or more"),
        ({"n": 10}, "n is 10; choose 40 or more"),
        ({"budget": 0}, "budget is 0; give seconds"),
        ({"colors": "CMYK"}, "colors is 'CMYK'; choose 'gray' or 'RGB'"),
        ({"task": "chess"}, "task is 'chess'; choose one of labels, rotation, teacher"),
        ({"task": "labels", "labels": "none"}, "came without labels"),
    ],
)
def test_wrong_use(options, said):
    x, y = photographs(n=60, side=4)
    with pytest.raises(zm.PatternError, match=said):
        zm.study(x, **{"labels": y, **options})


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(schedule, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "zeromean\[study\]"'):
        zm.study(photographs()[0])


# ---------------------------------------------------------------- command and figures


def test_the_command(tmp_path, monkeypatch, only):
    """Table, file, figure; the file loads, and `show` prints it again."""
    only("softmax_gd", "relu_sgd")
    monkeypatch.chdir(tmp_path)
    x, _ = photographs(n=120, side=5)
    np.save("x.npy", x)
    pytest.importorskip("matplotlib")
    words = "study x.npy --seeds 3 --budget 600s -o study.json --plot rates.png".split()
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "Full-batch softmax regression" in result.output
    assert "updates to a loss of" in result.output
    found = zm.load("study.json")
    assert found.data.task in ("rotation", "teacher")
    assert (tmp_path / "rates.png").stat().st_size > 10_000
    shown = CliRunner().invoke(main, ["show", "study.json"])
    assert shown.output.strip() in result.output
    printed = CliRunner().invoke(main, ["show", "study.json", "--json"])
    assert printed.output == (tmp_path / "study.json").read_text()
    wrong = CliRunner().invoke(main, ["study", "x.npy", "--labels", "kind"])
    assert wrong.exit_code == 2
    assert "an array has neither folders nor named columns" in wrong.output


@pytest.mark.parametrize("kind", ["rates", "zigzag", "prediction", "speedups"])
def test_figures(small, kind, tmp_path):
    """Each kind is drawn, with labeled axes; the same study, the same bytes."""
    pytest.importorskip("matplotlib")
    from zeromean import figures

    figure = small.plot(kind)
    assert all(axes.get_xlabel() for axes in figure.axes)
    saved = figures.save(figure, tmp_path / "one.png")
    assert saved.stat().st_size > 10_000
    if kind == "speedups":
        again = figures.save(small.plot(kind), tmp_path / "two.png")
        assert saved.read_bytes() == again.read_bytes()
    with pytest.raises(zm.PatternError, match="kind is 'pie'"):
        small.plot("pie")


def test_courses_are_the_documented_ones():
    """A target is taken at a part of the updates, so that the base can reach it."""
    assert Course(300, 5, 1, 2).part == 0.75
