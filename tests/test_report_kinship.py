"""A report takes no study of other data: what is provably other is refused, the rest is said."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import zeromean as zm
from zeromean.cli import main
from zeromean.reporting.belonging import kinship
from zeromean.reporting.wording import Words

pytest.importorskip("scipy")
pytest.importorskip("threadpoolctl")
pytest.importorskip("jinja2", reason="the report needs jinja2")
pytest.importorskip("matplotlib", reason="the report needs matplotlib")

SHORT = {"seeds": 3, "budget": 1e-6}


def pictures(n=60, seed=0, mean=120):
    random = np.random.default_rng(seed)
    return np.clip(random.normal(mean, 40, (n, 8, 8, 3)), 0, 255).astype(np.uint8)


def rows(n=80, columns=4, seed=0):
    return np.random.default_rng(seed).normal(5, 2, (n, columns))


def write(folder, arrays):
    image = pytest.importorskip("PIL.Image")
    folder.mkdir()
    for i, array in enumerate(arrays):
        image.fromarray(array).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def table():
    x = rows()
    return zm.measure(x, "n d -> d"), zm.study(x, **SHORT)


# ---------------------------------------------------------------- what belongs together


@pytest.mark.parametrize("pattern", ["n h w c -> c", "n h w c -> h w c", "n h w c ->"])
@pytest.mark.parametrize("colors", ["gray", "RGB"])
def test_the_same_pictures_agree(pattern, colors):
    x = pictures()
    assert kinship(zm.measure(x, pattern), zm.study(x, colors=colors, **SHORT)) == "agrees"


@pytest.mark.parametrize("pattern", ["n d -> d", "n d ->"])
def test_the_same_rows_agree(pattern, table):
    assert kinship(zm.measure(rows(), pattern), table[1]) == "agrees"


def test_a_sample_of_many_agrees():
    x = pictures(n=200)
    assert kinship(zm.measure(x, "n h w c -> c"), zm.study(x, n=50, **SHORT)) == "agrees"


def test_equal_digests_settle_it(tmp_path):
    """Of folders: every file is in the digest, also those that the study did not look at."""
    folder = write(tmp_path / "train", pictures())
    found = zm.study(folder, n=40, **SHORT)
    train = zm.measure(folder)
    assert found.data.digest == f"{train.provenance.digest:064x}"
    assert kinship(train, found) == "same"
    other = write(tmp_path / "other", pictures(seed=1))
    with pytest.raises(zm.MergeError, match=r"the files differ \(other digest\)"):
        kinship(zm.measure(other), found)


def test_of_large_folders_there_is_no_digest(tmp_path, monkeypatch):
    from zeromean.convergence import intake

    folder = write(tmp_path / "train", pictures())
    monkeypatch.setattr(intake, "_HASHED", 10)
    found = zm.study(folder, **SHORT)
    assert found.data.digest == ""
    assert kinship(zm.measure(folder), found) == "agrees"


def test_tables_are_held_together_by_their_columns(tmp_path):
    """A numeric column of labels may have been measured along; a missing one may not."""
    frames = pytest.importorskip("pandas")
    frame = frames.DataFrame(rows(), columns=list("abcd"))
    frame["kind"] = np.arange(80) % 2
    found = zm.study(frame, labels="kind", **SHORT)
    assert found.data.columns == ("a", "b", "c", "d")
    assert kinship(zm.measure(frame), found) == "agrees"
    with pytest.raises(zm.MergeError, match="column 'a' is not among those that were measured"):
        kinship(zm.measure(frame.rename(columns={"a": "z"})), found)


# ---------------------------------------------------------------- what does not


@pytest.mark.parametrize(
    ("measured", "pattern", "said"),
    [
        (lambda: rows(n=81), "n d -> d", "it is about 80 samples, not 81"),
        (lambda: rows(columns=5), "n d -> d", "it has 4 values a sample, not 5"),
        (lambda: rows() + 100, "n d -> d", "its values reach from"),
        (lambda: rows() * 1.001, "n d -> d", "its "),
        (lambda: rows(seed=1) * 0.5 + 2, "n d -> d", "its "),
    ],
)
def test_other_data_is_refused(table, measured, pattern, said):
    """With what differs, and what to do."""
    with pytest.raises(zm.MergeError, match=said) as caught:
        zm.report(zm.measure(measured(), pattern), table[1])
    assert "the study of array does not belong to the profile of array" in str(caught.value)
    assert "zeromean study SOURCE -o study.json" in str(caught.value)


def test_another_mean_of_the_same_range_is_refused(table):
    """All rows were studied, so the mean must be the same."""
    x = rows()
    x[x == x.max()] -= 1e-3
    wider = np.where(x == x.min(), x - 50, x)
    wider[np.unravel_index(x.argmax(), x.shape)] += 50
    wider[0, 0] += 1
    with pytest.raises(zm.MergeError, match=r"its mean is \S+, not \S+"):
        kinship(zm.measure(wider, "n d -> d"), table[1])


def test_pictures_are_no_rows(tmp_path, table):
    folder = write(tmp_path / "train", pictures(n=80))
    with pytest.raises(zm.MergeError, match="it is about rows of a table, not about pictures"):
        kinship(zm.measure(folder), table[1])


# ---------------------------------------------------------------- what cannot be known


def test_a_quick_look_is_but_a_part(tmp_path):
    folder = write(tmp_path / "train", pictures())
    found = zm.study(folder, **SHORT)
    assert kinship(zm.measure(folder, limit=10), found) == "part"


def test_a_mean_that_sampling_does_not_explain_is_doubtful():
    x = pictures(n=200, mean=60)
    found = zm.study(x, n=50, **SHORT)
    off = replace(found, data=replace(found.data, mean=found.data.mean + 40))
    train = zm.measure(x, "n h w c -> c")
    assert kinship(train, found) == "agrees"
    assert kinship(train, off) == "doubtful"


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("state", ["same", "agrees", "part", "doubtful"])
def test_the_page_says_how_sure_it_is(table, monkeypatch, language, state):
    from zeromean.reporting import page

    monkeypatch.setattr(page, "kinship", lambda profile, study: state)
    text = zm.report(*table, lang=language)
    assert text.count(str(Words(language)(f"study.kin_{state}"))) == 1
    (shown,) = re.findall(r'<p class="([a-z]+)[^"]*">' + re.escape(
        str(Words(language)(f"study.kin_{state}"))), text)  # fmt: skip
    assert shown == ("small" if state in ("same", "agrees") else "note")


def test_the_command_refuses_with_one_sentence(tmp_path, table):
    train, found = tmp_path / "train.json", tmp_path / "study.json"
    zm.measure(rows(n=90), "n d -> d").save(train)
    table[1].save(found)
    output = tmp_path / "report.html"
    words = ["report", str(train), "--study", str(found), "-o", str(output)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "error: the study of array does not belong to the profile of array" in result.output
    assert not output.exists()
