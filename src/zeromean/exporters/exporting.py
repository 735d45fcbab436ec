"""`export`: a normalizer, written for the place where the model runs, and run there for proof."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeromean import documents
from zeromean.errors import FormatError, PatternError, UnitError
from zeromean.exporters.channels import error_of
from zeromean.exporters.forms import raw_unit
from zeromean.exporters.probing import Verification, compare, probes
from zeromean.exporters.targets import (
    CannotRun,
    Made,
    Order,
    Target,
    check_options,
    target_named,
)
from zeromean.normalizer import Normalizer

_LONGEST = 160  # letters of a reason


@dataclass(frozen=True, repr=False)
class Exported:
    """A normalizer, written for a target.

    Attributes
    ----------
    target : str
    content : bytes
        Of the file.
    value : object
        The same in Python: a module, a layer, a transform, a dictionary of arguments; None for
        plain code.
    expects : str
        What the target must be given: values, channel order, axes.
    gives : str
        What it gives.
    verification : Verification or None
        What running it on probe inputs gave; None if it was not run.
    unverified : str
        Why it was not run; empty if it was.
    approximation : float
        How far the numbers that the target can hold are from those of the normalizer, in units of
        the raw data; 0 where it holds them all.
    lost : str
        What it cannot hold.
    notes : tuple of str
    raw_unit : str
        What differences of raw data are counted in.
    recipe : str
        And its first numbers.
    """

    target: str
    title: str
    content: bytes
    value: Any
    expects: str
    gives: str
    verification: Verification | None
    unverified: str
    approximation: float
    lost: str
    notes: tuple[str, ...]
    raw_unit: str
    recipe: str

    @property
    def text(self) -> str:
        """The content as text.

        Raises
        ------
        FormatError
            For binary files.
        """
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            raise FormatError(f"{self.title} is a binary file; write it with save(path)") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, at once or not at all.

        Parameters
        ----------
        path : path

        Raises
        ------
        FormatError
            When the folder cannot be written to.
        """
        documents.write_atomically(Path(path), lambda beside: _write(beside, self.content))

    @property
    def lines(self) -> list[str]:
        """What a person must know, a sentence a line."""
        lines = [
            f"{self.title}: {self.recipe}",
            f"expects {self.expects}",
            f"gives {self.gives}",
        ]
        if self.lost:
            lines.append(
                f"approximate: the target cannot hold {self.lost}; off by up to "
                f"{self.approximation:.3g} {self.raw_unit}"
            )
        lines += self.notes
        lines.append(_verified(self.verification, self.unverified, self.raw_unit))
        return lines

    def __repr__(self) -> str:
        return "\n".join(
            [f"Exported({self.target!r}, {len(self.content):,} bytes)"]
            + [f"  {line}" for line in self.lines]
        )


def export(
    norm: Normalizer,
    target: str,
    path: str | os.PathLike[str] | None = None,
    *,
    layout: str | None = None,
    channels: str = "",
    model: Any = None,
    input: str | None = None,
    model_layout: str | None = None,
    force: bool = False,
    approximate: bool = False,
    verify: bool = True,
    name: str = "",
) -> Exported:
    """Write a normalizer for the place where the model runs.

    Parameters
    ----------
    norm : Normalizer
    target : str
        "torch", "torch-state", "torchvision", "huggingface", "timm", "albumentations", "keras",
        "sklearn", "onnx", "openvino", "opencv", "opencv-params", "numpy", "c", "javascript" or
        "markdown".
    path : path, optional
        Where to write the file. A Hugging Face or timm configuration that is there already is
        updated: only what belongs to normalization changes.
    layout : {"hwc", "chw"}, optional
        Of the pictures that the target will be given, where it can take either.
    channels : str, optional
        The order of the channels that the target will be given, such as "RGB": says it where it
        was not recorded, and reorders the numbers where it is another one.
    model : path or onnx.ModelProto, optional
        With "onnx": the model to put the normalization in front of.
    input : str, optional
        Which input of that model is meant, if it has several.
    model_layout : {"hwc", "chw"}, optional
        Of the pictures that the model takes, where neither its shapes nor its first layer tell.
    force : bool
        Also in front of a model that normalizes by itself already.
    approximate : bool
        Accept a target that cannot hold the numbers; the error stands in the result.
    verify : bool
        Run what was written on probe inputs, with the target's own library where it is installed,
        and compare with the exact answer.
    name : str
        What the numbers are called in comments.

    Returns
    -------
    Exported

    Raises
    ------
    PatternError
        When the target cannot carry such a normalizer: whitening for a mean and a std, four
        channels for three. Says what can.
    UnitError
        When a range or a channel order is needed and unknown or another one, and when the target
        would change the numbers: with the error, in units of the raw data.
    ImportError
        When a library is needed to write the file, with what to install.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    >>> norm = zm.standardize(zm.measure(x, "n h w c -> c", channels="RGB"))
    >>> code = zm.export(norm, "numpy")
    >>> code.expects
    'uint8 0..255, RGB, axes (n, h, w, c)'
    >>> code.verification.ulp <= 0.5
    True
    """
    if not isinstance(norm, Normalizer):
        raise PatternError(_not_a_normalizer(norm))
    _check_frozen(norm)
    kind = target_named(target)
    asked = {"layout": layout, "channels": channels, "model": model, "input": input}
    asked |= {"model_layout": model_layout, "force": force}
    _check_asked(kind, asked)
    existing = _existing(path) if "existing" in kind.options else None
    made = kind.make(norm, Order(**asked, existing=existing, path=str(path or ""), name=name))
    unit = raw_unit(norm)
    error = _loss(norm, made, kind, approximate, unit) if made.lost else 0.0
    verification, reason = _verify(kind, made) if verify else (None, "it was not asked for")
    result = Exported(
        kind.name,
        kind.title,
        made.content,
        made.value,
        made.expects,
        made.gives,
        verification,
        reason,
        error,
        made.lost,
        made.notes,
        unit,
        _spelled(made.carried),
    )
    if path is not None:
        result.save(path)
    return result


def _check_asked(kind: Target, asked: dict[str, Any]) -> None:
    for name in ("layout", "model_layout"):
        if asked[name] not in (None, "hwc", "chw"):
            raise PatternError(f"{name} is {asked[name]!r}; the choice is 'hwc', 'chw' or nothing")
    check_options(kind, asked)
    idle = [name for name in ("input", "model_layout", "force") if asked[name]]
    if idle and asked["model"] is None:
        raise PatternError(
            f"{idle[0]}={asked[idle[0]]!r} says something of a model; give model= too"
        )


def _not_a_normalizer(given: Any) -> str:
    if hasattr(given, "normalizer_for"):
        return (
            "the numbers are by group, and a target holds one set: export norm.normalizer_for(name)"
        )
    if hasattr(given, "provenance"):
        return (
            "a profile has no recipe yet: export zm.standardize(profile) or zm.zero_mean(profile)"
        )
    return f"export takes a normalizer, not a {type(given).__name__}"


def _check_frozen(norm: Normalizer) -> None:
    if norm.pattern.keeps_first:
        raise PatternError(
            f"under the pattern {str(norm.pattern)!r} each sample has its own numbers, which fit "
            "no other data: export a normalizer that was measured over the samples"
        )


def _existing(path: str | os.PathLike[str] | None) -> bytes | None:
    if path is None or not Path(path).is_file():
        return None
    return Path(path).read_bytes()


def _loss(norm: Normalizer, made: Made, kind: Target, approximate: bool, raw_unit: str) -> float:
    """The error of an approximation; refused unless it was asked for."""
    error = error_of(norm, made.carried)
    if approximate:
        return error
    raise UnitError(
        f"{kind.title} cannot hold {made.lost}; it would be off by up to {error:.3g} {raw_unit}. "
        "Accept that with approximate=True (--approximate), or export to onnx, torch or numpy"
    )


def _verify(kind: Target, made: Made) -> tuple[Verification | None, str]:
    """Run on probe inputs; or the reason why not."""
    x = probes(made.carried)
    try:
        y = kind.run(made, x)
    except (ImportError, CannotRun) as error:
        return None, _short(str(error))
    ulp, raw, count = compare(made.carried, x, y, made.arithmetic)
    by = _version(kind.library) if kind.library else kind.title
    return Verification(by, ulp, raw, count, made.arithmetic, made.bound), ""


def _short(reason: str) -> str:
    """One line, and not a list of all that a foreign library knows."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    line = lines[0] if lines else "for no reason said"
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3].rstrip()}..."


def _spelled(norm: Normalizer) -> str:
    """The recipe and its formula, with the first three numbers."""
    said = norm.recipe.replace("_", " ")
    shift, scale = (_few(v) for v in (norm.shift, norm.scale))
    if norm.matrix is not None:
        return f"{said}, (x - {shift}) by a matrix of {' x '.join(map(str, norm.matrix.shape))}"
    divided = f"x - {shift}" if (norm.scale == 1).all() else f"(x - {shift}) / {scale}"
    return f"{said}, {divided}" + (f" + {_few(norm.offset)}" if norm.offset.any() else "")


def _few(values: Any) -> str:
    """A number, or up to three of them, rounded."""
    numbers = [f"{v:.5g}" for v in values.ravel()[:3].tolist()]
    if values.size == 1 or len(set(values.ravel().tolist())) == 1:
        return numbers[0]
    return f"[{', '.join(numbers)}{', ...' if values.size > 3 else ''}]"


def _version(library: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return library


def _verified(found: Verification | None, reason: str, raw_unit: str) -> str:
    if found is None:
        return f"not verified: {reason}"
    said = "verified by" if found.ok else "WRONG, as run by"
    return (
        f"{said} {found.by} on {found.n_values:,} values: off by at most {found.ulp:.2g} ulp of "
        f"{found.arithmetic}, {found.raw:.2g} {raw_unit} (bound: {found.bound:g} ulp)"
    )


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
