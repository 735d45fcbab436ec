"""Measures `zeromean.measure` side by side with its peers, and writes its section of the page.

    python bench/bench_measure.py                         # everything, to the terminal
    python bench/bench_measure.py -o docs/benchmarks.md   # and its section
    python bench/bench_measure.py --only a,c              # some parts
    python bench/bench_measure.py --tiny                  # a few seconds, for a test

Needs ``pip install "zeromean[bench]"`` and a quiet machine.
"""

from __future__ import annotations

from script import Script

_PARTS = {
    "a": ("floats", "run_floats"),
    "b": ("pixels", "run_pixels"),
    "c": ("pictures", "run_pictures"),
    "d": ("footprint", "run_footprint"),
}

_PREFACE = """## Measuring

Made by `python bench/bench_measure.py{options}` in {minutes} on {machine}.
{software}.
{trial}
All contestants of a table ran in one process in interleaved rounds (A B C A B C …), after one round
to warm up. Each figure is the median over the rounds, with the smallest and largest in brackets;
ratios are taken within each round. Every answer of every round was compared with the exact mean and
std: the last column says how far off it was at most, in units of the std, and in brackets how far
the worst case of its arithmetic allows; further off would have stopped the run.
"""

_SCRIPT = Script("bench_measure", _PREFACE, "Measuring must reach", _PARTS)
main = _SCRIPT.command((__doc__ or "").splitlines()[0])

if __name__ == "__main__":
    main()
