"""The same figure is the same file, written whole or not at all."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from figure_samples import distribution, three
from zeromean import figures
from zeromean.figures import saving

pytest.importorskip("matplotlib")

pytestmark = pytest.mark.filterwarnings("error")

SIGNATURES = {".png": b"\x89PNG\r\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}


@pytest.mark.parametrize("extension", SIGNATURES)
def test_save_writes_the_same_bytes_twice(tmp_path: Path, extension: str) -> None:
    first = figures.save(three(title="Twice"), tmp_path / f"first{extension}")
    second = figures.save(three(title="Twice"), tmp_path / f"second{extension.upper()}")
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes().startswith(SIGNATURES[extension])
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, second.name]
    again = figures.save(distribution(), first)
    assert again == first
    assert first.read_bytes() != second.read_bytes()


def test_a_png_is_150_dots_per_inch(tmp_path: Path) -> None:
    path = figures.save(three(), tmp_path / "three.png")
    width = int.from_bytes(path.read_bytes()[16:20], "big")
    assert width == 1500


@pytest.mark.parametrize("draw", [three, lambda: figures.mean_image(np.eye(3))])
def test_every_reference_in_an_svg_has_its_target(tmp_path: Path, draw: Any) -> None:
    content = figures.save(draw(), tmp_path / "a.svg").read_text("utf-8")
    ids = re.findall(r'\bid="([^"]+)"', content)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', content))
    assert len(ids) == len(set(ids))
    assert used
    assert used <= set(ids)
    assert "<dc:date>" not in content


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.svgz", ".png"])
def test_another_extension_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"the extension must be \.png, \.svg or \.pdf"):
        figures.save(distribution(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = figures.save(distribution(), tmp_path / "a.png")
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(saving.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        figures.save(three(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_threads_may_draw_at_once(tmp_path: Path) -> None:
    expected = figures.save(three(), tmp_path / "alone.svg").read_bytes()
    paths = [tmp_path / f"{index}.svg" for index in range(6)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda path: figures.save(three(), path), paths))
    assert {path.read_bytes() for path in paths} == {expected}
