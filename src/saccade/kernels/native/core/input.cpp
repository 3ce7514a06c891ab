// A frame arrives: what of it changed, and the rows that become the plan's input value.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "state.h"

namespace saccade {

namespace {

constexpr int64_t span = 128;  // positions compared at once

bool all_finite(const float* x, int64_t n) {
    // The sum of x * 0 is 0 unless one of them is infinite or NaN.
    float sum[8] = {};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; ++j) sum[j] += x[i + j] * 0.0f;
    float total = 0;
    for (float s : sum) total += s;
    for (; i < n; ++i) total += x[i] * 0.0f;
    return total == 0.0f;
}

}  // namespace

bool State::finite(const Step& step, const FrameInput& input) {
    if (!input.planar) return true;  // pictures are finite
    const Value& v = program_.values()[size_t(step.outputs[0])];
    const int64_t total = v.positions * v.channels;
    const float* last = last_valid_[size_t(step.slot)] ? last_[size_t(step.slot)] : nullptr;
    for (int64_t at = 0; at < total; at += 1024) {
        const int64_t n = std::min<int64_t>(1024, total - at);
        if (last && std::memcmp(last + at, input.planar + at, size_t(n) * 4) == 0) continue;
        if (!all_finite(input.planar + at, n)) return false;
    }
    return true;
}

// Lists the positions whose row may differ from what it was, in spans; a span without a changed bit is left out.
int64_t State::changed_positions(const Step& step, const FrameInput& input, bool first) {
    const Value& v = program_.values()[size_t(step.outputs[0])];
    if (input.rows) {
        if (!first) return k_.collect(input.changed, v.positions, positions_.get());
        for (int64_t p = 0; p < v.positions; ++p) positions_[size_t(p)] = int32_t(p);
        return v.positions;
    }
    float* last = last_[size_t(step.slot)];
    const bool compare = !first && last && last_valid_[size_t(step.slot)];
    int64_t n = 0;
    for (int64_t o = 0; o < step.outer; ++o)
        for (int64_t i = 0; i < step.inner; i += span) {
            const int64_t width = std::min(span, step.inner - i);
            bool changed = !compare;
            for (int64_t c = 0; c < v.channels; ++c) {
                const int64_t at = (o * v.channels + c) * step.inner + i;
                if (compare && std::memcmp(last + at, input.planar + at, size_t(width) * 4) == 0) continue;
                changed = true;
                if (last) std::memcpy(last + at, input.planar + at, size_t(width) * 4);
            }
            if (changed)
                for (int64_t j = 0; j < width; ++j) positions_[size_t(n++)] = int32_t(o * step.inner + i + j);
        }
    return n;
}

void State::run_input(const Step& step, const FrameInput& input, bool first) {
    const int32_t id = step.outputs[0];
    const Value& v = program_.values()[size_t(id)];
    const size_t slot = size_t(step.slot);
    clear(v.announced);
    const int64_t n = changed_positions(step, input, first);
    last_valid_[slot] = input.planar && last_[slot];
    int64_t announced = 0;
    const int64_t ld = input.rows ? padded(v.channels) : v.channels;
    for (int64_t at = 0; at < n; at += rows_per_chunk) {
        const int64_t now = std::min(rows_per_chunk, n - at);
        const int32_t* list = positions_.get() + at;
        float* fresh = workspaces_[0].fresh.get();
        if (input.rows) {
            k_.load({input.rows, v.channels, Type::f32}, int32_t(v.channels), nullptr, 0, list, now, fresh, ld);
        } else {
            for (int64_t i = 0; i < now;) {  // runs of positions that follow one another within a plane
                const int64_t p = list[i], o = p / step.inner, within = p - o * step.inner;
                int64_t run = 1;
                while (i + run < now && within + run < step.inner && list[i + run] == list[i] + run) ++run;
                for (int64_t c = 0; c < v.channels; ++c) {
                    const float* from = input.planar + (o * v.channels + c) * step.inner + within;
                    float* to = fresh + i * ld + c;
                    for (int64_t j = 0; j < run; ++j) to[j * ld] = from[j];
                }
                i += run;
            }
        }
        announced += keep(v, id, list, now, fresh, ld);
    }
    count(v.announced) = announced;
    clear(v.active);  // what may have changed; that every position was compared is the ledger's business
    for (int64_t i = 0; i < n; ++i) masks_[size_t(v.active)][positions_[size_t(i)]] = 1;
    count(v.active) = n;
}

}  // namespace saccade
