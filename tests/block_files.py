"""Arrays in every container that is read in blocks, each written by its own library."""

from __future__ import annotations

import numpy as np
import pytest


def hdf5(array, path, chunks=None, **options):
    """A data set of an HDF5 file; returns the path."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        grows = None if chunks is None else (None,) * array.ndim
        file.create_dataset("x", data=array, chunks=chunks, maxshape=grows, **options)
    return path


def zarr(array, path, chunks=None, version=3, **options):
    """An array of a Zarr store, a folder or zip file; returns the path."""
    library = pytest.importorskip("zarr")
    store = library.storage.ZipStore(path, mode="w") if path.suffix == ".zip" else str(path)
    group = library.open_group(store, mode="w", zarr_format=version)
    held = group.create_array("x", data=array, chunks=chunks or array.shape, **options)
    assert held.shape == array.shape
    if path.suffix == ".zip":
        store.close()
    return path


def netcdf(array, path, form="NETCDF4", dims=None, **options):
    """A variable of a netCDF file, written by the netCDF C library; returns the path."""
    library = pytest.importorskip("netCDF4")
    names = dims or [f"axis{i}" for i in range(array.ndim)]
    with library.Dataset(path, "w", format=form) as file:
        for name, length in zip(names, array.shape, strict=True):
            file.createDimension(name, length)
        variable = file.createVariable("x", array.dtype, names, **options)
        variable.set_auto_maskandscale(False)
        variable[:] = array
    return path


def dask(array, chunks):
    """An array of Dask."""
    return pytest.importorskip("dask.array").from_array(array, chunks=chunks)


def integers(dtype, shape, seed=0):
    """All values of an integer format, as likely as each other."""
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
