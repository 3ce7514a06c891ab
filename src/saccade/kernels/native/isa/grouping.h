// How a grouped convolution is summed, by what the forms cost.
//
// A register tile's lanes are output channels, so groups of few outputs leave lanes empty, and every group has pointers
// and calls of its own. Two other forms need neither:
// - several groups joined to one, with zeros where an output does not read an input;
// - by channels: lanes are input channels. Each is summed over the taps as in a depthwise convolution, once for every
//   output of a group, and then the channels of a group are added up.
#pragma once
#include "../kernels.h"
#include "../simd.h"
#include "depthwise.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

struct Grouping {
    bool by_channels = false;
    int32_t joined = 1;  // groups taken as one

    // Costs are in multiplications of a vector, at one position. What a group costs beside them, and the adding up of
    // single channels, was measured on AVX2.
    explicit Grouping(const Convolution& c) {
        if (c.groups == 1 || c.transposed || is_depthwise(c)) return;
        constexpr int64_t of_group = 80, of_sum = 2;
        const int64_t taps = int64_t(c.window.kernel[0]) * c.window.kernel[1] * c.window.kernel[2];
        const int64_t inputs = c.in_channels / c.groups, outputs = c.out_channels / c.groups;
        int64_t least = 0;
        for (int32_t n = 1; n == 1 || (n <= c.groups && n * outputs <= 8 * lanes); ++n) {
            if (c.groups % n) continue;
            const int64_t cost = c.groups / n * (of_group + taps * n * inputs * vectors(n * outputs));
            if (n == 1 || cost < least) {
                least = cost;
                joined = n;
            }
        }
        by_channels = outputs * (taps * vectors(c.in_channels) + of_sum * c.in_channels) < least;
        if (by_channels) joined = 1;
    }

private:
    static int64_t vectors(int64_t channels) { return (channels + lanes - 1) / lanes; }
};

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
