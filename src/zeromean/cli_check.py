"""`zeromean check`: does a model normalize by itself, and by the same numbers?"""

from __future__ import annotations

import json

import click

from zeromean.cli_numbers import METHODS, shipped_normalizer
from zeromean.terminal import silence

_FOUND = 1


@click.command("check", short_help="Would these numbers be applied twice?")
@click.argument("numbers", type=click.Path())
@click.option("--model", type=click.Path(), required=True, help="An .onnx file.")
@click.option("--input", "input_", help="Of the model, where it has several that could be meant.")
@click.option("--method", type=click.Choice(METHODS), help="What to make of a profile.")
@click.option("--channels", default="", help="The channel order that the model wants, such as RGB.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("-q", "--quiet", is_flag=True, help="Only what is wrong.")
@click.pass_context
def check(
    context: click.Context,
    numbers: str,
    model: str,
    input_: str | None,
    method: str | None,
    channels: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Hold NUMBERS, a saved normalizer or profile, against a model.

    Follows the model's input to its first layer, and compares what is subtracted and divided on
    the way with NUMBERS. The exit code is 0 when nothing is wrong, 1 when something was found,
    2 for input that cannot be read.

    \b
    zeromean check norm.json --model net.onnx
    zeromean check train.json --method standardize --model net.onnx --json
    """
    from zeromean.diagnosis.checking import check as run

    silence(quiet)
    found = run(shipped_normalizer(numbers, method), model=model, input=input_, channels=channels)
    if as_json:
        click.echo(json.dumps(found.to_fields(), indent=1))
    elif not quiet:
        click.echo(repr(found))
    elif not found.ok:
        click.echo("\n".join(str(f) for f in found if f.severity != "note"))
    if not found.ok:
        context.exit(_FOUND)
