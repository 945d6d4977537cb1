/* The part of the CPU runtime that every kernel family sees: which ISA was chosen, and the threads.
 *
 * `_runtime` owns the one pool and hands this table to the other extensions in a PyCapsule named
 * FNN_RUNTIME_CAPSULE. Kernels call through the table, so there is one pool however many extensions.
 *
 *   run      for work that is cut into independent tasks: `fn(context, task)` for 0 <= task < tasks,
 *            on at most `threads` threads (0: as many as the user allows). No order is promised, so a
 *            task writes only what no other task writes; that is also why results do not depend on
 *            the number of threads.
 *   team     for work that needs all its threads at once, with barriers: `fn(context, member, size)`
 *            runs once on each of `size` threads, 1 <= size <= threads. A kernel must be right for
 *            any size: when the pool is busy with another Python thread's call, size is 1.
 *   barrier  for members of a team: returns when all have come. Spins briefly, then sleeps, so that
 *            a busy neighbour on the same core is not made to wait for our spinning.
 *
 *   borrow   memory for a call, kept for the next one by give_back (work_area.c).
 *
 * Every task and team member runs with denormals flushed; the caller's mode is restored. Both calls
 * are made without the GIL, from any Python thread, also after fork().
 */
#ifndef FNN_RUNTIME_H
#define FNN_RUNTIME_H

#include <stddef.h>

#define FNN_RUNTIME_CAPSULE "fastnn.kernels.cpu._runtime.table"

/* FNN_AMX is AVX-512 with the tile unit: the same functions, which look at `isa` where it helps. */
enum { FNN_BASE = 0, FNN_AVX2 = 1, FNN_AVX512 = 2, FNN_AMX = 3, FNN_ISAS = 4 };

typedef void (*fnn_task)(void *context, long task);
typedef void (*fnn_member)(void *context, int member, int size, void *team);

typedef struct {
    int isa;                                     /* one of FNN_BASE .. FNN_AMX */
    int (*threads)(void);                        /* how many threads a call may use now */
    void (*run)(fnn_task fn, void *context, long tasks, int threads);
    void (*team)(fnn_member fn, void *context, int threads);
    void (*barrier)(void *team);
    void *(*borrow)(size_t size);                /* 64-byte aligned, not cleared; NULL: no memory */
    void (*give_back)(void *memory);
} fnn_runtime;

#endif
