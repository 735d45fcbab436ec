"""The same pictures in every container: one profile; and what every listed source promises."""

from __future__ import annotations

import pickle
import shutil
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeromean as zm
from zeromean.accumulation import Plan, combine, measure_shard
from zeromean.sources import ListedSource
from zeromean.sources.opening import Options, open_source

CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10-train-5k"
PER_CHANNEL = "n h w c -> c"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The 5 000 real pictures, or 150 made ones: lossless, in class folders."""
    if CIFAR.exists():
        return CIFAR
    below = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(10)
    for i in range(150):
        path = below / f"class{i % 3}" / f"{i:04d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return below


@pytest.fixture(scope="module")
def files(folder):
    return sorted(folder.rglob("*.png"))


@pytest.fixture(scope="module")
def truth(folder):
    return zm.measure(folder)


@pytest.fixture(scope="module")
def stack(files):
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in files])


@pytest.fixture(scope="module")
def below(tmp_path_factory):
    return tmp_path_factory.mktemp("containers")


# ---------------------------------------------------------------- containers of files


def a_tar(below, folder, files, suffix=".tar"):
    path = below / f"x{suffix}"
    with tarfile.open(path, "w" if suffix == ".tar" else "w:gz") as archive:
        for file in files:
            archive.add(file, file.relative_to(folder).as_posix())
    return path


def a_tar_gz(below, folder, files):
    return a_tar(below, folder, files, ".tar.gz")


def a_webdataset(below, folder, files):
    writer = pytest.importorskip("webdataset").TarWriter
    for shard in range(2):
        with writer(str(below / f"wds-{shard:02d}.tar"), encoder=False) as sink:
            for i, file in enumerate(files[shard::2]):
                sink.write({"__key__": f"{i:06d}", "png": file.read_bytes(), "cls": b"1"})
    return str(below / "wds-{00..01}.tar")


def a_zip(below, folder, files):
    path = below / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.relative_to(folder).as_posix())
    return path


def a_parquet(below, folder, files):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = below / "x.parquet"
    column = [{"bytes": f.read_bytes(), "path": f.relative_to(folder).as_posix()} for f in files]
    parquet.write_table(pa.table({"image": column}), path, row_group_size=700)
    return path


def a_remote_folder(below, folder, files):
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    for file in files:
        store.pipe(f"/same/{file.relative_to(folder).as_posix()}", file.read_bytes())
    return "memory://same"


def a_list(below, folder, files):
    path = below / "files.txt"
    path.write_text("\n".join(map(str, files)))
    return f"@{path}"


FILES = [a_tar, a_tar_gz, a_webdataset, a_zip, a_parquet, a_remote_folder, a_list]


@pytest.mark.parametrize("made", FILES, ids=lambda made: made.__name__)
def test_containers_of_files_give_one_profile(made, below, folder, files, truth):
    """The same statistics, and the same digest of what was read."""
    profile = zm.measure(made(below, folder, files))
    assert profile == truth
    assert profile.provenance.digest == truth.provenance.digest
    assert profile.provenance.items == len(files)
    assert np.array_equal(profile.mean_of_item_stds, truth.mean_of_item_stds)


# ---------------------------------------------------------------- arrays


def an_npy(below, stack):
    path = below / "x.npy"
    np.save(path, stack)
    return path


def an_npz(below, stack):
    path = below / "x.npz"
    np.savez_compressed(path, x=stack)
    return path


def an_hdf5(below, stack):
    h5py = pytest.importorskip("h5py")
    path = below / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=stack, chunks=(90, *stack.shape[1:]), compression="gzip")
    return path


def a_zarr(below, stack):
    zarr = pytest.importorskip("zarr")
    path = below / "x.zarr"
    held = zarr.create_array(
        path, shape=stack.shape, chunks=(77, *stack.shape[1:]), dtype=stack.dtype
    )
    held[:] = stack
    return path


def a_netcdf(below, stack):
    netcdf = pytest.importorskip("netCDF4")
    path = below / "x.nc"
    with netcdf.Dataset(path, "w") as file:
        for name, size in zip("nhwc", stack.shape, strict=True):
            file.createDimension(name, size)
        file.createVariable("x", "u1", tuple("nhwc"), fill_value=False)[:] = stack
    return path


def a_dask_array(below, stack):
    array = pytest.importorskip("dask.array")
    return array.from_array(stack, chunks=(64, 32, 16, 3))


def a_cifar_batch(below, stack):
    path = below / "data_batch_1.bin"
    planes = stack.transpose(0, 3, 1, 2).reshape(len(stack), -1)
    path.write_bytes(np.hstack([np.zeros((len(stack), 1), np.uint8), planes]).tobytes())
    return path


def an_idx(below, stack):
    path = below / "train-images-idx4-ubyte"
    sizes = b"".join(size.to_bytes(4, "big") for size in stack.shape)
    path.write_bytes(b"\0\0\x08\x04" + sizes + stack.tobytes())
    return path


ARRAYS = [
    an_npy, an_npz, an_hdf5, a_zarr, a_netcdf, a_dask_array, a_cifar_batch, an_idx,
]  # fmt: skip


@pytest.mark.parametrize("made", ARRAYS, ids=lambda made: made.__name__)
def test_arrays_of_the_same_pixels_give_that_profile(made, below, stack, truth):
    profile = zm.measure(made(below, stack), PER_CHANNEL, channels="RGB")
    assert profile.statistics == truth.statistics
    assert profile == truth


def test_loaders_give_that_profile(files, truth):
    """A data set and a loader with two processes of its own, shuffled: bytes as they are."""
    torch = pytest.importorskip("torch")

    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return len(files)

        def __getitem__(self, i):
            pixels = np.asarray(Image.open(files[i]).convert("RGB"))
            return torch.from_numpy(pixels.copy()), i % 10

    loader = torch.utils.data.DataLoader(Pictures(), batch_size=70, shuffle=True)
    for source in (Pictures(), loader):
        profile = zm.measure(source, PER_CHANNEL, channels="RGB")
        assert profile == truth


# ---------------------------------------------------------------- what a listed source promises


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Nine pictures, a broken one, and an array of a hundred rows."""
    below = tmp_path_factory.mktemp("few")
    rng = np.random.default_rng(11)
    for i in range(9):
        size = (5 + i % 2, 4, 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(below / f"{i}.png")
    (below / "torn.png").write_bytes((below / "0.png").read_bytes()[:50])
    return below


def listed_sources(few, tmp_path):
    """One listed source of every kind that is installed here, with a pattern."""
    files = sorted(few.glob("*.png"))
    data = np.random.default_rng(12).integers(0, 256, (100, 4, 4, 3), dtype=np.uint8)
    for made in (a_tar, a_zip, a_parquet, a_remote_folder):
        yield made.__name__, made(tmp_path, few, files), None
    yield "folder", few, None
    for made in (an_npy, an_hdf5, a_zarr, a_netcdf, an_idx):
        yield made.__name__, made(tmp_path, data), PER_CHANNEL


def test_listed_sources_keep_their_promise(few, tmp_path):
    """Entries are the items, by name and stamp; any choice of them, in any order; pickled."""
    seen = 0
    for name, path, pattern in listed_sources(few, tmp_path):
        parsed = None if pattern is None else zm.Pattern.parse(pattern)
        (source,) = open_source(path, parsed, Options())
        if not isinstance(source, ListedSource):
            continue
        seen += 1
        entries = list(source.entries())
        assert len({entry.name for entry in entries}) == len(entries), name
        backward = list(range(len(entries)))[::-1]
        shards = list(source.shards_of(backward))
        items = [item for shard in pickle.loads(pickle.dumps(shards)) for item in shard.items()]
        whole = [item for item in items if not item.more]
        found = {item.name: item.stamp for item in whole}
        assert found == {entry.name: entry.stamp for entry in entries}, name
        assert all(isinstance(item.stamp, tuple) and item.stamp for item in whole), name
        plan = Plan(source.pattern, colors="RGB")
        parts = [measure_shard(shard, plan) for shard in shards]
        alone = [measure_shard(s, plan) for i in backward for s in source.shards_of([i])]
        total, split = (combine(iter(each), source.pattern) for each in (parts, alone))
        assert [p.statistics for p in total.partials.values()] == [
            p.statistics for p in split.partials.values()
        ], name
        assert total.record.skipped == split.record.skipped, name
    assert seen >= 5


def test_ledgers_of_every_listed_source(few, tmp_path):
    """A second run measures nothing; the bits are those of a run without a ledger."""

    for name, path, pattern in listed_sources(few, tmp_path):
        parsed = None if pattern is None else zm.Pattern.parse(pattern)
        (source,) = open_source(path, parsed, Options())
        if not isinstance(source, ListedSource):
            continue
        ledger = tmp_path / f"{name}.ledger"
        time.sleep(0.05)  # past the tick of the file system's clock: else it is read again
        plain = quietly(path, pattern)
        first = quietly(path, pattern, ledger=ledger)
        told = []
        again = quietly(path, pattern, ledger=ledger, progress=told.append)
        assert first == plain == again, name
        assert first.provenance.items == plain.provenance.items == again.provenance.items, name
        assert first.provenance.digest == plain.provenance.digest == again.provenance.digest, name
        assert first.provenance.skipped == plain.provenance.skipped == again.provenance.skipped
        assert max(progress.items for progress in told) == 0, name


def quietly(path, pattern, **options):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zm.SkippedWarning)
        return zm.measure(path, pattern, **options)


def test_what_else_a_folder_holds_is_said(few, tmp_path):
    """One format of a mixed folder is measured, and the others are named."""
    mixed = tmp_path / "mixed"
    shutil.copytree(few, mixed)
    (mixed / "torn.png").unlink()
    (mixed / "labels.csv").write_text("a,b\n")  # lists of labels are no news
    assert zm.measure(mixed).provenance.items == 9
    a_tar(mixed, few, sorted(few.glob("*.png")))
    with pytest.warns(zm.ZeromeanWarning, match="as image files; it also holds 1 tar, left out"):
        assert zm.measure(mixed).provenance.items == 9
