"""Memory allocation: keep freed blocks for reuse."""

import ctypes
import logging
import sys

logger = logging.getLogger(__name__)

# Constants of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory, for the whole process.

    glibc returns large blocks to the kernel when they are freed, and the kernel zeroes every page
    when they are allocated again. The activations of networks are such blocks, and zeroing them
    can take longer than the arithmetic. This has no effect except on Linux with glibc.

    Only commands that run networks call this, because a library should not change settings of the
    process.

    Returns
    -------
    bool
        Whether freed memory is kept.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    is_kept = all(mallopt(option, _LARGE) for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
    logger.debug("freed memory is %s", "kept" if is_kept else "returned")
    return is_kept
