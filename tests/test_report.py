"""The page: complete, self-contained, in both languages, and true to the profile."""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import zeromean as zm
from zeromean.cli import main
from zeromean.reporting import charts, compact, gathering, neuron, pictures, texts
from zeromean.reporting.page import _part
from zeromean.reporting.wording import Words, factor_text

pytest.importorskip("jinja2", reason="the report needs jinja2")
pytest.importorskip("matplotlib", reason="the report needs matplotlib")

LANGUAGES = texts.LANGUAGES
MOST_BYTES = 400_000
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use", "rect"}


@pytest.fixture(scope="module")
def images():
    """Twelve small color pictures, dark and bright."""
    rng = np.random.default_rng(4)
    return rng.integers(0, 200, (12, 9, 7, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def profile(images):
    return zm.measure(images, "n h w c -> c", channels="RGB")


@pytest.fixture(scope="module", params=LANGUAGES)
def page(request, profile, images):
    return zm.report(profile, lang=request.param, source=images, title="Dots & <dashes>")


class Outline(HTMLParser):
    """Elements with their attributes, and whether all are closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.found, self.text = [], [], []
        self.feed(page)
        assert self.open == [], self.open

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text.append(data)

    def all(self, *tags):
        return [attributes for tag, attributes in self.found if tag in tags]


def visible(page):
    return " ".join(" ".join(Outline(page).text).split())


# ---------------------------------------------------------------- the file


def test_the_page_is_small_and_well_formed(page):
    assert len(page.encode()) < MOST_BYTES
    assert page.startswith("<!doctype html>")
    Outline(page)


def test_the_check_of_form_can_fail():
    with pytest.raises(AssertionError):
        Outline("<p><b>bold</p>")


def outside(page):
    """Everything that a browser would fetch: addresses that are neither inside nor data."""
    outline = Outline(page)
    found = [
        value
        for _, attributes in outline.found
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
        and not value.startswith(("#", "data:image/"))
    ]
    found += re.findall(r"url\((?!#)[^)]*\)", page) + re.findall(r"@import.*", page)
    found += re.findall(r"\b(?:fetch|XMLHttpRequest|WebSocket|sendBeacon|import)\(", page)
    return found


def test_nothing_is_loaded_from_anywhere(page):
    assert outside(page) == []
    policy = next(m for m in Outline(page).all("meta") if "http-equiv" in m)
    assert policy["content"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "bad",
    [
        "<img src='https://example.org/a.png'>",
        "<p style='background:url(a.png)'>x</p>",
        "<script>fetch('/x')</script>",
        "<a href='mailto:someone'>x</a>",
    ],
)
def test_the_check_of_addresses_can_fail(bad):
    assert outside(bad)


def test_ids_are_unique_and_every_reference_has_its_target(page):
    attributes = [a for _, a in Outline(page).found]
    ids = [a["id"] for a in attributes if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {v[1:] for a in attributes for k, v in a.items() if k.endswith("href") and v[0] == "#"}
    wanted |= {a["aria-labelledby"] for a in attributes if "aria-labelledby" in a}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", page))
    assert wanted <= set(ids)


def test_the_script_finds_every_element_that_it_names(page):
    ids = {a["id"] for _, a in Outline(page).found if "id" in a}
    named = set(re.findall(r'\$\("([\w-]+)"\)', page)) | set(re.findall(r'put\("([\w-]+)"', page))
    assert named
    assert named <= ids
    cells = re.findall(r"^      (\w+): ", _part("zigzag.js").split("const rows = {")[1], re.M)
    assert {f"race-{key}-{k}" for key in ("updates", "slowdown", "path") for k in (0, 1)} <= ids
    assert {f"race-{key}-0" for key in cells if key in ("updates", "lambda", "turns")} <= ids


def test_two_runs_write_the_same_bytes(profile):
    assert zm.report(profile) == zm.report(profile)


# ---------------------------------------------------------------- for everybody


def test_pictures_and_controls_have_names(page):
    outline = Outline(page)
    for image in outline.all("img"):
        assert image["alt"].strip()
        assert image["width"]
        assert image["height"]
    for svg in outline.all("svg"):
        assert svg["role"] == "img"
        assert len(svg["aria-label"]) > 20
    labels = page.count("<label")
    assert labels == len(outline.all("input"))
    assert outline.all("p")[0]
    live = [p for p in outline.all("p") if p.get("aria-live") == "polite"]
    assert len(live) == 1


def test_headings_descend_one_by_one(page):
    levels = [int(tag[1]) for tag, _ in Outline(page).found if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_every_table_has_a_caption_and_scopes(page):
    outline = Outline(page)
    assert len(outline.all("table")) == len(outline.all("caption")) >= 4
    assert all(th.get("scope") in ("col", "row") for th in outline.all("th"))


def test_dark_phone_and_paper_are_thought_of():
    css = _part("page.css")
    for query in ("prefers-color-scheme: dark", "max-width", "print", "prefers-reduced-motion"):
        assert query in css
    assert ":focus-visible" in css


def luminance(color):
    channels = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first, second):
    """WCAG 2.2, 1.4.3."""
    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_colors_are_legible_in_light_and_dark():
    assert contrast("#000000", "#ffffff") == 21
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part))
        for part in _part("page.css").split("prefers-color-scheme: dark")[:2]
    )
    for colors in (light, dark):
        for name in ("ink", "soft", "accent", "shifted", "centered", "good"):
            for ground in ("paper", "card"):
                assert contrast(colors[name], colors[ground]) >= 4.5, (name, ground, colors)


# ---------------------------------------------------------------- languages


def placeholders(text):
    return set(re.findall(r"\{(\w+)\}", text))


def keys(language):
    held = texts.flat(texts.load(language))
    return {k: v for k, v in held.items() if not k.startswith("figure.")}


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_languages_say_the_same_things(language):
    english, other = keys("en"), keys(language)
    assert set(other) == set(english)
    for key, text in english.items():
        if isinstance(text, str):
            assert other[key].strip() or not text.strip(), key
            assert placeholders(text) == placeholders(other[key]), key
            assert re.findall(r"</?\w+", text) == re.findall(r"</?\w+", other[key]), key
    assert [set(item) for item in english["limits.item"]] == [{"claim", "truth"}] * 11
    assert [set(item) for item in other["limits.item"]] == [{"claim", "truth"}] * 11


def test_every_text_is_used_and_every_use_has_a_text():
    """Keys that code puts together from parts count as used by their first part."""
    sources = _part("page.html.j2") + "".join(
        _part(f"{name}.py")
        for name in ("page", "gathering", "studies", "pasting", "versions", "wording")
    )
    script = _part("zigzag.js")
    quoted = set(re.findall(r'"((?:\w+\.)+\w+)"', sources))
    quoted |= {f"zigzag.{k}" for k in re.findall(r'"(\w+)"', script)}
    built = set(re.findall(r'"((?:\w+\.)(?:\w+_)?)(?:\{|" ~)', sources))
    for key in keys("en"):
        assert key in quoted or any(key.startswith(part) for part in built), key
    sections = tuple(f"{name}." for name in texts.load("en") if name != "zigzag")
    for key in quoted:
        if key.startswith(sections) and key not in ("page.css", "page.html.j2"):
            assert key in keys("en"), key


def test_every_sentence_of_the_race_exists():
    said = set(re.findall(r"say_\w+", _part("zigzag.js")))
    assert {f"zigzag.{key}" for key in said} == {k for k in keys("en") if ".say_" in k}


def test_a_chinese_page_holds_no_english_sentence(profile, images):
    """Names, code and file formats stay; three English words in a row are a sentence."""
    page = zm.report(profile, lang="zh", source=images, title="图")
    body = re.sub(r"<(pre|code|cite)[ >].*?</\1>", "", page, flags=re.DOTALL)
    text = visible(body) + " ".join(re.findall(r'(?:alt|aria-label)="([^"]*)"', body))
    english = re.findall(r"(?:\b[A-Za-z]{2,}\b[ ,]+){2,}[A-Za-z]{2,}\b", text)
    allowed = {"Bottou, Orr"}
    assert [e for e in english if not any(a in e for a in allowed)] == []
    assert '<html lang="zh-Hans">' in page
    assert all(mark in text for mark in ("原始", "零均值", "标准化", "密度", "像素值"))
    assert "mean " not in " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", page))


def test_an_unknown_language_is_refused(profile):
    with pytest.raises(zm.PatternError, match="lang is 'fr'; choose one of en, zh"):
        zm.report(profile, lang="fr")


def test_missing_values_of_a_text_are_noticed():
    with pytest.raises(KeyError):
        Words("en")("page.title")
    with pytest.raises(KeyError):
        Words("en")("page.no_such_text")


# ---------------------------------------------------------------- what it says


def test_names_are_escaped(page):
    assert "<dashes>" not in page
    assert "Dots &amp; &lt;dashes&gt;" in page


def test_hostile_names_stay_text(images):
    nasty = "</script><script>alert(1)</script>{{ 7*7 }}\"'`$(x)"
    frame = {"a": [1.0, 2.0]}
    profile = zm.measure(np.column_stack([frame["a"], frame["a"]]), "n d -> d")
    page = zm.report(profile, title=nasty, file=nasty)
    assert "<script>alert" not in page
    assert "49" not in visible(page).split("zeromean")[0]
    assert page.count("</script>") == 2


def test_the_numbers_are_those_of_the_profile(page, profile):
    text = visible(page)
    for value in (*profile.mean, *profile.std, *profile.unit_mean):
        assert f"{value:.6g}" in text
    assert f"{int(profile.count.sum()):,}" in text
    assert str(profile.pattern) in text
    assert all(f"{value / 255:.6g}" in text for value in profile.mean_of_item_stds)


def test_three_versions_are_what_the_normalizers_give(profile, images):
    table = gathering.three_versions(profile, Words("en"))
    versions = {"original": images, "zero-mean": zm.zero_mean(profile)(images, dtype="float64")}
    versions["standardized"] = zm.standardize(profile)(images, dtype="float64")
    for name, version, _, mean, std, reach in table.rows:
        values = versions[version][..., "RGB".index(name)]
        low, high = (float(v.replace("−", "-")) for v in reach.split(" … "))
        assert float(mean) == pytest.approx(values.mean(), abs=0.05)
        assert float(std) == pytest.approx(values.std(), rel=1e-3)
        assert [low, high] == pytest.approx([values.min(), values.max()], rel=1e-3)


def code_of(page, title):
    """The snippet below a summary, as a reader would copy it."""
    import html

    found = re.search(rf"<summary>{title} .*?<code>(.*?)</code>", page, re.DOTALL)
    return html.unescape(found[1])


@pytest.mark.parametrize(
    ("pattern", "shape"),
    [
        ("n h w c -> c", (5, 4, 6, 3)),
        ("n c h w -> c", (5, 3, 4, 6)),
        ("n d -> d", (9, 4)),
        ("n h w ->", (5, 4, 6)),
        ("n h w -> h w", (9, 2, 3)),
    ],
)
def test_pasted_numpy_and_torch_standardize(pattern, shape):
    x = np.random.default_rng(1).normal(3, 2, shape).astype(np.float32)
    profile = zm.measure(x, pattern)
    page = zm.report(profile)
    expected = zm.standardize(profile)(x)
    names = {"x": x}
    exec(code_of(page, "NumPy"), names)
    np.testing.assert_allclose(names["y"], expected, rtol=1e-5, atol=1e-6)
    torch = pytest.importorskip("torch", reason="the snippet is PyTorch's")
    names = {"x": torch.from_numpy(x)}
    exec(code_of(page, "PyTorch"), names)
    np.testing.assert_allclose(names["y"].numpy(), expected, rtol=1e-5, atol=1e-5)


def test_pasted_picture_code_has_the_right_units(profile, images):
    page = zm.report(profile)
    config = json.loads(code_of(page, "Hugging Face, preprocessor_config.json"))
    scaled = images * config["rescale_factor"]
    y = (scaled - config["image_mean"]) / config["image_std"]
    np.testing.assert_allclose(y, zm.standardize(profile)(images), atol=1e-4)
    transform = code_of(page, "torchvision")
    mean = json.loads(re.search(r"mean=(\[.*?\])", transform)[1])
    assert mean == config["image_mean"]
    names = {"x": images}
    exec(code_of(page, "NumPy"), names)
    np.testing.assert_allclose(names["y"], zm.standardize(profile)(images), rtol=1e-4, atol=1e-6)


def test_pasted_keras_variance_is_the_square_of_the_std(profile):
    code = code_of(zm.report(profile), "Keras")
    variance = json.loads(re.search(r"variance=(\[.*?\])", code)[1])
    np.testing.assert_allclose(variance, profile.std**2, rtol=1e-8)


def test_too_many_means_become_a_file(images):
    profile = zm.measure(images, "n h w c -> h w c", channels="RGB")
    page = zm.report(profile, file="it's.json")
    assert "189 means" in visible(page)
    assert "<summary>NumPy" not in page
    assert "zeromean apply &#39;it&#39;&#34;&#39;&#34;&#39;s.json&#39; data" in page


def test_samples_are_shown_before_and_after(profile, images):
    shown = pictures.samples(images, profile, 3)
    assert len(shown) == 3
    from PIL import Image

    code = shown[0].original.uri.removeprefix("data:image/png;base64,")
    decoded = Image.open(io.BytesIO(base64.b64decode(code)))
    (image,) = (image for image in images if (image == np.asarray(decoded)).all())
    zero = zm.zero_mean(profile)(image)
    assert shown[0].zero_mean.negative == pytest.approx((zero < 0).mean())
    assert shown[0].original.negative == 0
    assert (shown[0].zero_mean.low, shown[0].zero_mean.high) == (zero.min(), zero.max())


def test_large_pictures_become_small():
    big = np.zeros((1000, 500, 3), np.uint8)
    shown = pictures.picture(big, 0, 255)
    assert (shown.height, shown.width) == (pictures.LARGEST, pictures.LARGEST // 2)
    assert shown.uri.startswith("data:image/jpeg;base64,")


PROFILES = {
    "one number": lambda: zm.measure(np.arange(30, dtype=np.uint8)),
    "floats": lambda: zm.measure(np.random.default_rng(2).normal(5, 1, (40, 3))),
    "unlike columns": lambda: zm.measure(
        np.random.default_rng(2).normal(5, [1e-3, 1, 1e4], (40, 3))
    ),
    "constant": lambda: zm.measure(np.full((9, 2), 7.0)),
    "many columns": lambda: zm.measure(np.random.default_rng(2).normal(5, 1, (40, 100))),
    "missing": lambda: zm.measure(np.array([[1.0, np.nan], [2.0, 3.0], [np.inf, 4.0]])),
    "negative": lambda: zm.measure(-np.arange(12, dtype=np.int16).reshape(4, 3)),
    "mean image": lambda: zm.measure(
        np.random.default_rng(3).integers(0, 99, (6, 5, 4, 3), dtype=np.uint8), "n h w c -> h w c"
    ),
    "gray": lambda: zm.measure(
        np.random.default_rng(3).integers(0, 99, (6, 5, 4, 1), dtype=np.uint8), "n h w c -> h w c"
    ),
    "after a subtraction": lambda: (
        zm.measure(np.arange(8.0).reshape(4, 2)) - zm.measure(np.array([[2.0, 3.0]]))
    ),
    "twelve channels": lambda: zm.measure(
        np.random.default_rng(3).integers(0, 9, (6, 5, 12), dtype=np.uint8), "n t c -> c"
    ),
    "sixteen bits": lambda: zm.measure(
        np.random.default_rng(3).integers(0, 60000, (6, 5), dtype=np.uint16), "n t ->"
    ),
    "booleans": lambda: zm.measure(np.array([[True, False], [True, True]])),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::zeromean.ZeromeanWarning")
@pytest.mark.parametrize("kind", PROFILES)
def test_every_kind_of_profile_has_its_page(kind):
    language = LANGUAGES[list(PROFILES).index(kind) % 2]
    page = zm.report(PROFILES[kind](), lang=language)
    Outline(page)
    assert len(page.encode()) < MOST_BYTES
    assert outside(page) == []
    assert "nan" not in visible(page).lower().replace("nan，", "").replace("nan, left", "")


def test_floats_have_histograms_where_something_counted_them():
    """Rows from sums alone; curves from buckets, or from a part of the data itself."""
    x = np.random.default_rng(2).normal(5, 1, (4000, 2))
    rows, bucketed = zm.measure(x), zm.measure(x, quantiles=True)
    assert "sums of this data, not its histogram" in zm.report(rows)
    sampled = zm.report(rows, source=x)
    assert "Drawn from 2,000 sampled values of each feature" in sampled
    for page in (sampled, zm.report(bucketed)):
        assert "sums of this data" not in page
        assert "Three histograms side by side" in page
        assert page.count("<svg") == 2


def test_large_mean_images_have_small_pages():
    """Neighbors share a place: 30 000 features draw no more than 400."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (3, 100, 100, 3), dtype=np.uint8)
    page = zm.report(zm.measure(images, "n h w c -> h w c", channels="RGB"))
    assert len(page.encode()) < MOST_BYTES
    assert "75 neighbors share a place" in page
    assert "26,250" in "".join(re.findall(r"<text[^>]*>([^<]*)</text>", page))


@pytest.mark.parametrize("kind", ["mean image", "gray"])
def test_mean_images_are_shown(kind):
    page = zm.report(PROFILES[kind]())
    assert len(Outline(page).all("img")) == 2
    assert "Mean image, 4 × 5 pixels" in page


def test_a_missing_package_is_named_with_its_cure(profile, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setitem(sys.modules, "markupsafe", None)
    with pytest.raises(ImportError, match=r'the report needs jinja2: pip install "zeromean\[rep'):
        zm.report(profile)


def test_a_page_that_cannot_be_written_is_an_error(profile, tmp_path):
    with pytest.raises(zm.FormatError, match=r"missing.*report.html: cannot be written"):
        zm.report(profile, path=tmp_path / "missing" / "report.html")


def test_nothing_to_report_is_refused(images):
    empty = zm.measure(np.empty((0, 2)))
    with pytest.raises(zm.PatternError, match="the profile is empty"):
        zm.report(empty)
    with pytest.raises(zm.PatternError, match="a report is about a Profile, not ndarray"):
        zm.report(images)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1, 3], 2.0), ([-1, -3], -2.0), ([4, 4], np.nan), ([-1, 1], 0.0)],
)
def test_ratio_is_mean_over_std(values, expected):
    profile = zm.measure(np.array(values, dtype=np.float64))
    assert gathering.ratio(profile) == pytest.approx(expected, nan_ok=True)


def test_the_slider_starts_at_the_data(profile):
    page = zm.report(profile)
    config = json.loads(re.search(r'id="race-config">(.*?)</script>', page, re.DOTALL)[1])
    ratio = float(np.median(profile.mean / profile.std))
    assert config["mean"] == pytest.approx(ratio / np.sqrt(3), abs=0.005)
    far = zm.measure(np.array([100.0, 101.0]))
    assert "beyond the end of the slider" in zm.report(far)


def test_the_four_stories_stand_in_the_page(page):
    rows = re.findall(r"<tr><th scope=\"row\">[^<]*</th>((?:<td>[^<]*</td>)+)</tr>", page)
    cells = [re.findall(r"<td>([^<]*)</td>", row) for row in rows]
    told = [(row[0], row[1]) for row in cells if len(row) == 6 and row[0].isdigit()]
    assert told == [("50", "4"), ("50", "4"), ("173", "10"), ("108", "10")]


# ---------------------------------------------------------------- what it must not say

#: Of each claim that must not be made, words of the sentence that denies it.
DENIED = [
    "The cause is the common mean direction",
    "Only the first layer sees the inputs",
    "Final accuracy was a tie",
    "just diverges",
    "measured on the training split only",
    "With batch normalization right after the first linear layer it changes nothing",
    "22.8 % where zero-mean had 29.1 %",
    "it does not predict multilayer nets",
    "Nothing below 1.3 is called a difference",
    "Those are synthetic tasks",
    "divide by the standard deviation as well",
]


def test_every_forbidden_claim_is_contradicted(profile):
    truths = [item["truth"] for item in texts.load("en")["limits"]["item"]]
    assert len(truths) == len(DENIED) == 11
    for words, truth in zip(DENIED, truths, strict=True):
        assert words in truth
    text = visible(zm.report(profile))
    assert all(words in text for words in DENIED)
    assert visible(zm.report(profile, lang="zh")).count("事实是") == 11


@pytest.mark.parametrize(
    ("item", "quoted"),
    [
        (3, ["340", "246", "209", "193", "1.5", "CIFAR-10"]),  # at one rate, linear and nets
        (4, ["128", "500", "0.67", "CIFAR-10"]),
        (6, ["22.8", "29.1", "CIFAR-10"]),
        (10, ["Fashion-MNIST"]),
    ],
)
def test_the_page_quotes_what_the_documentation_measured(item, quoted):
    """The same numbers of the same data, in both languages, and no others."""
    docs = Path(__file__).parents[1] / "docs"
    for language, page in (("en", "why-zero-mean.md"), ("zh", "why-zero-mean.zh.md")):
        truth = texts.load(language)["limits"]["item"][item]["truth"]
        documented = (docs / page).read_text(encoding="utf-8")
        for number in quoted:
            assert number in truth, (language, number)
            assert number in documented, (page, number)
        assert page in texts.load(language)["limits"]["intro"]
        assert "4.2" not in truth


def test_one_rate_is_told_apart_for_linear_models_and_nets():
    """Next to nothing is left of linear models on photographs, not of all; nets keep a part."""
    english, chinese = (texts.load(k)["limits"]["item"][3]["truth"] for k in ("en", "zh"))
    assert "linear model" in english.split("little or nothing was left")[0]
    assert "Nets" in english.split("little or nothing was left")[1]
    assert "nothing that counts as a difference" in english  # below 1.3
    assert "1.5 to 6 times" in english
    assert "the claim is false in general" in english
    assert "线性模型" in chinese.split("所剩无几")[0].split("。")[1]
    assert "网络" in chinese.split("所剩无几")[1]
    assert "都不算差别" in chinese
    assert "这个说法一般并不成立" in chinese


def test_near_zero_is_said_only_where_all_features_are():
    """The middle feature may be near zero while others are far away."""
    mixed = np.random.default_rng(0).normal([0, 0, 0, 50], 1, (200, 4))
    near = zm.measure(mixed[:, :3], "n d -> d")
    words = Words("en")
    lead = {name: " ".join(map(str, gathering.lead(zm.measure(x, "n d -> d"), words)))
            for name, x in (("mixed", mixed), ("near", mixed[:, :3]))}  # fmt: skip
    assert near.n_features == 3
    assert str(words("lead.some")) in lead["mixed"]
    assert str(words("lead.near")) not in lead["mixed"]
    assert str(words("lead.near")) in lead["near"]


# ---------------------------------------------------------------- what must be beside the numbers


@pytest.fixture
def photos(tmp_path):
    """Color pictures in files, measured as gray."""
    image = pytest.importorskip("PIL.Image")
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 200, (9, 7, 3), dtype=np.uint8)
        image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("language", LANGUAGES)
def test_color_pictures_measured_as_gray_are_called_so(photos, language):
    """At the top, in the provenance, and where a framework would feed them in color."""
    profile, words = zm.measure(photos, colors="gray"), Words(language)
    page = zm.report(profile, lang=language)
    text = visible(page)
    assert str(words("lead.to_gray", count=4)) in text
    assert f"{words('provenance.color')}: 4" in text
    assert "v2.Grayscale()" in page
    assert page.count(words.plain("paste.from_gray")) >= 3
    colored = zm.report(zm.measure(photos), lang=language)
    assert "Grayscale" not in colored
    assert words.plain("paste.from_gray") not in colored


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_training_split_stands_by_the_numbers_and_the_code(photos, language):
    words = Words(language)
    text = visible(zm.report(zm.measure(photos), lang=language))
    for key in ("measured.split", "paste.split"):
        assert str(words(key, items=4)) in text
    quick = visible(zm.report(zm.measure(photos, limit=2), lang=language))
    assert str(words("measured.split", items=2)) not in quick, "not all items were looked at"


def test_one_feature_and_several_are_told_apart():
    words = Words("en")
    one = zm.measure(np.array([1.0, 3.0]))
    lead = " ".join(map(str, gathering.lead(one, words)))
    assert "The mean lies 2.00 standard deviations from zero." in lead
    table = zm.measure(np.array([[1.0, 10], [3.0, 14]]), "n d -> d")
    lead = " ".join(map(str, gathering.lead(table, words)))
    assert "In the middle one of 2 features the mean lies 4.00 of that feature's" in lead


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_log_axis_is_named_and_nothing_is_said_of_shapes(language):
    """A logarithm distorts lengths: what is true of the data is not true of the drawing."""
    random = np.random.default_rng(0)
    alike = random.normal(5, 1, (60, 10))
    unlike = alike * 10.0 ** np.arange(-3, 7)
    words = Words(language)
    said = {"en": "log scale, linear near 0", "zh": "对数刻度，0 附近为线性"}[language]
    for x, key, count in ((alike, "intro", 0), (unlike, "intro_log", 4)):
        page = zm.report(zm.measure(x, "n d -> d"), lang=language)
        assert words.texts[f"distributions.{key}"] in page
        assert page.count(said) == count, "of the first two figures, wide and narrow"
    assert "left to right" not in page.lower()
    assert "从左到右" not in page


def test_words_of_a_drawing_keep_their_digits():
    """Only where lines lie is rounded: a learning rate of 1.41 is read, not drawn."""
    svg = '<g style="stroke-width: 1.4142"><path d="M 1.234 5.678 L 2.5 5.678"/></g>'
    small = compact.compact(f'{svg}<text x="12.345" y="1.0">rate 1.41, 68.55</text>', "p")
    assert "rate 1.41, 68.55" in small
    assert "1.4142" not in small
    assert "12.345" not in small


def test_chinese_counts_updates_and_speed_as_chinese_does(profile):
    """Not "slower by times", nor "uses 30 times fewer"."""
    page = zm.report(profile, lang="zh")
    wrong = ("要多用", "慢了几倍", "慢几倍", "少用几倍", "快 1.2 倍", "动图", "手写体", "短横：")
    assert [words for words in wrong if words in page] == []
    assert "更新次数是零均值的 30 倍 [25, 36]" in page


def test_a_small_share_is_not_nothing():
    words = Words("en")
    shares = (0, 0.0039, 0.01, 0.5)
    assert [words.percent(share) for share in shares] == ["0 %", "0.4 %", "1 %", "50 %"]


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_note_of_a_narrow_figure_fits_under_it(language):
    """Below the last panel and its captions, and not wider than the figure."""
    spiked = np.full((40, 8, 8, 3), 255, np.uint8)
    spiked[:10] = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3))
    figure = zm.measure(spiked, "n h w c -> c", channels="RGB").plot("three")
    charts.relabel(figure, texts.load(language).get("figure", {}).get("pairs", []))
    with charts._settings():
        narrow = charts.stacked(figure)
        narrow.draw_without_rendering()
        (note,) = [text for text in narrow.texts if text.get_va() == "bottom" and text.get_text()]
        box = note.get_window_extent()
        captions = [text for axes in narrow.axes for text in axes.texts if text.get_text()]
        others = [text.get_window_extent() for text in captions]
    assert len(note.get_text()) > 30
    assert box.x1 <= narrow.bbox.width
    assert all(box.y1 <= other.y0 for other in others)
    assert box.y0 >= 0


def test_svg_text_stays_text_and_colors_follow_the_theme(profile):
    svg = charts.as_svg(profile.plot("three"), "a", "Three of them")
    assert "<text" in svg
    assert "zero-mean</text>" in svg
    assert "var(--x1f2933,#1f2933)" in svg
    assert not re.search(r"(?<!,)#[0-9a-f]{6}", svg)
    assert "DejaVu" not in svg


def followed(path):
    """Where the steps of a compact path lead."""
    x = y = 0.0
    for letter, numbers in re.findall(r"([Mhvlz])([^Mhvlz]*)", path):
        given = [float(v) for v in numbers.split()]
        if letter == "M":
            x, y = given
        elif letter != "z":
            x += given[0] if letter in "hl" else 0
            y += given[-1] if letter in "vl" else 0
        yield (x, y)


COORDINATE = st.floats(0, 999).map(lambda v: round(v, 6))


@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=1, max_size=40))
def test_shorter_paths_lead_to_the_same_points(points):
    """Every point within half a tenth, however long the path: roundings do not add up."""
    path = " ".join(f"{'L' if k else 'M'} {x!r} {y!r}" for k, (x, y) in enumerate(points))
    reached = list(followed(compact._relative(path)))
    distances = [min(max(abs(x - u), abs(y - v)) for u, v in reached) for x, y in points]
    assert max(distances) <= 0.0501


def test_paths_with_curves_keep_their_letters(profile):
    svg = charts.as_svg(profile.plot("distribution"), "a", "With dots")
    curves = [path for path in re.findall(r' d="([^"]*)"', svg) if "C" in path]
    assert curves
    for path in curves:
        whole = re.findall(r"C(?: -?[\d.e-]+){6}", path.replace("\n", " "))
        assert len(whole) == path.count("C")


def test_compacting_loses_no_mark(profile):
    """As many marks and texts as matplotlib drew, each with its style."""
    raw = charts._drawn(profile.plot("three"))
    small = charts.as_svg(profile.plot("three"), "a", "Three of them")
    for tag in ("<use", "<path", "<text", "<clipPath"):
        assert small.count(tag) == raw.count(tag)
    wanted = set(re.findall(r'class="([^"]*)"', small))
    assert wanted == set(re.findall(r"^\.(\S+)\{", small, re.MULTILINE))
    assert len(small) < len(raw) / 3


def test_factors_have_three_digits():
    shown = [factor_text(factor) for factor in (1.3, 9.99, 0.81, float("inf"))]
    assert shown == ["1.30", "9.99", "0.81", "–"]


def test_the_stories_take_both_sides_at_their_own_best_rate():
    data = neuron.sample()
    for points in (data.shifted(2.0), data.shifted(0.0)):
        best = neuron.best_rate(data, points, 0)
        needed = neuron.train(data, points, best, 0).reached
        for rate in neuron.RATES:
            other = neuron.train(data, points, rate, 0).reached
            assert other is None or other > needed or (other == needed and rate >= best)


# ---------------------------------------------------------------- the command


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_command_writes_the_page(tmp_path, profile):
    profile.save(tmp_path / "train.json")
    for language in LANGUAGES:
        target = tmp_path / f"{language}.html"
        result = run("report", tmp_path / "train.json", "--lang", language, "-o", target)
        assert result.exit_code == 0, result.output
        assert f"wrote {target}" in result.stderr
        expected = zm.report(zm.load(tmp_path / "train.json"), lang=language)
        assert target.read_text(encoding="utf-8") == expected


def test_the_command_shows_samples(tmp_path, profile, images):
    np.save(tmp_path / "x.npy", images)
    profile.save(tmp_path / "train.json")
    target = tmp_path / "r.html"
    given = ("--samples", tmp_path / "x.npy", "--count", 2, "--title", "Mine", "-q", "-o", target)
    result = run("report", tmp_path / "train.json", *given)
    assert (result.exit_code, result.output) == (0, "")
    page = target.read_text(encoding="utf-8")
    assert len(Outline(page).all("img")) == 6
    assert "<h1>Mine: what a network sees</h1>" in page


def test_the_command_refuses_with_a_reason(tmp_path, profile):
    profile.save(tmp_path / "train.json")
    zm.zero_mean(profile).save(tmp_path / "norm.json")
    wrong = {
        ("train.json", "page.txt"): "the file must end in .html",
        ("train.json", "no/page.html"): "there is no such folder",
        ("norm.json", "page.html"): "holds a Normalizer, not a profile",
        ("none.json", "page.html"): "none.json",
    }
    for (source, target), reason in wrong.items():
        result = run("report", tmp_path / source, "-o", tmp_path / target)
        assert result.exit_code == 2, result.output
        assert reason in result.output
        assert not (tmp_path / "page.html").exists()
