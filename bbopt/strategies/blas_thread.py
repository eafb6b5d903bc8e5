"""One BLAS thread while a model is fitted and searched, in whatever thread of Python that happens.

The matrices of an ask are small: a second thread of OpenBLAS brings nothing there, and on a machine that has other things
to do it waits for its turn at every product. The number of threads belongs to the process in some builds of BLAS and to
the calling thread in others. So each ask sets it where it runs and puts back, when it ends, what there was before any of the
asks that overlap with it: in the first kind another ask may then go on with more threads, and nothing is changed for good.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local
from typing import Any

VARIABLE = "KMP_DUPLICATE_LIB_OK"
_lock = Lock()
_here = local()  # .inside: whether this thread is in such a context already
_asking = 0
_before: tuple[int, ...] = ()
_controllers: list[Any] = []


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """A context in which NumPy and SciPy compute on one thread; afterwards there are as many as before.

    >>> from threadpoolctl import threadpool_info
    >>> with one_blas_thread():
    ...     {each["num_threads"] for each in threadpool_info() if "scipy_openblas" in each["filepath"]} <= {1}
    True
    """
    global _asking, _before
    if getattr(_here, "inside", False):
        yield
        return
    with _lock:
        libraries = _libraries()
        now = tuple(each.num_threads for each in libraries)
        if _asking == 0:
            _before = now
        mine = tuple(map(max, now, _before))  # where the number belongs to the process, `now` may be another ask's 1
        _asking += 1
        for each in libraries:
            each.set_num_threads(1)
    _here.inside = True
    try:
        yield
    finally:
        _here.inside = False
        with _lock:
            _asking -= 1
            for each, count in zip(libraries, mine, strict=True):
                each.set_num_threads(count)


def _libraries() -> list[Any]:
    """Controllers of the BLAS libraries that are loaded; finding them takes milliseconds, so it is done once."""
    if not _controllers:
        import scipy.linalg  # noqa: F401  (it brings a library of its own)

        known = os.environ.get(VARIABLE)
        from threadpoolctl import ThreadpoolController

        if known is None:  # the import sets it, for a library that is not ours
            os.environ.pop(VARIABLE, None)
        _controllers.extend(ThreadpoolController().select(user_api="blas").lib_controllers)
    return _controllers
