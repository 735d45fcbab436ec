"""Per-sample normalization: numbers measured from the batch itself, each time it is applied."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeromean.accumulation import Plan, measure_shard
from zeromean.errors import FormatError, PatternError, ZeromeanWarning
from zeromean.group_normalizer import check_recipe
from zeromean.normalizer import Normalizer
from zeromean.pattern import Pattern
from zeromean.profile import Profile
from zeromean.provenance import Provenance
from zeromean.sources import Item
from zeromean.sources.arrays import ItemShard

_Array = npt.NDArray[Any]


class BatchProfile(Profile):
    """The profile of one batch, whose samples keep their own numbers."""


def per_sample(
    recipe: Callable[..., Normalizer], pattern: str | Pattern, /, **options: Any
) -> SampleNormalizer:
    """Normalize every sample by its own numbers, measured when it is applied.

    ``"n h w c -> n"`` with `zeromean.standardize` is the contrast normalization of pictures
    (Coates, Ng and Lee, *An Analysis of Single-Layer Networks in Unsupervised Feature Learning*,
    AISTATS 2011); ``"n t f -> n f"`` is the cepstral mean and variance normalization of
    utterances (Viikki and Laurila, *Cepstral Domain Segmental Feature Vector Normalization for
    Noise Robust Speech Recognition*, Speech Communication 25, 1998).

    Parameters
    ----------
    recipe : function
        Such as `zeromean.standardize`.
    pattern : str or Pattern
        One that keeps its first axis.
    **options
        For the recipe, and lengths inside groups of the pattern such as ``g=8``.

    Returns
    -------
    SampleNormalizer

    Raises
    ------
    PatternError
        When the pattern does not keep its first axis, or the recipe is none.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> pictures = np.array([[[0, 2], [4, 6]], [[10, 10], [10, 50]]], dtype=np.uint8)
    >>> zm.per_sample(zm.zero_mean, "n h w -> n")(pictures)[1]
    array([[-10., -10.],
           [-10.,  30.]], dtype=float32)
    """
    if isinstance(recipe, Pattern) or (isinstance(recipe, str) and "->" in recipe):
        raise PatternError(
            f"the recipe comes first, then the pattern: zm.per_sample(zm.standardize, '{recipe}')"
        )
    if not isinstance(pattern, str | Pattern):
        raise PatternError(
            f"the pattern is a {type(pattern).__name__}; give one that keeps its first axis, such "
            "as zm.per_sample(zm.standardize, 'n h w c -> n')"
        )
    check_recipe(recipe, f"zm.per_sample({{}}, '{pattern}')")
    names = str(pattern).replace("(", " ").replace(")", " ").split()
    sizes = {name: options.pop(name) for name in list(options) if name in names}
    parsed = Pattern.parse(pattern, **sizes)
    if not parsed.keeps_first:
        raise PatternError(
            f"the pattern {str(parsed)!r} does not keep its first axis, so it has no numbers for "
            "each sample; measure the data and give the profile to the recipe"
        )
    return SampleNormalizer(recipe, parsed, options)


@dataclass(frozen=True, eq=False)
class SampleNormalizer:
    """A recipe that is applied to each sample of a batch by itself; see `per_sample`.

    Attributes
    ----------
    recipe : function
    pattern : Pattern
        Keeps its first axis.
    options : mapping
        For the recipe.
    before, then_ : tuple of normalizers
        What is applied before and after, in order; from `then`.
    """

    recipe: Callable[..., Normalizer]
    pattern: Pattern
    options: Mapping[str, Any] = field(default_factory=dict)
    before: tuple[Any, ...] = ()
    then_: tuple[Any, ...] = ()

    def of(self, batch: Any) -> Normalizer:
        """The numbers of one batch, as a normalizer of just that batch: it can invert.

        Parameters
        ----------
        batch : array
            With all its axes.

        Returns
        -------
        Normalizer
            Samples without spread get scale 1; those without a number stay as they are.

        Raises
        ------
        PatternError
            When the shape does not fit the pattern, or a sample has too few values for `ddof`.
        """
        array = np.asarray(batch)
        own = self._profile(array)
        empty = np.asarray(own.count == 0)
        if not empty.any():
            return self._normalizer(own)
        made = self._normalizer(self._profile(self._filled(array, empty)))
        none = {n for n, e in zip(own.names, np.ravel(empty), strict=True) if e}
        return replace(
            made,
            shift=np.where(empty, 0.0, made.shift),
            scale=np.where(empty, 1.0, made.scale),
            offset=np.where(empty, 0.0, made.offset),
            constant=tuple(name for name in made.constant if name not in none),
        )

    def _filled(self, array: _Array, empty: Any) -> _Array:
        """The batch with zeros for what has no number, so that a recipe can be asked."""
        if array.size == 0:
            return np.zeros([max(1, n) for n in array.shape], array.dtype)
        held = array.copy()
        held[np.broadcast_to(self.pattern.spread(empty, array.shape), array.shape)] = 0
        return held

    def _profile(self, array: _Array) -> BatchProfile:
        plan = Plan(self.pattern)
        shard = ItemShard((Item(array, "the batch", batched=True),))
        (partial,) = measure_shard(shard, plan).partials.values()
        profile = partial.profile(plan, "", Provenance())
        return BatchProfile(**{f.name: getattr(profile, f.name) for f in fields(profile)})

    def _normalizer(self, own: BatchProfile) -> Normalizer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZeromeanWarning)  # a blank picture is nothing odd
            return self.recipe(own, **self.options)

    def __call__(
        self, x: Any, *, out: Any = None, dtype: Any = None, layout: str | None = None
    ) -> Any:
        """Measure each sample of a batch and normalize it.

        Parameters
        ----------
        x : array
            With all its axes.
        out, dtype, layout : optional
            As for `Normalizer`.

        Returns
        -------
        ndarray
            Of the shape of `x`, unless `layout` says otherwise.

        Raises
        ------
        PatternError
            When the shape does not fit the pattern, or a sample has too few values for `ddof`.
        """
        for first in self.before:
            x = first(x, dtype="float64")
        last = {"out": out, "dtype": dtype, "layout": layout}
        y = self.of(x)(x, **(last if not self.then_ else {"dtype": "float64"}))
        for i, second in enumerate(self.then_):
            y = second(y, **(last if i == len(self.then_) - 1 else {"dtype": "float64"}))
        return y

    def invert(self, y: Any, **options: Any) -> Any:
        """There is none: the numbers of a batch are gone once it is normalized.

        Raises
        ------
        PatternError
            Always, with what to do.
        """
        raise PatternError(
            "the numbers are gone: they were measured from the batch; keep them with "
            "norm.of(batch), and use norm.of(batch).invert"
        )

    def torch(self, **options: Any) -> Any:
        """There is none: a module needs numbers that are known beforehand.

        Raises
        ------
        PatternError
            Always, with what to do.
        """
        raise PatternError(
            "a module needs numbers that are known beforehand, and these are measured from each "
            "batch; call norm.of(batch).torch() for those of one batch"
        )

    def save(self, path: Any) -> None:
        """There is nothing to save: the numbers are measured from each batch.

        Parameters
        ----------
        path : path

        Raises
        ------
        FormatError
            Always, with what to do.
        """
        raise FormatError(
            f"{path}: there are no numbers to save, as they are measured from each batch; write "
            f"{self!r} where it is needed"
        )

    def then(self, second: Any) -> SampleNormalizer:
        """This and then another; between them the data is float64.

        Parameters
        ----------
        second : Normalizer or SampleNormalizer

        Returns
        -------
        SampleNormalizer
        """
        return SampleNormalizer(
            self.recipe, self.pattern, self.options, self.before, (*self.then_, second)
        )

    def after(self, first: Normalizer) -> SampleNormalizer:
        """Another and then this one.

        Parameters
        ----------
        first : Normalizer

        Returns
        -------
        SampleNormalizer
        """
        return SampleNormalizer(
            self.recipe, self.pattern, self.options, (first, *self.before), self.then_
        )

    def __repr__(self) -> str:
        given = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f'per_sample({self.recipe.__name__}, "{self.pattern}"{given})'
