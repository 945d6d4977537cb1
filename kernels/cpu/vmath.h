/* exp, expm1, log, log1p, tanh, sigmoid and the normal distribution on vec: branch-free, no libm.
 *
 * Include after vec.h. Every function takes and gives one vec of REAL and is inlined.
 *
 *   vexp      overflow gives inf; below the smallest normal gives 0
 *   vexpm1    relative accuracy kept near 0; inf from 88.3 (f32) or 709.4 (f64) on, just before exp
 *   vlog      log(0) = -inf, log(x < 0) = NaN, denormals count as 0 (kernels flush them)
 *   vlog1p    relative accuracy kept near 0; vlog1p_unit is the short form for 0 <= x <= 1
 *   vtanh     relative accuracy kept near 0
 *   vsigmoid  relative accuracy kept in the negative tail, down to where the result is denormal
 *   vnormal   Phi(x) and exp(-x^2/2): for GELU and its derivative
 *
 * Bounds that tests/test_vmath.py holds: f32 6 ULP, f64 4 ULP (with and without FMA). NaN gives NaN,
 * +-inf the limits. All of it assumes that denormals are flushed, as they are in every kernel.
 *
 * How. Range reduction is Cody and Waite's: x = n ln2 + r with ln2 in two parts, the high one short
 * enough that n * ln2_high is exact without FMA. n comes from adding 1.5 * 2^(mantissa bits), so that
 * it lies in the low bits of the sum; the exponent bias is added with it, and one shift makes 2^n.
 * For exp, n = floor(x / ln2) rather than the nearest integer: then 2^n is a normal number wherever
 * e^x is one, is 0 below and inf above, and no further scaling step or select is needed. NaN survives
 * because the last operation multiplies by a polynomial in NaN.
 * The polynomials are minimax fits (Remez) of our own, with coefficients rounded to REAL.
 * Clamps are written vmin(limit, x): a NaN in x fails the comparison and stays.
 */
#ifndef FNN_VMATH_H
#define FNN_VMATH_H

#if REAL_IS_DOUBLE
#define VM_MANTISSA 52
#define VM_ROUND 6755399441055744.0 /* 1.5 * 2^52 */
#define VM_ROUND_BITS 0x4338000000000000
#define VM_BIAS 1023
#define VM_LOG2E 1.4426950408889634
#define VM_LN2_HIGH 0x1.62e42fee00000p-1 /* 32 bits: times an 11-bit n it is exact */
#define VM_LN2_LOW 0x1.a39ef35793c76p-33
#define VM_ONE_BITS 0x3ff0000000000000
#define VM_SQRT_HALF_BITS 0x3fe6a09e667f3bcd
#define VM_SMALLEST 0x1p-1022
#define VM_EXP_LOW -709.0895657128241  /* -1023 ln2: 2^n is 0 from here down */
#define VM_EXP_HIGH 710.0              /* 2^n is inf */
#define VM_EXPM1_LOW -50.0
#define VM_EXPM1_HIGH 709.4
#define VM_SIGMOID_HIGH 709.0
#define VM_INF __builtin_inf()
#define VM_NAN __builtin_nan("")
#else
#define VM_MANTISSA 23
#define VM_ROUND 12582912.0f /* 1.5 * 2^23 */
#define VM_ROUND_BITS 0x4b400000
#define VM_BIAS 127
#define VM_LOG2E 1.44269504f
#define VM_LN2_HIGH 0.693359375f /* 9 bits */
#define VM_LN2_LOW -2.12194440e-4f
#define VM_ONE_BITS 0x3f800000
#define VM_SQRT_HALF_BITS 0x3f3504f3
#define VM_SMALLEST 0x1p-126f
#define VM_EXP_LOW -88.0296919f
#define VM_EXP_HIGH 89.0f
#define VM_EXPM1_LOW -25.0f
#define VM_EXPM1_HIGH 88.3f
#define VM_SIGMOID_HIGH 88.0f
#define VM_INF __builtin_inff()
#define VM_NAN __builtin_nanf("")
#endif

/* c[0] + c[1] x + ... by Horner's rule; `terms` is a constant, so the coefficients are too. */
FNN_INLINE vec vm_polynomial(vec x, const REAL *c, int terms)
{
    vec p = vset(c[terms - 1]);
#pragma GCC unroll 32
    for (int i = terms - 2; i >= 0; i--) p = p * x + vset(c[i]);
    return p;
}

/* 1 / d to about 1 ULP, for 1 <= d <= 2^126. On AVX-512 an estimate and one Newton step: a quarter of
   the division's time. The FMAs are spelt out: alone, the small product would be flushed for large d. */
FNN_INLINE vec vm_reciprocal(vec d)
{
#if VBYTES == 64 && !REAL_IS_DOUBLE && defined(__AVX512F__)
    const __m512 r = _mm512_rcp14_ps((__m512)d);
    return (vec)_mm512_fmadd_ps(r, _mm512_fnmadd_ps((__m512)d, r, _mm512_set1_ps(1)), r);
#else
    return 1 / d;
#endif
}

/* n of x = n ln2 + r: `shifted` holds n + VM_BIAS in its low bits. */
FNN_INLINE vec vm_power_of_two(vec shifted) { return (vec)((ivec)shifted << VM_MANTISSA); }
FNN_INLINE vec vm_remainder(vec x, vec n) { return (x - n * VM_LN2_HIGH) - n * VM_LN2_LOW; }

/* exp(x) = scale * (1 + r * q) for x in [VM_EXP_LOW, VM_EXP_HIGH]; r in [0, ln2]. */
FNN_INLINE vec vm_exp_clamped(vec x)
{
#if REAL_IS_DOUBLE
    static const REAL q[] = {
        1.0, 0.5000000000000004, 0.16666666666664154, 0.041666666667224364, 0.00833333332673215,
        0.0013888889362269092, 0.00019841247892119052, 2.4802266816818477e-05,
        2.7543152964381384e-06, 2.775324507751045e-07, 2.333922770602819e-08,
        2.9291151989087362e-09};
#else
    static const REAL q[] = {0.999999821f, 0.500005543f, 0.166611716f,
                             0.0419109054f, 0.00779720442f, 0.00194651016f};
#endif
    vec shifted = (x * VM_LOG2E - (REAL)0.5) + (VM_ROUND + VM_BIAS);
    vec r = vm_remainder(x, shifted - (VM_ROUND + VM_BIAS));
    vec p = r * vm_polynomial(r, q, (int)(sizeof q / sizeof *q)) + 1;
    return p * vm_power_of_two(shifted);
}

FNN_INLINE vec vexp(vec x)
{
    return vm_exp_clamped(vmin(vset(VM_EXP_HIGH), vmax(vset(VM_EXP_LOW), x)));
}

/* exp(x) - 1 = 2^n (e^r - 1) + (2^n - 1) with |r| <= ln2 / 2: n = 0 near zero, so nothing cancels. */
FNN_INLINE vec vm_expm1_clamped(vec x)
{
#if REAL_IS_DOUBLE
    static const REAL q[] = {
        0.5, 0.1666666666666667, 0.041666666666666685, 0.008333333333326141,
        0.0013888888888874413, 0.00019841269874799162, 2.4801587347306657e-05,
        2.755725542737875e-06, 2.755725294418779e-07, 2.5105205720843843e-08,
        2.092157865553265e-09};
#else
    static const REAL q[] = {0.5f, 0.166665778f, 0.0416663736f, 0.00836317334f, 0.00139411096f};
#endif
    vec shifted = x * VM_LOG2E + (VM_ROUND + VM_BIAS);
    vec r = vm_remainder(x, shifted - (VM_ROUND + VM_BIAS));
    vec scale = vm_power_of_two(shifted);
    vec e = (r * r) * vm_polynomial(r, q, (int)(sizeof q / sizeof *q)) + r;
    return scale * e + (scale - 1);
}

FNN_INLINE vec vexpm1(vec x)
{
    vec y = vm_expm1_clamped(vmin(vset(VM_EXPM1_HIGH), vmax(vset(VM_EXPM1_LOW), x)));
    return SELECT(x > vset(VM_EXPM1_HIGH), vset(VM_INF), y);
}

/* log(2^k (1 + f)) for f in [sqrt(1/2) - 1, sqrt(2) - 1]. */
FNN_INLINE vec vm_log_reduced(vec k, vec f)
{
    vec half_square = (f * f) * (REAL)0.5;
#if REAL_IS_DOUBLE
    /* log(1 + f) = 2 atanh(s), s = f / (2 + f); 2 s = f - s f keeps f itself exact. */
    static const REAL q[] = {0.6666666666666734,  0.39999999999416647, 0.28571428742028354,
                             0.2222219860480687,  0.18183562805936523, 0.15314089020206917,
                             0.14795559025921132};
    vec s = f / (2 + f), z = s * s;
    vec series = z * vm_polynomial(z, q, (int)(sizeof q / sizeof *q));
    vec small = s * (half_square + series) + k * VM_LN2_LOW;
    return k * VM_LN2_HIGH - ((half_square - small) - f);
#else
    static const REAL q[] = {0.333333135f,  -0.250000447f, 0.200020671f,  -0.166661873f, 0.142197073f,
                             -0.12433736f, 0.119100936f,  -0.115387194f, 0.0655583218f};
    vec small = (f * f) * (f * vm_polynomial(f, q, (int)(sizeof q / sizeof *q))) + k * VM_LN2_LOW;
    return k * VM_LN2_HIGH + (f + (small - half_square));
#endif
}

/* x = 2^k m with m in [sqrt(1/2), sqrt(2)): gives m, sets k, and `biased` to the bits of k + bias. */
FNN_INLINE vec vm_split(vec x, vec *k, uvec *biased)
{
    uvec bits = (uvec)x + (UINT)(VM_ONE_BITS - VM_SQRT_HALF_BITS);
    *biased = bits >> VM_MANTISSA;
    *k = (vec)(*biased + (UINT)VM_ROUND_BITS) - (VM_ROUND + VM_BIAS);
    return (vec)((bits & (((UINT)1 << VM_MANTISSA) - 1)) + (UINT)VM_SQRT_HALF_BITS);
}

/* The logarithm's limits: y for a normal x, -inf at zero, NaN below, x itself for inf and NaN. */
FNN_INLINE vec vm_log_limits(vec x, vec y)
{
    vec outside = SELECT(x < 0, vset(VM_NAN), vset(-VM_INF));
    y = SELECT(x >= vset(VM_SMALLEST), y, outside);
    return SELECT(x < vset(VM_INF), y, x);
}

FNN_INLINE vec vlog(vec x)
{
    vec k;
    uvec biased;
    vec m = vm_split(x, &k, &biased);
    return vm_log_limits(x, vm_log_reduced(k, m - 1));
}

/* u = 1 + x rounded and its error c exactly (Knuth's two-sum); then log(2^k (m + c 2^-k)). For
   k = 0 the sum gives x back, so small x keep their relative accuracy. */
FNN_INLINE vec vlog1p(vec x)
{
    vec u = 1 + x, v = u - 1;
    vec c = (1 - (u - v)) + (x - v);
    vec k;
    uvec biased;
    vec m = vm_split(u, &k, &biased);
    vec inverse = (vec)((2 * VM_BIAS - biased) << VM_MANTISSA);
    /* For huge x, c 2^-k is far below half a unit of m; its scale would leave the exponent's range. */
    c = SELECT(u < vset((REAL)(1ull << VM_MANTISSA) * 4), c * inverse, (vec){0});
    vec y = vm_log_reduced(k, (m - 1) + c);
    return vm_log_limits(u, y);
}

/* log1p for 0 <= x <= 1, as log1p(exp(-|x|)) needs it: 1 + x has only two exponents, and no limits. */
FNN_INLINE vec vlog1p_unit(vec x)
{
    const ivec half = x > (REAL)0.41421356237309505; /* sqrt(2) - 1 */
    vec k = SELECT(half, vset(1), (vec){0});
    return vm_log_reduced(k, SELECT(half, (x - 1) * (REAL)0.5, x));
}

/* tanh. With FMA, f32: x P(x^2) / Q(x^2), minimax in the relative error on |x| <= 9.02, where tanh is
   1 to half a ULP. Otherwise expm1(2|x|) / (expm1(2|x|) + 2): slower, but the rounding of a polynomial
   without FMA would take the f32 form above its bound. */
FNN_INLINE vec vtanh(vec x)
{
#if !REAL_IS_DOUBLE && (defined(__FMA__) || defined(__ARM_FEATURE_FMA))
    static const REAL p[] = {1.0f, 0.133797178f, 0.00349403439f, 2.05834783e-05f, 1.33190674e-08f};
    static const REAL q[] = {1.0f, 0.46713033f, 0.0258710726f, 0.000328309256f, 7.76201766e-07f};
    x = vmin(vset(9.02f), vmax(vset(-9.02f), x));
    vec z = x * x;
    return (x * vm_polynomial(z, p, 5)) * vm_reciprocal(vm_polynomial(z, q, 5));
#else
    vec sign = (vec)((uvec)x & ~(((uvec){0} - 1) >> 1));
    vec e = vm_expm1_clamped(vmin(vset(40), 2 * vabs(x)));
    return (vec)((uvec)(e / (e + 2)) | (uvec)sign);
#endif
}

/* 1 / (1 + exp(-x)): for negative x the exponential dominates, so its relative accuracy is kept. */
FNN_INLINE vec vsigmoid(vec x)
{
    vec e = vm_exp_clamped(vmin(vset(VM_SIGMOID_HIGH), vmax(vset(VM_EXP_LOW), -x)));
    return vm_reciprocal(1 + e);
}

/* Phi(x), the standard normal distribution function, and *bell = exp(-x^2 / 2).
 *
 * With t = |x| and w = (t - a) / (t + a), exp(t^2/2) Phi(-t) (t + a) is smooth in w over the whole
 * half-line (the mapping of Shepherd and Laframboise 1981), so one polynomial does, and one division. */
FNN_INLINE vec vnormal(vec x, vec *bell)
{
#if REAL_IS_DOUBLE
    static const REAL q[] = {
        0.7552851304157515, -0.6078966419718921, 0.3871374007422148, -0.18652185795965856,
        0.06039657489092062, -0.0075401889666859, -0.003479692367041599, 0.001630818457019034,
        0.00013334430840079758, -0.00023109493100290755, -1.9082316672162793e-06,
        3.5144669102053956e-05, 7.165537680409588e-07, -5.920136916279596e-06,
        -6.29391140077131e-07, 1.0215298303417743e-06, 2.7126895908655777e-07,
        -1.5502834660635652e-07, -8.482215394006803e-08, 1.3445270390755976e-08,
        1.9255273566249156e-08, 1.7672798745236392e-09, -2.423944205643021e-09,
        -6.74657970255186e-10};
    const REAL a = 4, last = 38.6;
#else
    static const REAL q[] = {0.729083717f,     -0.50933212f,  0.230017886f,     -0.0472587235f,
                             -0.0104647102f,   0.00693961745f, 0.00102659932f, -0.000946528336f,
                             -0.000216543063f, 4.4722532e-05f};
    const REAL a = 3, last = 13.3f;
#endif
    vec t = vmin(vset(last), vabs(x));
    vec e = vm_exp_clamped(vmax(vset(VM_EXP_LOW), x * x * (REAL)-0.5));
    vec inverse = vm_reciprocal(t + a);
    vec w = (t - a) * inverse;
    vec tail = e * (inverse * vm_polynomial(w, q, (int)(sizeof q / sizeof *q)));
    *bell = e;
    return SELECT(x > 0, 1 - tail, tail);
}

#endif
