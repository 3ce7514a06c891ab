// Pooling, interpolation, reductions, normalisation and masks by themselves, for tests and benchmarks.
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>

#include <array>

#include "bindings.h"
#include "instruction_sets.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace saccade {

namespace {

using Axes = std::array<int32_t, 3>;

template <class T>
T* at(uintptr_t pointer) {
    return reinterpret_cast<T*>(pointer);
}

// Where a producer reads and writes; `rows` and `out` are the first row's addresses, `positions` that of the list.
struct Task {
    Rows in;
    const int32_t* positions;
    int64_t count;
    float* out;
    int64_t ld;
};

Task make_task(bool bf16, uintptr_t rows, int64_t stride, uintptr_t positions, int64_t count, uintptr_t out,
               int64_t ld) {
    return {{at<const void>(rows), stride, bf16 ? Type::bf16 : Type::f32}, at<const int32_t>(positions), count,
            at<float>(out), ld};
}

Window make_window(int32_t batch, Axes in, Axes out, Axes kernel, Axes stride, Axes pad, Axes dilation) {
    Window w;
    w.batch = batch;
    for (size_t i = 0; i < 3; ++i) {
        w.in[i] = in[i];
        w.out[i] = out[i];
        w.kernel[i] = kernel[i];
        w.stride[i] = stride[i];
        w.pad[i] = pad[i];
        w.dilation[i] = dilation[i];
    }
    return w;
}

void pool(const std::string& isa, bool average, int32_t batch, Axes in, Axes out_size, Axes kernel, Axes stride,
          Axes pad, Axes dilation, int32_t channels, bool count_include_pad, int32_t divisor_override, bool bf16,
          uintptr_t rows, int64_t row_stride, uintptr_t positions, int64_t count, uintptr_t out, int64_t ld) {
    const Task t = make_task(bf16, rows, row_stride, positions, count, out, ld);
    const Pooling task = {make_window(batch, in, out_size, kernel, stride, pad, dilation),
                          channels,
                          average ? Pool::average : Pool::max,
                          count_include_pad,
                          divisor_override,
                          t.in.type};
    find_kernels(isa).pool(task, t.in, t.positions, t.count, t.out, t.ld);
}

void interpolate(const std::string& isa, int32_t batch, int32_t channels, Axes in, Axes out_size,
                 std::array<uintptr_t, 3> low, std::array<uintptr_t, 3> high, std::array<uintptr_t, 3> weight,
                 bool bf16, uintptr_t rows, int64_t row_stride, uintptr_t positions, int64_t count, uintptr_t out,
                 int64_t ld) {
    const Task t = make_task(bf16, rows, row_stride, positions, count, out, ld);
    Interpolation task;
    task.batch = batch;
    task.channels = channels;
    task.type = t.in.type;
    for (size_t i = 0; i < 3; ++i) {
        task.in[i] = in[i];
        task.out[i] = out_size[i];
        task.low[i] = at<const int32_t>(low[i]);
        task.high[i] = at<const int32_t>(high[i]);
        task.weight[i] = at<const float>(weight[i]);
    }
    find_kernels(isa).interpolate(task, t.in, t.positions, t.count, t.out, t.ld);
}

void reduce(const std::string& isa, int32_t kind, int32_t channels, uintptr_t members, int32_t member_count, bool bf16,
            uintptr_t rows, int64_t row_stride, uintptr_t positions, int64_t count, uintptr_t out, int64_t ld) {
    const Task t = make_task(bf16, rows, row_stride, positions, count, out, ld);
    const Reduction task = {channels, member_count, at<const int32_t>(members), Reduce(kind), t.in.type};
    find_kernels(isa).reduce(task, t.in, t.positions, t.count, t.out, t.ld);
}

void normalise(const std::string& isa, int32_t kind, int32_t channels, float epsilon, uintptr_t scale, uintptr_t shift,
               bool bf16, uintptr_t rows, int64_t row_stride, uintptr_t positions, int64_t count, uintptr_t out,
               int64_t ld) {
    const Task t = make_task(bf16, rows, row_stride, positions, count, out, ld);
    const Normalisation task = {channels, Line(kind), epsilon, at<const float>(scale), at<const float>(shift),
                                t.in.type};
    find_kernels(isa).normalise(task, t.in, t.positions, t.count, t.out, t.ld);
}

void dilate(const std::string& isa, bool transposed, int32_t batch, Axes in, Axes out_size, Axes kernel, Axes stride,
            Axes pad, Axes dilation, uintptr_t mask, uintptr_t out) {
    find_kernels(isa).dilate(make_window(batch, in, out_size, kernel, stride, pad, dilation), transposed,
                             at<const uint8_t>(mask), at<uint8_t>(out));
}

}  // namespace

void bind_windows(nb::module_& m) {
    m.def("pool", &pool, "isa"_a, nb::kw_only(), "average"_a, "batch"_a, "in_size"_a, "out_size"_a, "kernel"_a,
          "stride"_a, "pad"_a, "dilation"_a, "channels"_a, "count_include_pad"_a, "divisor_override"_a, "bf16"_a,
          "rows"_a, "row_stride"_a, "positions"_a, "count"_a, "out"_a, "ld"_a);
    m.def("interpolate", &interpolate, "isa"_a, nb::kw_only(), "batch"_a, "channels"_a, "in_size"_a, "out_size"_a,
          "low"_a, "high"_a, "weight"_a, "bf16"_a, "rows"_a, "row_stride"_a, "positions"_a, "count"_a, "out"_a, "ld"_a);
    m.def("reduce", &reduce, "isa"_a, nb::kw_only(), "kind"_a, "channels"_a, "members"_a, "member_count"_a, "bf16"_a,
          "rows"_a, "row_stride"_a, "positions"_a, "count"_a, "out"_a, "ld"_a);
    m.def("normalise", &normalise, "isa"_a, nb::kw_only(), "kind"_a, "channels"_a, "epsilon"_a, "scale"_a, "shift"_a,
          "bf16"_a, "rows"_a, "row_stride"_a, "positions"_a, "count"_a, "out"_a, "ld"_a);
    m.def("dilate", &dilate, "isa"_a, nb::kw_only(), "transposed"_a, "batch"_a, "in_size"_a, "out_size"_a, "kernel"_a,
          "stride"_a, "pad"_a, "dilation"_a, "mask"_a, "out"_a);
    m.def("mask_or", [](const std::string& isa, uintptr_t mask, uintptr_t out, int64_t count) {
        find_kernels(isa).mask_or(at<const uint8_t>(mask), at<uint8_t>(out), count);
    }, "isa"_a, nb::kw_only(), "mask"_a, "out"_a, "count"_a);
    m.def("mask_or_map", [](const std::string& isa, uintptr_t mask, uintptr_t map, uintptr_t out, int64_t count) {
        find_kernels(isa).mask_or_map(at<const uint8_t>(mask), at<const int32_t>(map), at<uint8_t>(out), count);
    }, "isa"_a, nb::kw_only(), "mask"_a, "map"_a, "out"_a, "count"_a);
    m.def("collect", [](const std::string& isa, uintptr_t mask, int64_t count, uintptr_t positions) {
        return find_kernels(isa).collect(at<const uint8_t>(mask), count, at<int32_t>(positions));
    }, "isa"_a, nb::kw_only(), "mask"_a, "count"_a, "positions"_a);
}

}  // namespace saccade
