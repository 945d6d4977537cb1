/* What `_runtime` alone calls. */
#ifndef FNN_RUNTIME_PRIVATE_H
#define FNN_RUNTIME_PRIVATE_H

#include "runtime.h"

enum { FNN_MAX_THREADS = 1024 };

/* The table, ready for use; `available_cores` is how many threads can really run at once. */
const fnn_runtime *fnn_start(int available_cores);

/* Memory that outlives a call: work_area.c. The last four are a NumPy allocator's. */
void *fnn_borrow(size_t size);
void fnn_give_back(void *memory);
void fnn_empty_cache(void);
void *fnn_array_malloc(void *context, size_t size);
void *fnn_array_calloc(void *context, size_t count, size_t size);
void *fnn_array_realloc(void *context, void *memory, size_t size);
void fnn_array_free(void *context, void *memory, size_t size);

/* The best ISA of this machine (isa.c), and the one that kernels are told to use. */
int fnn_best_isa(void);
void fnn_set_isa(int isa);

/* The limit on the threads of a call; counts outside 1 .. FNN_MAX_THREADS are moved inside.
 * Exported from the shared object by these names, for threadpoolctl. */
__attribute__((visibility("default"))) int fastnn_get_num_threads(void);
__attribute__((visibility("default"))) void fastnn_set_num_threads(int count);

#endif
