"""Normalizes CSV and Parquet files into CSV and Parquet files, in bounded memory; and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zeromean.documents import write_atomically
from zeromean.errors import PatternError, SourceError, ZeromeanError
from zeromean.sources.delimited import open_csv, reading_csv, separator_of
from zeromean.sources.tables import empty_batch, kind_of, opened_parquet, reading
from zeromean.statistics.formats import split_dtype
from zeromean.tabular import apply_frame, invert_frame, output_names

if TYPE_CHECKING:
    from zeromean.normalizer import Normalizer

_ROWS = 1 << 16  # of a Parquet file at a time


def apply_table(
    norm: Normalizer,
    source: str | Path,
    target: str | Path,
    *,
    invert: bool = False,
    dtype: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    saw: Callable[[Any], None] | None = None,
) -> int:
    """Normalize the measured columns of a table file into another; the others pass through.

    Parameters
    ----------
    norm : Normalizer
        Its feature names say which columns.
    source : path
        A `.csv`, `.tsv` (also `.gz`) or `.parquet` file. Of a CSV file, the measured columns are
        read as float64, and the others as the text that they are.
    target : path
        The same kinds, in any combination. It appears at once, or not at all.
    invert : bool
        Undo it: the measured columns get their raw dtypes back.
    dtype : str, optional
        As for `zeromean.tabular.apply_frame` and `zeromean.tabular.invert_frame`.
    progress : callable, optional
        Called with rows done and the total, None where it is not known.
    saw : callable, optional
        Called with each array of numbers that is written.

    Returns
    -------
    int
        How many rows were written.

    Raises
    ------
    SourceError
        For files that cannot be read, and for text in a measured column, with its place.
    PatternError
        When a measured column is missing, or a column cannot be written to CSV.
    """
    source, target = Path(source), Path(target)
    _check_paths(source, target)
    kinds = _kinds(norm, invert)
    change = invert_frame if invert else apply_frame
    rows = 0

    def write(path: Path) -> None:
        nonlocal rows
        with _batches(source, kinds) as (batches, total, schema), _writer(path, target) as put:
            for batch in batches:
                changed = _checked(change, norm, batch, dtype, source)
                put(changed)
                rows += len(batch)
                _show(changed, _columns_in(norm, not invert) or changed.schema.names, saw)
                if progress is not None:
                    progress(rows, total)
            if not rows:
                put(_checked(change, norm, schema, dtype, source))

    write_atomically(target, write)
    return rows


def _check_paths(source: Path, target: Path) -> None:
    if not source.exists():
        raise SourceError(f"{source}: there is no such file")
    if not kind_of(str(target)):
        raise SourceError(f"cannot write a table to {target.name!r}; use .csv, .tsv or .parquet")
    if target.exists() and target.samefile(source):
        raise SourceError(f"{target} is the data itself; choose another output file")


def _columns_in(norm: Normalizer, inverse: bool) -> list[str]:
    """The columns that go in, or come out."""
    names = list(norm.feature_names)
    return output_names(norm, names) if inverse else names


def _kinds(norm: Normalizer, inverse: bool) -> dict[str, str]:
    """How the columns that go in are read from CSV: as floats, or truth values as themselves."""
    names = _columns_in(norm, inverse)
    raw = split_dtype(norm.dtype, len(names))
    return {
        name: "bool" if not inverse and raw[j] == "bool" else "float64"
        for j, name in enumerate(names)
    }


def _checked(change: Any, norm: Normalizer, batch: Any, dtype: str | None, source: Path) -> Any:
    try:
        return change(norm, batch, dtype)
    except ZeromeanError as error:
        raise type(error)(f"{source.name}: {error}") from None


def _show(batch: Any, names: list[str], saw: Callable[[Any], None] | None) -> None:
    """Hand over the finite numbers of a batch."""
    if saw is None:
        return
    for name in names:
        values = batch.column(name).drop_null().to_numpy(zero_copy_only=False)
        if values.dtype.kind in "biuf":
            saw(values[np.isfinite(values)])


# ---------------------------------------------------------------- reading


@contextmanager
def _batches(path: Path, kinds: dict[str, str]) -> Iterator[tuple[Iterator[Any], int | None, Any]]:
    """Record batches of all columns, how many rows there are, and an empty batch."""
    if kind_of(str(path)) == "csv":
        yield _csv_batches(path, kinds)
        return
    with opened_parquet(path) as file:
        empty = empty_batch(file.schema_arrow, file.schema_arrow.names)
        yield _parquet_batches(path, file), file.metadata.num_rows, empty


def _parquet_batches(path: Path, file: Any) -> Iterator[Any]:
    with reading(path):
        yield from file.iter_batches(batch_size=_ROWS)


def _csv_batches(path: Path, known: dict[str, str]) -> tuple[Iterator[Any], None, Any]:
    separator, held = separator_of(path)
    if not known:
        raise PatternError(
            f"{path}: the normalizer has no column names; make it from a profile of the table, or "
            "measure with feature_names="
        )
    kinds = {name: known.get(name, "string") for name in held}
    with reading_csv(path, held):
        reader = open_csv(path, separator, kinds, None)

    def batches() -> Iterator[Any]:
        with reading_csv(path, held):
            for batch in reader:
                yield _without_blanks(batch)

    return batches(), None, empty_batch(reader.schema, reader.schema.names)


def _without_blanks(batch: Any) -> Any:
    """Empty text as missing: CSV does not tell them apart."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [
        pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
        if pa.types.is_string(column.type)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


# ---------------------------------------------------------------- writing


@contextmanager
def _writer(path: Path, target: Path) -> Iterator[Callable[[Any], None]]:
    """A function that appends batches to a file, in the format that the target's name asks for."""
    if kind_of(str(target)) == "csv":
        with _csv_writer(path, target) as put:
            yield put
        return
    from pyarrow import parquet

    held: list[Any] = []

    def put_batch(batch: Any) -> None:
        if not held:
            held.append(parquet.ParquetWriter(path, batch.schema))
        held[0].write_batch(batch)

    try:
        yield put_batch
    finally:
        for writer in held:
            writer.close()


@contextmanager
def _csv_writer(path: Path, target: Path) -> Iterator[Callable[[Any], None]]:
    import gzip

    name = target.name.lower()
    separator = "\t" if ".tsv" in name else ","
    first = True
    compressed = name.endswith(".gz")
    with (
        path.open("wb") as plain,
        (
            gzip.GzipFile("", "wb", fileobj=plain, mtime=0) if compressed else nullcontext(plain)
        ) as file,
    ):

        def put(batch: Any) -> None:
            nonlocal first
            if first:
                import pyarrow

                names = _quoted(pyarrow.array(batch.schema.names, pyarrow.string()), separator)
                file.write(separator.join(names.to_pylist()).encode() + b"\n")
                first = False
            file.write(csv_text(batch, separator))

        yield put


def csv_text(batch: Any, separator: str = ",") -> bytes:
    """A record batch as lines of CSV; floats have the fewest digits that give them back.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
    separator : str

    Returns
    -------
    bytes
        In UTF-8.

    Raises
    ------
    PatternError
        For columns of lists, structures and bytes, which CSV cannot hold.
    """
    if not len(batch):
        return b""
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = [_cells(name, batch.column(name), separator) for name in batch.schema.names]
    lines = pc.binary_join_element_wise(*cells, pa.scalar(separator, pa.large_string()))
    if len(cells) == 1:  # a line with nothing on it would be no row
        lines = pc.if_else(pc.equal(lines, ""), '""', lines)
    end, nothing = pa.scalar("\n", pa.large_string()), pa.scalar("", pa.large_string())
    lines = pc.binary_join_element_wise(lines, end, nothing)
    begins = np.frombuffer(lines.buffers()[1], np.int64)[lines.offset :]
    return bytes(memoryview(lines.buffers()[2])[begins[0] : begins[len(lines)]])


def _cells(name: str, column: Any, separator: str) -> Any:
    """A column as text, quoted where it must be; nothing for what is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
    try:
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise pa.ArrowInvalid("bytes")
        text = column.cast(pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise PatternError(
            f"the column {name!r} holds {kind}, which CSV cannot hold; write a .parquet file"
        ) from None
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        text = _quoted(text, separator)
    return pc.fill_null(text, "") if text.null_count else text


def _quoted(text: Any, separator: str) -> Any:
    """Quotes around text that holds separators, quotes or line ends, and around empty text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = text.cast(pa.large_string())
    quote, nothing = pa.scalar('"', pa.large_string()), pa.scalar("", pa.large_string())
    wild = pc.match_substring_regex(text, f'["\\r\\n{separator}]|^$|^\\s|\\s$')
    inner = pc.replace_substring(text, '"', '""')
    return pc.if_else(wild, pc.binary_join_element_wise(quote, inner, quote, nothing), text)
