"""Saved files: round trips, one set of bytes for one set of numbers, and refusal of all damage.

The golden files under tests/golden hold the promise of docs/format.md. They were written once,
by ``python tests/test_files.py``, and are never written again within format version 1.
"""

from __future__ import annotations

import json
import os
import struct
from fractions import Fraction
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zeromean as zm
from strategies import arrays, cuts
from zeromean.documents import FORMAT, canonical, from_hex, to_hex, write_atomically
from zeromean.errors import FormatError, ZeromeanWarning
from zeromean.profile_file import to_document

GOLDEN = Path(__file__).parent / "golden"
MADE = Path(__file__).parents[2] / "shared" / "data" / "corpus" / "made"
quiet = pytest.mark.filterwarnings("ignore::zeromean.errors.ZeromeanWarning")

PICTURES = (np.arange(2 * 4 * 3 * 3) * 7 % 256).astype(np.uint8).reshape(2, 4, 3, 3)
TABLE = np.array([[0.1, -1e300, np.nan], [0.2, 5e-324, 3.0], [-0.3, 1e300, np.inf]])


def _pictures():
    return zm.measure(PICTURES, "n h w c -> c", channels="RGB")


def _table():
    return zm.measure(TABLE, feature_names=["a", "b", "c"])


def _rest():
    return zm.measure(TABLE[:, :2], quantiles=True) - zm.measure(TABLE[:1, :2], quantiles=True)


def _groups():
    values = np.array([[-128, 5, 127, 7], [1, 2, 3, 4]], np.int64) << 50
    return zm.measure(values, "n (g c) -> g", g=2)


def _halves():
    return zm.measure(np.array([1.5, -0.0, np.nan, 6e-8], np.float16))


def _standard():
    return zm.standardize(_pictures(), ddof=1)


CASES = {
    "pictures": _pictures,
    "table": _table,
    "rest": _rest,
    "groups": _groups,
    "halves": _halves,
    "mean_image": lambda: zm.measure(PICTURES[:, :2, :1].astype(np.float32), "n h w c -> h w c"),
    "empty": lambda: zm.measure(TABLE[:0]),
    "standardize": _standard,
    "zero_mean": lambda: zm.zero_mean(zm.measure(PICTURES, "n h w c ->")),
}


_ENDS = {"rest": (".json",), "halves": (".json",)}  # their tensors are too large to keep
GOLDEN_NAMES = [
    f"{name}{end}" for name in CASES for end in _ENDS.get(name, (".json", ".safetensors"))
]


def readouts(held):
    """What a profile or normalizer says, as plain text that compares NaN with NaN."""
    names = (
        "shift scale ddof constant"
        if isinstance(held, zm.Normalizer)
        else (
            "count mean std min max unit_mean unit_std nan_count inf_count mean_of_item_stds "
            "root_mean_item_variance extrema_exact"
        )
    )
    return {n: repr(np.asarray(getattr(held, n)).tolist()) for n in names.split()}


# ---------------------------------------------------------------- golden files


def test_golden_files_are_there():
    assert sorted(p.name for p in GOLDEN.iterdir()) == sorted(GOLDEN_NAMES)


@quiet
@pytest.mark.parametrize("name", GOLDEN_NAMES)
def test_golden_files_load_to_known_values_and_save_to_the_same_bytes(name, tmp_path):
    held = zm.load(GOLDEN / name)
    expected = CASES[name.split(".")[0]]()
    assert held == expected
    assert readouts(held) == readouts(expected)
    held.save(tmp_path / name)
    assert (GOLDEN / name).read_bytes() == (tmp_path / name).read_bytes()


def test_golden_numbers_by_hand():
    """Not only what the code says of itself: numbers that can be checked with a pencil."""
    document = json.loads((GOLDEN / "pictures.json").read_text())
    red = PICTURES[..., 0].ravel().tolist()
    assert document["format"] == "zeromean/1"
    assert document["kind"] == "profile"
    assert document["mean"][0] == sum(red) / len(red)
    assert document["unit_mean"][0] == sum(red) / (len(red) * 255)
    pairs = document["statistics"]["histogram"][0]
    assert {i: int(count, 16) for i, count in pairs} == {v: red.count(v) for v in red}
    groups = json.loads((GOLDEN / "groups.json").read_text())
    sums = groups["statistics"]["moments"]["sums"]
    assert [int(s, 16) for s in sums] == [(-128 + 5 + 1 + 2) << 50, (127 + 7 + 3 + 4) << 50]
    table = json.loads((GOLDEN / "table.json").read_text())
    assert int(table["statistics"]["moments"]["sums"][1], 16) == 1  # 1e300 - 1e300 + 5e-324
    assert table["mean"] == [float((Fraction(0.1) + Fraction(0.2) - Fraction(0.3)) / 3), 0.0, 3.0]


# ---------------------------------------------------------------- round trips


@quiet
@pytest.mark.parametrize("end", [".json", ".safetensors"])
@pytest.mark.parametrize("name", CASES)
def test_round_trip(name, end, tmp_path):
    held = CASES[name]()
    held.save(tmp_path / f"a{end}")
    loaded = zm.load(str(tmp_path / f"a{end}"))
    assert loaded == held
    assert readouts(loaded) == readouts(held)
    assert type(loaded) is type(held)
    loaded.save(tmp_path / f"b{end}")
    assert (tmp_path / f"a{end}").read_bytes() == (tmp_path / f"b{end}").read_bytes()
    if isinstance(held, zm.Profile):
        assert loaded.provenance == held.provenance
        assert loaded + loaded == held + held
        assert repr(loaded) == repr(held)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@quiet
@settings(max_examples=80)
@given(
    array=arrays(st.tuples(st.integers(0, 9), st.integers(0, 20))),
    pattern=st.sampled_from(["n d -> d", "n d ->"]),
    quantiles=st.booleans(),
)
def test_round_trip_of_any_data(folder, array, pattern, quantiles):
    profile = zm.measure(array, pattern, quantiles=quantiles, workers=1)
    for end in (".json", ".safetensors"):
        profile.save(folder / f"x{end}")
        loaded = zm.load(folder / f"x{end}")
        assert loaded == profile
        assert readouts(loaded) == readouts(profile)
        if quantiles and profile.buckets is not None:
            low, high = loaded.quantile_bounds(0.3)
            assert repr((low, high)) == repr(profile.quantile_bounds(0.3))


def parts_of(profile):
    """The statistics part of both kinds of file, as bytes."""
    document, _ = to_document(profile, tensors=False)
    big, tensors = to_document(profile, tensors=True)
    return (
        canonical(document["statistics"]),
        canonical(big["statistics"]),
        {k: (v.dtype.str, v.shape, v.tobytes()) for k, v in tensors.items()},
    )


@quiet
@settings(max_examples=50)
@given(st.data(), arrays(st.tuples(st.integers(1, 12), st.integers(1, 20))))
def test_same_statistics_give_the_same_bytes_for_any_split(data, array):
    whole = zm.measure(array, "n d -> d", workers=1)
    pieces = [
        zm.measure(array[cut], "n d -> d", workers=1) for cut in data.draw(cuts(len(array), 4))
    ]
    assert parts_of(reduce(add, pieces)) == parts_of(whole)
    assert parts_of(reduce(add, reversed(pieces))) == parts_of(whole)


def test_json_is_one_line_per_field_and_the_printed_text(tmp_path):
    profile = _pictures()
    profile.save(tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    assert text == profile.to_json()
    assert text.isascii()
    assert text.endswith("}\n")
    assert len(text.splitlines()) < 45
    assert list(json.loads(text)["statistics"]) == sorted(json.loads(text)["statistics"])


def test_names_of_any_language_survive(tmp_path):
    names = ["größe", "身長", 'quote " and \\', "\u2028", ""]
    profile = zm.measure(np.zeros((2, 5)), feature_names=names)
    for end in (".json", ".safetensors"):
        profile.save(tmp_path / f"a{end}")
        assert zm.load(tmp_path / f"a{end}").names == names


def test_ten_thousand_entries_fit_json_and_more_do_not(tmp_path):
    fits = zm.measure(np.zeros((1, 10_000), np.float32))
    fits.save(tmp_path / "fits.json")
    assert zm.load(tmp_path / "fits.json") == fits
    more = zm.measure(np.zeros((1, 10_001), np.float32))
    said = "10001 kept entries are too many for .json .at most 10000.; save to .safetensors"
    for thing in (more, zm.zero_mean(more)):
        with pytest.raises(FormatError, match=said):
            thing.save(tmp_path / "more.json")
        assert not (tmp_path / "more.json").exists()
        thing.save(tmp_path / "more.safetensors")
        assert zm.load(tmp_path / "more.safetensors") == thing


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("name", ["a.pkl", "a.npz", "a", "a.JSON", "a.json.gz", ".json"])
def test_other_suffixes_are_refused(name, tmp_path):
    for thing in (_pictures(), _standard()):
        with pytest.raises(FormatError, match=r"use \.json \(small\) or \.safetensors"):
            thing.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path):
    for end in (".json", ".safetensors"):
        path = tmp_path / f"a{end}"
        _pictures().save(path)
        before = path.read_bytes()
        with path.open("rb") as reader:
            _standard().save(path)
            assert reader.read() == before
        assert zm.load(path) == _standard()


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    _pictures().save(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(FormatError, match=r"cannot write .*a\.json: No space left on device"):
            _standard().save(path)

    def interrupted(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupted)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("end", [".json", ".safetensors"])
def test_a_folder_that_cannot_be_written_is_named(end, tmp_path):
    with pytest.raises(FormatError, match=r"cannot write .*missing.a"):
        _pictures().save(tmp_path / "missing" / f"a{end}")
    (tmp_path / f"taken{end}").mkdir()
    with pytest.raises(FormatError, match="cannot write"):
        _pictures().save(tmp_path / f"taken{end}")
    assert [p.name for p in tmp_path.iterdir()] == [f"taken{end}"]


def test_written_files_have_ordinary_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    for end in (".json", ".safetensors"):
        _pictures().save(tmp_path / f"a{end}")
        assert (tmp_path / f"a{end}").stat().st_mode == plain.stat().st_mode


# ---------------------------------------------------------------- damage


def refuses(path, *said):
    """Loading raises a FormatError that names the file."""
    with pytest.raises(FormatError) as caught:
        zm.load(path)
    for part in (path.name, *said):
        assert part in str(caught.value)


def test_missing_and_foreign_files_are_refused(tmp_path):
    refuses(tmp_path / "none.json", "No such file")
    refuses(tmp_path / "none.safetensors", "No such file")
    refuses(tmp_path, "directory")
    for name, data in (
        ("a.json", b""),
        ("b.json", b"[]"),
        ("c.json", b"\x80\x04pickle"),
        ("d.safetensors", b"x" * 99),
    ):
        (tmp_path / name).write_bytes(data)
        refuses(tmp_path / name)
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(3)}, tmp_path / "e.safetensors")
    refuses(tmp_path / "e.safetensors", "not one of zeromean's")


@pytest.mark.skipif(not MADE.is_dir(), reason="the corpus is not beside the repository")
@pytest.mark.parametrize("name", ["nan", "dup_keys", "len_mismatch", "bigint", "string", "proto"])
def test_foreign_statistics_of_the_corpus_are_refused(name):
    refuses(MADE / f"spec_{name}.json")


@pytest.fixture
def edited(tmp_path):
    """Write the pictures' file with a change to its document, and load it."""

    def edit(change, held=None):
        path = tmp_path / "edited.json"
        (held or _pictures()).save(path)
        document = json.loads(path.read_text())
        changed = change(document)
        path.write_text(json.dumps(document if changed is None else changed))
        return path

    return edit


def test_an_unchanged_document_loads(edited):
    """The helper of the next tests does not break files by itself."""
    assert zm.load(edited(lambda d: None)) == _pictures()


def put(*keys, value):
    def change(document):
        place = document
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


WRONG = [
    (put("format", value="zeromean/2"), "upgrade zeromean"),
    (put("format", value="other/1"), "is not a zeromean file"),
    (put("format", value=1), "is not a zeromean file"),
    (put("kind", value="pickle"), "holds a 'pickle'"),
    (put("kind", value=None), "'kind'"),
    (put("pattern", value="n h w c"), "'pattern'"),
    (put("pattern", value="n h w c -> h w c"), "'kept_shape'"),
    (put("sizes", value={"g": 2}), "'pattern'"),
    (put("sizes", value={"c": 4}), "'kept_shape'"),
    (put("sizes", value=[]), "'sizes'"),
    (put("kept_shape", value=[4]), "'histogram'"),
    (put("kept_shape", value=[-3]), "'kept_shape'"),
    (put("kept_shape", value=[True]), "'kept_shape'"),
    (put("kept_shape", value=[3.0]), "'kept_shape'"),
    (put("kept_shape", value=[2**64 + 3]), "'kept_shape'"),
    (put("kept_shape", value=[2**32, 2**32]), "'kept_shape'"),
    (put("kept_shape", value=3), "'kept_shape'"),
    (put("dtype", value="object"), "'dtype'"),
    (put("dtype", value="uint16"), "'checksum'"),
    (put("pattern", value="n w h c -> c"), "'checksum'"),
    (put("checksum", value="0" * 64), "'checksum'"),
    (put("checksum", value=None), "'checksum'"),
    (put("statistics", "item_stds", "stds", 0, value="1"), "'mean_of_item_stds'"),
    (put("dtype", value="int8"), "'"),
    (put("dtype", value="float64"), "'histogram'"),
    (put("range", value=[255, 0]), "'range'"),
    (put("range", value=["0", "255"]), "'range'"),
    (put("range", value=[0, 1]), "'unit_mean'"),
    (put("channels", value=None), "'channels'"),
    (put("feature_names", value=["a"]), "'feature_names'"),
    (put("feature_names", value=[1, 2, 3]), "'feature_names'"),
    (put("items", value="2"), "'items'"),
    (put("items", value=-1), "'items'"),
    (put("items", value=True), "'items'"),
    (put("skipped", value=["x"]), "'skipped'"),
    (put("mean", value=[1.0, 2.0, 3.0]), "'mean' does not follow"),
    (put("mean", value=None), "'mean' does not follow"),
    (put("std", 0, value=7.25), "'std' does not follow"),
    (put("max", 2, value=256), "'max' does not follow"),
    (put("count", 0, value=0), "'count' does not follow"),
    (put("nan_count", 0, value=1), "'nan_count' does not follow"),
    (put("mean_of_item_stds", 0, value=1.5), "'mean_of_item_stds' does not follow"),
    (put("extrema_exact", value=False), "'extrema_exact' does not follow"),
    (put("statistics", value=[]), "'statistics'"),
    (put("statistics", value={}), "'histogram'"),
    (put("statistics", "histogram", value={}), "'histogram'"),
    (put("statistics", "histogram", value="histogram"), "'histogram'"),
    (put("statistics", "histogram", 0, value=[[0]]), "'histogram'"),
    (put("statistics", "histogram", 0, value=[0, 1]), "'histogram'"),
    (put("statistics", "histogram", 0, value=[[256, "1"]]), "'histogram'"),
    (put("statistics", "histogram", 0, value=[[-1, "1"]]), "'histogram'"),
    (put("statistics", "histogram", 0, value=[[1, "0"]]), "'histogram'"),
    (put("statistics", "histogram", 0, value=[[1, "-1"]]), "'histogram'"),
    (put("statistics", "histogram", 0, value=[[1, 1]]), "'histogram'"),
    (put("statistics", "histogram", 0, value=[[1, "0x1"]]), "'histogram'"),
    (put("statistics", "histogram", 0, value=[[1, "01"]]), "'histogram'"),
    (put("statistics", "histogram", 0, value=[[1, "A"]]), "'histogram'"),
    (put("statistics", "histogram", 0, value=[[2, "1"], [1, "1"]]), "'histogram'"),
    (put("statistics", "histogram", 0, value=[[1, "f" * 16]]), "'histogram'"),
    (put("statistics", "histogram", 0, value=[[1, "7" + "f" * 15]]), "'histogram'"),
    (put("statistics", "histogram", 0, value=[[True, "1"]]), "'histogram'"),
    (put("statistics", "moments", value={}), "'moments'"),
    (put("statistics", "item_stds", value=None), "'item_stds'"),
    (put("statistics", "item_stds", "n", value="-1"), "'n'"),
    (put("statistics", "item_stds", "n", value="ffffffffffffffffff"), "'item_stds'"),
    (put("statistics", "item_stds", "variances", 0, value="-5"), "'item_stds'"),
    (put("statistics", "item_stds", "stds", value="x"), "'x'"),
    (put("provenance", value=None), "'provenance'"),
    (put("provenance", "digest", value="0"), "'digest'"),
    (put("provenance", "digest", value="g" * 64), "'digest'"),
    (put("provenance", "bytes", value=None), "'bytes'"),
    (put("provenance", "notes", value={"a": -1}), "'notes'"),
    (put("provenance", "sources", value=[1]), "'sources'"),
    (put("provenance", "versions", value=[]), "'versions'"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_wrong_fields_are_refused_by_name(edited, change, said):
    refuses(edited(change), said)


def test_missing_fields_are_refused_by_name(edited):
    for held in (_pictures(), _standard()):
        for name in json.loads(edited(lambda d: None, held).read_text()):

            def without(document, name=name):
                document.pop(name)

            refuses(edited(without, held), "zeromean file" if name == "format" else repr(name))


MOMENTS_WRONG = [
    (put("statistics", "moments", "exponent", value=0), "'exponent'"),
    (put("statistics", "moments", "n", 0, value="7" + "f" * 15), "'n'"),
    (put("statistics", "moments", "n", 0, value="1" + "0" * 30), "'n'"),
    (put("statistics", "moments", "n", 0, value="0"), "contradict"),
    (put("statistics", "moments", "squares", 0, value="0"), "contradict"),
    (put("statistics", "moments", "squares", 0, value="-1"), "contradict"),
    (put("statistics", "moments", "sums", value=["0"]), "moments.sums"),
    (put("statistics", "moments", "sums", 0, value="f" * 9000), "moments.sums"),
    (put("statistics", "moments", "sums", 0, value="f" * 8000), "contradict"),
    (put("statistics", "moments", "special", value=[["0"]] * 3), "'special'"),
    (put("statistics", "extrema", "low", 0, value=None), "'extrema'"),
    (put("statistics", "extrema", "low", 0, value="inf"), "'extrema'"),
    (put("statistics", "extrema", "low", 0, value="0x1p9999"), "'extrema'"),
    (put("statistics", "extrema", "low", 0, value=0.1), "'extrema'"),
    (put("statistics", "extrema", "low", 0, value="0x1p+3"), "'extrema'"),
    (put("statistics", "extrema", "low", 0, value=(9.0).hex()), "'extrema'"),
    (put("statistics", "extrema", "high", value=[]), "'high'"),
    (put("statistics", "extrema", "exact", value=1), "'exact'"),
    (put("statistics", "extrema", "exact", value=False), "'extrema_exact'"),
    (put("statistics", "bucket", value=[]), "'bucket'"),
]


@quiet
@pytest.mark.parametrize(
    ("change", "said"), MOMENTS_WRONG, ids=[str(i) for i in range(len(MOMENTS_WRONG))]
)
def test_wrong_sums_are_refused_by_name(edited, change, said):
    refuses(edited(change, _table()), said)


@quiet
def test_integer_extrema_stay_in_their_format(edited):
    for value in ("1" + "0" * 16, "8000000000000000", 3, "zz"):
        refuses(
            edited(put("statistics", "extrema", "high", 0, value=value), _groups()), "'extrema'"
        )


def test_bins_that_are_never_used_are_refused(edited):
    """A second NaN, or -0.0: such a state would equal no state that was counted."""
    for code in (0x8000, 0x7E01, 0xFE00):

        def change(document, code=code):
            pairs = document["statistics"]["histogram"][0]
            pairs[:] = sorted([*pairs, [code, "1"]])

        refuses(edited(change, _halves()), "bins that float16 never uses")


@quiet
def test_buckets_that_hold_less_or_more_are_refused(edited):
    refuses(edited(put("statistics", "buckets", 0, value=[]), _rest()), "'buckets'")


NORMALIZER_WRONG = [
    (put("shift", value=["0.5", "1", "2"]), "'shift'"),
    (put("shift", value=[0.5, 1.0, 2.0]), "'checksum'"),
    (put("pattern", value="n w h c -> c"), "'checksum'"),
    (put("shift", value=[True, False, True]), "'shift'"),
    (put("shift", value=[1.0, 2.0]), "'shift'"),
    (put("shift", value=[[1.0, 2.0, 3.0]]), "'shift'"),
    (put("shift", value=[[1.0], 2.0, 3.0]), "'shift'"),
    (put("shift", value=[None, 1.0, 2.0]), "'shift'"),
    (put("shift", value=[10**400, 1.0, 2.0]), "'shift'"),
    (put("scale", value=[0.0, 1.0, 1.0]), "'scale' must be positive"),
    (put("scale", value=[-1.0, 1.0, 1.0]), "'scale' must be positive"),
    (put("scale", value=None), "'scale'"),
    (put("dtype", value="complex128"), "'dtype'"),
    (put("kept_shape", value=[2]), "'shift'"),
    (put("kept_shape", value=[3, 1]), "'kept_shape'"),
    (put("pattern", value="c"), "'pattern'"),
    (put("ddof", value="1"), "'ddof'"),
    (put("recipe", value=5), "'recipe'"),
    (put("constant", value="a"), "'constant'"),
    (put("feature_names", value=["a", "b"]), "'feature_names'"),
]


@pytest.mark.parametrize(
    ("change", "said"), NORMALIZER_WRONG, ids=[str(i) for i in range(len(NORMALIZER_WRONG))]
)
def test_wrong_fields_of_a_normalizer_are_refused_by_name(edited, change, said):
    refuses(edited(change, _standard()), said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"format": NaN}', "NaN"),
        ('{"format": -Infinity}', "Infinity"),
        ('{"format": "zeromean/1", "format": "zeromean/1"}', "'format' twice"),
        ('{"a": {"b": 1, "b": 1}}', "'b' twice"),
        ('{"a": 1e999}', "too large"),
        ('{"a": ' + "9" * 5000 + "}", "valid JSON"),
        ("[" * 100_000, "valid JSON"),
        ('{"a":' * 100_000, "valid JSON"),
        ('{"format": "zeromean/1"} x', "valid JSON"),
        ('"zeromean/1"', "no object"),
        ("\ufeff{}", ""),
    ],
)
def test_json_that_is_no_plain_json_is_refused(tmp_path, text, said):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    refuses(tmp_path / "x.json", said)


def test_json_deep_inside_a_known_field_is_refused(edited):
    nested = []
    for _ in range(400):
        nested = [nested]
    refuses(edited(put("statistics", "histogram", 0, value=nested)), "'histogram'")
    refuses(edited(put("kept_shape", value=nested)), "'kept_shape'")
    refuses(edited(put("shift", value=nested), _standard()), "'shift'")


@pytest.mark.parametrize("name", ["pictures", "groups", "standardize"])
def test_truncation_at_any_byte_is_refused(name, tmp_path):
    data = (GOLDEN / f"{name}.json").read_bytes().rstrip()
    path = tmp_path / "cut.json"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        refuses(path)
    path.write_bytes(data)
    assert zm.load(path)


def outcome(path):
    """What a file holds, or what is said instead."""
    try:
        return zm.load(path), ""
    except FormatError as error:
        return None, str(error)


@quiet
@pytest.mark.parametrize(
    "name", ["pictures.json", "groups.json", "standardize.json", "table.safetensors"]
)
def test_a_flipped_byte_gives_no_other_number(name, tmp_path):
    """Any single wrong byte: refused, or in a part that is no number of the data."""
    data = (GOLDEN / name).read_bytes()
    whole = zm.load(GOLDEN / name)
    expected = readouts(whole)
    path, loaded, refused = tmp_path / f"flipped{Path(name).suffix}", 0, 0
    for at in range(len(data)):
        for flip in (0x01, 0x10) if path.suffix == ".json" else (1 << at % 8,):
            changed = bytearray(data)
            changed[at] ^= flip
            path.write_bytes(changed)
            held, said = outcome(path)
            if held is None:
                assert path.name in said
                refused += 1
                continue
            assert readouts(held) == expected, (at, flip)
            if isinstance(whole, zm.Profile):
                assert held.statistics == whole.statistics
                assert held.items_stds == whole.items_stds
            loaded += 1
    assert refused > loaded > 0


@quiet
@pytest.mark.parametrize("name", ["pictures", "table", "zero_mean"])
def test_damaged_tensors_are_refused(name, tmp_path):
    """Cut anywhere, or any bit of the data wrong."""
    data = (GOLDEN / f"{name}.safetensors").read_bytes()
    path = tmp_path / "damaged.safetensors"
    header = struct.unpack("<Q", data[:8])[0] + 8
    for length in (*range(0, header, 17), *range(header, len(data), 97)):
        path.write_bytes(data[:length])
        refuses(path)
    for at in range(header, len(data), 1 + (len(data) - header) // 500):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        refuses(path)


def test_tensors_of_another_kind_or_shape_are_refused(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(GOLDEN / "table.safetensors", framework="numpy") as file:
        metadata, names = file.metadata(), list(file.keys())
        tensors = {name: file.get_tensor(name) for name in names}
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata=metadata)
    assert zm.load(path) == zm.load(GOLDEN / "table.safetensors")
    for name in names:
        for wrong in (
            tensors[name].astype(np.float32),
            tensors[name][:-1],
            tensors[name][None],
            None,
        ):
            changed = {k: v for k, v in tensors.items() if k != name}
            if wrong is not None:
                changed[name] = np.ascontiguousarray(wrong)
            save_file(changed, path, metadata=metadata)
            refuses(path, name)
    changed = {**tensors, "moments.n": -tensors["moments.n"]}
    save_file(changed, path, metadata=metadata)
    refuses(path, "'n'")


# ---------------------------------------------------------------- hex


@given(st.integers(-(2**4000), 2**4000))
def test_hex_round_trip(value):
    assert from_hex(to_hex([value])[0], "x", negative=True) == value
    if value < 0:
        with pytest.raises(FormatError, match="negative"):
            from_hex(to_hex([value])[0], "x")


@pytest.mark.parametrize(
    "text", ["", "-0", "00", "0x1", " 1", "1 ", "+1", "1_0", "F", "g", "١", None, 5, [], "-"]
)
def test_hex_has_one_spelling(text):
    with pytest.raises(FormatError, match="'field'"):
        from_hex(text, "field", negative=True)


def test_the_format_is_named_once():
    assert FORMAT == "zeromean/1"


if __name__ == "__main__":  # pragma: no cover - run once, by hand
    import warnings

    warnings.simplefilter("ignore", ZeromeanWarning)
    for golden in GOLDEN_NAMES:
        if not (GOLDEN / golden).exists():
            CASES[golden.split(".")[0]]().save(GOLDEN / golden)
