"""A saved study is shown again: its table, its figures, and what it cannot draw."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

import zeromean as zm
from zeromean.cli import main
from zeromean.convergence import studying

pytest.importorskip("scipy")
pytest.importorskip("threadpoolctl")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study of one benchmark, a study of none, a profile and a normalizer."""
    made = tmp_path_factory.mktemp("saved")
    x = np.random.default_rng(0).normal(3, 1, (60, 4))
    plans = studying.plans_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            studying, "plans_of", lambda *given: (p for p in plans(*given) if p.key == "softmax_gd")
        )
        zm.study(x, labels=x[:, 0] > 3, seeds=3, budget=600).save(made / "study.json")
    zm.study(x, labels=x[:, 0] > 3, seeds=3, budget=1e-6).save(made / "short.json")
    train = zm.measure(x, "n d -> d")
    train.save(made / "train.json")
    zm.zero_mean(train).save(made / "norm.json")
    return made


def show(*words):
    return CliRunner().invoke(main, ["show", *map(str, words)])


@pytest.mark.parametrize("kind", ["rates", "zigzag", "prediction", "speedups"])
def test_every_kind_is_drawn(folder, tmp_path, kind):
    """The same figure as `study.plot` draws, and the table beside it."""
    from zeromean import figures

    drawn = tmp_path / "drawn.png"
    result = show(folder / "study.json", "--kind", kind, "--plot", drawn)
    assert result.exit_code == 0, result.output
    assert "Full-batch softmax regression" in result.output
    assert f"wrote {drawn}" in result.output
    again = figures.save(zm.load(folder / "study.json").plot(kind), tmp_path / "again.png")
    assert drawn.read_bytes() == again.read_bytes()


def test_rates_are_drawn_where_no_kind_is_given(folder, tmp_path):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    assert show(folder / "study.json", "--plot", first).exit_code == 0
    assert show(folder / "study.json", "--kind", "rates", "--plot", second).exit_code == 0
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("file", "kind", "said"),
    [
        ("study.json", "three", "--kind three is of a profile, but"),
        ("study.json", "three", "choose rates, zigzag, prediction or speedups"),
        ("train.json", "zigzag", "--kind zigzag is of a study, but"),
        ("train.json", "zigzag", "choose distribution, three, features or image"),
        ("norm.json", "rates", "norm.json is a normalizer; --plot needs a profile"),
        ("short.json", "prediction", "this study has nothing to draw for 'prediction'"),
        ("study.json", "pie", "'pie' is not one of"),
    ],
)
def test_wrong_kinds_are_named(folder, tmp_path, file, kind, said):
    """With what the file holds and what can be drawn; and nothing is written."""
    drawn = tmp_path / "drawn.png"
    result = show(folder / file, "--kind", kind, "--plot", drawn)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert not drawn.exists()


def test_a_profile_is_drawn_as_before(folder, tmp_path):
    drawn = tmp_path / "drawn.png"
    assert show(folder / "train.json", "--plot", drawn).exit_code == 0
    assert drawn.stat().st_size > 5_000
