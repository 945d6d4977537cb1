/* The micro-kernel: a tile of accumulators in registers, one multiply-add a lane a cycle.
 *
 *     acc[i][v] += sum_k a[i*rs + k*cs] * b[k*bs + v*VL + lane]       0 <= i < mr, 0 <= v < nv
 *
 *                 b: a packed panel, K rows of nv vectors, read once, in order
 *                 +----+----+----+----+
 *          k  ->  |    |    |    |    |   nv loads
 *                 +----+----+----+----+
 *      a  +-+     +----+----+----+----+
 *      i  |.| bc  |         acc       |   mr broadcasts, mr*nv FMAs, all in registers
 *         +-+     +----+----+----+----+
 *
 * `b` may be a packed panel (bs = nv * VL) or rows that lie in a matrix or an image, aligned or not.
 * `a` is left where it is: rs = row stride, cs = 1 for rows as the user holds them (the recurrent
 * state, gradients of gates); rs = 1, cs = mr for a panel that was packed column by column.
 *
 * mr and nv are compile-time constants after inlining, so the loops over i and v vanish. With 32
 * registers 6 x 4 leaves 8 for b and the broadcast; with 16 a 3 x 4 tile (12 + 3 broadcasts + 1 of b)
 * and 6 x 2 or 4 x 3 (12 + 2 or 3 of b + 1 broadcast) just fit: hence MAC_ROWS, and two orders of the loops.
 */
#define UNROLL _Pragma("GCC unroll 16")

#if VREGS >= 32
#define MAC_NV 4 /* vectors in the widest panel of a plain product */
#define MAC_ROWS(nv) 6
#else
#define MAC_NV 2
#define MAC_ROWS(nv) ((nv) >= 4 ? 3 : (nv) == 3 ? 4 : 6)
#endif
#define MAC_MAX_ROWS 6

/* What a product asks for while it runs: `stride` bytes with each k, so that a panel which several tiles
 * of rows share comes while the panel before it is multiplied. Stride 0 and an address in L1: nothing. With few
 * rows reading is the bottleneck, and a prefetch of what is in L2 takes half of its bandwidth. */
typedef struct {
    const char *at;
    long stride;
} prefetch;

#define PREFETCH_STRIDE 32

/* mac(), and prefetches. */
FNN_INLINE void mac_ahead(const int mr, const int nv, const int v0, vec (*restrict acc)[4],
                          const REAL *restrict a, long rs, long cs, const REAL *restrict b, long bs, long K,
                          prefetch ahead)
{
    for (long k = 0; k < K; k++) {
        if (ahead.at) __builtin_prefetch(ahead.at + k * ahead.stride, 0, 2);
        if (VREGS >= 32 || nv <= 3) {
            vec bv[4];
            UNROLL for (int v = 0; v < nv; v++) bv[v] = vload(b + v * VL);
            UNROLL for (int i = 0; i < mr; i++) {
                vec av = vset(a[i * rs]);
                UNROLL for (int v = 0; v < nv; v++) acc[i][v0 + v] += av * bv[v];
            }
        } else {
            vec av[MAC_MAX_ROWS];
            UNROLL for (int i = 0; i < mr; i++) av[i] = vset(a[i * rs]);
            UNROLL for (int v = 0; v < nv; v++) {
                vec bv = vload(b + v * VL);
                UNROLL for (int i = 0; i < mr; i++) acc[i][v0 + v] += av[i] * bv;
            }
        }
        a += cs;
        b += bs;
    }
}

FNN_INLINE void mac(const int mr, const int nv, const int v0, vec (*restrict acc)[4],
                    const REAL *restrict a, long rs, long cs, const REAL *restrict b, long bs, long K)
{
    mac_ahead(mr, nv, v0, acc, a, rs, cs, b, bs, K, (prefetch){NULL, 0});
}

/* mac_ahead() for a short run of rows as the user holds them, K a multiple of VL: four k at once, a quarter of
 * the branches, of which the last one of a run is often foretold wrong. */
#define MAC_RUN (VREGS >= 32 && VBYTES >= 32 ? 4 : 1) /* with 16 registers four would spill */
FNN_INLINE void mac_run(const int mr, const int nv, vec (*restrict acc)[4], const REAL *restrict a, long rs,
                        const REAL *restrict b, long K, prefetch ahead)
{
    if (MAC_RUN == 1) {
        mac_ahead(mr, nv, 0, acc, a, rs, 1, b, nv * VL, K, ahead);
        return;
    }
    const REAL *end = b + K * nv * VL;
    long step = MAC_RUN * ahead.stride;
    for (; b < end; a += MAC_RUN, b += MAC_RUN * nv * VL, ahead.at += step) {
        UNROLL for (int i = 0; i < MAC_RUN * PREFETCH_STRIDE; i += 64) __builtin_prefetch(ahead.at + i, 0, 2);
        UNROLL for (int i = 0; i < MAC_RUN; i++) mac(mr, nv, 0, acc, a + i, rs, 1, b + i * nv * VL, nv * VL, 1);
    }
}

/* The prefetch k products later. */
FNN_INLINE prefetch prefetch_later(prefetch ahead, long k)
{
    return (prefetch){ahead.at ? ahead.at + k * ahead.stride : NULL, ahead.stride};
}

/* Calls `call(mr)` with the compile-time constant mr = rows; rows <= MAC_ROWS(nv). */
#define WITH_ROWS(rows, nv, call)                                             \
    switch (rows) {                                                           \
    case 6: if (MAC_ROWS(nv) >= 6) { call(6); } break;                        \
    case 5: if (MAC_ROWS(nv) >= 5) { call(5); } break;                        \
    case 4: if (MAC_ROWS(nv) >= 4) { call(4); } break;                        \
    case 3: call(3); break;                                                   \
    case 2: call(2); break;                                                   \
    case 1: call(1); break;                                                   \
    }
