"""OpenVINO: a Python file with the steps of a `PrePostProcessor` in front of a model.

`value` is its function `add_normalization(model)`: raw pictures in, the model's own outputs out.
Mean and scale are for raw units, in the order in which the pictures are given.

OpenVINO's graph compiler rewrites the two steps: the quotient becomes a product with a reciprocal,
and the CPU plugin joins difference and product to x r + b, with r = 1 / scale and b = -mean r, both
rounded to float32 (its answers are those of this formula, bit for bit). The bound, with u = 2⁻²⁴,
in ulp at the size of the largest term (each u is one ulp at most): r is off by 2 u, in both terms
alike, so that 2 u of the result; mean u, b u, the product u where it is rounded by itself, and half
a unit for the sum: 5.5. One more for x where the data must be rounded to float32 first, and with an
offset, which makes mean and b up to two such terms large, two more. That is in float32: on GPUs,
and on CPUs that have bfloat16, OpenVINO computes in less unless `INFERENCE_PRECISION_HINT` says
f32; the verification says it.

Importing OpenVINO counts the import and sends usage data, unless the user has run
`opt_in_out --opt_out`, or in continuous integration. The verification is no use of OpenVINO by the
user, so its import is done as if there: nothing is written or sent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean.errors import PatternError
from zeromean.exporters.channels import Channels, channels_of
from zeromean.exporters.feeding import Fed, entering, turned
from zeromean.exporters.forms import expected
from zeromean.exporters.opencv import approximated
from zeromean.exporters.spelling import banner
from zeromean.exporters.targets import Made, Order, Target

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_TITLE = "OpenVINO PrePostProcessor"
_TYPES = {
    **{
        f"{sign}int{bits}": f"{sign[:1] or 'i'}{bits}"
        for sign in ("u", "")
        for bits in (8, 16, 32, 64)
    },
    **{"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64", "bool": "boolean"},
}
_PRECISION = {"INFERENCE_PRECISION_HINT": "f32"}


def _make(norm: Normalizer, order: Order) -> Made:
    numbers = channels_of(norm, _TITLE, to_unit=False, declared=order.channels)
    fed, own, layout, places = turned(norm, _TITLE, order)
    text = _text(fed, numbers, layout, order.name, approximated(norm, numbers))
    scope: dict[str, Any] = {}
    exec(compile(text, "exported.py", "exec"), scope)
    return Fed(
        text.encode(),
        scope["add_normalization"],
        expected(fed),
        "float32, in the layout of the model",
        numbers.carried,
        numbers.lost,
        bound=5.5 + entering(norm) + 2 * bool(norm.offset.any()),
        notes=(
            "on a GPU, or a CPU with bfloat16, compile with INFERENCE_PRECISION_HINT=f32 for these "
            "numbers",
        ),
        own=own,
        layout=layout,
        places=places,
    )


def _text(norm: Normalizer, numbers: Channels, layout: str, name: str, beside: str) -> str:
    element = _TYPES.get(norm.dtype)
    if element is None:
        raise PatternError(
            f"{_TITLE} takes one dtype, and the data was {norm.dtype}; measure columns of one dtype"
        )
    mean, scale = numbers.mean.tolist(), numbers.std.tolist()
    if numbers.form.keeps == "one":  # for however many channels
        mean, scale = mean[0], scale[0]
    tensor = {"hwc": "NHWC", "chw": "NCHW"}.get(layout, "NHW")
    model = "NHW" if layout == "hw" else "NCHW"
    return (
        f'"""{banner(norm, name)}\n\nExpects {expected(norm)}.\n{beside}"""\n\n\n'
        f'def add_normalization(model, model_layout="{model}"):\n'
        '    """The OpenVINO model with one input, given raw pictures, not normalized ones.\n\n'
        "    model_layout is the order of the axes that it was made for.\n"
        '    """\n'
        "    from openvino import Layout, Type\n"
        "    from openvino.preprocess import PrePostProcessor\n\n"
        "    steps = PrePostProcessor(model)\n"
        "    data = steps.input()\n"
        f'    data.tensor().set_element_type(Type.{element}).set_layout(Layout("{tensor}"))\n'
        "    data.model().set_layout(Layout(model_layout))\n"
        "    data.preprocess().convert_element_type(Type.f32)\n"
        f"    data.preprocess().mean({mean!r})\n"
        f"    data.preprocess().scale({scale!r})\n"
        "    return steps.build()\n"
    )


@contextmanager
def _uncounted() -> Iterator[None]:
    """As in continuous integration, by the variable that openvino-telemetry looks at."""
    if "openvino" in sys.modules:  # imported by the user, with whatever they have chosen
        yield
        return
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


def _run(made: Made, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Put the steps in front of a model that does nothing, and run it."""
    assert isinstance(made, Fed)
    try:
        with _uncounted():
            import openvino
            from openvino import opset13
    except ImportError:
        raise ImportError("OpenVINO is not installed") from None
    scope: dict[str, Any] = {}
    exec(compile(made.content, "exported.py", "exec"), scope)
    given = made.there(x)
    shape = openvino.PartialShape([-1] * given.ndim)
    if made.layout == "hwc":
        shape = openvino.PartialShape([-1, given.shape[-1], -1, -1])
    start = opset13.parameter(shape, openvino.Type.f32)
    model = scope["add_normalization"](openvino.Model([start], [start], "nothing"))
    y = openvino.Core().compile_model(model, "CPU", _PRECISION)(given)[0]
    return made.back(y.transpose(0, 2, 3, 1) if made.layout == "hwc" else np.asarray(y))


TARGET = Target(
    "openvino",
    _TITLE,
    (".py",),
    _make,
    _run,
    library="openvino",
    options=frozenset({"layout", "channels"}),
)
