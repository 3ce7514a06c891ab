// A picture's pixels: what changed since the last frame, and one output row resampled and normalised.
#include "routines.h"

#if defined(__SSE2__)
#include <emmintrin.h>  // part of every x86-64
#endif

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

namespace {

// One pixel: three channels and a lane that is never kept.
typedef float Pixel __attribute__((vector_size(16), aligned(16)));
typedef float PixelU __attribute__((vector_size(16), aligned(4), may_alias));

SACCADE_INLINE Pixel load_pixel(const float* p) { return *reinterpret_cast<const PixelU*>(p); }
SACCADE_INLINE void store_pixel(float* p, Pixel v) { *reinterpret_cast<PixelU*>(p) = v; }

SACCADE_INLINE Pixel fma_pixel(Pixel a, float b, Pixel c) {
    const Pixel w = {b, b, b, b};
#if defined(__AVX2__)
    return (Pixel)_mm_fmadd_ps((__m128)a, (__m128)w, (__m128)c);
#elif defined(__aarch64__)
    Pixel r;
    for (int i = 0; i < 4; ++i) r[i] = __builtin_fmaf(a[i], b, c[i]);
    return r;
#else
    return a * w + c;
#endif
}

SACCADE_INLINE Vec load_bytes(const uint8_t* p) {
#if defined(__AVX512F__)
    return (Vec)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
    return (Vec)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#elif defined(__SSE2__)
    int32_t four;
    memcpy(&four, p, sizeof four);
    const __m128i zero = _mm_setzero_si128();
    const __m128i words = _mm_unpacklo_epi8(_mm_cvtsi32_si128(four), zero);
    return (Vec)_mm_cvtepi32_ps(_mm_unpacklo_epi16(words, zero));
#else
    Vec r;
    for (int i = 0; i < lanes; ++i) r[i] = float(p[i]);
    return r;
#endif
}

// Bit i is set where bytes i of 64 differ.
SACCADE_INLINE uint64_t differing(const uint8_t* a, const uint8_t* b) {
#if defined(__AVX512BW__)
    return _mm512_cmpneq_epi8_mask(_mm512_loadu_si512(a), _mm512_loadu_si512(b));
#elif defined(__AVX2__)
    const __m256i* x = reinterpret_cast<const __m256i*>(a);
    const __m256i* y = reinterpret_cast<const __m256i*>(b);
    const __m256i low = _mm256_cmpeq_epi8(_mm256_loadu_si256(x), _mm256_loadu_si256(y));
    const __m256i high = _mm256_cmpeq_epi8(_mm256_loadu_si256(x + 1), _mm256_loadu_si256(y + 1));
    return ~(uint64_t(uint32_t(_mm256_movemask_epi8(high))) << 32 | uint32_t(_mm256_movemask_epi8(low)));
#else
    uint64_t x[8], y[8], any = 0, bits = 0;
    memcpy(x, a, sizeof x);
    memcpy(y, b, sizeof y);
    for (int i = 0; i < 8; ++i) any |= x[i] ^= y[i];
    if (any == 0) return 0;
    for (int i = 0; i < 8; ++i) {
        // Each byte's bits are folded onto its lowest, then the eight lowest are brought together at the top.
        uint64_t d = x[i];
        d |= d >> 4;
        d |= d >> 2;
        d |= d >> 1;
        bits |= ((d & 0x0101010101010101u) * 0x0102040810204080u >> 56) << (8 * i);
    }
    return bits;
#endif
}

// line[i] = the sum over the rows of weight * byte i, for N vectors.
template <int N>
SACCADE_INLINE void sum_vectors(const uint8_t* in, int64_t stride, const float* weights, int64_t taps, float* line) {
    Vec sum[N];
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) sum[v] = Vec{};
    for (int64_t t = 0; t < taps; ++t, in += stride) {
        const Vec w = splat(weights[t]);
#pragma GCC unroll 8
        for (int v = 0; v < N; ++v) sum[v] = fma(load_bytes(in + v * lanes), w, sum[v]);
    }
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) store(line + v * lanes, sum[v]);
}

// Elements `from` to `to` of the line, and those beside them that fill a vector.
void sum_rows(const uint8_t* in, int64_t stride, const float* weights, int64_t taps, int64_t from, int64_t to,
              float* line) {
    constexpr int many = 8;
    int64_t i = from / lanes * lanes;
    for (; i + many * lanes <= to; i += many * lanes) sum_vectors<many>(in + i, stride, weights, taps, line + i);
    for (; i < to; i += lanes) sum_vectors<1>(in + i, stride, weights, taps, line + i);
}

// Pixels first to end of a row of cells from the line. Taps is the number of taps, 0 where only the table knows it. A
// store's fourth lane is the next pixel's first and is overwritten by it.
template <int Taps, bool Swap>
void sum_columns(const Axis& columns, int32_t first, int32_t end, const float* line, float* cells) {
    const int64_t taps = Taps ? Taps : columns.taps;
    constexpr int many = 4;  // pixels side by side, so that one need not wait for another's sum
    int32_t x = first;
    for (; x + many <= end; x += many) {
        const float* w = columns.weights + x * taps;
        const float* in[many];
        Pixel sum[many];
#pragma GCC unroll 4
        for (int p = 0; p < many; ++p) {
            in[p] = line + 3 * int64_t(columns.start[x + p]);
            sum[p] = Pixel{};
        }
#pragma GCC unroll 4
        for (int64_t t = 0; t < taps; ++t)
#pragma GCC unroll 4
            for (int p = 0; p < many; ++p) sum[p] = fma_pixel(load_pixel(in[p] + 3 * t), w[p * taps + t], sum[p]);
#pragma GCC unroll 4
        for (int p = 0; p < many; ++p) {
            const Pixel s = sum[p];
            store_pixel(cells + 3 * int64_t(x + p), Swap ? Pixel{s[2], s[1], s[0], s[3]} : s);
        }
    }
    for (; x < end; ++x) {
        const float* in = line + 3 * int64_t(columns.start[x]);
        Pixel s = {};
        for (int64_t t = 0; t < taps; ++t) s = fma_pixel(load_pixel(in + 3 * t), columns.weights[x * taps + t], s);
        store_pixel(cells + 3 * int64_t(x), Swap ? Pixel{s[2], s[1], s[0], s[3]} : s);
    }
}

template <bool Swap>
void sum_columns(const Axis& columns, int32_t first, int32_t end, const float* line, float* cells) {
    switch (columns.taps) {
        case 1: return sum_columns<1, Swap>(columns, first, end, line, cells);
        case 2: return sum_columns<2, Swap>(columns, first, end, line, cells);
        case 4: return sum_columns<4, Swap>(columns, first, end, line, cells);
        default: return sum_columns<0, Swap>(columns, first, end, line, cells);
    }
}

void swap_channels(const float* in, float* out, int64_t pixels) {
    for (int64_t i = 0; i < pixels; ++i) {
        out[3 * i] = in[3 * i + 2];
        out[3 * i + 1] = in[3 * i + 1];
        out[3 * i + 2] = in[3 * i];
    }
}

void mix_grey(const float* luma, const float* in, float* out, int64_t pixels) {
    const float r = luma[0], g = luma[1], b = luma[2];
    for (int64_t i = 0; i < pixels; ++i) out[i] = in[3 * i] * r + in[3 * i + 1] * g + in[3 * i + 2] * b;
}

template <bool Clip, bool Centre>
SACCADE_INLINE Vec normal(const Resampling& r, Vec v, Vec mean, Vec deviation) {
    if (Clip) {
        const Vec low = {}, high = splat(255.0f);
        v = v > low ? v : low;
        v = v < high ? v : high;
    }
    v = v * r.scale;
    return Centre ? (v - mean) / deviation : v;
}

// The constants repeat every three vectors, whatever the number of channels.
template <bool Clip, bool Centre>
void normalise_row(const Resampling& r, const float* in, float* out, int64_t count) {
    int64_t i = 0;
    for (; i + 3 * lanes <= count; i += 3 * lanes)
#pragma GCC unroll 3
        for (int64_t v = 0; v < 3 * lanes; v += lanes)
            store(out + i + v, normal<Clip, Centre>(r, load(in + i + v), load(r.mean + v), load(r.deviation + v)));
    for (int64_t v = 0; i < count; i += lanes, v += lanes) {
        const Vec x = normal<Clip, Centre>(r, load(in + i), load(r.mean + v), load(r.deviation + v));
        if (count - i >= lanes) store(out + i, x);
        else store_part(out + i, x, count - i);
    }
}

}  // namespace

int64_t compare_bytes(const uint8_t* now, uint8_t* kept, int64_t bytes, uint64_t* changed) {
    uint64_t any = 0;
    int64_t i = 0;
    for (; i + 64 <= bytes; i += 64) {
        const uint64_t bits = differing(now + i, kept + i);
        if (bits) memcpy(kept + i, now + i, 64);
        changed[i / 64] = bits;
        any |= bits;
    }
    if (i < bytes) {
        uint8_t last[64] = {};
        memcpy(last, now + i, size_t(bytes - i));
        const uint64_t bits = differing(last, kept + i);
        if (bits) memcpy(kept + i, last, 64);
        changed[i / 64] = bits;
        any |= bits;
    }
    return any != 0;
}

void resample_row(const Resampling& r, int32_t row, int32_t first, int32_t end) {
    const Axis& rows = r.rows;
    const int32_t top = rows.first[row], taps = rows.end[row] - top;
    const float* weights = rows.weights + int64_t(row) * rows.taps + (top - rows.start[row]);
    const int32_t left = r.columns.start[first], right = r.columns.start[end - 1] + r.columns.taps;
    sum_rows(r.source + top * r.stride, r.stride, weights, taps, 3 * int64_t(left), 3 * int64_t(right), r.line);

    const int64_t pixels = end - first;
    const float* cells = r.line + 3 * int64_t(left);
    float* free = r.cells;
    if (!r.same_columns) {
        if (r.order == Order::bgr) sum_columns<true>(r.columns, first, end, r.line, r.cells);
        else sum_columns<false>(r.columns, first, end, r.line, r.cells);
        cells = r.cells + 3 * int64_t(first);
        free = r.line;
    } else if (r.order == Order::bgr) {
        swap_channels(cells, free, pixels);
        cells = free;
    }
    if (r.order == Order::grey) {
        mix_grey(r.luma, cells, free, pixels);
        cells = free;
    }
    const int64_t channels = r.order == Order::grey ? 1 : 3;
    float* out = r.out + row * r.out_stride + first * channels;
    if (r.clip && r.centre) normalise_row<true, true>(r, cells, out, pixels * channels);
    else if (r.clip) normalise_row<true, false>(r, cells, out, pixels * channels);
    else if (r.centre) normalise_row<false, true>(r, cells, out, pixels * channels);
    else normalise_row<false, false>(r, cells, out, pixels * channels);
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
