/* Moving lanes between vectors: transposing a square of VL vectors, summing vectors across lanes.
 *
 * Both are perfect shuffles. One stage pairs vector i with i + VL/2 and interleaves their lanes:
 *
 *     r0 = a0 a1 a2 a3                 a0 c0 a1 c1                a0 b0 c0 d0
 *     r1 = b0 b1 b2 b3   interleave    a2 c2 a3 c3   once more    a1 b1 c1 d1
 *     r2 = c0 c1 c2 c3   r0,r2 r1,r3   b0 d0 b1 d1   ->           a2 b2 c2 d2
 *     r3 = d0 d1 d2 d3   ->            b2 d2 b3 d3                a3 b3 c3 d3
 *
 * log2(VL) stages, two shuffles a pair and stage. Include after vec.h.
 */
#ifndef FNN_LANES_H
#define FNN_LANES_H

#define LANES (VBYTES / (4 << REAL_IS_DOUBLE)) /* VL for the preprocessor */

#if LANES == 16
#define LOW_LANES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_LANES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define EVEN_LANES 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#elif LANES == 8
#define LOW_LANES 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_LANES 4, 12, 5, 13, 6, 14, 7, 15
#define EVEN_LANES 0, 2, 4, 6, 8, 10, 12, 14
#elif LANES == 4
#define LOW_LANES 0, 4, 1, 5
#define HIGH_LANES 2, 6, 3, 7
#define EVEN_LANES 0, 2, 4, 6
#else
#define LOW_LANES 0, 2
#define HIGH_LANES 1, 3
#define EVEN_LANES 0, 2
#endif

#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef SHUFFLE
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

FNN_INLINE vec interleave_low(vec a, vec b) { return SHUFFLE(a, b, LOW_LANES); }
FNN_INLINE vec interleave_high(vec a, vec b) { return SHUFFLE(a, b, HIGH_LANES); }
/* Lanes 0, 2, 4 .. of a and then of b. */
FNN_INLINE vec even_lanes(vec a, vec b) { return SHUFFLE(a, b, EVEN_LANES); }

/* r[i] lane j <-> r[j] lane i */
FNN_INLINE void transpose_lanes(vec r[LANES])
{
    for (int stage = 1; stage < LANES; stage *= 2) {
        vec t[LANES];
        UNROLL for (int i = 0; i < LANES / 2; i++) {
            t[2 * i] = interleave_low(r[i], r[i + LANES / 2]);
            t[2 * i + 1] = interleave_high(r[i], r[i + LANES / 2]);
        }
        UNROLL for (int i = 0; i < LANES; i++) r[i] = t[i];
    }
}

/* Lane i of the result is the sum over the lanes of r[i]. */
FNN_INLINE vec sum_lanes(vec r[LANES])
{
    UNROLL for (int half = LANES / 2; half >= 1; half /= 2)
        UNROLL for (int i = 0; i < half; i++)
            r[i] = interleave_low(r[i], r[i + half]) + interleave_high(r[i], r[i + half]);
    return r[0];
}

#endif
