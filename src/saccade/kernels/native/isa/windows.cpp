// Pooling and linear interpolation at chosen positions.
#include "channels.h"
#include "routines.h"
#include "stretches.h"
#include "vector_math.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

namespace {

// The taps of one window that fall inside the input.
template <class T>
struct Area {
    const T* first;
    int32_t counts[3];  // over depth, height, width
    int64_t steps[3];   // from tap to tap, in elements
};

template <Pool kind, class T, class G>
SACCADE_INLINE void pool_vectors(const Area<T>& area, const G& group, Vec divisor, float* out) {
    Vec sum[G::size];
#pragma GCC unroll 4
    for (int v = 0; v < G::size; ++v) sum[v] = splat(kind == Pool::max ? -__builtin_inff() : 0.0f);
    for (int32_t d = 0; d < area.counts[0]; ++d)
        for (int32_t h = 0; h < area.counts[1]; ++h) {
            const T* x = area.first + d * area.steps[0] + h * area.steps[1];
            for (int32_t k = 0; k < area.counts[2]; ++k, x += area.steps[2])
#pragma GCC unroll 4
                for (int v = 0; v < G::size; ++v) {
                    const Vec value = group.load(x, v);
                    // As torch: the first of equals stays, and a NaN is never replaced by a number.
                    sum[v] = kind == Pool::max ? maximum(value, sum[v]) : sum[v] + value;
                }
        }
#pragma GCC unroll 4
    for (int v = 0; v < G::size; ++v) store(out + group.at(v), kind == Pool::max ? sum[v] : sum[v] / divisor);
}

// Taps of a window that fall on the input or its padding. With rounding up, a window may stick out of both.
int32_t padded_taps(const Window& w, int axis, const Reach& r) {
    const int32_t room = w.in[axis] + w.pad[axis] - r.first, step = w.dilation[axis];
    const int32_t taps = room <= 0 ? 0 : (room + step - 1) / step;
    return taps < w.kernel[axis] ? taps : w.kernel[axis];
}

template <Pool kind, class T>
void pool_rows(const Pooling& task, const T* data, int64_t stride, const int32_t* positions, int64_t count, float* out,
               int64_t ld) {
    const Window& w = task.window;
    const int64_t channels = task.channels;
    const T* end = data + (positions_in(w) - 1) * stride + channels;
    const Inside middle = inside(w, 2);
    Area<T> area;
    area.steps[0] = in_row(w, 0, w.dilation[0], 0, 0) * stride;
    area.steps[1] = in_row(w, 0, 0, w.dilation[1], 0) * stride;
    area.steps[2] = w.dilation[2] * stride;
    int64_t row = 0;
    int32_t above = 0;  // taps over depth and height that count in a divisor with padding
    for (Stretches s(w.out, positions, count); s.next();) {
        if (s->new_row) {
            const Reach d = reach(w, 0, s->at[0]), h = reach(w, 1, s->at[1]);
            area.counts[0] = d.to - d.from;
            area.counts[1] = h.to - h.from;
            row = in_row(w, s->n, d.first + d.from * w.dilation[0], h.first + h.from * w.dilation[1], 0);
            above = padded_taps(w, 0, d) * padded_taps(w, 1, h);
        }
        for (int64_t i = 0; i < s->count; ++i) {
            const int32_t x = s->at[2] + int32_t(i);
            const bool is_middle = x >= middle.from && x < middle.to;
            const Reach r = is_middle ? Reach{x * w.stride[2] - w.pad[2], 0, w.kernel[2]} : reach(w, 2, x);
            area.counts[2] = r.to - r.from;
            area.first = data + (row + r.first + r.from * w.dilation[2]) * stride;
            const int32_t taps = area.counts[0] * area.counts[1] * area.counts[2];
            float divisor = 1;
            if (kind == Pool::average) {
                const int32_t by = task.divisor_override ? task.divisor_override
                                   : task.count_include_pad
                                       ? above * (is_middle ? w.kernel[2] : padded_taps(w, 2, r))
                                       : taps;
                divisor = float(by);
            }
            const T* farthest = area.first + (area.counts[0] - 1) * area.steps[0] +
                                (area.counts[1] - 1) * area.steps[1] + (area.counts[2] - 1) * area.steps[2];
            over_channels<4>(channels, taps == 0 || farthest + lanes <= end,
                             [&](auto group) __attribute__((always_inline)) {
                                 pool_vectors<kind>(area, group, splat(divisor), out + (s->start + i) * ld);
                             });
        }
    }
}

template <class T>
void pool_kind(const Pooling& task, const T* data, int64_t stride, const int32_t* positions, int64_t count, float* out,
               int64_t ld) {
    if (task.kind == Pool::max)
        pool_rows<Pool::max>(task, data, stride, positions, count, out, ld);
    else
        pool_rows<Pool::average>(task, data, stride, positions, count, out, ld);
}

// Two inputs along every axis that moves, one along the others: a corner is numbered by depth, height, width.
template <class T>
struct Corners {
    const T* rows[4];     // of the four depths and heights
    int64_t columns[2];   // elements from there
    Vec low[3], high[3];  // weights
};

template <int axes, int axis, class T, class G>
SACCADE_INLINE Vec blend(const Corners<T>& at, const G& group, int v, int row, int column) {
    if constexpr (axis == 3) {
        return group.load(at.rows[row] + at.columns[column], v);
    } else {
        const int step_row = axis == 0 ? 2 : axis == 1 ? 1 : 0, step_column = axis == 2 ? 1 : 0;
        const Vec low = blend<axes, axis + 1>(at, group, v, row, column);
        if constexpr (((axes >> axis) & 1) == 0) {
            return low;
        } else {
            const Vec high = blend<axes, axis + 1>(at, group, v, row + step_row, column + step_column);
            return fma(high, at.high[axis], low * at.low[axis]);
        }
    }
}

template <int axes, class T>
void interpolate_rows(const Interpolation& task, const T* data, int64_t stride, const int32_t* positions,
                      int64_t count, float* out, int64_t ld) {
    const int64_t channels = task.channels;
    const int32_t* in = task.in;
    const T* end = data + (int64_t(task.batch) * in[0] * in[1] * in[2] - 1) * stride + channels;
    Corners<T> at;
    const T* farthest_row = data;
    for (Stretches s(task.out, positions, count); s.next();) {
        if (s->new_row) {
            for (int axis = 0; axis < 2; ++axis) {
                at.high[axis] = splat(task.weight[axis][s->at[axis]]);
                at.low[axis] = splat(1.0f - task.weight[axis][s->at[axis]]);
            }
            for (int corner = 0; corner < 4; ++corner) {
                const int64_t d = (corner & 2 && axes & 1 ? task.high : task.low)[0][s->at[0]];
                const int64_t h = (corner & 1 && axes & 2 ? task.high : task.low)[1][s->at[1]];
                at.rows[corner] = data + ((s->n * in[0] + d) * in[1] + h) * in[2] * stride;
                if (corner == 0 || at.rows[corner] > farthest_row) farthest_row = at.rows[corner];
            }
        }
        for (int64_t i = 0; i < s->count; ++i) {
            const int64_t x = s->at[2] + i;
            at.high[2] = splat(task.weight[2][x]);
            at.low[2] = splat(1.0f - task.weight[2][x]);
            at.columns[0] = task.low[2][x] * stride;
            at.columns[1] = (axes & 4 ? task.high : task.low)[2][x] * stride;
            const int64_t farther = at.columns[1] > at.columns[0] ? at.columns[1] : at.columns[0];
            float* to = out + (s->start + i) * ld;
            over_channels<1>(channels, farthest_row + farther + lanes <= end,
                             [&](auto group) __attribute__((always_inline)) {
                                 store(to + group.at(0), blend<axes, 0>(at, group, 0, 0, 0));
                             });
        }
    }
}

// An axis where every weight is 0 has one input per output.
bool moves(const float* weights, int32_t size) {
    for (int32_t i = 0; i < size; ++i)
        if (weights[i] != 0) return true;
    return false;
}

template <class T>
void interpolate_axes(const Interpolation& task, const T* data, int64_t stride, const int32_t* positions, int64_t count,
                      float* out, int64_t ld) {
    int axes = 0;
    for (int axis = 0; axis < 3; ++axis)
        if (moves(task.weight[axis], task.out[axis])) axes |= 1 << axis;
    switch (axes) {
        case 0: return interpolate_rows<0>(task, data, stride, positions, count, out, ld);
        case 1: return interpolate_rows<1>(task, data, stride, positions, count, out, ld);
        case 2: return interpolate_rows<2>(task, data, stride, positions, count, out, ld);
        case 3: return interpolate_rows<3>(task, data, stride, positions, count, out, ld);
        case 4: return interpolate_rows<4>(task, data, stride, positions, count, out, ld);
        case 5: return interpolate_rows<5>(task, data, stride, positions, count, out, ld);
        case 6: return interpolate_rows<6>(task, data, stride, positions, count, out, ld);
        case 7: return interpolate_rows<7>(task, data, stride, positions, count, out, ld);
    }
}

}  // namespace

void pool(const Pooling& task, Rows in, const int32_t* positions, int64_t count, float* out, int64_t ld) {
    if (in.type == Type::bf16)
        pool_kind(task, static_cast<const uint16_t*>(in.data), in.stride, positions, count, out, ld);
    else
        pool_kind(task, static_cast<const float*>(in.data), in.stride, positions, count, out, ld);
}

void interpolate(const Interpolation& task, Rows in, const int32_t* positions, int64_t count, float* out, int64_t ld) {
    if (in.type == Type::bf16)
        interpolate_axes(task, static_cast<const uint16_t*>(in.data), in.stride, positions, count, out, ld);
    else
        interpolate_axes(task, static_cast<const float*>(in.data), in.stride, positions, count, out, ld);
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
