/* float32 products on the AMX unit: each operand as three bf16 parts, six tile products.
 *
 *     a = a1 + a2 + a3      8 bits of the fraction each: all 24 of a float32, exactly
 *     a b = a1 b3 + a1 b2 + a2 b2 + a2 b1 + a3 b1 + a1 b1      + what is under 2^-24 |a b|
 *
 * A tile product adds 16 x 32 times 32 x 16 in 16 cycles, so six of them make 85 float32 products a
 * cycle, where two AVX-512 FMAs make 32. The products are added within a tile in pairs of chains of 16,
 * which rounds less often than one FMA after another.
 *
 *     left   [k blocks][3][ld][32]            right  [column vectors][k blocks][3][16 pairs][16][2]
 *            rows as they come, 32 columns           two rows of B side by side, 16 columns
 *            of A to a block                         (what the unit reads as one tile)
 *
 *                       k block of 32:  b1 b2 b3
 *                       +---------+---------+
 *                       | 16 cols | 16 cols |         2 x 2 tiles of sums in tmm0..3, two tiles of A in
 *      a1 a2 a3         +---------+---------+         tmm4, tmm5, two of B in tmm6, tmm7: in the order
 *      +-------------+  |  tmm0   |  tmm1   |         a1b3 a1b2 a2b2 a2b1 a3b1 a1b1 each product changes
 *      | 16 rows x 32|  +---------+---------+         one side only: 14 loads for 24 products.
 *      | 16 rows x 32|  |  tmm2   |  tmm3   |         With 16 rows or fewer: 1 x 4, a1 a2 a3 in tmm4..6
 *      +-------------+  +---------+---------+         and B in tmm7: 15 loads for 24. Three tiles of rows:
 *                                                     3 x 1, A in tmm4..6, B in tmm7: 15 loads for 18.
 *
 * The order of a sum's products is the same in all three, so a row's result does not depend on the rows
 * beside it. A product waits 52 cycles for the one before it in the same sum, and the unit takes a new one
 * every 16: fewer than three sums at once would leave it idle, which is what 3 x 1 is for.
 *
 * Infinities, NaN and values above 2^127 (1 + 2^-1 + .. ) do not split. Whoever splits says so, and the
 * call is made again with FMA (mac.h). Of values under 2^-108 the last part is a denormal and is lost:
 * an error under 2^-126.
 */
#ifndef FNN_AMX_H
#define FNN_AMX_H

#if defined(__AMX_BF16__) && VBYTES == 64 && !REAL_IS_DOUBLE
#define FNN_HAS_AMX 1
#else
#define FNN_HAS_AMX 0
#endif

typedef uint16_t bf16;

#define AMX_K 32                    /* products in a block of k */
#define AMX_RIGHT (3 * 16 * 32)     /* numbers of a right block: three tiles */

/* Rows of a left operand in memory: room to read 16 from any row on, and no distance between parts that
 * is a multiple of 2 kB, so that the tiles of a row do not share cache sets. */
static inline long amx_ld(long rows) { return (rows + 30) / 16 * 16 | 16; }

#if FNN_HAS_AMX

/* ---------------------------------------------------------------- splitting */

/* Three bf16 in the upper halves of the lanes (the lower are zero); nonzero when a lane does not split. */
FNN_INLINE __mmask16 amx_split(vec a, __m512i part[3])
{
    const __m512i half = _mm512_set1_epi32(0x8000), top = _mm512_set1_epi32((int)0xffff0000u);
    part[0] = _mm512_and_si512(_mm512_add_epi32((__m512i)a, half), top);
    __m512 rest = (__m512)a - (__m512)part[0];
    part[1] = _mm512_and_si512(_mm512_add_epi32((__m512i)rest, half), top);
    rest -= (__m512)part[1];
    part[2] = (__m512i)rest;
    return _mm512_cmp_ps_mask(rest, rest, _CMP_UNORD_Q);
}

/* The upper halves of the lanes of a, then those of b. */
FNN_INLINE __m512i amx_join(__m512i a, __m512i b)
{
    static const uint16_t odd[32] __attribute__((aligned(64))) = {
        1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
        33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    return _mm512_permutex2var_epi16(a, *(const __m512i *)odd, b);
}

/* Two vectors as 32 numbers of k, a0 b0 a1 b1 .. : any order serves that both operands share, and this one takes
 * the fewest instructions. What does not split gives NaN in each sum that it enters, which the caller looks for. */
FNN_INLINE void amx_split_pair(vec a, vec b, __m512i part[3])
{
    const __m512i half = _mm512_set1_epi32(0x8000), top = _mm512_set1_epi32((int)0xffff0000u);
    for (int j = 0; j < 2; j++) {
        __m512i low = _mm512_add_epi32((__m512i)a, half), high = _mm512_add_epi32((__m512i)b, half);
        high = _mm512_and_si512(high, top);
        a -= (vec)_mm512_and_si512(low, top);
        b -= (vec)high;
        part[j] = _mm512_or_si512(_mm512_srli_epi32(low, 16), high);
    }
    part[2] = _mm512_or_si512(_mm512_srli_epi32((__m512i)a, 16), (__m512i)b);
}

/* Such a pair into row r of a left operand, or as pair i of a right one. */
FNN_INLINE void amx_store_left(bf16 *left, long ld, long r, vec a, vec b)
{
    __m512i part[3];
    amx_split_pair(a, b, part);
    left += r * AMX_K;
    for (int j = 0; j < 3; j++, left += ld * AMX_K) _mm512_store_si512(left, part[j]);
}

FNN_INLINE void amx_store_right(bf16 *right, long i, vec a, vec b)
{
    __m512i part[3];
    amx_split_pair(a, b, part);
    for (int j = 0; j < 3; j++) _mm512_store_si512(right + (j * 16 + i) * 32, part[j]);
}

/* Where columns u .. u + 15 of row r of a left operand begin, u a multiple of 16. `left` is at its row 0. */
FNN_INLINE bf16 *amx_left_at(bf16 *left, long ld, long r, long u)
{
    unsigned long block = (unsigned long)u / AMX_K; /* signed, the division would take four instructions more */
    return left + (block * 3 * ld + r) * AMX_K + (unsigned long)u % AMX_K;
}

/* Sixteen columns of one row there, parts `part` numbers apart. */
FNN_INLINE __mmask16 amx_split_to(bf16 *dst, long part, vec a)
{
    __m512i parts[3];
    __mmask16 bad = amx_split(a, parts);
    for (int j = 0; j < 3; j++, dst += part)
        _mm256_store_si256((__m256i *)dst, _mm512_castsi512_si256(amx_join(parts[j], parts[j])));
    return bad;
}

FNN_INLINE __mmask16 amx_split_left(bf16 *left, long ld, long r, long u, vec a)
{
    return amx_split_to(amx_left_at(left, ld, r, u), ld * AMX_K, a);
}

/* One right block from the rows of a matrix: rows 0 .. 31 of 16 columns, `load(context, row)` each. */
#define AMX_PACK_RIGHT(dst, bad, LOAD)                                                            \
    for (long i_ = 0; i_ < 16; i_++) {                                                            \
        __m512i even_[3], odd_[3];                                                                \
        bad |= amx_split(LOAD(2 * i_), even_) | amx_split(LOAD(2 * i_ + 1), odd_);                \
        for (int j_ = 0; j_ < 3; j_++)                                                            \
            _mm512_store_si512((dst) + (j_ * 16 + i_) * 32,                                       \
                               _mm512_or_si512(_mm512_srli_epi32(even_[j_], 16), odd_[j_]));      \
    }

/* One right block from rows that are its columns: LOAD(n, h) is k = 16 h .. 16 h + 15 of column n. */
#define AMX_PACK_RIGHT_TRANSPOSED(dst, bad, LOAD)                                                 \
    do {                                                                                          \
        vec pairs_[3][LANES];                                                                     \
        for (long n_ = 0; n_ < 16; n_++) {                                                        \
            __m512i low_[3], high_[3];                                                            \
            bad |= amx_split(LOAD(n_, 0), low_) | amx_split(LOAD(n_, 1), high_);                  \
            for (int j_ = 0; j_ < 3; j_++) pairs_[j_][n_] = (vec)amx_join(low_[j_], high_[j_]);   \
        }                                                                                         \
        for (int j_ = 0; j_ < 3; j_++) {                                                          \
            transpose_lanes(pairs_[j_]);                                                          \
            memcpy((dst) + j_ * 16 * 32, pairs_[j_], 1024);                                       \
        }                                                                                         \
    } while (0)

/* Sixteen rows of a left operand (ld 16) from its columns: lines[k][j] is row j, column k of 32. */
static __attribute__((unused)) __mmask16 amx_pack_left_transposed(bf16 *dst, const REAL *lines, long stride)
{
    vec low[LANES], high[LANES];
    __mmask16 bad = 0;
    for (long k = 0; k < 16; k++) {
        low[k] = vload(lines + k * stride);
        high[k] = vload(lines + (16 + k) * stride);
    }
    transpose_lanes(low);
    transpose_lanes(high);
    for (long j = 0; j < 16; j++, dst += AMX_K) {
        __m512i a[3], b[3];
        bad |= amx_split(low[j], a) | amx_split(high[j], b);
        for (int i = 0; i < 3; i++) _mm512_store_si512(dst + i * 16 * AMX_K, amx_join(a[i], b[i]));
    }
    return bad;
}

/* ---------------------------------------------------------------- tiles */

/* All tiles of `rows` rows, 1 to 16, but tmm7, which holds B; with 16 any tile may hold B. */
static inline void amx_begin(long rows)
{
    struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        config.bytes[i] = 64;
        config.rows[i] = i == 7 ? 16 : (uint8_t)rows;
    }
    _tile_loadconfig(&config);
}

static inline void amx_end(void) { _tile_release(); }

/* A `rest` (below) that fetches what the next product reads into L2: `lines` cache lines each time. */
typedef struct {
    const char *at;
    long lines;
} amx_ahead;

FNN_INLINE void amx_fetch(void *context)
{
    amx_ahead *a = context;
    for (long i = 0; i < a->lines; i++) __builtin_prefetch(a->at + i * 64, 0, 2);
    a->at += a->lines * 64;
}

/* What is done while the tile unit works. It needs few instructions (38 in 384 cycles), so the vector
 * units stand idle beside it: other work is mixed in between its instructions, `rest` being called six
 * times a block of k in a 2 x 2 product, and once a vector and block in a 1 x 4 one. Constant at compile
 * time, so that it is inlined. */
typedef void (*amx_rest)(void *context);

FNN_INLINE void amx_no_rest(void *context) { (void)context; }

#define AMX_LOAD(t, p) _tile_loadd(t, p, 64)
#define AMX_FOUR                 \
    _tile_dpbf16ps(0, 4, 6);     \
    _tile_dpbf16ps(1, 4, 7);     \
    _tile_dpbf16ps(2, 5, 6);     \
    _tile_dpbf16ps(3, 5, 7);     \
    rest(context);

FNN_INLINE void amx_zero_four(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

/* tmm0..3 from or to four tiles of sums; `stride` bytes between rows. */
FNN_INLINE void amx_load_2x2(const REAL *a, const REAL *b, const REAL *c, const REAL *d, long stride)
{
    _tile_loadd(0, a, stride);
    _tile_loadd(1, b, stride);
    _tile_loadd(2, c, stride);
    _tile_loadd(3, d, stride);
}

FNN_INLINE void amx_store_2x2(REAL *a, REAL *b, REAL *c, REAL *d, long stride)
{
    _tile_stored(0, a, stride);
    _tile_stored(1, b, stride);
    _tile_stored(2, c, stride);
    _tile_stored(3, d, stride);
}

/* tmm0..3 += one block of k: 32 rows of left, `stride` bytes apart, the second 16 `below` numbers after the first, its parts
 * `part` numbers apart, times two column vectors. Rows may overlap. */
FNN_INLINE void amx_2x2_block(const bf16 *left, long stride, long part, long below, const bf16 *right0, const bf16 *right1,
                              const amx_rest rest, void *context)
{
    _tile_loadd(4, left, stride);
    AMX_LOAD(6, right0 + 1024);
    AMX_LOAD(7, right1 + 1024);
    _tile_loadd(5, left + below, stride);
    AMX_FOUR /* a1 b3 */
    AMX_LOAD(6, right0 + 512);
    AMX_LOAD(7, right1 + 512);
    AMX_FOUR /* a1 b2 */
    _tile_loadd(4, left + part, stride);
    _tile_loadd(5, left + below + part, stride);
    AMX_FOUR /* a2 b2 */
    AMX_LOAD(6, right0);
    AMX_LOAD(7, right1);
    AMX_FOUR /* a2 b1 */
    _tile_loadd(4, left + 2 * part, stride);
    _tile_loadd(5, left + below + 2 * part, stride);
    AMX_FOUR /* a3 b1 */
    _tile_loadd(4, left, stride);
    _tile_loadd(5, left + below, stride);
    AMX_FOUR /* a1 b1 */
}

/* The same for several blocks, with rows of a block side by side. */
FNN_INLINE void amx_2x2(const bf16 *left, long ld, long below, const bf16 *right0, const bf16 *right1,
                        long blocks, const amx_rest rest, void *context)
{
    long part = ld * AMX_K;
    for (long k = 0; k < blocks; k++, left += 3 * part, right0 += AMX_RIGHT, right1 += AMX_RIGHT)
        amx_2x2_block(left, 64, part, below, right0, right1, rest, context);
}

/* As amx_2x2, of a left operand [k blocks][3][16][32], the second 16 rows `below` numbers further on, and a right one
 * [3][pairs][16][2], parts `part` apart: k may begin at any pair. */
FNN_INLINE void amx_2x2_pairs(const bf16 *left, long below, const bf16 *right0, const bf16 *right1, long part, long blocks)
{
    const amx_rest rest = amx_no_rest;
    void *context = NULL;
    for (long k = 0; k < blocks; k++, left += 3 * 512, right0 += 512, right1 += 512) {
        AMX_LOAD(4, left);
        AMX_LOAD(6, right0 + 2 * part);
        AMX_LOAD(7, right1 + 2 * part);
        AMX_LOAD(5, left + below);
        AMX_FOUR /* a1 b3 */
        AMX_LOAD(6, right0 + part);
        AMX_LOAD(7, right1 + part);
        AMX_FOUR /* a1 b2 */
        AMX_LOAD(4, left + 512);
        AMX_LOAD(5, left + below + 512);
        AMX_FOUR /* a2 b2 */
        AMX_LOAD(6, right0);
        AMX_LOAD(7, right1);
        AMX_FOUR /* a2 b1 */
        AMX_LOAD(4, left + 1024);
        AMX_LOAD(5, left + below + 1024);
        AMX_FOUR /* a3 b1 */
        AMX_LOAD(4, left);
        AMX_LOAD(5, left + below);
        AMX_FOUR /* a1 b1 */
    }
}

#define AMX_THREE(l, below)                \
    AMX_LOAD(4, l);                        \
    AMX_LOAD(5, (l) + (below));            \
    AMX_LOAD(6, (l) + 2 * (below));

#define AMX_COLUMN                         \
    _tile_dpbf16ps(0, 4, 7);               \
    _tile_dpbf16ps(1, 5, 7);               \
    _tile_dpbf16ps(2, 6, 7);               \
    rest(context);

/* tmm0..2 += 48 rows of left, each 16 `below` numbers after those before, times one column vector. */
FNN_INLINE void amx_3x1(const bf16 *left, long ld, long below, const bf16 *right, long blocks, const amx_rest rest,
                        void *context)
{
    long part = ld * AMX_K;
    for (long k = 0; k < blocks; k++, left += 3 * part, right += AMX_RIGHT) {
        AMX_THREE(left, below)
        AMX_LOAD(7, right + 1024);
        AMX_COLUMN /* a1 b3 */
        AMX_LOAD(7, right + 512);
        AMX_COLUMN /* a1 b2 */
        AMX_THREE(left + part, below)
        AMX_COLUMN /* a2 b2 */
        AMX_LOAD(7, right);
        AMX_COLUMN /* a2 b1 */
        AMX_THREE(left + 2 * part, below)
        AMX_COLUMN /* a3 b1 */
        AMX_THREE(left, below)
        AMX_COLUMN /* a1 b1 */
    }
}

#define AMX_VECTOR(v)                                 \
    if (mask >> v & 1) {                              \
        const bf16 *b = right + v * vector;           \
        AMX_LOAD(7, b + 1024);                        \
        _tile_dpbf16ps(v, 4, 7); /* a1 b3 */          \
        AMX_LOAD(7, b + 512);                         \
        _tile_dpbf16ps(v, 4, 7); /* a1 b2 */          \
        _tile_dpbf16ps(v, 5, 7); /* a2 b2 */          \
        AMX_LOAD(7, b);                               \
        _tile_dpbf16ps(v, 5, 7); /* a2 b1 */          \
        _tile_dpbf16ps(v, 6, 7); /* a3 b1 */          \
        _tile_dpbf16ps(v, 4, 7); /* a1 b1 */          \
        rest(context);                                \
    }

/* tmm0..3 += up to 16 rows of left times the column vectors in `mask`, `vector` numbers apart. */
FNN_INLINE void amx_1x4(const int mask, const bf16 *left, long ld, const bf16 *right, long vector, long blocks,
                        const amx_rest rest, void *context)
{
    long part = ld * AMX_K;
    for (long k = 0; k < blocks; k++, left += 3 * part, right += AMX_RIGHT) {
        AMX_LOAD(4, left);
        AMX_LOAD(5, left + part);
        AMX_LOAD(6, left + 2 * part);
        AMX_VECTOR(0)
        AMX_VECTOR(1)
        AMX_VECTOR(2)
        AMX_VECTOR(3)
    }
}

/* tmm0..3, those in `mask`, from or to sums [16][stride bytes], side by side. */
FNN_INLINE void amx_load_1x4(const int mask, const REAL *sums, long stride)
{
    if (mask & 1) _tile_loadd(0, sums, stride);
    if (mask & 2) _tile_loadd(1, sums + 16, stride);
    if (mask & 4) _tile_loadd(2, sums + 32, stride);
    if (mask & 8) _tile_loadd(3, sums + 48, stride);
}

FNN_INLINE void amx_store_1x4(const int mask, REAL *sums, long stride)
{
    if (mask & 1) _tile_stored(0, sums, stride);
    if (mask & 2) _tile_stored(1, sums + 16, stride);
    if (mask & 4) _tile_stored(2, sums + 32, stride);
    if (mask & 8) _tile_stored(3, sums + 48, stride);
}

/* Cuts n vectors of columns into pairs, and three at the end where n is odd. */
static inline long amx_cut_panels(panel *panels, long n)
{
    long count = 0;
    for (long block = 0; block < n; block += panels[count++].blocks)
        panels[count] = (panel){block, n - block == 3 || n - block == 1 ? (int)(n - block) : 2};
    return count;
}

/* How often amx_product calls `rest`. */
FNN_INLINE long amx_rests(long rows, const int nv, long blocks)
{
    return rows > 16 && nv % 2 == 0 ? nv / 2 * blocks * 6 : (rows > 16 ? 2 : 1) * nv * blocks;
}

/* Tiles are whole, rows are not: the last tile of more than 16 rows ends at the last row and makes some of the
 * tile before it again. Past that row lie rows that another thread may be writing now, and reading their lines
 * would cost both threads a hundred nanoseconds each. Of fewer than 16 rows, so many of those before them: */
FNN_INLINE long amx_rows_again(long rows, long before) { return rows < 16 ? min_long(16 - rows, before) : 0; }

/* sums [rows][nv vectors] = rows of left times nv <= 4 column vectors, rows <= 32. With 16 rows or more the tiles
 * must have 16; with fewer, as many as these have are read and written. */
FNN_INLINE void amx_product(vec (*sums)[4], const bf16 *left, long ld, long rows, const int nv,
                            const bf16 *right, long vector, long blocks, const amx_rest rest, void *context)
{
    long second = rows - 16;
    if (rows > 16 && nv % 2 == 0) {
        for (int v = 0; v < nv; v += 2) {
            amx_zero_four();
            amx_2x2(left, ld, second * AMX_K, right + v * vector, right + (v + 1) * vector, blocks, rest, context);
            amx_store_2x2((REAL *)&sums[0][v], (REAL *)&sums[0][v + 1], (REAL *)&sums[second][v],
                          (REAL *)&sums[second][v + 1], 4 * VBYTES);
        }
        return;
    }
    for (int i = 0; i < (rows > 16 ? 2 : 1); i++) {
        long r = i ? second : 0;
        amx_zero_four();
        amx_1x4((1 << nv) - 1, left + r * AMX_K, ld, right, vector, blocks, rest, context);
        amx_store_1x4((1 << nv) - 1, (REAL *)sums[r], 4 * VBYTES);
    }
}

#endif
#endif
