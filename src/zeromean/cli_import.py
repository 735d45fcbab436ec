"""`zeromean import`: a normalizer from the numbers that another system keeps."""

from __future__ import annotations

import click

from zeromean.terminal import check_suffix, colored, say_written, silence

_KINDS = (
    *("huggingface", "timm", "albumentations", "keras", "caffe", "kaldi", "wenet", "lerobot"),
    *("nnunet", "bridgescaler"),
)


@click.command("import", short_help="Read the mean and std that another system keeps.")
@click.argument("source", type=click.Path())
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="A .json or .safetensors file."
)
@click.option("--from", "kind", type=click.Choice(_KINDS), help="Whose file it is (default: seen).")
@click.option(
    "--range", "range_", type=float, nargs=2, metavar="LOW HIGH", help="Scale of the raw data."
)
@click.option("--channels", help='Channel order, such as RGB; "" if they have no letters.')
@click.option("-p", "--pattern", help='Axes and what is kept, such as "n h w c -> c".')
@click.option("--dtype", help="Of the raw data, such as uint8.")
@click.option("--key", help="Which one of several: a speaker, feature, layer or scaler.")
@click.option(
    "--norm-vars/--no-norm-vars", default=None, help="Kaldi: whether features are divided by std."
)
@click.option("--json", "as_json", is_flag=True, help="Print what -o would write.")
@click.option("-q", "--quiet", is_flag=True, help="Only results and errors.")
def import_(
    source: str,
    output: str | None,
    kind: str | None,
    range_: tuple[float, float] | None,
    channels: str | None,
    pattern: str | None,
    dtype: str | None,
    key: str | None,
    norm_vars: bool | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Read the mean and std that SOURCE keeps, a file or folder of another system.

    Hugging Face and timm configurations, Albumentations' JSON, .keras files, Caffe's
    mean.binaryproto, Kaldi and WeNet statistics, LeRobot's stats.json, nnU-Net's fingerprint,
    bridgescaler's JSON. What the file does not say is asked for, never guessed.

    \b
    zeromean import preprocessor_config.json -o norm.json
    zeromean import mean.binaryproto -p "n h w c -> c" -o norm.json
    zeromean import global_cmvn --norm-vars -o norm.json
    zeromean import stats.json --key observation.state -o norm.json
    """
    check_suffix(output, (".json", ".safetensors"))
    silence(quiet)
    from zeromean.importers.importing import import_normalizer
    from zeromean.summary import text_of

    norm = import_normalizer(
        source,
        kind,
        range=range_ or None,
        channels=channels,
        pattern=pattern,
        dtype=dtype,
        key=key,
        norm_vars=norm_vars,
    )
    if output:
        norm.save(output)
    if as_json:
        click.echo(norm.to_json(), nl=False)
        return
    click.echo(text_of(norm, name=source, color=colored()), nl=False)
    say_written([output], quiet)
