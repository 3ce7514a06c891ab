#include "by_channels.h"

#include "depthwise.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

namespace {

Convolution depthwise_of(const Convolution& c) {
    Convolution d = c;
    d.out_channels = d.groups = c.in_channels;
    return d;
}

int64_t bias_bytes(const Convolution& c) { return padded(c.out_channels) * 4; }

// out = bias + the sum over a group's inputs, for every group; `known` inputs, or as many as `inputs` says.
template <int known>
void add_up(const float* row, int64_t groups, int64_t inputs, const float* bias, float* out, int64_t outputs) {
    if (known) inputs = known;
    for (int64_t g = 0; g < groups; ++g, row += inputs) {
        float even = row[0], odd = inputs > 1 ? row[1] : 0.0f;
        for (int64_t i = 2; i + 1 < inputs; i += 2) {
            even += row[i];
            odd += row[i + 1];
        }
        if (inputs > 2 && inputs % 2) even += row[inputs - 1];
        out[g * outputs] = bias[g * outputs] + (even + odd);
    }
}

}  // namespace

int64_t by_channels_packed_bytes(const Convolution& c) {
    return bias_bytes(c) + c.out_channels / c.groups * depthwise_packed_bytes(depthwise_of(c));
}

void by_channels_pack(const Convolution& c, const float* weight, const float* bias, void* into) {
    const Convolution d = depthwise_of(c);
    const int64_t taps = int64_t(c.window.kernel[0]) * c.window.kernel[1] * c.window.kernel[2];
    const int64_t inputs = c.in_channels / c.groups, outputs = c.out_channels / c.groups;
    char* to = static_cast<char*>(into);
    memset(to, 0, size_t(bias_bytes(c)));
    if (bias) memcpy(to, bias, size_t(c.out_channels) * 4);
    to += bias_bytes(c);
    float* of_output = new float[size_t(c.in_channels * taps)];  // (in_channels, taps)
    for (int64_t o = 0; o < outputs; ++o, to += depthwise_packed_bytes(d)) {
        for (int64_t g = 0; g < c.groups; ++g)
            memcpy(of_output + g * inputs * taps, weight + (g * outputs + o) * inputs * taps,
                   size_t(inputs * taps) * 4);
        depthwise_pack(d, of_output, nullptr, to);
    }
    delete[] of_output;
}

int64_t by_channels_scratch_bytes(const Convolution& c) { return by_channels_chunk * padded(c.in_channels) * 4 + 64; }

void by_channels_convolve(const Convolution& c, Rows in, const int32_t* positions, int64_t count, int32_t prefix,
                          float* out, int64_t ld, void* scratch) {
    const int64_t inputs = c.in_channels / c.groups, outputs = c.out_channels / c.groups;
    const int64_t groups = (prefix + outputs - 1) / outputs, wide = padded(c.in_channels);
    const float* bias = static_cast<const float*>(c.packed);
    float* products = static_cast<float*>(scratch);
    Convolution d = depthwise_of(c);
    d.packed = static_cast<const char*>(c.packed) + bias_bytes(c);
    const auto sum = inputs == 4 ? add_up<4> : inputs == 8 ? add_up<8> : inputs == 2 ? add_up<2> : add_up<0>;
    for (int64_t o = 0; o < outputs; ++o) {
        const int64_t with = (groups - 1) * outputs + o < prefix ? groups : groups - 1;  // this output is wanted of so many
        if (with == 0) break;
        depthwise_convolve(d, in, positions, count, int32_t(with * inputs), products, wide);
        for (int64_t p = 0; p < count; ++p)
            sum(products + p * wide, with, inputs, bias + o, out + p * ld + o, outputs);
        d.packed = static_cast<const char*>(d.packed) + depthwise_packed_bytes(d);
    }
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
