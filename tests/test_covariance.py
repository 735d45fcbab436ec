"""Covariance: exact for integers and lawful with ``==``, bounded for floats, in every source."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import zeromean as zm
from strategies import INTEGERS, LAYOUTS, arrays, cuts, laid_out, numbers, planes, rows, seeds
from test_laws import check_laws, split
from zeromean.cli import main
from zeromean.statistics import Covariance, blas, covariance
from zeromean.statistics.covariance import joint_dtype
from zeromean.statistics.products import cross_products
from zeromean.statistics.scatter import BLOCK_ROWS, CenteredScatter, quotients

WHOLE = ("bool", *INTEGERS)
FLOAT = ("float16", "bfloat16", "float32", "float64")
PIXELS = "n h w c -> h w c"


def samples(block):
    """A block as rows of Python numbers, whatever its axes."""
    if block.ndim == 3:
        block = np.moveaxis(block, 1, 2).reshape(-1, block.shape[1])
    return block.tolist()


def true_covariance(rows, ddof=0):
    """The covariance as rationals, by its definition."""
    rows = [[Fraction(v) for v in row] for row in rows]
    n, means = len(rows), [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    centered = [[v - m for v, m in zip(row, means, strict=True)] for row in rows]
    columns = list(zip(*centered, strict=True))
    return [
        [sum(a * b for a, b in zip(one, two, strict=True)) / (n - ddof) for two in columns]
        for one in columns
    ]


def as_floats(matrix):
    return np.array([[v.numerator / v.denominator for v in row] for row in matrix])


# ---------------------------------------------------------------- integers: exact


@given(st.data(), arrays(rows, WHOLE))
def test_integer_covariance_is_a_monoid(data, array):
    empty = Covariance.empty(array.shape[1], array.dtype.name)
    check_laws(Covariance.of, empty, split(data, array))


@given(st.data(), arrays(planes, WHOLE), st.sampled_from([0, 2]))
def test_integer_covariance_of_planes_is_a_monoid(data, array, axis):
    empty = Covariance.empty(array.shape[1], array.dtype.name)
    check_laws(Covariance.of, empty, split(data, array, axis), axis=axis)


@settings(max_examples=150)
@given(arrays(st.tuples(st.integers(2, 9), st.integers(1, 4)), WHOLE), st.sampled_from([0, 1]))
def test_integer_covariance_is_the_rational_rounded_once(array, ddof):
    matrix = Covariance.of(array).matrix(ddof)
    assert matrix.tolist() == as_floats(true_covariance(samples(array), ddof)).tolist()
    assert np.array_equal(matrix, matrix.T)


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("features", [1, 70, 800])
def test_products_are_exact_at_the_ends_of_every_format(dtype, features):
    """The largest sums a piece may have, through float32, float64 and digits."""
    count = {1: 2100, 70: 1100, 800: 9}[features]
    block = numbers(dtype, "bits" if dtype == "bool" else "ends", (count, features), seed=features)
    if dtype != "bool":
        info = np.iinfo(dtype)
        block[:, 0] = info.min if dtype[0] == "i" else info.max  # all of one sign
        block[: count // 2, -1] = info.max
    sums, products = cross_products(np.ascontiguousarray(block))
    whole = block.astype(object)
    chosen = np.random.default_rng(1).integers(0, features, 6)
    assert (products[chosen] == whole[:, chosen].T @ whole).all()
    assert np.array_equal(products, products.T)
    assert sums.tolist() == whole.sum(axis=0).tolist()


def test_large_readouts_agree_with_rationals():
    """More than 32 features are read out through float64 quotients and their remainders."""
    block = numbers("uint8", "bits", (1500, 40), seed=4)
    matrix = Covariance.of(block).matrix(1)
    n, whole = len(block), block.astype(object)
    sums, products = whole.sum(axis=0), whole.T @ whole
    exact = (n * products - np.outer(sums, sums)).tolist()
    assert matrix.tolist() == [[v / (n * (n - 1)) for v in row] for row in exact]


@settings(max_examples=200)
@given(
    st.lists(st.integers(-(2**62) + 1, 2**62 - 1), min_size=1, max_size=40),
    st.integers(1, 2**53 - 1),
)
def test_quotients_are_those_of_python(numerators, denominator):
    fast = quotients(np.array(numerators, np.int64), denominator)
    assert fast.tolist() == [v / denominator for v in numerators]
    slow = quotients(np.array(numerators, object), denominator)
    assert slow.tolist() == fast.tolist()


def test_sums_beyond_64_bits_carry():
    """A covariance that is added to itself often enough leaves int64, and is still right."""
    block = np.array([[65535, 1], [65535, 2], [0, 65535]], np.uint16)
    one = total = Covariance.of(block)
    for _ in range(40):
        total += total
    assert total.scatter.products.dtype == object
    assert total.scatter.products[0, 0] == 2 * 65535**2 * 2**40
    assert total.matrix().tolist() == one.matrix().tolist()
    assert total - total == one - one == Covariance.empty(2, "uint16")
    assert (total - total).scatter.products.dtype == np.int64


@given(arrays(st.tuples(st.integers(1, 30), st.integers(1, 4)), WHOLE, layouts=("C",)), seeds)
def test_layout_and_order_do_not_matter(array, seed):
    order = np.random.default_rng(seed).permutation(len(array))
    expected = Covariance.of(array)
    assert Covariance.of(array[order]) == expected
    for layout in LAYOUTS:
        assert Covariance.of(laid_out(array, layout)) == expected


def test_what_is_not_there_cannot_be_subtracted():
    held = Covariance.of(np.array([[2, 3], [2, 5]], np.uint8))
    for absent in ([[9, 3]], [[2, 3], [2, 3], [2, 3]]):
        with pytest.raises(zm.MergeError, match="cannot subtract"):
            held - Covariance.of(np.array(absent, np.uint8))
    with pytest.raises(zm.MergeError, match="uint8 x 2 features and int8 x 2"):
        held + Covariance.of(np.zeros((1, 2), np.int8))
    with pytest.raises(zm.MergeError, match="with int"):
        held + 1


def test_a_covariance_is_immutable_and_does_not_follow_its_data():
    block = numbers("uint8", "bits", (5, 30), seed=2)
    before = Covariance.of(block)
    same = Covariance.of(block.copy())
    block[:] = 0
    assert before == same
    assert not same.scatter.products.flags.writeable
    assert not same.scatter.sums.flags.writeable


# ---------------------------------------------------------------- floats: bounded


def check_bound(block, slack=1.0):
    """Every entry is within its bound of the rational."""
    measured = Covariance.of(block)
    found, exact = measured.matrix(), true_covariance(samples(block.astype(np.float64)))
    bound = Fraction(measured.error_bound * slack)
    for i, row in enumerate(exact):
        for j, value in enumerate(row):
            off = Fraction(found[i, j]) - value
            assert off * off <= bound**2 * exact[i][i] * exact[j][j], (i, j)


@pytest.mark.parametrize("dtype", FLOAT)
@pytest.mark.parametrize("temper", ["normal", "offset", "equal", "few", "zeros"])
def test_float_covariance_keeps_its_bound(dtype, temper):
    check_bound(numbers(dtype, temper, (257, 3), seed=5))


def test_float_covariance_keeps_its_bound_over_many_blocks_far_from_zero():
    """E[xy] - E[x]E[y] has no digit left here; neither has a merge of rounded means."""
    rng = np.random.default_rng(6)
    mixed = rng.normal(size=(3 * BLOCK_ROWS + 5, 2)) @ [[1.0, 0.5], [0.0, 0.1]]
    block = mixed * 1e-3 + [1e8, -3e7]
    check_bound(block)
    naive = (block.T @ block) / len(block) - np.outer(block.mean(axis=0), block.mean(axis=0))
    assert abs(naive[0, 0] - np.var(block[:, 0])) > 0.5 * np.var(block[:, 0])
    parts = [Covariance.of(part) for part in np.array_split(block, 7)]
    together = sum(parts[1:], start=parts[0])
    assert np.allclose(together.matrix(), Covariance.of(block).matrix(), rtol=1e-12)


def test_the_check_of_the_bound_can_fail():
    with pytest.raises(AssertionError):
        check_bound(numbers("float64", "normal", (257, 3), seed=5), slack=1e-5)


def test_float_laws_that_are_kept():
    """Empty is zero, and ``==`` is equality of bits; the rest is promised for no float sum."""
    block = numbers("float64", "normal", (300, 3), seed=1)
    whole, empty = Covariance.of(block), Covariance.empty(3, "float64")
    assert not whole.exact
    assert empty + whole == whole == whole + empty
    assert empty + empty == empty
    assert whole != Covariance.of(np.nextafter(block, 9))
    with pytest.raises(zm.MergeError, match="measure what is left"):
        whole - Covariance.of(block[:5])


def test_rows_that_are_not_finite_are_left_out_and_counted():
    block = numbers("float32", "normal", (5000, 3), seed=9)
    holes = block.copy()
    holes[7, 1], holes[4000, 0], holes[4001, 2] = np.nan, np.inf, -np.inf
    complete = np.delete(block, [7, 4000, 4001], axis=0)
    measured = Covariance.of(holes)
    assert (measured.n, measured.left_out) == (4997, 3)
    assert np.allclose(measured.matrix(), Covariance.of(complete).matrix(), rtol=1e-12)
    assert np.allclose(measured.means(), complete.mean(axis=0, dtype=np.float64))
    nothing = Covariance.of(np.full((4, 2), np.nan))
    assert (nothing.n, nothing.left_out) == (0, 4)
    assert np.isnan(nothing.matrix()).all()
    assert (nothing + measured.of(np.ones((2, 2)))).n == 2


def test_constants_have_no_covariance_at_all():
    assert Covariance.of(np.full((5000, 2), 1e8 / 3)).matrix().tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("features", [5, 130, 700])
def test_threads_of_blas_do_not_change_a_bit(features):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    block = numbers("float64", "normal", (3000, features), seed=3)
    found = []
    for threads in (1, 2, 3):
        with threadpoolctl.threadpool_limits(threads):
            found.append(Covariance.of(block))
    assert found[0] == found[1] == found[2]


def test_blas_gets_its_threads_back_however_many_are_inside(monkeypatch):
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads():
        libraries = blas._controller().info()
        return {held["num_threads"] for held in libraries if held["user_api"] == "blas"}

    def held(seed):
        """What BLAS is set to while this thread, whoever came first, is inside."""
        with blas.one_thread():
            found = threads()
            Covariance.of(np.full((3000, 70), float(seed)))
            return found

    with threadpoolctl.threadpool_limits(2):
        for _ in range(20):  # which thread enters first and leaves last is chance
            with ThreadPoolExecutor(4) as pool:
                assert list(pool.map(held, range(8))) == [{1}] * 8
            assert threads() == {2}
        with blas.one_thread(), blas.one_thread():
            assert threads() == {1}
        assert threads() == {2}
    monkeypatch.setattr(blas, "_controller", lambda: None)
    with blas.one_thread() as own:
        assert own == 1


# ---------------------------------------------------------------- rows that wait


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_few_rows_wait_and_many_are_multiplied(dtype):
    block = numbers(dtype, "bits" if dtype == "uint8" else "normal", (900, 90), seed=8)
    few = Covariance.of(block[:5])
    assert few.state is None
    assert sum(map(len, few.waiting)) == 5
    total = Covariance.empty(90, dtype)
    for begin in range(0, 900, 9):
        total += Covariance.of(block[begin : begin + 9])
        assert sum(part.nbytes for part in total.waiting) < 8 * 90**2
    assert total.state is not None
    assert (total.n, total.left_out) == (900, 0)
    assert np.allclose(total.matrix(), Covariance.of(block).matrix(), rtol=1e-9, atol=1e-9)
    assert total.settled().waiting == ()
    assert total.settled() == total


# ---------------------------------------------------------------- through measure


def pictures(count=60, side=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def sources(x, folder):
    """The same pictures, as everything that can hold them."""
    (folder / "pictures").mkdir()
    for i, picture in enumerate(x):
        Image.fromarray(picture).save(folder / "pictures" / f"{i:03}.png")
    np.save(folder / "x.npy", x)
    np.savez_compressed(folder / "x.npz", x=x)
    return [x, np.asfortranarray(x), list(x), (p for p in x), folder / "pictures",
            folder / "x.npy", folder / "x.npz"]  # fmt: skip


@pytest.mark.parametrize("pattern", [PIXELS, "n h w c -> c", "n h w c ->", "n h w c -> c w"])
def test_every_source_gives_the_same_covariance(pattern, tmp_path):
    x = pictures()
    kept = {"h": 1, "w": 2, "c": 3}
    axes = [kept[name] for name in pattern.split("->")[1].split()]
    others = [i for i in range(4) if i not in axes]
    features = int(np.prod([x.shape[i] for i in axes]))
    flat = x.transpose(*others, *axes).reshape(-1, features).astype(float)
    for source in sources(x, tmp_path):
        profile = zm.measure(source, pattern, covariance=True, workers=2)
        assert profile.covariance == Covariance.of(flat.astype(np.uint8))
        assert np.allclose(profile.cov(1), np.cov(flat.T), rtol=1e-12)
        assert profile.cov().shape == (features, features)
        assert np.array_equal(np.diagonal(profile.cov()), np.ravel(profile.var()))


def test_channels_first_and_patches():
    x = pictures()
    first = zm.measure(x.transpose(0, 3, 1, 2).copy(), "n c h w -> c", covariance=True)
    last = zm.measure(x, "n h w c -> c", covariance=True)
    assert first.covariance == last.covariance
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 2, 2, 3)
    by_view = zm.measure(windows, "n y x c h w -> h w c", covariance=True)
    assert by_view.covariance == zm.measure(patches, PIXELS, covariance=True).covariance


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_are_the_same_bits_for_any_number_of_workers(dtype):
    """Many shards, finished in any order, and on machines with any number of cores."""
    x = numbers(dtype, "normal", (70_000, 40), seed=2)
    one = zm.measure(x, covariance=True, workers=1)
    assert one == zm.measure(x, covariance=True, workers=3)
    with ThreadPoolExecutor(5) as pool:
        assert one == zm.measure(x, covariance=True, executor=pool)
    assert np.allclose(one.cov(1), np.cov(x.T, dtype=np.float64), rtol=1e-10, atol=1e-12)


def test_shards_of_floats_do_not_depend_on_the_cores(monkeypatch):
    x = numbers("float64", "normal", (40_000, 33), seed=2)
    found = []
    for cores in (1, 2, 64):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        found.append(zm.measure(x, covariance=True, workers=2))
    assert found[0] == found[1] == found[2]


@given(st.data(), seeds)
@settings(max_examples=15)
def test_profiles_add_and_subtract_with_their_covariance(data, seed):
    x = numbers("uint8", "bits", (60, 7), seed=seed)
    whole = zm.measure(x, covariance=True)
    parts = [zm.measure(x[cut], covariance=True) for cut in data.draw(cuts(60)) if x[cut].size]
    assert sum(parts) == whole
    rest = sum(parts[1:])
    if rest:
        assert whole - rest == parts[0]


def test_a_profile_without_and_one_with_do_not_add():
    x = pictures()
    both = [zm.measure(x, "n h w c -> c", covariance=c) for c in (False, True)]
    assert both[0] != both[1]
    assert replace(both[1], covariance=None) == both[0]
    for a, b in (both, reversed(both)):
        with pytest.raises(zm.MergeError, match=r"cannot add .* covariance=True .* without"):
            a + b
        with pytest.raises(zm.MergeError, match="cannot subtract"):
            a - b
    with pytest.raises(zm.PatternError, match="covariance=True"):
        both[0].cov()


def test_too_large_a_covariance_is_refused_before_work(monkeypatch, tmp_path):
    monkeypatch.setattr(covariance, "memory_size", lambda: 10_000_000)
    x = np.zeros((2, 16, 16, 3), np.uint8)
    with pytest.raises(zm.PatternError, match=r"768 features needs about 0\.0283 GB.*patches"):
        zm.measure(x, PIXELS, covariance=True)
    Image.fromarray(x[0]).save(tmp_path / "a.png")
    with pytest.raises(zm.PatternError, match="768 features"):
        zm.measure(tmp_path, PIXELS, covariance=True)
    assert zm.measure(x, PIXELS).covariance is None
    assert zm.measure(x, "n h w c -> c", covariance=True).cov().shape == (3, 3)


def test_the_size_of_the_memory_is_found_or_guessed(monkeypatch, tmp_path):
    covariance.memory_size.cache_clear()
    whole = covariance.memory_size()
    assert whole > 1 << 28
    limit = tmp_path / "memory.max"
    for text, expected in (("123456\n", 123456), ("max\n", None)):
        limit.write_text(text)
        monkeypatch.setattr(covariance, "_GROUP_LIMIT", limit)
        covariance.memory_size.cache_clear()
        assert covariance.memory_size() == expected or expected is None
    monkeypatch.delattr("os.sysconf", raising=False)
    covariance.memory_size.cache_clear()
    assert covariance.memory_size() == 8 << 30
    covariance.memory_size.cache_clear()


def test_an_empty_or_single_sample():
    with pytest.warns(zm.ZeromeanWarning, match="covariance is NaN"):
        assert np.isnan(zm.measure(np.zeros((0, 2)), covariance=True).cov()).all()
    one = zm.measure(np.array([[3, 4]]), covariance=True)
    assert one.cov().tolist() == [[0, 0], [0, 0]]
    assert np.isnan(one.cov(ddof=1)).all()


# ---------------------------------------------------------------- tables


def test_columns_of_several_dtypes_and_missing_entries():
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(3)
    frame = pandas.DataFrame(
        {"a": rng.integers(0, 9, 50), "b": rng.integers(0, 9, 50).astype(np.uint8)}
    )
    whole = zm.measure(frame, covariance=True)
    assert whole.covariance.exact
    assert (
        whole.cov(1).tolist() == as_floats(true_covariance(frame.to_numpy().tolist(), 1)).tolist()
    )
    frame["c"] = pandas.array([1, None, 3, 4, 5] * 10, dtype="Int64")
    holes = zm.measure(frame, covariance=True)
    complete = frame.dropna().astype(int).to_numpy().tolist()
    assert (holes.covariance.n, holes.covariance.left_out) == (40, 10)
    assert holes.cov().tolist() == as_floats(true_covariance(complete)).tolist()
    frame["d"] = rng.normal(size=50)
    mixed = zm.measure(frame, covariance=True)
    assert (mixed.covariance.exact, mixed.covariance.left_out) == (False, 10)
    assert np.allclose(mixed.cov(1), frame.dropna().astype(float).cov().to_numpy())


def test_joint_dtype_holds_all_values():
    assert joint_dtype(["uint64", "uint8"]) == "uint64"
    assert joint_dtype(["uint64", "int8"]) == "float64"
    assert joint_dtype(["float32"]) == "float32"


# ---------------------------------------------------------------- files


def profiles():
    yield "uint8", zm.measure(pictures(), "n h w c -> w c", covariance=True)
    yield "wide", zm.measure(numbers("int64", "bits", (9, 3), seed=1), covariance=True)
    yield "float", zm.measure(numbers("float32", "normal", (90, 3), seed=1), covariance=True)
    holes = numbers("float64", "normal", (90, 3), seed=1)
    holes[5, 2] = np.nan
    yield "holes", zm.measure(holes, covariance=True)


@pytest.mark.parametrize(("name", "profile"), list(profiles()))
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_files_hold_the_same_bits(name, profile, suffix, tmp_path):
    path = tmp_path / f"{name}{suffix}"
    profile.save(path)
    loaded = zm.load(path)
    assert loaded == profile
    assert loaded.covariance.scatter == profile.covariance.scatter
    assert loaded.cov(1).tolist() == profile.cov(1).tolist()
    again = tmp_path / f"again{suffix}"
    loaded.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_json_holds_up_to_its_limit(tmp_path):
    large = zm.measure(np.zeros((2, 150), np.uint8), covariance=True)
    with pytest.raises(zm.FormatError, match=r"150 features has 11325 entries.*safetensors"):
        large.save(tmp_path / "x.json")
    large.save(tmp_path / "x.safetensors")
    assert zm.load(tmp_path / "x.safetensors") == large


@pytest.mark.parametrize(
    ("kind", "change", "match"),
    [
        ("uint8", {"n": "fff"}, "covariance.n' contradicts"),
        ("uint8", {"n": "-1"}, "negative count"),
        ("uint8", {"n": "f" * 30}, "impossible count"),
        ("uint8", {"sums": ["0"]}, "list of 12"),
        ("uint8", {"products": "nowhere"}, "nowhere"),
        ("uint8", {"dtype": "int8"}, "'int8', but the data is 'uint8'"),
        ("uint8", {"checksum": "0" * 64}, "checksum"),
        ("uint8", {"left_out": "1"}, "contradicts|checksum"),
        ("float", {"center": ["0x0.0p+0"]}, "must have 3 entries"),
        ("float", {"offset": ["1.0"] * 3}, "not canonical"),
        ("float", {"offset": [1.0] * 3}, "hex floats"),
        ("float", {"spread": ["-0x1.0000000000000p+0"] * 6}, "impossible numbers"),
        ("float", {"blocks": "0"}, "impossible numbers"),
    ],
)
def test_damaged_files_are_refused_by_field(kind, change, match, tmp_path):
    path = tmp_path / "x.json"
    dict(profiles())[kind].save(path)
    document = json.loads(path.read_text())
    document["covariance"] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(zm.FormatError, match=match):
        zm.load(path)
    del document["covariance"]  # which is optional
    path.write_text(json.dumps(document))
    assert zm.load(path).covariance is None


def test_contradicting_products_are_refused(tmp_path):
    path = tmp_path / "x.json"
    dict(profiles())["uint8"].save(path)
    document = json.loads(path.read_text())
    products = document["covariance"]["products"]
    for i, match in ((0, "contradict"), (1, "checksum")):
        changed = [*products]
        changed[i] = "1"
        document["covariance"]["products"] = changed
        path.write_text(json.dumps(document))
        with pytest.raises(zm.FormatError, match=match):
            zm.load(path)


def test_command_line_measures_it(tmp_path):
    x = pictures()
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "x.safetensors"
    arguments = [
        "measure",
        str(tmp_path / "x.npy"),
        "--per",
        "pixel",
        "--covariance",
        "-o",
        str(out),
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert zm.load(out).covariance == zm.measure(x, PIXELS, covariance=True).covariance


def test_centered_scatter_of_nothing_adds_what_was_left_out():
    nothing = CenteredScatter.of(np.full((3, 2), np.nan))
    some = CenteredScatter.of(np.array([[1.0, 2.0], [3.0, 5.0]]))
    for both in (nothing + some, some + nothing):
        assert (both.n, both.left_out) == (2, 3)
        assert np.array_equal(both.spread, some.spread)
