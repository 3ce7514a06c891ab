#include "state.h"

#include "denormals.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

namespace saccade {

State::State(const Program& program, int threads)
    : program_(program), k_(program.kernels()), workspaces_(size_t(threads)), team_(threads) {
    buffers_.assign(program.buffers().size(), nullptr);
    masks_.assign(program.masks().size(), nullptr);
    counts_.assign(program.masks().size(), 0);
    records_.resize(program.values().size());
    changes_.resize(program.changing().size());
    change_of_.assign(program.values().size(), -1);
    forced_.assign(program.values().size(), nullptr);
    for (size_t i = 0; i < changes_.size(); ++i) change_of_[size_t(program.changing()[i].value)] = int32_t(i);
    sums_.assign(program.sums().size(), nullptr);
    int64_t most_positions = 1, most_fresh = 64, most_scratch = 0;
    size_t most_ops = 0, slots = 0;
    for (const Value& v : program.values()) most_positions = std::max(most_positions, v.positions);
    for (const Step& step : program.steps()) {
        int64_t chunk = rows_per_chunk;
        if (step.kind == Kind::convolve || step.kind == Kind::gated || step.kind == Kind::dynamic) {
            chunk = k_.convolve_chunk(step.convolution);
            most_scratch = std::max(most_scratch, k_.convolve_scratch_bytes(step.convolution));
        }
        if (step.kind == Kind::dynamic)
            chunk = std::max(chunk, rows_near(padded(program_.values()[size_t(step.outputs[0])].channels)));
        if (step.kind == Kind::input) slots = std::max(slots, size_t(step.slot) + 1);
        for (int32_t id : step.outputs)
            most_fresh = std::max(most_fresh, chunk * padded(program.values()[size_t(id)].channels));
        most_ops = std::max(most_ops, step.ops.size());
    }
    const int64_t framed = allocate_frames();
    last_.assign(slots, nullptr);
    last_valid_.assign(slots, 0);
    ops_.resize(most_ops);
    positions_ = allocate<int32_t>(most_positions);
    everyone_ = allocate<int32_t>(most_positions);
    for (int64_t i = 0; i < most_positions; ++i) everyone_[size_t(i)] = int32_t(i);
    for (const Step& step : program.steps()) reaches_.emplace_back(step.supports.size(), Reaches::unknown);
    const int64_t deciding = changes_.empty() ? 0 : most_positions + 64;
    touched_ = allocate<uint8_t>(deciding);
    scores_ = allocate<float>(deciding);
    for (Workspace& space : workspaces_) {
        space.fresh = allocate<float>(most_fresh);
        space.scratch = allocate<char>(most_scratch);
    }
    scratch_bytes_ = 2 * most_positions * 4 + 5 * deciding + framed + threads * (most_fresh * 4 + most_scratch);
    const size_t n = program.rows().size();
    ledger_.active.assign(n, 0);
    ledger_.announced.assign(n, 0);
    ledger_.executed.assign(n, 0);
    ledger_.gate.assign(n, 0);
    ledger_.whole.assign(n, 0);
    ledger_.seconds.assign(n, 0);
}

void State::set_last(int32_t slot, float* data) {
    last_.at(size_t(slot)) = data;
    last_valid_.at(size_t(slot)) = 0;
}

void State::set_counts(int32_t value, int64_t active, int64_t announced) {
    const Value& v = program_.values().at(size_t(value));
    count(v.active) = active;
    count(v.announced) = announced;
}

Rows State::rows(const Value& v) const {
    return {buffers_[size_t(v.buffer)] + v.offset * size_of(v.type), v.stride, v.type};
}

void State::clear(int32_t mask) {
    if (count(mask) == 0) return;
    std::memset(masks_[size_t(mask)], 0, size_t(program_.masks()[size_t(mask)]));
    count(mask) = 0;
}

int32_t State::run(const std::vector<FrameInput>& inputs, bool first, const std::vector<Forced>& forced,
                   const Callback& callback) {
    using Clock = std::chrono::steady_clock;
    const NoDenormals fast;
    for (const Step& step : program_.steps())
        if (step.kind == Kind::input && !finite(step, inputs[size_t(step.slot)])) return step.slot;
    ledger_.executed_macs = ledger_.gate_macs = 0;
    reference_ = first;
    std::fill(forced_.begin(), forced_.end(), nullptr);
    for (const Forced& f : forced) forced_.at(size_t(f.value)) = f.mask;
    for (const Step& step : program_.steps()) {
        const auto began = profiling_ ? Clock::now() : Clock::time_point();
        switch (step.kind) {
            case Kind::input: run_input(step, inputs[size_t(step.slot)], first); break;
            case Kind::move: run_move(step, first); break;
            case Kind::masks: run_masks(step, first); break;
            case Kind::alias: break;
            case Kind::callback: callback(step.plan_step, first); break;
            case Kind::gated: run_gated(step, first); break;
            case Kind::dynamic: run_dynamic(step, first); break;
            default: run_rows(step, first);
        }
        enter(step, first);
        const int32_t index = int32_t(&step - program_.steps().data());
        for (int32_t id : step.outputs)
            if (change_of_[size_t(id)] >= 0 && !first) find_change(size_t(change_of_[size_t(id)]));
        if (step.kind == Kind::gated && !first && program_.changing()[size_t(step.gated.changing)].read == index)
            clear_change(size_t(step.gated.changing));
        if (profiling_)
            ledger_.seconds[size_t(step.plan_step)] = std::chrono::duration<double>(Clock::now() - began).count();
    }
    return -1;
}

// The ledger's entry of a step: what was computed, what was announced, and what deciding cost.
void State::enter(const Step& step, bool first) {
    const size_t row = size_t(step.plan_step);
    const PlanRow& plan = program_.rows()[row];
    bool told = false;
    for (int32_t id : step.inputs) told = told || count(program_.values()[size_t(id)].announced) > 0;
    int64_t active = 0, announced = 0, compared = 0;
    for (int32_t id : step.outputs) {
        const Value& v = program_.values()[size_t(id)];
        const int64_t own = step.kind == Kind::input ? v.positions : v.kept ? count(v.active) : count(v.announced);
        active += own;
        announced += count(v.announced);
        if (v.kept && v.consumed) compared += own * v.channels;
    }
    ledger_.active[row] = active;
    ledger_.announced[row] = announced;
    const auto share = [&plan](int64_t macs, int64_t of) {
        return plan.positions ? int64_t(__int128(macs) * of / plan.positions) : 0;
    };
    const bool gated = step.kind == Kind::gated;
    ledger_.executed[row] = gated ? share(step.gated.macs, fired_) + share(plan.macs - step.gated.macs, active)
                                  : share(plan.macs, active);
    if (step.kind == Kind::dynamic)
        ledger_.executed[row] = active ? dynamic_macs_ + share(plan.macs - step.dynamic.macs, active) : 0;
    if (step.kind == Kind::callback) ledger_.executed[row] = outside_macs_;
    ledger_.executed_macs += ledger_.executed[row];
    ledger_.gate[row] = first ? 0 : compared + (told && step.kind != Kind::input ? plan.positions : 0);
    if (gated && !first) ledger_.gate[row] += deciding_;
    ledger_.gate_macs += ledger_.gate[row];
}

std::vector<std::string> State::forms() const {
    std::vector<std::string> forms(program_.rows().size(), "positions");
    for (const Step& step : program_.steps()) {
        std::string& form = forms[size_t(step.plan_step)];
        const bool moves = step.kind == Kind::move || step.kind == Kind::masks || step.kind == Kind::alias;
        if (ledger_.active[size_t(step.plan_step)] == 0)
            form = "skipped";
        else if (step.kind == Kind::callback)
            form = "torch";
        else if (moves)
            form = "moved";
        else if (step.kind != Kind::input && ledger_.whole[size_t(step.plan_step)])
            form = "whole";
    }
    return forms;
}

std::vector<RowOp>& State::bind_ops(const Step& step) {
    for (size_t i = 0; i < step.ops.size(); ++i) {
        ops_[i] = step.ops[i].op;
        if (step.ops[i].value >= 0) ops_[i].rows = rows(program_.values()[size_t(step.ops[i].value)]);
    }
    return ops_;
}

int64_t State::keep(const Value& v, int32_t id, const int32_t* positions, int64_t n, const float* fresh, int64_t ld,
                    const Summing& summing) {
    const RecordOf& record = records_[size_t(id)];
    Keep task{};
    task.value = rows(v);
    task.channels = int32_t(v.channels);
    task.form = reference_ ? Record::none : record.form;
    task.record = {record.data, record.stride, record.type};
    task.threshold = record.threshold;
    task.weights = record.weights;
    task.announced = masks_[size_t(v.announced)];
    task.summing = summing;
    const int32_t changing = change_of_[size_t(id)];
    if (changing >= 0 && !changes_[size_t(changing)].last) task.change = changes_[size_t(changing)].change;
    return k_.keep(task, positions, n, fresh, ld);
}

void State::produce(const Step& step, int thread, const int32_t* positions, int64_t n, int64_t ld) {
    float* out = workspaces_[size_t(thread)].fresh.get();
    void* scratch = workspaces_[size_t(thread)].scratch.get();
    const Value& value = program_.values()[size_t(step.outputs[0])];
    const Rows in = rows(program_.values()[size_t(step.inputs[0])]);
    switch (step.kind) {
        case Kind::convolve:
            k_.convolve(step.convolution, in, positions, n, step.convolution.out_channels, out, ld, scratch,
                        rows(value));
            break;
        case Kind::pool: k_.pool(step.pooling, in, positions, n, out, ld); break;
        case Kind::interpolate: k_.interpolate(step.interpolation, in, positions, n, out, ld); break;
        case Kind::reduce:
            if (step.summed < 0)
                k_.reduce(step.reduction, in, positions, n, out, ld);
            else
                k_.load({line_sums_[size_t(step.summed)].rows.get(), ld, Type::f32}, step.reduction.channels, nullptr, 0,
                        positions, n, out, ld);
            break;
        case Kind::normalise: k_.normalise(step.normalisation, in, positions, n, out, ld); break;
        default:
            k_.load(in, int32_t(value.channels), step.map, step.broadcast, positions, n, out, ld);
    }
}

void State::run_rows(const Step& step, bool first) {
    const int32_t id = step.outputs[0];
    const Value& out = program_.values()[size_t(id)];
    const size_t row = size_t(step.plan_step);
    uint8_t* active = masks_[size_t(out.active)];
    clear(out.announced);
    bool whole = first;
    int64_t n = out.positions;
    if (!first) {
        bool told = false;
        for (const Support& support : step.supports)
            told = told || count(program_.values()[size_t(support.value)].announced) > 0;
        clear(out.active);
        const uint8_t* forced = forced_[size_t(id)];
        if (!told && !forced) return;
        whole = told && all_active(step, out, active);
        if (!whole) n = derive(step, out, forced, active);
        if (n == 0) return;
    }
    ledger_.whole[row] = whole;
    if (whole) std::memset(active, 1, size_t(out.positions));
    count(out.active) = n;
    const int32_t* positions = (whole ? everyone_ : positions_).get();
    const std::vector<RowOp>& ops = bind_ops(step);
    const int64_t ld = padded(out.channels);
    if (step.summed >= 0 && !line_sums_[size_t(step.summed)].valid) sum_again(step.summed);
    count(out.announced) = over_chunks(step, positions, n, [&](int thread, const int32_t* list, int64_t now) {
        Workspace& space = workspaces_[size_t(thread)];
        produce(step, thread, list, now, ld);
        space.announced += finish(step, ops, list, now, space.fresh.get(), ld);
    });
}

// The epilogue over fresh rows, and into the value; returns how many were announced.
int64_t State::finish(const Step& step, const std::vector<RowOp>& ops, const int32_t* positions, int64_t n,
                      float* fresh, int64_t ld) {
    const int32_t id = step.outputs[0];
    const Value& out = program_.values()[size_t(id)];
    if (!step.ops.empty())
        k_.apply(ops.data(), int32_t(step.ops.size()), int32_t(out.channels), positions, n, fresh, ld);
    return keep(out, id, positions, n, fresh, ld);
}

}  // namespace saccade
