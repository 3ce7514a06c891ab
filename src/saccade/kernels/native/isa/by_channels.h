// Grouped convolution with input channels as lanes (grouping.h).
#pragma once
#include "../kernels.h"
#include "../simd.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

constexpr int64_t by_channels_chunk = 96;  // positions

// Packed: a row of biases, then one depthwise convolution of the inputs for each output of a group.
int64_t by_channels_packed_bytes(const Convolution&);
void by_channels_pack(const Convolution&, const float* weight, const float* bias, void* into);
int64_t by_channels_scratch_bytes(const Convolution&);

// As `Kernels::convolve`, at most `by_channels_chunk` positions.
void by_channels_convolve(const Convolution&, Rows in, const int32_t* positions, int64_t count, int32_t prefix,
                          float* out, int64_t ld, void* scratch);

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
