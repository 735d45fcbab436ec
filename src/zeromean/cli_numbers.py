"""The normalizer that a command was given: saved as one, or by a method from a saved profile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

METHODS = (
    "zero-mean",
    "standardize",
    "min-max",
    "mean-normalize",
    "max-abs",
    "robust",
    "whiten-pca",
    "whiten-zca",
)

_FLAGS = {"n_components": "components", "source": "from"}
#: Which options belong to which method, and what the recipe calls them.
_OF_METHOD = {
    "standardize": ("ddof",),
    "min-max": ("feature_range",),
    "robust": ("source",),
    "whiten-pca": ("eps", "n_components"),
    "whiten-zca": ("eps", "n_components"),
}


def normalizer_for(
    numbers: str, method: str | None, options: dict[str, Any] | None = None, shards: str = ""
) -> Any:
    """The normalizer in a file, or what a method makes of the profile or pattern.

    To undo a folder of shards with a profile alone, it is what the folder was made with.
    """
    from zeromean.loading import load

    options = options or {}
    odd = [name for name in options if name not in _OF_METHOD.get(method or "", ())]
    if odd:
        flag = _FLAGS.get(odd[0], odd[0]).replace("_", "-")
        raise click.UsageError(f"--{flag} does not belong to --method {method or 'zero-mean'}")
    if "->" in numbers:
        from zeromean.samples import per_sample

        if "source" in options:
            raise click.UsageError("--from belongs to a profile; a pattern measures each sample")
        recipe, options = _recipe(method, options)
        return per_sample(recipe, numbers, **options)
    loaded: Any = load(numbers)
    if hasattr(loaded, "shift") or hasattr(loaded, "normalizer_for"):  # for all, or each group
        if options or (method is not None and method.replace("-", "_") != loaded.recipe):
            raise click.UsageError(f"{numbers} is a normalizer already ({loaded.recipe})")
        return loaded
    if not hasattr(loaded, "provenance") and not hasattr(loaded, "normalizers"):
        raise click.UsageError(f"{numbers} is no profile or normalizer, but a study")
    if shards and method is None:
        from zeromean.shard_folders import manifest_of, recorded_normalizer

        recorded = recorded_normalizer(Path(shards), manifest_of(Path(shards)) or {})
        if recorded is not None:
            return recorded
    return _made(loaded, method, options)


def shipped_normalizer(numbers: str, method: str | None) -> Any:
    """The normalizer in a file; of a profile only by a method that is named.

    Zero-mean by default would be a trap here: the model was trained with one of them.
    """
    from zeromean.loading import load

    if method is None and "->" not in numbers and hasattr(load(numbers), "provenance"):
        raise click.UsageError(
            f"{numbers} is a profile: say what the model was trained with, such as "
            "--method standardize or --method zero-mean"
        )
    return normalizer_for(numbers, method)


def _made(profile: Any, method: str | None, options: dict[str, Any]) -> Any:
    """What a method makes of a profile, or of that of each group."""
    from zeromean.errors import PatternError

    recipe, options = _recipe(method, options)
    try:
        if not hasattr(profile, "normalizers"):
            return recipe(profile, **options)
        if "source" in options:
            raise click.UsageError("--from is not split by group; it takes one profile of all data")
        return profile.normalizers(recipe, **options)
    except PatternError as error:
        text = str(error).replace("robust(profile, source)", "--from TRAIN")
        raise PatternError(text) from None


def _recipe(method: str | None, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A recipe by its name on the command line, and its options by theirs."""
    import zeromean

    method = method or "zero-mean"
    if method.startswith("whiten"):
        return zeromean.whiten, {"kind": method.removeprefix("whiten-"), **options}
    if "feature_range" in options:
        low, high = options["feature_range"]
        options = {"low": low, "high": high}
    return getattr(zeromean, method.replace("-", "_")), options
