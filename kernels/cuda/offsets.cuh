/* Division of offsets. */
#ifndef FNN_OFFSETS_CUH
#define FNN_OFFSETS_CUH

/* Quotient and remainder; in 32 bits where that is enough, which is several times faster. */
FNN_INLINE Offset split(Offset a, Offset n, int &rest)
{
    if ((a | n) >> 32 == 0) {
        const unsigned q = (unsigned)a / (unsigned)n;
        rest = (int)((unsigned)a - q * (unsigned)n);
        return q;
    }
    rest = (int)(a % n);
    return a / n;
}

#endif
