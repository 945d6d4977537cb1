/* __nv_bfloat16 for g++: the upper half of a float, rounded to nearest even. */
#pragma once

struct alignas(2) __nv_bfloat16 {
    unsigned short bits;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

static inline float __bfloat162float(__nv_bfloat16 v)
{
    return __uint_as_float((unsigned)v.bits << 16);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float v)
{
    unsigned bits = __float_as_uint(v);
    if (v != v)
        return {0x7fff};
    return {(unsigned short)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}
static inline __nv_bfloat16 __float2bfloat16(float v) { return __float2bfloat16_rn(v); }
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short v) { return {v}; }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.bits; }
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
