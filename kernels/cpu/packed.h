/* Weights as a call has packed them, for later calls with the same weights, which the caller promises not to
 * change (fastnn.constant_weights). The binding owns the entries, all zeros in the beginning, one for each way in
 * which a family packs the same weights; `memory` is lent by the runtime.
 *
 *     none --find_packed--> being made by one call --settle_packed--> there
 *       ^                              |
 *       +--------- it failed ----------+            other calls meanwhile pack for themselves
 */
#ifndef FNN_PACKED_H
#define FNN_PACKED_H

#include <stddef.h>
#include "runtime.h"

enum { FNN_PACKED_NONE, FNN_PACKED_MAKING, FNN_PACKED_THERE };

typedef struct {
    void *memory;
    int state;
} fnn_packed;

/* Packed weights that may be used, or must be made for later calls (then 1 in *makes); NULL where there are
 * none, or where another thread is making them. `entry` may be NULL. */
static inline fnn_packed *find_packed(fnn_packed *entry, const fnn_runtime *runtime, size_t size, int *makes)
{
    *makes = 0;
    if (!entry || __atomic_load_n(&entry->state, __ATOMIC_ACQUIRE) == FNN_PACKED_THERE) return entry;
    int none = FNN_PACKED_NONE;
    if (!__atomic_compare_exchange_n(&entry->state, &none, FNN_PACKED_MAKING, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return NULL;
    entry->memory = runtime->borrow(size);
    *makes = entry->memory != NULL;
    if (!*makes) __atomic_store_n(&entry->state, FNN_PACKED_NONE, __ATOMIC_RELEASE);
    return *makes ? entry : NULL;
}

/* The end of a call that found them: what a failed call has made is not kept. */
static inline void settle_packed(fnn_packed *entry, const fnn_runtime *runtime, int makes, int failed)
{
    if (!makes) return;
    if (failed) runtime->give_back(entry->memory), entry->memory = NULL;
    __atomic_store_n(&entry->state, failed ? FNN_PACKED_NONE : FNN_PACKED_THERE, __ATOMIC_RELEASE);
}

#endif
