/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011).
 *
 * Element e takes word e % 4 of the block with the counter (e/4 low 32, e/4 high 32, stream, 0) and
 * the key (seed low 32, seed high 32): docs/contract.md, section 3. A block, with || for (high, low):
 *
 *     round:  (c0, c1, c2, c3) <- (high(M1 c2) ^ c1 ^ k0, low(M1 c2), high(M0 c0) ^ c3 ^ k1, low(M0 c0))
 *             (k0, k1) += (W0, W1)
 */
#ifndef FNN_PHILOX_CUH
#define FNN_PHILOX_CUH

#define PHILOX_DROPOUT 1
#define PHILOX_STOCHASTIC_POOLING 5

struct PhiloxBlock {
    unsigned word[4];
};

FNN_INLINE PhiloxBlock philox_block(unsigned long long seed, unsigned stream,
                                    unsigned long long block)
{
    unsigned c0 = (unsigned)block, c1 = (unsigned)(block >> 32), c2 = stream, c3 = 0;
    unsigned k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const unsigned high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        const unsigned high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

FNN_INLINE unsigned philox_word(unsigned long long seed, unsigned stream,
                                unsigned long long element)
{
    const PhiloxBlock block = philox_block(seed, stream, element / 4);
    const unsigned place = element % 4; /* a choice by comparison: an index would go to memory */
    const unsigned low = place == 0 ? block.word[0] : block.word[1];
    const unsigned high = place == 2 ? block.word[2] : block.word[3];
    return place < 2 ? low : high;
}

/* In [0, 1): the upper 24 bits, exact in float and double. */
FNN_INLINE wide philox_uniform(unsigned word) { return (wide)(word >> 8) * (wide)5.9604644775390625e-8; }

#endif
