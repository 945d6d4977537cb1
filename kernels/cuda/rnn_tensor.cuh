/* One matrix instruction of the tensor cores, 16 x 8 numbers a warp, from 32-bit words.
 *
 *     d [16, 8] += a [16, k] b [k, 8]      k = 16 for 16-bit numbers, two a word; 8 for tf32, one a word
 *
 * lane = 4 g + t:   a.x: row g,  word t of the first half of k     a.z: row g,  word t of the second half
 *                   a.y: row g + 8, first half                     a.w: row g + 8, second half
 *                   b0, b1: column g, word t of either half
 *                   d[0], d[1]: row g, columns 2 t, 2 t + 1        d[2], d[3]: row g + 8
 *
 * Which k a word stands for does not matter as long as a and b agree: rnn_tiles.cuh makes use of that.
 * Needs compute capability 8.0.
 */
#ifndef FNN_RNN_TENSOR_CUH
#define FNN_RNN_TENSOR_CUH

#include "device.cuh"

/* To tf32, the nearest, ties away from zero. */
FNN_INLINE unsigned to_tf32(float v)
{
#ifdef FASTNN_EMULATED
    const unsigned word = __float_as_uint(v);
    return v - v == 0 ? (word + 0x1000u) & ~0x1fffu : word;
#else
    unsigned word;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(v));
    return word;
#endif
}

#ifdef FASTNN_EMULATED
FNN_INLINE float tensor_dot(unsigned a, unsigned b)
{
#if FNN_DTYPE == 32
    return __uint_as_float(a) * __uint_as_float(b);
#else
    real x[2], y[2];
    memcpy(x, &a, 4);
    memcpy(y, &b, 4);
    return widen(x[0]) * widen(y[0]) + widen(x[1]) * widen(y[1]);
#endif
}
#endif

FNN_INLINE void tensor_multiply(float (&d)[4], const uint4 &a, unsigned b0, unsigned b1)
{
#ifdef FASTNN_EMULATED
    const int g = (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
    for (int other = 0; other < 4; other++) {
        const int from = g * 4 + other;
        const unsigned rows[4] = {__shfl_sync(FNN_ALL_LANES, a.x, from), __shfl_sync(FNN_ALL_LANES, a.y, from),
                                  __shfl_sync(FNN_ALL_LANES, a.z, from), __shfl_sync(FNN_ALL_LANES, a.w, from)};
        for (int n = 0; n < 2; n++) {
            const int column = (2 * t + n) * 4 + other;
            const unsigned first = __shfl_sync(FNN_ALL_LANES, b0, column);
            const unsigned second = __shfl_sync(FNN_ALL_LANES, b1, column);
            d[n] += tensor_dot(rows[0], first) + tensor_dot(rows[2], second);
            d[n + 2] += tensor_dot(rows[1], first) + tensor_dot(rows[3], second);
        }
    }
#elif FNN_DTYPE == 16
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
#elif FNN_DTYPE == 17
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
#else
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
#endif
}

#endif
