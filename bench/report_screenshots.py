"""Draws docs/images/report.png and report-race.png: the demo's page in a real browser.

    python bench/report_screenshots.py

Needs Playwright and a Chromium, found on the path or named by the variable CHROMIUM.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from pathlib import Path

from PIL import Image

import zeromean as zm
from zeromean.demonstration import photographs

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH = 1100
COLORS = 128  # a palette keeps the files small


def main() -> None:
    """Write both pictures."""
    from playwright.sync_api import sync_playwright

    source = photographs()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "report.html"
        zm.report(zm.measure(source), source=source, title="Two photographs", path=path)
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.goto(path.as_uri())
        edge = page.locator("#pictures").bounding_box()
        assert edge is not None
        whole = {"x": 0, "y": 0, "width": WIDTH, "height": edge["y"]}
        save(page.screenshot(full_page=True, clip=whole), "report.png")
        page.click("[data-story=zigzag]")
        page.wait_for_timeout(300)
        save(page.locator("#race").screenshot(), "report-race.png")
        browser.close()


def save(png: bytes, name: str) -> None:
    """Write a screenshot with few colors."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    small = picture.quantize(COLORS, dither=Image.Dither.NONE)
    small.save(IMAGES / name, optimize=True)
    print(f"wrote {IMAGES / name}, {(IMAGES / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
