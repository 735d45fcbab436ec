"""`Normalize`: a normalizer as a module, with its numbers as buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from zeromean.errors import PatternError, UnitError
from zeromean.normalizer import Normalizer
from zeromean.torch.axes import Axes, axes_of
from zeromean.torch.dtypes import as_dtype, output_dtype
from zeromean.torch.single_rounding import rounded, whole
from zeromean.torch.unit_checks import check_range
from zeromean.torch.views import view_of
from zeromean.torch.watching import observed, wants_gradient

#: Device types without float64; there everything is computed in float32.
WITHOUT_FLOAT64 = {"mps"}
_BLOCK = 1 << 21  # float64 numbers that whitening holds at a time
_NO_TENSORS = (np.ndarray, list, tuple)


class Normalize(nn.Module):
    """y = (x - shift) / scale + offset, or y = (x - shift) matrixᵀ + offset, for tensors.

    Made by `module`, or by the method `torch` of a normalizer. Computed in float64 and rounded
    once, so it gives the bits that the normalizer gives for arrays, on every device that has
    float64, compiled or not. (The products of whitening are sums, whose order is the device's:
    they agree to a few units in the last place of float64 before they are rounded.) On Apple's
    MPS, which has no float64, it computes in float32: three roundings, and a relative error of
    x - shift that grows as x comes close to shift, at most 2^-24 of max(\\|x\\|, \\|shift\\|).

    Parameters
    ----------
    norm : Normalizer
    dtype : torch.dtype or str, optional
        Of the result: float16, bfloat16, float32 (the default) or float64.
    layout : {None, "chw", "hwc->chw"}, optional
        "chw": tensors have their channels in front of height and width, though the pattern has
        them last, in and out. "hwc->chw": they come as the pattern says, and the channels are
        moved in front.
    check_units : bool
        Refuse data that is visibly on another scale than what was measured. Costs nothing where
        the dtype tells; otherwise a look at all values, which on a GPU waits for them. It is
        left out while compiling and exporting, when there are no values.

    Attributes
    ----------
    shift, scale, offset : Tensor of float64, kept shape
        Buffers: they move with the module, and are saved in its `state_dict`. They stay float64
        under `half()` and the like.
    matrix : Tensor of float64, (n_out, n_features), or None

    Examples
    --------
    >>> import torch
    >>> import zeromean as zm
    >>> from zeromean.torch import measure
    >>> images = torch.arange(96, dtype=torch.uint8).reshape(4, 3, 2, 4)
    >>> norm = zm.standardize(measure(images, "n c h w -> c"))
    >>> model = torch.nn.Sequential(norm.torch(dtype=torch.bfloat16), torch.nn.Flatten())
    >>> model(images).dtype, model(images).shape
    (torch.bfloat16, torch.Size([4, 24]))
    """

    shift: Tensor
    scale: Tensor
    offset: Tensor
    matrix: Tensor | None

    def __init__(
        self,
        norm: Normalizer,
        *,
        dtype: torch.dtype | str | None = None,
        layout: str | None = None,
        check_units: bool = True,
    ) -> None:
        super().__init__()
        self.norm, self.layout, self.check_units = norm, layout, check_units
        self.dtype = output_dtype(dtype)
        self._axes = axes_of(
            norm.pattern, norm.kept_shape, layout, split_all=norm.matrix is not None
        )
        for name in ("shift", "scale", "offset"):
            values = torch.from_numpy(np.array(getattr(norm, name), np.float64))
            self.register_buffer(name, values)
        matrix = norm.matrix
        held = None if matrix is None else torch.from_numpy(np.array(matrix, np.float64))
        self.register_buffer("matrix", held)
        self._inverse: tuple[Any, Tensor] | None = None

    @property
    def reduces(self) -> bool:
        """Whether a matrix leaves fewer features: then the result has another shape."""
        return self.matrix is not None and self.matrix.shape[0] != self.matrix.shape[1]

    # ------------------------------------------------------------ there

    def forward(self, x: Tensor) -> Tensor:
        """Normalize a tensor.

        Parameters
        ----------
        x : Tensor
            Any real dtype; the first axis may be missing if it is not kept.

        Returns
        -------
        Tensor
            Of the module's dtype, on the same device, in the same memory format.

        Raises
        ------
        PatternError
            When the shape does not fit.
        UnitError
            When the data is visibly on another scale than what was measured.
        """
        axes = self._checked(x)
        y = self._through_numpy("forward", x, axes, self.dtype)
        return self._by_torch(x, axes) if y is None else y

    def write(self, x: Tensor, out: Tensor) -> Tensor:
        """Normalize a tensor into another.

        Parameters
        ----------
        x : Tensor
        out : Tensor
            Of the module's dtype; may be `x` itself.

        Returns
        -------
        Tensor
            `out`.

        Raises
        ------
        PatternError, UnitError
            As for `forward`; and when `out` has another shape, dtype or device than the result.
        """
        axes = self._checked(x)
        moves = self.layout == "hwc->chw" and not self.reduces
        shape = (*x.shape[:-3], x.shape[-1], *x.shape[-3:-1]) if moves else tuple(x.shape)
        fits = self.reduces or tuple(out.shape) == shape
        if out.dtype != self.dtype or out.device != x.device or not fits:
            raise PatternError(
                f"out is {out.dtype} {tuple(out.shape)} on {out.device}; it must be {self.dtype} "
                f"{shape} on {x.device}"
            )
        direct = not (torch.is_grad_enabled() and out.requires_grad)
        if direct and self._through_numpy("forward", x, axes, self.dtype, out) is not None:
            return out
        return out.copy_(self._by_torch(x, axes))

    def _by_torch(self, x: Tensor, axes: Axes) -> Tensor:
        if self.matrix is not None:
            return self._mixed(x, axes, self.matrix)
        y = axes.merge(rounded(self._centered(x, axes), self.dtype))
        return y.movedim(-1, -3).contiguous() if self.layout == "hwc->chw" else y

    def _checked(self, x: Tensor) -> Axes:
        """Where the numbers lie in this tensor, if shape and units fit."""
        _check_tensor(x)
        axes = self._fitted(x)
        if self.check_units and not observed(x):
            check_range(x, self.norm.units, self.norm.dtype)
        return axes

    def _fitted(self, x: Tensor) -> Axes:
        axes = self._axes.get(x.ndim)
        if axes is not None and axes.fits(x):
            return axes
        shape, pattern = tuple(x.shape), str(self.norm.pattern)
        hint = ""
        if self.layout is None and len(self.norm.pattern.axes) >= 3:
            other = axes_of(self.norm.pattern, self.norm.kept_shape, "chw").get(x.ndim)
            if other is not None and other.fits(x):
                hint = "; if its channels come first, say so: norm.torch(layout='chw')"
        said = "" if self.layout is None else f" with layout {self.layout!r}"
        raise PatternError(
            f"a tensor of shape {shape} does not fit the pattern {pattern!r}{said}, of which the "
            f"normalizer keeps {self.norm.kept_shape}{hint}"
        )

    def _centered(self, x: Tensor, axes: Axes) -> Tensor:
        """The result before it is rounded, with groups split."""
        y = axes.split(x).to(self.shift.dtype) - axes.spread(self.shift)
        y.div_(axes.spread(self.scale))
        # adding 0 would turn -0.0 into 0.0; adding -0.0 changes nothing
        return y.add_(axes.spread(torch.where(self.offset == 0, -0.0, self.offset)))

    def _through_numpy(
        self, way: str, x: Tensor, axes: Axes, dtype: torch.dtype, out: Tensor | None = None
    ) -> Tensor | None:
        """The compiled loops, for plain tensors on the processor; None if they cannot."""
        if self.matrix is not None or self._by_operations(x):
            return None
        moves = self.layout == "hwc->chw"
        if out is None and not (moves and way == "forward"):
            out = torch.empty_like(x, dtype=dtype)
        elif out is None:
            out = x.new_empty((*x.shape[:-3], x.shape[-1], *x.shape[-3:-1]), dtype=dtype)
        target = out.movedim(-3, -1) if moves and way == "forward" else out
        arrays = view_of(axes.split(x)), view_of(axes.split(target))
        if arrays[0] is None or arrays[1] is None:
            return None
        from zeromean import affine

        numbers = (axes.spread(v).numpy() for v in (self.shift, self.scale, self.offset))
        getattr(affine, way)(arrays[0], *numbers, arrays[1])
        return out

    def _by_operations(self, x: Tensor) -> bool:
        """Whether only PyTorch's own operations will do."""
        if observed(x) or type(x) not in (Tensor, nn.Parameter):
            return True
        plain = x.device.type == "cpu" and self.shift.device.type == "cpu"
        return not plain or self.shift.dtype != torch.float64 or wants_gradient(x)

    # ------------------------------------------------------------ whitening

    def _mixed(self, x: Tensor, axes: Axes, matrix: Tensor) -> Tensor:
        moved = axes.split(x).permute(axes.others + axes.kept)
        rows = moved.reshape(-1, matrix.shape[1])
        y = self._product(rows, self.shift.flatten(), matrix, self.offset, self.dtype)
        if self.reduces:
            y = y.reshape(*moved.shape[: len(axes.others)], matrix.shape[0])
            return y.movedim(-1, -3).contiguous() if self._moves_features(axes) else y
        y = axes.merge(_refilled(y, moved.shape, axes))
        if self.layout == "hwc->chw":
            return y.movedim(-1, -3).contiguous()
        return y.contiguous(memory_format=_format_of(x))

    def _moves_features(self, axes: Axes) -> bool:
        """Whether reduced features are channels, to be put in front of height and width."""
        place = len(axes.shape) - (3 if self.layout == "chw" else 1)
        return self.layout is not None and axes.kept == (place,) and len(axes.others) >= 2

    def _product(
        self, rows: Tensor, before: Tensor, matrix: Tensor, after: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """(rows - before) matrixᵀ + after, in blocks where nobody watches."""

        def of(part: Tensor) -> Tensor:
            return (part.to(matrix.dtype) - before) @ matrix.T + after

        step = max(1, _BLOCK // max(len(before), 1))
        if observed(rows) or wants_gradient(rows) or len(rows) <= step:
            return _cast(of(rows), dtype)
        y = rows.new_empty((len(rows), len(matrix)), dtype=dtype)
        for begin in range(0, len(rows), step):
            y[begin : begin + step] = _cast(of(rows[begin : begin + step]), dtype)
        return y

    def _unmixed(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        matrix = self.matrix
        assert matrix is not None
        if not self.reduces:
            axes = self._fitted(y)
            moved = axes.split(y).permute(axes.others + axes.kept)
            lengths = moved.shape
        else:
            axes = self._axes_of_reduced(y)
            moved = y.movedim(-3, -1) if self._moves_features(axes) else y
            kept = [axes.shape[i] for i in axes.kept]
            lengths = torch.Size([*moved.shape[:-1], *kept])
        rows = moved.reshape(-1, len(matrix))
        x = self._product(rows, self.offset, self._inverted(matrix), self.shift.flatten(), dtype)
        back = axes.merge(_refilled(x, lengths, axes))
        return back.contiguous() if self.reduces else back.contiguous(memory_format=_format_of(y))

    def _axes_of_reduced(self, y: Tensor) -> Axes:
        for axes in self._axes.values():
            place = -3 if self._moves_features(axes) else -1
            if len(axes.others) + 1 == y.ndim and y.shape[place] == len(self.offset):
                return axes
        raise PatternError(
            f"a tensor of shape {tuple(y.shape)} does not fit the pattern "
            f"{str(self.norm.pattern)!r} with {len(self.offset)} features left of "
            f"{self.shift.numel()}"
        )

    def _inverted(self, matrix: Tensor) -> Tensor:
        """(n_features, n_out): the inverse or pseudo-inverse, kept until the numbers change."""
        if observed(matrix):
            return torch.linalg.pinv(matrix)
        key = (id(matrix), matrix._version)
        if self._inverse is None or self._inverse[0] != key:
            self._inverse = key, torch.linalg.pinv(matrix)
        return self._inverse[1]

    # ------------------------------------------------------------ back

    def invert(self, y: Tensor, dtype: torch.dtype | str | None = None) -> Tensor:
        """Undo the normalization: x = (y - offset) * scale + shift.

        Parameters
        ----------
        y : Tensor of floats
            As `forward` gave it.
        dtype : torch.dtype or str, optional
            Of the result; the raw dtype by default. Integers are rounded to nearest and clipped
            to their range; for gradients ask for a float dtype.

        Returns
        -------
        Tensor
            Of the shape of the raw data.

        Raises
        ------
        PatternError
            When the shape does not fit, or NaN would have to become an integer.
        UnitError
            For integers, which are raw data and not normalized.
        """
        _check_tensor(y)
        if not y.is_floating_point():
            raise UnitError(
                f"invert takes what normalizing gave, floats around zero, not {y.dtype} data"
            )
        wanted = as_dtype(self.norm.dtype if dtype is None else dtype)
        if not wanted.is_floating_point and not observed(y) and bool(y.isnan().any()):
            raise PatternError(f"NaN cannot become {wanted}; give dtype='float32' to keep it")
        if self.matrix is not None:
            unmoved = y.movedim(-3, -1) if self.layout == "hwc->chw" and not self.reduces else y
            return self._unmixed(unmoved, wanted)
        if self.layout == "hwc->chw":
            y = y.movedim(-3, -1)
        axes = self._fitted(y)
        x = self._through_numpy("backward", y, axes, wanted)
        if x is None:
            values = axes.split(y).to(self.shift.dtype) - axes.spread(self.offset)
            values = values.mul_(axes.spread(self.scale)).add_(axes.spread(self.shift))
            x = axes.merge(_cast(values, wanted))
        return x.contiguous() if self.layout == "hwc->chw" else x

    # ------------------------------------------------------------ as a module

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to another device; the numbers stay float64 wherever there is float64."""

        def moved(name: str, tensor: Tensor) -> Tensor:
            device = fn(torch.empty(0, device=tensor.device)).device
            if device.type in WITHOUT_FLOAT64:
                return tensor.to(torch.float32).to(device)
            if tensor.is_meta and device.type != "meta":
                return torch.empty_like(tensor, device=device)
            if tensor.dtype == torch.float64 or tensor.is_meta:
                return tensor.to(device)
            own = torch.from_numpy(np.array(getattr(self.norm, name), np.float64))
            known = torch.equal(own.to(torch.float32), tensor.cpu())  # no others were loaded
            return (own if known else tensor.to(torch.float64)).to(device)

        for name, tensor in self._buffers.items():
            if tensor is not None:
                self._buffers[name] = moved(name, tensor)
        return self

    def extra_repr(self) -> str:
        """What `print` shows between the brackets."""
        norm, layout = self.norm, "" if self.layout is None else f", layout={self.layout!r}"
        target = str(self.dtype).removeprefix("torch.")
        return f'{norm.recipe}, "{norm.pattern}", {norm.dtype} ({norm.units}) to {target}{layout}'


def module(
    norm: Normalizer,
    *,
    dtype: torch.dtype | str | None = None,
    layout: str | None = None,
    check_units: bool = True,
) -> Normalize:
    """A normalizer as a `torch.nn.Module`.

    Parameters
    ----------
    norm : Normalizer
    dtype, layout, check_units
        As for `Normalize`.

    Returns
    -------
    Normalize

    Raises
    ------
    PatternError
        When the normalizer has no numbers of its own, or the layout does not fit the pattern.

    Examples
    --------
    >>> import torch
    >>> import zeromean as zm
    >>> from zeromean.torch import module
    >>> pictures = torch.tensor([[[[0, 8], [2, 6]]]], dtype=torch.uint8)
    >>> norm = zm.zero_mean(zm.measure(pictures, "n h w c -> c"))
    >>> module(norm)(pictures)
    tensor([[[[-1.,  1.],
              [ 1., -1.]]]])
    """
    if not isinstance(norm, Normalizer):
        raise PatternError(
            f"a module needs numbers that are known beforehand; {type(norm).__name__} has none. "
            "Give a Normalizer, which a recipe makes of a profile"
        )
    return Normalize(norm, dtype=dtype, layout=layout, check_units=check_units)


def _check_tensor(x: Any) -> None:
    if not isinstance(x, Tensor) and isinstance(x, _NO_TENSORS):
        raise PatternError(
            f"a module takes tensors, not a {type(x).__name__}; give torch.as_tensor(x), or use "
            "the normalizer itself, which takes arrays: module.norm"
        )


def _cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    return rounded(values, dtype) if dtype.is_floating_point else whole(values, dtype)


def _refilled(rows: Tensor, lengths: torch.Size, axes: Axes) -> Tensor:
    """Samples by features, back in the places that `axes` took them from; groups split."""
    order = axes.others + axes.kept
    return rows.reshape(lengths).permute(tuple(sorted(range(len(order)), key=order.__getitem__)))


def _format_of(x: Tensor) -> torch.memory_format:
    if not x.is_contiguous():
        for ndim, form in ((4, torch.channels_last), (5, torch.channels_last_3d)):
            if x.ndim == ndim and x.is_contiguous(memory_format=form):
                return form
    return torch.contiguous_format
