"""OpenCV since 4.8: a Python file with `cv2.dnn.blobFromImageWithParams`, a scale for each channel.

Order, arithmetic and bound are those of `opencv`. Two traps of `Image2BlobParams`: its scalefactor
is a Scalar, so that a single number becomes (number, 0, 0, 0) and blackens the other channels,
which is why all four are written; and `blobFromImagesWithParams` of OpenCV 4.8, given several
pictures at once with `swapRB=True`, exchanges the scales back at every second picture, which is why
the call is that for one picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zeromean.exporters.opencv import (
    DISTRIBUTION,
    found,
    lone,
    padded,
    reciprocals,
    run,
    swapped,
    written,
)
from zeromean.exporters.targets import Made, Order, Target

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_TITLE = "OpenCV blobFromImageWithParams"


def _make(norm: Normalizer, order: Order) -> Made:
    channels = found(norm, order, _TITLE)
    mean, std = lone(channels)
    value = {
        "scalefactor": padded(reciprocals(std), 1.0),
        "mean": padded(mean),
        **swapped(channels, order),
    }
    call = (
        "cv2.dnn.blobFromImageWithParams(\n        image,\n        cv2.dnn.Image2BlobParams(\n"
        f"            scalefactor={value['scalefactor']!r},\n"
        "            size=size or (0, 0),\n"
        f"            mean={value['mean']!r},\n"
        f"            swapRB={value['swapRB']},\n        ),\n    )"
    )
    return written(norm, channels, order, _TITLE, call, value)


TARGET = Target(
    "opencv-params",
    _TITLE,
    (".py",),
    _make,
    run,
    library=DISTRIBUTION,
    options=frozenset({"channels"}),
)
