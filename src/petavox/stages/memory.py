"""Memory that is free inside the process, given back to the system.

What it is: one call for places where large arrays have just gone. glibc raises the size from which
it maps arrays by themselves when such an array is freed; from then on they lie in the heap, where a
cached section above a hole keeps the hole. Left alone, a run of many sections grows by megabytes a
section. What it is not: a bound; without glibc it does nothing.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any


def give_back() -> bool:
    """Return the heap's free pages to the system; False where that cannot be done."""
    trim = _trim()
    return trim is not None and bool(trim(0) >= 0)


@functools.cache
def _trim() -> Any:
    """glibc's malloc_trim, or None."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # macOS, musl, Windows
        return None
