#include "program.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "instruction_sets.h"

namespace saccade {

Program::Program(const std::string& isa) : kernels_(find_kernels(isa)) {}

int32_t Program::add_mask(int64_t positions) {
    masks_.push_back(positions);
    return int32_t(masks_.size()) - 1;
}

int32_t Program::add_value(int64_t positions, int64_t channels, Type type, bool kept) {
    Value v;
    v.positions = positions;
    v.channels = v.stride = channels;
    v.type = type;
    v.kept = kept;
    v.buffer = int32_t(buffers_.size());
    buffers_.push_back(positions * channels * size_of(type));
    v.active = add_mask(positions);
    v.announced = add_mask(positions);
    values_.push_back(v);
    return int32_t(values_.size()) - 1;
}

int32_t Program::add_view(int32_t of, int64_t positions, int64_t channels, int64_t offset, int64_t stride, bool kept,
                          bool own_masks) {
    const Value base = value(of);
    Value v = base;
    v.positions = positions;
    v.channels = channels;
    v.offset = base.offset + offset;
    v.stride = stride;
    v.kept = kept;
    if (own_masks) {
        v.active = add_mask(positions);
        v.announced = add_mask(positions);
    } else if (positions != base.positions) {
        throw std::invalid_argument("a view shares masks only where it has the same positions");
    }
    values_.push_back(v);
    return int32_t(values_.size()) - 1;
}

int32_t Program::add_change(int32_t value, bool rows, bool norms) {
    size_t i = 0;
    while (i < changing_.size() && changing_[i].value != value) ++i;
    if (i == changing_.size()) changing_.push_back({value, false, false});
    changing_[i].rows |= rows;
    changing_[i].norms |= norms;
    return int32_t(i);
}

int32_t Program::add_sum(int32_t value) {
    sums_.push_back(value);
    return int32_t(sums_.size()) - 1;
}

Value& Program::value(int32_t id) {
    if (id < 0 || size_t(id) >= values_.size()) throw std::out_of_range("no such value");
    return values_[size_t(id)];
}

Step& Program::add_step(Kind kind, int32_t plan_step) {
    Step step;
    step.kind = kind;
    step.plan_step = plan_step;
    building_.push_back(step);
    return building_.back();
}

void Program::finish() {
    steps_.assign(building_.begin(), building_.end());
    place_changes();
    find_line_sums();
}

// Which dynamic steps are followed by sums over the lines of their frames (the means over space that gates read begin
// with them): summed while the rows are near, they cost no pass over all of them.
void Program::find_line_sums() {
    const auto lines = [](const Reduction& r, int64_t positions) {
        for (int64_t i = 0; i < positions; ++i)
            if (r.members[i] != i) return false;
        return r.kind == Reduce::sum && r.type == Type::f32;
    };
    for (Step& reduce : steps_) {
        if (reduce.kind != Kind::reduce) continue;
        for (size_t i = 0; i < steps_.size(); ++i) {
            if (steps_[i].kind != Kind::dynamic || steps_[i].outputs[0] != reduce.inputs[0]) continue;
            Dynamic& d = steps_[i].dynamic;
            if (reduce.reduction.count != steps_[i].convolution.window.out[2]) continue;
            if (!lines(reduce.reduction, d.frames * d.plane)) continue;
            if (d.sums < 0) {
                d.sums = int32_t(line_sums_.size());
                line_sums_.push_back(int32_t(i));
            }
            reduce.summed = d.sums;
        }
    }
}

void Program::place_changes() {
    std::vector<Changing*> order;
    for (Changing& c : changing_) {
        for (size_t i = 0; i < steps_.size(); ++i) {
            for (int32_t id : steps_[i].outputs)
                if (id == c.value) c.made = int32_t(i);
            if (steps_[i].kind == Kind::gated && &changing_[size_t(steps_[i].gated.changing)] == &c)
                c.read = int32_t(i);
        }
        if (c.rows) order.push_back(&c);
    }
    std::sort(order.begin(), order.end(), [](const Changing* a, const Changing* b) { return a->made < b->made; });
    std::vector<int32_t> free_from;  // per slot, the step behind the last reader
    for (Changing* c : order) {
        const Value& v = values_[size_t(c->value)];
        const int64_t bytes = v.positions * v.channels * size_of(v.type);
        for (size_t i = 0; i < free_from.size(); ++i)  // of those that are free, the one whose size fits best
            if (free_from[i] <= c->made &&
                (c->slot < 0 || std::abs(change_slots_[i] - bytes) < std::abs(change_slots_[size_t(c->slot)] - bytes)))
                c->slot = int32_t(i);
        if (c->slot < 0) {
            c->slot = int32_t(free_from.size());
            free_from.push_back(0);
            change_slots_.push_back(0);
        }
        free_from[size_t(c->slot)] = c->read + 1;
        change_slots_[size_t(c->slot)] = std::max(change_slots_[size_t(c->slot)], bytes);
    }
}

const int32_t* Program::keep_indices(const int32_t* from, int64_t count) {
    owned_.push_back(allocate<char>(count * 4));
    std::memcpy(owned_.back().get(), from, size_t(count) * 4);
    return reinterpret_cast<const int32_t*>(owned_.back().get());
}

const float* Program::keep_numbers(const float* from, int64_t count) {
    return reinterpret_cast<const float*>(keep_indices(reinterpret_cast<const int32_t*>(from), count));
}

void Program::pack(Convolution& convolution, const float* weight, const float* bias) {
    const int64_t bytes = kernels_.packed_bytes(convolution);
    owned_.push_back(allocate<char>(bytes));
    kernels_.pack(convolution, weight, bias, owned_.back().get());
    convolution.packed = owned_.back().get();
    weight_bytes_ += bytes;
}

}  // namespace saccade
