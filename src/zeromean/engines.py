"""Executors by name: threads, processes, Dask, MPI."""
