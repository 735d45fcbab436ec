"""`check`: one function for everything that numbers can be held against."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zeromean.diagnosis.findings import Findings
from zeromean.errors import PatternError
from zeromean.normalizer import Normalizer


def check(
    norm: Normalizer, *, model: Any = None, input: str | None = None, channels: str = ""
) -> Findings:
    """Does a model contain a normalization already? Would this one be applied twice?

    The model's input is followed to the first layer: whatever is subtracted, added, multiplied or
    divided on the way, by constants however they are computed, is one affine map, and is compared
    with the normalizer's numbers. A BatchNormalization that comes first tells by its running mean
    what the model was trained on.

    Parameters
    ----------
    norm : Normalizer
    model : path or onnx.ModelProto
    input : str, optional
        Of the model; may be left out where only one can be meant.
    channels : str, optional
        The channel order that the model wants, such as "RGB".

    Returns
    -------
    Findings
        `.ok` where nothing is wrong. Names: "none" (no normalization inside), "inside" (this very
        one, put there by zeromean), "twice", "numbers" (another one), "units" (this one, for data
        of another scale), "rescale" (only 1/255), "renormalizes" (takes these, and makes others of
        them), "batch-norm", "per-sample", "dtype", "shape", "layout", "channels", "metadata".

    Raises
    ------
    PatternError
        When there is nothing to check against, or it is not clear which input is meant.
    FormatError, SourceError
        When the file cannot be read.
    ImportError
        Without onnx, with what to install.

    Examples
    --------
    >>> import numpy as np, onnx
    >>> import zeromean as zm
    >>> from zeromean.diagnosis.checking import check
    >>> pictures = np.array([[[[0, 8], [2, 6]]]], dtype=np.uint8)
    >>> norm = zm.zero_mean(zm.measure(pictures, "n h w c -> c"))
    >>> net = onnx.parser.parse_model('''
    ...     <ir_version: 8, opset_import: ["" : 17]>
    ...     net (float[n, 2, h, w] x) => (float[n, 2, 1, 1] y)
    ...     <float[2, 1, 1] mean = {1.0, 7.0}>
    ...     { c = Sub (x, mean)  y = GlobalAveragePool (c) }''')
    >>> found = check(norm, model=net)
    >>> found.ok, [finding.name for finding in found]
    (False, ['twice', 'layout'])
    """
    if hasattr(norm, "normalizer_for"):
        raise PatternError(
            "the numbers are by group, and a model holds one set: check those of one group, "
            "norm.normalizer_for(name)"
        )
    if not isinstance(norm, Normalizer):
        raise PatternError(
            f"check holds one Normalizer against a model, not a {type(norm).__name__}; make one "
            "from a profile with a recipe, such as zm.standardize(profile)"
        )
    if model is None:
        raise PatternError("check needs something to hold the numbers against: give model=")
    from zeromean.diagnosis.model_checks import findings_of

    named = isinstance(model, str | os.PathLike)
    subject = Path(model).name if named else "model"
    return Findings(subject, tuple(findings_of(norm, model, input, channels)))
