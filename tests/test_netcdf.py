"""netCDF and xarray: values as `decode_cf` gives them, in blocks, from files and from memory."""

from __future__ import annotations

import os
import struct
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import block_files
import zeromean as zm
from strategies import numbers, tempers
from zeromean.errors import PatternError, SkippedWarning, SourceError
from zeromean.sources import cutting
from zeromean.sources.classic import variables_of
from zeromean.sources.conventions import decoding_of
from zeromean.sources.opening import Options, open_source
from zeromean.sources.recognition import recognized

netcdf4 = pytest.importorskip("netCDF4")
xarray = pytest.importorskip("xarray")
pytest.importorskip("h5py")

CLASSIC = ("NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA")
FORMS = (*CLASSIC, "NETCDF4", "NETCDF4_CLASSIC")
OLD_DTYPES = ("int8", "int16", "int32", "float32", "float64")
NEW_DTYPES = ("uint8", "uint16", "uint32", "int64", "uint64")


@pytest.fixture
def small(monkeypatch):
    """Blocks of a few values."""
    monkeypatch.setattr(cutting, "_WANTED", 300)
    monkeypatch.setattr(cutting, "_LARGE", 600)


def weather(path, form="NETCDF4", records=30):
    """A file as a weather service writes it: two variables, coordinates, bounds, a grid mapping."""
    rng = np.random.default_rng(0)
    t = (280 + 10 * rng.normal(size=(records, 4, 5))).astype("f4")
    p = rng.integers(-3000, 3000, t.shape).astype("i2")
    p[:1, 0, :4] = -32768
    with netcdf4.Dataset(path, "w", format=form) as file:
        file.createDimension("time", None)
        file.createDimension("lat", 4)
        file.createDimension("lon", 5)
        file.createDimension("bounds", 2)
        time = file.createVariable("time", "f8", ("time",))
        time.units, time.bounds = "days since 2000-01-01", "time_bounds"
        file.createVariable("lat", "f4", ("lat",))[:] = np.arange(4)
        file.createVariable("lon", "f4", ("lon",))[:] = np.arange(5)
        file.createVariable("time_bounds", "f8", ("time", "bounds"))
        file.createVariable("crs", "i4", ())
        height = file.createVariable("t2m", "f4", ("time", "lat", "lon"))
        height.grid_mapping, height.units = "crs", "K"
        height.valid_range = np.array([0, 400], "f4")
        packed = file.createVariable("p", "i2", ("time", "lat", "lon"), fill_value=-32768)
        packed.scale_factor, packed.add_offset, packed.coordinates = 0.01, 5.0, "lat lon"
        packed.set_auto_maskandscale(False)
        if records:
            time[:] = np.arange(records)
            file["time_bounds"][:] = 1
            height[:], packed[:] = t, p
    return path


# ---------------------------------------------------------------- the same bits


@pytest.mark.filterwarnings("ignore::zeromean.ZeromeanWarning")
@pytest.mark.parametrize("form", FORMS)
def test_every_dtype_in_every_form(tmp_path, form):
    """All formats of the file, all types that they have: the bits of the array."""
    new = form in ("NETCDF4", "NETCDF3_64BIT_DATA")
    for dtype in (*OLD_DTYPES, *(NEW_DTYPES if new else ())):
        for temper in tempers(dtype):
            array = numbers(dtype, temper, (30, 7), 3)
            path = tmp_path / f"{dtype}{temper}.nc"
            block_files.netcdf(array, path, form, fill_value=False)
            assert recognized(str(path)) == "netcdf"
            assert zm.measure(path, "n d -> d") == zm.measure(array, "n d -> d"), (dtype, temper)
            path.unlink()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("records", [0, 1, 30])
def test_weather_as_xarray_reads_it(tmp_path, form, records, small):
    """Records between those of other variables, packed values, fill values: as `open_dataset`."""
    path = weather(tmp_path / "w.nc", form, records)
    with xarray.open_dataset(path, engine="netcdf4") as opened:
        for name in ("t2m", "p"):
            values = opened[name].values
            for pattern in ("time lat lon ->", "n y x -> y x", "n y x -> x"):
                expected = zm.measure(values, pattern)
                assert zm.measure(f"{path}:{name}", pattern) == expected
                assert zm.measure(path, pattern, key=name, limit=7) == (
                    zm.measure(values, pattern, limit=7)
                )
                assert zm.measure(opened[name], pattern) == expected
                assert zm.measure(opened, pattern, key=name) == expected
        assert values.dtype == "float64"
    notes = zm.measure(f"{path}:p", "n y x ->").provenance.notes
    assert set(notes) == {
        "scale_factor 0.01 and add_offset 5 applied",
        "-32768 stands for no data",
    }
    assert set(notes.values()) == {records}
    notes = zm.measure(f"{path}:t2m", "n y x ->").provenance.notes
    assert notes == {"valid_range not applied": records}


def test_variables_with_the_same_axes_are_the_columns_of_a_table(tmp_path, small):
    """Without a key and a pattern: one number for each variable, each in its own dtype."""
    path = weather(tmp_path / "w.nc")
    profile = zm.measure(path)
    with xarray.open_dataset(path, engine="netcdf4") as opened:
        columns = {name: opened[name].values for name in ("t2m", "p")}
        assert zm.measure(opened) == profile
        assert zm.measure(opened, limit=4) == zm.measure(path, limit=4)
        loaded = zm.measure(opened.load())
        assert loaded == profile
    with xarray.open_dataset(path, engine="netcdf4") as opened:
        assert zm.measure(opened.chunk({"time": 4, "lat": 3})) == profile
    assert profile.feature_names == ("t2m", "p")
    assert profile.dtypes == ("float32", "float64")
    assert profile.provenance.items == 30
    for name, values in columns.items():
        own = zm.measure(values, "n y x ->")
        column = profile.column(name)
        assert (column.mean, column.std, column.count) == (own.mean, own.std, own.count)
        assert column.nan_count == own.nan_count == (4 if name == "p" else 0)
    with pytest.raises(SourceError) as raised:
        zm.measure(path, "time lat lon ->")
    assert str(raised.value) == (
        "w.nc holds 2 arrays of numbers; name one, such as w.nc:t2m\n"
        "  t2m  (30, 4, 5) float32\n"
        "  p    (30, 4, 5) int16"
    )


def test_integers_without_data_are_missing_in_their_column(tmp_path, small):
    """Also where variables are brought together."""
    array = block_files.integers("int16", (40, 6))
    array[::3, 2] = -1
    path = block_files.netcdf(array, tmp_path / "x.nc", dims=["t", "x"], fill_value=-1)
    with netcdf4.Dataset(path, "a") as file:
        file.createVariable("y", "i4", ("t", "x"))[:] = array
    profile = zm.measure(path)
    assert profile.dtypes == ("int16", "int32")
    assert zm.measure(path, key="x") == zm.measure(f"{path}:x"), "named as one of its dimensions"
    own, other = profile.column("x"), profile.column("y")
    held = zm.measure(array[array != -1])
    assert (own.count, own.nan_count) == ((array != -1).sum(), (array == -1).sum())
    assert (own.mean, own.std, own.quantile(0.3)) == (held.mean, held.std, held.quantile(0.3))
    assert (other.count, other.mean) == (240, zm.measure(array.astype("i4"), "n d ->").mean)


def test_variables_with_other_axes_are_not_brought_together(tmp_path):
    path = weather(tmp_path / "w.nc")
    with netcdf4.Dataset(path, "a") as file:
        file.createVariable("height", "f4", ("lat", "lon"))[:] = 1
    with pytest.raises(SourceError, match=r"w.nc holds 3 arrays of numbers; name one"):
        zm.measure(path)
    with xarray.open_dataset(path) as opened, pytest.raises(SourceError, match="holds 3 arrays"):
        zm.measure(opened)
    assert zm.measure(f"{path}:lat").mean == 1.5, "coordinates, when they are named"
    assert zm.measure(f"{path}:height", "y x ->").count == 20


def test_names_of_axes_stand_in_errors(tmp_path):
    path = weather(tmp_path / "w.nc")
    with pytest.raises(PatternError) as raised:
        zm.measure(f"{path}:t2m")
    assert str(raised.value) == (
        "w.nc:t2m has the axes time, lat, lon of shape (30, 4, 5); give a pattern that says which "
        "of them keep their own numbers: 'time lat lon ->' for one number, "
        "'time lat lon -> lat lon' for one at each place of the others"
    )
    with pytest.raises(PatternError, match=r"w.nc:t2m has its axes in the order time lat lon"):
        zm.measure(f"{path}:t2m", "lat lon time -> time")
    with xarray.open_dataset(path) as opened:
        with pytest.raises(PatternError, match="'time lat lon -> lat lon'"):
            zm.measure(opened["t2m"])
        with pytest.raises(PatternError, match="in the order time lat lon"):
            zm.measure(opened["t2m"], "lon lat time ->")


@pytest.mark.parametrize(
    ("key", "words"), [("crs", "a single number"), ("words", "text"), ("letters", "text")]
)
def test_what_is_no_array_of_numbers_is_refused_by_name(tmp_path, key, words):
    path = weather(tmp_path / "w.nc")
    with netcdf4.Dataset(path, "a") as file:
        file.createVariable("words", str, ("lat",))
        file.createVariable("letters", "S1", ("lat",))
    with pytest.raises(SourceError, match=rf"w.nc:{key} holds {words}, not an array of numbers"):
        zm.measure(path, key=key)


def test_groups_of_a_file(tmp_path):
    path = weather(tmp_path / "w.nc")
    values = np.arange(12, dtype="f4").reshape(4, 3)
    with netcdf4.Dataset(path, "a") as file:
        group = file.createGroup("inner")
        group.createDimension("z", 3)
        group.createVariable("v", "f4", ("lat", "z"))[:] = values
    assert zm.measure(f"{path}:inner/v") == zm.measure(f"{path}:inner") == zm.measure(values)


def test_several_files_are_one_source(tmp_path):
    """Months in files of their own; columns are found by name, whatever their order."""
    paths = [weather(tmp_path / f"{i}.nc", form) for i, form in enumerate(FORMS[:4])]
    one = zm.measure(paths[0])
    assert zm.measure(tmp_path) == one + one + one + one
    with netcdf4.Dataset(tmp_path / "9.nc", "w") as file:
        file.createDimension("time", 3)
        for name in ("p", "t2m"):
            file.createVariable(name, "f8", ("time",))[:] = 1
    with pytest.raises(PatternError, match=r"^9.nc: t2m is float64, but float32 in 0.nc; conv"):
        zm.measure(tmp_path)
    with netcdf4.Dataset(tmp_path / "9.nc", "a") as file:
        file.renameVariable("p", "q")
    with pytest.raises(PatternError, match=r"9.nc holds q, t2m, and 0.nc t2m, p"):
        zm.measure(tmp_path)


# ---------------------------------------------------------------- fill values, scale, offset

_ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "_FillValue": st.integers(-100, 100),
        "missing_value": st.integers(-100, 100),
        "scale_factor": st.sampled_from((0.5, 0.01, 3.0)),
        "add_offset": st.sampled_from((273.15, -8.0)),
    },
)


@given(
    attributes=_ATTRIBUTES,
    dtype=st.sampled_from(("int8", "int16", "int32", "uint8", "float32", "float64")),
    width=st.sampled_from(("float32", "float64")),
    other=st.sampled_from(("float32", "float64")),
)
def test_values_and_dtype_are_those_of_decode_cf(attributes, dtype, width, other):
    """The rules of xarray, for every mixture; integers stay integers, and a mask says the rest."""
    raw = np.arange(-110, 110).astype(dtype)
    held = {}
    for name, value in attributes.items():
        kind = {"scale_factor": width, "add_offset": other}.get(name, dtype)
        held[name] = np.asarray(value).astype(kind)[()]
    variable = xarray.Variable(("x",), raw, held)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of several fill values
        expected = xarray.conventions.decode_cf_variable("v", variable).values
    decoding = decoding_of(raw.dtype, {k: np.array([v]) for k, v in held.items()})
    if decoding is None:
        assert expected.dtype == raw.dtype
        return
    before = raw.copy()
    values, missing = decoding(raw)
    assert (raw == before).all()
    if values.dtype.kind in "iu":
        assert not {"scale_factor", "add_offset"} & set(held)
        assert missing is None or missing.any()
        mask = np.isnan(expected)
        assert ((missing if missing is not None else False) == mask).all()
        assert (values == raw).all()
        return
    assert (values.dtype, missing) == (expected.dtype, None)
    assert values.tobytes() == expected.tobytes() or ((
        np.isnan(values) == np.isnan(expected)
    ).all() and (values[~np.isnan(values)] == expected[~np.isnan(expected)]).all())  # fmt: skip


def test_unsigned_bytes_and_truth_values():
    """``_Unsigned`` and ``dtype`` say that stored integers mean others."""
    raw = np.array([-1, -2, 3], "i1")
    held = {"_Unsigned": "true", "_FillValue": np.int8(-1)}
    values, missing = decoding_of(raw.dtype, held)(raw)
    assert (values.dtype, values.tolist(), missing.tolist()) == ("u1", [255, 254, 3], [1, 0, 0])
    expected = xarray.conventions.decode_cf_variable("v", xarray.Variable(("x",), raw, held)).values
    assert expected.tolist()[1:] == [254, 3]
    back = decoding_of(np.dtype("u1"), {"_Unsigned": b"false"})(np.array([255, 3], "u1"))
    assert (back.array.dtype, back.array.tolist()) == ("i1", [-1, 3])
    truth = decoding_of(np.dtype("i1"), {"dtype": "bool"})(np.array([0, 1], "i1")).array
    assert (truth.dtype, truth.tolist()) == ("bool", [False, True])
    wide = decoding_of(np.dtype(">i2"), {"_Unsigned": "true"})(np.array([-1], ">i2")).array
    assert wide.tolist() == [65535]


def test_fill_values_that_no_value_can_have_are_left_out():
    """Not numbers, out of range, with a fraction: there is nothing that they could stand for."""
    for value in (np.nan, np.inf, 0.5, 70000, "x"):
        assert decoding_of(np.dtype("i2"), {"_FillValue": value}) is None
    assert decoding_of(np.dtype("i2"), {"missing_value": -9999.0}).fills == (-9999,)
    assert decoding_of(np.dtype("f4"), {"missing_value": 1e20}).fills == (float(np.float32(1e20)),)
    assert decoding_of(np.dtype("f4"), {"_FillValue": np.nan}) is None
    assert decoding_of(np.dtype("i2"), {"scale_factor": "wide", "add_offset": [1.0, 2.0]}) is None
    both = {"_FillValue": np.int16(5), "missing_value": np.array([5, 6], "i2")}
    assert decoding_of(np.dtype("i2"), both).fills == (5, 6)


def test_integers_with_a_fill_value_stay_integers(tmp_path, small):
    """Exact counts of every value; the item says where there is no data."""
    array = block_files.integers("int16", (40, 6))
    array[::3, 2] = -1
    path = block_files.netcdf(array, tmp_path / "x.nc", fill_value=-1)
    (opened,) = open_source(path, None, Options())
    items = [item for shard in opened.shards() for item in shard.items()]
    assert (np.concatenate([item.array for item in items]) == array).all()
    masks = [np.zeros(i.array.shape, bool) if i.missing is None else i.missing for i in items]
    assert (np.concatenate(masks) == (array == -1)).all()
    assert len(items) > 1
    profile = zm.measure(path)
    assert profile.dtype == "int16"
    assert profile.count.tolist() == (array != -1).sum(0).tolist()
    assert profile.nan_count.tolist() == (array == -1).sum(0).tolist()
    columns = [zm.measure(column[column != -1]) for column in array.T]
    assert profile.mean.tolist() == [column.mean for column in columns]
    assert profile.std.tolist() == [column.std for column in columns]


def test_floats_with_a_fill_value_have_nan_there(tmp_path):
    array = np.random.default_rng(1).normal(size=(40, 6)).astype("f4")
    array[::3, 2] = 1e20
    for form in ("NETCDF3_CLASSIC", "NETCDF4"):
        path = block_files.netcdf(array, tmp_path / f"{form}.nc", form, fill_value=1e20)
        expected = np.where(array == np.float32(1e20), np.float32(np.nan), array)
        assert zm.measure(path) == zm.measure(expected)


# ---------------------------------------------------------------- recognition


def test_hdf5_files_with_the_mark_of_netcdf_are_netcdf(tmp_path):
    """By their content, whatever the ending; other HDF5 files are not."""
    array = block_files.integers("int16", (4, 3))
    path = block_files.netcdf(array, tmp_path / "x.h5")
    assert recognized(str(path)) == "netcdf"
    assert recognized(str(block_files.hdf5(array, tmp_path / "y.h5"))) == "hdf5"
    xarray.Dataset({"v": (("a", "b"), array)}).to_netcdf(tmp_path / "z.data", engine="h5netcdf")
    assert recognized(str(tmp_path / "z.data")) == "netcdf"
    assert zm.measure(tmp_path / "z.data") == zm.measure(array)
    for form in CLASSIC:
        path = block_files.netcdf(array, tmp_path / "c.bin", form)
        assert recognized(str(path)) == "netcdf"


# ---------------------------------------------------------------- netCDF 3, read by its bytes


@pytest.mark.parametrize("form", CLASSIC)
def test_headers_say_what_the_c_library_says(tmp_path, form):
    """Names, dims, shapes, dtypes and attributes of every variable."""
    path = weather(tmp_path / "w.nc", form)
    with netcdf4.Dataset(path, "a") as file:
        file.createDimension("größe", 3)
        odd = file.createVariable("odd name", "i1", ("größe",))
        odd.text, odd.many = "höhe", np.arange(3, dtype="i2")
        odd[:] = 7
    held = {variable.name: variable for variable in variables_of(str(path))}
    with netcdf4.Dataset(path) as file:
        file.set_auto_maskandscale(False)
        assert list(held) == list(file.variables)
        for name, variable in file.variables.items():
            own = held[name]
            assert (own.dims, own.shape) == (variable.dimensions, variable.shape)
            assert own.dtype.newbyteorder("=") == variable.dtype
            assert (own.mapped(str(path)) == variable[:]).all()
            assert set(own.attributes) == set(variable.ncattrs())
    assert held["odd name"].attributes["text"].decode() == "höhe"
    assert held["odd name"].attributes["many"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("form", CLASSIC)
def test_a_single_variable_of_records_is_not_padded(tmp_path, form):
    """Three bytes a record: the exception that the format makes for a lone variable."""
    with netcdf4.Dataset(tmp_path / "x.nc", "w", format=form) as file:
        file.createDimension("t", None)
        file.createDimension("x", 3)
        file.createVariable("v", "i1", ("t", "x"))[:] = np.arange(30).reshape(10, 3)
    assert zm.measure(tmp_path / "x.nc") == zm.measure(np.arange(30, dtype="i1").reshape(10, 3))


def test_a_file_that_was_being_written_has_the_records_that_it_has(tmp_path):
    """A count of "streaming" stands for as many as the length of the file gives."""
    path = weather(tmp_path / "w.nc", "NETCDF3_CLASSIC")
    expected = zm.measure(path)
    data = path.read_bytes()
    path.write_bytes(data[:4] + b"\xff" * 4 + data[8:])
    assert zm.measure(path) == expected


@pytest.mark.parametrize("form", CLASSIC)
def test_files_that_are_cut_off_are_errors_and_not_zeros(tmp_path, form):
    """The C library reads zeros there."""
    path = weather(tmp_path / "w.nc", form)
    data = path.read_bytes()
    for end in (len(data) - 4, len(data) // 2):
        path.write_bytes(data[:end])
        with pytest.raises(SourceError, match=r"^w.nc: is cut off: p ends at byte [\d,]+, the"):
            zm.measure(f"{path}:p", "n y x ->")
    for end in range(4, 900, 7):
        path.write_bytes(data[:end])
        with pytest.raises(SourceError, match=r"w.nc"):
            zm.measure(f"{path}:p", "n y x ->")


@given(at=st.integers(3, 700), value=st.integers(0, 255))
def test_damaged_headers_never_end_in_a_traceback(tmp_path_factory, at, value):
    """Any byte of it changed: numbers, or one sentence with the name of the file."""
    folder = tmp_path_factory.mktemp("damaged")
    data = bytearray(weather(folder / "w.nc", "NETCDF3_64BIT_OFFSET").read_bytes())
    data[at] = value
    (folder / "w.nc").write_bytes(data)
    with suppress(SourceError, PatternError):
        zm.measure(folder / "w.nc", "n y x ->", key="t2m")


def test_huge_counts_are_refused_before_memory_is_taken(tmp_path):
    """Lists, names and shapes that claim more than there are bytes."""
    path = tmp_path / "x.nc"
    huge = struct.pack(">I", 0x7FFFFFFF)
    for tail in (struct.pack(">I", 10) + huge, struct.pack(">II", 10, 1) + huge):
        path.write_bytes(b"CDF\x01" + struct.pack(">I", 1) + tail + bytes(64))
        with pytest.raises(SourceError, match=r"^x.nc: cannot be read as netCDF 3: its header is"):
            zm.measure(path)
    good = weather(path, "NETCDF3_CLASSIC").read_bytes()
    path.write_bytes(good[:4] + struct.pack(">I", 0x7FFFFFF0) + good[8:])
    with pytest.raises(SourceError, match="is cut off"):
        zm.measure(f"{path}:t2m", "n y x ->")


def test_netcdf_4_files_that_are_damaged(tmp_path):
    """A chunk with a wrong checksum loses its block; a cut file is an error by its name."""
    import h5py

    array = block_files.integers("int16", (600, 3))
    more = {"chunksizes": (100, 3), "fletcher32": True, "fill_value": False}
    path = block_files.netcdf(array, tmp_path / "x.nc", **more)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(SourceError, match=r"^x.nc: cannot be read: "):
        zm.measure(path)
    path.write_bytes(good)
    with h5py.File(path) as file:
        chunk = file["x"].id.get_chunk_info(2)
    held = bytearray(good)
    held[chunk.byte_offset + 9] ^= 1
    path.write_bytes(held)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "_WANTED", 700)
        with pytest.warns(SkippedWarning, match=r"x.nc:x\[200:300\]: cannot be read: "):
            profile = zm.measure(path)
    assert profile == zm.measure(np.concatenate([array[:200], array[300:]]))


# ---------------------------------------------------------------- ledger


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF4"])
def test_blocks_are_entries(tmp_path, small, form):
    """With the stamp of the file, also where variables are brought together."""
    path = weather(tmp_path / "w.nc", form)
    os.utime(path, ns=(10**18, 10**18))
    (opened,) = open_source(path, None, Options())
    entries = list(opened.entries())
    assert len({entry.name for entry in entries}) == len(entries) > 3
    assert entries[0].stamp[:2] == (path.stat().st_size, 10**18)
    for i, shard in enumerate(opened.shards_of([2, 0])):
        items = list(shard.items())
        assert items[0].name == entries[2 - 2 * i].name if len(items) == 1 else True
        assert [item.stamp for item in items] == [
            entry.stamp for item in items for entry in entries if entry.name == item.name
        ]
    expected = zm.measure(path)
    for _ in range(2):
        assert zm.measure(path, ledger=tmp_path / "l") == expected


# ---------------------------------------------------------------- objects of xarray


def test_arrays_of_xarray_in_memory_lazy_and_of_dask(tmp_path, small):
    """The same bits however they lie, whole and with a limit, also in another process."""
    array = np.random.default_rng(2).normal(size=(40, 6, 5)).astype("f4")
    path = block_files.netcdf(array, tmp_path / "x.nc", dims=["time", "lat", "lon"])
    pattern, expected = "time lat lon -> lat", zm.measure(array, "time lat lon -> lat")
    with (
        xarray.open_dataset(path, engine="h5netcdf") as lazy,
        xarray.open_dataset(path, engine="netcdf4", chunks={"time": 7, "lon": 2}) as chunked,
        ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool,
    ):
        held = [lazy["x"], chunked["x"], xarray.DataArray(array), lazy["x"].variable]
        held += [xarray.DataArray(array, dims=("time", "lat", "lon"), name="t")]
        held += [lazy["x"].transpose("lon", "time", "lat").transpose("time", "lat", "lon")]
        for source in held:
            assert zm.measure(source, pattern) == expected
            assert zm.measure(source, pattern, limit=9) == zm.measure(array, pattern, limit=9)
            assert zm.measure(source, pattern, executor=pool) == expected
        assert not lazy["x"].variable._in_memory, "measuring must not load it"
    assert zm.measure(held[4], pattern).provenance.sources == ("t",)


def test_data_sets_of_xarray_that_hold_no_numbers():
    dataset = xarray.Dataset(
        {
            "when": (("x",), np.array(["2000-01-01"], "M8[ns]")),
            "word": (("x",), np.array(["a"])),
            "one": ((), 3.0),
        }
    )
    with pytest.raises(SourceError, match="data set holds no array of numbers: when holds dat"):
        zm.measure(dataset)
    for name, words in (("when", "dates"), ("word", "text"), ("one", "a single number")):
        with pytest.raises(SourceError, match=f"{name} holds {words}, not an array of numbers"):
            zm.measure(dataset[name])
        with pytest.raises(SourceError, match=f"data set:{name} holds {words}, not an array"):
            zm.measure(dataset, key=name)
    tree = xarray.DataTree.from_dict({"/a": dataset})
    with pytest.raises(SourceError, match="a DataTree holds several data sets; give one: tree"):
        zm.measure(tree)


def test_groups_by_label_follow_the_first_axis():
    array = np.random.default_rng(3).normal(size=(20, 4))
    labels = [i % 3 for i in range(20)]
    held = xarray.DataArray(array)
    assert zm.measure(held, by=labels) == zm.measure(array, by=labels)
