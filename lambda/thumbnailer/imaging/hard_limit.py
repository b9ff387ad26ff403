"""The limit under all estimates: what the process may allocate, enforced by the kernel.

An estimate can be wrong for a kind of file that nobody has measured. Lambda kills a function that
exceeds its memory and tries the upload again, which fails again. Under this limit an allocation
fails instead: the upload ends with ImageTooLarge, and the next one finds a working function.
"""

import errno
from typing import Any, Final

from thumbnailer.imaging.limits import BASE_MB

OUT_OF_MEMORY: Final = "Memory ran out while the image was decoded."
"""Message of ImageTooLarge where the estimate was too low."""

STACK_BYTES: Final = 1024**2
"""Stack of each thread that is started later, by Python or a decoder. The default is 8 MB, and all
of it counts as allocated."""

STATM: Final = "/proc/self/statm"
DATA_FIELD: Final = 5
"""Pages of data and stack (https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html)."""

ATTRIBUTES_BYTES: Final = 64
"""More than the size of pthread_attr_t (56 on x86_64, 64 on arm64)."""

_errno_location: Any = None
"""The C library's function that returns where errno is, once there is a limit."""


def impose(memory_mb: int) -> None:
    """Let the process allocate what estimates may allow: `memory_mb` less the function itself.

    Call it at the end of init: what is allocated by then comes on top. Linux only.
    """
    import ctypes  # noqa: PLC0415 - only the function has a limit
    import resource  # noqa: PLC0415

    global _errno_location  # noqa: PLW0603 - the limit is the process's too
    libc = ctypes.CDLL(None)
    _errno_location = libc["__errno_location"]
    _errno_location.restype = ctypes.POINTER(ctypes.c_int)
    attributes = ctypes.create_string_buffer(ATTRIBUTES_BYTES)
    libc.pthread_getattr_default_np(attributes)
    libc.pthread_attr_setstacksize(attributes, ctypes.c_size_t(STACK_BYTES))
    libc.pthread_setattr_default_np(attributes)
    with open(STATM) as file:  # noqa: PTH123 - pathlib takes 3 ms of the init
        allocated = int(file.read().split()[DATA_FIELD]) * resource.getpagesize()
    allowed = allocated + (memory_mb - BASE_MB) * 1024**2
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))


def forget_failures() -> None:
    """Begin to watch the allocations of this thread, if there is a limit."""
    if _errno_location is not None:
        _errno_location()[0] = 0


def allocation_failed() -> bool:
    """Whether an allocation of this thread has failed under the limit since `forget_failures`.

    Most decoders report that like a damaged file. But the C library sets errno, and successful
    calls leave it as it is.
    """
    return _errno_location is not None and bool(_errno_location()[0] == errno.ENOMEM)
