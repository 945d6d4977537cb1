/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011),
 * several counters at a time. Include after vec.h; the element type does not matter here.
 *
 *     philox_words(seed, stream, first, n, out)     out[e] = the word of element first + e, 0 <= e < n
 *     philox_below(seed, stream, block, n, threshold, bits)      bit e: whether the word of element
 *                                                   4 block + e is below the threshold, 0 <= e < n
 *
 * Element i takes word i % 4 of the block with the counter (i/4 low 32, i/4 high 32, stream, 0) and the
 * key (seed low 32, seed high 32): docs/contract.md, section 3. A block, with || for (high, low):
 *
 *     round:  (c0, c1, c2, c3) <- (high(M1 c2) ^ c1 ^ k0, low(M1 c2), high(M0 c0) ^ c3 ^ k1, low(M0 c0))
 *             (k0, k1) += (W0, W1)
 *
 * Each counter word lies in a 64-bit lane of its own, and only the low half counts: the widening
 * multiply reads just that half, so `low(...)` needs no masking, and a shift gives `high(...)`.
 *
 *     lanes      block b     b+1     b+2  ...        VBYTES / 8 blocks side by side
 *     c0         w0          w4      w8              interleaved at the end: c0 | c1 << 32 and
 *     c1         w1          w5      w9              c2 | c3 << 32 are pairs of words in order
 *     c2         w2          w6      w10
 *     c3         w3          w7      w11
 */
#ifndef FNN_PHILOX_H
#define FNN_PHILOX_H

enum { /* streams of the contract */
    PHILOX_USER, PHILOX_DROPOUT, PHILOX_RECURRENT_DROPOUT, PHILOX_ZONEOUT_H, PHILOX_ZONEOUT_C,
    PHILOX_STOCHASTIC_POOLING
};

typedef uint64_t philox_lanes __attribute__((vector_size(VBYTES), may_alias));
typedef uint64_t philox_unaligned __attribute__((vector_size(VBYTES), aligned(4), may_alias));
#define PHILOX_BLOCKS ((int)(VBYTES / 8))   /* blocks in a vector */
#define PHILOX_WORDS (4 * PHILOX_BLOCKS)    /* words in a batch of one vector of blocks */

/* low 32 bits of each lane times m, 64 bits wide */
FNN_INLINE philox_lanes philox_multiply(philox_lanes a, uint32_t m)
{
#if VBYTES == 64 && defined(__AVX512F__)
    return (philox_lanes)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(m));
#elif VBYTES == 32 && defined(__AVX2__)
    return (philox_lanes)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(m));
#else
    return (a & 0xffffffffu) * m;
#endif
}

/* Pairs of words a0 b0 a1 b1 ... in order. */
FNN_INLINE void philox_interleave(philox_lanes a, philox_lanes b, uint32_t *out)
{
#if defined(__clang__)
    for (int j = 0; j < PHILOX_BLOCKS; j++) {
        memcpy(out + 4 * j, (uint64_t[]){a[j], b[j]}, 16);
    }
#else
    philox_lanes low, high;
    for (int j = 0; j < PHILOX_BLOCKS; j++) {
        low[j] = (uint64_t)(j / 2 + PHILOX_BLOCKS * (j % 2));
        high[j] = low[j] + PHILOX_BLOCKS / 2;
    }
    *(philox_unaligned *)out = __builtin_shuffle(a, b, low);
    *(philox_unaligned *)(out + 2 * PHILOX_BLOCKS) = __builtin_shuffle(a, b, high);
#endif
}

FNN_INLINE philox_lanes philox_xor3(philox_lanes a, philox_lanes b, philox_lanes c)
{
#if VBYTES == 64 && defined(__AVX512F__)
    return (philox_lanes)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x96);
#else
    return a ^ b ^ c;
#endif
}

/* c0 | c1 << 32, of the low halves */
FNN_INLINE philox_lanes philox_pair(philox_lanes c0, philox_lanes c1)
{
#if VBYTES == 64 && defined(__AVX512F__)
    return (philox_lanes)_mm512_mask_shuffle_epi32((__m512i)c0, 0xaaaa, (__m512i)c1, _MM_PERM_CCAA);
#else
    return (c0 & 0xffffffffu) | c1 << 32;
#endif
}

/* A round of one vector of blocks. */
FNN_INLINE void philox_round(philox_lanes *c0, philox_lanes *c1, philox_lanes *c2, philox_lanes *c3, uint32_t k0, uint32_t k1)
{
    philox_lanes p0 = philox_multiply(*c0, 0xD2511F53u), p1 = philox_multiply(*c2, 0xCD9E8D57u);
    *c0 = philox_xor3(p1 >> 32, *c1, (philox_lanes){0} + k0);
    *c2 = philox_xor3(p0 >> 32, *c3, (philox_lanes){0} + k1);
    *c1 = p1;
    *c3 = p0;
}

/* The words of the blocks first_block ..., PHILOX_WORDS for each of `count` vectors, in order. A round waits
 * for the round before, some ten cycles; other vectors of blocks are what can be done meanwhile. Where the
 * counters differ in their low word alone, one product of the first round and one of the second are the same
 * for all blocks. */
FNN_INLINE void philox_batches(const int count, uint64_t seed, uint32_t stream, uint64_t first_block, uint32_t *out)
{
    philox_lanes lane, c0[4], c1[4], c2[4], c3[4];
    for (int j = 0; j < PHILOX_BLOCKS; j++) lane[j] = (uint64_t)j;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    const uint32_t w0 = 0x9E3779B9u, w1 = 0xBB67AE85u;
    if ((uint32_t)first_block <= UINT32_MAX - (uint32_t)(count * PHILOX_BLOCKS)) {
        const uint64_t same1 = (uint64_t)stream * 0xCD9E8D57u;
        const uint32_t first0 = (uint32_t)(same1 >> 32) ^ (uint32_t)(first_block >> 32) ^ k0;
        const uint64_t same0 = (uint64_t)first0 * 0xD2511F53u;
        const philox_lanes key0 = (philox_lanes){0} + ((uint32_t)same1 ^ (k0 + w0));
        const philox_lanes key1 = (philox_lanes){0} + ((uint32_t)(same0 >> 32) ^ (k1 + w1));
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) {
            philox_lanes p0 = philox_multiply(lane + (first_block + (uint64_t)(i * PHILOX_BLOCKS)), 0xD2511F53u);
            c1[i] = philox_multiply((p0 >> 32) ^ ((philox_lanes){0} + k1), 0xCD9E8D57u);
            c0[i] = (c1[i] >> 32) ^ key0;
            c2[i] = p0 ^ key1;
            c3[i] = (philox_lanes){0} + (uint32_t)same0;
        }
    } else {
        for (int i = 0; i < count; i++) {
            c0[i] = lane + (first_block + (uint64_t)(i * PHILOX_BLOCKS));
            c1[i] = c0[i] >> 32;
            c2[i] = (philox_lanes){0} + stream;
            c3[i] = (philox_lanes){0};
            philox_round(&c0[i], &c1[i], &c2[i], &c3[i], k0, k1);
            philox_round(&c0[i], &c1[i], &c2[i], &c3[i], k0 + w0, k1 + w1);
        }
    }
#pragma GCC unroll 8
    for (int round = 2; round < 10; round++) {
        const uint32_t r0 = k0 + (uint32_t)round * w0, r1 = k1 + (uint32_t)round * w1;
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) philox_round(&c0[i], &c1[i], &c2[i], &c3[i], r0, r1);
    }
#pragma GCC unroll 4
    for (int i = 0; i < count; i++, out += PHILOX_WORDS)
        philox_interleave(philox_pair(c0[i], c1[i]), philox_pair(c2[i], c3[i]), out);
}

#define PHILOX_AT_ONCE (VREGS >= 32 ? 4 : 2) /* vectors of blocks whose counters fit the registers */

static __attribute__((unused)) void philox_words(uint64_t seed, uint32_t stream, uint64_t first, long n,
                                                 uint32_t *out)
{
    uint64_t block = first / 4;
    long skip = (long)(first % 4);
    uint32_t batch[PHILOX_AT_ONCE * PHILOX_WORDS];
    while (n > 0) {
        int all = n + skip > 2 * PHILOX_WORDS; /* else two vectors hold the rest */
        long made = (all ? PHILOX_AT_ONCE : 2) * PHILOX_WORDS, used = made - skip < n ? made - skip : n;
        uint32_t *to = used == made ? out : batch;
        if (all) philox_batches(PHILOX_AT_ONCE, seed, stream, block, to);
        else philox_batches(2, seed, stream, block, to);
        if (to == batch) memcpy(out, batch + skip, (size_t)used * sizeof *out);
        out += used;
        n -= used;
        block += (uint64_t)(made / 4);
        skip = 0;
    }
}

/* A word is below the threshold with the probability rate (a drop). */
FNN_INLINE uint32_t philox_threshold(double rate) { return (uint32_t)(rate * 4294967296.0); }

/* Bit j: words[j] < threshold, 0 <= j < 16. */
FNN_INLINE uint64_t philox_below_16(const uint32_t *words, uint32_t threshold)
{
#if VBYTES == 64 && defined(__AVX512F__)
    return _mm512_cmplt_epu32_mask(_mm512_loadu_si512(words), _mm512_set1_epi32((int)threshold));
#elif VBYTES == 32 && defined(__AVX2__)
    /* signed comparisons alone are there */
    const __m256i sign = _mm256_set1_epi32((int)0x80000000u), limit = _mm256_set1_epi32((int)(threshold ^ 0x80000000u));
    uint64_t bits = 0;
    for (int half = 0; half < 2; half++) {
        __m256i word = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)words + half), sign);
        bits |= (uint64_t)_mm256_movemask_ps((__m256)_mm256_cmpgt_epi32(limit, word)) << 8 * half;
    }
    return bits;
#else
    uint64_t bits = 0;
    for (int j = 0; j < 16; j++) bits |= (uint64_t)(words[j] < threshold) << j;
    return bits;
#endif
}

#define PHILOX_RUN (PHILOX_AT_ONCE * PHILOX_WORDS > 64 ? PHILOX_AT_ONCE * PHILOX_WORDS : 64)

/* `bits` has room for n rounded up to PHILOX_RUN, and is filled to there. */
static __attribute__((unused)) void philox_below(uint64_t seed, uint32_t stream, uint64_t block, long n,
                                                 uint32_t threshold, uint64_t *bits)
{
    uint32_t words[PHILOX_RUN];
    for (; n > 0; n -= PHILOX_RUN, block += PHILOX_RUN / 4) {
        for (int made = 0; made < PHILOX_RUN; made += PHILOX_AT_ONCE * PHILOX_WORDS)
            philox_batches(PHILOX_AT_ONCE, seed, stream, block + (uint64_t)(made / 4), words + made);
        for (int made = 0; made < PHILOX_RUN; made += 64, bits++) {
            *bits = 0;
#pragma GCC unroll 4
            for (int j = 0; j < 64; j += 16) *bits |= philox_below_16(words + made + j, threshold) << j;
        }
    }
}

/* The word as a number in [0, 1): its upper 24 bits. */
FNN_INLINE double philox_uniform(uint32_t word) { return (double)(word >> 8) * 0x1p-24; }

#endif
