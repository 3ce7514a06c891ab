// Gated convolutions: where the gate fires, z there, and how the values they read changed.
#include <cstring>
#include <limits>

#include "state.h"

namespace saccade {

namespace {

// Every block x block square of a map fires whole if any of it does.
void fill_squares(uint8_t* mask, int64_t planes, int64_t height, int64_t width, int64_t block) {
    for (int64_t plane = 0; plane < planes; ++plane)
        for (int64_t y = 0; y < height; y += block) {
            uint8_t* first = mask + (plane * height + y) * width;
            const int64_t rows = std::min(block, height - y);
            for (int64_t i = 1; i < rows; ++i)
                for (int64_t x = 0; x < width; ++x) first[x] = uint8_t(first[x] | first[i * width + x]);
            for (int64_t x = 0; x < width; x += block) {
                const size_t columns = size_t(std::min(block, width - x));
                if (std::memchr(first + x, 1, columns)) std::memset(first + x, 1, columns);
            }
            for (int64_t i = 1; i < rows; ++i) std::memcpy(first + i * width, first, size_t(width));
        }
}

}  // namespace

// fires[p] = score(p) > 0 at touched positions.
void State::score_touched(const Step& step, const int32_t* touched, int64_t n, uint8_t* fires) {
    const Gated& g = step.gated;
    const Change& change = changes_[size_t(g.changing)].change;
    const Value& x = program_.values()[size_t(step.inputs[0])];
    const Rows in = g.norm ? Rows{change.norms, 1, Type::f32} : Rows{change.rows, x.channels, x.type};
    constexpr int64_t piece = 1024;
    team_.run((n + piece - 1) / piece, [&](int, int64_t task) {
        const int64_t at = task * piece, now = std::min(piece, n - at);
        float* scores = scores_.get() + at;
        k_.score(g.scoring, in, touched + at, now, scores);
        for (int64_t i = 0; i < now; ++i) fires[touched[at + i]] = scores[i] > 0;
    });
}

// Sets `fires` (0 before), and lists in `positions_` where the convolution is to be computed. Returns how many that are.
int64_t State::find_fires(const Step& step, const Value& out, uint8_t* fires) {
    const Gated& g = step.gated;
    const Value& x = program_.values()[size_t(step.inputs[0])];
    const int64_t told = count(x.announced);
    fired_ = deciding_ = 0;
    if (told == 0 && !(g.quiet_fires && !g.residual)) return 0;
    if (g.quiet_fires) std::memset(fires, 1, size_t(out.positions));
    uint8_t* touched = touched_.get();
    int64_t n = 0;
    const int32_t* list = positions_.get();
    if (told > 0) {
        std::memset(touched, 0, size_t(out.positions));
        spread(step, g.window, out, touched);
        n = k_.collect(touched, out.positions, positions_.get());
        score_touched(step, list, n, fires);
        const int64_t taps = int64_t(g.scoring.window.kernel[0]) * g.scoring.window.kernel[1] * g.scoring.window.kernel[2];
        deciding_ = (g.norm ? told * x.channels : 0) + n * taps * g.scoring.channels;
    }
    const Window& w = step.convolution.window;
    if (g.block > 1) fill_squares(fires, int64_t(w.batch) * w.out[0], w.out[1], w.out[2], g.block);
    if (g.residual && n < out.positions && (g.block > 1 || g.quiet_fires))  // elsewhere there is nothing to add
        for (int64_t p = 0; p < out.positions; ++p) fires[p] = uint8_t(fires[p] & touched[p]);
    return fired_ = k_.collect(fires, out.positions, positions_.get());
}

// Adds forced positions to those that fired: z is the whole convolution there, whatever the form. Returns how many are
// left to compute as the form says, and lists them in `positions_`.
int64_t State::refresh_forced(const Step& step, const Value& out, const uint8_t* forced, uint8_t* fires) {
    int64_t refreshed = 0;
    if (step.gated.residual) {
        refreshed = k_.collect(forced, out.positions, positions_.get());
        if (refreshed > 0) run_source(step, Source::whole, positions_.get(), refreshed);
        for (int64_t p = 0; p < out.positions; ++p) fires[p] = uint8_t(fires[p] & (forced[p] ^ 1));
    } else {
        k_.mask_or(forced, fires, out.positions);
    }
    const int64_t left = k_.collect(fires, out.positions, positions_.get());
    if (refreshed > 0) k_.mask_or(forced, fires, out.positions);
    fired_ = left + refreshed;
    return left;
}

// Whether the rest of a step, from the sum on, is one pass over the rows: at most an addition and a relu.
bool State::sums_while_keeping(const Step& step, const std::vector<RowOp>& ops, bool adds, Summing& summing) const {
    const Value& out = program_.values()[size_t(step.outputs[0])];
    const RecordOf& record = records_[size_t(step.outputs[0])];
    if (record.form != Record::exact || out.channels < k_.lanes) return false;
    summing.given = 1;
    summing.sum = step.gated.sum < 0 ? nullptr : sums_[size_t(step.gated.sum)];
    summing.adds = adds;
    summing.plus = {nullptr, 0, out.type};
    summing.floor = -std::numeric_limits<float>::infinity();
    size_t at = 0;
    const size_t count = step.ops.size();
    if (at < count && ops[at].op == Op::add && ops[at].operand == Operand::rows && ops[at].alpha == 1 &&
        !ops[at].map && !ops[at].broadcast && ops[at].rows.type == out.type)
        summing.plus = ops[at++].rows;
    if (at < count && ops[at].op == Op::relu) {
        summing.floor = 0;
        ++at;
    }
    return at == count;
}

// Fresh rows of z, the epilogue over them, and into the value.
void State::run_source(const Step& step, Source source, const int32_t* positions, int64_t n) {
    const Gated& g = step.gated;
    const int32_t id = step.outputs[0];
    const Value& out = program_.values()[size_t(id)];
    const Value& x = program_.values()[size_t(step.inputs[0])];
    const Rows in = source == Source::change ? Rows{changes_[size_t(g.changing)].change.rows, x.channels, x.type} : rows(x);
    const std::vector<RowOp>& ops = bind_ops(step);
    const int64_t ld = padded(out.channels);
    const int32_t channels = int32_t(out.channels);
    float* sum = g.sum < 0 ? nullptr : sums_[size_t(g.sum)];
    Summing summing{};
    const bool together =
        source != Source::sum && !reference_ && sums_while_keeping(step, ops, source == Source::change, summing);
    RowOp bias{};
    bias.op = Op::add;
    bias.operand = Operand::channels;
    bias.alpha = 1;
    bias.vector = g.bias;
    count(out.announced) += over_chunks(step, positions, n, [&](int thread, const int32_t* list, int64_t now) {
        Workspace& space = workspaces_[size_t(thread)];
        float* fresh = space.fresh.get();
        if (source == Source::sum) {
            k_.load({sum, out.channels, Type::f32}, channels, nullptr, 0, list, now, fresh, ld);
        } else {
            k_.convolve(step.convolution, in, list, now, channels, fresh, ld, space.scratch.get(), rows(out));
            if (source == Source::whole && g.residual && g.bias) k_.apply(&bias, 1, channels, list, now, fresh, ld);
        }
        if (together) {
            space.announced += keep(out, id, list, now, fresh, ld, summing);
            return;
        }
        // A few rows at a time pass through all that is left: they stay in the nearest cache.
        const int64_t most = std::max<int64_t>(8, 4096 / ld);
        for (int64_t at = 0; at < now; at += most, list += most, fresh += most * ld) {
            const int64_t few = std::min(most, now - at);
            if (sum && source != Source::sum)
                k_.accumulate(sum, channels, source == Source::change, list, few, fresh, ld);
            if (!step.ops.empty()) k_.apply(ops.data(), int32_t(step.ops.size()), channels, list, few, fresh, ld);
            space.announced += keep(out, id, list, few, fresh, ld);
        }
    });
}

void State::run_gated(const Step& step, bool first) {
    const Value& out = program_.values()[size_t(step.outputs[0])];
    uint8_t* active = masks_[size_t(out.active)];
    int8_t& whole = ledger_.whole[size_t(step.plan_step)];
    clear(out.announced);
    if (first) {
        std::memset(active, 1, size_t(out.positions));
        count(out.active) = fired_ = out.positions;
        deciding_ = 0;
        whole = 1;
        run_source(step, Source::whole, everyone_.get(), out.positions);
        return;
    }
    clear(out.active);
    int64_t fired = find_fires(step, out, active);
    if (const uint8_t* forced = forced_[size_t(step.outputs[0])]) fired = refresh_forced(step, out, forced, active);
    count(out.active) = fired_;
    whole = fired_ == out.positions;
    if (fired > 0) run_source(step, step.gated.residual ? Source::change : Source::whole, positions_.get(), fired);
    bool told = false;
    for (const Support& support : step.supports)
        told = told || count(program_.values()[size_t(support.value)].announced) > 0;
    if (!told || whole) return;
    uint8_t* others = touched_.get();
    std::memset(others, 0, size_t(out.positions));
    for (const Support& support : step.supports)
        if (count(program_.values()[size_t(support.value)].announced) > 0) spread(step, support, out, others);
    for (int64_t p = 0; p < out.positions; ++p) others[p] = uint8_t(others[p] & (active[p] ^ 1));
    const int64_t n = k_.collect(others, out.positions, positions_.get());
    if (n == 0) return;
    k_.mask_or(others, active, out.positions);
    count(out.active) += n;
    run_source(step, Source::sum, positions_.get(), n);
}

// The change of a value whose step has run, where `keep` did not find it.
void State::find_change(size_t changing) {
    const ChangeOf& c = changes_[changing];
    const Value& v = program_.values()[size_t(program_.changing()[changing].value)];
    if (!c.last || count(v.announced) == 0) return;
    const int64_t n = k_.collect(masks_[size_t(v.announced)], v.positions, positions_.get());
    constexpr int64_t piece = 256;
    team_.run((n + piece - 1) / piece, [&](int, int64_t task) {
        const int64_t at = task * piece;
        k_.difference(rows(v), {c.last, v.channels, v.type}, int32_t(v.channels), c.change, positions_.get() + at,
                      std::min(piece, n - at));
    });
}

// What was announced is all that is not 0.
void State::clear_change(size_t changing) {
    const Change& change = changes_[changing].change;
    const Value& v = program_.values()[size_t(program_.changing()[changing].value)];
    const int64_t told = count(v.announced), row = v.channels * size_of(v.type);
    if (told == 0) return;
    if (change.norms) std::memset(change.norms, 0, size_t(v.positions) * sizeof(float));
    if (!change.rows) return;
    char* data = static_cast<char*>(change.rows);
    if (told == v.positions) {
        std::memset(data, 0, size_t(v.positions * row));
        return;
    }
    const uint8_t* announced = masks_[size_t(v.announced)];
    for (int64_t p = 0; p < v.positions;) {
        uint64_t eight = 1;
        if (p + 8 <= v.positions) std::memcpy(&eight, announced + p, 8);
        if (!eight) {
            p += 8;
            continue;
        }
        int64_t end = p;
        while (end < v.positions && announced[end]) ++end;
        std::memset(data + p * row, 0, size_t((end - p) * row));
        p = end + 1;
    }
}

}  // namespace saccade
