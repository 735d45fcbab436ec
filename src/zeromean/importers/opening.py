"""Opens what may be a foreign file: JSON, or bytes; finds the file in a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from zeromean.errors import FormatError, SourceError

#: Files that people keep numbers in, in the order in which a folder is searched.
_IN_FOLDERS = (
    "processor_config.json",
    "preprocessor_config.json",
    "config.json",
    "meta/stats.json",
    "dataset_fingerprint.json",
)
_REFUSED = {
    (".pkl", ".pickle", ".joblib", ".sav"): (
        "is a pickle, which can run any code when it is read: load it yourself if you trust it, "
        "and pass the object: zm.import_normalizer(scaler)"
    ),
    (".pt", ".pth", ".ckpt", ".bin"): (
        "is a PyTorch checkpoint, which may hold code: load it yourself if you trust it, and pass "
        "the transform: zm.import_normalizer(transform)"
    ),
    (".onnx",): (
        "is a model: look into it with `zeromean check norm.json --model`, and take our own "
        "numbers from the norm.json that it was exported from"
    ),
    (".h5", ".hdf5", ".pb"): "is an old Keras file: load it with Keras and save it as .keras",
    (".scp",): "only says where other files are: give the .ark file that it names",
    (".npy", ".npz"): (
        "holds bare numbers without units: make a normalizer from the data with `zeromean measure`"
    ),
}
_JSON_KINDS = {list: "list", str: "text", bool: "truth value", int: "number", float: "number"}
ZIP = b"PK\x03\x04"
_PICKLES = tuple(bytes([0x80, protocol]) for protocol in (2, 3, 4, 5))


def located(source: str | os.PathLike[str]) -> list[Path]:
    """The file; in a folder, those that may hold numbers, best first.

    Raises
    ------
    SourceError
        When there is none.
    FormatError
        For files that are never read, with what to do instead.
    """
    path = Path(source)
    if path.is_dir():
        held = [name for name in _IN_FOLDERS if (path / name).is_file()]
        if not held:
            raise SourceError(
                f"{path}: holds none of {', '.join(_IN_FOLDERS)}; name the file itself"
            )
        return [path / name for name in held]
    for suffixes, reason in _REFUSED.items():
        if path.suffix.lower() in suffixes:
            raise FormatError(f"{path}: {reason}")
    if not path.is_file():
        raise SourceError(f"{path}: there is no such file")
    return [path]


def content_of(path: Path) -> Any:
    """A JSON object as a dictionary, anything else as bytes; of a zip archive only the first four.

    Raises
    ------
    SourceError
        When it cannot be read.
    FormatError
        For a pickle under another name, or damaged JSON.
    """
    try:
        with path.open("rb") as file:
            content = file.read(len(ZIP))
            if content == ZIP:
                return content  # models have gigabytes
            content += file.read()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from None
    if content.startswith(_PICKLES):
        raise FormatError(f"{path}: {_REFUSED[('.pkl', '.pickle', '.joblib', '.sav')]}")
    start = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start == b"{" or path.suffix.lower() == ".json" or (start == b"[" and _is_json(content)):
        return json_of(content, str(path))
    return content


def _is_json(content: bytes) -> bool:
    """A matrix of Kaldi's in text begins like a JSON list, but has no commas."""
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def json_of(content: bytes | str, place: str) -> dict[str, Any]:
    """A JSON object; NaN is let through, and refused where it is used.

    Raises
    ------
    FormatError
    """
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        held = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{place}: is not valid JSON ({error}); is it complete?") from None
    if not isinstance(held, dict):
        raise FormatError(
            f"{place}: is a JSON {_JSON_KINDS.get(type(held), 'value')}, and the files that are "
            "known here are objects with fields such as image_mean: is this the right one?"
        )
    return held
