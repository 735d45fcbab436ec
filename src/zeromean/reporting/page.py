"""Puts the page together: facts, figures, texts, style and script in one file."""

from __future__ import annotations

import json
from functools import partial
from importlib.resources import files
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from zeromean import __version__
from zeromean.errors import PatternError
from zeromean.recipes import standardize
from zeromean.reporting import gathering, neuron, pasting, pictures
from zeromean.reporting.belonging import kinship
from zeromean.reporting.studies import story
from zeromean.reporting.versions import three_times
from zeromean.reporting.wording import Words, count, number, silently

if TYPE_CHECKING:
    from zeromean.profile import Profile

_SCRIPTS = ("neuron", "painting", "zigzag")
_SLIDER_END = 3.0
_POINT_STD = 1 / np.sqrt(3)  # of points drawn evenly from -1 to 1


def build(
    profile: Profile,
    study: Any,
    *,
    lang: str,
    source: Any,
    samples: int,
    title: str,
    file: str,
) -> str:
    """The whole page as one string; see `zeromean.report`."""
    environment = _environment()
    words = Words(lang)
    if not np.any(profile.count):
        raise PatternError("the profile is empty: there is nothing to report")
    norm = silently(standardize, profile)
    pairs = words.nested.get("figure", {}).get("pairs", [])
    name = title or _name(profile, words)
    kin = "" if study is None else kinship(profile, study)
    context = {
        "t": words,
        "gap": "" if lang == "zh" else " ",  # between two sentences
        "name": name,
        "lead": gathering.lead(profile, words),
        "measured": gathering.measured(profile, words),
        "stds": gathering.three_stds(profile, words),
        "provenance": gathering.provenance(profile, words),
        "extrema_exact": profile.extrema_exact,
        "trust": gathering.trust(profile, words),
        "caution": gathering.caution(profile, words),
        "three": three_times(profile, source, words, pairs),
        "versions": gathering.three_versions(profile, words),
        "mean_pictures": pictures.mean_pictures(profile),
        "samples": _samples(profile, source, samples),
        "snippets": pasting.snippets(norm, words, file, _mark(profile)),
        "big": count(norm.shift.size) if norm.shift.size > pasting.MOST_PASTED else "",
        "constant": words.listed(norm.constant),
        "zigzag": _zigzag(profile, words),
        "stories": _stories(words),
        "study": None if study is None else story(study, words, pairs, profile, kin),
        "kin": kin,
        "all_items": _all_items(profile),
        "kin_said": words(f"study.kin_{kin}") if kin else "",
        "results_intro": _results_intro(study, words),
        "limits": _limits(words),
        "version": __version__,
        "number": number,
        "css": _part("page.css"),
        "script": "".join(_part(f"{name}.js") for name in _SCRIPTS),
    }
    return str(environment.get_template("page.html.j2").render(context))


def _environment() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise ImportError('the report needs jinja2: pip install "zeromean[report]"') from error

    loader = jinja2.FunctionLoader(_part_or_none)
    return jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _part(name: str) -> str:
    return files("zeromean.reporting").joinpath(name).read_text(encoding="utf-8")


def _part_or_none(name: str) -> str | None:
    return _part(name) if name.endswith(".j2") else None


def _all_items(profile: Profile) -> str:
    """How many items were measured, where it was all that there are."""
    items = profile.provenance.items
    return count(items) if items and not gathering.is_partial(profile) else ""


def _mark(profile: Profile) -> str:
    """What pasted code says of numbers that are not exact."""
    return "" if profile.estimate is None else profile.estimate.short


def _name(profile: Profile, words: Words) -> str:
    """The last part of the path that was measured."""
    for source in profile.provenance.sources:
        name = PurePath(source.split(" (")[0]).name
        if name:
            return name
    return words.plain("page.unnamed")


def _results_intro(study: Any, words: Words) -> list[Any]:
    """What is counted, and how finely, in a paragraph each."""
    if study is None:
        return []
    from zeromean.convergence.results import SMALLEST_EFFECT

    smallest = words.times(SMALLEST_EFFECT)
    said = [words("study.results_intro", seeds=study.settings.seeds, smallest=smallest)]
    for key, races in (
        ("checks_full", [b for b in study.benchmarks if not b.batch]),
        ("checks_net", [b for b in study.benchmarks if b.batch]),
    ):
        for race in races[:1]:
            given = {"most": race.max_steps, "every": race.every, "batch": race.batch}
            said.append(words(f"study.{key}", **given))
    return said


def _limits(words: Words) -> list[dict[str, Any]]:
    """The claims that must not be taken from the page, each with what holds instead."""
    from markupsafe import Markup

    return [
        {key: Markup(text) for key, text in item.items()} for item in words.texts["limits.item"]
    ]


def _samples(profile: Profile, source: Any, wanted: int) -> list[pictures.Sample]:
    if source is None or wanted < 1:
        return []
    return list(silently(partial(pictures.samples, source, profile), wanted))


# ---------------------------------------------------------------- the race


def _zigzag(profile: Profile, words: Words) -> dict[str, Any]:
    """What the script needs: its texts, and where the slider starts."""
    own = gathering.ratio(profile)
    own = 0.0 if not np.isfinite(own) else own
    mean = float(np.clip(own * _POINT_STD, -_SLIDER_END, _SLIDER_END))
    config = {
        "seed": neuron.SEED,
        "order": neuron.ORDER,
        "mean": round(mean, 2),
        "std": float(_POINT_STD),
        "timid": neuron.TIMID,
        "few": neuron.FEW,
        "story": neuron.STORY_MEAN,
        "texts": {key[7:]: text for key, text in words.texts.items() if key.startswith("zigzag.")},
        "percent": words.texts["page.percent"],
        "times": words.texts["page.times"],
    }
    clamped = abs(own) * _POINT_STD > _SLIDER_END
    # "<" is written as an escape, so that no text can end the script element.
    text = json.dumps(config, ensure_ascii=False).replace("<", "\\u003c")
    return {
        "json": text,
        "mean": f"{round(mean, 2):.2f}",
        "yours": words("zigzag.yours_clamped" if clamped else "zigzag.yours", ratio=number(own)),
        "points": neuron.POINTS,
        "rates": len(neuron.RATES),
    }


def _stories(words: Words) -> dict[str, Any]:
    """The four stories as a table, computed here: for print, and where no script runs."""
    keys = ("row_slowdown", "row_same", "row_turns", "row_path")
    heads = [words.plain(f"zigzag.{key}") for key in ("still_story", "still_shifted")]
    heads += [words.plain("zigzag.still_centered"), *(words.plain(f"zigzag.{k}") for k in keys)]
    told = neuron.stories()
    rows = [
        [
            words(f"zigzag.story_{name}"),
            race.shifted.reached,
            race.centered.reached,
            _slowdown(race, words),
            words.percent(race.shifted.same_sign),
            words.percent(race.shifted.turns),
            f"{race.shifted.path_ratio:.2f}",
        ]
        for name, race in told
    ]
    caption = words("zigzag.still_caption", sds=number(neuron.STORY_MEAN / _POINT_STD, 3))
    table = gathering.Table(caption, heads, rows)
    note = words("zigzag.still_note", predicted=words.times(told[0][1].predicted))
    return {"table": table, "note": note}


def _slowdown(race: neuron.Race, words: Words) -> str:
    """How many times as many updates; of few updates no ratio, which would look finer than it is.

    The script does the same.
    """
    first, second = race.shifted.reached, race.centered.reached
    if race.slowdown is None or second is None:
        return words.plain("zigzag.none")
    if second < neuron.FEW:
        return words.plain("zigzag.few", a=first, b=second)
    return words.times(race.slowdown)
