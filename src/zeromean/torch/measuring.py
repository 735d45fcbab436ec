"""`measure` for tensors, loaders and datasets, on any device and over all processes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zeromean import measurement
from zeromean.accumulation import Plan
from zeromean.errors import PatternError, SourceError, ZeromeanWarning
from zeromean.pattern import Pattern
from zeromean.profile import Profile
from zeromean.torch import all_reducing
from zeromean.torch.batches import Pick, batches_of, plain, warn_of_sampling
from zeromean.torch.device_gathering import dtype_name, measure_on_device
from zeromean.torch.views import view_of


def measure(
    source: Any,
    pattern: str | Pattern,
    *,
    pick: Pick | None = None,
    device: torch.device | str | None = None,
    all_reduce: bool = True,
    group: Any = None,
    range: tuple[float, float] | None = None,
    channels: str = "",
    feature_names: Sequence[str] = (),
    quantiles: bool = False,
    covariance: bool = False,
    **sizes: int,
) -> Profile:
    """Measure tensors once, exactly; over all processes if there are several.

    Parameters
    ----------
    source : Tensor, DataLoader, Dataset, or iterable
        Items are tensors, NumPy arrays or PIL images, or tuples, lists or mappings that hold one.
        They have all axes of the pattern, or lack the first, the samples.
    pattern : str or Pattern
        Which axes keep their own statistics. Torch's images are ``"n c h w -> c"``.
    pick : int, str or callable, optional
        What to take of items that are tuples, lists or mappings: by default the first entry; a
        mapping needs its key, such as ``"image"``.
    device : torch.device or str, optional
        Move the data there first. By default it is measured where it is: on the processor by
        compiled loops, on other devices by PyTorch operations that never round, to the same bits.
    all_reduce : bool
        Where `torch.distributed` is initialized, every process measures its part and gets the
        profile of all parts together. False measures the part alone.
    group : torch.distributed.ProcessGroup, optional
        Of the processes that share the work; all of them by default.
    range : (low, high), optional
        Scale of the raw data. Known for uint8, uint16 and bool.
    channels : str, optional
        Order of the channels, such as "RGB".
    feature_names : sequence of str, optional
        One name for each kept entry.
    quantiles : bool
        For float32 and float64: also count values in buckets, for `Profile.quantile_bounds`.
    covariance : bool
        Also measure how the kept entries vary together, for whitening. On the processor: batches
        are copied there. Exact for small integers only, as with `zeromean.measure`.
    **sizes : int
        Lengths inside groups of the pattern, such as ``g=8`` for ``(g c)``.

    Returns
    -------
    Profile
        The same for every batch size, order, device and number of processes.

    Raises
    ------
    SourceError
        When there is no data, or another process could not measure its part.
    PatternError
        When pattern and data do not fit, the device is not there, or there is no such option.
    MergeError
        When the processes measured different things.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> from zeromean.torch import measure
    >>> images = torch.arange(96, dtype=torch.uint8).reshape(4, 3, 2, 4)
    >>> loader = DataLoader(TensorDataset(images, torch.arange(4)), batch_size=3)
    >>> measure(loader, "n c h w -> c").mean
    array([39.5, 47.5, 55.5])
    >>> measure(loader, "n c h w -> c") == measure(images, "n c h w -> c")
    True
    """
    _check_options(pattern, sizes)
    parsed = Pattern.parse(pattern, **sizes)
    plan = Plan(
        parsed,
        None if range is None else (range[0], range[1]),
        channels,
        quantiles=quantiles,
        covariance=covariance,
        feature_names=tuple(feature_names),
    )
    warn_of_sampling(source)
    if not (all_reduce and all_reducing.active()):
        profile = _measured(source, pick, plan, device)
    else:
        profile = all_reducing.summed(_outcome(source, pick, plan, device), group)
    if profile is None:
        raise SourceError("there is nothing to measure: the source is empty")
    return profile


def _check_options(pattern: str | Pattern, sizes: dict[str, Any]) -> None:
    """Refuse options that there are not, with those that are near."""
    text = str(pattern) if isinstance(pattern, Pattern) else pattern
    names = re.findall(r"\w+", text) if isinstance(text, str) else []
    odd = {name: size for name, size in sizes.items() if name not in names}
    if not odd:
        return
    known = [n for n in measure.__annotations__ if n not in ("sizes", "return")]
    near = [n for name in odd for n in get_close_matches(name, known, 3)]
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(known)}"
    if "by" in odd:
        hint = "; groups are measured from arrays: zeromean.measure(tensor, pattern, by=labels)"
    given = ", ".join(f"{name}={size!r:.40}" for name, size in odd.items())
    raise PatternError(f"{given}: there is no such option, and the pattern does not name it{hint}")


def _check_device(device: torch.device | str | None) -> None:
    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).strip().splitlines()[0]
        raise PatternError(
            f"device {str(device)!r} cannot be used here ({said}); leave device= out to measure "
            "the data where it is, or give device='cpu'"
        ) from None


def _outcome(
    source: Any, pick: Pick | None, plan: Plan, device: torch.device | str | None
) -> Profile | Exception | None:
    try:
        return _measured(source, pick, plan, device)
    except Exception as error:  # whatever it is, the other processes must not wait for this one
        return error


def _measured(
    source: Any, pick: Pick | None, plan: Plan, device: torch.device | str | None
) -> Profile | None:
    """The profile of this process's own part; None if there is none."""
    _check_device(device)
    whole = isinstance(source, Tensor)
    batches = batches_of(source, pick)
    own = (_moved(batch, device) for batch in batches)
    first = next(own, None)
    if first is None:
        return None
    if isinstance(first, Tensor) and needs_device(first) and not plan.covariance:
        named = ((f"item {i}", _like(batch, first)) for i, batch in enumerate(chain([first], own)))
        profile = measure_on_device(named, plan)
        _warn_of_infinities(profile)
        return profile
    arrays = (_array(batch) for batch in chain([first], own))
    return measurement.measure(
        next(arrays) if whole else arrays,  # one array is shared among threads
        plan.pattern,
        range=plan.range,
        channels=plan.channels,
        feature_names=plan.feature_names,
        quantiles=plan.quantiles,
        covariance=plan.covariance,
    )


def _moved(batch: Any, device: torch.device | str | None) -> Any:
    batch = plain(batch)
    return batch.to(device) if device is not None and isinstance(batch, Tensor) else batch


def needs_device(tensor: Tensor) -> bool:
    """Whether it is measured where it is; not if NumPy can look at the same memory."""
    return tensor.device.type != "cpu" or view_of(tensor[:0] if tensor.ndim else tensor) is None


def _like(batch: Any, first: Tensor) -> Tensor:
    return (
        batch if isinstance(batch, Tensor) else torch.as_tensor(np.asarray(batch)).to(first.device)
    )


def _array(batch: Any) -> Any:
    """A tensor as an array on the same memory; anything else as it is."""
    if not isinstance(batch, Tensor):
        return batch
    name, array = dtype_name(batch), view_of(batch.cpu())
    if array is None:
        raise PatternError(f"{name} tensors cannot become arrays here; give x.float()")
    return array


def _warn_of_infinities(profile: Profile) -> None:
    infinite = int(np.sum(profile.inf_count))
    if infinite:
        warnings.warn(
            f"{infinite:,} infinite value(s) were counted and left out of all statistics",
            ZeromeanWarning,
            stacklevel=4,
        )
