/* A team: the blocks that make the steps of the same rows of the batch together, each for some units.
 *
 *     FNN_EXCHANGE 0    block and cluster (K0, K1): every block holds all of the vectors that enter the
 *                       product in its shared memory, twice; who computes a number writes it to all of
 *                       them, through distributed shared memory; the barrier is the cluster's (or, for
 *                       a cluster of one, the block's)
 *     FNN_EXCHANGE 1    grid (K2): the vectors lie in device memory, twice, and are copied to shared
 *                       memory, FNN_ROWS rows at a time; every block has a flag, the number of the last
 *                       exchange that it has finished, and waits for all flags of its team
 *
 *     grid:  x  blocks of a team        a team's rows r = 0 .. rows - 1 are the batch's
 *            y  teams                   blockIdx.y * rows + r
 *
 * Twice, so that one barrier an exchange is enough: a block writes buffer e + 1 only after all have read
 * buffer e - 1, which is the same memory.
 */
#ifndef FNN_RNN_TEAM_CUH
#define FNN_RNN_TEAM_CUH

#include "rnn_base.cuh"

typedef struct {
    int rows;
    int stride;          /* numbers between the rows of a vector; what is not written stays zero */
    int buffers;
    real *stage;         /* shared: [buffers][rows][stride], grid: [FNN_ROWS][stride] */
    real *exchange;      /* grid: [buffers][teams][rows][stride] in device memory */
    unsigned *flags;     /* grid: of this team */
    unsigned exchanges;
} Team;

FNN_INLINE Team team_of(int rows, int stride, int buffers, [[maybe_unused]] real *exchange,
                        [[maybe_unused]] unsigned *flags)
{
    Team team;
    team.rows = rows;
    team.stride = stride;
    team.buffers = buffers;
    team.stage = dynamic_shared<real>();
    team.exchange = exchange;
    team.flags = flags + (i64)blockIdx.y * gridDim.x;
    team.exchanges = 0;
    return team;
}

/* Numbers of the stage, 16 bytes or a multiple. */
FNN_INLINE i64 stage_numbers(const Team &team)
{
    return (i64)(FNN_EXCHANGE ? FNN_ROWS : team.buffers * team.rows) * team.stride;
}

/* A barrier of all threads of all blocks, in halves: what was published before the arrival can be read after
 * the wait. Between them is the place for what no other block waits for: an arrival has to wait until all
 * that was written before it can be seen. */
FNN_INLINE void team_arrive([[maybe_unused]] Team &team)
{
#if FNN_EXCHANGE
    team.exchanges++;
    __syncthreads();
    if (threadIdx.x == 0) store_release(team.flags + blockIdx.x, team.exchanges);
#elif FNN_CLUSTER > 1
    cluster_arrive();
#endif
}

FNN_INLINE void team_wait([[maybe_unused]] const Team &team)
{
#if FNN_EXCHANGE
    for (int block = threadIdx.x; block < (int)gridDim.x; block += FNN_THREADS)
        while (load_acquire(team.flags + block) < team.exchanges) { }
    __syncthreads();
#elif FNN_CLUSTER > 1
    cluster_wait();
#else
    __syncthreads();
#endif
}

FNN_INLINE void team_sync(Team &team)
{
    team_arrive(team);
    team_wait(team);
}

/* The place of number k of row r in a buffer of this team. */
FNN_INLINE i64 exchange_at(const Team &team, int buffer, int r, int k)
{
#if FNN_EXCHANGE == 0
    return ((i64)buffer * team.rows + r) * team.stride + k;
#else
    return (((i64)buffer * gridDim.y + blockIdx.y) * team.rows + r) * team.stride + k;
#endif
}

FNN_INLINE void publish(const Team &team, int buffer, int r, int k, real v)
{
    const i64 at = exchange_at(team, buffer, r, k);
#if FNN_EXCHANGE == 0 && FNN_CLUSTER == 1
    team.stage[at] = v;
#elif FNN_EXCHANGE == 0
#pragma unroll
    for (int peer = 0; peer < FNN_CLUSTER; peer++) *cluster_peer(team.stage + at, peer) = v;
#else
    team.exchange[at] = v;
#endif
}

/* Before the first exchange: the padding is zero, and on the way nothing is left of another kernel. */
FNN_INLINE void clear_stage(Team &team)
{
    const i64 numbers = stage_numbers(team);
    for (i64 k = threadIdx.x; k < numbers; k += FNN_THREADS) team.stage[k] = narrow(0);
#if FNN_EXCHANGE == 0
    team_sync(team); /* the others may write here from now on */
#endif
}

/* FNN_ROWS rows of a buffer, from row `first`, in shared memory, `team.stride` apart. */
FNN_INLINE const real *staged(const Team &team, int buffer, int first)
{
#if FNN_EXCHANGE == 0
    return team.stage + exchange_at(team, buffer, first, 0);
#else
    const uint4 *from = reinterpret_cast<const uint4 *>(team.exchange + exchange_at(team, buffer, first, 0));
    uint4 *to = reinterpret_cast<uint4 *>(team.stage);
    const int count = FNN_ROWS * team.stride * (int)sizeof(real) / 16;
    for (int k = threadIdx.x; k < count; k += FNN_THREADS) to[k] = __ldcg(from + k);
    __syncthreads();
    return team.stage;
#endif
}

#endif
