// Sums, means and extremes over listed positions, and normalisation of rows along their channels.
#include "channels.h"
#include "routines.h"
#include "vector_math.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

namespace {

// Lanes of a running sum in double precision: then the number of terms does not show in the error.
#if defined(__AVX512F__)
struct Sum {
    __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
    SACCADE_INLINE __m512d half(Vec v, int upper) {
        const __m256 part = upper ? _mm512_maskz_extractf32x8_ps(__mmask8(-1), (__m512)v, 1)
                                  : _mm512_castps512_ps256((__m512)v);
        return _mm512_maskz_cvtps_pd(__mmask8(-1), part);
    }
    void add(Vec v) {
        low = low + half(v, 0);
        high = high + half(v, 1);
    }
    double total() const {
        return _mm512_reduce_add_pd(low + high);
    }
    Vec over(double divisor) const {
        const __m256 a = _mm512_maskz_cvtpd_ps(__mmask8(-1), low / divisor);
        const __m256 b = _mm512_maskz_cvtpd_ps(__mmask8(-1), high / divisor);
        return (Vec)_mm512_maskz_insertf32x8(__mmask16(-1), _mm512_castps256_ps512(a), b, 1);
    }
};
#elif defined(__AVX2__)
struct Sum {
    __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
    void add(Vec v) {
        low = low + _mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v));
        high = high + _mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1));
    }
    double total() const {
        const __m256d both = low + high;
        return (both[0] + both[1]) + (both[2] + both[3]);
    }
    Vec over(double divisor) const {
        return (Vec)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low / divisor)),
                                         _mm256_cvtpd_ps(high / divisor), 1);
    }
};
#else
struct Sum {
    typedef double Pair __attribute__((vector_size(16)));
    Pair low = {}, high = {};
    void add(Vec v) {
        low += Pair{double(v[0]), double(v[1])};
        high += Pair{double(v[2]), double(v[3])};
    }
    double total() const { return (low[0] + high[0]) + (low[1] + high[1]); }
    Vec over(double divisor) const {
        const Pair a = low / divisor, b = high / divisor;
        return Vec{float(a[0]), float(a[1]), float(b[0]), float(b[1])};
    }
};
#endif

template <Reduce kind, class T, class G>
SACCADE_INLINE void reduce_vectors(const T* data, int64_t stride, const int32_t* members, int64_t count,
                                   const G& group, float* out) {
    auto load_member = [&](int64_t i, int v) __attribute__((always_inline)) {
        return group.load(data + members[i] * stride, v);
    };
    if constexpr (kind == Reduce::max || kind == Reduce::min) {
        Vec most[G::size];
#pragma GCC unroll 4
        for (int v = 0; v < G::size; ++v) most[v] = splat(kind == Reduce::max ? -__builtin_inff() : __builtin_inff());
        for (int64_t i = 0; i < count; ++i)
#pragma GCC unroll 4
            for (int v = 0; v < G::size; ++v) {
                const Vec x = load_member(i, v);
                most[v] = kind == Reduce::max ? maximum(x, most[v]) : minimum(x, most[v]);
            }
#pragma GCC unroll 4
        for (int v = 0; v < G::size; ++v) store(out + group.at(v), most[v]);
    } else {
        Sum sum[G::size];
        int64_t i = 0;
        for (; i + 4 <= count; i += 4)  // four in fp32, as widening costs more than adding
#pragma GCC unroll 4
            for (int v = 0; v < G::size; ++v) {
                const Vec first = load_member(i, v) + load_member(i + 1, v);
                sum[v].add(first + (load_member(i + 2, v) + load_member(i + 3, v)));
            }
        for (; i < count; ++i)
#pragma GCC unroll 4
            for (int v = 0; v < G::size; ++v) sum[v].add(load_member(i, v));
#pragma GCC unroll 4
        for (int v = 0; v < G::size; ++v)
            store(out + group.at(v), sum[v].over(kind == Reduce::mean ? double(count) : 1.0));
    }
}

template <Reduce kind, class T>
void reduce_rows(const Reduction& task, const T* data, int64_t stride, const int32_t* positions, int64_t count,
                 float* out, int64_t ld) {
    for (int64_t p = 0; p < count; ++p, out += ld) {
        const int32_t* members = task.members + int64_t(positions[p]) * task.count;
        int64_t own = task.count;
        while (own > 1 && members[own - 1] < 0) --own;
        over_channels<4>(task.channels, false, [&](auto group) __attribute__((always_inline)) {
            reduce_vectors<kind>(data, stride, members, own, group, out);
        });
    }
}

template <class T>
void reduce_kind(const Reduction& task, const T* data, int64_t stride, const int32_t* positions, int64_t count,
                 float* out, int64_t ld) {
    switch (task.kind) {
        case Reduce::sum: return reduce_rows<Reduce::sum>(task, data, stride, positions, count, out, ld);
        case Reduce::mean: return reduce_rows<Reduce::mean>(task, data, stride, positions, count, out, ld);
        case Reduce::max: return reduce_rows<Reduce::max>(task, data, stride, positions, count, out, ld);
        case Reduce::min: return reduce_rows<Reduce::min>(task, data, stride, positions, count, out, ld);
    }
}

// The largest lane. A NaN may go missing: the sum finds it.
SACCADE_INLINE float most_of(Vec v) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)v);
#else
#if defined(__AVX2__)
    const __m128 half = _mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
#else
    const Vec half = v;
#endif
    const float a = half[0] > half[1] ? half[0] : half[1], b = half[2] > half[3] ? half[2] : half[3];
    return a > b ? a : b;
#endif
}

// The first n lanes of v, `other` beyond.
SACCADE_INLINE Vec keep_first(Vec v, int64_t n, float other) {
    static const float kept[2 * lanes] = {
        1, 1, 1, 1,
#if defined(__AVX2__)
        1, 1, 1, 1,
#endif
#if defined(__AVX512F__)
        1, 1, 1, 1, 1, 1, 1, 1,
#endif
    };
    return select(less(Vec{}, load(kept + lanes - n)), v, splat(other));
}

// Calls body(channel, vector) for the vectors of a row; in the last, lanes beyond the channels hold `fill`.
template <class T, class Body>
SACCADE_INLINE void each_vector(const T* row, int64_t channels, float fill, Body body) {
    int64_t c = 0;
    for (; c + lanes <= channels; c += lanes) body(c, load_as(row + c));
    if (c < channels) body(c, keep_first(load_first(row + c, channels - c), channels - c, fill));
}

// A row at a time. The output row is padded, so whole vectors are written.
template <class T>
void normalise_row(const Normalisation& task, const T* row, float* out) {
    const int64_t channels = task.channels;
    if (task.kind == Line::layer_norm) {
        Sum sum;
        each_vector(row, channels, 0.0f, [&](int64_t, Vec x) { sum.add(x); });
        const Vec mean = splat(float(sum.total() / double(channels)));
        Sum squares;
        each_vector(row, channels, mean[0], [&](int64_t c, Vec x) {
            const Vec d = x - mean;
            squares.add(d * d);
            store(out + c, d);
        });
        const float variance = float(squares.total() / double(channels));
        const Vec factor = splat(1.0f / __builtin_sqrtf(variance + task.epsilon));
        for (int64_t c = 0; c < channels; c += lanes) {
            const int64_t n = channels - c < lanes ? channels - c : lanes;
            Vec y = load(out + c) * factor;
            if (task.scale) y = y * (n == lanes ? load(task.scale + c) : load_first(task.scale + c, n));
            if (task.shift) y = y + (n == lanes ? load(task.shift + c) : load_first(task.shift + c, n));
            store(out + c, y);
        }
        return;
    }
    Vec most = splat(-__builtin_inff());
    each_vector(row, channels, -__builtin_inff(), [&](int64_t, Vec x) { most = larger(x, most); });
    most = splat(most_of(most));
    const bool is_log = task.kind == Line::log_softmax;
    Sum sum;
    // Beyond the channels the exponentials are 1 and left out: those of something very low would be subnormal and slow.
    each_vector(row, channels, most[0], [&](int64_t c, Vec x) {
        const Vec d = x - most, e = exponential(d);
        sum.add(c + lanes <= channels ? e : keep_first(e, channels - c, 0.0f));
        store(out + c, is_log ? d : e);
    });
    const Vec total = splat(float(sum.total()));
    const Vec log_total = is_log ? logarithm(total) : total;
    for (int64_t c = 0; c < channels; c += lanes)
        store(out + c, is_log ? load(out + c) - log_total : load(out + c) / total);
}

constexpr int64_t few_channels = 32;

// As many rows as lanes at a time, one row per lane: for few channels, where most of a row's vector would be empty.
void normalise_few(const Normalisation& task, float (*lane)[lanes]) {
    const int64_t channels = task.channels;
    Vec x[few_channels];
    for (int64_t c = 0; c < channels; ++c) x[c] = load(lane[c]);
    if (task.kind == Line::layer_norm) {
        Sum sum;
        for (int64_t c = 0; c < channels; ++c) sum.add(x[c]);
        const Vec mean = sum.over(double(channels));
        Sum squares;
        for (int64_t c = 0; c < channels; ++c) {
            x[c] = x[c] - mean;
            squares.add(x[c] * x[c]);
        }
        const Vec factor = splat(1.0f) / square_root(squares.over(double(channels)) + splat(task.epsilon));
        for (int64_t c = 0; c < channels; ++c) {
            x[c] = x[c] * factor;
            if (task.scale) x[c] = x[c] * splat(task.scale[c]);
            if (task.shift) x[c] = x[c] + splat(task.shift[c]);
            store(lane[c], x[c]);
        }
        return;
    }
    Vec most = x[0];
    for (int64_t c = 1; c < channels; ++c) most = larger(x[c], most);
    const bool is_log = task.kind == Line::log_softmax;
    Sum sum;
    for (int64_t c = 0; c < channels; ++c) {
        x[c] = x[c] - most;
        const Vec e = exponential(x[c]);
        sum.add(e);
        if (!is_log) x[c] = e;
    }
    const Vec total = sum.over(1.0);
    const Vec log_total = is_log ? logarithm(total) : total;
    for (int64_t c = 0; c < channels; ++c) store(lane[c], is_log ? x[c] - log_total : x[c] / total);
}

SACCADE_INLINE float widened(float x) { return x; }
SACCADE_INLINE float widened(uint16_t x) { return widen(x); }

template <class T>
void normalise_rows(const Normalisation& task, const T* data, int64_t stride, const int32_t* positions, int64_t count,
                    float* out, int64_t ld) {
    const int64_t channels = task.channels;
    if (channels > few_channels) {
        for (int64_t p = 0; p < count; ++p) normalise_row(task, data + positions[p] * stride, out + p * ld);
        return;
    }
    alignas(64) float lane[few_channels][lanes] = {};
    for (int64_t p = 0; p < count; p += lanes) {
        const int64_t now = count - p < lanes ? count - p : lanes;
        for (int64_t i = 0; i < now; ++i) {
            const T* row = data + positions[p + i] * stride;
            for (int64_t c = 0; c < channels; ++c) lane[c][i] = widened(row[c]);
        }
        normalise_few(task, lane);
        for (int64_t i = 0; i < now; ++i)
            for (int64_t c = 0; c < channels; ++c) out[(p + i) * ld + c] = lane[c][i];
    }
}

}  // namespace

void reduce(const Reduction& task, Rows in, const int32_t* positions, int64_t count, float* out, int64_t ld) {
    if (in.type == Type::bf16)
        reduce_kind(task, static_cast<const uint16_t*>(in.data), in.stride, positions, count, out, ld);
    else
        reduce_kind(task, static_cast<const float*>(in.data), in.stride, positions, count, out, ld);
}

void normalise(const Normalisation& task, Rows in, const int32_t* positions, int64_t count, float* out, int64_t ld) {
    if (in.type == Type::bf16)
        normalise_rows(task, static_cast<const uint16_t*>(in.data), in.stride, positions, count, out, ld);
    else
        normalise_rows(task, static_cast<const float*>(in.data), in.stride, positions, count, out, ld);
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
