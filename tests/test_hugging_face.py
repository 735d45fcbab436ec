"""Data sets of Hugging Face: the bytes that they hold, in the order and choice that they give."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeromean as zm
from zeromean.sources.opening import Options, open_source

pytest.importorskip("pyarrow")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the library's own imports
    datasets = pytest.importorskip("datasets")

DATA = Path(__file__).parents[2] / "shared" / "data"
CLASSES = ("cat", "dog")
FEATURES = datasets.Features(
    {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
)
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def encoded(seed, image_format="PNG", size=(7, 5)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format)
    return buffer.getvalue()


PICTURES = [encoded(i, ("PNG", "JPEG")[i % 2], (3 + i % 4, 2 + i % 3)) for i in range(40)]
LABELS = [i // 20 for i in range(40)]


@pytest.fixture(autouse=True)
def quiet():
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pictures as files, in a folder for each class, as `imagefolder` wants them."""
    base = tmp_path_factory.mktemp("pictures")
    for i, data in enumerate(PICTURES):
        path = base / CLASSES[LABELS[i]] / f"{i:03d}.{('png', 'jpg')[i % 2]}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return base


@pytest.fixture(scope="module")
def truth(folder):
    return zm.measure(folder)


def names_of(i):
    return f"{i:03d}.{('png', 'jpg')[i % 2]}"


def data_set(rows=range(40)):
    """The pictures with their bytes."""
    images = [{"bytes": PICTURES[i], "path": names_of(i)} for i in rows]
    labels = [LABELS[i] for i in rows]
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=FEATURES)


def of_rows(tmp_path, rows):
    """What these pictures give as files."""
    base = tmp_path / f"rows{len(list(tmp_path.iterdir()))}"
    base.mkdir()
    for i in rows:
        (base / names_of(i)).write_bytes(PICTURES[i])
    return zm.measure(base)


def same(profile, truth):
    assert profile == truth
    assert profile.provenance.digest == truth.provenance.digest != 0
    assert profile.provenance.items == truth.provenance.items
    assert profile.provenance.bytes == truth.provenance.bytes
    assert profile.provenance.decoders == truth.provenance.decoders


# ---------------------------------------------------------------- pictures


def test_a_data_set_gives_the_numbers_of_its_files(tmp_path, folder, truth):
    """With bytes, with paths alone, in one file or two, on disk or in memory."""
    data = data_set()
    same(zm.measure(data), truth)
    loaded = datasets.load_dataset(
        "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.data.column("image")[0].as_py()["bytes"] is None
    same(zm.measure(loaded), truth)
    data.to_parquet(tmp_path / "x.parquet")
    same(zm.measure(tmp_path / "x.parquet"), truth)
    loaded.save_to_disk(tmp_path / "saved", num_shards=3)
    same(zm.measure(tmp_path / "saved"), truth)
    same(zm.measure(datasets.load_from_disk(tmp_path / "saved")), truth)
    halves = datasets.concatenate_datasets([data_set(range(17)), data_set(range(17, 40))])
    same(zm.measure(halves), truth)


def test_what_is_chosen_shuffled_and_filtered_is_honored(tmp_path, truth):
    data = data_set()
    same(zm.measure(data.shuffle(seed=3)), truth)
    rows = [5, 3, 38, 11, 12]
    same(zm.measure(data.select(rows)), of_rows(tmp_path, rows))
    same(zm.measure(data.select(range(4, 9))), of_rows(tmp_path, range(4, 9)))
    same(zm.measure(data.shuffle(seed=1).filter(lambda row: row["label"] == 1)),
         of_rows(tmp_path, range(20, 40)))  # fmt: skip
    split = data.train_test_split(test_size=0.25, seed=0)
    both = zm.measure(split["train"]) + zm.measure(split["test"])
    assert both == truth
    assert both.provenance.digest == truth.provenance.digest


def test_formats_and_transforms_are_not_asked(truth):
    """What is measured is the data, not what a format or a transform makes of it."""
    data = data_set()
    same(zm.measure(data.with_format("numpy")), truth)
    same(zm.measure(data.with_transform(lambda rows: pytest.fail("was asked"))), truth)
    same(zm.measure(data.cast_column("image", datasets.Image(decode=False))), truth)
    same(zm.measure(data.cast_column("image", datasets.Image(mode="L"))), truth)
    same(zm.measure(data.rename_column("image", "img").select_columns(["img"])), truth)


def test_a_column_of_a_data_set(truth):
    same(zm.measure(data_set()["image"]), truth)
    same(zm.measure(data_set().to_iterable_dataset()["image"]), truth)
    assert zm.measure(data_set()["label"]).mean.item() == 0.5


def test_rows_are_called_by_their_numbers(tmp_path):
    images = [{"bytes": PICTURES[0], "path": None}, None, {"bytes": b"no", "path": "a.png"},
              {"bytes": None, "path": str(tmp_path / "none.png")}]  # fmt: skip
    features = datasets.Features({"image": datasets.Image()})
    data = datasets.Dataset.from_dict({"image": [images[0]] * 4}, features=features)
    import pyarrow as pa

    column = pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    data = datasets.Dataset(pa.table({"image": column}).cast(features.arrow_schema))
    with pytest.warns(zm.SkippedWarning):
        profile = zm.measure(data)
    assert profile.provenance.items == 1
    reasons = dict(profile.provenance.skipped)
    assert reasons["Dataset[1]"] == "no image"
    assert reasons["Dataset[2]"] == "a text file, not an image that Pillow knows"
    assert reasons["Dataset[3]"].endswith("none.png: vanished before it was read")
    with pytest.raises(zm.SourceError, match=r"Dataset\[1\]: no image"):
        zm.measure(data, strict=True)


def test_limit_is_spread_evenly(tmp_path):
    data = data_set()
    profile = zm.measure(data, limit=7)
    rows = [(2 * i + 1) * 40 // 14 for i in range(7)]
    same(profile, of_rows(tmp_path, rows))
    assert profile.provenance.sources == ("Dataset (a quick look at 7 of 40)",)
    same(zm.measure(data.to_iterable_dataset(), limit=7), of_rows(tmp_path, range(7)))


def test_groups_have_the_names_of_the_classes(folder):
    expected = zm.measure(folder, by="class")
    for data in (data_set(), data_set().shuffle(seed=5), data_set().to_iterable_dataset()):
        assert zm.measure(data, by="label") == expected
    labels = [CLASSES[label] for label in LABELS]
    assert zm.measure(data_set(), by=labels) == expected
    with pytest.raises(zm.PatternError, match="Dataset has no such column; it has 'image', 'lab"):
        zm.measure(data_set(), by="class")


def test_several_columns_of_pictures(truth):
    data = data_set().add_column("other", [PICTURES[0]] * 40)
    with pytest.raises(zm.PatternError, match="Dataset has 2 columns of pictures, 'image', 'oth"):
        zm.measure(data)
    same(zm.measure(data, key="image"), truth)
    assert zm.measure(data, key="other").provenance.items == 40
    with pytest.raises(zm.PatternError, match="has no column 'imgae'; did you mean 'image'"):
        zm.measure(data, key="imgae")


def test_patterns_and_colors(tmp_path, folder):
    data = data_set()
    assert zm.measure(data, colors="gray") == zm.measure(folder, colors="gray")
    square = [{"bytes": encoded(i, size=(4, 4)), "path": None} for i in range(9)]
    data = datasets.Dataset.from_dict(
        {"image": square}, features=datasets.Features({"image": datasets.Image()})
    )
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(row["bytes"]))) for row in square])
    pattern = "n h w c -> h w c"
    assert zm.measure(data, pattern).mean.tolist() == zm.measure(pixels, pattern).mean.tolist()


def test_dictionaries_of_data_sets_name_them():
    splits = datasets.DatasetDict({"train": data_set(), "test": data_set()})
    with pytest.raises(zm.PatternError, match=r"holds the data sets 'train', 'test'; give one of"):
        zm.measure(splits)
    streams = datasets.IterableDatasetDict({"fit": data_set().to_iterable_dataset()})
    with pytest.raises(zm.PatternError, match=r"such as data\['fit'\]"):
        zm.measure(streams)
    with pytest.raises(zm.PatternError, match="cannot measure Features; give a Dataset"):
        zm.measure(FEATURES)


def test_shards_can_be_sent_away():
    (source,) = open_source(data_set(), None, Options())
    shards = [pickle.loads(pickle.dumps(shard)) for shard in source.shards()]
    assert sum(shard.n_items for shard in shards) == 40
    assert source.n_items == 40
    with pytest.raises(zm.SourceError, match="no ledger can be kept of Dataset"):
        zm.measure(data_set(), ledger=True)


@pytest.mark.skipif(not (DATA / "cifar10-train-5k").exists(), reason="CIFAR is absent")
def test_cifar_as_hugging_face_writes_it(tmp_path):
    """5 000 pictures: Parquet written by `datasets`, a saved data set, and the folder."""
    base = DATA / "cifar10-train-5k"
    names = sorted(base.glob("*/*.png"))
    rows = [{"bytes": name.read_bytes(), "path": name.name} for name in names]
    features = datasets.Features({"img": datasets.Image()})
    data = datasets.Dataset.from_dict({"img": rows}, features=features)
    data.to_parquet(tmp_path / "cifar.parquet")
    data.save_to_disk(tmp_path / "cifar")
    expected = zm.measure(base)
    for source in (tmp_path / "cifar.parquet", tmp_path / "cifar", data):
        same(zm.measure(source), expected)


# ---------------------------------------------------------------- streams


def test_streams_give_the_same(tmp_path, truth):
    data = data_set()
    data.to_parquet(tmp_path / "x.parquet")
    streamed = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "x.parquet"), split="train", streaming=True,
        cache_dir=str(tmp_path),
    )  # fmt: skip
    for stream in (
        data.to_iterable_dataset(),
        data.to_iterable_dataset(num_shards=4).shuffle(seed=0, buffer_size=10),
        streamed,
        streamed.with_format("numpy"),
    ):
        same(zm.measure(stream), truth)
        same(zm.measure(stream), truth)  # and again: it is not used up
    taken = zm.measure(streamed.skip(20))
    assert taken == zm.measure(data.select(range(20, 40)))


def pil_rows():
    for i, data in enumerate(PICTURES):
        yield {"image": Image.open(io.BytesIO(data)), "n": i % 2}


def test_streams_of_pil_images(truth):
    """The pixels that the stream hands over; of bytes that nobody kept there is no digest."""
    untyped = datasets.IterableDataset.from_generator(pil_rows)
    assert untyped.features is None
    profile = zm.measure(untyped)
    assert profile == truth
    assert profile.provenance.digest == 0
    assert zm.measure(untyped, key="image", limit=5) == zm.measure(data_set(range(5)))
    assert zm.measure(untyped, by="n").total == truth
    assert zm.measure(untyped, key="n").mean.item() == 0.5
    kept = datasets.IterableDataset.from_generator(pil_rows).filter(lambda row: True)
    assert zm.measure(kept) == truth


def test_streams_that_were_mapped_or_filtered(truth):
    """A JPEG that was decoded on the way is not made a JPEG again, which would change it."""
    stream = data_set().to_iterable_dataset()
    assert zm.measure(stream.filter(lambda row: True)) == truth
    assert zm.measure(stream.map(lambda row: {"more": 1})) == truth
    turned = stream.map(lambda row: {"image": row["image"].rotate(180)})
    assert zm.measure(turned) == truth
    features = datasets.Features({"image": datasets.Image(), "n": datasets.Value("int8")})
    typed = datasets.IterableDataset.from_generator(pil_rows, features=features)
    pixels = [np.asarray(row["image"]) for row in typed]  # the library has encoded them again
    assert zm.measure(typed).mean.tolist() == zm.measure(pixels, "n h w c -> c").mean.tolist()


def test_untyped_streams_of_bytes(truth):
    def rows():
        yield from ({"image": {"bytes": data, "path": None}} for data in PICTURES)

    def bare():
        yield from ({"png": data, "name": "x"} for data in PICTURES)

    def none():
        yield from ()

    same(zm.measure(datasets.IterableDataset.from_generator(rows)), truth)
    same(zm.measure(datasets.IterableDataset.from_generator(bare)), truth)
    with pytest.raises(zm.PatternError, match=r"do not tell them \(there are none\); give it feat"):
        zm.measure(datasets.IterableDataset.from_generator(none))


def test_streams_of_numbers():
    def rows():
        yield from ({"a": i, "b": float(i) / 4, "t": "x"} for i in range(30))

    expected = zm.measure(_frame(30))
    stream = datasets.IterableDataset.from_generator(rows)
    assert zm.measure(stream) == expected
    assert zm.measure(stream, limit=11) == zm.measure(_frame(11))
    assert list(zm.measure(stream).provenance.left_out) == ["t (string)"]
    mapped = stream.map(lambda row: {"a": row["a"], "b": row["b"], "t": "y"})
    assert zm.measure(mapped) == expected


def _frame(n):
    import pyarrow as pa

    return pa.table({"a": range(n), "b": [i / 4 for i in range(n)]})


def test_a_stream_that_fails_says_where():
    def rows():
        yield from ({"a": float(i)} for i in range(2500))
        raise RuntimeError("the disk is gone")

    features = datasets.Features({"a": datasets.Value("float64")})
    stream = datasets.IterableDataset.from_generator(rows, features=features)
    with pytest.raises(zm.SourceError, match="IterableDataset fails after"):
        zm.measure(stream)


# ---------------------------------------------------------------- numbers


def numbers():
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=25_000).astype(np.float32),
        "k": rng.integers(-9, 9, 25_000).astype(np.int16),
        "label": rng.integers(0, 2, 25_000),
        "text": ["t"] * 25_000,
    }


def test_numeric_columns_are_a_table():
    held = numbers()
    features = datasets.Features({
        "x": datasets.Value("float32"), "k": datasets.Value("int16"),
        "label": datasets.ClassLabel(names=list(CLASSES)), "text": datasets.Value("string"),
    })  # fmt: skip
    data = datasets.Dataset.from_dict(held, features=features)
    columns = {name: held[name] for name in ("x", "k", "label")}
    profile = zm.measure(data)
    assert profile.feature_names == ("x", "k", "label")
    assert profile.dtypes == ("float32", "int16", "int64")
    assert list(profile.provenance.left_out) == ["text (string)"]
    for name, values in columns.items():
        alone = zm.measure(values)
        assert profile.column(name).mean == alone.mean
        assert profile.column(name).std == alone.std
    assert zm.measure(data.shuffle(seed=2)) == profile
    assert zm.measure(data, key="k").feature_names == ("k",)
    rows = np.arange(3, 25_000, 7)
    some = zm.measure(data.select(rows))
    assert some.column("x").mean == zm.measure(held["x"][rows]).mean
    groups = zm.measure(data.shuffle(seed=2), by="label")
    assert sorted(groups) == ["cat", "dog"]
    assert groups["dog"].column("k").mean == zm.measure(held["k"][held["label"] == 1]).mean
    assert groups.total.feature_names == ("x", "k")
    assert zm.measure(data, limit=100).provenance.items == 100
    assert zm.measure(data, by=np.arange(25_000) % 2)["1"].count.tolist() == [12_500] * 3


def test_missing_numbers_and_no_rows():
    data = datasets.Dataset.from_dict({"a": [1, None, 3], "b": [None, 2.5, float("nan")]})
    profile = zm.measure(data)
    assert profile.nan_count.tolist() == [1, 2]
    assert profile.mean.tolist() == [2, 2.5]
    empty = zm.measure(data.select([]))
    assert empty.count.tolist() == [0, 0]
    assert empty + profile == profile


def test_columns_of_arrays(tmp_path):
    array = np.random.default_rng(1).integers(0, 256, (30, 4, 5, 3), dtype=np.uint8)
    vectors = np.random.default_rng(2).normal(size=(30, 8)).astype(np.float32)
    features = datasets.Features({
        "pixels": datasets.Array3D((4, 5, 3), "uint8"),
        "vector": datasets.Sequence(datasets.Value("float32"), length=8),
        "label": datasets.ClassLabel(names=list(CLASSES)),
    })  # fmt: skip
    held = {"pixels": list(array), "vector": list(vectors), "label": [i % 2 for i in range(30)]}
    data = datasets.Dataset.from_dict(held, features=features)
    data.to_parquet(tmp_path / "x.parquet")
    data.save_to_disk(tmp_path / "saved")
    pattern = "n h w c -> c"
    expected, rows = zm.measure(array, pattern), zm.measure(vectors)
    for source in (data, data.shuffle(seed=1), data.to_iterable_dataset(),
                   tmp_path / "x.parquet", tmp_path / "saved"):  # fmt: skip
        assert zm.measure(source, pattern, key="pixels") == expected
        assert zm.measure(source, key="vector") == rows
        assert zm.measure(source).feature_names == ("label",)
    by = np.where(np.arange(30) % 2, "dog", "cat")
    assert zm.measure(data, key="vector", by="label") == zm.measure(vectors, by=by)
    assert zm.measure(data, key="vector", limit=3) == zm.measure(vectors[[5, 15, 25]])
    with pytest.raises(zm.PatternError, match="'pixels' of Dataset holds arrays: choose it with"):
        zm.measure(data, pattern)
    assert zm.measure(data["vector"]) == rows


# ---------------------------------------------------------------- saved data sets


def test_saved_dictionaries_name_their_data_sets(tmp_path, truth):
    splits = datasets.DatasetDict({"train": data_set(), "test": data_set(range(3))})
    splits.save_to_disk(tmp_path / "saved")
    with pytest.raises(zm.PatternError, match="holds the data sets train, test; measure one, such"):
        zm.measure(tmp_path / "saved")
    same(zm.measure(tmp_path / "saved" / "train"), truth)
    both = zm.measure([tmp_path / "saved" / "train", tmp_path / "saved" / "test"])
    assert both == truth + zm.measure(data_set(range(3)))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ('{"_data_files": [{"filename": "../x.arrow"}]}', "names no file of the folder"),
        ('{"_data_files": [7]}', "names no file of the folder, but 7"),
        ('{"_data_files": [{"filename": "none.arrow"}]}', "vanished before it was read"),
        ('{"_data_files": []}', "lists no file"),
        ('{"_data_files": [], "_indices_data_files": [{"filename": "i"}]}', "old version of data"),
    ],
)
def test_saved_data_sets_whose_state_makes_no_sense(tmp_path, state, said):
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(zm.SourceError, match=said) as caught:
        zm.measure(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_is_no_saved_data_set(tmp_path):
    with pytest.raises(zm.SourceError, match=r"holds no state\.json"):
        zm.measure(tmp_path, format="dataset")


def test_the_order_of_a_saved_data_set_is_that_of_its_state(tmp_path):
    data_set().save_to_disk(tmp_path / "saved", num_shards=12)
    state = json.loads((tmp_path / "saved" / "state.json").read_text())
    state["_data_files"].reverse()
    (tmp_path / "saved" / "state.json").write_text(json.dumps(state))
    (source,) = open_source(tmp_path / "saved", None, Options())
    first = next(iter(source.entries())).name
    assert first == "data-00011-of-00012.arrow[0]"


def test_the_library_is_not_imported(tmp_path):
    """Its files are read by PyArrow alone."""
    data_set().save_to_disk(tmp_path / "saved")
    data_set().to_parquet(tmp_path / "x.parquet")
    code = (
        "import sys, zeromean as zm; a = zm.measure(sys.argv[1]); b = zm.measure(sys.argv[2]); "
        "import zeromean.sources.hugging_face; print(a == b, 'datasets' in sys.modules)"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "saved"), str(tmp_path / "x.parquet")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split() == ["True", "False"], done.stderr
