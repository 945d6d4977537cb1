/* Division of offsets. */
#ifndef FNN_OFFSETS_CUH
#define FNN_OFFSETS_CUH

/* Not inlined: a 64-bit division is a hundred instructions, and hardly ever needed. */
static __device__ __noinline__ Offset divide_wide(Offset a, Offset n) { return a / n; }

/* Quotient and remainder; in 32 bits where that is enough, which is several times faster. */
FNN_INLINE Offset split(Offset a, Offset n, int &rest)
{
    if ((a | n) >> 32 == 0) {
        const unsigned q = (unsigned)a / (unsigned)n;
        rest = (int)((unsigned)a - q * (unsigned)n);
        return q;
    }
    const Offset q = divide_wide(a, n);
    rest = (int)(a - q * n);
    return q;
}

#endif
