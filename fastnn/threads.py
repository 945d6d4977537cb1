"""How many threads the CPU kernels use.

The default is the number of cores that this process may use: its affinity, bounded by the CPU
quota of its control group. ``FASTNN_NUM_THREADS`` sets it; ``OMP_NUM_THREADS`` can lower it. The
number holds for the whole process. Results do not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

__all__ = ["get_num_threads", "register_threadpoolctl", "set_num_threads", "use_num_threads"]


def get_num_threads() -> int:
    """How many threads a kernel may use, its caller among them."""
    from fastnn.kernels.cpu import _runtime

    return _runtime.get_num_threads()


def set_num_threads(count: int) -> None:
    """Let every kernel use up to ``count`` threads from its next call on.

    Parameters
    ----------
    count : int
        From 1 to 1024. More than there are cores is allowed, and slow.

    Raises
    ------
    ValueError
        If ``count`` is not such an integer.
    """
    from fastnn.kernels.cpu import _runtime

    _runtime.set_num_threads(count)


@contextmanager
def use_num_threads(count: int) -> Iterator[None]:
    """Like `set_num_threads`, until the end of the ``with`` block."""
    before = get_num_threads()
    set_num_threads(count)
    try:
        yield
    finally:
        set_num_threads(before)


@cache  # threadpoolctl would list a second registration twice
def register_threadpoolctl() -> None:
    """Make fastnn known to threadpoolctl, which then limits and lists it as ``"fastnn"``.

    Raises
    ------
    ImportError
        If threadpoolctl is not installed.

    Examples
    --------
    >>> fastnn.threads.register_threadpoolctl()  # doctest: +SKIP
    >>> with threadpoolctl.threadpool_limits(1):  # doctest: +SKIP
    ...     model.predict(x)
    """
    try:
        import threadpoolctl
    except ImportError as error:
        raise ImportError(
            "[register_threadpoolctl] threadpoolctl is not installed; "
            "pip install 'threadpoolctl>=3.5' is needed"
        ) from error
    from fastnn.kernels.cpu import _runtime  # noqa: F401  only a loaded library is found

    class FastnnController(threadpoolctl.LibController):  # type: ignore[misc]
        user_api = "fastnn"
        internal_api = "fastnn"
        # Other packages have a `_runtime` too: the symbol tells ours from theirs.
        filename_prefixes = ("_runtime.",)
        check_symbols = ("fastnn_get_num_threads",)

        def get_num_threads(self) -> int:
            return self.dynlib.fastnn_get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.fastnn_set_num_threads(num_threads)

        def get_version(self) -> str:
            from fastnn import __version__

            return __version__

    threadpoolctl.register(FastnnController)
