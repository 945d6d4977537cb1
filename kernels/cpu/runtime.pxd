"""For the other families, once at import:

    from kernels.cpu.runtime cimport fetch_runtime, fnn_runtime
"""

from cpython.pycapsule cimport PyCapsule_GetPointer


cdef extern from "runtime.h":
    const char *FNN_RUNTIME_CAPSULE
    enum:
        FNN_BASE
        FNN_AVX2
        FNN_AVX512
        FNN_AMX
        FNN_ISAS
    ctypedef void (*fnn_task)(void *context, long task) noexcept nogil
    ctypedef void (*fnn_member)(void *context, int member, int size, void *team) noexcept nogil
    ctypedef struct fnn_runtime:
        int isa
        int (*threads)() noexcept nogil
        void (*run)(fnn_task fn, void *context, long tasks, int threads) noexcept nogil
        void (*team)(fnn_member fn, void *context, int threads) noexcept nogil
        void (*barrier)(void *team) noexcept nogil
        void *(*borrow)(size_t size) noexcept nogil
        void (*give_back)(void *memory) noexcept nogil


cdef inline const fnn_runtime *fetch_runtime() except NULL:
    """The one table. Read `isa` at each call: tests change it."""
    from fastnn.kernels.cpu import _runtime

    return <const fnn_runtime *> PyCapsule_GetPointer(_runtime.table, FNN_RUNTIME_CAPSULE)
