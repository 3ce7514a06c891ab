// Comparisons, choices and functions of fp32 vectors. Everything is free of branches and works lane by lane, so a lane
// gets the same bits whatever its index and its neighbours. Polynomials are minimax fits with the coefficients rounded
// one after the other; the ulps in the comments were measured over all floats of the range.
#pragma once
#include "../simd.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

typedef uint32_t UVec __attribute__((vector_size(sizeof(Vec))));
typedef float Half __attribute__((vector_size(sizeof(Vec) / 2)));
typedef double DVec __attribute__((vector_size(sizeof(Vec))));  // lanes / 2 doubles
typedef int64_t LVec __attribute__((vector_size(sizeof(Vec))));
typedef uint64_t ULVec __attribute__((vector_size(sizeof(Vec))));

SACCADE_INLINE UVec ubits(Vec v) { return reinterpret_cast<UVec>(v); }
SACCADE_INLINE Vec from_ubits(UVec v) { return reinterpret_cast<Vec>(v); }
SACCADE_INLINE UVec usplat(uint32_t x) { return x + UVec{}; }

// One truth per lane. Comparisons with NaN are false.
#if defined(__AVX512F__)
typedef __mmask16 Mask;
SACCADE_INLINE Mask less(Vec a, Vec b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ); }
SACCADE_INLINE Mask equal(Vec a, Vec b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ); }
SACCADE_INLINE Mask is_nan(Vec a) { return _mm512_cmp_ps_mask((__m512)a, (__m512)a, _CMP_UNORD_Q); }
SACCADE_INLINE Vec select(Mask m, Vec yes, Vec no) { return (Vec)_mm512_mask_blend_ps(m, (__m512)no, (__m512)yes); }
#else
typedef IVec Mask;
SACCADE_INLINE Mask less(Vec a, Vec b) { return a < b; }
SACCADE_INLINE Mask equal(Vec a, Vec b) { return a == b; }
SACCADE_INLINE Mask is_nan(Vec a) { return a != a; }
SACCADE_INLINE Vec select(Mask m, Vec yes, Vec no) { return m ? yes : no; }
#endif

// a > b ? a : b and a < b ? a : b: the second where either is NaN or both are zeros.
SACCADE_INLINE Vec larger(Vec a, Vec b) {
#if defined(__AVX512F__)
    return (Vec)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (Vec)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (Vec)_mm_max_ps((__m128)a, (__m128)b);
#else
    return a > b ? a : b;
#endif
}

SACCADE_INLINE Vec smaller(Vec a, Vec b) {
#if defined(__AVX512F__)
    return (Vec)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (Vec)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
    return (Vec)_mm_min_ps((__m128)a, (__m128)b);
#else
    return a < b ? a : b;
#endif
}

// NaN where either is NaN.
SACCADE_INLINE Vec maximum(Vec a, Vec b) { return select(is_nan(a), a, larger(a, b)); }
SACCADE_INLINE Vec minimum(Vec a, Vec b) { return select(is_nan(a), a, smaller(a, b)); }

// a * b + c with one rounding (in the portable build up to the second rounding of a double to a float).
SACCADE_INLINE Vec exact_fma(Vec a, Vec b, Vec c) {
#if defined(__AVX2__) || defined(__aarch64__)
    return fma(a, b, c);
#else
    Vec r;
    for (int i = 0; i < lanes; ++i) r[i] = float(double(a[i]) * double(b[i]) + double(c[i]));
    return r;
#endif
}

SACCADE_INLINE Vec square_root(Vec x) {
#if defined(__AVX512F__)
    return (Vec)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
    return (Vec)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
    return (Vec)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
    return (Vec)vsqrtq_f32((float32x4_t)x);
#else
    for (int i = 0; i < lanes; ++i) x[i] = __builtin_sqrtf(x[i]);
    return x;
#endif
}

SACCADE_INLINE UVec sign_of(Vec x) { return ubits(x) & 0x80000000u; }
SACCADE_INLINE Vec absolute(Vec x) { return from_ubits(ubits(x) & 0x7fffffffu); }
SACCADE_INLINE Vec minus_absolute(Vec x) { return from_ubits(ubits(x) | 0x80000000u); }
SACCADE_INLINE Vec with_sign(Vec magnitude, UVec sign) { return from_ubits(ubits(magnitude) | sign); }
SACCADE_INLINE Vec negative(Vec x) { return from_ubits(ubits(x) ^ 0x80000000u); }

// To the nearest bf16, ties to even, as an fp32; NaN stays NaN. The same bits as `narrow`.
SACCADE_INLINE Vec round_to_bf16(Vec x) {
    const UVec u = ubits(x);
    const UVec rounded = (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u;
    return select(is_nan(x), from_ubits((u & 0xffff0000u) | 0x00400000u), from_ubits(rounded));
}

struct LaneTable {
    int32_t all[3 * lanes];
    constexpr LaneTable() : all{} {
        for (int i = 0; i < lanes; ++i) all[lanes + i] = -1;
    }
};
static constexpr LaneTable lane_table;

// The first, or the last, n lanes (0..lanes) as they are, zeros in the others.
SACCADE_INLINE Vec first_lanes(Vec v, int64_t n) {
    return from_bits(bits(v) & bits(load(reinterpret_cast<const float*>(lane_table.all + 2 * lanes - n))));
}

SACCADE_INLINE Vec last_lanes(Vec v, int64_t n) {
    return from_bits(bits(v) & bits(load(reinterpret_cast<const float*>(lane_table.all + n))));
}

// What `round_to_bf16` gave, in half the memory.
SACCADE_INLINE void store_upper_halves(uint16_t* p, Vec v) {
#if defined(__AVX512F__)
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32((__m512i)v, 16)));
#elif defined(__AVX2__)
    const __m256i u = _mm256_srli_epi32((__m256i)v, 16);
    _mm_storeu_si128((__m128i*)p, _mm_packus_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1)));
#elif defined(__SSE2__)
    const __m128i u = _mm_srai_epi32((__m128i)v, 16);
    _mm_storel_epi64((__m128i*)p, _mm_packs_epi32(u, u));
#else
    for (int i = 0; i < lanes; ++i) p[i] = uint16_t(ubits(v)[i] >> 16);
#endif
}

// The sum over all lanes, always in the same order.
SACCADE_INLINE float sum_lanes(Vec v) {
#if defined(__AVX2__)
#if defined(__AVX512F__)
    const __m256 both = _mm256_add_ps(_mm512_castps512_ps256((__m512)v),
                                      _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd((__m512)v), 1)));
#else
    const __m256 both = (__m256)v;
#endif
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
    return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}

template <int degree>
SACCADE_INLINE Vec polynomial(Vec x, const float (&coefficients)[degree]) {  // the last is the constant
    Vec r = splat(coefficients[0]);
#pragma GCC unroll 16
    for (int i = 1; i < degree; ++i) r = fma(r, x, splat(coefficients[i]));
    return r;
}

// x = n ln 2 + r with |r| <= ln 2 / 2; `less_one` is exp(r) - 1. |x| < 2^21.
struct Reduced {
    Vec n, less_one;
    UVec n_bits;  // n as a whole number
};

SACCADE_INLINE Reduced reduce_exponent(Vec x) {
    constexpr float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to whole numbers
    static constexpr float tail[] = {0.00138206349f, 0.00836867467f, 0.0416682661f, 0.166665211f, 0.49999994f};
    const Vec shifted = fma(x, splat(1.44269504f), splat(shift));
    Reduced e;
    e.n = shifted - shift;
    e.n_bits = ubits(shifted) - 0x4b400000u;
    // The first part of ln 2 has so few bits that its product with n is exact.
    const Vec r = fma(e.n, splat(-1.42860677e-6f), fma(e.n, splat(-0.693145752f), x));
    e.less_one = fma(r * r, polynomial(r, tail), r);
    return e;
}

// m * 2^n, -254 < n < 256, with one rounding where the result is subnormal.
SACCADE_INLINE Vec scale_by_power(Vec m, const Reduced& e) {
#if defined(__AVX512F__)
    return (Vec)_mm512_scalef_ps((__m512)m, (__m512)e.n);
#else
    const UVec half = reinterpret_cast<UVec>(reinterpret_cast<IVec>(e.n_bits) >> 1);
    return m * from_ubits((half + 127u) << 23) * from_ubits((e.n_bits - half + 127u) << 23);
#endif
}

// 1.0 ulp.
SACCADE_INLINE Vec exponential(Vec x) {
    // Beyond these it is inf and 0 anyway. The order of arguments lets NaN pass.
    const Reduced e = reduce_exponent(larger(splat(-105.0f), smaller(splat(90.0f), x)));
    return scale_by_power(e.less_one + 1.0f, e);
}

// exp(x) of x <= 0.
SACCADE_INLINE Vec exponential_below(Vec x) {
    const Reduced e = reduce_exponent(larger(splat(-105.0f), x));
#if defined(__AVX512F__)
    return scale_by_power(e.less_one + 1.0f, e);
#else
    // n >= -151: moved by 25 it fits an exponent.
    return (e.less_one + 1.0f) * from_ubits((e.n_bits + 152u) << 23) * 0x1p-25f;
#endif
}

// exp(x) - 1; 1.6 ulp.
SACCADE_INLINE Vec exponential_less_one(Vec x) {
    const Reduced e = reduce_exponent(larger(splat(-105.0f), smaller(splat(89.0f), x)));
    // Halved, as 2^128 is inf before the result is.
    Reduced half = e;
    half.n -= 1.0f;
    half.n_bits -= 1u;
    const Vec power = scale_by_power(splat(1.0f), half);
    const Vec moved = 2.0f * fma(power, e.less_one, power - 0.5f);
    // Unmoved where n = 0, as half of the smallest number is 0; and 0 has a sign.
    return with_sign(select(equal(e.n, Vec{}), e.less_one, moved), sign_of(x));
}

// log(1 + f) less f, sqrt(1/2) - 1 <= f <= sqrt(2) - 1.
SACCADE_INLINE Vec log_tail(Vec f) {
    static constexpr float tail[] = {0.0674927011f, -0.116701007f, 0.118835494f,  -0.124062337f, 0.142203584f,
                                     -0.166679889f, 0.200020716f,  -0.250000089f, 0.333333135f};
    return f * f * fma(f, polynomial(f, tail), splat(-0.5f));
}

constexpr float ln2_high = 0.693145752f, ln2_low = 1.42860677e-6f;

// 0.9 ulp.
SACCADE_INLINE Vec logarithm(Vec x) {
    constexpr float infinity = __builtin_inff();
    const Mask small = less(x, splat(0x1p-126f));
    const Vec normal = select(small, x * 0x1p23f, x);
    // From sqrt(1/2) to sqrt(2): the exponent is counted from there.
    const UVec from = ubits(normal) - 0x3f3504f3u;
    const IVec exponent = reinterpret_cast<IVec>(from) >> 23;
    const Vec f = from_ubits((from & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    const Vec n = __builtin_convertvector(exponent, Vec) - select(small, splat(23.0f), Vec{});
    const Vec result = fma(n, splat(ln2_high), f + fma(n, splat(ln2_low), log_tail(f)));
    const Vec finite = select(less(x, splat(infinity)), result, x);  // inf and NaN
    return select(less(splat(0.0f), x), finite,
                  select(equal(x, Vec{}), splat(-infinity), x + splat(__builtin_nanf(""))));
}

// log(1 + e) of 0 <= e <= 1.
SACCADE_INLINE Vec log_of_one_more(Vec e) {
    const Mask large = less(splat(0.414213562f), e);
    const Vec f = select(large, e * 0.5f - 0.5f, e);
    const Vec low = select(large, splat(ln2_low), Vec{}), high = select(large, splat(ln2_high), Vec{});
    return high + (f + (log_tail(f) + low));
}

// numerator / denominator of 0 <= numerator <= denominator, 1 <= denominator <= 2; 0.51 ulp.
SACCADE_INLINE Vec share(Vec numerator, Vec denominator) {
#if defined(__AVX512F__)
    const Vec one = splat(1.0f);
    Vec inverse = (Vec)_mm512_rcp14_ps((__m512)denominator);
    inverse = fma(inverse, fma(negative(denominator), inverse, one), inverse);
    const Vec quotient = numerator * inverse;
    return fma(inverse, fma(negative(denominator), quotient, numerator), quotient);
#else
    return numerator / denominator;
#endif
}

// 1 / (1 + exp(-x)); 2.2 ulp.
SACCADE_INLINE Vec sigmoid(Vec x) {
    const Vec e = exponential_below(minus_absolute(x));
    return share(select(less(x, Vec{}), e, splat(1.0f)), e + 1.0f);
}

// 1.4 ulp.
SACCADE_INLINE Vec hyperbolic_tangent(Vec x) {
    static constexpr float tail[] = {-0.0056922962f, 0.0206281673f, -0.0537365153f, 0.133314058f, -0.333332807f};
    const Vec size = absolute(x);
    const Vec squared = x * x;
    const Vec near = fma(size * squared, polynomial(squared, tail), size);
    const Vec e = exponential_below(-2.0f * size);
    const Vec far = 1.0f - share(2.0f * e, e + 1.0f);
    return with_sign(select(less(size, splat(0.625f)), near, far), sign_of(x));
}

constexpr float erf_near = 0.93f;

// erf(x) of |x| <= erf_near.
SACCADE_INLINE Vec error_function_near(Vec x) {
    static constexpr float tail[] = {7.99664995e-05f, -0.000804976968f, 0.00519240508f, -0.0268557314f,
                                     0.112836257f,    -0.376126289f,    0.128379166f};
    return fma(x, polynomial(x * x, tail), x);
}

// 1 - erf(x) of x >= erf_near.
SACCADE_INLINE Vec error_rest_far(Vec x) {
    static constexpr float logarithm_of_it[] = {-1.67308262e-05f, 0.000376383949f, -0.00385307148f, 0.0241903104f,
                                                -0.106712773f,    -0.634876788f,   -0.128712833f};
    return exponential_below(fma(polynomial(x, logarithm_of_it), x, negative(x)));
}

// x times the normal distribution's integral up to x.
SACCADE_INLINE Vec gaussian_unit(Vec x) {
    const Vec z = x * 0.707106781f;
    const Vec size = absolute(z);
    const Vec rest = 0.5f * error_rest_far(size);
    const Vec far = select(less(z, Vec{}), rest, 1.0f - rest);
    return x * select(less(size, splat(erf_near)), fma(splat(0.5f), error_function_near(z), splat(0.5f)), far);
}

// The same with 0.5 (1 + tanh(u)) = 1 / (1 + exp(-2 u)) in place of the integral.
SACCADE_INLINE Vec gaussian_unit_tanh(Vec x) {
    const Vec cubic = x * fma(x * x, splat(0.044715f), splat(1.0f));
    return x * sigmoid(cubic * 1.59576912f);
}

// log(1 + exp(x)); 1.6 ulp.
SACCADE_INLINE Vec log_of_one_and_exponential(Vec x) {
    return larger(Vec{}, x) + log_of_one_more(exponential_below(minus_absolute(x)));
}

// x tanh(log(1 + exp(x))): with e = exp(x) the tangent is e (e + 2) / (e (e + 2) + 2), and 1 from x = 20 on.
SACCADE_INLINE Vec mish_unit(Vec x) {
    const Vec e = exponential(smaller(splat(20.0f), x));
    const Vec part = e * (e + 2.0f);
    return x * (part / (part + 2.0f));
}

// size ** y of 0 < size < inf, in double precision: the logarithm needs more bits than a float's result has.
SACCADE_INLINE DVec power_of_size(DVec size, double y) {
    constexpr double ln2 = 0.69314718055994530942, shift = 0x1.8p52;  // adding `shift` rounds to whole numbers
    // size = 2^n m, sqrt(1/2) <= m < sqrt(2); ln m = 2 atanh((m - 1) / (m + 1))
    const ULVec from = reinterpret_cast<ULVec>(size) - 0x3fe6a09e667f3bcdu;
    const LVec exponent = reinterpret_cast<LVec>(from) >> 52;
    const DVec n = reinterpret_cast<DVec>(reinterpret_cast<ULVec>(exponent) + 0x4338000000000000u) - shift;
    const DVec m = reinterpret_cast<DVec>((from & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu);
    const DVec s = (m - 1.0) / (m + 1.0), s2 = s * s;
    DVec series = DVec{} + 1.0 / 19;
#pragma GCC unroll 16
    for (int k = 17; k > 0; k -= 2) series = series * s2 + 1.0 / k;
    DVec log2_of = y * (n + s * series * (2 / ln2));
    // Beyond these a float is inf or 0.
    log2_of = log2_of > 200.0 ? DVec{} + 200.0 : log2_of;
    log2_of = log2_of < -200.0 ? DVec{} - 200.0 : log2_of;
    const DVec shifted = log2_of + shift;
    const DVec r = (log2_of - (shifted - shift)) * ln2;
    static constexpr double series_of_exp[] = {1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
                                               1.0 / 5040,     1.0 / 720,     1.0 / 120,    1.0 / 24,
                                               1.0 / 6,        1.0 / 2,       1.0,          1.0};
    DVec e = DVec{};
#pragma GCC unroll 16
    for (double coefficient : series_of_exp) e = e * r + coefficient;
    return reinterpret_cast<DVec>(reinterpret_cast<ULVec>(e) + (reinterpret_cast<ULVec>(shifted) << 52));
}

// x ** y as C's powf has it.
SACCADE_INLINE Vec power(Vec x, float y) {
    struct Halves {
        Half half[2];
    } h;
    const Vec size = absolute(x);
    memcpy(&h, &size, sizeof h);
    for (int i = 0; i < 2; ++i)
        h.half[i] = __builtin_convertvector(power_of_size(__builtin_convertvector(h.half[i], DVec), y), Half);
    Vec r;
    memcpy(&r, &h, sizeof r);
    const bool whole = __builtin_truncf(y) == y;  // inf too
    const bool odd = whole && __builtin_fabsf(y) < 0x1p24f && (int32_t(y) & 1);
    const Vec one = splat(1.0f), infinity = splat(__builtin_inff());
    if (!whole) r = select(less(x, Vec{}), splat(__builtin_nanf("")), r);
    r = select(equal(size, one), whole ? one : r, r);  // 1 ** inf
    r = select(equal(size, infinity), y < 0 ? Vec{} : infinity, r);
    r = select(equal(size, Vec{}), y < 0 ? infinity : Vec{}, r);
    if (odd) r = with_sign(r, sign_of(x));
    if (y != y) r = splat(y);
    r = select(is_nan(x), x, r);
    r = select(equal(x, one), one, r);
    return y == 0 ? one : r;
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
