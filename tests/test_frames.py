"""Data frames: measured exactly, column by column, and given back as they came."""

from __future__ import annotations

import math
import pickle
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zeromean as zm
from zeromean.errors import MergeError, PatternError, SourceError, UnitError, ZeromeanWarning
from zeromean.statistics import Columns
from zeromean.statistics.columns import empty_columns, measured_columns

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

DTYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32",
    "float64",
)  # fmt: skip


# ---------------------------------------------------------------- random tables


def values_of(dtype):
    """Numbers of one dtype, the awkward ones among them."""
    if dtype == "bool":
        return st.booleans()
    if "float" in dtype:
        wide = st.floats(width=32 if dtype == "float32" else 64)
        awkward = np.array([0.0, -0.0, 1e-30, 3e7, math.nan, math.inf], dtype)
        return wide | st.sampled_from(awkward.tolist())
    info = np.iinfo(dtype)
    return st.integers(info.min, info.max) | st.sampled_from([info.min, info.max, 0, 1])


@st.composite
def tables(draw, missing=True, same=False):
    """Columns as (name, dtype, list of values and None), all of one length."""
    rows = draw(st.integers(0, 12))
    count = draw(st.integers(1, 5))
    kinds = [draw(st.sampled_from(DTYPES)) for _ in range(count)]
    columns = []
    for i, kind in enumerate([kinds[0]] * count if same else kinds):
        value = values_of(kind)
        cell = (value | st.none()) if missing and draw(st.booleans()) else value
        columns.append((f"c{i}", kind, draw(st.lists(cell, min_size=rows, max_size=rows))))
    return columns


def plain(columns):
    """As NumPy arrays; only for tables without missing values."""
    return [np.array(cells, dtype) for _, dtype, cells in columns]


def to_arrow(columns):
    arrays = [pa.array(cells, pa.type_for_alias(dtype)) for _, dtype, cells in columns]
    return pa.table(arrays, names=[name for name, _, _ in columns])


def to_polars(columns):
    kinds = {
        "bool": pl.Boolean,
        **{d: getattr(pl, d.title().replace("Ui", "UI")) for d in DTYPES[1:]},
    }
    return pl.DataFrame([pl.Series(n, cells, kinds[d]) for n, d, cells in columns])


def to_pandas(columns):
    """NumPy-backed where nothing is missing, else nullable."""
    held = {}
    for name, dtype, cells in columns:
        if None in cells:
            nullable = "boolean" if dtype == "bool" else dtype.title().replace("Ui", "UI")
            gaps = np.array([c is None for c in cells])
            filled = np.array([0 if c is None else c for c in cells], dtype)
            kind = {"b": pd.arrays.BooleanArray, "f": pd.arrays.FloatingArray}
            array = kind.get(filled.dtype.kind, pd.arrays.IntegerArray)(filled, gaps)
            assert str(array.dtype) == nullable
            held[name] = array
        else:
            held[name] = np.array(cells, dtype)
    return pd.DataFrame(held)


def frames_of(columns):
    """The same table in every library, also cut into chunks."""
    table = to_arrow(columns)
    chunked = pa.concat_tables([table.slice(0, 3), table.slice(3)])
    return [to_pandas(columns), to_polars(columns), table, chunked, to_polars(columns).lazy()]


def quietly(do, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeromeanWarning)
        return do(*args, **options)


def finite(cells):
    return [Fraction(c) for c in cells if c is not None and math.isfinite(c)]


# ---------------------------------------------------------------- measuring


@given(tables())
def test_mean_and_variance_are_the_exact_ones_rounded(columns):
    """Column by column, against fractions; whatever the mixture of dtypes."""
    profile = quietly(zm.measure, to_arrow(columns))
    assert profile.feature_names == tuple(name for name, _, _ in columns)
    assert profile.dtypes == tuple(dtype for _, dtype, _ in columns)
    mean, var = quietly(lambda: profile.mean), quietly(profile.var)
    for j, (_, _, cells) in enumerate(columns):
        held = finite(cells)
        assert profile.count[j] == len(held)
        assert profile.nan_count[j] == sum(c is None or math.isnan(c) for c in cells)
        assert profile.inf_count[j] == sum(c is not None and math.isinf(c) for c in cells)
        if not held:
            assert math.isnan(mean[j])
            continue
        middle = sum(held) / len(held)
        assert mean[j] == float(middle)
        try:
            expected = float(sum((h - middle) ** 2 for h in held) / len(held))
        except OverflowError:
            expected = math.inf
        assert var[j] == expected
        assert Fraction(profile.extrema.low[j]) == min(held)
        assert Fraction(profile.extrema.high[j]) == max(held)


@given(tables())
def test_every_library_gives_the_same_profile(columns):
    first, *others = [quietly(zm.measure, frame, quantiles=True) for frame in frames_of(columns)]
    for other in others:
        assert other == first
        assert other.extrema == first.extrema


@given(tables(missing=False, same=True))
def test_one_dtype_is_no_special_case(columns):
    """The profile of the frame is that of the array with names."""
    array = np.stack(plain(columns), axis=1)
    names = [name for name, _, _ in columns]
    expected = quietly(zm.measure, array, "n d -> d", feature_names=names)
    for frame in frames_of(columns):
        assert quietly(zm.measure, frame) == expected


@given(tables(), st.integers(0, 12))
def test_parts_add_up_and_come_apart(columns, cut):
    """Any cut, in memory or as an iterable of frames."""
    table = to_arrow(columns)
    parts = [table.slice(0, cut), table.slice(cut)]
    whole = quietly(zm.measure, table, quantiles=True)
    first, rest = (quietly(zm.measure, part, quantiles=True) for part in parts)
    assert first + rest == rest + first == whole
    assert whole - first == rest
    assert quietly(zm.measure, iter(parts), quantiles=True) == whole


@given(tables())
def test_saved_and_loaded(columns):
    """Both containers; the same statistics give the same bytes."""
    import tempfile
    from pathlib import Path

    profile = quietly(zm.measure, to_polars(columns), quantiles=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("p.json", "p.safetensors"):
            path = Path(folder) / name
            profile.save(path)
            loaded = zm.load(path)
            assert loaded == profile
            assert loaded.extrema == profile.extrema
            assert loaded.dtypes == profile.dtypes
            again = Path(folder) / f"again-{name}"
            loaded.save(again)
            assert again.read_bytes() == path.read_bytes()


def test_int64_never_goes_through_floats():
    big = [2**63 - 1, 2**53 + 1, -(2**63)]
    frame = pd.DataFrame({"id": pd.array([*big, None], dtype="Int64"), "x": [0.5, 1, 2, 3]})
    profile = zm.measure(frame)
    assert profile.extrema.high.tolist() == [2**63 - 1, 3.0]
    assert profile.mean[0] == float(Fraction(sum(big), 3))
    assert profile.nan_count.tolist() == [1, 0]
    assert "9223372036854775807" in repr(profile)


@pytest.mark.parametrize("rows", [10, 40_000])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int16", "int64"])
def test_short_and_long_columns_take_different_ways_to_the_same_sums(rows, dtype):
    """Short columns are put side by side, long ones summed alone; some are strided."""
    rng = np.random.default_rng(rows)
    x = (rng.normal(size=(rows, 70)) * 50).astype(dtype)
    values = [(x[:, j], None) for j in range(70)]
    statistics, extrema = measured_columns(values, [dtype] * 70)
    profile = zm.measure(x)
    assert statistics == profile.statistics
    assert extrema == profile.known_extrema


def test_missing_and_nan_are_the_same_thing_for_floats():
    nan = pd.DataFrame({"x": [1.0, math.nan, 3.0]})
    null = pl.DataFrame({"x": [1.0, None, 3.0]})
    assert zm.measure(nan) == zm.measure(null)


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int16"])
def test_missing_counted_integers(dtype):
    """A histogram has no bin for what is missing; it is counted, added, subtracted and saved."""
    kind = pa.type_for_alias(dtype)
    cells = [True, None, False, None] if dtype == "bool" else [1, None, 0, None]
    table = pa.table({"a": pa.array(cells, kind)})
    full = zm.measure(pa.table({"a": pa.array(cells[::2], kind)}))
    profile = zm.measure(table)
    assert profile.nan_count.tolist() == [2]
    assert profile != full
    assert (profile + full).nan_count.tolist() == [2]
    assert profile + full - profile == full
    with pytest.raises(MergeError):
        full - profile


def test_arrow_offsets_and_bits():
    """Slices begin inside a byte of validity and of booleans."""
    table = pa.table(
        {
            "b": pa.array([True, None, False, True] * 9),
            "i": pa.array([None, 1, 2, 3] * 9, pa.int32()),
        }
    )
    for begin, end in pairwise([0, 2, 7, 13, 30, 36]):
        part = table.slice(begin, end - begin)
        b, i = part["b"].to_pylist(), part["i"].to_pylist()
        profile = quietly(zm.measure, part)
        assert profile.count.tolist() == [sum(v is not None for v in held) for held in (b, i)]
        held = [v for v in i if v is not None]
        assert profile.mean[1] == sum(held) / len(held)


def test_record_batches_arrays_and_foreign_streams():
    class Foreign:
        """Anything that speaks the protocol, such as a query result."""

        def __init__(self, table):
            self._table = table

        def __arrow_c_stream__(self, requested=None):
            return self._table.__arrow_c_stream__(requested)

    table = pa.table({"a": [1, 2, 3], "s": ["x", "y", "z"]})
    expected = zm.measure(table)
    batch = table.to_batches()[0]
    for other in (batch, Foreign(table), pa.RecordBatchReader.from_batches(batch.schema, [batch])):
        assert zm.measure(other) == expected
    column = zm.measure(table["a"])
    assert column == zm.measure(table["a"].chunk(0)) == zm.measure(np.array([1, 2, 3]))


def test_views_outlive_their_table():
    """The memory belongs to the exported structure, not to the object that gave it."""
    import gc

    from zeromean.sources.frames import FrameSource

    shards = list(FrameSource([pl.DataFrame({"a": np.arange(1000.0)})], None).shards())
    gc.collect()
    (item,) = shards[0].items()
    assert item.array.columns[0].arrays()[0].sum() == 499_500
    assert not item.array.columns[0].values.flags.writeable


def test_series_and_their_names():
    values = np.array([1.0, 2.0, 6.0])
    for column in (pd.Series(values, name="x"), pl.Series("x", values)):
        profile = zm.measure(column)
        assert str(profile.pattern) == "n ->"
        assert profile == zm.measure(values, feature_names=["x"])
    assert zm.measure(pd.Series(values)) == zm.measure(values)


def test_columns_without_numbers_are_listed():
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "s": ["a", "b"],
            "d": pd.to_datetime(["2020-01-01", "2020-01-02"]),
            "c": pd.Categorical(["p", "q"]),
            "o": [1, "x"],
            "z": [1j, 2j],
            "t": pd.to_timedelta([1, 2]),
        }
    )
    profile = zm.measure(frame)
    assert profile.feature_names == ("n",)
    left_out = profile.provenance.left_out
    assert [name.split(" ")[0] for name in left_out] == ["s", "d", "c", "o", "z", "t"]
    assert "s (string)" in left_out
    assert "c (category)" in left_out
    assert "columns left out: s (string)" in repr(profile)
    polars = zm.measure(pl.from_pandas(frame[["n", "s", "d", "c"]]))
    assert polars == profile
    assert [name.split(" ")[0] for name in polars.provenance.left_out] == ["s", "d", "c"]
    decimal = pa.table({"n": [1, 2], "money": pa.array([1, 2], pa.decimal128(9, 2))})
    assert list(zm.measure(decimal).provenance.left_out) == ["money (decimal)"]


def test_an_index_is_no_feature():
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=[7, 9])
    table = pa.Table.from_pandas(frame)
    assert "__index_level_0__" in table.column_names
    assert zm.measure(table) == zm.measure(frame)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (
            pd.DataFrame({"s": ["x"]}),
            r"no numeric columns to measure; its columns are: s \(string\)",
        ),
        (
            pl.DataFrame({"s": ["x"]}),
            r"no numeric columns to measure; its columns are: s \(string\)",
        ),
        (pd.DataFrame(), "no numeric columns to measure; its columns are: none"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "several numeric columns named 'a'"),
        (pd.Series(["x"], name="s"), r"no numeric columns to measure; its columns are: s"),
    ],
)
def test_what_cannot_be_measured(frame, said):
    with pytest.raises(PatternError, match=said):
        zm.measure(frame)


def test_zero_rows_and_all_missing():
    empty = zm.measure(pd.DataFrame({"a": np.zeros(0, np.int32), "b": np.zeros(0)}))
    assert empty.count.tolist() == [0, 0]
    assert empty.dtypes == ("int32", "float64")
    more = zm.measure(pd.DataFrame({"a": np.array([3], np.int32), "b": [1.0]}))
    assert empty + more == more + empty == more
    missing = zm.measure(pl.DataFrame({"a": pl.Series([None, None], dtype=pl.Int16)}))
    assert (missing.count.tolist(), missing.nan_count.tolist()) == ([0], [2])


def test_labels_of_every_kind_become_names():
    columns = pd.MultiIndex.from_tuples([("a", "x"), ("b", 2)])
    frame = pd.DataFrame([[1, 2.0], [3, 4.0]], columns=columns)
    assert zm.measure(frame).feature_names == ("a.x", "b.2")
    norm = zm.zero_mean(zm.measure(frame))
    assert norm(frame).columns.equals(columns)
    assert zm.measure(pd.DataFrame({0: [1, 2], 1: [1, 2]})).feature_names == ("0", "1")


def test_other_patterns_take_the_columns_as_one_array():
    frame = pd.DataFrame({"a": [1.0, 2.0], "s": ["x", "y"], "b": [3.0, 4.0]})
    assert zm.measure(frame, "n d ->") == zm.measure(np.array([[1.0, 3], [2, 4]]), "n d ->")
    with pytest.raises(PatternError, match="only the pattern 'n d -> d' keeps apart"):
        zm.measure(frame.assign(c=[1, 2]), "n d ->")
    with pytest.raises(PatternError, match="missing values in 'a'"):
        zm.measure(pl.DataFrame({"a": [1, None]}), "n d ->")


def test_frames_in_an_iterable_must_agree():
    first = pl.DataFrame({"a": [1], "b": [2.0]})
    swapped = pl.DataFrame({"b": [4.0], "a": [3]})
    together = pl.DataFrame({"a": [1, 3], "b": [2.0, 4.0]})
    assert zm.measure([first, swapped]) == zm.measure(together)
    with pytest.raises(PatternError, match="table 1 lacks 'b'"):
        zm.measure([first, first.drop("b")])
    with pytest.raises(PatternError, match="the column 'a' is float64, but it was int64"):
        zm.measure([first, first.cast({"a": pl.Float64})])
    with pytest.raises(PatternError, match="table 1 is no data frame, but int"):
        zm.measure([first, 5])


def test_limit_takes_rows_spread_evenly():
    frame = pd.DataFrame({"a": np.arange(100)})
    profile = zm.measure(frame, limit=10)
    assert profile.provenance.items == 10
    assert profile.mean[0] == 50
    chunked = pa.concat_tables([pa.Table.from_pandas(frame[:33]), pa.Table.from_pandas(frame[33:])])
    assert zm.measure(chunked, limit=10) == profile


def test_workers_and_processes_change_nothing():
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"a": rng.normal(size=200_000), "b": rng.integers(0, 9, 200_000)})
    frame["c"] = pd.array(frame["b"], dtype="Int64")
    expected = zm.measure(frame, workers=1)
    assert zm.measure(frame, workers=4) == expected
    with ProcessPoolExecutor(1) as pool:
        assert zm.measure(frame.head(1000), executor=pool) == zm.measure(frame.head(1000))


def test_batches_travel_between_processes():
    from zeromean.sources.frames import FrameSource

    table = pa.table({"a": [1, None, 3], "b": [True, None, False]})
    (shard,) = FrameSource([table], None).shards()
    (item,) = pickle.loads(pickle.dumps(shard)).items()
    values, missing = item.array.columns[1].arrays()
    assert values[[0, 2]].tolist() == [True, False]
    assert missing.tolist() == [False, True, False]


def test_nothing_is_imported_to_recognize_a_frame():
    from zeromean.tabular import is_frame

    assert is_frame(pd.DataFrame())
    assert is_frame(pl.LazyFrame())
    assert is_frame(pa.table({"a": [1]}))
    assert not is_frame(np.zeros(3))
    assert not is_frame([1, 2])
    assert not is_frame("x.csv")
    assert not is_frame(pd.Timestamp(0))
    assert "narwhals" not in str(type(pd.DataFrame()))


# ---------------------------------------------------------------- reading out


def mixed():
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, 300).astype(np.uint8),
            "city": "x",
            "id": np.arange(300) + 2**53,
            "height": rng.normal(1.7, 0.1, 300).astype(np.float32),
            "member": rng.random(300) > 0.5,
        }
    )


def test_quantiles_of_columns():
    frame = mixed()
    profile = zm.measure(frame, quantiles=True)
    age = profile.column("age")
    assert age.quantile([0.1, 0.5]).tolist() == np.quantile(frame["age"], [0.1, 0.5]).tolist()
    assert age.histogram.counts.sum() == 300
    low, high = profile.column("height").quantile_bounds(0.5)
    assert low <= frame["height"].sort_values().iloc[149] <= high
    with pytest.raises(PatternError, match="the columns id, height are summed"):
        profile.quantile(0.5)
    with pytest.raises(PatternError, match="no column 'weight'; the columns are age, id"):
        profile.column("weight")
    with pytest.raises(PatternError, match="share no histogram"):
        _ = profile.histogram
    both = zm.measure(frame[["age", "member"]])
    expected = [np.quantile(frame["age"], 0.3), np.quantile(frame["member"].astype(int), 0.3)]
    assert both.quantile(0.3).tolist() == expected


def test_robust_reads_the_frame_again():
    frame = mixed()
    norm = zm.robust(zm.measure(frame), frame)
    assert norm.shift[0] == frame["age"].median()
    assert norm.shift[1] == float(2**53 + 149.5)
    assert norm.shift[2] == np.quantile(frame["height"].astype(float), 0.5)
    assert norm == zm.robust(zm.measure(frame), pl.from_pandas(frame))


def test_constant_columns_are_judged_by_their_own_dtype():
    values = [1e8, 1e8 + 8] * 50
    frame = pd.DataFrame({"near": np.array(values, np.float32), "far": values})
    assert zm.measure(frame).negligible.tolist() == [True, False]


def test_profiles_of_other_columns_do_not_add():
    a, b = zm.measure(pd.DataFrame({"a": [1.0]})), zm.measure(pd.DataFrame({"b": [1.0]}))
    with pytest.raises(MergeError, match="differ in feature names"):
        a + b
    c = zm.measure(pd.DataFrame({"a": [1]}))
    with pytest.raises(MergeError, match="differ in dtype"):
        a + c


def test_columns_statistic_obeys_the_laws():
    dtypes = ("float64", "uint8")
    values = [(np.array([0.5, 2.0]), None), (np.array([3, 4], np.uint8), None)]
    statistic, _ = measured_columns(values, dtypes)
    empty = empty_columns(dtypes)
    assert isinstance(statistic, Columns)
    assert empty + statistic == statistic + empty == statistic
    assert statistic + statistic - statistic == statistic
    assert statistic != empty
    with pytest.raises(MergeError, match="different dtypes"):
        statistic + empty_columns(("uint8", "float64"))
    with pytest.raises(MergeError, match="cannot combine columns with Histogram"):
        statistic + empty_columns(("uint8", "uint8"))


# ---------------------------------------------------------------- files


def saved(tmp_path, **changes):
    path = tmp_path / "mixed.json"
    zm.measure(mixed()).save(path)
    text = path.read_text()
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"dtype": "uint8,', '"dtype": "uint7,'), "'dtype' is 'uint7,int64"),
        (('"dtype": "uint8,int64,float32,bool"', '"dtype": "uint8,int64"'), "one for each of 4"),
        (('"dtype": "uint8,int64,float32,bool"', '"dtype": "int64"'), "unknown part 'columns'"),
        (('"columns":', '"histogram": [], "columns":'), "one part for each dtype"),
        (('"bool": {', '"int8": {'), "one part for each dtype"),
        (('"uint8,int64,float32,bool"', '"int64,uint8,float32,bool"'), "does not follow"),
    ],
)
def test_damaged_files_name_the_field(tmp_path, change, said):
    with pytest.raises(zm.FormatError, match=said):
        zm.load(saved(tmp_path, change=change))


def test_missing_counts_must_be_canonical(tmp_path):
    path = tmp_path / "p.json"
    zm.measure(pl.DataFrame({"a": pl.Series([1, None], dtype=pl.UInt8)})).save(path)
    text = path.read_text()
    path.write_text(text.replace('"missing": ["1"]', '"missing": ["0"]'))
    with pytest.raises(zm.FormatError, match="'missing' must count"):
        zm.load(path)


def test_normalizers_of_tables_are_saved(tmp_path):
    norm = zm.standardize(zm.measure(mixed()))
    for name in ("n.json", "n.safetensors"):
        norm.save(tmp_path / name)
        assert zm.load(tmp_path / name) == norm


# ---------------------------------------------------------------- normalizing


def test_numbers_are_those_of_the_formula():
    """In float64, rounded once, whatever the library."""
    frame = mixed()
    norm = zm.min_max(zm.measure(frame), -1, 1)
    y = norm(frame)
    for j, name in enumerate(norm.feature_names):
        x = frame[name].to_numpy().astype(np.float64)
        expected = (x - norm.shift[j]) / norm.scale[j] + norm.offset[j]
        kind = np.float32 if name == "height" else np.float64
        assert y[name].dtype == kind
        assert (y[name].to_numpy() == expected.astype(kind)).all()


@pytest.mark.parametrize("rows", [5, 40_000])
def test_there_and_back_in_every_library(rows):
    """Other columns, index, order and missing values stay; raw dtypes come back."""
    rng = np.random.default_rng(rows)
    frame = pd.DataFrame(
        {
            "n": pd.array(rng.integers(0, 200, rows), dtype="Int16"),
            "s": [f"name {i}" for i in range(rows)],
            "u": rng.integers(0, 255, rows).astype(np.uint8),
            "b": rng.random(rows) > 0.5,
            "f": np.round(rng.normal(size=rows), 2),
        },
        index=np.arange(rows)[::-1] * 2,
    )
    frame.loc[frame.index[:2], "n"] = None
    norm = zm.standardize(zm.measure(frame))
    y = norm(frame)
    assert y.index.equals(frame.index)
    assert list(y.columns) == list(frame.columns)
    assert y["s"].equals(frame["s"])
    assert y["n"].isna().tolist() == frame["n"].isna().tolist()
    back = norm.invert(y)
    pd.testing.assert_frame_equal(back[["n", "s", "u", "b"]], frame[["n", "s", "u", "b"]])
    assert np.abs(back["f"] - frame["f"]).max() < 1e-12

    polars = pl.from_pandas(frame)
    table = polars.to_arrow()
    for other in (polars, table, table.to_batches()[0]):
        normed = norm(other)
        assert type(normed) is type(other)
        inverted = norm.invert(normed)
        names = ["n", "s", "u", "b"]
        assert inverted.select(names).equals(other.select(names))
    assert norm(polars)["n"].to_list()[:2] == [None, None]
    lazy = norm(polars.lazy())
    assert isinstance(lazy, pl.LazyFrame)
    assert lazy.collect().equals(norm(polars))
    assert lazy.collect_schema() == norm(polars).schema


def test_order_of_columns_does_not_matter():
    frame = mixed()
    norm = zm.standardize(zm.measure(frame))
    turned = frame[list(frame.columns)[::-1]]
    assert norm(turned)[list(frame.columns)].equals(norm(frame))


def test_dtypes_of_the_output():
    frame = pd.DataFrame(
        {
            "h": np.array([1, 2], np.float16),
            "f": np.array([1, 2], np.float32),
            "d": [1.0, 2.0],
            "i": [1, 2],
            "b": [True, False],
        }
    )
    norm = zm.zero_mean(zm.measure(frame))
    assert [str(d) for d in norm(frame).dtypes] == ["float16", "float32"] + ["float64"] * 3
    assert {str(d) for d in norm(frame, dtype="float32").dtypes} == {"float32"}
    with pytest.raises(PatternError, match="frames take one of float16, float32, float64"):
        norm(frame, dtype="bfloat16")
    with pytest.raises(PatternError, match="take no out="):
        norm(frame, out=np.zeros((2, 5)))


def test_missing_columns_and_columns_too_many():
    frame = mixed()
    norm = zm.standardize(zm.measure(frame))
    with pytest.raises(PatternError, match="lacks 2 of the 4 measured columns: 'id', 'member'"):
        norm(frame.drop(columns=["id", "member"]))
    with pytest.raises(PatternError, match="the column 'age' holds string"):
        norm(pl.from_pandas(frame.assign(age="old")))
    with pytest.warns(ZeromeanWarning, match="not measured stay as they are: 'extra'"):
        y = norm(frame.assign(extra=1))
    assert (y["extra"] == 1).all()
    with pytest.raises(PatternError, match="several columns named 'age'"):
        norm(pd.concat([frame, frame[["age"]]], axis=1))


def test_normalizers_of_arrays_take_frames_by_place():
    x = np.array([[1.0, 10], [3, 30]])
    norm = zm.zero_mean(zm.measure(x))
    frame = pd.DataFrame({"s": ["q", "r"], "a": x[:, 0], "b": x[:, 1]})
    assert norm(frame)[["a", "b"]].to_numpy().tolist() == [[-1, -10], [1, 10]]
    with pytest.raises(PatternError, match="2 features without names, but the table has 1"):
        norm(frame[["a"]])
    one = zm.zero_mean(zm.measure(x, "n d ->"))
    assert one(frame)["a"].tolist() == [-10, -8]
    with pytest.raises(PatternError, match="no numbers for the columns of a frame"):
        zm.zero_mean(zm.measure(np.zeros((2, 3, 4)), "n h w -> h w"))(frame)


def test_a_column_by_itself():
    frame = mixed()
    norm = zm.zero_mean(zm.measure(frame["height"]))
    y = norm(frame["height"])
    assert isinstance(y, pd.Series)
    assert y.name == "height"
    assert norm.invert(y).dtype == np.float32
    assert norm(pl.Series("height", [1.0])).name == "height"


def test_units_are_checked_over_the_whole_frame():
    """One column of 0..1 among others of 0..255 is no reason to doubt."""
    raw = pd.DataFrame({"a": np.array([0, 255], np.uint8), "b": np.array([0, 1], np.uint8)})
    norm = zm.zero_mean(zm.measure(raw))
    assert norm(raw.astype(float))["a"].tolist() == [-127.5, 127.5]
    with pytest.raises(UnitError, match=r"looks like 0\.\.1"):
        norm(raw / 255)
    with pytest.raises(UnitError, match="from 0 to 510"):
        norm(raw.astype(int) * 2)


def test_inverting_what_cannot_be_inverted():
    frame = pd.DataFrame({"a": [1, 2]})
    norm = zm.zero_mean(zm.measure(frame))
    with pytest.raises(UnitError, match="the column 'a' is int64"):
        norm.invert(frame)
    with pytest.raises(PatternError, match="the column 'a': NaN cannot become int64"):
        norm.invert(pd.DataFrame({"a": [0.5, math.nan]}))
    assert norm.invert(pd.DataFrame({"a": [0.5, math.nan]}), dtype="float64")["a"][0] == 2.0


def test_arrow_backed_and_nullable_pandas():
    frame = mixed().drop(columns="id")
    norm = zm.standardize(zm.measure(frame))
    for backend, kind in (("pyarrow", "double[pyarrow]"), ("numpy_nullable", "Float64")):
        held = frame.convert_dtypes(dtype_backend=backend)
        assert zm.measure(held[["age", "member"]]) == zm.measure(frame[["age", "member"]])
        y = norm(held)
        assert str(y["age"].dtype) == kind
        assert norm.invert(y)["age"].tolist() == frame["age"].tolist()
        chunked = pd.concat([held[:100], held[100:]])
        assert norm(chunked)["age"].tolist() == y["age"].tolist()


def test_narwhals_in_narwhals_out():
    nw = pytest.importorskip("narwhals")
    frame = mixed()
    wrapped = nw.from_native(pl.from_pandas(frame))
    norm = zm.standardize(zm.measure(wrapped))
    assert norm == zm.standardize(zm.measure(frame))
    assert isinstance(norm(wrapped), nw.DataFrame)
    assert norm(wrapped).to_native().equals(norm(pl.from_pandas(frame)))


def test_metadata_of_arrow_tables():
    table = pa.table({"a": [1, 2]}).replace_schema_metadata({"source": "sensor 4"})
    norm = zm.zero_mean(zm.measure(table))
    assert norm(table).schema.metadata == {b"source": b"sensor 4"}


def test_mixed_normalizers_give_arrays_one_dtype():
    norm = zm.standardize(zm.measure(pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})))
    y = norm(np.array([[1, 0.5]]))
    assert norm.invert(y).dtype == np.float64


# ---------------------------------------------------------------- whitening


@pytest.mark.parametrize("kind", ["pca", "zca"])
def test_whitening_a_frame(kind):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 3))
    frame = pd.DataFrame({"a": x[:, 0], "s": "t", "b": x[:, 1], "c": x[:, 2]})
    profile = zm.measure(frame, covariance=True)
    assert profile == zm.measure(x, covariance=True, feature_names=["a", "b", "c"])
    norm = zm.whiten(profile, kind)
    y = norm(frame)
    names = ["a", "b", "c"] if kind == "zca" else ["pca0", "pca1", "pca2"]
    assert list(y.columns) == [names[0], "s", *names[1:]]
    assert np.abs(np.cov(y[names].T, ddof=0) - np.eye(3)).max() < 1e-9
    back = norm.invert(y)
    assert list(back.columns) == ["a", "s", "b", "c"]
    assert np.abs(back[["a", "b", "c"]].to_numpy() - x).max() < 1e-9


def test_whitening_to_fewer_columns():
    rng = np.random.default_rng(4)
    frame = pl.DataFrame({"k": rng.integers(0, 9, 50), "s": ["t"] * 50, "x": rng.normal(size=50)})
    norm = zm.whiten(zm.measure(frame, covariance=True), "pca", n_components=1)
    y = norm(frame)
    assert y.columns == ["pca0", "s"]
    assert norm.invert(y).columns == ["k", "x", "s"]
    assert norm.invert(y)["k"].dtype == pl.Int64


# ---------------------------------------------------------------- groups


@pytest.mark.parametrize("by", ["site", "k"])
def test_groups_by_a_column(by):
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "age": rng.integers(0, 99, 60).astype(np.uint8),
            "site": rng.choice(["x", "y"], 60),
            "k": rng.integers(0, 3, 60),
            "h": rng.normal(size=60),
        }
    )
    grouped = zm.measure(frame, by=by)
    polars = pl.from_pandas(frame)
    for other in (polars, polars.to_arrow(), polars.lazy(), [frame[:20], frame[20:]]):
        assert zm.measure(other, by=by) == grouped
    rest = frame.drop(columns=[by])
    assert grouped.total == zm.measure(rest)
    for name, part in rest.groupby(frame[by]):
        assert grouped[str(name)] == zm.measure(part)
    assert zm.measure(frame, by=frame[by].to_numpy()).total == zm.measure(frame)


def test_groups_that_are_not_there():
    frame = pd.DataFrame({"a": [1, 2], "g": ["x", None]})
    with pytest.raises(PatternError, match="no such column; it has 'a', 'g'"):
        zm.measure(frame, by="site")
    with pytest.raises(PatternError, match="is missing"):
        zm.measure(frame, by="g")
    with pytest.raises(PatternError, match="no numeric columns"):
        zm.measure(frame, by="a")


def test_slim_machines_need_no_library_of_frames():
    """What speaks the Arrow C stream is read without PyArrow, pandas or Narwhals."""
    import subprocess

    code = """
import sys
for name in ("pandas", "pyarrow", "narwhals"):
    sys.modules[name] = None
import polars as pl
import zeromean as zm
frame = pl.DataFrame({"a": [1, None, 3], "s": ["x", "y", "z"]})
norm = zm.zero_mean(zm.measure(frame))
print(norm(frame)["a"].to_list())
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert result.stdout.strip() == "[-1.0, None, 1.0]", result.stderr


# ---------------------------------------------------------------- columns by themselves


def people():
    return pd.DataFrame({"age": [20.0, 30.0, 70.0], "height": [1.5, 1.7, 1.9]})


def test_a_column_by_itself_gets_the_numbers_of_its_name():
    frame = people()
    norm = zm.standardize(zm.measure(frame))
    whole = norm(frame)
    for name in frame:
        pd.testing.assert_series_equal(norm(frame[name]), whole[name])
        pd.testing.assert_series_equal(norm.invert(norm(frame[name])), frame[name])
    held = pl.from_pandas(frame)
    assert norm(held["height"]).equals(norm(held)["height"])


def test_a_column_without_a_name_of_a_feature_is_one_sample():
    norm = zm.standardize(zm.measure(people()))
    row = people().iloc[1]
    expected = norm(people()).iloc[1]
    pd.testing.assert_series_equal(norm(row), expected)
    pd.testing.assert_series_equal(norm(row[::-1]), expected[::-1])  # by label, not by place
    pd.testing.assert_series_equal(norm.invert(norm(row[::-1])), row[::-1])
    plain = norm(pd.Series([30.0, 1.7], index=[7, 8]))  # by place
    assert plain.tolist() == expected.tolist()
    assert list(plain.index) == [7, 8]
    assert norm(pl.Series("x", [30.0, 1.7])).to_list() == expected.tolist()
    assert norm(pa.array([30.0, 1.7])).to_pylist() == expected.tolist()
    nameless = zm.standardize(zm.measure(people().to_numpy()))
    assert nameless(pl.Series("age", [30.0, 1.7])).to_list() == expected.tolist()
    counted = pd.DataFrame(people().to_numpy())  # columns 0 and 1, rows 0, 1 and 2
    by_count = zm.standardize(zm.measure(counted))
    pd.testing.assert_series_equal(by_count(counted[1]), by_count(counted)[1])
    with pytest.raises(PatternError, match="named as a feature, and so are its rows"):
        by_count(counted.iloc[1])


def test_a_column_by_itself_that_does_not_fit_is_refused():
    norm = zm.standardize(zm.measure(people()))
    for do in (norm, norm.invert):
        with pytest.raises(PatternError, match=r"'x' of 3 values .* 2 features.*'age', 'height'"):
            do(pd.Series([1.0, 2.0, 3.0], name="x"))
    square = pd.DataFrame(np.eye(2), index=["a", "b"], columns=["a", "b"])
    with pytest.raises(PatternError, match=r"to_frame\(\)"):
        zm.zero_mean(zm.measure(square))(square["a"])
    white = zm.whiten(zm.measure(people(), covariance=True))
    with pytest.raises(PatternError, match="mixes all 2 features"):
        white(people()["age"])


def test_one_number_holds_for_every_column():
    norm = zm.zero_mean(zm.measure(np.array([1.0, 3.0])))
    assert norm(pd.Series([1.0, 5.0], name="any")).tolist() == [-1, 3]


def test_missing_values_of_a_sample_stay_missing():
    norm = zm.zero_mean(zm.measure(people()))
    y = norm(pd.Series([None, 2], index=["height", "age"], dtype="Int64"))
    assert y.isna().tolist() == [True, False]
    assert y["age"] == 2 - 40


def test_warnings_point_at_the_line_of_the_user():
    norm = zm.zero_mean(zm.measure(people()[["age"]]))
    frames = [people(), pl.from_pandas(people()), pl.from_pandas(people()).lazy()]
    for frame in frames:
        with pytest.warns(ZeromeanWarning, match="'height'") as caught:
            norm(frame)
        assert caught[0].filename == __file__


def test_profiles_of_reordered_columns_say_so():
    mixed = people().astype({"age": "int64"})
    for frame in (people(), mixed):
        with pytest.raises(MergeError, match="the same, but in another order"):
            zm.measure(frame) + zm.measure(frame[["height", "age"]])


@pytest.mark.parametrize("text", ["café,b\n1,2\n", "a,b\n1,café\n2,x\n", "a,b\n1,2\n2,é\n"])
def test_other_encodings_are_named(tmp_path, text):
    path = tmp_path / "latin.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SourceError, match=r"is not UTF-8 .* iconv"):
        zm.measure(path)
    late = "a,b\n" + "1,2\n" * 20_000 + "1,é\n"
    path.write_bytes(late.encode("latin-1"))
    with pytest.raises(SourceError, match=r"is not UTF-8 .* iconv"):
        zm.measure(path)


def test_a_letter_may_be_cut_at_the_end_of_the_look(tmp_path):
    path = tmp_path / "cut.csv"
    for shift in range(3):
        path.write_text("a,b\n" + "0" * shift + "1,é\n" * (1 << 14))
        assert zm.measure(path).count.tolist() == [1 << 14]


def test_numbers_for_names_are_doubted(tmp_path):
    path = tmp_path / "iris.csv"
    path.write_text("5.1,3.5,setosa\n4.9,3.0,setosa\n")
    with pytest.warns(ZeromeanWarning, match=r"first row was taken as the names.*'5.1', '3.5'"):
        zm.measure(path)
    path.write_text("country,2019,2020\nx,1,2\n")
    assert zm.measure(path).names == ["2019", "2020"]
