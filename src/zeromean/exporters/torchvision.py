"""torchvision: a Python file with the v2 transforms that end in `Normalize`.

Read in torchvision 0.28: `ToDtype(float32, scale=True)` multiplies integers by float32(1 / top of
their dtype), two roundings, and leaves floats as they are; `Normalize` rounds mean and std to
float32, subtracts and divides. Together 5.51 ulp at most, 6.51 with an offset, 2 less for floats
(see `squares`).

Whitening becomes a `LinearTransformation` in float64, as torchvision's is a row vector times a
matrix over all values of a picture, channels first: (x - mean) @ matrix. One rounding to float32
follows: 0.51 ulp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.exporters.channels import channels_of, ordered
from zeromean.exporters.forms import Form, expected, form_of
from zeromean.exporters.spelling import banner, check_size, flat
from zeromean.exporters.squares import (
    PictureMade,
    check_count_known,
    check_top,
    places_of,
    roundings,
    square_of,
    unsquared,
)
from zeromean.exporters.targets import CannotRun, Made, Order, Target

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]

_TITLE = "torchvision"
_FEEDS = "RGB"  # what `ToImage` makes of a Pillow picture
#: What `ToDtype(scale=True)` divides by.
_TOPS = {
    "uint8": 255.0,
    "uint16": 65535.0,
    "int8": 127.0,
    "int16": 32767.0,
    "float16": 1.0,
    "float32": 1.0,
    "float64": 1.0,
}
_MEAN_AND_STD = """\
# Of data in 0..1.
MEAN = [
    {mean},
]
STD = [
    {std},
]

transform = v2.Compose(
    [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean=MEAN, std=STD),
    ]
)
"""
_WHITENING = """\
# Of raw data, over all values of a picture, channels first: (x - MEAN) @ MATRIX.
MEAN = torch.tensor([
    {mean},
], dtype=torch.float64)
MATRIX = torch.tensor([
    {matrix},
], dtype=torch.float64).reshape(MEAN.numel(), MEAN.numel())

transform = v2.Compose(
    [
        v2.ToImage(),
        v2.ToDtype(torch.float64),
        v2.LinearTransformation(MATRIX, MEAN),
        v2.ToDtype(torch.float32),
    ]
)
"""


def _make(norm: Normalizer, order: Order) -> Made:
    if norm.matrix is not None:
        return _whitening(norm, order)
    channels = channels_of(norm, _TITLE, to_unit=True, wants=_FEEDS, declared=order.channels)
    check_top(norm, _TITLE, _TOPS)
    check_count_known(norm, channels, _TITLE)
    body = _MEAN_AND_STD.format(
        mean=flat(channels.mean, indent="    "), std=flat(channels.std, indent="    ")
    )
    expects = _expects(norm, channels.order, channels.form)
    content = _file(norm, order, expects, body)
    arguments = {"mean": channels.mean.tolist(), "std": channels.std.tolist()}
    is_float = norm.dtype.startswith("float")
    return PictureMade(
        content,
        _value(content, arguments),
        expects,
        "float32, axes (c, h, w)",
        channels.carried,
        channels.lost,
        bound=roundings(channels.carried, x=0 if is_float else 2, mean=1, std=1),
        places=places_of(norm, channels),
    )


def _file(norm: Normalizer, order: Order, expects: str, body: str) -> bytes:
    head = (
        f'"""{banner(norm, order.name)}\n\nExpects {expects}.\n"""\n\n'
        "import torch\nfrom torchvision.transforms import v2\n\n"
    )
    return (head + body).encode()


def _expects(norm: Normalizer, order: str, form: Form) -> str:
    axes = "h w" if form.layout == "hw" else "h w c"
    fed = "a Pillow picture or an array" if norm.dtype == "uint8" else "an array"
    return f"{fed}: {expected(norm, axes=axes, order=order)}"


def _value(content: bytes, arguments: dict[str, Any]) -> Any:
    """The transforms, where torchvision is installed; else the arguments of the last one."""
    try:
        return _transform(content)
    except (ImportError, CannotRun):
        return arguments


def _transform(content: bytes) -> Any:
    try:
        import torchvision.transforms.v2  # noqa: F401
    except ImportError as error:
        raise ImportError("torchvision is not installed", name="torchvision") from error
    except RuntimeError as error:  # built for another PyTorch than the one that is here
        raise CannotRun(f"torchvision cannot be imported: {error}") from error
    scope: dict[str, Any] = {}
    exec(compile(content, "exported.py", "exec"), scope)
    return scope["transform"]


# ---------------------------------------------------------------- whitening


def _whitening(norm: Normalizer, order: Order) -> Made:
    assert norm.matrix is not None
    form = form_of(norm)
    _check_whole(norm, form)
    check_size(norm, _TITLE)
    feeds = ordered(norm, _TITLE, _FEEDS, order.channels)
    places = _channels_first(norm, form, feeds)
    mean, matrix = norm.shift.ravel()[places], norm.matrix[np.ix_(places, places)].T
    body = _WHITENING.format(mean=flat(mean), matrix=flat(matrix))
    size = dict(zip(norm.pattern.kept, norm.kept_shape, strict=True))
    height, width = (size[name] for name in _grid(form))
    expects = f"{_expects(norm, feeds, form)}, {width} x {height} pixels"
    content = _file(norm, order, expects, body)
    arguments = {"transformation_matrix": matrix.tolist(), "mean_vector": mean.tolist()}
    return PictureMade(
        content,
        _value(content, arguments),
        expects,
        "float32, axes (c, h, w)",
        norm,
        bound=0.51,
        places=tuple(places.tolist()),
    )


def _grid(form: Form) -> tuple[str, ...]:
    """The names of height and width."""
    return form.axes[2:] if form.layout == "chw" else form.axes[1:3]


def _check_whole(norm: Normalizer, form: Form) -> None:
    """Refuse what a square matrix over whole pictures cannot do."""
    assert norm.matrix is not None
    if form.kind != "pictures" or form.keeps != "pixel":
        raise PatternError(
            f"torchvision's LinearTransformation mixes all values of a picture, and {norm.recipe} "
            f"under {str(norm.pattern)!r} mixes {norm.shift.size}: export to torch or onnx, or "
            "whiten whole pictures, 'n h w c -> h w c'"
        )
    if len(norm.matrix) != norm.shift.size:
        raise PatternError(
            f"torchvision's LinearTransformation keeps the shape of a picture, and {norm.recipe} "
            f"leaves {len(norm.matrix)} of {norm.shift.size} features: export to torch or onnx, or "
            "whiten without n_components"
        )
    if norm.offset.any():
        raise PatternError(
            "torchvision's LinearTransformation has no offset after its matrix: export to torch "
            "or onnx"
        )


def _channels_first(norm: Normalizer, form: Form, feeds: str) -> npt.NDArray[np.int64]:
    """Where each value of a picture, channels first and in the order fed, is among the features."""
    places = np.arange(norm.shift.size).reshape(norm.kept_shape)
    if form.layout == "hw":
        return places.ravel()
    if form.layout == "hwc":
        places = np.moveaxis(places, -1, 0)
    held = norm.units.channels
    if held and feeds and sorted(held) == sorted(feeds):
        places = places[[held.index(letter) for letter in feeds]]
    return places.ravel()


# ---------------------------------------------------------------- run


def _run(made: Made, x: _Array) -> _Array:
    transform = _transform(made.content)
    if made.carried.matrix is None:
        y = transform(square_of(made, x))
        return unsquared(made, np.moveaxis(y.numpy(), 0, -1), x)
    assert isinstance(made, PictureMade)
    return _run_whole(made, transform, x)


def _run_whole(made: PictureMade, transform: Any, x: _Array) -> _Array:
    """Picture by picture: the values of each, channels first, and back."""
    kept = made.carried.kept_shape
    form, places = form_of(made.carried), list(made.places)
    shape = {"hw": (*kept, 1), "hwc": kept, "chw": (*kept[1:], kept[0])}[form.layout]
    rows = x.reshape(len(x), -1)[:, places]
    pictures = rows.reshape(len(x), shape[-1], *shape[:2]).transpose(0, 2, 3, 1)
    answers = np.stack([transform(np.ascontiguousarray(p)).numpy().ravel() for p in pictures])
    back: _Array = answers[:, np.argsort(places)].reshape(x.shape)
    return back


TARGET = Target(
    "torchvision",
    _TITLE,
    (".py",),
    _make,
    _run,
    library="torchvision",
    options=frozenset({"channels"}),
)
