// Steps that are masks more than numbers: which positions are active, and data that only moves.
#include <cstring>

#include "state.h"

namespace saccade {

namespace {

// out[p] |= any announced input that a linear interpolation reads for p, axis by axis.
void spread_axes(const Interpolation& task, const uint8_t* in, uint8_t* out) {
    for (int64_t n = 0; n < task.batch; ++n)
        for (int64_t d = 0; d < task.out[0]; ++d)
            for (int64_t h = 0; h < task.out[1]; ++h) {
                uint8_t* to = out + ((n * task.out[0] + d) * task.out[1] + h) * task.out[2];
                const int32_t ds[2] = {task.low[0][d], task.high[0][d]};
                const int32_t hs[2] = {task.low[1][h], task.high[1][h]};
                for (int i = 0; i < (ds[0] == ds[1] ? 1 : 2); ++i)
                    for (int j = 0; j < (hs[0] == hs[1] ? 1 : 2); ++j) {
                        const uint8_t* from = in + ((n * task.in[0] + ds[i]) * task.in[1] + hs[j]) * task.in[2];
                        if (!std::memchr(from, 1, size_t(task.in[2]))) continue;
                        for (int64_t x = 0; x < task.out[2]; ++x)
                            to[x] = uint8_t(to[x] | from[task.low[2][x]] | from[task.high[2][x]]);
                    }
            }
}

}  // namespace

// mask |= what the announced positions of one value make active.
void State::spread(const Step& step, const Support& support, const Value& out, uint8_t* mask) {
    const uint8_t* in = masks_[size_t(program_.values()[size_t(support.value)].announced)];
    switch (support.kind) {
        case Support::Kind::same: k_.mask_or(in, mask, out.positions); break;
        case Support::Kind::window: k_.dilate(support.window, support.transposed, in, mask); break;
        case Support::Kind::map: k_.mask_or_map(in, support.index, mask, out.positions); break;
        case Support::Kind::axes: spread_axes(step.interpolation, in, mask); break;
        case Support::Kind::members:
            for (int64_t p = 0; p < out.positions; ++p)
                for (int64_t i = 0; i < support.count && !mask[p]; ++i) {
                    const int32_t member = support.index[p * support.count + i];
                    if (member < 0) break;
                    mask[p] = in[member];
                }
    }
}

// Whether every position is active for sure, as a value was announced everywhere. Whether that is enough (an output may
// read nothing but padding) is found out once.
bool State::all_active(const Step& step, const Value& out, uint8_t* mask) {
    std::vector<Reaches>& reaches = reaches_[size_t(&step - program_.steps().data())];
    for (size_t i = 0; i < step.supports.size(); ++i) {
        const Value& v = program_.values()[size_t(step.supports[i].value)];
        if (count(v.announced) != v.positions) continue;
        if (reaches[i] == Reaches::unknown) {
            spread(step, step.supports[i], out, mask);
            reaches[i] = std::memchr(mask, 0, size_t(out.positions)) ? Reaches::some : Reaches::all;
        }
        if (reaches[i] == Reaches::all) return true;
    }
    return false;
}

int64_t State::derive(const Step& step, const Value& out, const uint8_t* forced, uint8_t* mask) {
    for (const Support& support : step.supports)
        if (count(program_.values()[size_t(support.value)].announced) > 0) spread(step, support, out, mask);
    if (forced) k_.mask_or(forced, mask, out.positions);
    const int64_t n = k_.collect(mask, out.positions, positions_.get());
    count(out.active) = n;
    return n;
}

void State::copy_part(const MovePart& part, const Value& out, const int32_t* positions, int64_t n) {
    const Rows from = rows(program_.values()[size_t(part.source)]);
    const Rows to = rows(out);
    const int64_t item = size_of(out.type);
    const char* source = static_cast<const char*>(from.data);
    char* target = static_cast<char*>(const_cast<void*>(to.data)) + part.to * item;
    for (int64_t i = 0; i < n; ++i) {
        const int64_t p = positions[i];
        const int64_t row = part.map ? part.map[p] : p;
        if (row < 0) continue;
        const char* a = source + row * from.stride * item;
        char* b = target + p * to.stride * item;
        if (!part.channels) {
            std::memcpy(b, a + part.from * item, size_t(part.count * item));
        } else if (item == 4) {
            for (int64_t c = 0; c < part.count; ++c) std::memcpy(b + c * 4, a + part.channels[c] * 4, 4);
        } else {
            for (int64_t c = 0; c < part.count; ++c) std::memcpy(b + c * 2, a + part.channels[c] * 2, 2);
        }
    }
}

void State::run_move(const Step& step, bool first) {
    const Value& out = program_.values()[size_t(step.outputs[0])];
    uint8_t* const active = masks_[size_t(out.active)];
    if (first) {
        rebuild_move(step);
        std::memset(active, 1, size_t(out.positions));
        std::memset(masks_[size_t(out.announced)], 1, size_t(out.positions));
        count(out.active) = count(out.announced) = out.positions;
        return;
    }
    run_masks(step, false);
    if (count(out.active) == 0) return;
    for (const MovePart& part : step.parts)
        if (count(program_.values()[size_t(part.source)].active) > 0)
            copy_part(part, out, positions_.get(), count(out.active));
}

// What moved data tells: active and announced positions travel the same way.
void State::run_masks(const Step& step, bool first) {
    const Value& out = program_.values()[size_t(step.outputs[0])];
    if (first) {
        for (int32_t mask : {out.active, out.announced}) {
            std::memset(masks_[size_t(mask)], 1, size_t(out.positions));
            count(mask) = out.positions;
        }
        return;
    }
    for (const bool told : {true, false}) {  // active last: its list stays
        const int32_t own = told ? out.announced : out.active;
        clear(own);
        bool any = false;
        for (const Support& support : step.supports) {
            const Value& v = program_.values()[size_t(support.value)];
            const int32_t theirs = told ? v.announced : v.active;
            if (count(theirs) == 0) continue;
            any = true;
            uint8_t* mask = masks_[size_t(own)];
            if (support.kind == Support::Kind::map)
                k_.mask_or_map(masks_[size_t(theirs)], support.index, mask, out.positions);
            else
                k_.mask_or(masks_[size_t(theirs)], mask, out.positions);
        }
        if (any) count(own) = k_.collect(masks_[size_t(own)], out.positions, positions_.get());
    }
}

void State::rebuild_move(const Step& step) {
    const Value& out = program_.values()[size_t(step.outputs[0])];
    const Rows to = rows(out);
    char* data = static_cast<char*>(const_cast<void*>(to.data));
    uint32_t fill;
    std::memcpy(&fill, &step.fill, 4);
    const uint16_t half = uint16_t(fill >> 16);  // fills are 0, infinite, or small whole numbers: exact in bf16
    for (int64_t p = 0; step.fills && p < out.positions; ++p)
        for (int64_t c = 0; c < out.channels; ++c) {
            const int64_t at = p * to.stride + c;
            if (out.type == Type::f32)
                std::memcpy(data + at * 4, &fill, 4);
            else
                std::memcpy(data + at * 2, &half, 2);
        }
    for (const MovePart& part : step.parts) copy_part(part, out, everyone_.get(), out.positions);
}

void State::rebuild() {
    for (const Step& step : program_.steps())
        if (step.kind == Kind::move) rebuild_move(step);
    for (LineSums& sums : line_sums_) sums.valid = false;
}

}  // namespace saccade
