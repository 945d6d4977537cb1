/* Memory that outlives a call: work areas, and the arrays that kernels give back.
 *
 * A fresh block costs a page fault for every 4 kB, up to a tenth of a call that writes it once; one from
 * the call before costs nothing, and is still in cache. glibc keeps small blocks, but returns to the system
 * what is larger than 32 MB or lies at the end of its heap: the gates of an LSTM, the output of a layer.
 *
 *     slots   | 5 MB | -- | 33 MB | -- | ..     a block is in a slot, or lent
 *     sizes   | 5 MB | 0  | 33 MB | 0  | ..     what it was when last seen: tells where to look
 *
 * A work area is lent for a call, so any block that is large enough will do, best the smallest. An array may
 * live for long, so its block is at most a quarter too large. Slots are taken and filled by one atomic
 * exchange, so calls from many threads do not wait for each other: who finds no block that fits makes one.
 * Large blocks ask for huge pages, so that reading them does not miss the TLB. Blocks that together are
 * larger than ALL_KEPT are not kept; fnn_empty_cache keeps none.
 */
#define _GNU_SOURCE
#include "runtime_private.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { LINE = 64, SLOTS = 24, PAGE = 4096, HUGE_PAGE = 2 << 20, KEPT_FROM = 32 << 10, ALL_KEPT = 128 << 20 };

/* What comes before the memory that is lent. */
typedef struct {
    _Alignas(LINE) size_t size;
} block;

static _Atomic(block *) slots[SLOTS];
static _Atomic size_t sizes[SLOTS], kept;

/* `size` bytes with the header; in whole huge pages from `whole` bytes on. */
static block *make_block(size_t size, size_t whole)
{
    size_t unit = size >= whole ? HUGE_PAGE : size >= PAGE ? PAGE : LINE;
    size_t grain = size >= HUGE_PAGE ? HUGE_PAGE : unit;
    void *memory;
    size = (size + unit - 1) / unit * unit;
    if (posix_memalign(&memory, grain, size)) return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (grain == HUGE_PAGE) madvise(memory, size, MADV_HUGEPAGE); /* a wish: no matter if it is not granted */
#endif
    block *b = memory;
    b->size = size;
    return b;
}

static block *take(int slot)
{
    block *b = atomic_exchange(&slots[slot], NULL);
    if (b) atomic_fetch_sub(&kept, b->size);
    return b;
}

static int put(int slot, block *b)
{
    block *none = NULL;
    atomic_fetch_add(&kept, b->size); /* first, so that it never falls below zero */
    if (atomic_compare_exchange_strong(&slots[slot], &none, b)) {
        atomic_store_explicit(&sizes[slot], b->size, memory_order_relaxed);
        return 1;
    }
    atomic_fetch_sub(&kept, b->size);
    return 0;
}

/* The smallest kept block of `least` to `most` bytes, or NULL. */
static block *find_block(size_t least, size_t most)
{
    int best = -1;
    size_t found = most;
    for (int i = 0; i < SLOTS; i++) {
        size_t size = atomic_load_explicit(&sizes[i], memory_order_relaxed);
        if (size < least || size > found || !atomic_load_explicit(&slots[i], memory_order_relaxed)) continue;
        best = i;
        found = size;
    }
    if (best < 0) return NULL;
    block *b = take(best);
    if (!b || (b->size >= least && b->size <= most)) return b;
    if (!put(best, b)) free(b); /* another thread's, meanwhile */
    return NULL;
}

/* What was lent longest ago goes first: the slots are emptied in turn. */
static void keep_block(block *b)
{
    static atomic_uint turn;
    if (b->size < KEPT_FROM || b->size > ALL_KEPT / 2) {
        free(b);
        return;
    }
    for (int i = 0, placed = 0; !placed; i++) {
        if (i < SLOTS) placed = put(i, b);
        else free(take(atomic_fetch_add(&turn, 1) % SLOTS)), i = -1;
    }
    for (int i = 0; i < SLOTS && atomic_load(&kept) > ALL_KEPT; i++)
        free(take(atomic_fetch_add(&turn, 1) % SLOTS));
}

static void *lend(size_t size, size_t most, size_t whole)
{
    if (size > SIZE_MAX / 2) return NULL;
    size += sizeof(block);
    block *b = size >= KEPT_FROM ? find_block(size, most) : NULL;
    if (!b) b = make_block(size, whole);
    return b ? b + 1 : NULL;
}

/* ---------------------------------------------------------------- work areas */

void *fnn_borrow(size_t size) { return lend(size, SIZE_MAX, HUGE_PAGE / 2); }

void fnn_give_back(void *memory)
{
    if (memory) keep_block((block *)memory - 1);
}

void fnn_empty_cache(void)
{
    for (int i = 0; i < SLOTS; i++) free(take(i));
}

/* ---------------------------------------------------------------- arrays: NumPy's allocator functions */

void *fnn_array_malloc(void *context, size_t size)
{
    (void)context;
    return lend(size, size + size / 4 + PAGE, SIZE_MAX);
}

void *fnn_array_calloc(void *context, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / size) return NULL;
    void *memory = fnn_array_malloc(context, count * size);
    return memory ? memset(memory, 0, count * size) : NULL;
}

void fnn_array_free(void *context, void *memory, size_t size)
{
    (void)context, (void)size;
    fnn_give_back(memory);
}

void *fnn_array_realloc(void *context, void *memory, size_t size)
{
    if (!memory) return fnn_array_malloc(context, size);
    size_t had = ((block *)memory - 1)->size - sizeof(block);
    void *other = fnn_array_malloc(context, size);
    if (!other) return NULL;
    memcpy(other, memory, size < had ? size : had);
    fnn_give_back(memory);
    return other;
}
