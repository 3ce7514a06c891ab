// What gated convolutions need besides the convolution: the change of a value, the score of a gate, the sum z.
#include "channels.h"
#include "gate.h"
#include "routines.h"
#include "stretches.h"
#include "vector_math.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12 on its own intrinsics
#endif

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

namespace {

constexpr int at_once = 8;  // positions summed side by side: as many sums as hide the latency of one

// The taps of one window that fall inside the input; of a position in the middle, all.
struct Taps {
    int32_t counts[3];      // over depth, height, width
    int64_t steps[3];       // from tap to tap, in elements of the input
    int64_t weight_steps[3];
    int64_t channels;
    const float* weights;   // of the first tap
};

// One sum has this order, whichever form computes it: depth, height, vectors of channels, the taps of a row of the
// window; the lanes are added up at the end. So it does not matter which positions are asked for together.

template <bool absolutes, class T>
SACCADE_INLINE Vec size_of_part(const T* at, int64_t rest) {
    const Vec v = rest ? load_first(at, rest) : load_as(at);
    return absolutes ? absolute(v) : v;
}

// Calls vector(channel, how many of a vector count, 0: all) for all channels.
template <class Body>
SACCADE_INLINE void over_vectors(int64_t channels, Body body) {
    const int64_t rest = channels % lanes;
    for (int64_t c = 0; c + lanes <= channels; c += lanes) body(c, int64_t(0));
    if (rest) body(channels - rest, rest);
}

// P positions anywhere; from[p] is the first tap's row.
template <bool absolutes, class T, int P>
SACCADE_INLINE void sum_rows(const Taps& t, const T* const* from, float bias, float* const* to) {
    Vec sum[P] = {};
    for (int32_t d = 0; d < t.counts[0]; ++d)
        for (int32_t h = 0; h < t.counts[1]; ++h) {
            const int64_t at = d * t.steps[0] + h * t.steps[1];
            const float* w = t.weights + d * t.weight_steps[0] + h * t.weight_steps[1];
            over_vectors(t.channels, [&](int64_t c, int64_t rest) __attribute__((always_inline)) {
                for (int32_t k = 0; k < t.counts[2]; ++k) {
                    const Vec b = load(w + k * t.weight_steps[2] + c);
#pragma GCC unroll 16
                    for (int p = 0; p < P; ++p) {
                        const Vec x = size_of_part<absolutes>(from[p] + at + k * t.steps[2] + c, rest);
                        sum[p] = fma(x, b, sum[p]);
                    }
                }
            });
        }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) *to[p] = bias + sum_lanes(sum[p]);
}

// P neighbours along a row, a step of 1 apart, under KW taps side by side: an input is loaded once for all of them.
template <bool absolutes, class T, int P, int KW>
void sum_neighbours(const Taps& t, const T* from, float bias, float* to) {
    Vec sum[P] = {};
    for (int32_t d = 0; d < t.counts[0]; ++d)
        for (int32_t h = 0; h < t.counts[1]; ++h) {
            const T* x = from + d * t.steps[0] + h * t.steps[1];
            const float* w = t.weights + d * t.weight_steps[0] + h * t.weight_steps[1];
            over_vectors(t.channels, [&](int64_t c, int64_t rest) __attribute__((always_inline)) {
                Vec b[KW];
#pragma GCC unroll 16
                for (int k = 0; k < KW; ++k) b[k] = load(w + k * t.weight_steps[2] + c);
#pragma GCC unroll 16
                for (int j = 0; j < P + KW - 1; ++j) {
                    const Vec a = size_of_part<absolutes>(x + j * t.steps[2] + c, rest);
#pragma GCC unroll 16
                    for (int k = 0; k < KW; ++k)
                        if (j >= k && j - k < P) sum[j - k] = fma(a, b[k], sum[j - k]);
                }
            });
        }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) to[p] = bias + sum_lanes(sum[p]);
}

Taps taps_of(const Scoring& s, int64_t stride) {
    const Window& w = s.window;
    Taps t;
    t.channels = s.channels;
    t.steps[0] = in_row(w, 0, w.dilation[0], 0, 0) * stride;
    t.steps[1] = in_row(w, 0, 0, w.dilation[1], 0) * stride;
    t.steps[2] = w.dilation[2] * stride;
    t.weight_steps[2] = padded(s.channels);
    t.weight_steps[1] = w.kernel[2] * t.weight_steps[2];
    t.weight_steps[0] = w.kernel[1] * t.weight_steps[1];
    for (int axis = 0; axis < 3; ++axis) t.counts[axis] = w.kernel[axis];
    t.weights = s.weights;
    return t;
}

template <bool absolutes, class T>
void score_rows(const Scoring& s, const T* data, int64_t stride, const int32_t* positions, int64_t count, float* out) {
    const Window& w = s.window;
    const int64_t wide = padded(s.channels);
    const Inside middle = inside(w, 2);
    const Taps whole = taps_of(s, stride);
    Taps t = whole;

    using Together = void (*)(const Taps&, const T*, float, float*);
    const bool plain = w.stride[2] == 1 && w.dilation[2] == 1;
    const bool three = plain && w.kernel[2] == 3, one = plain && w.kernel[2] == 1;
    const Together eight = three ? sum_neighbours<absolutes, T, at_once, 3>
                           : one ? sum_neighbours<absolutes, T, at_once, 1>
                                 : nullptr;
    const Together four = three ? sum_neighbours<absolutes, T, 4, 3> : sum_neighbours<absolutes, T, 4, 1>;
    const T* from[at_once];
    float* to[at_once];
    int waiting = 0;
    int64_t row = 0, tap = 0;
    for (Stretches st(w.out, positions, count); st.next();) {
        if (st->new_row) {
            const Reach d = reach(w, 0, st->at[0]), h = reach(w, 1, st->at[1]);
            t.counts[0] = d.to - d.from;
            t.counts[1] = h.to - h.from;
            row = in_row(w, st->n, d.first + d.from * w.dilation[0], h.first + h.from * w.dilation[1], 0);
            tap = (d.from * w.kernel[1] + h.from) * w.kernel[2];
        }
        const bool rows_inside = t.counts[0] == w.kernel[0] && t.counts[1] == w.kernel[1];
        for (int64_t i = 0; i < st->count; ++i) {
            const int32_t x = st->at[2] + int32_t(i);
            float* here = out + st->start + i;
            if (eight && x >= middle.from) {
                const int64_t room = middle.to - x, left = st->count - i;
                const int64_t n = room < left ? room : left;
                if (n >= 4) {
                    t.counts[2] = w.kernel[2];
                    t.weights = s.weights + tap * wide;
                    (n >= at_once ? eight : four)(t, data + (row + x - w.pad[2]) * stride, s.bias, here);
                    i += (n >= at_once ? at_once : 4) - 1;
                    continue;
                }
            }
            if (rows_inside && x >= middle.from && x < middle.to) {
                from[waiting] = data + (row + x * w.stride[2] - w.pad[2]) * stride;
                to[waiting++] = here;
                if (waiting == at_once) {
                    sum_rows<absolutes, T, at_once>(whole, from, s.bias, to);
                    waiting = 0;
                }
                continue;
            }
            const Reach r = reach(w, 2, x);
            t.counts[2] = r.to - r.from;
            t.weights = s.weights + (tap + r.from) * wide;
            const T* only = data + (row + r.first + r.from * w.dilation[2]) * stride;
            sum_rows<absolutes, T, 1>(t, &only, s.bias, &here);
        }
    }
    int done = 0;
    for (; waiting - done >= 4; done += 4) sum_rows<absolutes, T, 4>(whole, from + done, s.bias, to + done);
    for (; done < waiting; ++done) sum_rows<absolutes, T, 1>(whole, from + done, s.bias, to + done);
}

// Scores of one channel, as a norm has: neighbours along a row side by side in a vector. Sums have the order of
// `score_one`, so that which positions are asked for together does not matter.
float score_one(const Taps& t, const float* from, float bias) {
    float sum = bias;
    for (int32_t d = 0; d < t.counts[0]; ++d)
        for (int32_t h = 0; h < t.counts[1]; ++h)
            for (int32_t k = 0; k < t.counts[2]; ++k) {
                const int64_t tap = d * t.weight_steps[0] + h * t.weight_steps[1] + k * t.weight_steps[2];
                const float x = from[d * t.steps[0] + h * t.steps[1] + k * t.steps[2]];
                sum = sum + x * t.weights[tap];
            }
    return sum;
}

SACCADE_INLINE Vec score_neighbours(const Taps& t, const float* from, float bias) {
    Vec sum = splat(bias);
    for (int32_t d = 0; d < t.counts[0]; ++d)
        for (int32_t h = 0; h < t.counts[1]; ++h)
            for (int32_t k = 0; k < t.counts[2]; ++k) {
                const int64_t tap = d * t.weight_steps[0] + h * t.weight_steps[1] + k * t.weight_steps[2];
                const Vec x = load(from + d * t.steps[0] + h * t.steps[1] + k * t.steps[2]);
                sum = sum + x * splat(t.weights[tap]);
            }
    return sum;
}

void score_norms(const Scoring& s, const float* data, const int32_t* positions, int64_t count, float* out) {
    const Window& w = s.window;
    const Inside middle = inside(w, 2);
    Taps t = taps_of(s, 1);
    int64_t row = 0, tap = 0;
    for (Stretches st(w.out, positions, count); st.next();) {
        if (st->new_row) {
            const Reach d = reach(w, 0, st->at[0]), h = reach(w, 1, st->at[1]);
            t.counts[0] = d.to - d.from;
            t.counts[1] = h.to - h.from;
            row = in_row(w, st->n, d.first + d.from * w.dilation[0], h.first + h.from * w.dilation[1], 0);
            tap = (d.from * w.kernel[1] + h.from) * w.kernel[2];
        }
        for (int64_t i = 0; i < st->count;) {
            const int32_t x = st->at[2] + int32_t(i);
            float* here = out + st->start + i;
            const bool is_middle = x >= middle.from && x < middle.to;
            const Reach r = is_middle ? Reach{x * w.stride[2] - w.pad[2], 0, w.kernel[2]} : reach(w, 2, x);
            t.counts[2] = r.to - r.from;
            t.weights = s.weights + (tap + r.from) * padded(1);
            const float* from = data + row + r.first + r.from * w.dilation[2];
            int64_t n = 1;
            if (is_middle && w.stride[2] == 1) n = st->count - i < middle.to - x ? st->count - i : middle.to - x;
            i += n;
            for (; n >= lanes; n -= lanes, from += lanes, here += lanes)
                store(here, score_neighbours(t, from, s.bias));
            if (n >= 3) {  // what is read beyond is not kept
                store_part(here, score_neighbours(t, from, s.bias), n);
                n = 0;
            }
            for (; n > 0; --n) *here++ = score_one(t, from++, s.bias);
        }
    }
}

template <class T>
void difference_rows(const Rows& now, const Rows& last, int64_t channels, const Change& change,
                     const int32_t* positions, int64_t count) {
    const int64_t whole = channels - channels % lanes, rest = channels % lanes;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t p = positions[i];
        const T* fresh = row_of<T>(now, p);
        T* old = row_of<T>(last, p);
        T* r = change.rows ? static_cast<T*>(change.rows) + p * channels : nullptr;
        Vec sum = {};
        for (int64_t c = 0; c < whole; c += lanes) {
            const Vec v = load_as(fresh + c);
            const Vec d = rounded<T>(v - load_as(old + c));
            store_as(old + c, v);
            if (r) store_as(r + c, d);
            sum += absolute(d);
        }
        float few = 0;
        for (int64_t c = channels - rest; c < channels; ++c) {
            float d = number(fresh + c) - number(old + c);
            if (sizeof(T) == 2) d = widen(narrow(d));
            old[c] = fresh[c];
            if (r) set_number(r + c, d);
            few += d < 0 ? -d : d;
        }
        if (change.norms) change.norms[p] = sum_lanes(sum) + few;
    }
}

}  // namespace

void score(const Scoring& s, Rows in, const int32_t* positions, int64_t count, float* out) {
    if (in.type == Type::f32 && s.channels == 1 && in.stride == 1 && !s.absolute)
        score_norms(s, static_cast<const float*>(in.data), positions, count, out);
    else if (in.type == Type::f32)
        (s.absolute ? score_rows<true, float> : score_rows<false, float>)(s, static_cast<const float*>(in.data),
                                                                          in.stride, positions, count, out);
    else
        (s.absolute ? score_rows<true, uint16_t> : score_rows<false, uint16_t>)(
            s, static_cast<const uint16_t*>(in.data), in.stride, positions, count, out);
}

void difference(Rows now, Rows last, int32_t channels, const Change& change, const int32_t* positions, int64_t count) {
    if (now.type == Type::f32)
        difference_rows<float>(now, last, channels, change, positions, count);
    else
        difference_rows<uint16_t>(now, last, channels, change, positions, count);
}

void accumulate(float* sum, int32_t channels, int32_t add, const int32_t* positions, int64_t count, float* rows,
                int64_t ld) {
    const int64_t whole = channels - channels % lanes, rest = channels % lanes;
    for (int64_t i = 0; i < count; ++i) {
        float* z = sum + int64_t(positions[i]) * channels;
        float* row = rows + i * ld;
        for (int64_t c = 0; c < whole; c += lanes) {
            Vec v = load(row + c);
            if (add) store(row + c, v = v + load(z + c));
            store(z + c, v);
        }
        if (rest) {
            Vec v = load(row + whole);
            if (add) store(row + whole, v = v + load_first(z + whole, rest));
            store_part(z + whole, v, rest);
        }
    }
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
