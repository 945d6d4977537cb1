/* Names that differ by ISA and dtype, and the tables of function pointers that carry them.
 *
 * A family's .inc is compiled once per ISA and dtype, each time in a translation unit of its own (the
 * stubs that setup.py writes), so whatever is `static` needs no suffix. Only the family's table is
 * seen from outside:
 *
 *   in <family>.h     typedef struct { void (*forward)(...); ... } fnn_pool_table;
 *                     FNN_DECLARE_TABLES(fnn_pool_table)     one `extern const` per ISA and dtype
 *   in <family>.inc   const fnn_pool_table FNN_NAME(fnn_pool_table) = { forward, ... };
 *   in the .pyx       FNN_PICK_TABLE(fnn_pool_table, isa, is_double): a pointer to the right one
 *
 * FNN_NAME(stem) is stem_<isa>_<f32|f64>, e.g. fnn_pool_table_avx512_f32. On a machine that is not
 * x86-64 only "base" exists, and the macros name nothing else.
 */
#ifndef FNN_NAMES_H
#define FNN_NAMES_H

#include "runtime.h"

#ifdef FNN_ISA
#define FNN_PASTE_(stem, isa, dtype) stem##_##isa##_##dtype
#define FNN_PASTE(stem, isa, dtype) FNN_PASTE_(stem, isa, dtype)
#if REAL_IS_DOUBLE
#define FNN_NAME(stem) FNN_PASTE(stem, FNN_ISA, f64)
#else
#define FNN_NAME(stem) FNN_PASTE(stem, FNN_ISA, f32)
#endif
#endif

/* Seen by the module's other objects, not by other modules. */
#define FNN_HIDDEN __attribute__((visibility("hidden")))

#if defined(__x86_64__)
#define FNN_DECLARE_TABLES(type)                                             \
    extern FNN_HIDDEN const type type##_base_f32, type##_base_f64;           \
    extern FNN_HIDDEN const type type##_avx2_f32, type##_avx2_f64;           \
    extern FNN_HIDDEN const type type##_avx512_f32, type##_avx512_f64;
#define FNN_PICK_TABLE(type, isa, is_double)                                              \
    ((isa) >= FNN_AVX512 ? ((is_double) ? &type##_avx512_f64 : &type##_avx512_f32)        \
     : (isa) == FNN_AVX2 ? ((is_double) ? &type##_avx2_f64 : &type##_avx2_f32)            \
                         : ((is_double) ? &type##_base_f64 : &type##_base_f32))
#else
#define FNN_DECLARE_TABLES(type) extern FNN_HIDDEN const type type##_base_f32, type##_base_f64;
#define FNN_PICK_TABLE(type, isa, is_double) \
    ((void)(isa), (is_double) ? &type##_base_f64 : &type##_base_f32)
#endif

#endif
