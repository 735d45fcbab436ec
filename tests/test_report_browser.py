"""The page in a real browser: it moves, it tells the truth, it loads nothing, it fits."""

from __future__ import annotations

import os
import re
import shutil

import numpy as np
import pytest

import zeromean as zm
from zeromean.reporting import neuron, texts

pytest.importorskip("jinja2", reason="the report needs jinja2")
pytest.importorskip("matplotlib", reason="the report needs matplotlib")
sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install it or set CHROMIUM"),
    # Playwright's event loop is closed late by its own clean-up.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One page a language, about twelve color pictures."""
    folder = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(4)
    images = np.clip(rng.normal(120, 60, (12, 16, 16, 3)), 0, 255).astype(np.uint8)
    profile = zm.measure(images, "n h w c -> c", channels="RGB")
    for language in texts.LANGUAGES:
        path = folder / f"{language}.html"
        zm.report(profile, lang=language, source=images, title="Noise", path=path)
    return folder


@pytest.fixture(scope="module")
def with_study(files):
    """The same pages with a study: wide tables, of labels and bounds in plenty."""
    pytest.importorskip("scipy", reason="a study needs SciPy")
    pytest.importorskip("threadpoolctl", reason="a study needs threadpoolctl")
    rng = np.random.default_rng(5)
    x = np.clip(rng.normal(120, 50, (60, 8, 8, 3)), 0, 255).astype(np.uint8)
    found = zm.study(x, labels=x[:, 0, 0, 0] > 120, seeds=3, budget=600)
    for language in texts.LANGUAGES:
        zm.report(
            zm.measure(x, "n h w c -> c"),
            found,
            lang=language,
            path=files / f"{language}-study.html",
        )


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield launched
        launched.close()


@pytest.fixture
def show(browser, files):
    """Opens a page; at the end no error was logged and nothing was asked of any network."""
    opened = []

    def open_page(language="en", width=1280, scheme="light", script=True, name=""):
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=script,
        )
        page, errors, requests = context.new_page(), [], []
        page.on("console", lambda m: errors.append(m.text) if m.type != "log" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((files / f"{language}{name}.html").as_uri())
        opened.append((context, errors, requests))
        return page

    yield open_page
    for context, errors, requests in opened:
        context.close()
        assert errors == []
        assert [url for url in requests if not url.startswith("data:")] == requests[:1]
        assert requests[0].startswith("file:")


def settle(page):
    """Two frames: one for the change, one for the drawing."""
    page.evaluate("() => new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f)))")


def numbers(page, key):
    settle(page)
    return [page.text_content(f"#race-{key}-{side}") for side in (0, 1)]


def press(page, story):
    page.click(f'[data-story="{story}"]')
    settle(page)
    return page.text_content("#race-sentence")


def picture(page, name):
    return page.evaluate(f"document.getElementById('race-{name}').toDataURL()")


# ---------------------------------------------------------------- the four stories


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_buttons_tell_the_four_stories(show, language):
    page = show(language)
    gap = " " if language == "en" else ""
    for name, race in neuron.stories():
        sentence = press(page, name)
        assert numbers(page, "updates") == [str(race.shifted.reached), str(race.centered.reached)]
        shared = f"{100 * race.shifted.same_sign:.0f}{gap}%"
        assert numbers(page, "same")[0] == shared
        assert numbers(page, "turns")[0] == f"{100 * race.shifted.turns:.0f}{gap}%"
        assert f"{race.shifted.reached}" in sentence
        assert page.get_attribute(f'[data-story="{name}"]', "aria-pressed") == "true"


def test_the_sentence_says_what_is_seen(show):
    page = show()
    assert "96 % of the updates move ↗ or ↙" in press(page, "zigzag")
    assert "Not the cause: flip x₂" in press(page, "zigzag")
    assert "it takes the same 50." in press(page, "zigzag")
    assert "only 4 %" in press(page, "flip")
    assert "exact mirror image" in press(page, "flip")
    assert "hardly any zig-zag, and still slow. Updates: 173" in press(page, "timid")
    assert "in every single update both gradients share a sign" in press(page, "single")
    assert "Not the cause: flip x₂, and no sign is shared in any update" in press(page, "single")
    assert "it takes the same 108." in press(page, "single")
    assert "the two sides are one" in press(page, "zero")
    press(page, "zigzag")
    page.check("#race-same")
    settle(page)
    assert "not faster. Updates: 69 against 50" in page.text_content("#race-sentence")
    assert numbers(page, "predicted") == ["own best rates only", "–"]
    page.fill("#race-factor", "2")
    settle(page)
    assert "too large for the shifted side" in page.text_content("#race-sentence")
    page.fill("#race-factor", "0.1")
    settle(page)
    assert "neither side arrives" in page.text_content("#race-sentence")


def test_a_small_mean_has_no_valley_and_no_ratio(show):
    """Two updates against one is no slow-down of 2.00×, and a round valley is not called narrow."""
    page = show()
    for _ in range(6):
        press(page, "zigzag")
        page.fill("#race-mean", "0.02")
        page.click("#race-another")
        settle(page)
        sentence = page.text_content("#race-sentence")
        assert "A small mean makes little difference" in sentence
        assert "narrow, and" not in sentence
        first, second = (int(text) for text in numbers(page, "updates"))
        if second < neuron.FEW:
            assert numbers(page, "slowdown")[0] == f"{first} against {second}"
    press(page, "single")
    assert numbers(page, "slowdown")[0] == "10.8×"


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_the_readers_mean_is_no_forecast(show, language):
    """The points are made up wherever the slider stands; where it looks like theirs, it is said."""
    page = show(language)
    said = {"en": "no forecast for your data", "zh": "不是对你的数据的预测"}[language]
    assert said in press(page, "yours")
    assert said not in press(page, "zigzag")


def test_every_state_has_a_sentence_without_holes(show):
    """Slider, rate, batch, flip and same rate in all sorts of places: no brace, no NaN."""
    page = show()
    seen = set()
    for mean in ("-1.2", "3"):
        page.fill("#race-mean", mean)
        for factor in ("0.4", "1"):
            page.fill("#race-factor", factor)
            for key in "18afs":
                page.focus("#race-mean")
                page.keyboard.press(key)
                settle(page)
                text = page.text_content("#race")
                assert not re.search(r"NaN|undefined|Infinity|[{}]", text), text
                seen.add(page.text_content("#race-sentence")[:12])
    assert len(seen) >= 6


# ---------------------------------------------------------------- the controls


def test_the_slider_moves_everything(show):
    page = show()
    press(page, "zigzag")
    before = [picture(page, name) for name in ("data", "weights", "loss")]
    slower = [int(numbers(page, "updates")[0])]
    for mean in ("1", "0.5", "0"):
        page.fill("#race-mean", mean)
        slower.append(int(numbers(page, "updates")[0]))
    assert slower == sorted(slower, reverse=True)
    assert slower[-1] == int(numbers(page, "updates")[1])
    assert all(
        a != b
        for a, b in zip(
            before, [picture(page, n) for n in ("data", "weights", "loss")], strict=True
        )
    )
    assert numbers(page, "predicted")[0] == "1.00×"


def test_keys_do_what_they_say(show):
    page = show()
    press(page, "zigzag")
    page.focus("#race-mean")
    for key, element, expected in (
        ("f", "#race-flip", "true"),
        ("t", "#race-timid", "true"),
        ("f", "#race-flip", "false"),
    ):
        page.keyboard.press(key)
        settle(page)
        assert page.get_attribute(element, "aria-pressed") == expected
    page.keyboard.press("8")
    settle(page)
    assert page.is_checked('input[value="8"]')
    page.keyboard.press("0")
    settle(page)
    assert page.input_value("#race-mean") == "0"
    page.keyboard.press("ArrowRight")
    settle(page)
    assert float(page.input_value("#race-mean")) > 0
    page.keyboard.press("s")
    settle(page)
    assert page.is_checked("#race-same")


def test_play_runs_and_stops(show):
    page = show()
    press(page, "zigzag")
    page.focus("#race-play")
    page.keyboard.press("Enter")
    assert page.text_content("#race-play") == "Pause"
    for _ in range(200):  # the page forbids the eval that wait_for_function needs
        page.wait_for_timeout(20)
        if int(page.input_value("#race-time")) > 2:
            break
    assert 2 < int(page.input_value("#race-time")) < 91
    half = picture(page, "weights")
    page.keyboard.press("p")
    assert page.text_content("#race-play") == "Play"
    page.fill("#race-time", "91")
    settle(page)
    assert picture(page, "weights") != half


def test_other_points_are_other_points_and_stories_return(show):
    page = show()
    press(page, "zigzag")
    before = picture(page, "data")
    page.click("#race-another")
    settle(page)
    assert picture(page, "data") != before
    assert int(numbers(page, "updates")[0]) > 2 * int(numbers(page, "updates")[1])
    press(page, "zigzag")
    assert picture(page, "data") == before


def test_everything_can_be_reached_with_tab(show):
    page = show()
    page.focus("[data-story=zigzag]")
    reached = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.name"))
    wanted = {"race-mean", "race-factor", "race-time", "race-batch", "race-play"}
    assert wanted | {"race-flip", "race-timid", "race-another", "race-same"} <= reached


# ---------------------------------------------------------------- how it looks


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_the_page_fits(show, language):
    page = show(language)
    for width in (1280, 768, 360):
        page.set_viewport_size({"width": width, "height": 900})
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        charts = page.evaluate(
            "[...document.querySelectorAll('.chart svg')].map((s) => s.clientWidth).filter(Boolean)"
        )
        assert charts
        assert all(200 < w <= width for w in charts)
        for name in ("weights", "loss", "data"):
            assert page.evaluate(f"document.getElementById('race-{name}').clientWidth") > 120


REGIONS = """[...document.querySelectorAll(".scroll")]
    .filter((r) => r.clientWidth)
    .map((r) => [r.scrollWidth - r.clientWidth, getComputedStyle(r).backgroundImage,
                 getComputedStyle(r).backgroundAttachment])"""


@pytest.mark.parametrize("language", texts.LANGUAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_column_of_a_study_is_cut_off(show, with_study, language, scheme):
    """On a desk every table fits; on a phone it scrolls by itself, and a shadow says so."""
    page = show(language, scheme=scheme, name="-study")
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    regions = page.evaluate(REGIONS)
    assert len(regions) > 4
    assert [more for more, *_ in regions if more > 0] == []
    page.set_viewport_size({"width": 360, "height": 900})
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    hidden = [(image, way) for more, image, way in page.evaluate(REGIONS) if more > 0]
    assert len(hidden) > 4
    for image, way in hidden:
        assert image.count("linear-gradient") == 4
        assert way == "local, local, scroll, scroll"


WORDS = """[...document.querySelectorAll("#study .chart text, #distributions .chart text")]
    .filter((t) => t.getClientRects().length)
    .map((t) => [t.getBoundingClientRect(), t.closest("svg").getBoundingClientRect(), t])
    .map(([r, f, t]) => [r.left - f.left, f.right - r.right, r.height, t.textContent])"""


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_figures_can_be_read_on_a_phone(show, with_study, language):
    """No word of a figure is tiny, and none lies beyond the edge."""
    page = show(language, width=360, name="-study")
    words = page.evaluate(WORDS)
    assert len(words) > 60
    assert [text for *_, height, text in words if height < 7] == []
    assert [text for left, right, *_, text in words if min(left, right) < -1] == []


def test_words_of_figures_are_light_in_the_dark(show, with_study):
    """Also over the landscapes of the neuron, whose pixels are turned around."""
    page = show(scheme="dark", name="-study")
    inks = page.evaluate(
        "[...document.querySelectorAll('#study .chart text')].map((t) => getComputedStyle(t).fill)"
    )
    levels = [sum(int(v) for v in re.findall(r"\d+", ink)[:3]) / 3 for ink in inks]
    assert min(levels) > 120
    image = "getComputedStyle(document.querySelector('#study .chart image')).filter"
    assert page.evaluate(image) == "invert(1)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_shadow_is_at_the_side_where_it_goes_on(show, with_study, scheme):
    """It is seen: the last pixels of a table that goes on differ from those of one that ends."""
    page = show("en", width=360, scheme=scheme, name="-study")
    region = page.locator("#study .scroll").nth(1)
    region.scroll_into_view_if_needed()

    def edge():
        settle(page)
        box = region.bounding_box()
        clip = {"x": box["x"] + box["width"] - 3, "y": box["y"] + 2, "width": 3, "height": 3}
        return page.screenshot(clip=clip)

    before = edge()
    region.evaluate("(r) => { r.scrollLeft = r.scrollWidth; }")
    assert edge() != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_as_bright_as_asked(show, scheme):
    paper = show(scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
    level = sum(int(v) for v in re.findall(r"\d+", paper)[:3]) / 3
    assert (level < 60) == (scheme == "dark")


def test_canvases_follow_the_theme(show):
    page = show()
    light = picture(page, "loss")
    page.emulate_media(color_scheme="dark")
    settle(page)
    assert picture(page, "loss") != light


def test_paper_is_white_even_in_the_dark(show):
    page = show(scheme="dark")
    dark = picture(page, "loss")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert picture(page, "loss") != dark
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(253, 252, 250)"
    assert page.evaluate("[...document.querySelectorAll('details')].every((d) => d.open)")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert picture(page, "loss") == dark


def test_one_sign_is_said_only_where_it_is_true(show):
    page = show()
    press(page, "single")
    for mean, expected in (("0.9", False), ("-0.9", False), ("1.2", True), ("-1.2", True)):
        page.fill("#race-mean", mean)
        settle(page)
        assert ("all inputs have one sign" in page.text_content("#race-sentence")) == expected


def test_paper_shows_the_numbers_and_hides_the_controls(show):
    page = show()
    page.emulate_media(media="print")
    assert not page.is_visible(".controls")
    assert not page.is_visible("nav")
    assert page.is_visible("table.still")
    assert page.is_visible("#race-sentence")
    assert len(page.pdf()) > 50_000


def test_without_script_the_stories_are_still_there(show):
    page = show(script=False)
    assert not page.is_visible("#race")
    assert page.is_visible("noscript")
    assert "173" in page.text_content("table.still")
