"""Memory: freed blocks kept for the next ones."""

import ctypes
import logging
import sys

logger = logging.getLogger(__name__)

# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed, for the whole process; tell whether it does.

    glibc returns large blocks to the kernel at each free, which zeroes every page of them when
    they are asked for again. For networks, whose activations are such blocks, that can take longer
    than the arithmetic. Without effect elsewhere than on Linux with glibc.

    A setting of the process, which is not the library's to make: commands that run networks call
    this.
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
