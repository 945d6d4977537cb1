/* What every packed product needs: sizes, a work area made in one piece, and panels of B.
 *
 * A *panel* is nv vectors wide, nv <= MAC_NV, and as long as the sum of the product; it lies row by row
 * as the micro-kernel (mac.h) reads it. Columns past the matrix are zeros, so no kernel has a tail.
 *
 *     matrix, strides rs and cs              panel
 *     k  | x x x x x x x x x x |             | x x x x | x x x x | x x 0 0 |    one vector each
 *     |  | x x x x x x x x x x |     ->      | x x x x | x x x x | x x 0 0 |
 *     v  |   n columns         |             |      nv * VL columns        |
 *
 * Include after mac.h and lanes.h.
 */
#ifndef FNN_PANELS_H
#define FNN_PANELS_H

FNN_INLINE long min_long(long a, long b) { return a < b ? a : b; }
FNN_INLINE long max_long(long a, long b) { return a > b ? a : b; }
FNN_INLINE long ceil_div(long n, long m) { return (n + m - 1) / m; }
FNN_INLINE long round_up(long n, long m) { return ceil_div(n, m) * m; }

/* ---------------------------------------------------------------- work area */

typedef struct {
    char *base; /* NULL in the first pass, which only adds up sizes */
    size_t used;
} arena;

static inline void *take(arena *a, long count, size_t item)
{
    void *p = a->base ? a->base + a->used : NULL;
    /* one line more, so that equal arrays do not fall on the same cache sets */
    a->used += (count * item + 63) / 64 * 64 + 64;
    return p;
}

#define TAKE(field, count) ((field) = take(a, count, sizeof *(field)))

/* A vector of a row of n numbers, from number u on: zeros past its end. Rows as a user holds them. */
FNN_INLINE vec row_load(const REAL *row, long u, long n)
{
    return n - u >= VL ? vload(row + u) : n > u ? vload_n(row + u, n - u) : (vec){0};
}
FNN_INLINE void row_store(REAL *row, long u, long n, vec a)
{
    if (n - u >= VL) vstore(row + u, a);
    else if (n > u) vstore_n(row + u, a, n - u);
}

/* ---------------------------------------------------------------- panels */

typedef struct {
    long block;  /* the first vector of columns */
    int blocks;  /* how many: nv */
} panel;

/* Cuts n vectors of columns into the fewest panels of at most `most`, as evenly as can be. */
static inline long cut_panels(panel *panels, long n, int most)
{
    long count = ceil_div(n, most);
    for (long p = 0, block = 0; p < count; p++) {
        int blocks = (int)((n - block) / (count - p));
        panels[p] = (panel){block, blocks};
        block += blocks;
    }
    return count;
}

/* dst[k][j] = src[k*rs + j*cs] for j < n, 0 for n <= j < nv*VL. */
static inline void pack_panel(REAL *dst, const REAL *src, long rs, long cs, long K, long n, int nv)
{
    if (cs == 1) {
        for (long k = 0; k < K; k++, src += rs)
            for (int v = 0; v < nv; v++, dst += VL) {
                long left = n - v * VL;
                *(vec *)dst = left >= VL ? vload(src + v * VL)
                              : left > 0 ? vload_n(src + v * VL, left) : (vec){0};
            }
        return;
    }
    long width = nv * VL, k0 = 0;
    if (rs == 1)
        for (; k0 + VL <= K; k0 += VL)
            for (int v = 0; v < nv; v++) {
                vec r[LANES];
                for (long j = 0; j < VL; j++)
                    r[j] = v * VL + j < n ? vload(src + (v * VL + j) * cs + k0) : (vec){0};
                transpose_lanes(r);
                for (long k = 0; k < VL; k++) *(vec *)(dst + (k0 + k) * width + v * VL) = r[k];
            }
    for (long k = k0; k < K; k++)
        for (long j = 0; j < width; j++) dst[k * width + j] = j < n ? src[k * rs + j * cs] : 0;
}

#endif
