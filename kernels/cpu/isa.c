/* Which vector instructions this machine offers. */
#define _GNU_SOURCE
#include "runtime_private.h"

#include <stdatomic.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* The tile unit is there, and the system lets this process use it: the larger state of its threads must
 * be asked for once. GCC compiles for it from version 11 on. */
static int may_use_amx(void)
{
#if defined(__x86_64__) && defined(__linux__) && __GNUC__ >= 11
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18, AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };
    static atomic_int known; /* 0: not asked, else 1 + answer */
    unsigned a, b, c, d;
    if (!known) {
        int there = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_BF16) && (d & AMX_TILE);
        known = 1 + (there && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0);
    }
    return known - 1;
#else
    return 0;
#endif
}

/* These checks include the operating system's support for the wide registers. */
int fnn_best_isa(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return FNN_BASE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl"))
        return FNN_AVX2;
    return may_use_amx() ? FNN_AMX : FNN_AVX512;
#else
    return FNN_BASE;
#endif
}
