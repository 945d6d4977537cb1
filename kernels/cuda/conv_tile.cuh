/* One tile of a matrix product whose operands are functions of their place.
 *
 *     C[m, n] = sum over k of A(m, k) B(k, n)        128 x TILE_N of C by a block of 256 threads
 *
 *            n: TILE_N = 16, 32 or 64
 *          +-----------+
 *     m    | 16 x 16 threads, each 8 rows x TILE_N / 16 columns, in registers
 *     128  |           |        k goes in steps of 16 through shared memory: a[16][128], b[16][TILE_N]
 *          +-----------+        while a step is multiplied, the next one is read into registers
 *
 * In a step, a thread reads 8 elements of A that have the same k and rows 16 apart: so the way from
 * k to a tap or pixel, with its divisions, is made once a thread and step, that from m to a pixel
 * once a thread. `A` offers row(r, m) before the loop, step(k), and at(r); `B` offers at(k, n); `Out`
 * takes row(m), then at(n, value).
 * Beyond the edges both give zero.
 */
#ifndef FNN_CONV_TILE_CUH
#define FNN_CONV_TILE_CUH

#define TILE_M 128
#define TILE_K 16
#define ROWS 8
#define PITCH (TILE_M + 4)

template <int TILE_N, typename A, typename B, typename Out>
static __device__ __forceinline__ void multiply_tile(A a, B b, Out out, Offset m_count, int n_count,
                                                     Offset first_k, Offset last_k, wide *a_shared,
                                                     wide *b_shared)
{
    constexpr int COLUMNS = TILE_N / 16;
    const int tid = threadIdx.x, tx = tid % 16, ty = tid / 16;
    const Offset m0 = (Offset)blockIdx.x * TILE_M;
    const int n0 = blockIdx.y * TILE_N;
    wide sum[ROWS][COLUMNS] = {};
    wide a_next[ROWS], b_next[COLUMNS];

#pragma unroll
    for (int r = 0; r < ROWS; r++)
        a.row(r, m0 + ty + 16 * r, m_count);
    auto fetch = [&](Offset k0) {
        const Offset k = k0 + tx;
        const bool inside = k < last_k;
        if (inside)
            a.step(k);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            a_next[r] = inside ? a.at(r) : (wide)0;
#pragma unroll
        for (int r = 0; r < COLUMNS; r++) {
            const int at = tid + 256 * r, n = n0 + at % TILE_N;
            const Offset kb = k0 + at / TILE_N;
            b_next[r] = kb < last_k && n < n_count ? b.at(kb, n) : (wide)0;
        }
    };

    fetch(first_k);
    for (Offset k0 = first_k; k0 < last_k; k0 += TILE_K) {
        __syncthreads();
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            a_shared[tx * PITCH + ty + 16 * r] = a_next[r];
#pragma unroll
        for (int r = 0; r < COLUMNS; r++)
            b_shared[tid + 256 * r] = b_next[r];
        __syncthreads();
        if (k0 + TILE_K < last_k)
            fetch(k0 + TILE_K);
#pragma unroll
        for (int k = 0; k < TILE_K; k++) {
            const Pack<wide, 4> low = *(const Pack<wide, 4> *)(a_shared + k * PITCH + ty * ROWS);
            const Pack<wide, 4> high = *(const Pack<wide, 4> *)(a_shared + k * PITCH + ty * ROWS + 4);
            const Pack<wide, COLUMNS> right =
                *(const Pack<wide, COLUMNS> *)(b_shared + k * TILE_N + tx * COLUMNS);
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
                for (int c = 0; c < COLUMNS; c++)
                    sum[r][c] += (r < 4 ? low.at[r % 4] : high.at[r % 4]) * right.at[c];
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        const Offset m = m0 + ty * ROWS + r;
        if (m >= m_count)
            continue;
        out.row(m);
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            const int n = n0 + tx * COLUMNS + c;
            if (n < n_count)
                out.at(n, sum[r][c]);
        }
    }
}

#endif
