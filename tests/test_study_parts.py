"""The parts of a study against independent formulations: eigenvalues, rates, gradients."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scipy")
pytest.importorskip("threadpoolctl")

from zeromean.convergence import batch_norm, networks, softmax
from zeromean.convergence.intake import NO_LABELS, Wanted, gather
from zeromean.convergence.intervals import halves_interval, ratio_interval, t_quantile
from zeromean.convergence.neuron import DATA, Problem, descend, neuron_of, zig_zag
from zeromean.convergence.outcomes import verdict_of
from zeromean.convergence.prediction import largest_eigenvalues, predictions_of
from zeromean.convergence.races import Course, Runs
from zeromean.convergence.rates import chosen_without, first_stay, grid, level_reached
from zeromean.convergence.resizing import shrunk
from zeromean.convergence.tasks import task_of
from zeromean.convergence.thinning import thinned
from zeromean.convergence.variants import variants_of
from zeromean.convergence.watching import Limits
from zeromean.errors import PatternError, SourceError


def no_tick():
    """Time is never up here."""


# ---------------------------------------------------------------- prediction


def dense(x, variant):
    """λ₁ of E[x̃ x̃ᵀ] from the whole matrix."""
    z = np.concatenate([(x - variant.shift) / variant.scale, np.ones((len(x), 1))], axis=1)
    small = z @ z.T if len(z) < z.shape[1] else z.T @ z
    return np.linalg.eigvalsh(small / len(z))[-1]


@pytest.mark.parametrize(("n", "shape"), [(60, (3,)), (80, (40,)), (50, (6, 6, 3)), (30, (1200,))])
def test_eigenvalues_agree_with_the_whole_matrix(n, shape):
    """Few columns, many, and more columns than samples: never a matrix of the data twice."""
    random = np.random.default_rng(n)
    x = 5 + random.normal(size=(n, math.prod(shape))) * random.uniform(0.5, 2, math.prod(shape))
    variants = variants_of(x, shape, None)
    found = largest_eigenvalues(x, variants)
    for variant in variants:
        assert found[variant.key] == pytest.approx(dense(x, variant), rel=1e-6)


def test_the_closed_form():
    """1 + ‖μ‖²/λ₁(Σ) against the ratio, on data whose mean is large."""
    random = np.random.default_rng(0)
    basis = random.normal(size=(12, 16))
    x = 120 + 20 * random.normal(size=(400, 12)) @ basis
    by_key = {p.variant: p for p in predictions_of(x, variants_of(x, (4, 4, 1), 255.0))}
    pixel = by_key["zero_mean_pixel"]
    sigma = np.cov(x.T, bias=True)
    mu = x.mean(axis=0)
    assert pixel.closed_form == pytest.approx(1 + mu @ mu / np.linalg.eigvalsh(sigma)[-1], rel=1e-6)
    assert pixel.low < pixel.ratio < pixel.high
    assert by_key["whitened"].lambda1 == 1
    assert by_key["standardized"].closed_form is None
    assert "original_255" not in by_key


def test_the_interval_of_halves_covers_the_truth():
    """Nominal 95 %: over 60 data sets of a known λ₁ ratio the interval misses few."""
    missed = 0
    shape = (2, 4, 1)
    scales = np.array([3.0, 1, 1, 1, 1, 1, 1, 1])
    truth = (
        np.linalg.eigvalsh(
            np.block([[np.diag(scales**2) + 4, 2 * np.ones((8, 1))], [2 * np.ones((1, 8)), 1]])
        )[-1]
        / 9.0
    )
    for seed in range(60):
        x = 2 + np.random.default_rng(seed).normal(size=(300, 8)) * scales
        # s = 1 by hand, so that the truth is known
        variants = [
            v.__class__(v.key, v.label, v.shift, np.ones(8), v.trained)
            for v in variants_of(x, shape, None)
        ]
        found = {p.variant: p for p in predictions_of(x, tuple(variants))}["zero_mean_pixel"]
        missed += not found.low <= truth <= found.high
    assert missed <= 9, missed


def test_t_intervals():
    """Against the table of Student's t and a hand-made example."""
    assert t_quantile(7) == pytest.approx(2.364624, abs=1e-6)
    middle, low, high = ratio_interval([2.0, 8.0])
    assert middle == pytest.approx(4.0)
    half = t_quantile(1) * math.log(2)
    assert (low, high) == pytest.approx((4 * math.exp(-half), 4 * math.exp(half)))
    low, high = halves_interval(2.0, [2.0, 2.0])
    assert low == high == 2.0


# ---------------------------------------------------------------- the two-weight neuron


def test_negating_an_input_mirrors_every_path_to_the_last_bit():
    """No two gradients share a sign any more, and not one bit of the way changes."""
    for batch in (1, 8, 0):
        rates = np.tile([0.3, 1.41, 4.0], (3, 1))
        one = descend(Problem.of("all_positive", 3), rates, batch, 80)
        other = descend(Problem.of("x2_negated", 3), rates, batch, 80)
        mirrored = other.weights * np.array([1.0, -1.0])
        assert np.array_equal(one.weights, mirrored)
        assert np.abs(one.weights - mirrored).max() == 0.0
        assert np.array_equal(one.excess, other.excess)


def test_the_neuron_descends_as_written_by_hand():
    """One seed, one rate, full batch, in plain Python."""
    problem = Problem.of("all_positive", 1)
    paths = descend(problem, np.array([[0.5]]), 0, 5)
    w = np.zeros(2)
    for step in range(5):
        assert paths.weights[step, 0, 0] == pytest.approx(w, abs=1e-12)
        p = 1 / (1 + np.exp(-problem.x[0] @ w))
        w = w - 0.5 * (p - problem.y[0]) @ problem.x[0] / 200
    start = paths.excess[0]
    assert start == pytest.approx(1.0)


def test_labels_start_and_optimum_do_not_move_with_the_mean():
    """All three data sets have the same soft labels, and the teacher has no excess loss."""
    problems = {name: Problem.of(name, 2) for name in DATA}
    for problem in problems.values():
        assert np.array_equal(problem.y, problems["zero_mean"].y)
    for name, w in (("zero_mean", (3, -3)), ("all_positive", (3, -3)), ("x2_negated", (3, 3))):
        z = problems[name].x @ np.array(w, float)
        assert 1 / (1 + np.exp(-z)) == pytest.approx(problems[name].y, abs=1e-9)


def test_what_the_neuron_shows():
    """Symptom and cause: four stories, in numbers."""
    neuron = neuron_of(8)
    assert neuron.mirror_difference == 0.0
    one, flipped = neuron.run("all_positive", 1), neuron.run("x2_negated", 1)
    assert (one.same_sign, flipped.same_sign) == (1.0, 0.0)
    assert one.steps == flipped.steps
    assert one.turns == flipped.turns
    full, zero = neuron.run("all_positive", 0), neuron.run("zero_mean", 0)
    assert full.low > 10
    assert zero.lambda1 < 0.5 < 8 < full.lambda1
    timid = neuron.run("all_positive", 0, "timid")
    assert timid.turns == 0
    assert timid.path_ratio == pytest.approx(1, abs=0.01)
    assert timid.median_steps > full.median_steps
    slow = neuron.run("zero_mean", 0, "same_rate")
    assert slow.rate == full.rate
    assert slow.median_steps > full.median_steps, "equal rate: the shifted data are not slower"


def test_zig_zag_numbers():
    square = np.array([[0, 0], [1, 1], [2, 0], [1, 1], [0, 2.0]])
    same, turns, ratio = zig_zag(square)
    assert same == 0.25
    assert turns == pytest.approx(1 / 3)
    assert ratio == pytest.approx(4 * math.sqrt(2) / 2)


# ---------------------------------------------------------------- rates and targets


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_reached_means_stays_reached(below):
    losses = np.where(below, 0.0, 1.0)
    text = "".join("x" if b else "." for b in below)
    assert int(first_stay(losses, 0.5)) == text.find("xxxxx")


def test_a_lucky_crossing_does_not_count():
    losses = np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 0.0])
    assert int(first_stay(losses, 0.5)) == 4
    assert int(first_stay(np.array([np.nan] * 6), 0.5)) == -1


@given(st.lists(st.floats(0, 2), min_size=5, max_size=15))
def test_the_level_is_the_lowest_target_that_is_reached(losses):
    array = np.array(losses)
    level = float(level_reached(array))
    assert first_stay(array, level) >= 0
    assert first_stay(array, np.nextafter(level, -1)) < 0


@given(st.integers(2, 5), st.integers(3, 7), st.randoms(use_true_random=False))
def test_no_seed_chooses_its_own_rate(rates, seeds, random):
    """What a seed does cannot change its own rate."""
    steps = np.array([[float(random.randint(1, 99)) for _ in range(seeds)] for _ in range(rates)])
    chosen = chosen_without(steps)
    for seed in range(seeds):
        changed = steps.copy()
        changed[:, seed] = random.randint(1, 99)
        changed[random.randrange(rates), seed] = 1e6
        assert chosen_without(changed)[seed] == chosen[seed]
        others = np.delete(np.log(steps), seed, axis=1).sum(axis=1)
        assert others[chosen[seed]] == pytest.approx(others.min(), abs=1e-6)


def test_the_grid_is_one_grid():
    assert set(grid(0.5, 2, 2)) < set(grid(0.1, 9, 2))
    assert grid(1.4, 1.4, 2) == [2**0.5]


def test_the_target_is_reached_by_every_seed_of_the_base():
    course = Course(20, 1, 1, 1)
    runs = Runs(course)
    t = np.arange(21.0)
    runs.losses = {1.0: [2 - 0.05 * t, 2 - 0.03 * t], 2.0: [2 - 0.02 * t, 2 - 0.01 * t]}
    steps, tried = runs.steps(runs.own_target())
    assert (steps[0] > 0).all()
    assert (steps[0] <= 15).all()
    assert steps[1, 1] == -1
    assert tried.tolist() == [[20, 20], [20, 20]]


def test_verdicts_need_size_and_certainty():
    none = (1.0, 1.0)
    assert verdict_of(1.29, 1.28, 1.30, none, "") == "not shown"
    assert verdict_of(2.0, 0.9, 4.0, none, "") == "not shown"
    assert verdict_of(2.0, 1.2, 3.0, (0.8, 1.25), "") == "not shown"
    assert verdict_of(2.0, 1.3, 3.0, (0.8, 1.25), "at least") == "faster"
    assert verdict_of(2.0, 1.3, 3.0, none, "at most") == "not shown"
    assert verdict_of(0.5, 0.4, 0.6, none, "at most") == "slower"
    assert verdict_of(0.5, 0.4, 0.6, none, "at least") == "not shown"


# ---------------------------------------------------------------- training


def test_softmax_descends_as_written_by_hand():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(20, 3)).astype(np.float32), random.integers(0, 3, 20)
    found = softmax.descend(x, y, 3, [0.1, 0.5], Limits(6, 1, None, no_tick))
    z = np.concatenate([x, np.ones((20, 1))], axis=1)
    for column, rate in enumerate((0.1, 0.5)):
        w = np.zeros((4, 3))
        for step in range(7):
            p = np.exp(z @ w)
            p /= p.sum(axis=1, keepdims=True)
            loss = -np.log(p[np.arange(20), y]).mean()
            assert found[step, column] == pytest.approx(loss, rel=1e-5)
            w -= rate * z.T @ (p - np.eye(3)[y]) / 20


def test_flipped_signs_mirror_softmax_exactly():
    random = np.random.default_rng(1)
    x, y = random.normal(3, 1, (50, 7)).astype(np.float32), random.integers(0, 4, 50)
    signs = np.array([1, -1, 1, -1, -1, 1, 1], np.float32)
    limits = Limits(40, 1, None, no_tick)
    one, other = (softmax.descend(z, y, 4, [0.05, 0.3], limits) for z in (x, x * signs))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("hidden", sorted(networks.ACTIVATIONS))
def test_gradients_of_nets_are_right(hidden):
    """Against differences of the loss."""
    random = np.random.default_rng(2)
    net = networks.Net(hidden, (5, 4))
    x, y = random.normal(size=(6, 3)).astype(np.float32), random.integers(0, 3, 6)
    layers = networks.started(net, 3, 3, 2, random)
    gradients = networks.gradients_of(net, layers, x, y)

    def loss(k):
        scores = networks.forward(net, layers, x)[-1]
        return networks.losses_of(scores.astype(np.float64), y)[k]

    for layer in range(3):
        for part in (0, 1):
            index = (1, 0, 1)
            held = float(layers[layer][part][index])
            ends = []
            for step in (0.01, -0.01):
                layers[layer][part][index] = held + step
                ends.append(loss(1))
            layers[layer][part][index] = held
            slope = (ends[0] - ends[1]) / 0.02
            assert gradients[layer][part][index] == pytest.approx(slope, abs=2e-3)


def test_batch_norm_gradients_are_right():
    random = np.random.default_rng(3)
    x, y = random.normal(size=(12, 3)), random.integers(0, 2, 12)
    net = batch_norm.NormNet.started(3, 2, 1, 0)
    before = [part.copy() for part in net.weights]

    def loss(parts):
        scores, _ = batch_norm.NormNet(parts, net.running).scores(x)
        return batch_norm._losses(scores, y)[0]

    net.step(x, y, np.full((1, 1, 1), 1.0))
    for part, (old, new) in enumerate(zip(before, net.weights, strict=True)):
        index = (0, 0, 1)
        ends = []
        for step in (1e-6, -1e-6):
            moved = [p.copy() for p in before]
            moved[part][index] += step
            ends.append(loss(moved))
        slope = (ends[0] - ends[1]) / 2e-6
        assert (old - new)[index] == pytest.approx(slope, abs=1e-6)


def test_seeds_share_weights_and_order():
    """A variant differs in its inputs only: the same inputs give the same bits."""
    random = np.random.default_rng(4)
    x, y = random.normal(size=(80, 4)).astype(np.float32), random.integers(0, 2, 80)
    net, limits = networks.Net("relu", (8,)), Limits(30, 5, None, no_tick)
    one = networks.train(net, x, y, 2, [0.1, 0.2], 3, limits)
    assert np.array_equal(one, networks.train(net, x.copy(), y, 2, [0.1, 0.2], 3, limits))
    assert not np.array_equal(one, networks.train(net, x, y, 2, [0.1, 0.2], 4, limits))


def test_diverging_rates_do_not_disturb_others():
    random = np.random.default_rng(5)
    x, y = random.normal(5, 1, (80, 4)).astype(np.float32), random.integers(0, 2, 80)
    for net in (networks.Net("relu", (8,)), networks.Net("sigmoid", (8,))):
        limits = Limits(40, 5, None, no_tick)
        alone = networks.train(net, x, y, 2, [0.01, 0.01], 0, limits)
        beside = networks.train(net, x, y, 2, [0.01, 1e30], 0, limits)
        assert np.array_equal(alone[:, 0], beside[:, 0])
        assert np.isinf(beside[-1, 1]) == (net.hidden == "relu")  # σ stays between 0 and 1


# ---------------------------------------------------------------- intake


def test_shrinking_takes_means_of_areas():
    random = np.random.default_rng(6)
    x = random.normal(size=(2, 6, 9, 3))
    blocks = x.reshape(2, 3, 2, 3, 3, 3).mean(axis=(2, 4))
    assert shrunk(x, 3, 3) == pytest.approx(blocks)
    assert shrunk(x, 4, 5).mean() == pytest.approx(x.mean())


@given(st.lists(st.integers(0, 40), max_size=20), st.integers(1, 30))
def test_thinning_is_even_and_counts(lengths, n):
    total = sum(lengths)
    ends = np.cumsum([0, *lengths])
    blocks = [np.arange(a, b) for a, b in pairwise(ends)]
    found = thinned(blocks, n)
    assert found.total == total
    assert len(found.rows) == min(n, total)
    assert np.array_equal(found.rows, found.places)
    assert np.array_equal(found.rows, np.sort(found.rows))
    gaps = np.diff(found.rows)
    if total > 2 * n and n > 2:
        assert gaps.max() <= 4 * max(1, gaps.min()) + 4


def wanted(**options):
    return Wanted(**{"labels": None, "size": 4, "n": 100, "colors": "gray", **options})


def test_class_folders(tmp_path):
    """Pictures of two sizes, in class folders; every class has its share."""
    image = pytest.importorskip("PIL.Image")
    for k, kind in enumerate(("cat", "dog")):
        (tmp_path / kind).mkdir()
        for i in range(30):
            side = 8 if i % 2 else 12
            pixels = np.full((side, side, 3), 40 * k + i, np.uint8)
            image.fromarray(pixels).save(tmp_path / kind / f"{i}.png")
    sample = gather(tmp_path, wanted(n=40))
    assert sample.x.shape == (40, 4, 4, 1)
    assert sample.classes == ("cat", "dog")
    assert np.bincount(sample.codes).tolist() == [20, 20]
    assert sample.available == 60
    assert sample.top == 255
    assert gather(tmp_path, wanted(labels=NO_LABELS)).codes is None
    with pytest.raises(PatternError, match="has no class folders"):
        gather(tmp_path / "cat", wanted(labels="folder"))
    with pytest.raises(PatternError, match="pictures take their classes from folders"):
        gather(tmp_path, wanted(labels="kind"))


def test_arrays_of_every_shape(tmp_path):
    random = np.random.default_rng(7)
    rgb = random.integers(0, 256, (50, 8, 6, 3), dtype=np.uint8)
    assert gather(rgb, wanted(colors="RGB")).x.shape == (50, 4, 4, 3)
    gray = gather(rgb, wanted()).x
    assert gray.shape == (50, 4, 4, 1)
    assert gray.mean() == pytest.approx((rgb @ [0.299, 0.587, 0.114]).mean())
    np.save(tmp_path / "x.npy", rgb)
    np.savez(tmp_path / "x.npz", x=rgb)
    for name in ("x.npy", "x.npz", "x.npz:x"):
        assert np.array_equal(gather(str(tmp_path / name), wanted()).x, gray)
    y = random.integers(0, 3, 50).astype(float)
    pair = gather((rgb[..., 0], y), wanted())
    assert pair.classes == ("0", "1", "2")
    for wrong, said in (
        (np.zeros((50, 3, 8, 8)), "channels come first"),
        (np.zeros(50), "give numbers as"),
        (np.array([["a"]] * 50), "give numbers as"),
    ):
        with pytest.raises(PatternError, match=said):
            gather(wrong, wanted())
    with pytest.raises(SourceError, match="all values are the same"):
        gather(np.ones((50, 4)), wanted())
    with pytest.raises(SourceError, match="a study needs 20 or more"):
        gather(random.normal(size=(10, 4)), wanted())
    with pytest.raises(SourceError, match="there is no such file"):
        gather("nothing.npy", wanted())
    with pytest.raises(PatternError, match="there are 3 labels, but the data has 50"):
        gather(rgb, wanted(labels=[1, 2, 3]))
    with pytest.raises(PatternError, match="these are no classes"):
        gather(rgb, wanted(labels=np.arange(50)))


def test_rows_with_gaps_are_left_out_and_counted():
    x = np.random.default_rng(8).normal(size=(60, 3))
    x[::10, 1] = np.nan
    sample = gather(x, wanted(labels=np.arange(60) % 2))
    assert sample.x.shape == (54, 3)
    assert len(sample.codes) == 54
    assert sample.notes == ("6 samples with missing values were left out.",)


def test_many_classes_become_ten():
    x = np.random.default_rng(9).normal(size=(400, 3))
    sample = gather(x, wanted(n=400, labels=np.arange(400) % 40))
    assert len(sample.classes) == 10
    assert len(sample.x) == 100
    assert set(sample.codes) == set(range(10))


def test_tables(tmp_path):
    """Text columns are left out by name; a column of classes is no feature."""
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(10)
    frame = pandas.DataFrame(
        {
            "a": random.normal(size=60),
            "b": random.integers(0, 9, 60),
            "city": ["x"] * 60,
            "kind": random.choice(["p", "q"], 60),
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for source in (frame, tmp_path / "t.csv", tmp_path / "t.parquet"):
        sample = gather(source, wanted(labels="kind"))
        assert sample.x == pytest.approx(frame[["a", "b"]].to_numpy(float))
        assert sample.classes == ("p", "q")
        assert [sample.classes[c] for c in sample.codes] == frame["kind"].tolist()
        assert sample.notes == ("Columns without numbers were left out: city.",)
        with pytest.raises(PatternError, match="there is no column 'sort' for the labels"):
            gather(source, wanted(labels="sort"))
    number = gather(frame, wanted(labels="b"))
    assert number.x.shape == (60, 1)


def test_tasks():
    random = np.random.default_rng(11)
    x = random.normal(size=(120, 5, 4, 1))
    assert task_of(gather(x, wanted(size=9)), None).kind == "teacher"
    with pytest.raises(PatternError, match="needs square pictures"):
        task_of(gather(x, wanted(size=9)), "rotation")
    teacher = task_of(gather(x, wanted()), "teacher")
    assert teacher.x.shape == (100, 16)
    assert teacher.chance == pytest.approx(math.log(len(teacher.classes)), rel=0.3)
