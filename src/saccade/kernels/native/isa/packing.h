// The order of a convolution's sum, and its weights packed in that order.
//
// The sum runs over taps (depth, height, width), then input channels. It is cut into runs, contiguous in a row of the
// input (or, of few channels, over the taps of one window row), and the runs into folds: a fold is summed in registers,
// then added to the total. Folds keep the rounding error of long sums down and their weights in the first-level cache.
// Runs and folds depend on the convolution alone.
//
// Of a transposed convolution an output reads only the taps that fall on an input, every so many-th of each axis. Which
// ones depends on the output's phase, its place modulo the stride: every phase is a plain convolution of its own.
#pragma once
#include "../kernels.h"
#include "../simd.h"
#include "grouping.h"
#include "tile.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

constexpr int64_t fold_units = 192;
constexpr int64_t units_at_once = 18432 / block;  // so many are summed before the next tile: a fair part of the second-level cache

SACCADE_INLINE int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// bf16 rows feed the tile in pairs where the set has their dot product; elsewhere they are widened into a copy.
SACCADE_INLINE Type unit_of(const Convolution& c) {
#if defined(__AVX512BF16__)
    return c.type;
#else
    (void)c;
    return Type::f32;
#endif
}

SACCADE_INLINE int32_t phases_of(const Convolution& c) {
    return c.transposed ? c.window.stride[0] * c.window.stride[1] * c.window.stride[2] : 1;
}

SACCADE_INLINE int32_t phase_at(const Convolution& c, int32_t position) {
    const Window& w = c.window;
    int32_t phase = 0, radix = 1;
    for (int axis = 2; axis >= 0; --axis) {
        phase += (position % w.out[axis] + w.pad[axis]) % w.stride[axis] * radix;
        radix *= w.stride[axis];
        position /= w.out[axis];
    }
    return phase;
}

// The taps of a phase along one axis: first, first + every, ..., and the inputs they fall on.
struct AxisTaps {
    int32_t count = 0, first = 0, every = 1;
    int32_t step;  // of the input, from tap to tap

    AxisTaps() = default;
    AxisTaps(const Convolution& c, int axis, int32_t phase) {
        const Window& w = c.window;
        const int32_t stride = c.transposed ? w.stride[axis] : 1, dilation = w.dilation[axis];
        for (int32_t tap = 0; tap < w.kernel[axis]; ++tap)
            if (tap * dilation % stride == phase) {
                if (count == 0) first = tap;
                if (count == 1) every = tap - first;
                ++count;
            }
        step = c.transposed ? -(every * dilation / stride) : dilation;
    }
};

struct Packing {
    Type unit;
    bool widens;         // bf16 rows, fp32 arithmetic
    bool tiles;          // summed by matrix tiles (amx.h)
    bool copied;         // rows cannot be read in place: each position's inputs are copied, as one contiguous run
    bool rows_in_place;  // but where rows follow one another without gaps, each window row is a run that may be read
    AxisTaps along[3];
    int64_t taps, in_per_group, out_per_group, groups;
    int64_t values;      // inputs of one output of one group
    int64_t units;
    int64_t runs, run_units, runs_per_fold;
    int64_t runs_at_once;  // whole folds
    int64_t runs_joined;   // of window rows whose taps lie side by side, the runs that are then one; 1: none are
    int64_t blocks, block_stride, group_stride;

    explicit Packing(const Convolution& conv, int32_t phase = 0)
        : c(conv), joined(Grouping(conv).joined), inputs(c.in_channels / c.groups), outputs(c.out_channels / c.groups) {
        for (int axis = 2; axis >= 0; --axis) {
            const int32_t stride = c.transposed ? c.window.stride[axis] : 1;
            along[axis] = AxisTaps(c, axis, phase % stride);
            phase /= stride;
        }
        unit = unit_of(c);
        widens = c.type == Type::bf16 && unit == Type::f32;
        groups = c.groups / joined;
        taps = int64_t(along[0].count) * along[1].count * along[2].count;
        in_per_group = joined * inputs;
        out_per_group = joined * outputs;
        values = taps * in_per_group;
        const int64_t per_unit = unit == Type::bf16 ? 2 : 1;
        units = (values + per_unit - 1) / per_unit;
        // A row of the window is one long run where nothing lies between its taps; few channels each gain by it.
        const bool one_run = groups == 1 && along[2].step == 1 && along[2].count > 1;
        copied = widens || in_per_group % per_unit != 0 || in_per_group < (one_run ? 8 : 4) * per_unit;
        tiles = false;
#if defined(__AMX_BF16__)
        tiles = unit == Type::bf16 && groups == 1;
#endif
        if (tiles) {  // a tile takes 16 units at a time
            copied = in_per_group % (16 * per_unit) != 0;
            units = round_up(units, 16);
        }
        const int64_t row_units = along[2].count * in_per_group;
        rows_in_place = copied && c.type == Type::f32 && groups == 1 && along[2].step == 1 && row_units <= fold_units;
        run_units = rows_in_place ? row_units : copied ? units : in_per_group / per_unit;
        runs = rows_in_place ? along[0].count * along[1].count : copied ? 1 : taps;
        if (taps == 0) runs = 0;  // of a phase that reads no input: the bias
        if (run_units > fold_units && !tiles) {  // long runs are cut into equal parts, so that one length serves all
            int64_t parts = (run_units + fold_units - 1) / fold_units;
            while (run_units % parts) ++parts;
            if (run_units / parts >= fold_units / 4) {
                run_units /= parts;
                runs *= parts;
            }
        }
        runs_per_fold = run_units > 0 && run_units < fold_units ? fold_units / run_units : 1;
        // Folds of whole window rows, so that the taps of a row may be one run.
        const bool by_rows = groups == 1 && !copied && !tiles && along[2].step == 1 && runs == taps;
        runs_joined = by_rows && runs_per_fold >= along[2].count ? along[2].count : 1;
        runs_per_fold -= runs_per_fold % runs_joined;
        const int64_t folds = units_at_once / (runs_per_fold * run_units > 0 ? runs_per_fold * run_units : 1);
        runs_at_once = runs_per_fold * (folds > 1 ? folds : 1);
        blocks = (out_per_group + block - 1) / block;
        block_stride = units * block;
        group_stride = blocks * (block + block_stride);
    }

    int64_t bytes() const { return groups * group_stride * 4; }
    const float* bias(const void* packed, int64_t g) const {
        return static_cast<const float*>(packed) + g * group_stride;
    }
    const float* weights(const void* packed, int64_t g) const { return bias(packed, g) + blocks * block; }

    void fill(const float* weight, const float* given_bias, float* into) const {
        memset(into, 0, size_t(bytes()));
        for (int64_t g = 0; g < groups; ++g) {
            float* bias_row = into + g * group_stride;
            float* packed = bias_row + blocks * block;
            for (int64_t o = 0; o < out_per_group; ++o) {
                if (given_bias) bias_row[o] = given_bias[g * out_per_group + o];
                float* column = packed + (o / block) * block_stride + o % block;
                const int64_t of = o / outputs;  // of the joined groups; what it does not read stays 0
                int64_t k = of * inputs;
                for (int32_t d = 0; d < along[0].count; ++d)
                    for (int32_t h = 0; h < along[1].count; ++h)
                        for (int32_t x = 0; x < along[2].count; ++x, k += in_per_group)
                            for (int64_t i = 0; i < inputs; ++i)
                                put(column, k + i, weight[place(g * joined + of, o - of * outputs, i, d, h, x)]);
            }
        }
    }

private:
    // Where torch's layout holds the weight from input i to output o of group g at a tap of the phase.
    int64_t place(int64_t g, int64_t o, int64_t i, int32_t d, int32_t h, int32_t x) const {
        const int32_t* kernel = c.window.kernel;
        const int64_t pair = c.transposed ? (g * inputs + i) * outputs + o : (g * outputs + o) * inputs + i;
        const int64_t row = (pair * kernel[0] + along[0].first + d * along[0].every) * kernel[1] + along[1].first +
                            h * along[1].every;
        return row * kernel[2] + along[2].first + x * along[2].every;
    }

    void put(float* column, int64_t k, float value) const {
        if (unit == Type::bf16)
            reinterpret_cast<uint16_t*>(column + (k / 2) * block)[k % 2] = narrow(value);
        else
            column[k * block] = widens ? widen(narrow(value)) : value;
    }

    const Convolution& c;
    const int32_t joined;           // groups of the convolution in one of these
    const int64_t inputs, outputs;  // of a group of the convolution
};

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
