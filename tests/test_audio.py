"""Recordings: the very integers of the file, cut ones refused, log-mel features as defined."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import zeromean as zm
from zeromean.sources.logmel import LogMel, center_frequencies, to_hertz, to_mels

soundfile = pytest.importorskip("soundfile")

SPEECH = Path(__file__).parents[2] / "shared" / "data" / "speech"
TRUTH = SPEECH.parent / "truth.json"
shared = pytest.mark.skipif(not TRUTH.is_file(), reason="the recordings are not here")

RANDOM = np.random.default_rng(7)


def wav(samples, rate=8000, *, form=None, order="<", extra=b"", magic=None):
    """A WAV file byte by byte, so that nothing here rests on the library that reads it."""
    if samples.dtype == object:  # 24-bit integers
        data = b"".join(int(v).to_bytes(3, "little", signed=True) for v in samples.ravel())
        width = 3
    else:
        data, width = samples.astype(samples.dtype.newbyteorder(order)).tobytes(), samples.itemsize
    channels = samples.shape[1]
    form = form or (3 if samples.dtype.kind == "f" else 1)
    align = channels * width
    head = struct.pack(f"{order}HHIIHH", form, channels, rate, rate * align, align, 8 * width)
    chunks = b"fmt " + struct.pack(f"{order}I", len(head)) + head + extra
    chunks += b"data" + struct.pack(f"{order}I", len(data)) + data + b"\0" * (len(data) % 2)
    magic = magic or (b"RIFX" if order == ">" else b"RIFF")
    return magic + struct.pack(f"{order}I", 4 + len(chunks)) + b"WAVE" + chunks


def integers(low, high, shape, dtype):
    return RANDOM.integers(low, high, shape, dtype=np.int64, endpoint=True).astype(dtype)


SAMPLES = {
    "uint8": integers(0, 255, (3000, 1), "uint8"),
    "int16": integers(-(1 << 15), (1 << 15) - 1, (3000, 2), "int16"),
    "int24": integers(-(1 << 23), (1 << 23) - 1, (3000, 1), object),
    "int32": integers(-(1 << 31), (1 << 31) - 1, (3000, 3), "int32"),
    "float32": (RANDOM.standard_normal((3000, 1)) * 3).astype("float32"),
    "float64": RANDOM.standard_normal((3000, 2)) * 1e-5,
}


def as_array(samples):
    return samples.astype("int32") if samples.dtype == object else samples


@pytest.mark.parametrize("name", SAMPLES)
def test_a_wav_file_is_the_array_of_its_samples(name, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav(SAMPLES[name]))
    expected = zm.measure(as_array(SAMPLES[name]), "n c -> c")
    actual = zm.measure(path)
    assert expected == actual
    assert (expected.min == actual.min).all()
    assert (expected.max == actual.max).all()
    assert actual.provenance.items == 1
    assert actual.provenance.notes == {"8000 Hz": 1}


@pytest.mark.parametrize(("name", "subtype"), [("int16", "PCM_16"), ("int24", "PCM_24")])
def test_a_flac_file_is_the_array_of_its_samples(name, subtype, tmp_path):
    values = as_array(SAMPLES[name])
    path = tmp_path / "a.flac"
    soundfile.write(path, values << 8 if name == "int24" else values, 16000, subtype=subtype)
    assert zm.measure(values, "n c -> c") == zm.measure(path)


def test_a_flac_file_of_8_bits_is_signed(tmp_path):
    values = integers(-128, 127, (500, 1), "int8")
    soundfile.write(
        tmp_path / "a.flac", values.astype("int16") << 8, 8000, subtype="PCM_S8", format="FLAC"
    )
    assert zm.measure(values, "n c -> c") == zm.measure(tmp_path / "a.flac")


def test_container_and_byte_order_change_nothing(tmp_path):
    """A WAV of big-endian samples, one with chunks before them, an extensible one, and a FLAC."""
    values = SAMPLES["int16"]
    (tmp_path / "rifx.wav").write_bytes(wav(values, order=">"))
    odd = b"LIST" + struct.pack("<I", 5) + b"odd!!" + b"\0"
    (tmp_path / "list.wav").write_bytes(wav(values, extra=odd))
    soundfile.write(tmp_path / "wavex.wav", values, 8000, format="WAVEX", subtype="PCM_16")
    soundfile.write(tmp_path / "rf64.wav", values, 8000, format="RF64", subtype="PCM_16")
    soundfile.write(tmp_path / "a.flac", values, 8000, subtype="PCM_16")
    expected = zm.measure(values, "n c -> c")
    for path in sorted(tmp_path.iterdir()):
        assert expected == zm.measure(path), path.name


def test_telephone_samples_are_the_sixteen_bits_of_g711(tmp_path):
    """mu-law by the formula of ITU-T G.711, not by the library's table."""
    codes = np.arange(256, dtype=np.uint8)
    inverted = (~codes).astype(np.int64)
    magnitude = ((((inverted & 15) << 3) + 132) << ((inverted >> 4) & 7)) - 132
    expected = np.where(inverted & 128, -magnitude, magnitude).astype(np.int16)
    (tmp_path / "a.wav").write_bytes(wav(codes[:, None], form=7))
    actual = zm.measure(tmp_path / "a.wav")
    assert zm.measure(expected[:, None], "n c -> c") == actual
    assert actual.provenance.notes == {"8000 Hz": 1, "mu-law": 1}


def test_nan_and_infinity_of_a_float_recording_are_counted(tmp_path):
    values = np.array([[1.5], [np.nan], [np.inf], [-2.0]], np.float32)
    (tmp_path / "a.wav").write_bytes(wav(values))
    with pytest.warns(zm.ZeromeanWarning, match="1 infinite"):
        profile = zm.measure(tmp_path / "a.wav")
    assert (profile.nan_count.item(), profile.inf_count.item()) == (1, 1)
    assert profile.mean.item() == -0.25


def test_a_long_recording_comes_in_parts_and_counts_once(tmp_path):
    values = integers(-5, 5, (2_500_001, 1), "int16")
    (tmp_path / "a.wav").write_bytes(wav(values))
    (tmp_path / "b.wav").write_bytes(wav(values[:10]))
    expected = zm.measure(np.concatenate([values, values[:10]]), "n c -> c")
    actual = zm.measure(tmp_path)
    assert expected == actual
    assert actual.provenance.items == 2
    assert actual.provenance.notes == {"8000 Hz": 2}


@shared
def test_speech_has_its_published_sums():
    known = json.loads(TRUTH.read_text())["speech"]
    channel = known["channels"][0]
    profile = zm.measure(SPEECH)
    assert profile.provenance.items == known["items"]
    assert profile.count.item() == channel["n"]
    assert profile.mean.item() == channel["mean"]
    assert profile.std.item() == channel["std"]
    assert (profile.min.item(), profile.max.item()) == (channel["min"], channel["max"])
    n, total, squares = channel["n"], channel["sum"], channel["sum_sq"]
    assert profile.var().item() == float(Fraction(n * squares - total * total, n * n))


@shared
def test_speech_is_the_same_in_threads_and_processes():
    alone = zm.measure(SPEECH, workers=1)
    assert alone == zm.measure(SPEECH, workers=3)
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        assert alone == zm.measure(SPEECH, executor=pool)


def test_what_a_worker_gets_can_be_pickled(tmp_path):
    from zeromean.sources.opening import Options, open_source

    (tmp_path / "a.wav").write_bytes(wav(SAMPLES["int16"]))
    (source,) = open_source(str(tmp_path), None, Options())
    (shard,) = pickle.loads(pickle.dumps(list(source.shards())))
    (item,) = shard.items()
    assert (item.array == SAMPLES["int16"]).all()
    assert item.kind == "stereo-samples int16"


def test_recordings_in_a_remote_store_give_the_same(tmp_path):
    """One by one, and as a folder; libraries are given an open file there, not a path."""
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    (tmp_path / "a.wav").write_bytes(wav(SAMPLES["int16"]))
    soundfile.write(tmp_path / "b.flac", SAMPLES["int16"], 8000)
    for path in sorted(tmp_path.iterdir()):
        store.pipe(f"/recordings/{path.name}", path.read_bytes())
        assert zm.measure(path) == zm.measure(f"memory://recordings/{path.name}"), path.name
    assert zm.measure(tmp_path) == zm.measure("memory://recordings")


# ---------------------------------------------------------------- broken files


def written(subtype):
    file = io.BytesIO()
    soundfile.write(file, SAMPLES["int16"], 8000, subtype=subtype, format="WAV")
    return file.getvalue()


WHOLE = wav(SAMPLES["int16"])
EMPTY_DATA = WHOLE[:40] + b"\0\0\0\0" + WHOLE[44:]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (WHOLE[:9000], "is cut short: 2,239 of 3,000 samples"),
        (WHOLE[:-1], "is cut short: 2,999 of 3,000 samples"),
        (WHOLE[:44], "is cut short: 0 of 3,000 samples"),
        (WHOLE[:30], "is cut short within its header"),
        (WHOLE[:40], "is cut short: it holds no samples"),
        (EMPTY_DATA, "its header says 0 samples, but more follow"),
        (wav(SAMPLES["int16"][:0]), "holds no data"),
        (b"", "empty file"),
        (b"no recording at all" * 50, "not a WAV or FLAC file"),
        (written("IMA_ADPCM"), "holds IMA ADPCM samples; convert them to PCM first"),
        (b"OggS" + bytes(100), "not a WAV or FLAC file"),
    ],
)
def test_a_broken_recording_is_skipped_with_a_reason(data, said, tmp_path):
    """It leaves no trace in the statistics; alone, or under strict, it is an error."""
    (tmp_path / "bad.wav").write_bytes(data)
    (tmp_path / "good.wav").write_bytes(WHOLE)
    with pytest.warns(zm.SkippedWarning):
        profile = zm.measure(tmp_path)
    assert zm.measure(SAMPLES["int16"], "n c -> c") == profile
    ((name, reason),) = profile.provenance.skipped
    assert name == "bad.wav"
    assert said in reason
    assert "\n" not in reason
    with pytest.raises(zm.SourceError, match=r"bad\.wav"):
        zm.measure(tmp_path, strict=True)
    with pytest.raises(zm.SourceError, match=r"bad\.wav"):
        zm.measure(tmp_path / "bad.wav")


@pytest.fixture(scope="module")
def flac(tmp_path_factory):
    path = tmp_path_factory.mktemp("flac") / "a.flac"
    t = np.arange(40_000)
    values = (3000 * np.sin(t / 9) + RANDOM.integers(-50, 50, len(t))).astype("int16")
    soundfile.write(path, values[:, None], 8000, subtype="PCM_16")
    return path.read_bytes(), values[:, None]


@pytest.mark.parametrize("part", [0.002, 0.3, 0.7, 0.95, 0.9999])
def test_a_cut_flac_file_is_refused(part, flac, tmp_path):
    data = flac[0]
    (tmp_path / "a.flac").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(zm.SourceError, match=r"a\.flac: (damaged|is cut short|not a)"):
        zm.measure(tmp_path / "a.flac")


def test_no_flipped_byte_of_a_flac_file_gives_other_numbers(flac, tmp_path):
    """The frames have checksums of 16 bits, the samples one of 128."""
    data, values = flac
    right, refused = zm.measure(values, "n c -> c"), 0
    for at in range(60, len(data), len(data) // 60):
        flipped = bytearray(data)
        flipped[at] ^= 0x55
        (tmp_path / "a.flac").write_bytes(flipped)
        try:
            assert right == zm.measure(tmp_path / "a.flac")
        except zm.SourceError:
            refused += 1
    assert refused > 40


def test_a_wrong_checksum_of_the_samples_is_noticed(flac, tmp_path):
    data = bytearray(flac[0])
    data[30] ^= 1  # of the MD5 in the header
    (tmp_path / "a.flac").write_bytes(data)
    with pytest.raises(zm.SourceError, match="do not fit its checksum"):
        zm.measure(tmp_path / "a.flac")


def test_a_piped_wav_file_is_as_long_as_it_is(tmp_path):
    """Its length was not known when its header was written; that is noted."""
    (tmp_path / "a.wav").write_bytes(WHOLE[:40] + b"\xff" * 4 + WHOLE[44:])
    profile = zm.measure(tmp_path / "a.wav")
    assert zm.measure(SAMPLES["int16"], "n c -> c") == profile
    assert profile.provenance.notes["length of the file, not of its header"] == 1


def test_a_flac_file_of_unknown_length_is_read_to_its_end(flac, tmp_path):
    data = bytearray(flac[0])
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    assert zm.measure(flac[1], "n c -> c") == zm.measure(tmp_path / "a.flac")


# ---------------------------------------------------------------- what is measured together


def test_mono_and_stereo_are_never_mixed(tmp_path):
    mono = SAMPLES["int16"][:, :1]
    (tmp_path / "mono.wav").write_bytes(wav(mono))
    (tmp_path / "stereo.wav").write_bytes(WHOLE)
    with pytest.raises(zm.SourceError, match=r"mono-samples int16: such as mono\.wav") as caught:
        zm.measure(tmp_path)
    assert "stereo-samples int16: such as stereo.wav" in str(caught.value)
    assert "--group 'mono-samples int16'" in str(caught.value)
    for group in ("mono-samples int16", "mono-samples"):
        with pytest.warns(zm.SkippedWarning, match="not the chosen group"):
            assert zm.measure(mono, "n c -> c") == zm.measure(tmp_path, group=group)


def test_different_sample_rates_are_measured_with_a_warning(tmp_path):
    for i, rate in enumerate((8000, 8000, 16000)):
        (tmp_path / f"{i}.wav").write_bytes(wav(SAMPLES["int16"], rate))
    with pytest.warns(zm.ZeromeanWarning, match=r"16000 Hz \(1\), 8000 Hz \(2\)"):
        profile = zm.measure(tmp_path)
    assert zm.measure(np.concatenate([SAMPLES["int16"]] * 3), "n c -> c") == profile


def test_by_class_gives_each_speaker(tmp_path):
    for i, speaker in enumerate(("ann", "bob")):
        (tmp_path / speaker).mkdir()
        (tmp_path / speaker / "a.wav").write_bytes(wav(SAMPLES["int16"] // (i + 1)))
        (tmp_path / speaker / "b.wav").write_bytes(wav(integers(-9, 9, (1_200_000, 2), "int16")))
    groups = zm.measure(tmp_path, by="class")
    assert list(groups) == ["ann", "bob"]
    assert zm.measure(tmp_path / "bob") == groups["bob"]
    assert groups["bob"].provenance.items == 2
    assert groups["bob"].provenance.notes == {"8000 Hz": 2}


def test_a_pattern_of_its_own(tmp_path):
    (tmp_path / "a.wav").write_bytes(WHOLE)
    assert zm.measure(SAMPLES["int16"], "n c ->") == zm.measure(tmp_path, "n c ->")


def test_unknown_features_and_a_missing_library_are_said(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(WHOLE)
    with pytest.raises(zm.SourceError, match="choose 'samples' or 'logmel'"):
        zm.measure(tmp_path, features="mfcc")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ImportError, match=r"need soundfile: pip install \"zeromean\[audio\]\""):
        zm.measure(tmp_path)


# ---------------------------------------------------------------- log-mel features


def naive(signal, rate):
    """The definition written out: a sum for each frequency, a loop for each filter."""
    length, hop = round(0.025 * rate), round(0.010 * rate)
    n_fft = 1
    while n_fft < length:
        n_fft *= 2
    top = rate / 2
    mel_top = top * 3 / 200 if top < 1000 else 15 + 27 * np.log(top / 1000) / np.log(6.4)
    mels = [mel_top * i / 81 for i in range(82)]
    edges = [m * 200 / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27) for m in mels]
    bins = np.arange(n_fft // 2 + 1)
    table = np.exp(-2j * np.pi * np.outer(np.arange(length), bins) / n_fft)
    window = np.array([0.5 * (1 - np.cos(2 * np.pi * i / length)) for i in range(length)])
    rows = []
    for begin in range(0, len(signal) - length + 1, hop):
        power = np.abs((signal[begin : begin + length] * window) @ table) ** 2
        row = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            energy = 0.0
            for k in bins:
                f = k * rate / n_fft
                if low < f < high:
                    rise = (f - low) / (middle - low)
                    fall = (high - f) / (high - middle)
                    energy += power[k] * min(rise, fall) * 2 / (high - low)
            row.append(np.log(max(energy, 1e-10)))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100])
def test_features_are_those_of_the_definition(rate):
    signal = RANDOM.standard_normal(rate // 10) * 0.1
    expected, actual = naive(signal, rate), LogMel(rate).features(signal)
    assert expected.shape == actual.shape
    assert actual.dtype == np.float32
    assert abs(expected - actual).max() < 3e-6


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_features_are_those_of_transformers(rate):
    audio_utils = pytest.importorskip("transformers.audio_utils")
    signal, mel = RANDOM.standard_normal(rate) * 0.1, LogMel(rate)
    filters = audio_utils.mel_filter_bank(
        mel.n_fft // 2 + 1, 80, 0.0, rate / 2, rate, norm="slaney", mel_scale="slaney"
    )
    expected = audio_utils.spectrogram(
        signal,
        audio_utils.window_function(mel.length, "hann"),
        mel.length,
        mel.hop,
        fft_length=mel.n_fft,
        power=2.0,
        center=False,
        mel_filters=filters,
        mel_floor=1e-10,
        log_mel="log",
    )
    assert abs(expected.T - mel.features(signal)).max() < 1e-5


def test_the_mel_scale_has_its_inverse_and_its_known_points():
    assert to_mels([0, 500, 1000, 6400]).tolist() == pytest.approx([0, 7.5, 15, 42])
    frequencies = np.linspace(0, 8000, 99)
    assert np.allclose(to_hertz(to_mels(frequencies)), frequencies, atol=1e-9)


def test_features_do_not_depend_on_how_a_recording_is_cut():
    signal = RANDOM.standard_normal(700_000)
    mel = LogMel(8000)
    whole = np.concatenate(list(mel.blocks([signal])))
    pieces = np.split(signal, [1, 1000, 400_000, 400_001])
    assert (np.concatenate(list(mel.blocks(pieces))) == whole).all()
    assert (mel.features(signal) == whole).all()
    assert len(whole) == 1 + (len(signal) - 200) // 80


@pytest.mark.parametrize("name", ["uint8", "int16", "int24", "int32", "float64"])
def test_features_of_a_file_are_those_of_its_samples_between_minus_one_and_one(name, tmp_path):
    values = SAMPLES[name]
    (tmp_path / "a.wav").write_bytes(wav(values, 16000))
    full = {"uint8": 128, "int16": 1 << 15, "int24": 1 << 23, "int32": 1 << 31}.get(name, 1)
    signal = (values.astype(np.float64) - (128 if name == "uint8" else 0)) / full
    features = LogMel(16000).features(signal.mean(axis=1))
    profile = zm.measure(tmp_path, features="logmel")
    names = [f"mel {i} ({f:.0f} Hz)" for i, f in enumerate(center_frequencies(16000))]
    assert zm.measure(features, "n d -> d", feature_names=names) == profile
    assert profile.provenance.items == 1
    notes = {"16000 Hz": 1} | ({"channels averaged": 1} if values.shape[1] > 1 else {})
    assert profile.provenance.notes == notes


def test_features_of_different_sample_rates_are_never_mixed(tmp_path):
    for rate in (8000, 16000):
        (tmp_path / f"{rate}.wav").write_bytes(wav(SAMPLES["int16"], rate))
    with pytest.raises(zm.SourceError, match="logmel-8000-Hz float32"):
        zm.measure(tmp_path, features="logmel")
    with pytest.warns(zm.SkippedWarning):
        profile = zm.measure(tmp_path, features="logmel", group="logmel-8000-Hz")
    assert profile.feature_names[-1] == f"mel 79 ({center_frequencies(8000)[-1]:.0f} Hz)"


def test_what_is_too_short_or_too_slow_for_features_is_skipped(tmp_path):
    (tmp_path / "short.wav").write_bytes(wav(SAMPLES["int16"][:199]))
    (tmp_path / "slow.wav").write_bytes(wav(SAMPLES["int16"], 2000))
    (tmp_path / "fast.wav").write_bytes(wav(SAMPLES["int16"][:, :1], 2_000_000_000))
    (tmp_path / "whole.wav").write_bytes(WHOLE)
    with pytest.warns(zm.SkippedWarning):
        profile = zm.measure(tmp_path, features="logmel")
    assert dict(profile.provenance.skipped) == {
        "short.wav": "is shorter than one window of 25 ms",
        "fast.wav": "2000000000 Hz is no sample rate for 80 mel bins",
        "slow.wav": "2000 Hz is no sample rate for 80 mel bins",
    }
    assert profile.count[0] == 1 + (3000 - 200) // 80


def test_silence_is_the_floor_and_nan_is_counted(tmp_path):
    values = np.zeros((400, 1), np.float32)
    (tmp_path / "a.wav").write_bytes(wav(values))
    assert (zm.measure(tmp_path, features="logmel").mean == np.float32(np.log(1e-10))).all()
    values[300] = np.nan
    (tmp_path / "a.wav").write_bytes(wav(values))
    assert (zm.measure(tmp_path, features="logmel").nan_count == 1).all()


@shared
def test_features_of_speech_are_the_same_in_threads_and_processes():
    alone = zm.measure(SPEECH, features="logmel", workers=1)
    with ProcessPoolExecutor(2, mp_context=get_context("forkserver")) as pool:
        assert alone == zm.measure(SPEECH, features="logmel", executor=pool)
    assert alone.provenance.items == 300


# ---------------------------------------------------------------- memory

_CHILD = """
import sys, zeromean as zm
zm.measure(sys.argv[1], "n c -> c", features=sys.argv[2], limit=1)
def peak():
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
before = peak()
profile = zm.measure(sys.argv[1].replace("small", "large"), features=sys.argv[2])
print(peak() - before, profile.count[0], profile.max[0])
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_recording_of_a_gigabyte_takes_little_memory(tmp_path):
    for name, n_bytes in (("small", 1 << 20), ("large", 1 << 30)):
        path = tmp_path / f"{name}.wav"
        head = bytearray(wav(np.zeros((0, 1), np.int16), 48000))
        head[40:44] = struct.pack("<I", n_bytes)
        with path.open("wb") as file:
            file.write(head)
            file.truncate(44 + n_bytes)  # sparse: zeros that take no disk
            file.seek(-2, os.SEEK_END)
            file.write(struct.pack("<h", 1234))
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "small.wav"), "samples"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, count, top = done.stdout.split()
    assert (int(count), int(top)) == (1 << 29, 1234)
    assert int(grown) < 150_000  # kB
