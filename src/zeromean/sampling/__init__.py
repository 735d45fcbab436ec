"""`within`: measures a random sample of files, until mean and std are known well enough."""

from __future__ import annotations

from zeromean.sampling.file_sums import FileSums, KeepSums, unit_sums
from zeromean.sampling.measuring import check_within, measurer, sampled

__all__ = ["FileSums", "KeepSums", "check_within", "measurer", "sampled", "unit_sums"]
