// One packed convolution by itself, for tests and benchmarks.
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>

#include <array>

#include "aligned.h"
#include "bindings.h"
#include "instruction_sets.h"

namespace nb = nanobind;

namespace saccade {

namespace {

using Axes = std::array<int32_t, 3>;

class PackedConvolution {
public:
    PackedConvolution(const std::string& isa, int32_t batch, Axes in, Axes out, Axes kernel, Axes stride, Axes pad,
                      Axes dilation, int32_t in_channels, int32_t out_channels, int32_t groups, bool transposed,
                      bool bf16, uintptr_t weight, uintptr_t bias)
        : kernels_(find_kernels(isa)) {
        c_.window.batch = batch;
        for (int i = 0; i < 3; ++i) {
            c_.window.in[i] = in[i];
            c_.window.out[i] = out[i];
            c_.window.kernel[i] = kernel[i];
            c_.window.stride[i] = stride[i];
            c_.window.pad[i] = pad[i];
            c_.window.dilation[i] = dilation[i];
        }
        c_.in_channels = in_channels;
        c_.out_channels = out_channels;
        c_.groups = groups;
        c_.transposed = transposed;
        c_.type = bf16 ? Type::bf16 : Type::f32;
        packed_ = allocate<char>(kernels_.packed_bytes(c_));
        kernels_.pack(c_, reinterpret_cast<const float*>(weight), reinterpret_cast<const float*>(bias), packed_.get());
        c_.packed = packed_.get();
        scratch_ = allocate<char>(kernels_.convolve_scratch_bytes(c_));
    }

    void run(uintptr_t rows, int64_t stride, uintptr_t positions, int64_t count, int32_t prefix, uintptr_t out,
             int64_t ld) {
        const Rows in = {reinterpret_cast<const void*>(rows), stride, c_.type};
        nb::gil_scoped_release release;
        const int64_t chunk = kernels_.convolve_chunk(c_);
        const int32_t* list = reinterpret_cast<const int32_t*>(positions);
        for (int64_t at = 0; at < count; at += chunk)
            kernels_.convolve(c_, in, list + at, count - at < chunk ? count - at : chunk, prefix,
                              reinterpret_cast<float*>(out) + at * ld, ld, scratch_.get(), Rows{});
    }

private:
    const Kernels& kernels_;
    Convolution c_{};
    Aligned<char> packed_, scratch_;
};

}  // namespace

void bind_convolution(nb::module_& m) {
    nb::class_<PackedConvolution>(m, "PackedConvolution")
        .def(nb::init<const std::string&, int32_t, Axes, Axes, Axes, Axes, Axes, Axes, int32_t, int32_t, int32_t, bool,
                      bool, uintptr_t, uintptr_t>(),
             nb::arg("isa"), nb::kw_only(), nb::arg("batch"), nb::arg("in_size"), nb::arg("out_size"),
             nb::arg("kernel"), nb::arg("stride"), nb::arg("pad"), nb::arg("dilation"), nb::arg("in_channels"),
             nb::arg("out_channels"), nb::arg("groups"), nb::arg("transposed"), nb::arg("bf16"), nb::arg("weight"),
             nb::arg("bias"))
        .def("run", &PackedConvolution::run, nb::arg("rows"), nb::arg("stride"), nb::arg("positions"),
             nb::arg("count"), nb::arg("prefix"), nb::arg("out"), nb::arg("ld"));
}

}  // namespace saccade
