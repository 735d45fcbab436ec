"""OpenCV: a Python file with the call of `cv2.dnn.blobFromImage`, which has one scale for all.

Read in OpenCV 4 and 5, modules/dnn/src/dnn_utils.cpp: the picture is made float32, `mean` is
subtracted, and the difference multiplied by `scalefactor`, both rounded to float32; with
`swapRB=True` mean and scale are exchanged first, so that they are in the order of the blob, RGB for
a picture that `cv2.imread` has read as BGR. So the blob is in the order that was measured, and the
picture in the order that is said with `channels`, or BGR.

The blob of `Image2BlobParams` has a scale for each channel: see `opencv_params`, which shares this.

The bound, with u = 2⁻²⁴, in ulp at the size of the largest term (each u is one ulp at most): mean
u, difference u, scalefactor u, and half a unit for the product: 3.5. One more where the data must
be rounded to float32 first. An offset goes into the mean, which may then be as large as two such
terms: one more.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from fractions import Fraction
from importlib import metadata
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError, UnitError
from zeromean.exporters.channels import Channels, channels_of, error_of, one_scale
from zeromean.exporters.feeding import Fed, entering, moved
from zeromean.exporters.forms import expected, form_of
from zeromean.exporters.spelling import banner
from zeromean.exporters.targets import CannotRun, Made, Order, Target

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Floats = npt.NDArray[np.float64]
_TITLE = "OpenCV blobFromImage"
_HABIT = {3: "BGR", 4: "BGRA"}
_NAMES = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_AS_IT_IS = "cv2.imread gives that"
_NATIVE = ("uint8", "float32")


def _make(norm: Normalizer, order: Order) -> Made:
    reduced = found(norm, order, _TITLE)
    carried, lost = one_scale(reduced.carried)
    channels = found(carried, order, _TITLE)
    mean, std = lone(channels)
    factor = reciprocals(std)[0]
    value = {"scalefactor": factor, "mean": padded(mean), **swapped(channels, order)}
    call = (
        "cv2.dnn.blobFromImage(\n        image,\n"
        f"        scalefactor={factor!r},\n"
        "        size=size,\n"
        f"        mean={value['mean']!r},\n"
        f"        swapRB={value['swapRB']},\n    )"
    )
    if lost:
        lost = "one scale for each channel: it has one for all (opencv-params has one for each)"
    return written(norm, replace(channels, lost=reduced.lost or lost), order, _TITLE, call, value)


# ---------------------------------------------------------------- shared by both calls


def found(norm: Normalizer, order: Order, title: str) -> Channels:
    """The numbers in raw units, in the order that was measured.

    Raises
    ------
    PatternError
        For what is not a mean and a std for each of one, three or four channels.
    UnitError
        When the order is not known, or no exchange of red and blue leads to it.
    """
    held = norm.units.channels
    if order.channels and form_of(norm).layout == "hw":
        raise PatternError(
            f"channels={order.channels!r} is about pictures with channels; the pattern "
            f"{str(norm.pattern)!r} has none"
        )
    channels = channels_of(
        norm,
        title,
        to_unit=False,
        declared="" if held else order.channels,
        counts=(1, 3, 4),
        instead="onnx, torch or numpy",
    )
    n = len(channels)
    if n > 1 and form_of(norm).keeps != "one" and not channels.order:
        raise UnitError(
            f"{title} is usually given {_HABIT[n]} pictures, and the order of the measured "
            f"channels is not recorded: say channels={_HABIT[n][2::-1] + _HABIT[n][3:]!r} or "
            f"channels={_HABIT[n]!r} (--channels), or measure with channels="
        )
    return channels


def given(channels: Channels, order: Order, title: str) -> str:
    """The channel order of the picture: what was said, or what cv2.imread gives.

    Raises
    ------
    UnitError
        When it is not the measured one, with or without red and blue exchanged.
    """
    held = channels.order
    if len(channels) == 1 or not held:
        return held
    exchanged = held[2::-1] + held[3:]
    said = order.channels or (_HABIT[len(held)] if set(held) == set(_HABIT[len(held)]) else held)
    if said not in (held, exchanged):
        raise UnitError(
            f"{title} can exchange the first and the third channel and no others; the numbers are "
            f"for {held}, so say channels={held!r} or channels={exchanged!r}, not {said!r}"
        )
    return said


def swapped(channels: Channels, order: Order) -> dict[str, bool]:
    """Whether the first and third channel of the picture have to be exchanged, as an argument."""
    return {"swapRB": given(channels, order, _TITLE) != channels.order}


def lone(channels: Channels) -> tuple[_Floats, _Floats]:
    """Mean and std; one of each, where they are for any number of channels."""
    n = 1 if channels.form.keeps == "one" else None
    return channels.mean[:n], channels.std[:n]


def reciprocals(scale: _Floats) -> list[float]:
    """1 / scale, correctly rounded."""
    return [float(1 / Fraction(v)) for v in scale.tolist()]


def padded(values: Any, fill: float | None = None) -> tuple[float, ...]:
    """Four numbers, as `cv2.Scalar` has them: a shorter tuple would be filled with zeros.

    Numbers for one channel are repeated.
    """
    held = [float(v) for v in values]
    if len(held) == 1:
        return tuple(held * 4)
    return tuple(held + [0.0 if fill is None else fill] * (4 - len(held)))


def written(
    norm: Normalizer,
    channels: Channels,
    order: Order,
    title: str,
    call: str,
    value: dict[str, Any],
) -> Fed:
    """The file, and all that is the same for both calls."""
    picture = given(channels, order, title)
    gray = channels.form.layout == "hw"
    expects = expected(norm, axes="h w" if gray else "h w c", order=picture or None)
    read = _by_imread(norm, picture)
    if read == _AS_IT_IS:
        expects, read = f"{expects}; {read}", ""
    gives = _gives(channels)
    places: tuple[int, ...] = ()
    if picture != channels.order and channels.form.keeps != "one":
        places = (2, 1, 0, *range(3, len(channels)))
    head = f"{banner(norm, order.name)}\n\nExpects {expects}.\nGives {gives}.\n"
    if read:
        head += f"To read it: {read}.\n"
    return Fed(
        _file(norm, head + approximated(norm, channels), call).encode(),
        value,
        expects,
        gives,
        channels.carried,
        channels.lost,
        bound=3.5 + entering(norm) + bool(norm.offset.any()),
        notes=(read,) if read else (),
        own=channels.form.layout,
        layout="hw" if gray else "hwc",
        places=places,
    )


def _by_imread(norm: Normalizer, picture: str) -> str:
    """How to read such a picture, in a phrase; empty where OpenCV is no way to it.

    By itself `cv2.imread` gives uint8 in BGR: no alpha, no 16 bits, no 0..1.
    """
    if picture not in ("BGR", "BGRA"):
        return ""
    flags = "cv2.IMREAD_UNCHANGED" if picture == "BGRA" else ""
    if norm.dtype == "uint16":
        flags = flags or "cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH"
        return f"cv2.imread(file, {flags}) gives that of files of 16 bits"
    call = f"cv2.imread(file, {flags})" if flags else "cv2.imread"
    if norm.units.range != (0, 255):
        unit = ": divide it by 255" if norm.units.range == (0, 1) else ": bring it to these units"
        return f"{call} gives uint8 0..255{unit}"
    if norm.dtype != "uint8":
        return f"{call} gives that, as uint8"
    return f"{call} gives that of files with alpha" if flags else _AS_IT_IS


def _gives(channels: Channels) -> str:
    form = channels.form
    any_number = len(channels) == 1 and form.keeps == "one" and form.layout != "hw"
    shape = f"(1, {'c' if any_number else len(channels)}, h, w)"
    return ", ".join(part for part in (f"float32 {shape}", channels.order) if part)


def _file(norm: Normalizer, head: str, call: str) -> str:
    """OpenCV 4 makes float32 of 8-bit pictures and of no others, so the file does."""
    native = norm.dtype in _NATIVE
    numpy = "" if native else "import numpy as np\n"
    convert = "" if native else "    image = np.asarray(image, np.float32)\n"
    return (
        f'"""{head}"""\n\nimport cv2\n{numpy}\n\n'
        "def blob_of(image, size=None):\n"
        '    """The picture, of the (width, height) if given, as input of a network."""\n'
        f"{convert}    return {call}\n"
    )


def approximated(norm: Normalizer, channels: Channels) -> str:
    """A line for the file, with the error; empty where the numbers are those of the normalizer."""
    if not channels.lost:
        return ""
    error = error_of(norm, channels.carried)
    return f"Approximate: cannot hold {channels.lost}; off by up to {error:.3g} in raw units.\n"


def _distribution() -> str:
    """Under which of its four names OpenCV is installed."""
    for name in _NAMES:
        with contextlib.suppress(PackageNotFoundError):
            metadata.version(name)
            return name
    return _NAMES[0]


def run(made: Made, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make a blob of each picture; its channels are back in the order that was measured."""
    assert isinstance(made, Fed)
    try:
        import cv2
    except ImportError:
        raise ImportError("OpenCV is not installed") from None
    if made.content.count(b"Image2BlobParams") and not hasattr(cv2.dnn, "Image2BlobParams"):
        raise CannotRun(f"OpenCV {cv2.__version__} has no Image2BlobParams; it came with 4.8")
    scope: dict[str, Any] = {}
    exec(compile(made.content, "exported.py", "exec"), scope)
    pictures = made.there(x)
    if pictures.ndim == 4 and form_of(made.carried).keeps == "one":
        pictures = pictures.reshape(*pictures.shape[:2], -1)  # however many channels there are
    blobs = np.concatenate([scope["blob_of"](picture) for picture in pictures])
    if pictures.ndim == 3:
        return moved(blobs[:, 0].reshape(made.there(x).shape), made.layout, made.own)
    return blobs if made.own == "chw" else blobs.transpose(0, 2, 3, 1)


DISTRIBUTION = _distribution()
TARGET = Target(
    "opencv",
    _TITLE,
    (".py",),
    _make,
    run,
    library=DISTRIBUTION,
    options=frozenset({"channels"}),
)
