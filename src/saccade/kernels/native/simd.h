// Vectors of fp32 lanes for whatever instruction set this file is compiled for. Included by isa/*.cpp only; nothing
// here may come from the standard library's templates: the linker would merge an inline function compiled for one
// instruction set into code that runs on another.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define SACCADE_INLINE static inline __attribute__((always_inline))

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

#if defined(__AVX512F__)
constexpr int lanes = 16;
typedef float Vec __attribute__((vector_size(64), aligned(64)));
typedef int32_t IVec __attribute__((vector_size(64), aligned(64)));
typedef float VecU __attribute__((vector_size(64), aligned(4), may_alias));
#elif defined(__AVX2__)
constexpr int lanes = 8;
typedef float Vec __attribute__((vector_size(32), aligned(32)));
typedef int32_t IVec __attribute__((vector_size(32), aligned(32)));
typedef float VecU __attribute__((vector_size(32), aligned(4), may_alias));
#else
constexpr int lanes = 4;
typedef float Vec __attribute__((vector_size(16), aligned(16)));
typedef int32_t IVec __attribute__((vector_size(16), aligned(16)));
typedef float VecU __attribute__((vector_size(16), aligned(4), may_alias));
#endif

SACCADE_INLINE Vec load(const float* p) { return *reinterpret_cast<const VecU*>(p); }
SACCADE_INLINE void store(float* p, Vec v) { *reinterpret_cast<VecU*>(p) = v; }
SACCADE_INLINE Vec splat(float x) { return x - Vec{}; }
SACCADE_INLINE IVec bits(Vec v) { return reinterpret_cast<IVec>(v); }
SACCADE_INLINE Vec from_bits(IVec v) { return reinterpret_cast<Vec>(v); }

// Hides from the compiler where a pointer comes from. Of many pointers that it knows to be sums it may keep the parts, and
// what finds no place then lies in vector registers: to fetch one takes a slot of the units that multiply.
template <class T>
SACCADE_INLINE const T* opaque(const T* p) {
#if defined(__GNUC__)
    asm("" : "+r"(p));
#endif
    return p;
}

// a * b + c, one rounding where the instruction set has it, two in the portable build.
SACCADE_INLINE Vec fma(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
    return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
    return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    Vec r;
    for (int i = 0; i < lanes; ++i) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return r;
#else
    return a * b + c;
#endif
}

// The first n (0..lanes) lanes from memory, zeros beyond; nothing beyond is read.
SACCADE_INLINE Vec load_part(const float* p, int64_t n) {
#if defined(__AVX512F__)
    return (Vec)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1u), p);
#else
    float t[lanes] = {};
    for (int64_t i = 0; i < n; ++i) t[i] = p[i];
    return load(t);
#endif
}

SACCADE_INLINE void store_part(float* p, Vec v, int64_t n) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1u), (__m512)v);
#else
    for (int64_t i = 0; i < n; ++i) p[i] = v[i];
#endif
}

// bf16 is the upper half of an fp32; rounding is to nearest, ties to even, and NaN stays NaN.
SACCADE_INLINE float widen(uint16_t h) {
    uint32_t u = uint32_t(h) << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

SACCADE_INLINE uint16_t narrow(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) return uint16_t((u >> 16) | 0x40u);
    return uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

SACCADE_INLINE Vec load_bf16(const uint16_t* p) {
#if defined(__AVX512F__)
    return (Vec)_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
#elif defined(__AVX2__)
    return (Vec)_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
#else
    Vec r;
    for (int i = 0; i < lanes; ++i) r[i] = widen(p[i]);
    return r;
#endif
}

SACCADE_INLINE Vec load_bf16_part(const uint16_t* p, int64_t n) {
    uint16_t t[lanes] = {};
    memcpy(t, p, size_t(n) * 2);
    return load_bf16(t);
}

SACCADE_INLINE void store_bf16_part(uint16_t* p, Vec v, int64_t n) {
    for (int64_t i = 0; i < n; ++i) p[i] = narrow(v[i]);
}

// Same rounding as `narrow` on every set (vcvtneps2bf16 flushes denormals, so it is not used).
SACCADE_INLINE void store_bf16(uint16_t* p, Vec v) {
#if defined(__AVX512F__)
    __m512i u = _mm512_castps_si512((__m512)v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __mmask16 nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
    r = _mm512_mask_or_epi32(r, nan, _mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(r));
#else
    store_bf16_part(p, v, lanes);
#endif
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
