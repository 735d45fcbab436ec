"""`zeromean export`: writes saved numbers for the place where the model runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zeromean.cli_numbers import METHODS, shipped_normalizer
from zeromean.exporters.targets import HOMES
from zeromean.terminal import check_apart, check_suffix, say_written, silence

_WRONG = 1


@click.command("export", short_help="Write the numbers for a framework or runtime.")
@click.argument("numbers", type=click.Path())
@click.option("--to", "target", type=click.Choice(list(HOMES)), required=True, metavar="TARGET")
@click.option("-o", "--output", type=click.Path(), help="File (default: text goes to stdout).")
@click.option("--method", type=click.Choice(METHODS), help="What to make of a profile.")
@click.option(
    "--layout", type=click.Choice(["hwc", "chw"]), help="Of the pictures that the target is given."
)
@click.option("--channels", default="", help="Their channel order, such as RGB.")
@click.option(
    "--model",
    type=click.Path(exists=True, dir_okay=False),
    help="With onnx: put it in front of this.",
)
@click.option("--input", "input_", metavar="NAME", help="Of that model, if it has several.")
@click.option(
    "--model-layout",
    type=click.Choice(["hwc", "chw"]),
    help="Of the pictures that the model takes, where it leaves it open.",
)
@click.option("--force", is_flag=True, help="Also where the model normalizes by itself.")
@click.option(
    "--approximate", is_flag=True, help="Accept a target that cannot hold the numbers exactly."
)
@click.option("--no-verify", is_flag=True, help="Do not run what was written.")
@click.option("-q", "--quiet", is_flag=True, help="Only the result and errors.")
@click.pass_context
def export(
    context: click.Context,
    numbers: str,
    target: str,
    output: str | None,
    method: str | None,
    layout: str | None,
    channels: str,
    model: str | None,
    input_: str | None,
    model_layout: str | None,
    force: bool,
    approximate: bool,
    no_verify: bool,
    quiet: bool,
) -> None:
    """Write NUMBERS, a saved normalizer or profile, for TARGET.

    \b
    TARGET is one of
      torch         a program for torch.export.load (.pt2)
      torch-state   a state dict (.safetensors)
      torchvision   transforms.v2 as Python code
      huggingface   preprocessor_config.json; an existing file is updated
      timm          pretrained_cfg in config.json; an existing file is updated
      albumentations, keras, sklearn, openvino, opencv, opencv-params
      onnx          a stand-alone model, or with --model in front of yours
      numpy, c, javascript    plain code without a framework
      markdown      a block for a model card
      json          a normalizer of zeromean's own, for every other command

    What was written is run on probe inputs with the target's own library, where it is installed,
    and compared with the exact answer.

    \b
    zeromean export norm.json --to torchvision
    zeromean export norm.json --to huggingface -o model/preprocessor_config.json
    zeromean export train.json --method standardize --to onnx --model net.onnx -o served.onnx
    """
    from zeromean.exporters.exporting import export as run
    from zeromean.exporters.targets import target_named

    kind = target_named(target)
    check_suffix(output, kind.suffixes)
    if output is None and not kind.text:
        raise click.UsageError(f"{kind.title} is a binary file; give -o FILE{kind.suffixes[0]}")
    check_apart(output, model, numbers)
    silence(quiet)
    made: Any = run(
        shipped_normalizer(numbers, method),
        target,
        output,
        layout=layout,
        channels=channels,
        model=model,
        input=input_,
        model_layout=model_layout,
        force=force,
        approximate=approximate,
        verify=not no_verify,
        name=Path(numbers).name,
    )
    if output is None:
        click.echo(made.text, nl=False)
    if not quiet:
        for line in made.lines:
            click.echo(line, err=True)
    say_written([output], quiet)
    if made.verification is not None and not made.verification.ok:
        click.echo(
            f"error: what was written for {target} gives other numbers than it should; do not use "
            f"it, and report it with {numbers}",
            err=True,
        )
        context.exit(_WRONG)
