/* The columns of a matrix that a block owns, for the products of rnn_product.cuh and rnn_tiles.cuh. */
#ifndef FNN_RNN_MATRIX_CUH
#define FNN_RNN_MATRIX_CUH

#include "rnn_base.cuh"

/* Column n of the block is gate n % G of unit n / G: what a cell needs lies side by side.
 *
 *     from [K, ld]   gate g of unit u is column g * gate + u
 */
template <int G> struct Matrix {
    const real *from;
    i64 ld, gate;
    int K;          /* rows, padded with zeros to a whole number of chunks */
    int first, end; /* units of the block */

    /* Row k of column n on; NULL past the last unit. */
    __device__ __forceinline__ const real *column(int n, int k) const
    {
        const int unit = first + n / G;
        return unit < end ? from + k * ld + n % G * gate + unit : nullptr;
    }

    __device__ __forceinline__ real at(int k, int n) const
    {
        const real *found = column(n, k);
        return found && k < K ? *found : narrow(0);
    }
};

/* How far apart rows of K numbers lie in shared memory. Tiles read 8 rows x 64 bytes at once, 16 bytes a
 * lane: no two of 8 lanes meet in a bank when the rows are 64 bytes past a multiple of 128. */
FNN_INLINE int row_stride(int K)
{
#if FNN_TENSOR
    return K * (int)sizeof(real) % 128 == 0 ? K + 64 / (int)sizeof(real) : K;
#else
    return K;
#endif
}

/* What enters a product: rounded to the ten bits of tf32 where the tensor cores would cut them off. */
FNN_INLINE real operand(wide v)
{
#if FNN_TENSOR && FNN_DTYPE == 32
    return __uint_as_float(to_tf32(v));
#else
    return narrow(v);
#endif
}

#endif
