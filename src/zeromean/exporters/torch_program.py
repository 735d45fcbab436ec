"""PyTorch program: the module, exported with torch.export to a `.pt2` that needs no zeromean.

The program computes in float64 and rounds once, as the module does. Before the last rounding stand
at most three of float64, or for whitening one for each term of a sum: 2^-53 of their sizes each,
which is 2^-29 ulp of float32. With up to two million features, the result is within 0.51 ulp.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeromean import documents
from zeromean.embedding import MEMBER, embedded
from zeromean.errors import FormatError, PatternError
from zeromean.exporters.forms import expected, form_of
from zeromean.exporters.targets import CannotRun, Made, Order, Target
from zeromean.pattern import Pattern

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_Array = npt.NDArray[Any]

BOUND = 0.51
_TITLE = "PyTorch program (.pt2)"
#: Lengths of axes that may have any length, for the example that is traced; 0 and 1 are special to
#: PyTorch, and equal lengths would be taken for one.
_LENGTHS = (2, 3, 5, 7, 11, 13, 17, 19)
#: What PyTorch notes about the source of each operation: paths of this machine.
_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node")


@dataclass(frozen=True)
class _Program(Made):
    """What `run` must know: how the pictures are laid out, and the dtype that the program takes."""

    layout: str = ""
    dtype: Any = None


def _make(norm: Normalizer, order: Order) -> Made:
    torch = _torch()
    layout = picture_layout(norm, order.layout, _TITLE)
    module = module_for(norm, layout)
    dtype = _dtype(norm)
    shape, dynamic = _example(norm, layout)
    example = torch.zeros(shape, dtype=dtype)
    program = torch.export.export(module, (example,), dynamic_shapes=(dynamic,))
    for node in program.graph.nodes:
        for name in _TRACES:
            node.meta.pop(name, None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=_document(norm))
    return _Program(
        buffer.getvalue(),
        module,
        expects(norm, layout),
        gives(norm, layout),
        norm,
        bound=BOUND,
        notes=(_any_length(norm, layout),),
        layout=layout,
        dtype=dtype,
    )


def _torch() -> Any:
    try:
        import torch
        import torch.export
    except ImportError as error:
        raise ImportError(
            'export to torch needs PyTorch: pip install "zeromean[torch]"', name="torch"
        ) from error
    return torch


def picture_layout(norm: Normalizer, asked: str | None, title: str) -> str:
    """How pictures are fed: channels first unless asked otherwise; empty where there are none.

    Raises
    ------
    PatternError
        When a layout is asked for data without channels.
    """
    form = form_of(norm)
    if form.layout not in ("hwc", "chw"):
        if asked:
            raise PatternError(
                f"layout={asked!r} is for pictures with channels, and {title} takes data of the "
                f"pattern {str(norm.pattern)!r} as they are; leave it out"
            )
        return ""
    return asked or "chw"


def module_for(norm: Normalizer, layout: str) -> Any:
    """The normalizer as a module that takes pictures in this layout."""
    own = form_of(norm).layout
    if not layout or own == layout:
        return norm.torch().eval()
    if layout == "chw":
        return norm.torch(layout="chw").eval()
    return replace(norm, pattern=_channels_last(norm)).torch().eval()


def _channels_last(norm: Normalizer) -> Pattern:
    first, channel, *grid = norm.pattern.axes
    return Pattern((first, *grid, channel), norm.pattern.kept, norm.pattern.sizes)


def _axes(norm: Normalizer, layout: str) -> tuple[tuple[str, ...], ...]:
    """The axes of the pattern in the order in which they are fed."""
    own, axes = form_of(norm).layout, norm.pattern.axes
    if not layout or own == layout:
        return axes
    return (axes[0], axes[3], *axes[1:3]) if layout == "chw" else _channels_last(norm).axes


def _dtype(norm: Normalizer) -> Any:
    """Of the tensors; columns of several dtypes come as float64, which holds them all."""
    from zeromean.torch.dtypes import as_dtype

    return as_dtype("float64" if "," in norm.dtype else norm.dtype)


def _example(norm: Normalizer, layout: str) -> tuple[tuple[int, ...], dict[int, Any]]:
    """A shape to trace with, and which of its axes may have any length."""
    from torch.export import Dim

    if any(group == ("...",) for group in norm.pattern.axes):
        raise PatternError(
            f"{_TITLE} has a fixed number of axes, and '...' in the pattern "
            f"{str(norm.pattern)!r} leaves it open: measure with all axes named, or export to "
            "torch-state"
        )
    known = dict(zip(norm.pattern.kept, norm.kept_shape, strict=True)) | dict(norm.pattern.sizes)
    free = iter(_LENGTHS * 2)
    shape: list[int] = []
    dynamic: dict[int, Any] = {}
    for place, group in enumerate(_axes(norm, layout)):
        fixed = math.prod(known[name] for name in group if name in known)
        open_ended = [name for name in group if name not in known]
        shape.append(fixed * next(free) if open_ended else fixed)
        if open_ended:
            dim = Dim(f"{open_ended[0]}_{place}")
            dynamic[place] = dim if fixed == 1 else fixed * dim
    return tuple(shape), dynamic


def _any_length(norm: Normalizer, layout: str) -> str:
    known = {*norm.pattern.kept, *norm.pattern.sizes}
    names = [" ".join(g) for g in _axes(norm, layout) if not set(g) <= known]
    return f"any length of {', '.join(names)}; load it with torch.export.load, without zeromean"


def _document(norm: Normalizer) -> dict[str, str] | None:
    """The normalizer's own file, beside the program; none where it is too large for JSON."""
    try:
        return {MEMBER: documents.to_text(embedded(norm))}
    except FormatError:
        return None


def expects(norm: Normalizer, layout: str) -> str:
    """What must be fed, in a phrase."""
    axes = " ".join(g[0] if len(g) == 1 else f"({'·'.join(g)})" for g in _axes(norm, layout))
    return expected(norm, axes=axes)


def gives(norm: Normalizer, layout: str) -> str:
    """What comes out, in a phrase."""
    if norm.matrix is None or len(norm.matrix) == norm.shift.size:
        return "float32, the same axes"
    place = "in the place of the channels" if _moves(norm, layout) else "on the last axis"
    return f"float32, {len(norm.matrix)} features {place}"


def _moves(norm: Normalizer, layout: str) -> bool:
    """Whether fewer features than channels come out where the channels came in."""
    form = form_of(norm)
    return layout == "chw" and form.layout == "hwc" and form.keeps == "channel"


# ---------------------------------------------------------------- run


def _run(made: Made, x: _Array) -> _Array:
    assert isinstance(made, _Program)
    program = loaded(made.content).module()
    return through(made.carried, made.layout, made.dtype, program, x)


def loaded(content: bytes) -> Any:
    """The exported program in a file; silent about the buffers that some versions read it into."""
    torch = _torch()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
        return torch.export.load(io.BytesIO(content))


def through(norm: Normalizer, layout: str, dtype: Any, module: Any, x: _Array) -> _Array:
    """Raw data under the normalizer's pattern, through a module that takes pictures in a layout."""
    torch = _torch()
    tensor = torch.from_numpy(np.ascontiguousarray(x))
    if tensor.dtype != dtype and "," not in norm.dtype:
        raise CannotRun(f"probe inputs are {tensor.dtype}, and the program takes {dtype} alone")
    own = form_of(norm).layout
    reduced = norm.matrix is not None and len(norm.matrix) != norm.shift.size
    if layout and layout != own:
        there, back = (-1, 1) if layout == "chw" else (1, -1)
        tensor = tensor.movedim(there, back).contiguous()
    with torch.no_grad():
        y = module(tensor.to(dtype))
    if layout and layout != own and (not reduced or _moves(norm, layout)):
        y = y.movedim(back, there)
    result: _Array = y.numpy()
    return result


TARGET = Target(
    "torch",
    _TITLE,
    (".pt2",),
    _make,
    _run,
    library="torch",
    options=frozenset({"layout"}),
    text=False,
)
