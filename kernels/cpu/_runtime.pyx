"""The ISA, the threads and the memory of the CPU kernels (isa.c, runtime.c, work_area.c)."""

import os

import numpy as np

cimport numpy as cnp
from libc.stdlib cimport calloc, free
from libc.string cimport strcpy
from cpython.pycapsule cimport PyCapsule_New

from kernels.cpu.runtime cimport FNN_RUNTIME_CAPSULE, fnn_runtime

from fastnn.kernels.cpu.cores import available_cores


cdef extern from "runtime_private.h":
    enum:
        FNN_MAX_THREADS
    const fnn_runtime *fnn_start(int available_cores)
    int fnn_best_isa()
    void fnn_set_isa(int isa)
    int fastnn_get_num_threads()
    void fastnn_set_num_threads(int count)
    void fnn_empty_cache() noexcept nogil
    void *fnn_array_malloc(void *context, size_t size) noexcept nogil
    void *fnn_array_calloc(void *context, size_t count, size_t size) noexcept nogil
    void *fnn_array_realloc(void *context, void *memory, size_t size) noexcept nogil
    void fnn_array_free(void *context, void *memory, size_t size) noexcept nogil

cdef extern from "packed.h":
    ctypedef struct fnn_packed:
        void *memory

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyDataMemAllocator:
        void *ctx
        void *(*malloc)(void *context, size_t size) noexcept nogil
        void *(*calloc)(void *context, size_t count, size_t size) noexcept nogil
        void *(*realloc)(void *context, void *memory, size_t size) noexcept nogil
        void (*free)(void *context, void *memory, size_t size) noexcept nogil
    ctypedef struct PyDataMem_Handler:
        char name[127]
        unsigned char version
        PyDataMemAllocator allocator
    object PyDataMem_SetHandler(object handler)

cnp.import_array()

MAX_THREADS = FNN_MAX_THREADS
ISAS = ("base", "avx2", "avx512", "amx")  # in the order of runtime.h
CORES = available_cores()

cdef const fnn_runtime *runtime = fnn_start(CORES)
table = PyCapsule_New(<void *> runtime, FNN_RUNTIME_CAPSULE, NULL)


def isa():
    """The instruction set that the kernels use: "base", "avx2", "avx512" or "amx".

    "base" is what every machine of the architecture has: SSE2 on x86-64, NEON on arm64. "amx" is
    AVX-512 with the tile unit, which large float32 products go to. The best that the machine offers
    is taken, unless the environment variable FASTNN_ISA names a lower one.
    """
    return ISAS[runtime.isa]


def isas():
    """The instruction sets that this machine offers, lowest first."""
    return ISAS[:fnn_best_isa() + 1]


def _set_isa(name, given="[isa] %r given"):
    """For tests: use another instruction set of `isas()` from the next call on."""
    if name not in isas():
        raise ValueError(f"{given % name}; this machine needs one of {', '.join(isas())}")
    fnn_set_isa(ISAS.index(name))


def get_num_threads():
    """How many threads a call may use, its caller among them."""
    return fastnn_get_num_threads()


def set_num_threads(count):
    """Let each call use up to `count` threads from now on, in the whole process.

    More than there are cores is allowed, and slow. Results do not depend on it.
    """
    _check_threads("[set_num_threads] %r given", count)
    fastnn_set_num_threads(count)


def _check_threads(given, count):
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_THREADS:
        raise ValueError(f"{given % (count,)}; an integer from 1 to {MAX_THREADS} is needed")


def _threads_from_environment():
    """FASTNN_NUM_THREADS is taken at its word; OMP_NUM_THREADS can only lower the default."""
    text = os.environ.get("FASTNN_NUM_THREADS", "").strip()
    if text:
        count = int(text) if text.isdecimal() else text
        _check_threads("[threads] FASTNN_NUM_THREADS=%r given", count)
        return count
    # A list is a number for each level of nesting. What is wrong in it is not ours to refuse.
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(CORES, int(text)) if text.isdecimal() and int(text) > 0 else CORES


fastnn_set_num_threads(_threads_from_environment())
_set_isa(
    os.environ.get("FASTNN_ISA", "").strip().lower() or ISAS[fnn_best_isa()],
    "[isa] FASTNN_ISA=%r given",
)


# ------------------------------------------------------------------ memory of arrays

cdef PyDataMem_Handler handler
strcpy(handler.name, b"fastnn")
handler.version = 1
handler.allocator.malloc = fnn_array_malloc
handler.allocator.calloc = fnn_array_calloc
handler.allocator.realloc = fnn_array_realloc
handler.allocator.free = fnn_array_free
_handler = PyCapsule_New(&handler, "mem_handler", NULL)


# Looked up once: an array takes half a microsecond.
cdef object np_empty = np.empty, np_zeros = np.zeros, np_empty_like = np.empty_like


cdef object in_our_memory(object function, tuple arguments):
    before = PyDataMem_SetHandler(_handler)
    try:
        return function(*arguments)
    finally:
        PyDataMem_SetHandler(before)


def empty(shape, dtype):
    """`numpy.empty`, in memory that earlier arrays of `empty` have left (work_area.c)."""
    return in_our_memory(np_empty, (shape, dtype))


def zeros(shape, dtype):
    """`numpy.zeros`, as `empty`."""
    return in_our_memory(np_zeros, (shape, dtype))


def empty_like(a):
    """A plain `numpy.empty_like` in the memory order of a, as `empty`."""
    return in_our_memory(np_empty_like, (a, None, "K", False))


def empty_cache():
    """Give the memory that is kept for later calls back to the system."""
    fnn_empty_cache()


# ------------------------------------------------------------------ weights packed for many calls

MOST_PACKED = 256  # layers of a model; more are weights that were made for a call


cdef class Packed:
    """What calls keep of weights that do not change (packed.h), and these, which stay in place."""

    cdef fnn_packed *entries
    cdef int ways
    cdef object weights

    def __cinit__(self, int ways, weights):
        self.entries = <fnn_packed *> calloc(ways, sizeof(fnn_packed))
        if self.entries == NULL:
            raise MemoryError("[constant_weights] no memory")
        self.ways, self.weights = ways, weights

    def __dealloc__(self):
        cdef int way
        if self.entries != NULL:
            for way in range(self.ways):
                runtime.give_back(self.entries[way].memory)
        free(self.entries)

    @property
    def address(self):
        """Of `ways` entries."""
        return <size_t> self.entries


def packed_of(dict packs, tuple key, int ways, weights):
    """The `Packed` of these weights, which are known by their key."""
    cdef object found = packs.get(key)
    if found is None:
        if len(packs) >= MOST_PACKED:
            packs.clear()
        found = Packed(ways, weights)
        packs[key] = found
    return found


# ------------------------------------------------------------------ self-tests of the threads

cdef struct Team:
    int size
    int rounds
    int *slots
    int *errors


cdef void count_task(void *context, long task) noexcept nogil:
    (<unsigned char *> context)[task] += 1


cdef void halve_smallest(void *context, long task) noexcept nogil:
    cdef volatile double smallest = 2.2250738585072014e-308
    cdef volatile int idle = 20000  # long enough for a worker to wake and take the next task
    while idle > 0:
        idle -= 1
    (<unsigned char *> context)[task] = smallest * 0.5 == 0


cdef void meet(void *context, int member, int size, void *team) noexcept nogil:
    cdef Team *test = <Team *> context
    cdef int r, other
    cdef volatile int idle
    if member == 0:
        test.size = size
    for r in range(1, test.rounds + 1):
        # Nobody comes at the same time twice.
        idle = (member * 7919 + r * 104729) % 500
        while idle > 0:
            idle -= 1
        test.slots[member] = r
        runtime.barrier(team)
        for other in range(size):
            if test.slots[other] != r:
                test.errors[member] += 1
        runtime.barrier(team)


cdef bytes of_tasks(void (*fn)(void *, long) noexcept nogil, long tasks, int threads):
    cdef char *results = <char *> calloc(tasks + 1, 1)
    if results == NULL:
        raise MemoryError()
    try:
        with nogil:
            runtime.run(fn, results, tasks, threads)
        return results[:tasks]
    finally:
        free(results)


def _selftest_run(long tasks, int threads=0):
    """How often each task was run, a byte a task."""
    return of_tasks(count_task, tasks, threads)


def _selftest_denormals(long tasks, int threads=0):
    """Whether each task ran with denormals flushed, a byte a task."""
    return of_tasks(halve_smallest, tasks, threads)


def _selftest_team(int threads, int rounds):
    """(size of the team, how often a member passed a barrier that another had not reached)."""
    cdef Team test
    cdef int *memory = <int *> calloc(2 * FNN_MAX_THREADS, sizeof(int))
    if memory == NULL:
        raise MemoryError()
    test = Team(size=0, rounds=rounds, slots=memory, errors=memory + FNN_MAX_THREADS)
    try:
        with nogil:
            runtime.team(meet, &test, threads)
        return test.size, sum([test.errors[i] for i in range(FNN_MAX_THREADS)])
    finally:
        free(memory)
