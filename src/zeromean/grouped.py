"""A profile for each group of one data set: `GroupedProfile`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Self

from zeromean import documents, group_file, profile_file
from zeromean.documents import field
from zeromean.errors import FormatError, MergeError, ZeromeanError, ZeromeanWarning
from zeromean.group_normalizer import GroupedNormalizer, check_recipe
from zeromean.normalizer import Normalizer
from zeromean.pattern import Pattern
from zeromean.profile import Profile
from zeromean.provenance import Provenance, Units
from zeromean.reweighting import WeightedProfile, reweighted
from zeromean.statistics.groups import GroupBy, in_order

_MAX_ROWS = 12
_NOT_ON_TOP = ("kind", "checksum", "statistics")


class GroupedProfile(Mapping[str, Profile]):
    """A `Profile` for each group: class, speaker, site. Adds, subtracts, reweights, saves.

    Made by `zeromean.measure` with ``by=``, or by `zeromean.load`. Groups are listed by name,
    whole numbers by size.

    Parameters
    ----------
    profiles : mapping of str to Profile
        All of one pattern, kept shape, dtype and units.
    provenance : Provenance, optional
        Of all groups together; by default the sum of theirs.
    empty : Profile, optional
        The profile of no data, for no groups.

    Raises
    ------
    MergeError
        When two groups describe different things, naming the second.

    Examples
    --------
    >>> import numpy as np
    >>> import zeromean as zm
    >>> x = np.array([[1.0], [3.0], [101.0], [103.0]])
    >>> by_site = zm.measure(x, by=["a", "a", "b", "b"])
    >>> by_site
    GroupedProfile(2 groups, "n d -> d", float64, 4 items, 4 values)
      group  items  mean 0  std 0
      a          2       2      1
      b          2     102      1
      total      4      52  50.01
    >>> by_site["a"].std, by_site.total == zm.measure(x)
    (array([1.]), True)
    """

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        provenance: Provenance | None = None,
        empty: Profile | None = None,
    ) -> None:
        if not profiles and empty is None:
            raise MergeError("there is no group; say with empty= what a profile of no data is")
        self._held = {name: profiles[name] for name in in_order(profiles)}
        total = _added(self._held) if profiles else empty
        assert total is not None
        self._total = total if provenance is None else replace(total, provenance=provenance)

    # ------------------------------------------------------------ as a mapping

    def __getitem__(self, name: Any) -> Profile:
        try:
            return self._held[str(name)]
        except KeyError:
            known = ", ".join(map(repr, list(self)[:8])) + (", ..." if len(self) > 8 else "")
            raise KeyError(f"there is no group {str(name)!r}; there are {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def total(self) -> Profile:
        """All groups together: their exact sum, what measuring without ``by=`` gives."""
        return self._total

    @property
    def pattern(self) -> Pattern:
        """The pattern of all groups."""
        return self._total.pattern

    @property
    def kept_shape(self) -> tuple[int, ...]:
        """Shape of every read-out of every group."""
        return self._total.kept_shape

    @property
    def dtype(self) -> str:
        """Of the raw data."""
        return self._total.dtype

    @property
    def units(self) -> Units:
        """Range, channel order and color handling of the raw data."""
        return self._total.units

    @property
    def provenance(self) -> Provenance:
        """How all groups were measured."""
        return self._total.provenance

    # ------------------------------------------------------------ algebra

    def __add__(self, other: GroupedProfile) -> Self:
        """Both data sets together, group by group. Exact, and the same in any order."""
        groups = GroupBy(self._held) + GroupBy(_like(other, "add")._held)
        total = self._total + other._total
        return type(self)(groups.groups, total.provenance, total)

    def __radd__(self, other: object) -> Self:
        return self if other == 0 else NotImplemented  # so that sum() works

    def __sub__(self, other: GroupedProfile) -> Self:
        """What is left when `other` is taken out, group by group. Exact.

        A group of which nothing is left is not there any more.

        Raises
        ------
        MergeError
            Naming the group that is not there, or that does not hold what is subtracted.
        """
        groups = GroupBy(self._held) - GroupBy(_like(other, "subtract")._held)
        total = self._total - other._total
        return type(self)(groups.groups, total.provenance, total)

    def __eq__(self, other: object) -> bool:
        """The same groups with equal profiles; provenance may differ."""
        if not isinstance(other, GroupedProfile):
            return NotImplemented
        return self._held == other._held and self._total == other._total

    __hash__ = None  # type: ignore[assignment]

    # ------------------------------------------------------------ read-outs and normalizers

    def reweight(self, weights: Mapping[str, float] | str) -> WeightedProfile:
        """Combine the groups, every sample counted as often as its group's weight says.

        Parameters
        ----------
        weights : mapping of str to number, or "balanced"
            One for every group, 0 to leave it out; they need not add up to anything. Weights
            multiply samples, as scikit-learn's ``class_weight`` does and as a sampler that draws
            each item of a group with that weight. "balanced" is n / (k n_g) for each of k groups
            with n_g items of n, which gives each group the same share of items.

        Returns
        -------
        WeightedProfile
            Exact: weights are taken as the rationals they are, and read-outs are rounded once. It
            can be given to recipes.

        Raises
        ------
        PatternError
            For unknown and missing names, weights that are negative or not finite, or all 0.

        Examples
        --------
        >>> import numpy as np
        >>> import zeromean as zm
        >>> x = np.array([[1.0], [3.0], [101.0], [103.0]])
        >>> by_site = zm.measure(x, by=["a", "a", "b", "b"])
        >>> by_site.reweight({"a": 3, "b": 1}).mean
        array([27.])
        """
        if not self._held:
            raise MergeError("there is no group to give a weight to")
        return reweighted(self._held, weights)

    def normalizers(
        self, recipe: Callable[..., Normalizer], *args: Any, **options: Any
    ) -> GroupedNormalizer:
        """A normalizer for each group.

        Parameters
        ----------
        recipe : callable
            Such as `zeromean.standardize`.
        *args, **options
            Passed on to the recipe.

        Returns
        -------
        GroupedNormalizer

        Raises
        ------
        PatternError
            When it is no recipe.
        ZeromeanError
            As the recipe does, naming the group.
        """
        check_recipe(recipe, "grouped.normalizers({})")
        held = {}
        for name, profile in self._held.items():
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    held[name] = recipe(profile, *args, **options)
            except ZeromeanError as error:
                raise type(error)(f"group {name!r}: {error}") from None
            _pass_on(caught, name)
        return GroupedNormalizer(held)

    # ------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to `.json` (up to 10 000 kept entries in all groups together) or `.safetensors`.

        Parameters
        ----------
        path : path
            An old file is replaced at once, or stays as it is.

        Raises
        ------
        FormatError
            For another suffix, too many entries for JSON, or a folder that cannot be written.
        """
        documents.save(path, *self._document(tensors=str(path).endswith(".safetensors")))

    def to_json(self) -> str:
        """The text that `save` writes to a `.json` file."""
        return documents.to_text(self._document(tensors=False)[0])

    def _document(self, *, tensors: bool) -> tuple[dict[str, Any], documents.Tensors]:
        if not tensors:
            profile_file.check_size(len(self) * self._total.n_features)
        parts = {
            name: profile_file.to_document(profile, tensors=tensors)
            for name, profile in (self._held or {"": self._total}).items()
        }
        head = {"format": documents.FORMAT, "kind": "groups", "n_groups": len(self)}
        top = head | _top(self._total, tensors=tensors)
        provenance = top.pop("provenance")
        whole, arrays = group_file.packed(top, parts, "groups")
        return whole | {"provenance": provenance}, arrays

    @classmethod
    def from_document(cls, document: Mapping[str, Any], arrays: documents.Tensors) -> Self:
        """Groups from their document, every field checked.

        Parameters
        ----------
        document : mapping
        arrays : dict of str to ndarray
            The tensors beside it, empty for JSON.

        Returns
        -------
        GroupedProfile

        Raises
        ------
        FormatError
            Naming the group and the field.
        """
        held = {}
        for name, part, own in group_file.unpacked(document, arrays, "profile"):
            try:
                held[name] = profile_file.from_document(part, own)
            except FormatError as error:
                raise FormatError(f"group {name!r}: {error}") from None
        if not held:
            raise FormatError("field 'groups' is empty")
        n = field(document, "n_groups", int)
        empty = held.pop("") if n == 0 and list(held) == [""] else None
        if n != len(held):
            raise FormatError(f"field 'n_groups' is {n}, but there are {len(held)} groups")
        try:
            loaded = cls(held, Provenance.from_fields(document), empty)
        except MergeError as error:
            raise FormatError(f"field 'groups': {error}") from None
        _check_top(loaded, document, tensors=bool(arrays))
        return loaded

    def __repr__(self) -> str:
        from zeromean.group_tables import groups_as_text

        return groups_as_text(self._held, self._total, _MAX_ROWS)

    def _repr_html_(self) -> str:
        from zeromean.group_tables import groups_as_html

        return groups_as_html(self._held, self._total, _MAX_ROWS)


def _added(profiles: Mapping[str, Profile]) -> Profile:
    (_, total), *others = profiles.items()
    for name, profile in others:
        try:
            total = total + profile
        except MergeError as error:
            raise MergeError(f"group {name!r}: {error}") from None
    return total


def _like(other: object, verb: str) -> GroupedProfile:
    if not isinstance(other, GroupedProfile):
        raise MergeError(
            f"cannot {verb} a profile by group and {type(other).__name__}; its sum over all groups "
            "is .total"
        )
    return other


def _pass_on(caught: list[warnings.WarningMessage], group: str) -> None:
    for each in caught:
        if issubclass(each.category, ZeromeanWarning):
            warnings.warn(f"group {group!r}: {each.message}", each.category, stacklevel=3)
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def _top(total: Profile, *, tensors: bool) -> dict[str, Any]:
    """What stands on top of the groups: what they share, and the read-outs of the total."""
    document, _ = profile_file.to_document(total, tensors=tensors)
    return {k: v for k, v in document.items() if k not in _NOT_ON_TOP}


def _check_top(loaded: GroupedProfile, document: Mapping[str, Any], *, tensors: bool) -> None:
    """What stands on top must be what the groups add up to."""
    for name, value in _top(loaded.total, tensors=tensors).items():
        if name not in document:
            raise FormatError(f"lacks the field {name!r}")
        if name != "provenance" and document[name] != value:
            raise FormatError(
                f"field {name!r} does not follow from the groups: the file was edited or damaged"
            )
