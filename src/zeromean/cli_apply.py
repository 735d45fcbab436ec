"""`zeromean apply`: normalizes images, arrays or tables with saved numbers, and undoes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeromean.cli_numbers import METHODS, normalizer_for
from zeromean.terminal import counting, reading, report_skips, silence

if TYPE_CHECKING:
    from zeromean.outputs import Applied

#: Options that say nothing about these kinds of sources.
_IDLE = {
    "array": ("--format", "--shard-size"),
    "table": ("--format", "--shard-size", "--layout"),
    "shards": ("--format", "--shard-size", "--layout"),
    "pictures": (),
}
_CALLED = {
    "array": "an array file, which becomes one file",
    "table": "a table",
    "shards": "a folder of shards, which keeps its files; raw pictures have channels last",
}


def _components(context: Any, parameter: Any, text: str | None) -> int | float | None:
    """A number of directions, or a share of the variance."""
    if text is None:
        return None
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if number >= 1 if kind is int else 0 < number < 1:
            return number
    raise click.BadParameter(
        f"{text!r} is neither a number of directions, 1 or more, nor a share of the variance "
        "between 0 and 1"
    )


@click.command("apply", short_help="Normalize images, arrays or tables.")
@click.argument("numbers", type=click.Path())
@click.argument("source")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    required=True,
    help="A new folder for images; a file for an array or a table.",
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="What to make of a profile (default: zero-mean).",
)
@click.option("--ddof", type=click.IntRange(0), help="With standardize: 1 divides by n - 1.")
@click.option(
    "--feature-range",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="With min-max: what min and max become (default: 0 1).",
)
@click.option("--eps", type=float, help="With whiten: added to every eigenvalue.")
@click.option(
    "--components",
    metavar="N|SHARE",
    callback=_components,
    help="With whiten: how many to keep, or the share of the variance, such as 0.99.",
)
@click.option(
    "--from",
    "from_",
    multiple=True,
    metavar="TRAIN",
    help="With robust: the data that was measured, to read again for its quantiles.",
)
@click.option("--invert", is_flag=True, help="Undo it: from normalized data back to raw data.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["npy", "npz", "safetensors"]),
    help="Of the shards of a folder (default: npz); npy needs pictures of one size.",
)
@click.option("--shard-size", type=click.IntRange(1), help="Pictures in a shard (default: 256 MB).")
@click.option(
    "--layout",
    type=click.Choice(["hwc", "chw"]),
    help="Of the axes of a picture (default: hwc); chw is what PyTorch wants.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "bfloat16", "float32", "float64"]),
    help="Of the result (default: float32; a table keeps its float columns).",
)
@reading
def apply(
    numbers: str,
    source: str,
    output: str,
    method: str | None,
    ddof: int | None,
    feature_range: tuple[float, float] | None,
    eps: float | None,
    components: int | float | None,
    from_: tuple[str, ...],
    invert: bool,
    format_: str | None,
    shard_size: int | None,
    layout: str | None,
    dtype: str | None,
    ext: tuple[str, ...],
    strict: bool,
    quiet: bool,
) -> None:
    """Normalize SOURCE with NUMBERS, a saved profile or normalizer.

    A folder of images becomes float shards with a manifest; an array file becomes another, and so
    does a CSV or Parquet table. NUMBERS may be a pattern that keeps the samples: then every
    picture is normalized by its own numbers.

    \b
    zeromean apply train.json data/train -o centered
    zeromean apply train.json x_test.npy --method standardize -o x_test.f32.npy
    zeromean apply train.json centered --invert -o pictures
    zeromean apply "n h w c -> n" data/train --method standardize -o contrast
    """
    from zeromean.application import apply_files, kind_of
    from zeromean.outputs import Output

    silence(quiet)
    kind = kind_of(source)
    asked = {"--format": format_, "--shard-size": shard_size, "--layout": layout}
    idle = [name for name in _IDLE[kind] if asked[name] is not None]
    if idle and (invert or kind != "shards"):  # else the source is the mistake
        raise click.UsageError(f"{', '.join(idle)}: does nothing, as {source} is {_CALLED[kind]}")
    given: dict[str, Any] = {
        "ddof": ddof,
        "feature_range": feature_range,
        "eps": eps,
        "n_components": components,
        "source": list(from_) or None,
    }
    options = {k: v for k, v in given.items() if v is not None}
    norm = normalizer_for(numbers, method, options, source if invert and kind == "shards" else "")
    with counting("inverting" if invert else "normalizing", quiet) as progress:
        applied = apply_files(
            norm,
            source,
            Path(output),
            Output(dtype, "chw" if layout == "chw" else None, format_ or "npz", shard_size, invert),
            strict=strict,
            extensions=ext or None,
            progress=progress,
        )
    report_skips(applied.skipped, {}, quiet)
    click.echo(f"{_called(norm)}{' undone' if invert else ''}: {_outcome(applied)}, in {output}")


def _called(norm: Any) -> str:
    """The recipe, and whose numbers they are."""
    what = norm.recipe if isinstance(norm.recipe, str) else norm.recipe.__name__
    what = what.replace("_", "-")
    if hasattr(norm, "normalizer_for"):
        from zeromean.group_tables import counted

        return f"{what}, each of {counted(len(norm))} by its own numbers"
    return what


def _outcome(applied: Applied) -> str:
    items = f"{applied.items:,} item{'' if applied.items == 1 else 's'}"
    if applied.low > applied.high:  # nothing finite was written
        return items
    return f"{items}, {applied.dtype} from {applied.low:.6g} to {applied.high:.6g}"
