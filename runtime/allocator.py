"""Memory that is freed stays with the process, so that the next step does not ask for it again.

glibc returns large blocks to the system at once: every step of a CPU run then faults in and clears
the pages of its gradients and activations anew, a tenth of its time. Trimming and separate mappings
are switched off as mallopt(3) describes; what a process holds afterwards is its peak. Elsewhere
(musl, macOS) nothing changes.
"""

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h of glibc
LARGEST = 2**31 - 1  # bytes; mallopt takes an int
GROWTH = 64 << 20  # bytes asked of the system beyond what is needed


def keep_freed_memory() -> bool:
    """Whether the allocator of this process could be told."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {
        M_MMAP_THRESHOLD: 1 << 30,  # glibc's own upper limit
        M_TRIM_THRESHOLD: LARGEST,
        M_TOP_PAD: GROWTH,
    }
    return all(mallopt(name, value) == 1 for name, value in settings.items())
