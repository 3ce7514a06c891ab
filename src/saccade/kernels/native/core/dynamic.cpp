// A step that is a dynamic convolution (VA-RED2): the largest options in use are computed, frame by frame, and what they
// leave out is rebuilt while the frames are near.
#include <algorithm>
#include <cstring>

#include "state.h"

namespace saccade {

namespace {

constexpr int64_t positions_at_once = 1024;  // of the convolution, so that small frames share what weights are read

// How many frames are computed together.
int32_t frames_at_once(int64_t plane, int32_t frames) {
    return int32_t(std::clamp<int64_t>(positions_at_once / plane, 1, frames));
}

// Frames that are held at a time: blocks of `at_once`, enough to look `reach` frames back from the newest block.
int64_t ring_of(int32_t at_once, int32_t reach) { return int64_t(at_once) * (1 + (reach + at_once - 1) / at_once); }

int32_t first_used(const float* weights, int32_t options) {
    int32_t option = 0;
    while (option < options && !(weights[option] > 0)) ++option;
    return option;
}

}  // namespace

int64_t State::allocate_frames() {
    int64_t ring = 0, frame = 0, weights = 0;
    for (const Step& step : program_.steps()) {
        if (step.kind != Kind::dynamic) continue;
        const Dynamic& d = step.dynamic;
        const int64_t one = d.plane * padded(program_.values()[size_t(step.outputs[0])].channels);
        frame = std::max(frame, one);
        ring = std::max(ring, one * ring_of(frames_at_once(d.plane, d.frames), 1 << (d.time_options() - 1)));
        weights = std::max(weights, 2 * most_options * padded(d.kept[0]));
    }
    frames_ = allocate<float>(ring);
    summed_ = allocate<float>(frame);
    sums_of_frames_ = allocate<float>(weights);
    return (ring + frame + weights) * 4;
}

// Frames from .. to of those that an option of time computes, into their places in the ring.
void State::compute_frames(const Step& step, int32_t from, int32_t to, int32_t option, int32_t kept, float* ring,
                           int64_t slots) {
    const Dynamic& d = step.dynamic;
    const Rows in = rows(program_.values()[size_t(step.inputs[0])]);
    const int64_t ld = padded(kept), n = (to - from) * d.plane;
    const int32_t* list = everyone_.get() + from * d.plane;
    if (option > 0) {
        for (int32_t i = from; i < to; ++i)
            std::memcpy(positions_.get() + (i - from) * d.plane, everyone_.get() + (int64_t(i) << option) * d.plane,
                        size_t(d.plane) * sizeof(int32_t));
        list = positions_.get();
    }
    float* out = ring + (from % slots) * d.plane * ld;  // blocks never end beyond the ring
    over_chunks(step, list, n, [&](int thread, const int32_t* positions, int64_t now) {
        k_.convolve(step.convolution, in, positions, now, kept, out + (positions - list) * ld, ld,
                    workspaces_[size_t(thread)].scratch.get());
    });
}

// The rows of one output frame, the epilogue over them, and into the value.
void State::emit_frame(const Step& step, int32_t frame, const float* z, int64_t stride, const Spread& how) {
    const int32_t id = step.outputs[0];
    const Value& out = program_.values()[size_t(id)];
    const std::vector<RowOp>& ops = bind_ops(step);
    const int64_t ld = padded(out.channels), plane = step.dynamic.plane;
    const int32_t* list = everyone_.get() + frame * plane;
    count(out.announced) += over_chunks(step, list, plane, [&](int thread, const int32_t* positions, int64_t n) {
        Workspace& space = workspaces_[size_t(thread)];
        const int64_t most = std::max<int64_t>(8, 4096 / ld);  // rows that stay in the nearest cache
        for (int64_t at = 0; at < n; at += most) {
            const int64_t few = std::min(most, n - at);
            float* fresh = space.fresh.get();
            if (how.options)
                k_.spread(how, z, stride, positions + at - list, few, fresh, ld);
            else
                std::memset(fresh, 0, size_t(few * ld) * sizeof(float));
            if (!step.ops.empty())
                k_.apply(ops.data(), int32_t(step.ops.size()), int32_t(out.channels), positions + at, few, fresh, ld);
            space.announced += keep(out, id, positions + at, few, fresh, ld);
        }
    });
}

void State::run_dynamic(const Step& step, bool first) {
    const int32_t id = step.outputs[0];
    const Value& value = program_.values()[size_t(id)];
    const Dynamic& d = step.dynamic;
    clear(value.announced);
    dynamic_macs_ = 0;
    if (!first) {
        bool told = forced_[size_t(id)] != nullptr;
        for (int32_t input : step.inputs) told = told || count(program_.values()[size_t(input)].announced) > 0;
        clear(value.active);
        if (!told) return;
    }
    std::memset(masks_[size_t(value.active)], 1, size_t(value.positions));
    count(value.active) = value.positions;
    ledger_.whole[size_t(step.plan_step)] = 1;

    float time[most_options] = {1}, channels[most_options] = {1};
    const auto read = [this](int32_t from, float* into) {
        if (from < 0) return;
        const Value& v = program_.values()[size_t(from)];
        const int32_t one = 0;
        float wide[64];
        k_.load(rows(v), int32_t(v.channels), nullptr, 0, &one, 1, wide, 64);
        std::memcpy(into, wide, size_t(v.channels) * sizeof(float));
    };
    read(d.time, time);
    read(d.channels, channels);
    const int32_t time_options = int32_t(d.time_options()), channel_options = int32_t(d.kept.size());
    const int32_t t = first_used(time, time_options), c = first_used(channels, channel_options);
    Spread how{};
    const Window& w = step.convolution.window;
    how.height = w.out[1];
    how.width = w.out[2];
    how.channels = int32_t(value.channels);
    how.kernel[0] = d.kernel[0];
    how.kernel[1] = d.kernel[1];
    if (t == time_options || c == channel_options) {  // no option has a weight
        for (int32_t frame = 0; frame < d.frames; ++frame) emit_frame(step, frame, nullptr, 0, how);
        return;
    }
    const int32_t kept = d.kept[size_t(c)], computed = (d.frames + (1 << t) - 1) >> t;
    dynamic_macs_ = d.macs / d.frames / value.channels * computed * kept;
    for (int32_t k = c; k < channel_options; ++k) {
        if (!(channels[k] > 0)) continue;
        how.kept[how.options] = d.kept[size_t(k)];
        how.filters[how.options] = k ? d.filters[size_t(k) - 1] : nullptr;
        how.weight[how.options++] = channels[k];
        if (k) dynamic_macs_ += d.kernel[0] * d.kernel[1] * (value.channels - d.kept[size_t(k)]) * value.positions;
    }
    int32_t farthest = t;
    for (int32_t k = t; k < time_options; ++k) {
        if (!(time[k] > 0)) continue;
        farthest = k;
        const int64_t taps = k ? (d.before[size_t(k) - 1] != nullptr) + (d.after[size_t(k) - 1] != nullptr) : 0;
        dynamic_macs_ += taps * (d.frames - ((d.frames + (1 << k) - 1) >> k)) * d.plane * kept;
    }
    const int32_t at_once = frames_at_once(d.plane, computed);
    const int64_t slots = ring_of(at_once, 1 << (farthest - t)), stride = padded(kept);
    float* ring = frames_.get();
    const auto slot = [&](int32_t i) { return ring + (i % slots) * d.plane * stride; };
    int32_t next = 0;
    for (int32_t frame = 0; frame < d.frames; ++frame) {
        // The computed frames it is made of, and the weights of each.
        FrameSum sum{};
        int32_t sources[2 * most_options], last = 0;
        bool plain = true;
        const auto add = [&](int32_t source, float weight, const float* numbers) {
            int32_t s = 0;
            while (s < sum.count && sources[s] != source) ++s;
            float* at = sums_of_frames_.get() + s * padded(d.kept[0]);
            if (s == sum.count) {
                sources[sum.count++] = source;
                sum.weights[s] = at;
                std::memset(at, 0, size_t(stride) * sizeof(float));
            }
            plain = plain && !numbers && sum.count == 1;
            for (int64_t i = 0; i < kept; ++i) at[i] += numbers ? weight * numbers[i] : weight;
            last = std::max(last, source);
        };
        for (int32_t k = t; k < time_options; ++k) {
            if (!(time[k] > 0)) continue;
            const int32_t group = frame >> k, j = frame & ((1 << k) - 1), groups = (d.frames + (1 << k) - 1) >> k;
            const size_t row = size_t(j - 1) * size_t(value.channels);
            const float* before = j ? d.before[size_t(k) - 1] : nullptr;
            const float* after = j ? d.after[size_t(k) - 1] : nullptr;
            add(group << (k - t), time[k], before ? before + row : nullptr);
            if (after) add(std::min(group + 1, groups - 1) << (k - t), time[k], after + row);
        }
        while (next <= last) {
            const int32_t to = std::min(next + at_once, computed);
            compute_frames(step, next, to, t, kept, ring, slots);
            next = to;
        }
        Spread own = how;
        const float* z = slot(sources[0]);
        if (plain) {
            for (int32_t o = 0; o < own.options; ++o) own.weight[o] *= sum.weights[0][0];
        } else {
            for (int32_t s = 0; s < sum.count; ++s) sum.rows[s] = slot(sources[s]);
            team_.run(int64_t(team_.size()), [&](int, int64_t task) {
                const int64_t from = d.plane * task / team_.size(), to = d.plane * (task + 1) / team_.size();
                FrameSum part = sum;
                for (int32_t s = 0; s < part.count; ++s) part.rows[s] += from * stride;
                k_.sum_frames(part, stride, kept, to - from, summed_.get() + from * stride);
            });
            z = summed_.get();
        }
        emit_frame(step, frame, z, stride, own);
    }
}

}  // namespace saccade
