"""`fold`: a model, of PyTorch or ONNX, with a normalizer in its first layer's weights."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zeromean.errors import PatternError

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer


def fold(
    model: Any,
    norm: Normalizer,
    *,
    path: str | os.PathLike[str] | None = None,
    layout: str | None = None,
    shape: Sequence[int] | None = None,
    border: str = "pad",
    input: str = "float",
    name: str | None = None,
    layer: str | None = None,
    verify: bool = True,
    check_units: bool = True,
) -> Any:
    """A copy of a model that takes raw data: the normalizer is in its first layer's weights.

    The copy computes what the model computes behind the normalizer, but for rounding, at the
    border of zero-padded convolutions too.

    Parameters
    ----------
    model : torch.nn.Module, path or onnx.ModelProto
        Its first layer is linear or a convolution. In front of it there may be what lets an
        affine map pass: flattening, transposing, padding, averages without padding. Not changed.
    norm : Normalizer
        One that keeps what the layer tells apart: channels for a convolution, anything for a
        linear layer. A mean image with one scale fits a convolution with ``border="map"``.
    path : path, optional
        Of the ONNX file to write. Large weights go to a file beside it.
    layout : {"hwc", "chw"}, optional
        "chw": the model's input has its channels in front of height and width, though the pattern
        has them last. "hwc": it is as the pattern says. Read from the model unless given, and
        asked for where that leaves both open.
    shape : sequence of int, optional
        Of one raw input, such as (3, 224, 224), where the model does not tell and it matters.
    border : {"pad", "map"}
        How normalized zeros at a convolution's border are kept. "pad": the raw values that become
        zero are padded in front. "map": raw zeros are padded, and each place of the output has its
        own bias, for inputs of one size.
    input : {"float", "uint8"}
        "uint8": the copy takes integers and casts them first; a module then refuses others.
    name : str, optional
        Of an ONNX model's input, where it has several.
    layer : str, optional
        Of a module's first layer, where the module cannot be traced; see `zeromean.torch.fold`.
    verify : bool
        Compare both on probes: raw data in the normalizer's range, its ends included.
    check_units : bool
        Of a module: let the copy refuse data that is visibly on another scale than what was
        measured; see `zeromean.torch.fold`.

    Returns
    -------
    torch.nn.Module or onnx.ModelProto

    Raises
    ------
    FormatError
        When the model has no first layer to fold into, with the reason; when the layer's weights
        are shared; when more than rounding sets the results apart.
    PatternError
        When the normalizer's numbers do not fit the layer's inputs.
    UnitError
        For uint8 input, when the normalizer was measured on something else than 0..255, or when
        that is not known.
    SourceError
        When there is no such file.

    Notes
    -----
    W' = W diag(1 / scale) and b' = b + W (offset - shift / scale), in float64, rounded once; with
    a matrix M, W' = W M and b' = b + W (offset - M shift).

    Examples
    --------
    ::

        zm.fold("model.onnx", zm.load("norm.json"), path="folded.onnx", input="uint8")
        folded = zm.fold(module, norm)                 # torch.nn.Module in, and out
    """
    options: dict[str, Any] = {
        "layout": layout,
        "shape": shape,
        "border": border,
        "input": input,
        "verify": verify,
    }
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        if path is not None:
            raise PatternError(
                "path is where an ONNX model is written; a module is given back, to be saved by "
                "torch.save(folded.state_dict(), path)"
            )
        if name is not None:
            raise PatternError(
                f"name is of an ONNX model's input; a module's layer is named by layer='{name}'"
            )
        from zeromean.torch import fold as fold_module

        return fold_module(model, norm, layer=layer, check_units=check_units, **options)
    if layer is not None:
        raise PatternError("layer is for modules; in an ONNX model the first layer is found")
    from zeromean.graphs.folding import fold_model
    from zeromean.graphs.model_files import read_model, write_model

    folded, record = fold_model(read_model(model), norm, name=name, **options)
    record.check()
    if path is not None:
        write_model(folded, path)
    return folded
