/* Rows of a matrix, each by a group of 1 to 32 neighbouring lanes of a warp. */
#ifndef FNN_ROWS_CUH
#define FNN_ROWS_CUH

struct Shifted {
    wide most, sum; /* max x, sum exp(x - max x) */
};

struct Rows {
    Offset index, step;
    int lane, group;
    unsigned mask; /* the lanes of this group, which alone walk over this row */

    __device__ __forceinline__ explicit Rows(int size)
    {
        group = size;
        lane = threadIdx.x % size;
        index = thread_index() / size;
        step = thread_count() / size;
        const unsigned ones = size == 32 ? 0xffffffffu : (1u << size) - 1;
        mask = ones << (threadIdx.x % 32 - lane);
    }

    __device__ __forceinline__ void next() { index += step; }

    /* Over the group, in every lane, always in the same order. */
    __device__ __forceinline__ wide sum(wide v) const
    {
        for (int by = group / 2; by; by /= 2)
            v += __shfl_xor_sync(mask, v, by);
        return v;
    }

    /* The largest; a NaN is larger than every number. */
    __device__ __forceinline__ wide max(wide v) const
    {
        for (int by = group / 2; by; by /= 2)
            v = larger(v, __shfl_xor_sync(mask, v, by));
        return v;
    }

    static __device__ __forceinline__ wide larger(wide a, wide b)
    {
        return b > a || b != b ? b : a;
    }

    /* What a stable softmax of x [columns] is made of. */
    __device__ __forceinline__ Shifted shifted(const real *x, Offset columns) const
    {
        wide most = load(x);
        for (Offset c = lane; c < columns; c += group)
            most = larger(most, load(x + c));
        most = max(most);
        wide total = 0;
        for (Offset c = lane; c < columns; c += group)
            total += exp(load(x + c) - most);
        return {most, sum(total)};
    }
};

#endif
