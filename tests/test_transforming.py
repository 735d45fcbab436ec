"""`measure(transform=)`: what a function makes of each picture, beside the picture, in one pass."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeromean as zm
from zeromean.errors import PatternError, SourceError, ZeromeanWarning
from zeromean.pattern import Pattern
from zeromean.sources import Item
from zeromean.sources.resizing import as_pil, resized
from zeromean.summary import profile_text
from zeromean.transforming import CenterCrop, Resize, Steps, Transform, loaded, name_of, size_of

RNG = np.random.default_rng(90)
PER_CHANNEL = "n h w c -> c"
PICTURES = [RNG.integers(0, 256, (9 + i, 15 - i, 3), dtype=np.uint8) for i in range(6)]
EQUAL = RNG.integers(0, 256, (7, 5, 4, 3), dtype=np.uint8)
SHIM = Path(__file__).with_name("torchvision_shim.py")


@pytest.fixture
def folder(tmp_path):
    """Pictures in class folders."""
    for i, picture in enumerate(PICTURES):
        path = tmp_path / "train" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return tmp_path / "train"


def halved(picture):
    """Every second row and column, as float32; at the top of a module, so that it can be sent."""
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    return picture[::2, ::2].astype(np.float32) / 4


def same(picture):
    """The picture itself."""
    return picture


def check(profile, arrays):
    """Mean, extrema and count are those of the arrays, by NumPy on integers (four times floats)."""
    rows = np.concatenate([a.reshape(-1, a.shape[-1]) for a in arrays])
    whole = np.round(rows.astype(np.float64) * 4).astype(np.int64)
    assert (whole == rows.astype(np.float64) * 4).all()
    n, sums = len(whole), whole.sum(axis=0)
    assert profile.count.tolist() == [n] * rows.shape[1]
    assert profile.mean.tolist() == [int(s) / (4 * n) for s in sums]
    assert np.array_equal(profile.min, rows.min(axis=0))
    assert np.array_equal(profile.max, rows.max(axis=0))


# ---------------------------------------------------------------- before and after


def test_after_is_what_the_function_makes_and_before_what_was_there(folder):
    """One pass gives both, of different dtypes; before is the plain profile, bit for bit."""
    profile = zm.measure(folder, transform=halved)
    check(profile, [halved(p) for p in PICTURES])
    assert profile.dtype == "float32"
    assert profile.units.range is None
    assert profile.units.channels == "RGB"
    assert profile.before == zm.measure(folder)
    assert profile.before.before is None
    assert profile.provenance.items == profile.before.provenance.items == 6
    assert profile.provenance.digest == profile.before.provenance.digest != 0
    assert profile.provenance.sources == (f"{folder} through {halved.__module__}:halved",)
    assert profile.before.provenance.sources == (str(folder),)
    assert zm.measure(folder, transform=halved, range=(0, 64)).units.range == (0, 64)
    assert zm.measure(folder, transform=halved, range=(0, 64)).before.units.range == (0, 255)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "bool"])
@pytest.mark.parametrize("pattern", [PER_CHANNEL, "n h w c -> h w c", "n h w c ->", "n h w c -> w"])
def test_a_function_that_changes_nothing_changes_nothing(dtype, pattern):
    """Arrays, lists of pictures, generators and batches; any number of workers."""
    values = EQUAL.astype(dtype)
    plain = zm.measure(values, pattern)
    for source in (values, list(values), iter(values), [values[:3], values[3:]], values[::-1]):
        profile = zm.measure(source, pattern, transform=same, workers=2)
        assert profile == plain
        assert profile.before == plain
        assert profile.provenance.items == 7


def test_each_picture_is_measured_once():
    """A source that can be read but once gives both profiles, and the function is called once."""
    calls = []

    def counting(picture):
        calls.append(picture.shape)
        return picture

    zm.measure(iter(PICTURES), transform=counting)
    assert calls == [p.shape for p in PICTURES]


def test_a_function_may_write_over_what_it_gets(folder):
    """Neither the user's array nor the profile before is touched."""

    def cleared(picture):
        picture[:] = 7
        return picture

    values = EQUAL.copy()
    values.flags.writeable = False
    for source, pattern in ((values, PER_CHANNEL), (folder, None)):
        profile = zm.measure(source, pattern, transform=cleared)
        assert profile.mean.tolist() == [7, 7, 7]
        assert profile.before == zm.measure(source, pattern)


def test_channels_first_and_gray_pictures_get_their_own_form():
    """A function gets (h, w, c) whatever the pattern; gray ones (h, w)."""
    first = np.ascontiguousarray(EQUAL.transpose(0, 3, 1, 2))
    profile = zm.measure(first, "n c h w -> c", transform=halved)
    check(profile, [halved(p) for p in EQUAL])
    kept = zm.measure(first, "n band y x -> band", transform=halved)
    assert kept.statistics == profile.statistics
    shapes = []
    gray = zm.measure(EQUAL[..., 0], "n h w ->", transform=lambda x: shapes.append(x.shape) or x)
    assert gray == zm.measure(EQUAL[..., 0], "n h w ->")
    assert set(shapes) == {(5, 4)}
    one = zm.measure(EQUAL, PER_CHANNEL, transform=lambda x: x[..., 0])
    assert one == zm.measure(EQUAL[..., :1], PER_CHANNEL)


def test_another_number_of_channels_is_named(folder):
    gray = zm.measure(folder, transform=lambda x: Image.fromarray(x).convert("L"))
    assert gray.units.channels == "L"
    assert gray.names == ["gray"]
    check(gray, [np.asarray(Image.fromarray(p).convert("L"))[..., None] for p in PICTURES])
    five = zm.measure(folder, transform=lambda x: np.concatenate([x, x[..., :2]], axis=-1))
    assert five.units.channels == ""
    assert five.n_features == 5
    assert five.before.units.channels == "RGB"


def test_by_group(folder):
    for by in ("class", lambda name: name[0]):
        groups = zm.measure(folder, by=by, transform=halved)
        for k, name in enumerate("ab"):
            check(groups[name], [halved(p) for p in PICTURES[k::2]])
            assert groups[name].before == zm.measure(folder, by=by)[name]
        assert groups.total == zm.measure(folder, transform=halved)
        assert groups.total.before == zm.measure(folder)
    labels = np.array([0, 1, 1, 0, 2, 2, 1])
    groups = zm.measure(EQUAL, PER_CHANNEL, by=labels, transform=halved)
    for k in range(3):
        check(groups[k], [halved(p) for p in EQUAL[labels == k]])
        assert groups[k].before == zm.measure(EQUAL[labels == k], PER_CHANNEL)


def test_profiles_add_and_subtract_along_with_what_was_before(tmp_path):
    first, second = (
        zm.measure(EQUAL[s], PER_CHANNEL, transform=halved) for s in (slice(0, 3), slice(3, None))
    )
    whole = zm.measure(EQUAL, PER_CHANNEL, transform=halved)
    assert first + second == whole
    assert (first + second).before == whole.before
    assert (whole - second).before == first.before
    plain = zm.measure(EQUAL.astype(np.float32), PER_CHANNEL)
    assert (whole + plain).before is None
    assert replace(whole, before=None) == whole
    other = replace(second, before=plain)
    assert (first + other).before is None
    whole.save(tmp_path / "x.json")
    assert zm.load(tmp_path / "x.json") == whole
    assert zm.load(tmp_path / "x.json").before is None


def test_pictures_of_many_sizes_have_no_mean_image_before(folder):
    """A mean image of resized pictures; what was before has none, and that is said once."""
    with pytest.warns(
        ZeromeanWarning, match="no profile of the data before the transform: .* keeps"
    ):
        profile = zm.measure(folder, "n h w c -> h w c", transform=Resize((4, 4)), workers=2)
    assert profile.before is None
    expected = np.stack([Resize((4, 4))(p) for p in PICTURES])
    assert profile.statistics == zm.measure(expected, "n h w c -> h w c").statistics


def test_covariance_and_quantiles_go_along():
    profile = zm.measure(EQUAL, PER_CHANNEL, transform=halved, covariance=True, quantiles=True)
    expected = zm.measure([halved(p) for p in EQUAL], PER_CHANNEL, quantiles=True)
    assert profile.buckets == expected.buckets
    assert profile.before.covariance == zm.measure(EQUAL, PER_CHANNEL, covariance=True).covariance


# ---------------------------------------------------------------- what goes wrong


def test_what_a_function_cannot_take_is_skipped_by_name(folder):
    def picky(picture):
        if picture.shape[0] % 3 == 0:
            raise ValueError(f"{picture.shape[0]} rows\nand a second line")
        return picture

    with pytest.warns(zm.SkippedWarning):
        profile = zm.measure(folder, transform=picky)
    kept = [p for p in PICTURES if p.shape[0] % 3]
    check(profile, kept)
    check(profile.before, kept)
    name = f"{picky.__module__}:{picky.__qualname__}"
    assert profile.provenance.skipped == profile.before.provenance.skipped
    assert dict(profile.provenance.skipped)["a/0.png"] == (
        f"the transform {name} raised ValueError: 9 rows"
    )
    with pytest.raises(SourceError, match=r"a/0\.png: the transform .* raised ValueError: 9 rows"):
        zm.measure(folder, transform=picky, strict=True, workers=1)
    with pytest.raises(SourceError, match=r"none of 6 files could be measured; the first, a/0"):
        zm.measure(folder, transform=lambda picture: 1 / 0)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, "TypeError: gave NoneType, and no array, PIL image or tensor"),
        ((1, 2), "TypeError: gave tuple, and no array"),
    ],
)
def test_what_is_no_picture_is_no_result(folder, made, message):
    with pytest.raises(SourceError, match=message):
        zm.measure(folder, transform=lambda picture: made)


def test_broken_files_are_skipped_as_ever(folder):
    (folder / "a" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.warns(zm.SkippedWarning):
        profile = zm.measure(folder, transform=halved)
    with pytest.warns(zm.SkippedWarning):
        plain = zm.measure(folder)
    assert profile.provenance.skipped == plain.provenance.skipped
    check(profile, [halved(p) for p in PICTURES])


def test_results_of_several_kinds_are_refused(folder):
    def mixed(picture):
        return picture if picture.shape[0] % 2 else picture.astype(np.float32)

    with pytest.raises(
        SourceError, match=r"RGB float32: such as .*\n.*\nlet the transform .*mixed"
    ):
        zm.measure(folder, transform=mixed)


def test_pictures_without_data_are_not_taken_for_values():
    """No function can be told which pixels count."""
    gaps = np.zeros((5, 4, 1), bool)
    through = Transform(same)
    pattern = Pattern.parse(PER_CHANNEL)
    ((before, after),) = through.pairs(Item(EQUAL[0], "x", missing=gaps), pattern)
    assert np.array_equal(after.array, EQUAL[0])
    gaps[0] = True
    ((before, after),) = through.pairs(Item(EQUAL[0], "x", missing=gaps), pattern)
    assert before is after
    assert "it has pixels without data, which would be taken for values" in after.reason
    pairs = list(through.pairs(Item(EQUAL, "x", batched=True, missing=gaps), pattern))
    assert all(after.array is None for _, after in pairs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "flip"}, "transform is str; give a function from a picture to a picture"),
        ({"transform": same, "nodata": 0}, "nodata= and mask= say which pixels of the raw"),
        ({"transform": same, "mask": EQUAL[..., 0]}, "let it return floats with NaN where"),
        ({"transform": same, "within": 0.1}, "within= estimates what files hold"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    with pytest.raises(PatternError, match=message):
        zm.measure(EQUAL, PER_CHANNEL, **options)


def test_no_ledger_is_kept_of_a_transform(folder, tmp_path):
    with pytest.raises(SourceError, match="nobody could tell when the function has changed"):
        zm.measure(folder, transform=same, ledger=tmp_path / "ledger.db")


def test_only_whole_pictures_are_transformed():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(PatternError, match="is a table; a transform is for pictures"):
        zm.measure(pandas.DataFrame({"a": [1, 2]}), transform=same)
    with pytest.raises(PatternError, match="the first axis must be that of the pictures"):
        zm.measure(EQUAL[0], "h w c -> c", transform=same)
    part = Item(EQUAL[0], "big.tif", more=True)
    with pytest.raises(
        PatternError, match=r"big\.tif comes in parts, and a transform is for whole"
    ):
        list(Transform(same).pairs(part, Pattern.parse(PER_CHANNEL)))


def test_nan_marks_what_has_no_data():
    """The way to leave something out of what a transform makes."""

    def only_bright(picture):
        return np.where(picture > 99, picture, np.nan).astype(np.float32)

    profile = zm.measure(EQUAL, PER_CHANNEL, transform=only_bright)
    for k in range(3):
        bright = EQUAL[..., k][EQUAL[..., k] > 99].astype(np.int64)
        assert profile.count[k] == len(bright)
        assert profile.mean[k] == int(bright.sum()) / len(bright)
    assert (profile.nan_count + profile.count == EQUAL[..., 0].size).all()


# ---------------------------------------------------------------- processes


def test_functions_travel_to_processes(folder):
    expected = zm.measure(folder, transform=halved)
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        profile = zm.measure(folder, transform=halved, executor=pool)
        presets = zm.measure(folder, transform=Steps((Resize(4), CenterCrop(3))), executor=pool)
    assert profile == expected
    assert profile.before == expected.before
    assert presets == zm.measure(folder, transform=Steps((Resize(4), CenterCrop(3))))


def test_a_lambda_cannot_be_sent_and_that_is_said(folder):
    with pytest.raises(
        SourceError, match=r"cannot be sent to other processes: .*lambda.* be no lambda"
    ):
        zm.measure(folder, transform=lambda picture: picture, executor="processes:1")


# ---------------------------------------------------------------- resize and crop


def by_pillow(picture, size):
    """The rule of torchvision's Resize, written out, on Pillow."""
    height, width = picture.shape[:2]
    if isinstance(size, int):
        short, long = sorted((height, width))
        other = int(size * long / short)
        height, width = (other, size) if width <= height else (size, other)
    else:
        height, width = size
    image = Image.fromarray(picture)
    if image.size == (width, height):
        return picture
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def by_hand_cropped(picture, size):
    """The middle, on a canvas of zeros that is large enough."""
    height, width = (size, size) if isinstance(size, int) else size
    up, down = max(0, height - picture.shape[0]), max(0, width - picture.shape[1])
    canvas = np.zeros((picture.shape[0] + up, picture.shape[1] + down, 3), np.uint8)
    canvas[up // 2 : up // 2 + picture.shape[0], down // 2 : down // 2 + picture.shape[1]] = picture
    top = round((canvas.shape[0] - height) / 2.0)
    left = round((canvas.shape[1] - width) / 2.0)
    return canvas[top : top + height, left : left + width]


SIZES = [1, 3, 4, 7, 9, 12, 40, (5, 6), (1, 30), (9, 15), (30, 2)]


@pytest.mark.parametrize("size", SIZES)
def test_resize_and_crop_are_pillows_to_the_pixel(size):
    for picture in PICTURES:
        assert np.array_equal(Resize(size)(picture), by_pillow(picture, size))
        assert np.array_equal(CenterCrop(size)(picture), by_hand_cropped(picture, size))
        gray = Resize(size)(picture[..., 0])
        assert np.array_equal(gray, by_pillow(picture[..., 0], size))


TORCHVISION = """
import sys, json
from pathlib import Path
import numpy as np
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import v2
import zeromean as zm
from zeromean.transforming import CenterCrop, Resize, Steps

rng = np.random.default_rng(5)
pictures = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in
            [(9, 15), (15, 9), (16, 16), (1, 20), (33, 7), (64, 65), (101, 203), (255, 256)]]
compared = 0
for picture in pictures:
    image = Image.fromarray(picture)
    for size in (1, 2, 3, 5, 8, 16, 31, 64, 100, 224):
        for module in (T, v2):
            assert np.array_equal(np.asarray(module.Resize(size)(image)), Resize(size)(picture))
            theirs = np.asarray(module.CenterCrop(size)(image))
            assert np.array_equal(theirs, CenterCrop(size)(picture)), (picture.shape, size)
        both = T.Compose([T.Resize(size), T.CenterCrop(max(1, size - 3))])
        ours = Steps((Resize(size), CenterCrop(max(1, size - 3))))
        assert np.array_equal(np.asarray(both(image)), ours(picture))
        compared += 1
    for size in ((4, 9), (50, 3), (16, 16), (15, 9)):
        assert np.array_equal(np.asarray(T.Resize(size)(image)), Resize(size)(picture))
        assert np.array_equal(np.asarray(T.CenterCrop(size)(image)), CenterCrop(size)(picture))
    float_image = picture.astype(np.float32)[..., 0]
    theirs = np.asarray(T.Resize(5)(Image.fromarray(float_image)))
    assert np.array_equal(theirs, Resize(5)(float_image))

steps = T.Compose([T.Resize(8), T.CenterCrop(8), T.ToTensor()])
arrays = [np.moveaxis(np.asarray(steps(Image.fromarray(p))), 0, -1) for p in pictures]
expected = zm.measure(np.stack(arrays), "n h w c -> c")
profile = zm.measure(pictures, transform=steps)
assert profile == expected, (profile, expected)
assert profile.provenance.notes == {"CHW to HWC": len(pictures)}
assert profile.before == zm.measure(pictures)
first = zm.measure([np.moveaxis(p, -1, 0) for p in pictures], "n c h w -> c", transform=steps)
assert first.statistics == expected.statistics
modern = v2.Compose([v2.ToImage(), v2.Resize((8, 8), antialias=True)])
assert zm.measure(pictures, transform=modern).kept_shape == (3,)
mixed = Steps((Resize(8), CenterCrop(8), T.ToTensor()))
assert zm.measure(pictures, transform=mixed) == expected
class Own(T.Resize):
    pass

assert zm.measure(pictures, transform=Own((8, 8))).kept_shape == (3,)
gray = zm.measure(pictures, transform=T.Compose([T.Grayscale(), T.ToTensor()]))
assert gray.kept_shape == (1,) and gray.dtype == "float32"
assert zm.measure(np.stack([p[:8, :4] for p in pictures if p.shape[0] >= 8])[..., 0], "n h w ->",
                  transform=T.ToTensor()).max <= 1
print(json.dumps(compared))
"""


def torchvision_command():
    """How to run a script beside torchvision, and with which environment; None without it."""
    environment = dict(os.environ)
    if importlib.util.find_spec("torchvision") is not None:
        return [sys.executable], environment
    beside = Path(sys.prefix) / "torchvision"
    if not (beside / "torchvision").is_dir():
        return None, environment
    paths = [str(beside), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    return [sys.executable, str(SHIM)], environment


def test_torchvision_transforms_and_ours_agree_to_the_pixel(tmp_path):
    """Resize, CenterCrop and ToTensor of torchvision, both generations, on PIL images."""
    command, environment = torchvision_command()
    if command is None:
        pytest.skip("torchvision is not installed, and not beside the environment either")
    script = tmp_path / "script.py"
    script.write_text(TORCHVISION)
    done = subprocess.run(
        [*command, str(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == 80


def test_pictures_of_any_format_are_resized():
    for dtype, shape in (
        ("uint8", (8, 6, 5)),
        ("float32", (8, 6, 3)),
        ("uint16", (8, 6)),
        ("uint8", (8, 6, 4)),
        ("int32", (8, 6, 2)),
    ):
        picture = (RNG.random(shape) * 100).astype(dtype)
        made = Resize((4, 3))(picture)
        assert made.shape == (4, 3, *shape[2:])
        assert made.dtype == dtype
        flat = np.full(shape, 7, dtype)
        assert (Resize((4, 3))(flat) == 7).all()
    bands = (RNG.random((8, 6, 5)) * 100).astype(np.uint8)
    for k in range(5):
        assert np.array_equal(Resize(3)(bands)[..., k], Resize(3)(bands[..., k]))
    with pytest.raises(SourceError, match=r"1 channel\(s\) of float64 .* are no PIL image"):
        resized(np.zeros((4, 4)), 2, 2)
    with pytest.raises(SourceError, match=r"5 channel\(s\) of uint8"):
        as_pil(np.zeros((4, 4, 5), np.uint8))


@pytest.mark.parametrize("size", [0, -1, 2.5, (3,), (3, 0), (1, 2, 3), "4", True, None])
def test_sizes_that_make_no_sense_are_refused(size):
    for kind in (Resize, CenterCrop):
        with pytest.raises(PatternError, match=r"give one side, or \(height, width\), in pixels"):
            kind(size)


def test_sizes_as_text():
    assert size_of("256") == 256
    assert size_of("256x128") == size_of("256X128") == (256, 128)
    for wrong in ("", "0", "x", "3x", "a", "-3", "3x4x5", "1.5", "²"):
        with pytest.raises(PatternError, match="give one side in pixels, or both, as in 256x128"):
            size_of(wrong)


def test_presets_are_values():
    assert Resize(5) == Resize(5) != Resize((5, 5))
    for preset in (Resize(5), CenterCrop((4, 3)), Steps((Resize(5), CenterCrop(4)))):
        assert pickle.loads(pickle.dumps(preset)) == preset
    assert name_of(Steps((Resize(5), CenterCrop((4, 3)), same))) == (
        f"Resize(5), CenterCrop(4x3), {same.__module__}:same"
    )
    assert name_of(functools.partial(same)) == f"{same.__module__}:same"


# ---------------------------------------------------------------- other libraries


def test_tensors_come_channels_first():
    torch = pytest.importorskip("torch")

    def to_tensor(picture):
        return torch.from_numpy(picture).permute(2, 0, 1).float() / 4

    profile = zm.measure(EQUAL, PER_CHANNEL, transform=to_tensor)
    check(profile, [p.astype(np.float32) / 4 for p in EQUAL])
    assert profile.provenance.notes == {"CHW to HWC": 7}
    first = np.ascontiguousarray(EQUAL.transpose(0, 3, 1, 2))
    turned = zm.measure(first, "n c h w -> c", transform=to_tensor)
    assert turned == replace(profile, pattern=turned.pattern)
    gray = zm.measure(EQUAL[..., 0], "n h w ->", transform=lambda x: torch.from_numpy(x)[None])
    assert gray == zm.measure(EQUAL[..., 0], "n h w ->")
    learned = zm.measure(
        EQUAL, PER_CHANNEL, transform=lambda x: torch.ones(3, 2, 2, requires_grad=True)
    )
    assert learned.mean.tolist() == [1, 1, 1]


def test_albumentations_are_called_as_theirs_are(folder):
    albumentations = pytest.importorskip("albumentations")
    flip = albumentations.Compose([albumentations.HorizontalFlip(p=1.0)])
    profile = zm.measure(folder, transform=flip)
    assert profile == zm.measure(folder)

    class Own(albumentations.HorizontalFlip):
        """One's own, of their kind."""

    assert zm.measure(folder, transform=Own(p=1.0)) == profile
    small = zm.measure(folder, transform=albumentations.CenterCrop(4, 4))
    check(small, [albumentations.CenterCrop(4, 4)(image=p)["image"] for p in PICTURES])
    both = zm.measure(folder, transform=Steps((Resize(8), albumentations.CenterCrop(4, 4))))
    made = [albumentations.CenterCrop(4, 4)(image=Resize(8)(p))["image"] for p in PICTURES]
    check(both, made)


# ---------------------------------------------------------------- module:function


def test_a_function_by_name(tmp_path, monkeypatch):
    (tmp_path / "own_transforms.py").write_text(
        "import numpy as np\n"
        "class Kind:\n    @staticmethod\n    def zero(x):\n        return x * 0\n"
        "def dark(x):\n    return x // 2\n"
        "number = 5\n"
    )
    (tmp_path / "broken_transforms.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    assert loaded("own_transforms:dark")(np.array([4])) == 2
    assert loaded("own_transforms:Kind.zero")(np.array([4])) == 0
    for text, message in {
        "dark": "name it module:function",
        ":dark": "name it module:function",
        "own_transforms:bright": "the module own_transforms has no bright",
        "own_transforms:Kind.one": r"the module own_transforms has no Kind\.one",
        "own_transforms:number": "is int and no function",
        "no_such_module:f": "the module no_such_module cannot be imported: ModuleNotFoundError",
        "broken_transforms:f": "the module broken_transforms cannot be imported: .*not_there",
    }.items():
        with pytest.raises(SourceError, match=message):
            loaded(text)
    for name in ("own_transforms", "broken_transforms"):
        sys.modules.pop(name, None)


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "zeromean", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
    )


def test_the_command_line_shows_both_sides(folder, tmp_path):
    (tmp_path / "own.py").write_text(
        "import numpy as np\n\ndef unit(x):\n    return (x / np.float32(256)).astype(np.float32)\n"
    )
    done = run("measure", "train", "--transform", "own:unit", "-o", "x.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    profile = zm.load(tmp_path / "x.json")
    plain = zm.measure(folder)
    assert profile.mean.tolist() == [m / 256 for m in plain.mean.tolist()]
    assert "mean before" in done.stdout
    assert "std after" in done.stdout
    first = next(line for line in done.stdout.splitlines() if line.startswith("R "))
    shown = [float(cell) for cell in first.split()[1:]]
    expected = [plain.mean[0], profile.mean[0], plain.std[0], profile.std[0]]
    assert shown == pytest.approx(expected, rel=1e-6)
    digits = ", ".join(f"{v:.6g}" for v in profile.mean)
    assert "behind the transform (its output as it is):" in done.stdout
    assert f"transforms.Normalize(mean=[{digits}]" in done.stdout
    done = run("measure", "train", "--resize", "8", "--crop", "6x7", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    steps = Steps((Resize(8), CenterCrop((6, 7))))
    document = json.loads(done.stdout)
    assert (
        document["statistics"]
        == json.loads(zm.measure(folder, transform=steps).to_json())["statistics"]
    )
    assert document["provenance"]["sources"] == ["train through Resize(8), CenterCrop(6x7)"]
    done = run("measure", "train", "--resize", "8", "--transform", "own:unit", cwd=tmp_path)
    assert "through" not in done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--transform", "own"], "name it module:function"),
        (["--transform", "nowhere:f"], "the module nowhere cannot be imported"),
        (["--resize", "big"], "a size is 'big'"),
        (["--crop", "3x"], "a size is '3x'"),
        (["--crop", "3", "--nodata", "0"], "nodata= and mask="),
        (["--crop", "3", "--within", "0.1"], "within= estimates"),
        (["--crop", "3", "--ledger", "x.ledger"], "no ledger can be kept of what a transform"),
    ],
)
def test_the_command_line_says_what_is_wrong(folder, tmp_path, options, message):
    done = run("measure", "train", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_table_of_other_channels_after_than_before(folder):
    profile = zm.measure(folder, transform=lambda x: x[..., :1])
    text = profile_text(profile, color=False, histogram=False)
    assert text.count("–") == 6
    unit = zm.measure(folder, transform=lambda x: x // 2)
    assert "behind the transform (0..1 input):" in profile_text(unit, color=False, histogram=False)
    one = zm.measure(folder, "n h w c ->", transform=halved)
    assert "\nall " in profile_text(one, color=False, histogram=False)
