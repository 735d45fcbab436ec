"""How kernels are compiled: without the GIL, cached on disk, with IEEE division."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit, types
from numba.extending import intrinsic

from zeromean.errors import ZeromeanWarning

_Function = TypeVar("_Function", bound=Callable[..., Any])
_warned = False


def jit(function: _Function) -> _Function:
    """Compile lazily for no-GIL use; without a writable cache, compile in every process."""
    global _warned
    try:
        compiled: Any = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        if not _warned:
            _warned = True
            warnings.warn(
                "no writable folder for compiled kernels: every process compiles them again "
                "(a few seconds); set NUMBA_CACHE_DIR to a writable folder",
                ZeromeanWarning,
                stacklevel=2,
            )
        compiled = njit(nogil=True, error_model="numpy")(function)
    return cast(_Function, compiled)


def inner(function: _Function) -> _Function:
    """Compile a piece of a kernel; it is cached as a part of the kernels that call it."""
    return cast(_Function, njit(nogil=True, error_model="numpy")(function))


@intrinsic
def fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c rounded once (IEEE 754 fusedMultiplyAdd), on every processor."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


def _chosen(condition: str) -> Any:
    """A branchless choice between two floats; the second one if either is NaN.

    Written as a ternary it becomes a branch around a store, and the loop crawls.
    """

    def choose(typing_context: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            first, second = arguments
            return builder.select(builder.fcmp_ordered(condition, first, second), first, second)

        return a(a, a), generate

    return intrinsic(choose)


larger = _chosen(">")
smaller = _chosen("<")


@intrinsic
def bits_of(typing_context: Any, a: Any) -> Any:
    """The bits of a float32 as a uint32, without a second load."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), generate


@intrinsic
def float_of(typing_context: Any, a: Any) -> Any:
    """The float64 that has these 64 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float64))

    return types.float64(types.uint64), generate


@intrinsic
def prefetch(typing_context: Any, row: Any, j: Any) -> Any:
    """Ask for the cache line of row[j], a contiguous one-dimensional array; never faults."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from llvmlite import ir

        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(array.data, [arguments[1]])
        pointer = builder.bitcast(address, ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, flag, flag, flag])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        # for reading, to be kept in all cache levels, data
        builder.call(function, [pointer, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(row, types.intp), generate


@intrinsic
def word_at(typing_context: Any, x: Any, i: Any) -> Any:
    """Bytes i to i + 7 of a contiguous byte array as one little-endian uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(array.data, [arguments[1]])
        word = context.get_value_type(types.uint64)
        return builder.load(builder.bitcast(address, word.as_pointer()), align=1)

    return types.uint64(x, types.intp), generate
