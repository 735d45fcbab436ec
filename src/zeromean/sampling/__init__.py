"""`within`: measures a random sample of files, until mean and std are known well enough."""

from __future__ import annotations

from zeromean.sampling.file_sums import FileSums, KeepSums, unit_sums
from zeromean.sampling.measuring import check_within, measurer, sampled
from zeromean.sampling.recorded import recorder

__all__ = ["FileSums", "KeepSums", "check_within", "measurer", "recorder", "sampled", "unit_sums"]
