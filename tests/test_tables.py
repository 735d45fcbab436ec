"""CSV and Parquet files: the same numbers as a frame, whatever the blocks; and written again."""

from __future__ import annotations

import gzip
import math
import warnings

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import zeromean as zm
from zeromean.cli import main
from zeromean.sources import delimited
from zeromean.sources.delimited import separator_of
from zeromean.table_files import apply_table, csv_text

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "name": [f"person {i}, the {i % 3}th" for i in range(200)],
            "age": rng.integers(0, 99, 200),
            "id": np.arange(200) + 2**53 + 1,
            "height": rng.normal(1.7, 0.1, 200),
            "member": rng.random(200) > 0.5,
        }
    )


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# ---------------------------------------------------------------- measuring


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet"])
def test_files_and_frames_give_one_profile(table, tmp_path, name):
    path = tmp_path / name
    if name == "t.parquet":
        table.to_parquet(path, row_group_size=17)
    else:
        table.to_csv(path, index=False, sep="\t" if "tsv" in name else ",")
    profile = zm.measure(path)
    assert profile == zm.measure(table)
    assert profile.extrema == zm.measure(table).extrema
    assert list(profile.provenance.left_out) == ["name (string)"]
    assert profile.provenance.sources == (name,)
    assert profile.provenance.items == 200
    assert zm.measure(str(path), workers=1) == profile


def test_semicolons_quotes_and_line_ends(tmp_path):
    text = '\ufeff"a; b";c\r\n"1";2,5\r\n"3";"4,5"\r\n'
    profile = zm.measure(write(tmp_path / "x.csv", text))
    assert profile.feature_names == ("a; b",)
    assert profile.mean.tolist() == [2.0]
    assert separator_of(tmp_path / "x.csv") == (";", ("a; b", "c"))


def test_missing_values(tmp_path):
    text = "a,b,c,d\n1,,nan,\n,0.5,NA,\n3,null,-inf,\n"
    with pytest.warns(zm.ZeromeanWarning, match="infinite"):
        profile = zm.measure(write(tmp_path / "x.csv", text))
    assert profile.dtypes == ("int64", "float64", "float64")
    assert profile.nan_count.tolist() == [1, 2, 2]
    assert profile.inf_count.tolist() == [0, 0, 1]
    assert list(profile.provenance.left_out) == ["d (empty)"]


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        (["1", "2", "-3"], "int64"),
        (["1", "2", "18446744073709551615"], "uint64"),
        (["18446744073709551615", "1", "2"], "uint64"),
        (["18446744073709551615", "1", "-2"], "float64"),
        (["18446744073709551615", "1", "2.5"], "float64"),
        (["1", "2", "3.5"], "float64"),
        (["1.5", "2", "3"], "float64"),
        (["true", "false", "true"], "bool"),
        (["1", "0", "true"], "bool"),
        (["true", "1", "2.5"], ""),
        (["", "", "7"], "int64"),
        (["", "", "7.5"], "float64"),
        (["", "", "x"], ""),
        (["1", "2", "x"], ""),
        (["x", "1", "2"], ""),
        (["2020-01-01", "2020-01-02", "5"], ""),
        (["", "2020-01-01", "2020-01-02"], ""),
        (["007", "1e3", " 4 "], "float64"),
    ],
)
def test_types_do_not_depend_on_blocks(tmp_path, monkeypatch, cells, dtype):
    """The type is the first that holds all values; however many are read at a time."""
    path = write(tmp_path / "x.csv", "k,v\n" + "".join(f"1,{c}\n" for c in cells))
    profiles = []
    for block in (1 << 20, 12, 32):
        monkeypatch.setattr(delimited, "BLOCK", block + 12)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", zm.ZeromeanWarning)
            profiles.append(zm.measure(path))
    assert profiles[0] == profiles[1] == profiles[2]
    held = dict(zip(profiles[0].feature_names, profiles[0].dtypes, strict=True))
    assert held.get("v", "") == dtype
    assert len({p.provenance.warnings for p in profiles}) == 1


@given(st.lists(st.integers(-(2**63), 2**64 - 1) | st.none(), min_size=1, max_size=30))
def test_integers_are_exact(tmp_path_factory, cells):
    """Against Python's own sums, through tiny blocks."""
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    write(path, "k,v\n" + "".join(f"1,{'' if c is None else c}\n" for c in cells))
    held = [c for c in cells if c is not None]
    if not held or (min(held) < 0 and max(held) >= 2**63):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK", 64)
        profile = zm.measure(path)
    assert profile.statistics.power_sums.sums[1] == sum(held)
    assert profile.statistics.power_sums.squares[1] == sum(c * c for c in held)
    assert profile.nan_count[1] == len(cells) - len(held)


def test_text_among_numbers_is_named(tmp_path, monkeypatch):
    """File, column, row and value; nothing for a column of text."""
    monkeypatch.setattr(delimited, "BLOCK", 40)
    rows = [f"{i},{i}" for i in range(40)]
    rows[30] = "thirty,30"
    path = write(tmp_path / "x.csv", "a,b\n" + "\n".join(rows) + "\n")
    with pytest.warns(zm.ZeromeanWarning, match=r"x\.csv: the column 'a' was left out: row 31 hol"):
        profile = zm.measure(path)
    assert profile.feature_names == ("b",)
    assert profile.mean.tolist() == [19.5]
    text = write(tmp_path / "y.csv", "a,b\nx,1\n5,2\n")
    assert zm.measure(text).provenance.warnings == ()


def test_several_files_share_their_types(tmp_path, table):
    """A part that holds whole numbers by chance is no part of another type."""
    first = write(tmp_path / "1.csv", "a,b\n1,2\n3,4\n")
    second = write(tmp_path / "2.csv", "b,s,a\n2.5,x,5\n0.5,y,6\n")
    profile = zm.measure([first, second])
    assert profile.dtypes == ("int64", "float64")
    assert profile.mean.tolist() == [3.75, 2.25]
    third = write(tmp_path / "3.csv", "a\n1\n")
    with pytest.raises(zm.SourceError, match=r"3\.csv: lacks the columns 'b' of the first file"):
        zm.measure([first, third])
    table[:50].to_parquet(tmp_path / "1.parquet")
    table[50:].to_parquet(tmp_path / "2.parquet")
    both = zm.measure([tmp_path / "1.parquet", tmp_path / "2.parquet"])
    assert both == zm.measure(table)
    table.assign(age=0.5).to_parquet(tmp_path / "3.parquet")
    with pytest.raises(
        zm.PatternError, match=r"3\.parquet: the column 'age' is float64, but int64"
    ):
        zm.measure([tmp_path / "1.parquet", tmp_path / "3.parquet"])


def test_the_index_is_no_feature(tmp_path):
    frame = pd.DataFrame({"a": [1.5, 2.5]}, index=[7, 9])
    frame.to_csv(tmp_path / "x.csv")
    frame.to_parquet(tmp_path / "x.parquet")
    assert zm.measure(tmp_path / "x.csv") == zm.measure(tmp_path / "x.parquet") == zm.measure(frame)
    assert list(zm.measure(tmp_path / "x.csv").provenance.left_out) == [" (index)"]


def test_limit_reads_the_first_rows(tmp_path, table):
    for name in ("x.csv", "x.parquet"):
        path = tmp_path / name
        table.to_csv(path, index=False) if name == "x.csv" else table.to_parquet(path)
        assert zm.measure(path, limit=30) == zm.measure(table[:30])


def test_other_patterns_and_quantiles(tmp_path):
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0]})
    table.to_csv(tmp_path / "x.csv", index=False)
    table.to_parquet(tmp_path / "x.parquet")
    for name in ("x.csv", "x.parquet"):
        assert zm.measure(tmp_path / name, "n d ->") == zm.measure(table.to_numpy(), "n d ->")
        bounds = zm.measure(tmp_path / name, quantiles=True)
        assert bounds == zm.measure(table, quantiles=True)


def test_covariance_and_groups_and_robust(tmp_path, table):
    table["site"] = np.where(table["age"] > 50, "far", "near")
    table.to_csv(tmp_path / "x.csv", index=False)
    table.to_parquet(tmp_path / "x.parquet", row_group_size=50)
    for name in ("x.csv", "x.parquet"):
        path = tmp_path / name
        assert zm.measure(path, by="site") == zm.measure(table, by="site")
        assert list(zm.measure(path, by="member").total.feature_names) == ["age", "id", "height"]
        profile = zm.measure(path)
        assert zm.robust(profile, path) == zm.robust(zm.measure(table), table)
        assert zm.measure(path, covariance=True).cov().shape == (4, 4)
    labels = table["site"].to_numpy()
    assert zm.measure(tmp_path / "x.parquet", by=labels) == zm.measure(table, by=labels)
    with pytest.raises(zm.PatternError, match=r"x\.csv has no such column"):
        zm.measure(tmp_path / "x.csv", by="class")


def test_robust_of_types_that_the_first_block_does_not_show(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK", 30)
    path = write(tmp_path / "x.csv", "a,b\n" + "1,2\n" * 20 + "2.5,3\n" * 30)
    norm = zm.robust(zm.measure(path), path)
    assert norm.shift.tolist() == [2.5, 3.0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"\n\n", "is empty"),
        ("x.csv", b"1,2\n3,4\n", "holds numbers and no names"),
        ("x.csv", b"a,a\n1,2\n", "several columns are named 'a'"),
        ("x.csv", b"a,b\n1,2\n3\n", "cannot be read as CSV: CSV parse error: Expected 2 columns"),
        ("x.csv.gz", b"a,b\n1,2\n", "cannot be read as CSV"),
        ("x.csv.gz", gzip.compress(b"a,b\n1,2\n" * 9000)[:-100], "cannot be read as CSV"),
        ("x.parquet", b"PAR1 no", "cannot be read as Parquet"),
        ("x.parquet", b"", "cannot be read as Parquet"),
    ],
)
def test_broken_files_say_so(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(zm.SourceError, match=said) as caught:
        zm.measure(tmp_path / name)
    assert name in str(caught.value)


def test_parquet_cut_short_or_damaged_inside(tmp_path, table):
    path = tmp_path / "x.parquet"
    table.to_parquet(path, compression="gzip")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(zm.SourceError, match="cannot be read as Parquet"):
        zm.measure(path)
    middle = parquet.read_metadata(__import__("io").BytesIO(whole)).row_group(0).column(1)
    begin = middle.data_page_offset
    path.write_bytes(whole[:begin] + b"\xff" * 64 + whole[begin + 64 :])
    with pytest.raises(zm.SourceError, match=r"x\.parquet: cannot be read as Parquet"):
        zm.measure(path)


def test_files_without_numbers_or_rows(tmp_path):
    with pytest.raises(zm.PatternError, match=r"no numeric columns .* a \(string\)"):
        zm.measure(write(tmp_path / "x.csv", "a\nx\n"))
    with pytest.raises(zm.PatternError, match=r"no numeric columns .* a \(empty\)"):
        zm.measure(write(tmp_path / "y.csv", "a\n"))
    with pytest.raises(zm.SourceError, match="there is no such file"):
        zm.measure(tmp_path / "z.csv")
    frame = pd.DataFrame({"a": np.zeros(0)})
    frame.to_parquet(tmp_path / "x.parquet")
    assert zm.measure(tmp_path / "x.parquet") == zm.measure(frame)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    import sys

    write(tmp_path / "x.csv", "a\n1\n")
    (tmp_path / "x.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.csv", raising=False)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    for name in ("x.csv", "x.parquet"):
        with pytest.raises(ImportError, match=r'pip install "zeromean\[parquet\]"'):
            zm.measure(tmp_path / name)


# ---------------------------------------------------------------- applying


@pytest.mark.parametrize("into", ["y.csv", "y.tsv.gz", "y.parquet"])
@pytest.mark.parametrize("source", ["x.csv", "x.parquet"])
def test_there_and_back(tmp_path, table, source, into):
    """Any combination; other columns pass through, and raw numbers come back."""
    table.loc[3, "name"] = 'with "quotes"\nand lines'
    table["note"] = ["", None] * 100
    table["age"] = table["age"].astype("Int64")
    table.loc[5, "age"] = None
    path = tmp_path / source
    table.to_csv(path, index=False) if source == "x.csv" else table.to_parquet(path)
    profile = zm.measure(path)
    norm = zm.standardize(profile)
    assert apply_table(norm, path, tmp_path / into) == 200
    expected = norm(table)
    back = tmp_path / f"back-{into}"
    assert apply_table(norm, tmp_path / into, back, invert=True) == 200
    names = ["age", "height", "member"]
    assert zm.measure(back, limit=200).column("age").mean == profile.column("age").mean
    read = pd.read_parquet(back) if into == "y.parquet" else _read_csv(back)
    assert read["name"].tolist() == table["name"].tolist()
    assert list(read.columns) == list(table.columns)
    assert read["age"].isna().tolist() == table["age"].isna().tolist()
    assert read["member"].tolist() == table["member"].tolist()
    held = pd.read_parquet(tmp_path / into) if into == "y.parquet" else _read_csv(tmp_path / into)
    for name in names:
        got = held[name].astype("float64").to_numpy()
        assert np.array_equal(got, expected[name].astype("float64").to_numpy(), equal_nan=True)


def _read_csv(path):
    from pyarrow import csv

    options = csv.ParseOptions(
        delimiter="\t" if ".tsv" in path.name else ",", newlines_in_values=True
    )
    return csv.read_csv(path, parse_options=options).to_pandas()


def significant(text):
    """The digits of a number without sign, point, exponent and zeros at either end."""
    return text.split("e")[0].replace(".", "").strip("-0")


@given(
    st.lists(
        st.tuples(st.floats(allow_nan=False), st.floats(width=32, allow_nan=False)),
        min_size=1,
        max_size=20,
    )
)
def test_floats_have_the_shortest_digits_that_give_them_back(pairs):
    doubles, singles = [a for a, _ in pairs], [b for _, b in pairs]
    batch = pa.record_batch(
        [pa.array(doubles, pa.float64()), pa.array(singles, pa.float32())], names=["d", "f"]
    )
    for line, (a, b) in zip(csv_text(batch).decode().splitlines(), pairs, strict=True):
        first, second = line.split(",")
        assert float(first) == a
        assert math.copysign(1, float(first)) == math.copysign(1, a)
        assert np.float32(second) == np.float32(b)
        assert significant(first) == significant(repr(a))


def test_what_csv_cannot_hold(tmp_path):
    table = pa.table({"a": [1.0, 2.0], "l": [[1], [2]]})
    parquet.write_table(table, tmp_path / "x.parquet")
    norm = zm.zero_mean(zm.measure(table))
    with pytest.raises(zm.PatternError, match=r"the column 'l' holds list.*write a \.parquet"):
        apply_table(norm, tmp_path / "x.parquet", tmp_path / "y.csv")
    assert not (tmp_path / "y.csv").exists()
    assert apply_table(norm, tmp_path / "x.parquet", tmp_path / "y.parquet") == 2
    assert parquet.read_table(tmp_path / "y.parquet")["l"].to_pylist() == [[1], [2]]


def test_one_column_and_no_rows(tmp_path):
    path = write(tmp_path / "x.csv", "a,b\n1,0\n,0\n3,0\n")
    norm = zm.zero_mean(zm.measure(path, limit=3))
    single = tmp_path / "y.csv"
    one = zm.zero_mean(zm.measure(pd.DataFrame({"a": [1.0, 3.0]})))
    source = write(tmp_path / "s.csv", 'a\n1\n""\n3\n')
    assert apply_table(one, source, single) == 3
    assert single.read_text() == 'a\n-1\n""\n1\n'
    empty = write(tmp_path / "e.csv", "a,b\n")
    assert apply_table(norm, empty, tmp_path / "f.csv") == 0
    assert (tmp_path / "f.csv").read_text() == "a,b\n"
    pd.DataFrame({"a": np.zeros(0, int), "b": np.zeros(0, int)}).to_parquet(tmp_path / "e.parquet")
    assert apply_table(norm, tmp_path / "e.parquet", tmp_path / "g.parquet") == 0
    assert parquet.read_table(tmp_path / "g.parquet").schema.types == [pa.float64()] * 2


def test_errors_of_apply_name_the_place(tmp_path):
    path = write(tmp_path / "x.csv", "s,a,b\nq,1,2\nr,3,5\n")
    norm = zm.zero_mean(zm.measure(path))
    target = tmp_path / "y.csv"
    bad = write(tmp_path / "bad.csv", "s,a,b\nq,1,2\nr,three,5\n")
    with pytest.raises(zm.SourceError, match="the column 'a', row 2: 'three' is no number"):
        apply_table(norm, bad, target)
    lacking = write(tmp_path / "lacking.csv", "s,b\nq,1\n")
    with pytest.raises(zm.PatternError, match=r"lacking\.csv: the table lacks 1 of the 2"):
        apply_table(norm, lacking, target)
    with pytest.raises(zm.SourceError, match="is the data itself"):
        apply_table(norm, path, path)
    with pytest.raises(zm.SourceError, match=r"cannot write a table to 'y\.xls'"):
        apply_table(norm, path, tmp_path / "y.xls")
    with pytest.raises(zm.SourceError, match="there is no such file"):
        apply_table(norm, tmp_path / "none.csv", target)
    nameless = zm.zero_mean(zm.measure(np.eye(2)))
    with pytest.raises(zm.PatternError, match="has no column names"):
        apply_table(nameless, path, target)
    assert not target.exists()


def test_whitened_tables(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"s": "t", "a": rng.normal(size=50), "k": rng.integers(0, 9, 50)})
    frame.to_csv(tmp_path / "x.csv", index=False)
    norm = zm.whiten(zm.measure(tmp_path / "x.csv", covariance=True), "pca")
    apply_table(norm, tmp_path / "x.csv", tmp_path / "y.csv")
    assert list(pd.read_csv(tmp_path / "y.csv").columns) == ["s", "pca0", "pca1"]
    apply_table(norm, tmp_path / "y.csv", tmp_path / "z.csv", invert=True)
    assert pd.read_csv(tmp_path / "z.csv")["k"].tolist() == frame["k"].tolist()


# ---------------------------------------------------------------- the command


def run(*arguments):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_measures_shows_applies_and_inverts(tmp_path, table):
    path, saved = tmp_path / "x.csv", tmp_path / "p.json"
    table.to_csv(path, index=False)
    output = run("measure", path, "-o", saved)
    assert '"n d -> d", 2 int64, float64, bool, 200 items, 800 values' in output
    assert "columns left out: name (string)" in output
    assert "left out by extension" not in output
    for name in ("age", "id", "height", "member"):
        assert f"\n{name} " in run("show", saved)
    output = run("apply", saved, path, "--method", "standardize", "-o", tmp_path / "y.parquet")
    assert "200 items, float64 from" in output
    run("apply", saved, tmp_path / "y.parquet", "--method", "standardize", "--invert", "-o",
        tmp_path / "z.csv")  # fmt: skip
    back = pd.read_csv(tmp_path / "z.csv")
    assert back[["name", "age", "member"]].equals(table[["name", "age", "member"]])
    assert list(back["height"].round(9)) == list(table["height"].round(9))
