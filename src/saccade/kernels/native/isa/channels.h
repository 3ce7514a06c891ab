// A row's channels as vectors: whole ones, of which the last ends at the last channel, so that it may overlap the one
// before and compute the same there once more. Fewer channels than lanes are one vector; its first lanes count.
#pragma once
#include "../simd.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

SACCADE_INLINE Vec load_as(const float* p) { return load(p); }
SACCADE_INLINE Vec load_as(const uint16_t* p) { return load_bf16(p); }

// The first n lanes, 0 < n < lanes; zeros beyond, and nothing beyond is read.
SACCADE_INLINE Vec load_first(const float* p, int64_t n) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    static const int32_t mask[2 * lanes] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return (Vec)_mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i*)(mask + lanes - n)));
#else
    return load_part(p, n);
#endif
}

SACCADE_INLINE Vec load_first(const uint16_t* p, int64_t n) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    const __m256i h = _mm256_maskz_loadu_epi16(__mmask16((1u << n) - 1u), p);
    const __m512i wide = _mm512_maskz_cvtepu16_epi32(__mmask16(-1), h);
    return (Vec)_mm512_castsi512_ps(_mm512_maskz_slli_epi32(__mmask16(-1), wide, 16));
#else
    uint16_t t[lanes] = {};
    for (int64_t i = 0; i < n; ++i) t[i] = p[i];
    return load_bf16(t);
#endif
}

// Four lanes, anything beyond: a short load seldom lies across two cache lines.
SACCADE_INLINE Vec load_four(const float* p) {
#if defined(__AVX512F__)
    return (Vec)_mm512_zextps128_ps512(_mm_loadu_ps(p));
#elif defined(__AVX2__)
    return (Vec)_mm256_zextps128_ps256(_mm_loadu_ps(p));
#else
    return load(p);
#endif
}

SACCADE_INLINE Vec load_four(const uint16_t* p) { return load_bf16(p); }

// How much of a vector may be read: all, the channels and up to four, or the channels alone.
enum class Load { whole, four, part };

// n vectors of a row's channels.
template <int n, Load how>
struct Group {
    static constexpr int size = n;
    int64_t first, last, channels;  // where the first and the last vector begin

    // Where vector v begins.
    __attribute__((always_inline)) int64_t at(int v) const { return v == n - 1 ? last : first + v * lanes; }

    template <class T>
    __attribute__((always_inline)) Vec load(const T* row, int v) const {
        if constexpr (how == Load::part)
            return load_first(row, channels);
        else if constexpr (how == Load::four)
            return load_four(row);
        else
            return load_as(row + at(v));
    }
};

// Calls body(Group) until every channel was covered, with up to `most` vectors a time. `inside`: with fewer channels
// than lanes, the lanes behind them still lie in the matrix and may be read.
template <int most, class Body>
SACCADE_INLINE void over_channels(int64_t channels, bool inside, Body body) {
    static_assert(most == 1 || most == 2 || most == 4, "");
    if (channels < lanes) {
        if (!inside) return body(Group<1, Load::part>{0, 0, channels});
        if (channels <= 4) return body(Group<1, Load::four>{0, 0, channels});
        return body(Group<1, Load::whole>{0, 0, channels});
    }
    int64_t c = 0;
    for (; c + most * lanes < channels; c += most * lanes)
        body(Group<most, Load::whole>{c, c + (most - 1) * lanes, channels});
    const int64_t rest = (channels - c + lanes - 1) / lanes, last = channels - lanes;
    if (most == 4 && rest == 4) body(Group<most, Load::whole>{c, last, channels});
    if (most == 4 && rest == 3) body(Group<(most == 4 ? 3 : 1), Load::whole>{c, last, channels});
    if (most >= 2 && rest == 2) body(Group<(most >= 2 ? 2 : 1), Load::whole>{c, last, channels});
    if (rest == 1) body(Group<1, Load::whole>{last, last, channels});
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
