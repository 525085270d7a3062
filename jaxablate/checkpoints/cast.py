"""Number types on the way from a file to a device: exact casts, and the search for NaN."""

from collections.abc import Callable

import ml_dtypes
import numpy as np

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

# Type -> (unsigned type of the same width, its exponent bits): all of them set is NaN or infinity.
_EXPONENT = {
    np.dtype(np.float32): (np.uint32, 0x7F800000),
    _BFLOAT16: (np.uint16, 0x7F80),
    np.dtype(np.float16): (np.uint16, 0x7C00),
}

# Writes the values of the first array into the second, of equal shape.
Cast = Callable[[np.ndarray, np.ndarray], None]


def cast_for(source: np.dtype, target: np.dtype, scale: np.float32 | None = None) -> Cast:
    """How values of `source` become `target`: rounded to nearest even, too large is infinite.

    With a `scale`, the 8-bit value is multiplied in float32 first; as there are only 256 of them,
    that is a table.
    """
    if scale is not None:
        return _table_cast(source, target, scale)
    if source == target:
        return _copy_bits
    if source == _BFLOAT16 and target == np.float32:
        return _widen_bfloat16
    return _plain_cast


def all_finite(values: np.ndarray) -> bool:
    """Whether there is no NaN and no infinity, asked of the exponent bits."""
    unsigned, exponent = _EXPONENT[values.dtype]
    bits = values.view(unsigned) & unsigned(exponent)
    return bool(bits.max(initial=0) < exponent)


def _plain_cast(block: np.ndarray, target: np.ndarray) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        np.copyto(target, block, casting="unsafe")


def _copy_bits(block: np.ndarray, target: np.ndarray) -> None:
    # As integers: numpy copies strided bfloat16 value by value through a function call.
    unsigned = np.dtype(f"u{target.itemsize}")
    np.copyto(target.view(unsigned), block.view(unsigned))


def _widen_bfloat16(block: np.ndarray, target: np.ndarray) -> None:
    bits = target.view(np.uint32)
    np.copyto(bits, block.view(np.uint16))
    np.left_shift(bits, 16, out=bits)


def _table_cast(source: np.dtype, target: np.dtype, scale: np.float32) -> Cast:
    values = np.arange(256, dtype=np.uint8).view(source).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        table = (values * scale).astype(target)
    unsigned = np.dtype(f"u{target.itemsize}")

    def cast(block: np.ndarray, out: np.ndarray) -> None:
        codes = np.ascontiguousarray(block.view(np.uint8))
        np.take(table.view(unsigned), codes, out=out.view(unsigned), mode="clip")

    return cast
