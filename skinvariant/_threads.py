"""One guard for the whole package: as long as anything needs it, BLAS has one thread.

How many threads share a matrix product decides in which order its sums are taken, and
so its last bits.
"""

import os
import sys
from contextlib import ContextDecorator, contextmanager
from threading import RLock, local

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread", "one_thread"]


def _blas_pools(pools):
    """Return the pools that BLAS uses: those of the process, and those of a thread."""
    blas = [pool for pool in pools if pool.user_api == "blas"]
    # OpenBLAS on top of OpenMP takes as many threads as OpenMP has for the caller
    on_openmp = [
        pool
        for pool in blas
        if pool.internal_api == "openblas"
        and getattr(pool, "threading_layer", None) == "openmp"
    ]
    of_process, of_thread = _openmp_pools(pools) if on_openmp else ([], [])
    for pool in blas:
        # threadpoolctl 3.7 and newer set MKL's threads for the caller alone
        local_mkl = "MKL_Set_Num_Threads_Local" in getattr(pool, "check_symbols", ())
        if pool not in on_openmp:
            (of_thread if local_mkl else of_process).append(pool)
    return of_process, of_thread


def _openmp_pools(pools):
    """Return the pools of OpenMP: those of the process, and those of a thread."""
    openmp = [pool for pool in pools if pool.user_api == "openmp"]
    of_process = [pool for pool in openmp if pool.prefix == "vcomp"]
    return of_process, [pool for pool in openmp if pool not in of_process]


def _set(pool, n_threads):
    """Set the number of threads of a pool, whichever thread set it last."""
    # threadpoolctl 3.7 and newer ignore all threads but the first that set OpenBLAS;
    # here the last one to leave restores, and it is seldom the one that came first
    release = getattr(pool, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)
    pool.set_num_threads(n_threads)
    if release is not None:
        release(force=True)


def _limit(pools, before, *, nested):
    """Set pools to one thread, and note in `before` how many they had."""
    for pool in pools:
        n_threads = pool.num_threads
        if n_threads is None or n_threads == 1:
            continue
        # inside the guard, what else set a limit will lift it itself
        if not (nested and pool.filepath in before):
            before[pool.filepath] = pool, n_threads
        _set(pool, 1)


def _restore(before):
    """Undo `_limit`."""
    for pool, n_threads in before.values():
        # another number was set by other code meanwhile, which is to stay
        if pool.num_threads == 1:
            _set(pool, n_threads)
    before.clear()


class _State(local):
    """What each thread knows about itself."""

    def __init__(self):
        self.depth = 0
        self.before = {}


class _Guard(ContextDecorator):
    """Hold thread pools to one thread while any thread is inside.

    Limits that several threads set and lift on their own undo each other: the second
    finds the limit of the first and restores that.  Hence the first one in sets it,
    and the last one out restores it.  What is set for the calling thread alone (as
    under OpenMP) each thread sets for itself: so threads that the package starts
    enter, too.

    Parameters
    ----------
    choose : callable
        Takes threadpoolctl's controllers; returns those that act on the whole process
        and those that act on the calling thread.
    """

    def __init__(self, choose):
        self._choose = choose
        self._lock = RLock()
        self._n_inside = 0
        self._before = {}
        self._mine = _State()
        self._n_modules = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=lambda: self._lock.acquire(),
                after_in_parent=lambda: self._lock.release(),
                after_in_child=self._after_fork,
            )

    def __enter__(self):
        mine = self._mine
        with self._lock:
            # Finding the pools takes milliseconds, and a library comes with a module
            if self._n_modules != len(sys.modules):
                self._n_modules = len(sys.modules)
                pools = ThreadpoolController().lib_controllers
                self._of_process, self._of_thread = self._choose(pools)
            nested = mine.depth > 0
            _limit(self._of_process, self._before, nested=nested)
            _limit(self._of_thread, mine.before, nested=nested)
            self._n_inside += not nested
            mine.depth += 1
        return self

    def __exit__(self, *exception):
        mine = self._mine
        with self._lock:
            mine.depth -= 1
            if mine.depth > 0:
                return
            _restore(mine.before)
            self._n_inside -= 1
            if self._n_inside == 0:
                _restore(self._before)

    def _after_fork(self):
        """Forget the threads that a forked process does not have."""
        self._lock = RLock()
        self._n_inside = int(self._mine.depth > 0)
        if self._n_inside == 0:
            _restore(self._before)


#: Context manager and decorator: BLAS has one thread.  May be nested and shared by
#: threads, and takes microseconds.
one_blas_thread = _Guard(_blas_pools)
_one_openmp_thread = _Guard(_openmp_pools)


@contextmanager
def one_thread():
    """Hold BLAS and OpenMP to one thread, for models that are not this package's.

    Yields
    ------
    None
        Nothing.

    Examples
    --------
    >>> from skinvariant._threads import one_thread
    >>> with one_thread():
    ...     pass
    """
    with one_blas_thread, _one_openmp_thread:
        yield
