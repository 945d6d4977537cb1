/* What every kernel uses: the dtype, offsets, barriers between blocks, clusters, reductions.
 *
 * FNN_DTYPE says which dtype a module is for:
 *
 *     FNN_DTYPE   real (in memory)   wide (in registers)
 *     16          __half             float
 *     17          __nv_bfloat16      float
 *     32          float              float
 *     64          double             double
 *
 * load(p) and store(p, v) go between the two. Offsets are 64 bit (`Offset`).
 *
 * The same files are compiled by g++ for tests without a GPU (FASTNN_EMULATED, see
 * tests/cuda_emulator): a device thread is then a fiber. So that this works, a kernel
 *   - is `extern "C" __global__ void name(...)`, one declaration that no template makes;
 *   - declares __shared__ arrays in the body of the kernel itself and hands them on by pointer;
 *   - gets dynamic shared memory by dynamic_shared<T>(), and lets other blocks of a cluster reach
 *     into that memory only;
 *   - waits for other blocks by load_acquire() in a loop, nothing else;
 *   - keeps inline PTX behind #ifndef FASTNN_EMULATED.
 */
#ifndef FNN_DEVICE_CUH
#define FNN_DEVICE_CUH

#ifndef FNN_DTYPE
#error "FNN_DTYPE is needed: 16, 17, 32 or 64"
#endif

#if FNN_DTYPE == 16
#include <cuda_fp16.h>
typedef __half real;
typedef float wide;
#elif FNN_DTYPE == 17
#include <cuda_bf16.h>
typedef __nv_bfloat16 real;
typedef float wide;
#elif FNN_DTYPE == 32
typedef float real;
typedef float wide;
#elif FNN_DTYPE == 64
typedef double real;
typedef double wide;
#else
#error "FNN_DTYPE is 16, 17, 32 or 64"
#endif

typedef long long Offset;

#define FNN_INLINE static __device__ __forceinline__

/* ---------------------------------------------------------------- memory and registers */

FNN_INLINE float widen(float v) { return v; }
FNN_INLINE double widen(double v) { return v; }
#if FNN_DTYPE == 16
FNN_INLINE float widen(__half v) { return __half2float(v); }
FNN_INLINE __half narrow(float v) { return __float2half_rn(v); }
#elif FNN_DTYPE == 17
FNN_INLINE float widen(__nv_bfloat16 v) { return __bfloat162float(v); }
FNN_INLINE __nv_bfloat16 narrow(float v) { return __float2bfloat16_rn(v); }
#else
FNN_INLINE real narrow(wide v) { return v; }
#endif

FNN_INLINE wide load(const real *p) { return widen(*p); }
FNN_INLINE void store(real *p, wide v) { *p = narrow(v); }

/* N elements that lie side by side, moved as one access of up to 16 bytes. */
template <typename T, int N> struct alignas(sizeof(T) * N) Pack {
    T at[N];
};

/* ---------------------------------------------------------------- shared memory, clusters */

/* The dynamic shared memory of this block, aligned to 128 bytes. */
template <typename T> static __device__ __forceinline__ T *dynamic_shared()
{
#ifdef FASTNN_EMULATED
    return reinterpret_cast<T *>(fnn_dynamic_shared());
#else
    extern __shared__ __align__(128) unsigned char fnn_dynamic[];
    return reinterpret_cast<T *>(fnn_dynamic);
#endif
}

#if defined(FASTNN_EMULATED)
FNN_INLINE unsigned cluster_rank() { return fnn_cluster_rank(); }
FNN_INLINE unsigned cluster_size() { return fnn_cluster_size(); }
FNN_INLINE void cluster_arrive() { fnn_cluster_arrive(); }
FNN_INLINE void cluster_wait() { fnn_cluster_wait(); }
template <typename T> static inline T *cluster_peer(T *shared, unsigned rank)
{
    return static_cast<T *>(fnn_cluster_peer(shared, rank));
}
#elif __CUDA_ARCH__ >= 900
/* The rank of this block in its cluster (one dimension), and how many there are. */
FNN_INLINE unsigned cluster_rank()
{
    unsigned rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

FNN_INLINE unsigned cluster_size()
{
    unsigned size;
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return size;
}

/* A barrier of all threads of the cluster, in halves; what was written to any shared memory before
 * the arrival is seen after the wait. */
FNN_INLINE void cluster_arrive()
{
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

FNN_INLINE void cluster_wait()
{
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* The same place of the shared memory of another block of the cluster. */
template <typename T> static __device__ __forceinline__ T *cluster_peer(T *shared, unsigned rank)
{
    T *peer;
    asm volatile("mapa.u64 %0, %1, %2;" : "=l"(peer) : "l"(shared), "r"(rank));
    return peer;
}
#endif

#if defined(FASTNN_EMULATED) || __CUDA_ARCH__ >= 900
FNN_INLINE void cluster_sync()
{
    cluster_arrive();
    cluster_wait();
}
#endif

/* ---------------------------------------------------------------- flags between blocks */

/* Read a flag that another block sets; what that block wrote before store_release is seen after. */
FNN_INLINE unsigned load_acquire(const unsigned *flag)
{
#ifdef FASTNN_EMULATED
    fnn_yield();
    return *flag;
#elif __CUDA_ARCH__ >= 700
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
    return value;
#endif
}

FNN_INLINE void store_release(unsigned *flag, unsigned value)
{
#ifdef FASTNN_EMULATED
    *flag = value;
#elif __CUDA_ARCH__ >= 700
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
#endif
}

/* ---------------------------------------------------------------- sums, in a fixed order */

#define FNN_WARP 32
#define FNN_ALL_LANES 0xffffffffu

/* The sum (or the larger) over the lanes of a warp, in every lane. A butterfly: both lanes of a pair
 * add the same two numbers, so all lanes hold the same bits. */
template <typename T> static __device__ __forceinline__ T warp_sum(T v)
{
    for (int step = FNN_WARP / 2; step; step /= 2)
        v += __shfl_xor_sync(FNN_ALL_LANES, v, step);
    return v;
}

template <typename T> static __device__ __forceinline__ T warp_max(T v)
{
    for (int step = FNN_WARP / 2; step; step /= 2) {
        T other = __shfl_xor_sync(FNN_ALL_LANES, v, step);
        v = other > v || other != other ? other : v; /* a NaN wins */
    }
    return v;
}

/* The sum over a block of whole warps, in every thread. `slots` has one element a warp. */
template <typename T> static __device__ __forceinline__ T block_sum(T v, T *slots)
{
    const int lane = threadIdx.x % FNN_WARP, warp = threadIdx.x / FNN_WARP;
    const int warps = blockDim.x / FNN_WARP;
    v = warp_sum(v);
    __syncthreads(); /* the slots may still be read from the sum before */
    if (lane == 0)
        slots[warp] = v;
    __syncthreads();
    return warp_sum(lane < warps ? slots[lane] : T(0));
}

/* The place of this thread in a one-dimensional grid, and the number of its threads. */
FNN_INLINE Offset thread_index() { return (Offset)blockIdx.x * blockDim.x + threadIdx.x; }
FNN_INLINE Offset thread_count() { return (Offset)gridDim.x * blockDim.x; }

#endif
