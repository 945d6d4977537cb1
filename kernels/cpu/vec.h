/* A SIMD vector of REAL as a GCC/Clang vector extension: one text for SSE2, AVX2, AVX-512 and NEON.
 *
 * The includer has set REAL_IS_DOUBLE (0 or 1), VBYTES (16, 32 or 64) and the target pragma.
 *
 *   vec     VL lanes of REAL        ivec    VL lanes of an integer as wide as REAL (masks: 0 or -1)
 *   SELECT(mask, a, b)              lane by lane: mask ? a : b
 *
 * Everything is static: a helper that the linker could merge across ISAs would one day run an
 * AVX-512 instruction on a machine without it.
 */
#include <stdint.h>
#include <string.h>
#include <stddef.h>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#undef REAL
#undef INT
#undef UINT
#undef VL
#if REAL_IS_DOUBLE
#define REAL double
#define INT int64_t
#define UINT uint64_t
#else
#define REAL float
#define INT int32_t
#define UINT uint32_t
#endif
#define VL ((int)(VBYTES / sizeof(REAL)))

#ifndef FNN_INLINE
#define FNN_INLINE static inline __attribute__((always_inline, unused))
#endif

typedef REAL vec __attribute__((vector_size(VBYTES), may_alias));
typedef INT ivec __attribute__((vector_size(VBYTES), may_alias));
typedef UINT uvec __attribute__((vector_size(VBYTES), may_alias));
typedef REAL vec_unaligned __attribute__((vector_size(VBYTES), aligned(sizeof(REAL)), may_alias));
typedef INT ivec_unaligned __attribute__((vector_size(VBYTES), aligned(sizeof(REAL)), may_alias));

#define SELECT(mask, a, b) ((vec)(((ivec)(a) & (ivec)(mask)) | ((ivec)(b) & ~(ivec)(mask))))

FNN_INLINE vec vset(REAL a) { return a - (vec){0}; }
FNN_INLINE vec vload(const REAL *p) { return *(const vec_unaligned *)p; }
FNN_INLINE void vstore(REAL *p, vec a) { *(vec_unaligned *)p = a; }

/* To memory, past the caches, where a vector is a whole cache line at its place; else a plain store. */
FNN_INLINE void vstream(REAL *p, vec a)
{
#if defined(__AVX512F__) && VBYTES == 64
    _mm512_stream_si512((__m512i *)p, (__m512i)a);
#else
    vstore(p, a);
#endif
}

/* After streams, before another thread reads them. */
FNN_INLINE void vstream_end(void)
{
#if defined(__AVX512F__) && VBYTES == 64
    _mm_sfence();
#endif
}

/* The first n lanes (0 < n <= VL); lanes past n are zero and their memory is not touched. */
#if defined(__AVX512F__) && VBYTES == 64
#if REAL_IS_DOUBLE
FNN_INLINE vec vload_n(const REAL *p, long n) { return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p); }
FNN_INLINE void vstore_n(REAL *p, vec a, long n) { _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)a); }
#else
FNN_INLINE vec vload_n(const REAL *p, long n) { return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
FNN_INLINE void vstore_n(REAL *p, vec a, long n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)a); }
#endif
#elif defined(__AVX2__) && VBYTES == 32
FNN_INLINE ivec vmask_n(long n)
{
    static const INT window[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return *(const ivec_unaligned *)(window + 8 - n);
}
#if REAL_IS_DOUBLE
FNN_INLINE vec vload_n(const REAL *p, long n) { return (vec)_mm256_maskload_pd(p, (__m256i)vmask_n(n)); }
FNN_INLINE void vstore_n(REAL *p, vec a, long n) { _mm256_maskstore_pd(p, (__m256i)vmask_n(n), (__m256d)a); }
#else
FNN_INLINE vec vload_n(const REAL *p, long n) { return (vec)_mm256_maskload_ps(p, (__m256i)vmask_n(n)); }
FNN_INLINE void vstore_n(REAL *p, vec a, long n) { _mm256_maskstore_ps(p, (__m256i)vmask_n(n), (__m256)a); }
#endif
#else
FNN_INLINE vec vload_n(const REAL *p, long n)
{
    if (n >= VL) return vload(p);
    vec a = {0};
    for (long j = 0; j < n; j++) a[j] = p[j];
    return a;
}
FNN_INLINE void vstore_n(REAL *p, vec a, long n)
{
    if (n >= VL) { vstore(p, a); return; }
    for (long j = 0; j < n; j++) p[j] = a[j];
}
#endif

/* a > b ? a : b, and a < b ? a : b: b where one is NaN, so a NaN in b stays. On x86 that is one instruction,
   but compilers make a comparison and a selection of the expression: two to four. */
#if defined(__AVX512F__) && VBYTES == 64
#define VEC_X86(op) (vec) OF_REAL(_mm512_##op, __m512)
#elif defined(__AVX2__) && VBYTES == 32
#define VEC_X86(op) (vec) OF_REAL(_mm256_##op, __m256)
#elif defined(__SSE2__) && VBYTES == 16
#define VEC_X86(op) (vec) OF_REAL(_mm_##op, __m128)
#endif
#ifdef VEC_X86
#if REAL_IS_DOUBLE
#define OF_REAL(op, type) op##_pd((type##d)a, (type##d)b)
#else
#define OF_REAL(op, type) op##_ps((type)a, (type)b)
#endif
FNN_INLINE vec vmax(vec a, vec b) { return VEC_X86(max); }
FNN_INLINE vec vmin(vec a, vec b) { return VEC_X86(min); }
#else
FNN_INLINE vec vmax(vec a, vec b) { return SELECT(a > b, a, b); }
FNN_INLINE vec vmin(vec a, vec b) { return SELECT(a < b, a, b); }
#endif
FNN_INLINE vec vabs(vec a) { return (vec)((uvec)a & (((uvec){0} - 1) >> 1)); }

FNN_INLINE REAL vsum(vec a)
{
    REAL s = 0;
    for (int j = 0; j < VL; j++) s += a[j];
    return s;
}
