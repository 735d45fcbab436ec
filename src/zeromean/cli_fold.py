"""`zeromean fold`: an ONNX model that takes raw data, the normalization in its weights."""

from __future__ import annotations

import click

from zeromean.cli_numbers import METHODS, shipped_normalizer
from zeromean.terminal import check_apart, check_suffix, say_written

_DIFFERS = 1


@click.command("fold", short_help="Fold saved numbers into an ONNX model.")
@click.argument("model", type=click.Path())
@click.argument("numbers", type=click.Path())
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), required=True, help="An .onnx file."
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="What to make of a profile.",
)
@click.option(
    "--border",
    type=click.Choice(["pad", "map"]),
    default="pad",
    show_default=True,
    help="How the zeros around a convolution's input are kept: raw values padded in front, or a "
    "map of biases for inputs of one size.",
)
@click.option(
    "--layout",
    type=click.Choice(["hwc", "chw"]),
    help="Of the model's input, where the model leaves it open.",
)
@click.option("--uint8", is_flag=True, help="Let the folded model take uint8.")
@click.option("--input", "name", metavar="NAME", help="Of the model's input, if it has several.")
@click.option("--shape", metavar="C,H,W", help="Of one raw input, where the model leaves it open.")
@click.option("--no-verify", is_flag=True, help="Do not run both models on probes.")
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
def fold(
    model: str,
    numbers: str,
    output: str,
    method: str | None,
    border: str,
    layout: str | None,
    uint8: bool,
    name: str | None,
    shape: str | None,
    no_verify: bool,
    quiet: bool,
) -> None:
    """Fold NUMBERS, a saved normalizer or profile, into the first layer of an ONNX MODEL.

    The new model takes raw data, such as pixels 0..255, and gives what MODEL gives for normalized
    data, at the border of padded convolutions too. Both are run on probes; if they differ by more
    than rounding, nothing is written and the exit code is 1.

    \b
    zeromean fold model.onnx norm.json -o folded.onnx
    zeromean fold model.onnx train.json --method standardize --uint8 -o folded.onnx
    """
    check_suffix(output, (".onnx",))
    check_apart(output, model)
    from zeromean.graphs.folding import fold_model
    from zeromean.graphs.model_files import read_model, write_model

    folded, record = fold_model(
        read_model(model),
        shipped_normalizer(numbers, method),
        layout=layout,
        shape=_lengths(shape),
        border=border,
        input="uint8" if uint8 else "float",
        name=name,
        verify=not no_verify,
    )
    if not record.fits:
        click.echo(f"{record.sentence()}\nnothing was written: {record.advice()}", err=True)
        click.get_current_context().exit(_DIFFERS)
    write_model(folded, output)
    if not quiet:
        for line in record.lines:
            click.echo(line)
    say_written([output], quiet)


def _lengths(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        lengths = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        lengths = ()
    if not lengths or min(lengths) < 1:
        raise click.UsageError(f"--shape {text}: give the lengths of the axes, such as 3,224,224")
    return lengths
