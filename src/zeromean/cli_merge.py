"""`zeromean merge` and `zeromean subtract`."""

from __future__ import annotations

from typing import Any

import click

from zeromean.cli_profiles import combined, saved_profile
from zeromean.terminal import check_suffix, colored, say_written


def _writing(command: Any) -> Any:
    """Options of both commands."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="Only errors."),
        click.option("--json", "as_json", is_flag=True, help="Print what -o would write."),
        click.option(
            "-o", "--output", type=click.Path(dir_okay=False), help=".json or .safetensors."
        ),
    ):
        command = option(command)
    return command


@click.command(short_help="Add saved profiles up.")
@click.argument("files", nargs=-1, required=True, type=click.Path())
@_writing
def merge(files: tuple[str, ...], output: str | None, as_json: bool, quiet: bool) -> None:
    """Add up the profiles in FILES: the profile of all their data together, bit for bit.

    \b
    zeromean merge monday.json tuesday.json -o week.json
    zeromean merge shards/*.json -o all.json
    """
    from zeromean.errors import MergeError

    check_suffix(output, (".json", ".safetensors"))
    total = saved_profile(files[0])
    digests = {total.provenance.digest: files[0]}
    for file in files[1:]:
        more = saved_profile(file)
        digest = more.provenance.digest
        if digest and digest in digests:
            raise MergeError(
                f"{file} was measured from the same files as {digests[digest]}; they would count "
                "twice"
            )
        digests[digest] = file
        total = combined(total, more, file, "+")
    _give(total, "merged", output, as_json, quiet)


@click.command(short_help="Take one saved profile out of another.")
@click.argument("whole", type=click.Path())
@click.argument("files", nargs=-1, required=True, type=click.Path())
@_writing
def subtract(
    whole: str, files: tuple[str, ...], output: str | None, as_json: bool, quiet: bool
) -> None:
    """Take the profiles in FILES out of WHOLE: what is left is as if they had never been in it.

    \b
    zeromean subtract all.json withdrawn.json -o rest.json
    """
    check_suffix(output, (".json", ".safetensors"))
    rest = saved_profile(whole)
    for file in files:
        rest = combined(rest, saved_profile(file), file, "-")
    _give(rest, f"{whole} without {', '.join(files)}", output, as_json, quiet)


def _give(profile: Any, name: str, output: str | None, as_json: bool, quiet: bool) -> None:
    from zeromean.summary import text_of

    if output:
        profile.save(output)
    if as_json:
        click.echo(profile.to_json(), nl=False)
        return
    if not (quiet and output):
        click.echo(text_of(profile, name=name, color=colored()), nl=False)
    say_written([output], quiet)
