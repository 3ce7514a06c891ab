// Row operations, keep and load by themselves, for tests and benchmarks.
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <tuple>

#include "bindings.h"
#include "instruction_sets.h"

namespace nb = nanobind;

namespace saccade {

namespace {

using Address = uintptr_t;
using RowsData = std::tuple<Address, int64_t, bool>;  // data, stride, bf16
// op, operand, alpha, beta, gamma, address of the channels' numbers, rows, address of the map, broadcast
using OpData = std::tuple<int32_t, int32_t, float, float, float, Address, RowsData, Address, int32_t>;

using Axes = std::array<int32_t, 3>;

const int32_t* ints(Address at) { return reinterpret_cast<const int32_t*>(at); }
const float* floats(Address at) { return reinterpret_cast<const float*>(at); }

Rows make_rows(const RowsData& data) {
    const auto& [at, stride, bf16] = data;
    return {reinterpret_cast<const void*>(at), stride, bf16 ? Type::bf16 : Type::f32};
}

void load_rows(const std::string& isa, const RowsData& in, int32_t channels, Address map, int32_t broadcast,
               Address positions, int64_t count, Address out, int64_t ld) {
    const Kernels& k = find_kernels(isa);
    nb::gil_scoped_release release;
    k.load(make_rows(in), channels, ints(map), broadcast, ints(positions), count, reinterpret_cast<float*>(out), ld);
}

void apply_rows(const std::string& isa, const std::vector<OpData>& ops, int32_t channels, Address positions,
                int64_t count, Address rows, int64_t ld) {
    const Kernels& k = find_kernels(isa);
    std::vector<RowOp> list;
    for (const auto& [op, operand, alpha, beta, gamma, vector, other, map, broadcast] : ops)
        list.push_back({Op(op), Operand(operand), alpha, beta, gamma, floats(vector), make_rows(other), ints(map),
                        broadcast});
    nb::gil_scoped_release release;
    k.apply(list.data(), int32_t(list.size()), channels, ints(positions), count, reinterpret_cast<float*>(rows), ld);
}

int64_t keep_rows(const std::string& isa, const RowsData& value, int32_t channels, int32_t form,
                  const RowsData& record, float threshold, Address weights, Address announced, bool first,
                  Address positions, int64_t count, Address rows, int64_t ld) {
    const Kernels& k = find_kernels(isa);
    const Keep task = {make_rows(value), channels,        Record(form), make_rows(record), threshold,
                       floats(weights),  reinterpret_cast<uint8_t*>(announced), first, {}, {}};
    nb::gil_scoped_release release;
    return k.keep(task, ints(positions), count, floats(rows), ld);
}

// weights: per tap `padded(channels)` numbers.
void score_positions(const std::string& isa, int32_t batch, Axes in, Axes out_size, Axes kernel, Axes stride, Axes pad,
                     Axes dilation, int32_t channels, bool absolute, const RowsData& rows, Address weights, float bias,
                     Address positions, int64_t count, Address out) {
    Scoring task{};
    task.window.batch = batch;
    for (size_t i = 0; i < 3; ++i) {
        task.window.in[i] = in[i];
        task.window.out[i] = out_size[i];
        task.window.kernel[i] = kernel[i];
        task.window.stride[i] = stride[i];
        task.window.pad[i] = pad[i];
        task.window.dilation[i] = dilation[i];
    }
    const Rows source = make_rows(rows);
    task.channels = channels;
    task.absolute = absolute;
    task.type = source.type;
    task.weights = floats(weights);
    task.bias = bias;
    find_kernels(isa).score(task, source, ints(positions), count, reinterpret_cast<float*>(out));
}

void difference_rows(const std::string& isa, const RowsData& now, const RowsData& last, int32_t channels, Address rows,
                     Address norms, Address positions, int64_t count) {
    const Change change = {reinterpret_cast<void*>(rows), reinterpret_cast<float*>(norms)};
    find_kernels(isa).difference(make_rows(now), make_rows(last), channels, change, ints(positions), count);
}

void accumulate_rows(const std::string& isa, Address sum, int32_t channels, bool add, Address positions, int64_t count,
                     Address rows, int64_t ld) {
    find_kernels(isa).accumulate(reinterpret_cast<float*>(sum), channels, add, ints(positions), count,
                                 reinterpret_cast<float*>(rows), ld);
}

}  // namespace

void bind_rows(nb::module_& m) {
    m.def("load_rows", &load_rows, nb::arg("isa"), nb::kw_only(), nb::arg("source"), nb::arg("channels"),
          nb::arg("map"), nb::arg("broadcast"), nb::arg("positions"), nb::arg("count"), nb::arg("out"), nb::arg("ld"));
    m.def("apply_rows", &apply_rows, nb::arg("isa"), nb::kw_only(), nb::arg("ops"), nb::arg("channels"),
          nb::arg("positions"), nb::arg("count"), nb::arg("rows"), nb::arg("ld"));
    m.def("keep_rows", &keep_rows, nb::arg("isa"), nb::kw_only(), nb::arg("value"), nb::arg("channels"),
          nb::arg("form"), nb::arg("record"), nb::arg("threshold"), nb::arg("weights"), nb::arg("announced"),
          nb::arg("first"), nb::arg("positions"), nb::arg("count"), nb::arg("rows"), nb::arg("ld"));
    m.def("score", &score_positions, nb::arg("isa"), nb::kw_only(), nb::arg("batch"), nb::arg("in_size"),
          nb::arg("out_size"), nb::arg("kernel"), nb::arg("stride"), nb::arg("pad"), nb::arg("dilation"),
          nb::arg("channels"), nb::arg("absolute"), nb::arg("rows"), nb::arg("weights"), nb::arg("bias"), nb::arg("positions"),
          nb::arg("count"), nb::arg("out"));
    m.def("difference", &difference_rows, nb::arg("isa"), nb::kw_only(), nb::arg("now"), nb::arg("last"),
          nb::arg("channels"), nb::arg("rows"), nb::arg("norms"), nb::arg("positions"), nb::arg("count"));
    m.def("accumulate", &accumulate_rows, nb::arg("isa"), nb::kw_only(), nb::arg("sum"), nb::arg("channels"),
          nb::arg("add"), nb::arg("positions"), nb::arg("count"), nb::arg("rows"), nb::arg("ld"));
}

}  // namespace saccade
