"""The script of the page and its NumPy twin compute the same race; and the race is fair."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pytest

from zeromean.reporting import neuron

CASES = [
    (2.0, 0, {}),
    (2.0, 0, {"flip": True}),
    (2.0, 0, {"factor": 0.4}),
    (2.0, 0, {"same_rate": True}),
    (2.0, 1, {}),
    (2.0, 8, {"flip": True}),
    (-1.17, 0, {}),
    (0.5, 8, {}),
    (0.0, 0, {}),
]
NAMES = {"same_rate": "sameRate"}


@pytest.fixture(scope="module")
def data():
    return neuron.sample()


@pytest.fixture(scope="module")
def script_says():
    """What the script computes for every case, run by Node."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed; the browser test compares the stories")
    cases = [(m, b, {NAMES.get(k, k): v for k, v in o.items()}) for m, b, o in CASES]
    code = f"""
const data = neuron.sample({neuron.SEED}, {neuron.ORDER});
const found = {json.dumps(cases)}.map(([mean, batch, options]) => {{
  const race = neuron.race(data, mean, batch, options);
  return {{ best: race.best, used: race.used, numbers: race.numbers, lambda: race.lambda,
    reached: race.runs.map((run) => run.reached), path: race.runs.map((run) => run.path[3]) }};
}});
const order = data.order.slice(0, 50);
console.log(JSON.stringify({{ found, order, x: [...data.x1], y: [...data.labels] }}));
"""
    source = files("zeromean.reporting").joinpath("neuron.js").read_text(encoding="utf-8")
    done = subprocess.run(
        [node, "-e", source + code], capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


def test_both_draw_the_same_data(data, script_says):
    assert data.order[:50] == script_says["order"]
    np.testing.assert_allclose(data.points[:, 0], script_says["x"], atol=1e-15)
    np.testing.assert_allclose(data.labels, script_says["y"], rtol=1e-12)


@pytest.mark.parametrize("index", range(len(CASES)))
def test_both_run_the_same_race(data, script_says, index):
    mean, batch, options = CASES[index]
    race, said = neuron.race(data, mean, batch, **options), script_says["found"][index]
    runs = (race.shifted, race.centered)
    assert [run.reached for run in runs] == said["reached"]
    assert [run.rate for run in runs] == pytest.approx(said["used"], rel=1e-12)
    assert race.eigenvalues == pytest.approx(said["lambda"], rel=1e-12)
    for run, numbers, point in zip(runs, said["numbers"], said["path"], strict=True):
        assert (run.same_sign, run.turns) == pytest.approx((numbers["sameSign"], numbers["turns"]))
        assert run.path_ratio == pytest.approx(numbers["pathRatio"], rel=1e-9)
        np.testing.assert_allclose(run.path[3], point, rtol=1e-9)


# ---------------------------------------------------------------- what the page says of the race


def test_the_four_stories_are_those_of_the_evidence():
    """The evidence: 50 against 4 with 96 % one sign; 4 % when flipped; 171 against 10; 108, 11."""
    told = dict(neuron.stories())
    assert told["zigzag"].shifted.reached == 50
    assert told["zigzag"].centered.reached == 4
    assert told["zigzag"].shifted.same_sign == pytest.approx(0.96)
    assert told["flip"].shifted.same_sign == pytest.approx(0.04)
    assert told["timid"].shifted.turns == 0
    assert abs(told["timid"].shifted.reached - 171) <= 3
    assert told["timid"].centered.reached == 10
    assert told["single"].shifted.same_sign == 1
    assert told["single"].shifted.reached == 108


def test_a_negated_input_mirrors_the_path_to_the_last_bit(data):
    for batch in (0, 1, 8):
        plain, flipped = (neuron.race(data, 2.0, batch, flip=flip) for flip in (False, True))
        for first, second in ((plain.shifted, flipped.shifted), (plain.centered, flipped.centered)):
            assert first.rate == second.rate
            assert (first.path == second.path * [1, -1]).all()
            assert (first.excess == second.excess).all()
        signs = plain.shifted.same_sign + flipped.shifted.same_sign
        assert signs == pytest.approx(1)


@pytest.mark.parametrize("mean", [-3.0, -0.4, 0.0, 1.0, 2.5])
def test_only_the_mean_changes(data, mean):
    points = data.shifted(mean)
    np.testing.assert_allclose(points.mean(axis=0), mean, atol=1e-14)
    np.testing.assert_allclose(points - mean, data.points, atol=1e-14)
    teacher = np.array([neuron.TEACHER, -neuron.TEACHER])
    np.testing.assert_allclose(1 / (1 + np.exp(-points @ teacher)), data.labels, atol=1e-14)


def test_the_optimum_is_the_teacher(data):
    """No weights nearby do better, whatever the mean."""
    rng = np.random.default_rng(0)
    teacher = np.array([neuron.TEACHER, -neuron.TEACHER])
    for mean in (0.0, 2.0):
        points = data.shifted(mean)
        least = neuron._loss(points @ teacher, data.labels)
        for other in teacher + rng.normal(0, 0.3, (200, 2)):
            assert neuron._loss(points @ other, data.labels) > least


def test_eigenvalue_is_numpys(data):
    for mean in (0.0, 0.7, -2.0):
        x = data.shifted(mean)
        expected = np.linalg.eigvalsh(x.T @ x / len(x))[-1]
        assert neuron.largest_eigenvalue(x) == pytest.approx(expected, rel=1e-12)


def test_reached_means_kept(data):
    """From the first counted update on, five in a row are at or below the target."""
    for batch in (0, 1):
        run = neuron.race(data, 2.0, batch).shifted
        below = run.excess <= neuron.TARGET * run.excess[0]
        assert below[run.reached : run.reached + neuron.STAY].all()
        earlier = [k for k in range(1, run.reached) if below[k : k + neuron.STAY].all()]
        assert earlier == []


def test_gradients_are_those_of_the_loss(data):
    points, step = data.shifted(1.0), 1e-6
    run = neuron.train(data, points, 1.0, 0, 4)
    for weights, gradient in zip(run.path, run.gradients, strict=False):
        for axis in range(2):
            ends = []
            for sign in (1, -1):
                moved = weights.copy()
                moved[axis] += sign * step
                ends.append(neuron._loss(points @ moved, data.labels))
            assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(gradient[axis], abs=1e-8)


def test_a_hopeless_rate_is_not_reached(data):
    run = neuron.train(data, data.shifted(2.0), 1e-4, 0, 50)
    assert run.reached is None
    assert len(run.gradients) == 50
    assert not math.isnan(run.path_ratio)
    race = neuron.race(data, 3.0, factor=0.01)
    assert race.slowdown is None
