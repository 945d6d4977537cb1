/* Work areas that outlive a call. A fresh one costs a page fault for every 4 kB, up to a tenth of a call
 * whose weights are packed into it; one from the call before costs nothing, and is still in cache.
 *
 *     slots   | 5 MB | -- | 1 MB | -- | ..     a block is in a slot, or lent to one call
 *
 * Slots are taken and filled by one atomic exchange, so calls from many threads do not wait for each
 * other: who finds no block that fits makes one. Large blocks ask for huge pages, so that reading them
 * does not miss the TLB. At most SLOTS blocks, each of at most KEPT bytes, are kept.
 */
#define _GNU_SOURCE
#include "runtime_private.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { LINE = 64, SLOTS = 3, HUGE_PAGE = 2 << 20, KEPT = 32 << 20 };

/* What comes before the memory that is lent. */
typedef struct {
    _Alignas(LINE) size_t size;
} block;

static _Atomic(block *) slots[SLOTS];

static block *make_block(size_t size)
{
    size_t grain = size >= HUGE_PAGE / 2 ? HUGE_PAGE : 4096;
    size = (size + grain - 1) / grain * grain;
    block *b = aligned_alloc(grain, size);
    if (!b) return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (grain == HUGE_PAGE) madvise(b, size, MADV_HUGEPAGE); /* a wish: no matter if it is not granted */
#endif
    b->size = size;
    return b;
}

void *fnn_borrow(size_t size)
{
    if (size > SIZE_MAX / 2) return NULL;
    size += sizeof(block);
    for (int i = 0; i < SLOTS; i++) {
        block *b = atomic_exchange(&slots[i], NULL), *none = NULL;
        if (b && b->size >= size) return b + 1;
        /* Too small for this call, but perhaps not for the next. */
        if (b && !atomic_compare_exchange_strong(&slots[i], &none, b)) free(b);
    }
    block *b = make_block(size);
    return b ? b + 1 : NULL;
}

/* The slots are refilled in turn, so what stays is what was used last. */
void fnn_give_back(void *memory)
{
    static atomic_uint turn;
    if (!memory) return;
    block *b = (block *)memory - 1;
    for (int i = 0; i < SLOTS && b->size <= KEPT; i++) {
        block *none = NULL;
        if (atomic_compare_exchange_strong(&slots[i], &none, b)) return;
    }
    if (b->size <= KEPT) b = atomic_exchange(&slots[atomic_fetch_add(&turn, 1) % SLOTS], b);
    free(b);
}
