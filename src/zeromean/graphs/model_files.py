"""Reads and writes ONNX models, with the tensors that they keep in files beside them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zeromean import documents
from zeromean.errors import FormatError, SourceError

_MOST_BYTES = 2**31 - 1  # of one protobuf message
#: What element types are called in ONNX.
TYPES = {
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "float16": "FLOAT16",
    "bfloat16": "BFLOAT16",
    "uint8": "UINT8",
    "int8": "INT8",
    "uint16": "UINT16",
    "int16": "INT16",
    "uint32": "UINT32",
    "int32": "INT32",
    "uint64": "UINT64",
    "int64": "INT64",
    "bool": "BOOL",
}


def library() -> Any:
    """The module `onnx`.

    Raises
    ------
    ImportError
        When it is not installed, with what to install.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.external_data_helper
        import onnx.helper
        import onnx.inliner
        import onnx.numpy_helper
        import onnx.reference
        import onnx.version_converter
    except ImportError as error:
        raise ImportError('ONNX models need `pip install "zeromean[onnx]"`') from error
    return onnx


def element_type(dtype: str) -> int:
    """The number of a dtype in ONNX."""
    return int(getattr(library().TensorProto, TYPES[dtype]))


def dtype_name(element: int) -> str:
    """The name of an element type of ONNX, such as "float32"."""
    name = str(library().TensorProto.DataType.Name(element))
    return {onnx_name: ours for ours, onnx_name in TYPES.items()}.get(name, name.lower())


def read_model(source: Any) -> Any:
    """A model from a path, with its external tensors; a ModelProto is handed back as it is.

    Raises
    ------
    SourceError
        When there is no such file.
    FormatError
        When it is no ONNX model, or its external tensors are missing.
    """
    onnx = library()
    if isinstance(source, onnx.ModelProto):
        return source
    if not isinstance(source, str | os.PathLike):
        raise FormatError(
            f"a model is a path or an onnx.ModelProto, not a {type(source).__name__}; export it "
            "first, with torch.onnx.export for instance"
        )
    path = Path(source)
    if not path.is_file():
        raise SourceError(f"{path}: there is no such model file")
    return _parsed(onnx, path)


def _parsed(onnx: Any, path: Path) -> Any:
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except Exception as error:
        if type(error).__name__ != "DecodeError":  # of protobuf, which only onnx imports
            raise
        raise FormatError(f"{path}: is not an ONNX model") from None
    if not model.HasField("graph") or not model.graph.node:
        raise FormatError(f"{path}: is not an ONNX model, or one without operators")
    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (OSError, onnx.checker.ValidationError, ValueError) as error:
        raise FormatError(
            f"{path}: its weights lie in another file, which cannot be read ({error}); put that "
            "file beside the model"
        ) from None
    return model


def model_bytes(model: Any) -> bytes:
    """A model as the bytes of one file.

    Raises
    ------
    FormatError
        When it is too large for one file.
    """
    if model.ByteSize() > _MOST_BYTES:
        raise FormatError(
            f"the model has {model.ByteSize():,} bytes, too many for one ONNX file; "
            "zeromean.graphs.model_files.write_model puts the weights in a file beside it"
        )
    return bytes(model.SerializeToString(deterministic=True))


def write_model(model: Any, path: str | os.PathLike[str], *, most_bytes: int = _MOST_BYTES) -> None:
    """Write a model; the weights go to `path` + ".data" where one file cannot hold them.

    Parameters
    ----------
    model : onnx.ModelProto
    path : path
        An old file is replaced at once, or stays as it is.
    most_bytes : int
        Of a model in one file.

    Raises
    ------
    FormatError
        When the folder cannot be written.
    """
    target = Path(path)
    if model.ByteSize() <= most_bytes:
        content = model_bytes(model)
        documents.write_atomically(target, lambda p: _write_bytes(p, content))
        return
    onnx = library()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (target.parent / f"{target.name}.data").unlink(missing_ok=True)  # onnx appends to it
    onnx.save(
        copy, target, save_as_external_data=True, location=f"{target.name}.data", size_threshold=0
    )


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
