/* CUDA for g++, as far as our kernels use it: included before every .cu (g++ -include).
 *
 * A device thread is a fiber of one OS thread (emulator.cpp). threadIdx and its kin are globals that
 * the scheduler sets before it switches to a fiber. A __shared__ array is static and lies in a
 * section of its own, which the scheduler swaps when it goes from one block to another.
 */
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
};

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};

#define FNN_MAKE(type, scalar)                                                                     \
    static inline type##2 make_##type##2(scalar x, scalar y) { return {x, y}; }
FNN_MAKE(float, float)
FNN_MAKE(uint, unsigned)
FNN_MAKE(int, int)
FNN_MAKE(double, double)
#undef FNN_MAKE
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

extern "C" {
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

void fnn_yield(void);                   /* a wait that another fiber has to end */
void fnn_block_sync(void);              /* __syncthreads */
unsigned fnn_block_vote(unsigned value, unsigned *all); /* the sum of all threads' values */
void fnn_warp_sync(unsigned mask);
void fnn_warp_exchange(unsigned mask, const void *in, void *out, size_t size, unsigned source);
unsigned fnn_warp_ballot(unsigned mask, int predicate);
void *fnn_dynamic_shared(void);
unsigned fnn_cluster_rank(void);
unsigned fnn_cluster_size(void);
void fnn_cluster_arrive(void);
void fnn_cluster_wait(void);
void *fnn_cluster_peer(void *shared, unsigned rank);
void fnn_trap(const char *what);
}

#define __global__ __attribute__((fnn_kernel))
#define __device__
#define __host__
#define __constant__ static const
#define __shared__ static __attribute__((section("fnn_shared")))
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __cluster_dims__(x, y, z) __attribute__((fnn_cluster(x)))
#define __grid_constant__
#define warpSize 32

/* ---------------------------------------------------------------- synchronisation */

static inline void __syncthreads() { fnn_block_sync(); }
static inline int __syncthreads_count(int p) { return (int)fnn_block_vote(p != 0, nullptr); }
static inline int __syncthreads_or(int p) { return fnn_block_vote(p != 0, nullptr) != 0; }
static inline int __syncthreads_and(int p)
{
    unsigned all;
    return fnn_block_vote(p != 0, &all) == all;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu) { fnn_warp_sync(mask); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}
static inline void __nanosleep(unsigned) { fnn_yield(); }
static inline void __trap() { fnn_trap("__trap()"); }

/* ---------------------------------------------------------------- warps */

static inline unsigned fnn_lane()
{
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
}

template <typename T> static inline T __shfl_sync(unsigned mask, T v, int source, int width = 32)
{
    T out;
    unsigned lane = fnn_lane();
    fnn_warp_exchange(mask, &v, &out, sizeof(T), lane / width * width + (unsigned)source % width);
    return out;
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T v, int by, int width = 32)
{
    T out;
    unsigned lane = fnn_lane(), source = lane ^ (unsigned)by;
    fnn_warp_exchange(mask, &v, &out, sizeof(T), source / width > lane / width ? lane : source);
    return out;
}

template <typename T>
static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32)
{
    T out;
    unsigned lane = fnn_lane(), source = lane + by;
    fnn_warp_exchange(mask, &v, &out, sizeof(T), source / width == lane / width ? source : lane);
    return out;
}

template <typename T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32)
{
    T out;
    unsigned lane = fnn_lane(), first = lane / width * width;
    fnn_warp_exchange(mask, &v, &out, sizeof(T), lane - first >= by ? lane - by : lane);
    return out;
}

static inline unsigned __ballot_sync(unsigned mask, int p) { return fnn_warp_ballot(mask, p); }
static inline int __any_sync(unsigned mask, int p) { return fnn_warp_ballot(mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) { return fnn_warp_ballot(mask, !p) == 0; }

/* ---------------------------------------------------------------- atomics, on integers only */

#define FNN_ATOMIC(type)                                                                           \
    static inline type atomicAdd(type *p, type v) { type old = *p; *p = old + v; return old; }     \
    static inline type atomicSub(type *p, type v) { type old = *p; *p = old - v; return old; }     \
    static inline type atomicExch(type *p, type v) { type old = *p; *p = v; return old; }          \
    static inline type atomicMax(type *p, type v) { type old = *p; *p = old > v ? old : v; return old; } \
    static inline type atomicMin(type *p, type v) { type old = *p; *p = old < v ? old : v; return old; } \
    static inline type atomicOr(type *p, type v) { type old = *p; *p = old | v; return old; }      \
    static inline type atomicAnd(type *p, type v) { type old = *p; *p = old & v; return old; }     \
    static inline type atomicCAS(type *p, type c, type v) { type old = *p; *p = old == c ? v : old; return old; }
FNN_ATOMIC(int)
FNN_ATOMIC(unsigned)
FNN_ATOMIC(unsigned long long)
#undef FNN_ATOMIC

/* ---------------------------------------------------------------- memory */

template <typename T> static inline T __ldg(const T *p) { return *p; }
template <typename T> static inline T __ldca(const T *p) { return *p; }
template <typename T> static inline T __ldcg(const T *p) { return *p; }
template <typename T> static inline T __ldcs(const T *p) { return *p; }
template <typename T> static inline T __ldcv(const T *p) { return *(const volatile T *)p; }
template <typename T> static inline void __stcg(T *p, T v) { *p = v; }
template <typename T> static inline void __stcs(T *p, T v) { *p = v; }
template <typename T> static inline void __stwt(T *p, T v) { *p = v; }

/* ---------------------------------------------------------------- arithmetic */

#define FNN_MINMAX(type)                                                                           \
    static inline type min(type a, type b) { return a < b ? a : b; }                               \
    static inline type max(type a, type b) { return a > b ? a : b; }
FNN_MINMAX(int)
FNN_MINMAX(unsigned)
FNN_MINMAX(long)
FNN_MINMAX(long long)
FNN_MINMAX(unsigned long)
FNN_MINMAX(unsigned long long)
#undef FNN_MINMAX
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }

static inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline float __fadd_rn(float a, float b) { volatile float c = a + b; return c; }
static inline float __fmul_rn(float a, float b) { volatile float c = a * b; return c; }
static inline double __dadd_rn(double a, double b) { volatile double c = a + b; return c; }
static inline double __dmul_rn(double a, double b) { volatile double c = a * b; return c; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fdividef(float a, float b) { return a / b; }
/* glibc has these names for itself. */
#define __expf(a) expf(a)
#define __logf(a) logf(a)
static inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }
static inline double rsqrt(double a) { return 1.0 / sqrt(a); }

template <typename To, typename From> static inline To fnn_bits(From v)
{
    static_assert(sizeof(To) == sizeof(From));
    To out;
    memcpy(&out, &v, sizeof(To));
    return out;
}
static inline unsigned __float_as_uint(float v) { return fnn_bits<unsigned>(v); }
static inline int __float_as_int(float v) { return fnn_bits<int>(v); }
static inline float __uint_as_float(unsigned v) { return fnn_bits<float>(v); }
static inline float __int_as_float(int v) { return fnn_bits<float>(v); }
static inline long long __double_as_longlong(double v) { return fnn_bits<long long>(v); }
static inline double __longlong_as_double(long long v) { return fnn_bits<double>(v); }

/* ---------------------------------------------------------------- launching */

/* What the host calls for a kernel: made from its own type, so that no argument is guessed. */
template <size_t... i> struct FnnIndices {
};
template <size_t n, size_t... i> struct FnnRange : FnnRange<n - 1, n - 1, i...> {
};
template <size_t... i> struct FnnRange<0, i...> {
    typedef FnnIndices<i...> type;
};

template <typename... A, size_t... i>
static inline void fnn_apply(void (*f)(A...), void **args, FnnIndices<i...>)
{
    f(*reinterpret_cast<A *>(args[i])...);
}
template <typename... A> static inline void fnn_apply(void (*f)(A...), void **args)
{
    fnn_apply(f, args, typename FnnRange<sizeof...(A)>::type());
}
template <typename... A> static inline int fnn_sizes(void (*)(A...), size_t *out)
{
    size_t own[] = {sizeof(A)..., 0};
    for (size_t k = 0; k < sizeof...(A); k++)
        out[k] = own[k];
    return sizeof...(A);
}

extern "C" {
extern char __start_fnn_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_fnn_shared[] __attribute__((weak, visibility("hidden")));
}

/* Where the kernels' __shared__ arrays lie; no kernel with any: twice null. */
extern "C" inline __attribute__((used)) void fnn_section(void **bounds)
{
    bounds[0] = __start_fnn_shared;
    bounds[1] = __stop_fnn_shared;
}
