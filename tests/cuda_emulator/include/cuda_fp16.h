/* __half for g++: what it is in memory, and the conversions. */
#pragma once

struct alignas(2) __half {
    unsigned short bits;
};
struct alignas(4) __half2 {
    __half x, y;
};
typedef __half half;
typedef __half2 half2;

static inline float __half2float(__half v) { return (float)fnn_bits<_Float16>(v.bits); }
static inline __half __float2half_rn(float v) { return {fnn_bits<unsigned short>((_Float16)v)}; }
static inline __half __float2half(float v) { return __float2half_rn(v); }
static inline __half __ushort_as_half(unsigned short v) { return {v}; }
static inline unsigned short __half_as_ushort(__half v) { return v.bits; }
static inline __half2 __floats2half2_rn(float x, float y)
{
    return {__float2half_rn(x), __float2half_rn(y)};
}
static inline float2 __half22float2(__half2 v) { return {__half2float(v.x), __half2float(v.y)}; }
