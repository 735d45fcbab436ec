"""Which pages and modules need a package that may be absent: their examples are left out then."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from importlib.util import find_spec

# Nothing of what tests measure is kept in the cache of whoever runs them.
os.environ["ZEROMEAN_CACHE"] = tempfile.mkdtemp(prefix="zeromean-cache-")
atexit.register(shutil.rmtree, os.environ["ZEROMEAN_CACHE"], ignore_errors=True)

_HOWTO = "docs/howto/"
_NEEDS = {
    "jinja2": ["docs/report.md", "src/zeromean/reporting"],
    "cv2": [_HOWTO + "ship-pictures.md"],
    "keras": [_HOWTO + "ship-tables.md", _HOWTO + "ship-pictures.md"],
    "onnx": ["src/zeromean/graphs", *(_HOWTO + p for p in ("ship-elsewhere.md", "ship-onnx.md"))],
    "onnxruntime": [_HOWTO + "ship-onnx.md", _HOWTO + "ship-tables.md"],
    "openvino": [_HOWTO + "ship-pictures.md"],
    "pandas": ["docs/tables.md", _HOWTO + "ship-tables.md"],
    "polars": ["docs/tables.md", "src/zeromean/tabular.py"],
    "pyarrow": ["docs/tables.md", "docs/sources/parquet.md"],
    "sklearn": [
        "src/zeromean/sklearn",
        "docs/sklearn.md",
        *(_HOWTO + page for page in ("import.md", "ship-tables.md")),
    ],
    "torch": [
        "src/zeromean/torch",
        "tests/torchvision_shim.py",
        "docs/torch.md",
        "docs/sources/loaders.md",
        *(_HOWTO + p for p in ("fold.md", "ship-pictures.md", "ship-pytorch.md", "ship-tables.md")),
    ],
    "fsspec": ["docs/sources/remote.md"],
    **{name: ["docs/sources/arrays.md"] for name in "dask h5netcdf h5py xarray zarr".split()},
    "nibabel": ["docs/sources/medical.md"],
    "pydicom": ["docs/sources/medical.md"],
    "soundfile": ["docs/sources/recordings.md"],
    "tifffile": ["docs/sources/rasters.md"],
    "transformers": [_HOWTO + "ship-huggingface.md"],
}

collect_ignore = [path for name, paths in _NEEDS.items() if not find_spec(name) for path in paths]
