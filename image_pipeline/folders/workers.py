"""Work in several processes, of which any may die: images and their decoders are not trusted."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.context import BaseContext
from typing import Final

MALLOC: Final = (
    "glibc.malloc.hugetlb=1"
    f":glibc.malloc.mmap_threshold={2**25}"
    f":glibc.malloc.trim_threshold={2**26}"
)
"""Settings of the C library's allocator in workers (GLIBC_TUNABLES): huge pages where the system
offers them, blocks of up to 32 MB from the heap, and up to 64 MB of free heap kept for the next
picture. By default the heap shrinks after each picture, and the kernel clears and maps the same
pages again: 1,300 page faults for a photo, and a tenth of its CPU time (measured, glibc 2.36, on a
virtual machine). Other C libraries ignore it.
https://sourceware.org/glibc/manual/2.36/html_node/Memory-Allocation-Tunables.html"""


def start_server(preloaded: str) -> None:
    """Let the process that forks workers start and import the module `preloaded`, and return.

    So it imports while this process does, on another core. `in_processes` starts it otherwise. On
    Windows nothing happens, because there is no such process.
    """
    _context(preloaded)


def in_processes[J, R](
    work: Callable[[J], R], jobs: Iterable[J], workers: int, died: Callable[[J], R]
) -> Generator[R]:
    """Do `work`, a function of a module, on each job; yield each result when it is known.

    `jobs` is read as they are needed, in this process. If a process dies, what it did is repeated
    alone, and the job that kills its process again has the result `died(job)`. If the caller stops
    early, jobs that have been started are finished, and the others are cancelled.
    """
    waiting = iter(jobs)
    queue = deque(islice(waiting, 1))
    while queue:
        running: dict[Future[R], J] = {}
        with (
            _pool(workers, work.__module__) as pool,
            contextlib.suppress(BrokenProcessPool),
        ):
            while queue or running:
                while queue and len(running) < 2 * workers:
                    running[_submit(pool, work, queue[0])] = queue[0]
                    queue.popleft()
                    queue.extend(islice(waiting, 1))
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    del running[future]
                    yield result
        for future, job in running.items():  # none, unless a process died
            yield _alone(work, job, died) if future.exception() else future.result()


@contextlib.contextmanager
def _pool(workers: int, preloaded: str) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(workers, _context(preloaded), initializer=_begin)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _context(preloaded: str) -> BaseContext:
    """Choose how workers are started. Where they are forked, the module `preloaded` is imported.

    Not by fork, which is unsafe with threads. By spawn, which imports everything for each worker,
    only on Windows, which has nothing else.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver, resource_tracker  # noqa: PLC0415 - not on Windows

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preloaded])
    resource_tracker.ensure_running()  # else it is started below, and unblocks SIGINT
    # A terminal sends Ctrl-C to the server too. It must not end with a traceback while it imports,
    # so it inherits that SIGINT is blocked. To this process the signal is delivered afterwards.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _variable("GLIBC_TUNABLES", MALLOC):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable for processes that start in the block. The user's own stays."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _begin() -> None:
    """Prepare a worker: only its parent stops it, and it never outlives its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes

    def end() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def _submit[J, R](pool: ProcessPoolExecutor, work: Callable[[J], R], job: J) -> Future[R]:
    """Give a job to a worker, which may have to start first; Ctrl-C takes effect after that.

    A worker whose parent ends while it starts would print a traceback.
    """
    if threading.current_thread() is not threading.main_thread():  # Ctrl-C never interrupts it
        return pool.submit(work, job)
    interrupted = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        return pool.submit(work, job)
    finally:
        signal.signal(signal.SIGINT, before)
        if interrupted.is_set():
            signal.raise_signal(signal.SIGINT)


def _alone[J, R](work: Callable[[J], R], job: J, died: Callable[[J], R]) -> R:
    """Do one job in a process of its own, to find the job that kills it."""
    with _pool(1, work.__module__) as pool:
        try:
            return _submit(pool, work, job).result()
        except BrokenProcessPool:
            return died(job)
