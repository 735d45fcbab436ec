"""Adds up the profiles of all processes of `torch.distributed`; every process gets the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from zeromean.documents import canonical, from_text
from zeromean.errors import MergeError, SourceError
from zeromean.profile import Profile
from zeromean.profile_file import from_document, to_document

_PROFILE, _FAILURE, _NOTHING = b"P", b"F", b"N"


def active() -> bool:
    """Whether there are several processes that know each other."""
    return dist.is_available() and dist.is_initialized()


def summed(outcome: Profile | Exception | None, group: Any = None) -> Profile | None:
    """The sum of what all processes measured.

    Sums of integers: in any order, and however the data was shared out, the same bits as in one
    process. What travels is the exact state as canonical JSON and safetensors; never pickle.

    Parameters
    ----------
    outcome : Profile, Exception or None
        Of this process: None if it had no data, an exception if it failed; then all fail, for
        nobody shall wait for the others forever.
    group : torch.distributed.ProcessGroup, optional

    Returns
    -------
    Profile or None
        None if no process had data.

    Raises
    ------
    SourceError
        When another process failed, naming it.
    MergeError
        When two processes measured different things, naming one.
    """
    messages = _gathered(_packed(outcome), group)
    if isinstance(outcome, Exception):
        raise outcome
    total: Profile | None = None
    for rank, message in enumerate(messages):
        kind, body = message[:1], message[1:]
        if kind == _FAILURE:
            raise SourceError(f"process {rank} could not measure its part: {body.decode()}")
        if kind == _PROFILE:
            try:
                total = _unpacked(body) if total is None else total + _unpacked(body)
            except MergeError as error:
                raise MergeError(f"process {rank}: {error}") from None
    return total


def _packed(outcome: Profile | Exception | None) -> bytes:
    if outcome is None:
        return _NOTHING
    if isinstance(outcome, Exception):
        return _FAILURE + f"{type(outcome).__name__}: {outcome}".encode()
    from safetensors.numpy import save

    document, arrays = to_document(outcome, tensors=True)
    held = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return _PROFILE + canonical(document).encode() + b"\n" + save(held)


def _unpacked(body: bytes) -> Profile:
    from safetensors.numpy import load

    text, _, arrays = body.partition(b"\n")  # canonical JSON is one line
    return from_document(from_text(text), load(arrays))


def _gathered(message: bytes, group: Any) -> list[bytes]:
    """What every process of the group sent, in the order of their ranks."""
    device = _device(group)
    world = dist.get_world_size(group)
    length = torch.tensor([len(message)], dtype=torch.int64, device=device)
    lengths = [torch.zeros_like(length) for _ in range(world)]
    dist.all_gather(lengths, length, group=group)
    longest = max(int(each) for each in lengths)
    own = torch.zeros(longest, dtype=torch.uint8)
    own[: len(message)] = torch.frombuffer(bytearray(message), dtype=torch.uint8)
    held = [torch.zeros(longest, dtype=torch.uint8, device=device) for _ in range(world)]
    dist.all_gather(held, own.to(device), group=group)
    pairs = zip(held, lengths, strict=True)
    return [each[: int(size)].cpu().numpy().tobytes() for each, size in pairs]


def _device(group: Any) -> torch.device:
    """Where the group's backend wants its tensors."""
    backend = str(dist.get_backend(group))
    if "gloo" in backend or "mpi" in backend:
        return torch.device("cpu")
    kind = torch.accelerator.current_accelerator() if hasattr(torch, "accelerator") else None
    return torch.device("cuda" if kind is None else kind.type)
