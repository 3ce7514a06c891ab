// How Python builds a program, and runs it on a state.
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <tuple>

#include "bindings.h"
#include "state.h"

namespace nb = nanobind;

namespace saccade {

namespace {

using Axes = std::array<int32_t, 3>;
using Address = uintptr_t;
// kind, value, address of int32 indices, indices, per position
using SupportData = std::tuple<int32_t, int32_t, Address, int64_t, int64_t>;
// op, operand, alpha, beta, gamma, address of fp32 numbers, numbers, value, address of the int32 map, map, broadcast
using OpData =
    std::tuple<int32_t, int32_t, float, float, float, Address, int64_t, int32_t, Address, int64_t, int32_t>;
// source, address of the int32 map, map, address of int32 channels, from, to, count
using PartData = std::tuple<int32_t, Address, int64_t, Address, int64_t, int64_t, int64_t>;
// batch, in, out, kernel, stride, pad, dilation
using WindowData = std::tuple<int32_t, Axes, Axes, Axes, Axes, Axes, Axes>;

const int32_t* ints(Address at) { return reinterpret_cast<const int32_t*>(at); }
const float* floats(Address at) { return reinterpret_cast<const float*>(at); }

Window make_window(const WindowData& data) {
    Window w{};
    w.batch = std::get<0>(data);
    for (size_t i = 0; i < 3; ++i) {
        w.in[i] = std::get<1>(data)[i];
        w.out[i] = std::get<2>(data)[i];
        w.kernel[i] = std::get<3>(data)[i];
        w.stride[i] = std::get<4>(data)[i];
        w.pad[i] = std::get<5>(data)[i];
        w.dilation[i] = std::get<6>(data)[i];
    }
    return w;
}

Step& start(Program& p, Kind kind, int32_t row, std::vector<int32_t> inputs, int32_t output,
            const std::vector<SupportData>& supports, const std::vector<OpData>& ops) {
    Step& step = p.add_step(kind, row);
    step.inputs = std::move(inputs);
    step.outputs = {output};
    for (const auto& [support, value, index, indices, count] : supports) {
        Support s;
        s.kind = static_cast<Support::Kind>(support);
        s.value = value;
        s.count = count;
        if (index) s.index = p.keep_indices(ints(index), indices);
        step.supports.push_back(s);
    }
    for (const auto& [op, operand, alpha, beta, gamma, numbers, number_count, value, map, map_count, broadcast] : ops) {
        ValueOp o;
        o.value = value;
        o.op.op = Op(op);
        o.op.operand = Operand(operand);
        o.op.alpha = alpha;
        o.op.beta = beta;
        o.op.gamma = gamma;
        o.op.broadcast = broadcast;
        if (map) o.op.map = p.keep_indices(ints(map), map_count);
        if (numbers) {
            o.op.vector = p.keep_numbers(floats(numbers), number_count);
            o.op.rows = {o.op.vector, p.value(output).channels, Type::f32};
        }
        step.ops.push_back(o);
    }
    return step;
}

void set_window(Step& step, const Window& window, int32_t transposed) {
    for (Support& s : step.supports) {
        s.window = window;
        s.transposed = transposed;
    }
}

void add_input(Program& p, int32_t row, int32_t output, int32_t slot, int64_t outer, int64_t inner) {
    Step& step = start(p, Kind::input, row, {}, output, {}, {});
    step.slot = slot;
    step.outer = outer;
    step.inner = inner;
}

void add_convolve(Program& p, int32_t row, std::vector<int32_t> inputs, int32_t output,
                  const std::vector<SupportData>& supports, const std::vector<OpData>& ops,
                  const WindowData& window, int32_t groups, int32_t transposed, Address weight, Address bias) {
    const Value in = p.value(inputs.at(0));
    Step& step = start(p, Kind::convolve, row, std::move(inputs), output, supports, ops);
    Convolution& c = step.convolution;
    c.window = make_window(window);
    c.in_channels = int32_t(in.channels);
    c.out_channels = int32_t(p.value(output).channels);
    c.groups = groups;
    c.transposed = transposed;
    c.type = in.type;
    p.pack(c, floats(weight), floats(bias));
    set_window(step, c.window, transposed);
}

// The gate's weight is (1, channels or 1, kernel...) fp32.
void add_gated(Program& p, int32_t row, std::vector<int32_t> inputs, int32_t output,
               const std::vector<SupportData>& supports, const std::vector<OpData>& ops, const WindowData& window,
               int32_t groups, Address weight, Address bias, Address gate_weight, float gate_bias, bool norm,
               bool absolute, int32_t block, bool residual, bool apart, int64_t macs) {
    const Value in = p.value(inputs.at(0));
    const int32_t source = inputs.at(0);
    Step& step = start(p, Kind::gated, row, std::move(inputs), output, supports, ops);
    Convolution& c = step.convolution;
    c.window = make_window(window);
    c.in_channels = int32_t(in.channels);
    c.out_channels = int32_t(p.value(output).channels);
    c.groups = groups;
    c.type = in.type;
    p.pack(c, floats(weight), residual ? nullptr : floats(bias));
    Gated& g = step.gated;
    g.window.kind = Support::Kind::window;
    g.window.value = source;
    g.window.window = c.window;
    g.norm = norm;
    g.residual = residual;
    g.quiet_fires = gate_bias > 0;
    g.block = block;
    g.changing = p.add_change(source, residual || !norm, norm);
    if (apart) g.sum = p.add_sum(output);
    if (residual && bias) g.bias = p.keep_numbers(floats(bias), c.out_channels);
    g.macs = macs;
    const int64_t channels = norm ? 1 : in.channels, wide = padded(channels);
    const int64_t taps = int64_t(c.window.kernel[0]) * c.window.kernel[1] * c.window.kernel[2];
    std::vector<float> packed(size_t(taps * wide));
    for (int64_t channel = 0; channel < channels; ++channel)
        for (int64_t tap = 0; tap < taps; ++tap)
            packed[size_t(tap * wide + channel)] = floats(gate_weight)[channel * taps + tap];
    g.scoring = {c.window, int32_t(channels), absolute, norm ? Type::f32 : in.type, p.keep_numbers(packed.data(), taps * wide),
                 gate_bias};
}

// Weights of the options are values, or -1; `before`, `after` and `filters` are as of `Dynamic`, filters in torch's layout.
void add_dynamic(Program& p, int32_t row, std::vector<int32_t> inputs, int32_t output,
                 const std::vector<SupportData>& supports, const std::vector<OpData>& ops, const WindowData& window,
                 int32_t groups, Address weight, Address bias, int32_t time, int32_t channels, int32_t frames,
                 const std::vector<Address>& before, const std::vector<Address>& after, std::vector<int32_t> kept,
                 const std::vector<Address>& filters, std::array<int32_t, 2> kernel, int64_t macs) {
    const Value in = p.value(inputs.at(0)), out = p.value(output);
    Step& step = start(p, Kind::dynamic, row, std::move(inputs), output, supports, ops);
    Convolution& c = step.convolution;
    c.window = make_window(window);
    c.in_channels = int32_t(in.channels);
    c.out_channels = int32_t(out.channels);
    c.groups = groups;
    c.type = in.type;
    p.pack(c, floats(weight), floats(bias));
    Dynamic& d = step.dynamic;
    d.time = time;
    d.channels = channels;
    d.frames = frames;
    d.plane = out.positions / frames;
    d.kept = std::move(kept);
    d.kernel[0] = kernel[0];
    d.kernel[1] = kernel[1];
    d.macs = macs;
    for (size_t k = 0; k < before.size(); ++k) {
        const int64_t count = ((int64_t(2) << k) - 1) * out.channels;
        d.before.push_back(before[k] ? p.keep_numbers(floats(before[k]), count) : nullptr);
        d.after.push_back(after.at(k) ? p.keep_numbers(floats(after[k]), count) : nullptr);
    }
    const int64_t taps = int64_t(kernel[0]) * kernel[1];
    for (size_t k = 0; k < filters.size(); ++k) {
        const int64_t rest = out.channels - d.kept.at(k + 1);
        std::vector<float> by_tap(size_t(taps * rest));
        for (int64_t g = 0; g < rest; ++g)
            for (int64_t tap = 0; tap < taps; ++tap) by_tap[size_t(tap * rest + g)] = floats(filters[k])[g * taps + tap];
        d.filters.push_back(p.keep_numbers(by_tap.data(), taps * rest));
    }
}

void add_pool(Program& p, int32_t row, std::vector<int32_t> inputs, int32_t output,
              const std::vector<SupportData>& supports, const std::vector<OpData>& ops,
              const WindowData& window, int32_t kind, int32_t count_include_pad, int32_t divisor_override) {
    const Value in = p.value(inputs.at(0));
    Step& step = start(p, Kind::pool, row, std::move(inputs), output, supports, ops);
    step.pooling = {make_window(window), int32_t(in.channels), Pool(kind), count_include_pad, divisor_override, in.type};
    set_window(step, step.pooling.window, 0);
}

void add_interpolate(Program& p, int32_t row, std::vector<int32_t> inputs, int32_t output,
                     const std::vector<SupportData>& supports, const std::vector<OpData>& ops,
                     int32_t batch, Axes in_size, Axes out_size, std::array<Address, 3> low,
                     std::array<Address, 3> high, std::array<Address, 3> weight) {
    const Value in = p.value(inputs.at(0));
    Step& step = start(p, Kind::interpolate, row, std::move(inputs), output, supports, ops);
    Interpolation& task = step.interpolation;
    task.batch = batch;
    task.channels = int32_t(in.channels);
    task.type = in.type;
    for (size_t i = 0; i < 3; ++i) {
        task.in[i] = in_size[i];
        task.out[i] = out_size[i];
        task.low[i] = p.keep_indices(ints(low[i]), out_size[i]);
        task.high[i] = p.keep_indices(ints(high[i]), out_size[i]);
        task.weight[i] = p.keep_numbers(floats(weight[i]), out_size[i]);
    }
}

void add_reduce(Program& p, int32_t row, std::vector<int32_t> inputs, int32_t output,
                const std::vector<SupportData>& supports, const std::vector<OpData>& ops,
                int32_t kind, Address members, int32_t count) {
    const Value in = p.value(inputs.at(0));
    const int64_t positions = p.value(output).positions;
    Step& step = start(p, Kind::reduce, row, std::move(inputs), output, supports, ops);
    step.reduction = {int32_t(in.channels), count, p.keep_indices(ints(members), positions * count), Reduce(kind),
                      in.type};
    for (Support& s : step.supports)
        if (s.kind == Support::Kind::members && !s.index) {
            s.index = step.reduction.members;
            s.count = count;
        }
}

void add_normalise(Program& p, int32_t row, std::vector<int32_t> inputs, int32_t output,
                   const std::vector<SupportData>& supports, const std::vector<OpData>& ops,
                   int32_t kind, float epsilon, Address scale, Address shift) {
    const Value in = p.value(inputs.at(0));
    Step& step = start(p, Kind::normalise, row, std::move(inputs), output, supports, ops);
    step.normalisation = {int32_t(in.channels), Line(kind), epsilon,
                          scale ? p.keep_numbers(floats(scale), in.channels) : nullptr,
                          shift ? p.keep_numbers(floats(shift), in.channels) : nullptr, in.type};
}

void add_load(Program& p, int32_t row, std::vector<int32_t> inputs, int32_t output,
              const std::vector<SupportData>& supports, const std::vector<OpData>& ops, Address map,
              int32_t broadcast) {
    const int64_t positions = p.value(output).positions;
    Step& step = start(p, Kind::load, row, std::move(inputs), output, supports, ops);
    if (map) step.map = p.keep_indices(ints(map), positions);
    step.broadcast = broadcast;
}

void add_move(Program& p, int32_t row, std::vector<int32_t> inputs, int32_t output,
              const std::vector<SupportData>& supports, const std::vector<PartData>& parts, bool fills, float fill) {
    Step& step = start(p, Kind::move, row, std::move(inputs), output, supports, {});
    step.fills = fills;
    step.fill = fill;
    for (const auto& [source, map, map_count, channels, from, to, count] : parts) {
        MovePart part;
        part.source = source;
        if (map) part.map = p.keep_indices(ints(map), map_count);
        if (channels) part.channels = p.keep_indices(ints(channels), count);
        part.from = from;
        part.to = to;
        part.count = count;
        step.parts.push_back(part);
    }
}

void add_masks(Program& p, int32_t row, std::vector<int32_t> inputs, int32_t output,
               const std::vector<SupportData>& supports) {
    start(p, Kind::masks, row, std::move(inputs), output, supports, {});
}

void add_alias(Program& p, int32_t row, int32_t input, int32_t output) {
    start(p, Kind::alias, row, {input}, output, {}, {});
}

void add_callback(Program& p, int32_t row, std::vector<int32_t> inputs, std::vector<int32_t> outputs) {
    Step& step = p.add_step(Kind::callback, row);
    step.inputs = std::move(inputs);
    step.outputs = std::move(outputs);
}

// buffer, offset, stride, mask of active positions, mask of announced ones
std::tuple<int32_t, int64_t, int64_t, int32_t, int32_t> describe(Program& p, int32_t id) {
    const Value& v = p.value(id);
    return {v.buffer, v.offset, v.stride, v.active, v.announced};
}

int32_t run_state(State& state, const std::vector<std::tuple<Address, Address, Address>>& inputs, bool first,
                  const std::vector<std::tuple<int32_t, Address>>& forced, nb::callable callback) {
    std::vector<FrameInput> frame;
    for (const auto& [planar, rows, changed] : inputs)
        frame.push_back({floats(planar), floats(rows), reinterpret_cast<const uint8_t*>(changed)});
    std::vector<Forced> masks;
    for (const auto& [value, mask] : forced) masks.push_back({value, reinterpret_cast<const uint8_t*>(mask)});
    const State::Callback call = [&callback](int32_t step, bool is_first) {
        nb::gil_scoped_acquire hold;
        callback(step, is_first);
    };
    nb::gil_scoped_release release;
    return state.run(frame, first, masks, call);
}

}  // namespace

void bind_program(nb::module_& m) {
    m.def("row_ops", [] { return std::vector<std::string>(std::begin(op_names), std::end(op_names)); });
    nb::class_<Program>(m, "Program")
        .def(nb::init<const std::string&>())
        .def("value", [](Program& p, int64_t positions, int64_t channels, bool bf16, bool kept, bool consumed) {
            const int32_t id = p.add_value(positions, channels, bf16 ? Type::bf16 : Type::f32, kept);
            p.value(id).consumed = consumed;
            return id;
        })
        .def("view", [](Program& p, int32_t of, int64_t positions, int64_t channels, int64_t offset, int64_t stride,
                        bool kept, bool consumed, bool own_masks) {
            const int32_t id = p.add_view(of, positions, channels, offset, stride, kept, own_masks);
            p.value(id).consumed = consumed;
            return id;
        })
        .def("row", &Program::add_row)
        .def("input", &add_input)
        .def("convolve", &add_convolve)
        .def("gated", &add_gated)
        .def("dynamic", &add_dynamic)
        .def("pool", &add_pool)
        .def("interpolate", &add_interpolate)
        .def("reduce", &add_reduce)
        .def("normalise", &add_normalise)
        .def("load", &add_load)
        .def("move", &add_move)
        .def("masks", &add_masks)
        .def("alias", &add_alias)
        .def("callback", &add_callback)
        .def("finish", &Program::finish)
        .def("describe", &describe)
        .def_prop_ro("buffer_bytes", &Program::buffers)
        .def_prop_ro("mask_positions", &Program::masks)
        .def_prop_ro("lanes", [](const Program& p) { return p.kernels().lanes; })
        .def_prop_ro("changing", [](const Program& p) {  // value, norms, slot of the rows or -1
            std::vector<std::tuple<int32_t, bool, int32_t>> all;
            for (const Changing& c : p.changing()) all.emplace_back(c.value, c.norms, c.slot);
            return all;
        })
        .def_prop_ro("change_slots", &Program::change_slots)
        .def_prop_ro("sums", &Program::sums)
        .def_prop_ro("weight_bytes", &Program::weight_bytes);
    nb::class_<State>(m, "State")
        .def(nb::init<const Program&, int>(), nb::keep_alive<1, 2>())
        .def("set_buffer", [](State& s, int32_t i, Address at) { s.set_buffer(i, reinterpret_cast<void*>(at)); })
        .def("set_mask", [](State& s, int32_t i, Address at) { s.set_mask(i, reinterpret_cast<void*>(at)); })
        .def("set_last", [](State& s, int32_t i, Address at) { s.set_last(i, reinterpret_cast<float*>(at)); })
        .def("set_record", [](State& s, int32_t value, int32_t form, Address data, int64_t stride, bool bf16,
                              float threshold, Address weights) {
            s.set_record(value, {Record(form), reinterpret_cast<void*>(data), stride, bf16 ? Type::bf16 : Type::f32,
                                 threshold, floats(weights)});
        })
        .def("set_change", [](State& s, int32_t changing, Address rows, Address norms, Address last) {
            ChangeOf change;
            change.change = {reinterpret_cast<void*>(rows), reinterpret_cast<float*>(norms)};
            change.last = reinterpret_cast<void*>(last);
            s.set_change(changing, change);
        })
        .def("set_sum", [](State& s, int32_t sum, Address at) { s.set_sum(sum, reinterpret_cast<float*>(at)); })
        .def("set_counts", &State::set_counts)
        .def("set_executed", &State::set_executed)
        .def("active_count", &State::active_count)
        .def("set_profiling", &State::set_profiling)
        .def("run", &run_state)
        .def("rebuild", &State::rebuild)
        .def_prop_ro("scratch_bytes", &State::scratch_bytes)
        .def_prop_ro("active", [](const State& s) { return s.ledger().active; })
        .def_prop_ro("announced", [](const State& s) { return s.ledger().announced; })
        .def_prop_ro("executed", [](const State& s) { return s.ledger().executed; })
        .def_prop_ro("gate", [](const State& s) { return s.ledger().gate; })
        .def_prop_ro("forms", &State::forms)
        .def_prop_ro("seconds", [](const State& s) { return s.ledger().seconds; })
        .def_prop_ro("macs", [](const State& s) {
            return std::make_tuple(s.ledger().executed_macs, s.ledger().gate_macs);
        });
}

}  // namespace saccade
