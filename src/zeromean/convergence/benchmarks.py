"""The benchmarks of a study: which model learns what, and how its races are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zeromean.convergence import batch_norm, networks, softmax
from zeromean.convergence.networks import Net
from zeromean.convergence.outcomes import outcomes_of
from zeromean.convergence.prediction import UNLIKE
from zeromean.convergence.races import Course, Entrant, Race, Runs
from zeromean.convergence.results import Benchmark
from zeromean.convergence.schedule import OutOfTimeError, Schedule
from zeromean.convergence.tasks import Task
from zeromean.convergence.variants import CONTROL, Variant
from zeromean.convergence.watching import Limits

Floats = npt.NDArray[np.float32]
# Rates a quarter of an octave apart: by the grid alone full-batch sides differ by 1.19 at most,
# which is less than what is called a difference.
_GD = Course(max_steps=500, every=1, per_octave=2, reach=1, fine=4)
_SCALE = replace(_GD, part=0.5)
_NET = Course(max_steps=300, every=5, per_octave=1, reach=2)
_DEEP = Course(max_steps=600, every=5, per_octave=1, reach=2)
_NORM = Course(max_steps=150, every=5, per_octave=1, reach=2)
_COLUMN_STEPS = 270_000  # full-batch updates × columns, so that color pictures are done in time
_WIDTH = 64
_EASY = 0.05  # of the loss of a guess: below, classes are separated and rates grow without bound
_SGD_GUESS, _ADAM_GUESS = 2.0**-2, 2.0**-8


@dataclass(frozen=True)
class Plan:
    """One benchmark before it is run.

    Attributes
    ----------
    key, name : str
    batch : int
    course : Course
    entrants : sequence of Entrant
        The base first.
    control : str
        Key of the A/A control; empty for none.
    predicted : dict of str to float
    bridged : str
        Key of the entrant that is also run at the rates of the base.
    """

    key: str
    name: str
    batch: int
    course: Course
    entrants: Sequence[Entrant]
    control: str
    predicted: dict[str, float]
    bridged: str = ""


def run(plan: Plan, seeds: int, schedule: Schedule) -> tuple[Benchmark | None, list[str]]:
    """Run one benchmark; on time-out keep the variants that are done.

    Parameters
    ----------
    plan : Plan
    seeds : int
    schedule : Schedule

    Returns
    -------
    (Benchmark or None, list of str)
        None when not even base, variant and control were done; and what was left out.
    """
    race = Race(plan.course, seeds, schedule)
    held: list[tuple[Entrant, Runs]] = []
    try:
        for entrant in plan.entrants:
            schedule.say(f"{plan.name}: {entrant.label}")
            near = _near(held, race, entrant) if entrant.near else ()
            held.append((entrant, race.enter(entrant, near)))
            if entrant.key == plan.bridged:
                race.bridge(entrant, held[-1][1], _near(held, race, replace(entrant, near=1.0)))
    except OutOfTimeError:
        if len(held) < 2 + bool(plan.control):
            return None, [plan.name]
    left = [f"{plan.name}: {e.label}" for e in plan.entrants[len(held) :]]
    assert race.target is not None
    outcomes = outcomes_of(held, race.target, plan.control, plan.predicted)
    course = plan.course
    made = Benchmark(
        plan.key, plan.name, plan.batch, race.target, course.max_steps, course.every, outcomes
    )
    return made, left


def _near(held: list[tuple[Entrant, Runs]], race: Race, entrant: Entrant) -> list[float]:
    """Where the base found its rates, in the units of another scale."""
    assert race.target is not None
    runs = held[0][1]
    return [entrant.near * runs.rates[i] for i in runs.chosen(race.target)]


# ---------------------------------------------------------------- plans


def plans_of(
    task: Task, variants: Sequence[Variant], lambdas: dict[str, float], full: bool
) -> Iterator[Plan]:
    """The benchmarks in the order of their weight.

    Parameters
    ----------
    task : Task
    variants : sequence of Variant
    lambdas : dict of str to float
        λ₁ of each variant.
    full : bool

    Yields
    ------
    Plan
    """
    sides = _ordered([v for v in variants if v.trained])
    yield _softmax_plan(task, sides, lambdas)
    if sides[1].key == "zero_mean_column":
        yield _scale_plan(task, {v.key: v for v in sides}, lambdas)
    nets = [v for v in sides if v.key != "original_255"]
    yield _net_plan("sigmoid_sgd", "MLP, sigmoid, SGD", Net("sigmoid", (_WIDTH,)), task, nets)
    yield _net_plan("relu_sgd", "MLP, ReLU, SGD", Net("relu", (_WIDTH,)), task, nets)
    if full:
        yield _net_plan("tanh_sgd", "MLP, tanh, SGD", Net("tanh", (_WIDTH,)), task, nets)
        yield _net_plan("relu_adam", "MLP, ReLU, Adam", Net("relu", (_WIDTH,), True), task, nets)
        yield _batch_norm_plan(task, nets)
        zero = sides[1]
        for depth in (1, 2, 3):
            yield _hidden_plan(depth, task, zero)


def _ordered(variants: Sequence[Variant]) -> list[Variant]:
    """The base, the first variant, and the control, without which nothing can be said."""
    control = [v for v in variants if v.key == CONTROL]
    others = [v for v in variants if v.key != CONTROL]
    return [*others[:2], *control, *others[2:]]


def _softmax_plan(task: Task, sides: Sequence[Variant], lambdas: dict[str, float]) -> Plan:
    entrants = [_gd_entrant(v, task, lambdas, sides[0]) for v in sides]
    base = lambdas["original"]
    matched = [v for v in sides if v.scale.max() <= UNLIKE * v.scale.min() and v.key not in _OTHER]
    predicted = {v.key: base / lambdas[v.key] for v in matched}
    name = "softmax regression, full batch"
    return Plan(
        "softmax_gd", name, 0, _floored(_GD, task), entrants, CONTROL, predicted, sides[1].key
    )


def _scale_plan(task: Task, sides: dict[str, Variant], lambdas: dict[str, float]) -> Plan:
    """What each half of standardizing is worth by itself, to a loss that scaling alone reaches."""
    held = [sides[key] for key in ("scaled", "zero_mean_column", "standardized")]
    entrants = [_gd_entrant(v, task, lambdas, held[0]) for v in held]
    name = "softmax regression, scale against centering"
    return Plan("scale_gd", name, 0, _floored(_SCALE, task), entrants, "", {})


def _gd_entrant(variant: Variant, task: Task, lambdas: dict[str, float], base: Variant) -> Entrant:
    guess = 2 * len(task.classes) / lambdas[variant.key]
    run_seed = _gd(variant.of(task.x), task)
    return Entrant(variant.key, variant.label, run_seed, guess, _near_base(variant, base))


def _floored(course: Course, task: Task) -> Course:
    """The course for a task: not down to a loss near 0, and in bounded time for many columns."""
    steps = min(course.max_steps, max(200, _COLUMN_STEPS // task.x.shape[1] // 50 * 50))
    if course.every > 1:
        steps = course.max_steps
    return replace(course, floor=_EASY * task.chance, max_steps=steps)


_OTHER = ("original_255", CONTROL, "original")


def _gd(x: Floats, task: Task) -> Callable[[int, list[float], Limits], Floats]:
    n = len(x)
    size = n // 2 if n >= 600 else 4 * n // 5

    def run_seed(seed: int, rates: list[float], limits: Limits) -> Floats:
        rows = np.sort(np.random.default_rng([seed, 3]).permutation(n)[:size])
        return softmax.descend(x[rows], task.y[rows], len(task.classes), rates, limits)

    return run_seed


def _near_base(variant: Variant, base: Variant) -> float:
    """Of what only differs in sign or scale the best rates are known; 0 for all others."""
    if variant.key not in (CONTROL, "original_255"):
        return 0.0
    return float((variant.scale[0] / base.scale[0]) ** 2)


def _net(net: Net, x: Floats, task: Task) -> Callable[[int, list[float], Limits], Floats]:
    def run_seed(seed: int, rates: list[float], limits: Limits) -> Floats:
        return networks.train(net, x, task.y, len(task.classes), rates, seed, limits)

    return run_seed


def _net_plan(key: str, name: str, net: Net, task: Task, sides: Sequence[Variant]) -> Plan:
    guess = _ADAM_GUESS if net.adam else _SGD_GUESS
    entrants = [
        Entrant(v.key, v.label, _net(net, v.of(task.x), task), guess, _near_base(v, sides[0]))
        for v in sides
    ]
    course = _floored(_NET, task)
    return Plan(key, name, net.batch, course, entrants, CONTROL, {}, sides[1].key)


def _batch_norm_plan(task: Task, sides: Sequence[Variant]) -> Plan:
    """Only the base and zero-mean: nothing else can differ either."""

    def side(v: Variant) -> Entrant:
        x = (task.x - v.shift) / v.scale

        def run_seed(seed: int, rates: list[float], limits: Limits) -> npt.NDArray[np.floating]:
            return batch_norm.train(x, task.y, len(task.classes), rates, seed, limits)

        return Entrant(v.key, v.label, run_seed, _SGD_GUESS)

    entrants = [side(v) for v in sides[:2]]
    name = "MLP, batch norm, ReLU, SGD"
    return Plan("batch_norm_sgd", name, 64, _NORM, entrants, "", {})


def _hidden_plan(depth: int, task: Task, zero: Variant) -> Plan:
    """Centering inside: σ against σ − ½, which differ in nothing else. Inputs are zero-mean."""
    x = zero.of(task.x)
    entrants = [
        Entrant(key, label, _net(Net(key, (_WIDTH,) * depth), x, task), _SGD_GUESS)
        for key, label in (("sigmoid", "σ"), ("sigmoid_minus_half", "σ − ½"))
    ]
    name = f"hidden σ against σ − ½, {depth} hidden"
    return Plan(f"hidden_{depth}", name, 64, _DEEP, entrants, "", {})
