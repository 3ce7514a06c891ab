// A step that is a dynamic convolution (VA-RED2): the largest options in use are computed, a few lines of all frames at
// a time, and what they leave out is rebuilt while those lines are near.
#include <algorithm>
#include <cstring>

#include "state.h"

namespace saccade {

// Lines of frames: blocks of `at_once` lines of every frame, frame by frame, in turn in `slots` places.
struct State::Bands {
    int32_t height, at_once, slots, frames;
    int64_t line;  // floats

    int32_t lines(int32_t first) const { return std::min(at_once, height - first); }  // of the block that begins there
    int64_t at(int32_t frame, int32_t y) const {
        const int32_t block = y / at_once;
        return (int64_t(block % slots) * frames * at_once + int64_t(frame) * lines(block * at_once) + y % at_once) * line;
    }
    int64_t size() const { return int64_t(slots) * frames * at_once * line; }
};

namespace {

constexpr int64_t positions_at_once = 1024;  // of the convolution, so that what is read of the weights is shared

int32_t first_used(const float* weights, int32_t options) {
    int32_t option = 0;
    while (option < options && !(weights[option] > 0)) ++option;
    return option;
}

}  // namespace

// Bands of so many frames, of which `computed` fill a block, and which are looked at `reach` lines up and down.
State::Bands State::bands_of(const Step& step, int32_t frames, int32_t computed, int32_t reach, int64_t ld) const {
    const Window& w = step.convolution.window;
    const int64_t block = positions_at_once / (int64_t(w.out[2]) * computed);
    const int32_t at_once = int32_t(std::clamp<int64_t>(block, 1, w.out[1]));
    return {w.out[1], at_once, 1 + (2 * reach + at_once - 1) / at_once, frames, w.out[2] * ld};
}

int64_t State::allocate_frames() {
    line_sums_.resize(program_.line_sums().size());
    int64_t computed = 0, summed = 0, weights = 0, frames = 0, sums = 0;
    for (const Step& step : program_.steps()) {
        if (step.kind != Kind::dynamic) continue;
        const Dynamic& d = step.dynamic;
        const int64_t ld = padded(program_.values()[size_t(step.outputs[0])].channels);
        for (int32_t t = 0; t < int32_t(d.time_options()); ++t) {
            const int32_t now = (d.frames + (1 << t) - 1) >> t;
            computed = std::max(computed, bands_of(step, now, now, d.kernel[0] / 2, ld).size());
            if (d.time_options() > 1)
                summed = std::max(summed, bands_of(step, d.frames, now, d.kernel[0] / 2, ld).size());
        }
        frames = std::max<int64_t>(frames, d.frames);
        weights = std::max(weights, d.frames * 2 * int64_t(d.time_options()) * ld);
        if (d.sums < 0) continue;
        line_sums_[size_t(d.sums)].rows = allocate<float>(sums_of(step));
        sums += sums_of(step);
    }
    frames_ = allocate<float>(computed);
    summed_ = allocate<float>(summed);
    sums_of_frames_ = allocate<float>(weights);
    made_.resize(size_t(frames));
    return (computed + summed + weights + sums) * 4;
}

// A block of lines from `first` on, of the frames that an option of time computes.
void State::compute_lines(const Step& step, int32_t first, int32_t option, int32_t kept, const Bands& bands) {
    const Dynamic& d = step.dynamic;
    const Rows in = rows(program_.values()[size_t(step.inputs[0])]);
    const Rows next = rows(program_.values()[size_t(step.outputs[0])]);
    const int32_t width = step.convolution.window.out[2];
    const int64_t ld = padded(kept), each = int64_t(bands.lines(first)) * width, n = each * bands.frames;
    const int32_t* list = everyone_.get();
    if (option > 0 || each < d.plane) {
        for (int32_t i = 0; i < bands.frames; ++i)
            std::memcpy(positions_.get() + i * each, everyone_.get() + (int64_t(i) << option) * d.plane + first * width,
                        size_t(each) * sizeof(int32_t));
        list = positions_.get();
    }
    float* out = frames_.get() + bands.at(0, first);
    over_chunks(step, list, n, [&](int thread, const int32_t* positions, int64_t now) {
        k_.convolve(step.convolution, in, positions, now, kept, out + (positions - list) * ld, ld,
                    workspaces_[size_t(thread)].scratch.get(), next);
    });
}

// The same block of the frames that are sums of computed ones.
void State::sum_lines(const Step& step, int32_t first, int32_t kept, const Bands& computed, const Bands& summed) {
    const int64_t positions = int64_t(computed.lines(first)) * step.convolution.window.out[2];
    team_.run(step.dynamic.frames, [&](int, int64_t frame) {
        const Made& made = made_[size_t(frame)];
        if (made.plain) return;
        FrameSum sum = made.sum;
        for (int32_t s = 0; s < sum.count; ++s) sum.rows[s] = frames_.get() + computed.at(made.sources[s], first);
        k_.sum_frames(sum, padded(kept), kept, positions, summed_.get() + summed.at(int32_t(frame), first));
    });
}

// Lines from .. to of every frame: their channels, the epilogue over them, and into the value.
void State::emit_lines(const Step& step, int32_t from, int32_t to, int64_t stride, const Bands& computed,
                       const Bands& summed) {
    const int32_t id = step.outputs[0];
    const Value& out = program_.values()[size_t(id)];
    const std::vector<RowOp>& ops = bind_ops(step);
    const Dynamic& d = step.dynamic;
    const int64_t ld = padded(out.channels), width = step.convolution.window.out[2], most = rows_near(ld);
    const int64_t pieces = team_.size() == 1 ? 1 : std::min<int64_t>(to - from, 1 + 4 * team_.size() / d.frames);
    count(out.announced) += over_tasks(d.frames * pieces, [&](int thread, int64_t task) {
        Workspace& space = workspaces_[size_t(thread)];
        float* fresh = space.fresh.get();
        const int32_t frame = int32_t(task / pieces), piece = int32_t(task % pieces);
        const Made& made = made_[size_t(frame)];
        const Bands& bands = made.plain ? computed : summed;
        const float* z = (made.plain ? frames_ : summed_).get();
        const int32_t source = made.plain ? made.sources[0] : frame, up = made.channels.kernel[0] / 2;
        const int64_t end = (from + (to - from) * (piece + 1) / pieces) * width;
        for (int64_t at = (from + (to - from) * piece / pieces) * width; at < end; at += most) {
            const int64_t few = std::min(most, end - at);
            if (!made.channels.options) std::memset(fresh, 0, size_t(few * ld) * sizeof(float));
            for (int64_t i = 0; made.channels.options && i < few;) {
                const int32_t y = int32_t((at + i) / width), x = int32_t((at + i) % width);
                const float* lines[most_taps];
                for (int32_t k = 0; k < made.channels.kernel[0]; ++k) {
                    const int32_t row = y + k - up;
                    lines[k] = row < 0 || row >= bands.height ? nullptr : z + bands.at(source, row);
                }
                const int64_t now = std::min(width - x, few - i);
                k_.spread(made.channels, lines, stride, x, now, fresh + i * ld, ld);
                i += now;
            }
            space.announced += finish(step, ops, everyone_.get() + frame * d.plane + at, few, fresh, ld);
            add_to_lines(step, frame * d.plane + at, few, fresh, ld);
        }
    });
}

// Nothing is left out: the convolution, times a weight.
void State::run_undivided(const Step& step, const Spread& how) {
    const Value& out = program_.values()[size_t(step.outputs[0])];
    const Rows in = rows(program_.values()[size_t(step.inputs[0])]);
    const std::vector<RowOp>& ops = bind_ops(step);
    const int64_t ld = padded(out.channels), width = step.convolution.window.out[2];
    const int64_t chunk = k_.convolve_chunk(step.convolution);
    const int64_t lines = out.positions / width, share = team_.size() == 1 ? lines : 1 + lines / (2 * team_.size());
    const int64_t task = std::clamp<int64_t>(chunk / width, 1, share) * width;  // whole lines
    count(out.announced) = over_tasks((out.positions + task - 1) / task, [&](int thread, int64_t number) {
        Workspace& space = workspaces_[size_t(thread)];
        float* fresh = space.fresh.get();
        const int64_t end = std::min((number + 1) * task, out.positions);
        for (int64_t at = number * task; at < end; at += chunk) {
            const int64_t n = std::min(chunk, end - at);
            const int32_t* list = everyone_.get() + at;
            k_.convolve(step.convolution, in, list, n, int32_t(out.channels), fresh, ld, space.scratch.get(), rows(out));
            k_.spread(how, &fresh, ld, 0, n, fresh, ld);
            space.announced += finish(step, ops, list, n, fresh, ld);
            add_to_lines(step, at, n, fresh, ld);
        }
    });
}

// Rows from position `at` on, to the sums of their lines, which no other thread adds to.
void State::add_to_lines(const Step& step, int64_t at, int64_t n, const float* fresh, int64_t ld) {
    if (step.dynamic.sums < 0) return;
    const int32_t channels = int32_t(program_.values()[size_t(step.outputs[0])].channels);
    const int64_t width = step.convolution.window.out[2];
    float* sums = line_sums_[size_t(step.dynamic.sums)].rows.get();
    for (int64_t i = 0; i < n;) {
        const int64_t now = std::min(width - (at + i) % width, n - i);
        k_.add_rows(fresh + i * ld, ld, now, channels, sums + (at + i) / width * ld);
        i += now;
    }
}

// Numbers of the sums of a step's lines.
int64_t State::sums_of(const Step& step) const {
    const Value& value = program_.values()[size_t(step.outputs[0])];
    return value.positions / step.convolution.window.out[2] * padded(value.channels);
}

// They begin at 0, and are right once every row was added.
void State::begin_sums(const Step& step) {
    if (step.dynamic.sums < 0) return;
    LineSums& sums = line_sums_[size_t(step.dynamic.sums)];
    std::memset(sums.rows.get(), 0, size_t(sums_of(step)) * sizeof(float));
    sums.valid = true;
}

// The same from the value, which somebody else has filled.
void State::sum_again(int32_t sums) {
    const Step& step = program_.steps()[size_t(program_.line_sums()[size_t(sums)])];
    const Value& value = program_.values()[size_t(step.outputs[0])];
    const int64_t ld = padded(value.channels), most = rows_near(ld);
    float* fresh = workspaces_[0].fresh.get();
    begin_sums(step);
    for (int64_t at = 0; at < value.positions; at += most) {
        const int64_t n = std::min(most, value.positions - at);
        k_.load(rows(value), int32_t(value.channels), nullptr, 0, everyone_.get() + at, n, fresh, ld);
        add_to_lines(step, at, n, fresh, ld);
    }
}

// How a frame is made of computed ones, where t is the largest option of time in use.
void State::make_frame(const Step& step, int32_t frame, int32_t t, const float* time, int32_t kept) {
    const Dynamic& d = step.dynamic;
    const int32_t options = int32_t(d.time_options());
    const int64_t ld = padded(program_.values()[size_t(step.outputs[0])].channels);
    Made& made = made_[size_t(frame)];
    made.sum.count = 0;
    made.plain = true;
    const auto add = [&](int32_t source, float weight, const float* numbers) {
        int32_t s = 0;
        while (s < made.sum.count && made.sources[s] != source) ++s;
        float* at = sums_of_frames_.get() + (int64_t(frame) * 2 * options + s) * ld;
        if (s == made.sum.count) {
            made.sources[made.sum.count++] = source;
            made.sum.weights[s] = at;
            std::memset(at, 0, size_t(padded(kept)) * sizeof(float));
        }
        made.plain = made.plain && !numbers && made.sum.count == 1;
        for (int32_t i = 0; i < kept; ++i) at[i] += numbers ? weight * numbers[i] : weight;
    };
    for (int32_t k = t; k < options; ++k) {
        if (!(time[k] > 0)) continue;
        const int32_t group = frame >> k, j = frame & ((1 << k) - 1), groups = (d.frames + (1 << k) - 1) >> k;
        const int64_t row = int64_t(j - 1) * program_.values()[size_t(step.outputs[0])].channels;
        const float* before = j ? d.before[size_t(k) - 1] : nullptr;
        const float* after = j ? d.after[size_t(k) - 1] : nullptr;
        add(group << (k - t), time[k], before ? before + row : nullptr);
        if (after) add(std::min(group + 1, groups - 1) << (k - t), time[k], after + row);
    }
    if (made.plain)
        for (int32_t o = 0; o < made.channels.options; ++o) made.channels.weight[o] *= made.sum.weights[0][0];
}

void State::run_dynamic(const Step& step, bool first) {
    const int32_t id = step.outputs[0];
    const Value& value = program_.values()[size_t(id)];
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
    begin_sums(step);
    fill(step);
}

// All of a dynamic step's value, by the options that have a weight.
void State::fill(const Step& step) {
    const Value& value = program_.values()[size_t(step.outputs[0])];
    const Dynamic& d = step.dynamic;
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
    how.width = w.out[2];
    how.channels = int32_t(value.channels);
    how.kernel[0] = how.kernel[1] = 1;
    if (t == time_options || c == channel_options) {  // no option has a weight
        for (int32_t frame = 0; frame < d.frames; ++frame) made_[size_t(frame)] = Made{{}, {}, true, how};
        const Bands none = bands_of(step, d.frames, d.frames, 0, 0);
        return emit_lines(step, 0, w.out[1], 0, none, none);
    }
    const int32_t kept = d.kept[size_t(c)], computed = (d.frames + (1 << t) - 1) >> t;
    dynamic_macs_ = d.macs / d.frames / value.channels * computed * kept;
    for (int32_t k = c; k < channel_options; ++k) {
        if (!(channels[k] > 0)) continue;
        how.kept[how.options] = d.kept[size_t(k)];
        how.filters[how.options] = k ? d.filters[size_t(k) - 1] : nullptr;
        how.weight[how.options++] = channels[k];
        if (k == 0) continue;
        std::copy(d.kernel, d.kernel + 2, how.kernel);
        dynamic_macs_ += d.kernel[0] * d.kernel[1] * (value.channels - d.kept[size_t(k)]) * value.positions;
    }
    bool divided = how.kernel[0] * how.kernel[1] > 1 || how.options > 1 || kept < how.channels;
    for (int32_t k = t; k < time_options; ++k) {
        if (!(time[k] > 0)) continue;
        divided = divided || k > 0;
        const int64_t taps = k ? (d.before[size_t(k) - 1] != nullptr) + (d.after[size_t(k) - 1] != nullptr) : 0;
        dynamic_macs_ += taps * (d.frames - ((d.frames + (1 << k) - 1) >> k)) * d.plane * kept;
    }
    if (!divided) {
        how.weight[0] *= time[0];
        return run_undivided(step, how);
    }
    for (int32_t frame = 0; frame < d.frames; ++frame) {
        made_[size_t(frame)].channels = how;
        make_frame(step, frame, t, time, kept);
    }
    const int32_t reach = how.kernel[0] / 2;
    const Bands bands = bands_of(step, computed, computed, reach, padded(kept));
    const Bands summed = bands_of(step, d.frames, computed, reach, padded(kept));
    for (int32_t at = 0, done = 0; at < bands.height; at += bands.at_once) {
        compute_lines(step, at, t, kept, bands);
        sum_lines(step, at, kept, bands, summed);
        const int32_t end = at + bands.lines(at), ready = end == bands.height ? end : end - reach;
        if (ready > done) emit_lines(step, done, ready, padded(kept), bands, summed);
        done = std::max(done, ready);
    }
}

}  // namespace saccade
