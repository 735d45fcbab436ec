"""Measures many files: containers, engines, ledgers, samples, listings, peak memory.

    python bench/bench_scale.py                         # everything, to the terminal
    python bench/bench_scale.py -o docs/benchmarks.md   # and its section
    python bench/bench_scale.py --only a,c              # some parts
    python bench/bench_scale.py --tiny                  # a few seconds, for a test

Needs ``pip install "zeromean[bench]"`` and a quiet machine.
"""

from __future__ import annotations

from script import Script

_PARTS = {
    "a": ("containers", "run_containers"),
    "b": ("workers", "run_workers"),
    "c": ("ledgers", "run_ledgers"),
    "d": ("samples", "run_samples"),
    "e": ("listings", "run_listings"),
    "f": ("bounded", "run_bounded"),
}

_PREFACE = """## Many files

Made by `python bench/bench_scale.py{options}` in {minutes} on {machine}.
{software}.
{trial}
All contestants of a table ran in interleaved rounds (A B C A B C …), after one round to warm up.
Each figure is the median over the rounds, with the smallest and largest in brackets; ratios are
taken within each round. Every run gave the same bits, or the script would have stopped.
"""

_SCRIPT = Script("bench_scale", _PREFACE, "Many files must reach", _PARTS)
main = _SCRIPT.command((__doc__ or "").splitlines()[0])

if __name__ == "__main__":
    main()
