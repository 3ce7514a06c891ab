// Depthwise convolution: every output channel reads its own input channel and no other.
#pragma once
#include "../kernels.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

static inline bool is_depthwise(const Convolution& c) {
    return !c.transposed && c.groups == c.in_channels && c.groups == c.out_channels;
}

// Packed: a row of biases, then one of weights per tap, each padded; fp32 (of a bf16 convolution rounded to bf16).
int64_t depthwise_packed_bytes(const Convolution&);
void depthwise_pack(const Convolution&, const float* weight, const float* bias, void* into);

// As `Kernels::convolve`, without scratch.
void depthwise_convolve(const Convolution&, Rows in, const int32_t* positions, int64_t count, int32_t prefix,
                        float* out, int64_t ld);

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
