#include "depthwise.h"

#include "channels.h"
#include "stretches.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

namespace {

// Positions computed side by side, and vectors of channels of each. Where a window's width is known when compiled, an
// input is loaded once for all the positions that read it, and the weights of a row of the window stay in registers.
constexpr int known_most = 8;
#if defined(__AVX512F__)
constexpr int most = 8;
#else
constexpr int most = 4;
#endif
constexpr int vectors = 2;

int64_t packed_channels(const Convolution& c) { return (c.out_channels + 15) / 16 * 16; }

// What the windows of neighbouring positions of one row read: the same taps, an input step apart.
template <class T>
struct Taps {
    const T* input;         // the first position's first tap
    const float* weights;   // of that tap
    const float* bias;
    int32_t counts[3];      // taps over depth, height, width
    int64_t steps[3];       // from tap to tap, in elements of the input
    int64_t weight_steps[3];
    int64_t position_step;  // from position to position, in elements of the input
    int64_t channels;
    float* out;
    int64_t ld;
};

// P positions x a group of channels; over a row's width KW and stride S known when compiled, unless KW is 0.
template <int P, int KW, int S, class T, class G>
SACCADE_INLINE void block(const Taps<T>& t, const G& group) {
    constexpr int V = G::size;
    Vec sum[P][V];
#pragma GCC unroll 16
    for (int v = 0; v < V; ++v) {
        const Vec bias = load(t.bias + group.at(v));
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) sum[p][v] = bias;
    }
    for (int32_t d = 0; d < t.counts[0]; ++d)
        for (int32_t h = 0; h < t.counts[1]; ++h) {
            const T* x = t.input + d * t.steps[0] + h * t.steps[1];
            const float* w = t.weights + d * t.weight_steps[0] + h * t.weight_steps[1];
            if constexpr (KW > 0) {
                Vec b[KW][V];
#pragma GCC unroll 16
                for (int k = 0; k < KW; ++k, w = opaque(w + t.weight_steps[2]))
#pragma GCC unroll 16
                    for (int v = 0; v < V; ++v) b[k][v] = load(w + group.at(v));
#pragma GCC unroll 64
                for (int j = 0; j < (P - 1) * S + KW; ++j, x = opaque(x + t.steps[2]))
#pragma GCC unroll 16
                    for (int v = 0; v < V; ++v) {
                        const Vec a = group.load(x, v);
#pragma GCC unroll 16
                        for (int k = 0; k < KW; ++k)
                            if (j >= k && (j - k) % S == 0 && (j - k) / S < P)
                                sum[(j - k) / S][v] = fma(a, b[k][v], sum[(j - k) / S][v]);
                    }
            } else {
                for (int32_t k = 0; k < t.counts[2]; ++k, x += t.steps[2], w += t.weight_steps[2]) {
                    Vec b[V];
#pragma GCC unroll 16
                    for (int v = 0; v < V; ++v) b[v] = load(w + group.at(v));
#pragma GCC unroll 16
                    for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
                        for (int v = 0; v < V; ++v)
                            sum[p][v] = fma(group.load(x + p * t.position_step, v), b[v], sum[p][v]);
                }
            }
        }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (int v = 0; v < V; ++v) store(t.out + p * t.ld + group.at(v), sum[p][v]);
}

// All channels of P positions, V vectors of them at a time.
template <class T, int P, int V, int KW, int S>
void positions_together(const Taps<T>& t, bool inside) {
    over_channels<V>(t.channels, inside,
                     [&](auto group) __attribute__((always_inline)) { block<P, KW, S>(t, group); });
}

template <class T>
using Together = void (*)(const Taps<T>&, bool inside);

// How to compute a stretch: so many at once, and what is left by fewer.
template <class T>
struct Plan {
    int most;
    Together<T> run_most, run_four, run_two, run_one;
};

template <class T, int KW, int S>
constexpr Plan<T> known_plan() {
    return {known_most, positions_together<T, known_most, 1, KW, S>, positions_together<T, 4, 1, KW, S>,
            positions_together<T, 2, 1, KW, S>, positions_together<T, 1, 4, 0, 1>};
}

template <class T>
Plan<T> find_plan(const Window& w) {
    if (w.dilation[2] == 1) {
        const int kernel = w.kernel[2], stride = w.stride[2];
        if (kernel == 3 && stride == 1) return known_plan<T, 3, 1>();
        if (kernel == 3 && stride == 2) return known_plan<T, 3, 2>();
        if (kernel == 5 && stride == 1) return known_plan<T, 5, 1>();
        if (kernel == 5 && stride == 2) return known_plan<T, 5, 2>();
        if (kernel == 7 && stride == 1) return known_plan<T, 7, 1>();
    }
    return {most, positions_together<T, most, vectors, 0, 1>, positions_together<T, 4, vectors, 0, 1>,
            positions_together<T, 2, vectors, 0, 1>, positions_together<T, 1, 4, 0, 1>};
}

template <class T>
void convolve_rows(const Convolution& c, const T* data, int64_t stride, const int32_t* positions, int64_t count,
                   int64_t channels, float* out, int64_t ld) {
    const Window& w = c.window;
    const int64_t wide = packed_channels(c);
    const float* bias = static_cast<const float*>(c.packed);
    const float* weights = bias + wide;
    const Plan<T> plan = find_plan<T>(w);
    const Inside middle = inside(w, 2);
    // With few channels a vector reaches into the rows behind; the matrix ends with the last row's channels.
    const T* end = data + (positions_in(w) - 1) * stride + c.in_channels;

    Taps<T> t;
    t.bias = bias;
    t.channels = channels;
    t.ld = ld;
    t.position_step = w.stride[2] * stride;
    t.steps[0] = in_row(w, 0, w.dilation[0], 0, 0) * stride;
    t.steps[1] = in_row(w, 0, 0, w.dilation[1], 0) * stride;
    t.steps[2] = w.dilation[2] * stride;
    t.weight_steps[2] = wide;
    t.weight_steps[1] = w.kernel[2] * wide;
    t.weight_steps[0] = w.kernel[1] * t.weight_steps[1];

    int64_t row = 0, tap = 0;
    const T* last_row = data;
    for (Stretches s(w.out, positions, count); s.next();) {
        if (s->new_row) {
            const Reach d = reach(w, 0, s->at[0]), h = reach(w, 1, s->at[1]);
            t.counts[0] = d.to - d.from;
            t.counts[1] = h.to - h.from;
            row = in_row(w, s->n, d.first + d.from * w.dilation[0], h.first + h.from * w.dilation[1], 0);
            tap = (d.from * w.kernel[1] + h.from) * w.kernel[2];
            last_row = data + row * stride + (t.counts[0] - 1) * t.steps[0] + (t.counts[1] - 1) * t.steps[1];
        }
        for (int64_t i = 0; i < s->count;) {
            const int32_t x = s->at[2] + int32_t(i);
            t.out = out + (s->start + i) * ld;
            const bool is_middle = x >= middle.from && x < middle.to;
            const Reach r = is_middle ? Reach{x * w.stride[2] - w.pad[2], 0, w.kernel[2]} : reach(w, 2, x);
            t.counts[2] = r.to - r.from;
            t.input = data + (row + r.first + r.from * w.dilation[2]) * stride;
            t.weights = weights + (tap + r.from) * wide;
            int64_t n = 1;
            if (is_middle) n = s->count - i < middle.to - x ? s->count - i : middle.to - x;
            const int64_t reached = r.first + (n - 1) * w.stride[2] + (r.to - 1) * w.dilation[2];
            const bool in_matrix = t.counts[0] == 0 || t.counts[1] == 0 || last_row + reached * stride + lanes <= end;
            i += n;
            // The last of several blocks ends with the stretch and overlaps the block before: what is computed twice
            // is the same both times.
            const int step = n >= plan.most ? plan.most : n >= 4 ? 4 : n >= 2 ? 2 : 1;
            const Together<T> run = n >= plan.most ? plan.run_most
                                    : n >= 4       ? plan.run_four
                                    : n >= 2       ? plan.run_two
                                                   : plan.run_one;
            for (;;) {
                run(t, in_matrix);
                n -= step;
                if (n == 0) break;
                const int64_t move = n < step ? n : step;
                n += step - move;
                t.input += move * t.position_step;
                t.out += move * ld;
            }
        }
    }
}

}  // namespace

int64_t depthwise_packed_bytes(const Convolution& c) {
    const Window& w = c.window;
    return (int64_t(w.kernel[0]) * w.kernel[1] * w.kernel[2] + 1) * packed_channels(c) * 4;
}

void depthwise_pack(const Convolution& c, const float* weight, const float* bias, void* into) {
    const int64_t taps = int64_t(c.window.kernel[0]) * c.window.kernel[1] * c.window.kernel[2];
    const int64_t wide = packed_channels(c);
    memset(into, 0, size_t(depthwise_packed_bytes(c)));
    float* row = static_cast<float*>(into);
    if (bias) memcpy(row, bias, size_t(c.out_channels) * 4);
    row += wide;
    for (int64_t tap = 0; tap < taps; ++tap, row += wide)
        for (int64_t o = 0; o < c.out_channels; ++o) {
            const float value = weight[o * taps + tap];
            row[o] = c.type == Type::bf16 ? widen(narrow(value)) : value;
        }
}

void depthwise_convolve(const Convolution& c, Rows in, const int32_t* positions, int64_t count, int32_t prefix,
                        float* out, int64_t ld) {
    const int64_t channels = prefix < c.out_channels ? prefix : c.out_channels;
    if (in.type == Type::bf16)
        convolve_rows(c, static_cast<const uint16_t*>(in.data), in.stride, positions, count, channels, out, ld);
    else
        convolve_rows(c, static_cast<const float*>(in.data), in.stride, positions, count, channels, out, ld);
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
