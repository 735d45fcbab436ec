"""What the report says to paste, run by torchvision on the pictures that were measured."""

from __future__ import annotations

import html
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zeromean as zm

pytest.importorskip("jinja2", reason="the report needs jinja2")
pytest.importorskip("matplotlib", reason="the report needs matplotlib")
pytest.importorskip("torch", reason="torchvision needs PyTorch")
image = pytest.importorskip("PIL.Image")

SHIM = Path(__file__).with_name("torchvision_shim.py")
RUN = """
import json, sys
from pathlib import Path
import numpy as np
from PIL import Image
values = [transform(Image.open(p)).numpy() for p in sorted(Path(sys.argv[1]).glob("*.png"))]
axes = (0, 2, 3)
print(json.dumps([np.mean(values, axes).tolist(), np.std(values, axes, dtype=float).tolist()]))
"""


def command():
    """Python with torchvision, which may lie beside the environment; and its variables."""
    beside, environment = Path(sys.prefix) / "torchvision", dict(os.environ)
    if importlib.util.find_spec("torchvision") is not None:
        return [sys.executable], environment
    if not (beside / "torchvision").is_dir():
        pytest.skip("torchvision is not installed, and not beside the environment either")
    environment["PYTHONPATH"] = str(beside)
    return [sys.executable, str(SHIM)], environment


@pytest.mark.parametrize(("colors", "channels"), [("gray", 1), ("RGB", 3)])
def test_pasted_code_standardizes_what_was_measured(tmp_path, colors, channels):
    """Color pictures measured as gray become gray in the framework too, by the same weights."""
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 200, (9, 7, 3), dtype=np.uint8)
        image.fromarray(pixels).save(tmp_path / f"{i}.png")
    page = zm.report(zm.measure(tmp_path, colors=colors))
    code = html.unescape(re.search(r"import torch\nfrom torchvision.*?(?=</code>)", page, re.S)[0])
    (tmp_path / "pasted.py").write_text(code + RUN)
    words, environment = command()
    words = [*words, str(tmp_path / "pasted.py"), str(tmp_path)]
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    mean, std = json.loads(done.stdout)
    assert len(mean) == channels
    assert mean == pytest.approx([0] * channels, abs=1e-5)
    assert std == pytest.approx([1] * channels, abs=1e-5)
