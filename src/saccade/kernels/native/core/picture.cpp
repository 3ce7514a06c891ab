#include "picture.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace saccade {

namespace {

// Up to so many output columns between two changes are computed with them: less work than a second start.
constexpr int32_t gap = 16;

void check(bool good, const char* what) {
    if (!good) throw std::invalid_argument(what);
}

void check_axis(const AxisTable& axis, int32_t source, int32_t corner, int32_t size) {
    const size_t count = axis.start.size();
    check(count > 0 && corner >= 0 && corner + int64_t(count) <= size, "the resized picture is not inside the output");
    check(axis.taps > 0 && axis.first.size() == count && axis.end.size() == count &&
              axis.weights.size() == count * size_t(axis.taps),
          "a table's parts do not fit together");
    for (size_t i = 0; i < count; ++i) {
        check(axis.start[i] >= 0 && axis.start[i] + axis.taps <= source, "a table reads beyond the source");
        check(axis.start[i] <= axis.first[i] && axis.first[i] < axis.end[i] &&
                  axis.end[i] <= axis.start[i] + axis.taps,
              "a table's support is not inside its taps");
        check(i == 0 || (axis.start[i - 1] <= axis.start[i] && axis.first[i - 1] <= axis.first[i] &&
                         axis.end[i - 1] <= axis.end[i]),
              "a table falls");
    }
}

bool moves_only(const AxisTable& axis) {
    for (size_t i = 0; i < axis.start.size(); ++i)
        if (axis.taps != 1 || axis.weights[i] != 1.0f || axis.start[i] != axis.start[0] + int32_t(i)) return false;
    return true;
}

int64_t table_bytes(const AxisTable& axis) {
    return bytes_of(axis.start) + bytes_of(axis.first) + bytes_of(axis.end) + bytes_of(axis.weights);
}

}  // namespace

Picture::Picture(const Kernels& kernels, PictureSettings settings, float* rows, uint8_t* mask)
    : kernels_(kernels), settings_(std::move(settings)), mask_(mask) {
    const PictureSettings& s = settings_;
    const size_t channels = s.order == Order::grey ? 1 : 3;
    check(s.mean.size() == channels && s.deviation.size() == channels, "mean and deviation are one number per channel");
    Axis* axes[] = {&work_.rows, &work_.columns};
    for (int a = 0; a < 2; ++a) {
        AxisTable& axis = settings_.axes[a];
        check_axis(axis, s.source[a], s.corner[a], s.size[a]);
        origin_[a] = axis.start.front();
        extent_[a] = axis.start.back() + axis.taps - origin_[a];
        for (std::vector<int32_t>* indices : {&axis.start, &axis.first, &axis.end})
            for (int32_t& index : *indices) index -= origin_[a];
        *axes[a] = {axis.taps, axis.start.data(), axis.first.data(), axis.end.data(), axis.weights.data()};
    }
    const int64_t width = 3 * int64_t(extent_[1]);
    words_ = (width + 63) / 64;
    work_.stride = words_ * 64;
    source_ = allocate<uint8_t>(extent_[0] * work_.stride);
    std::memset(source_.get(), 0, size_t(extent_[0] * work_.stride));
    scratch_floats_ = 3 * int64_t(std::max(extent_[1], s.size[1])) + 64;
    for (Aligned<float>* scratch : {&line_, &cells_}) {
        *scratch = allocate<float>(scratch_floats_);
        std::fill_n(scratch->get(), scratch_floats_, 0.0f);
    }

    work_.source = source_.get();
    work_.line = line_.get();
    work_.cells = cells_.get();
    work_.same_columns = moves_only(s.axes[1]);
    work_.order = s.order;
    work_.clip = s.clip;
    std::copy_n(s.luma, 3, work_.luma);
    work_.scale = s.scale;
    for (size_t i = 0; i < 48; ++i) {
        work_.mean[i] = s.mean[i % channels];
        work_.deviation[i] = s.deviation[i % channels];
        work_.centre |= work_.mean[i] != 0.0f || work_.deviation[i] != 1.0f;
    }
    work_.out_stride = int64_t(s.size[1]) * int64_t(channels);
    work_.out = rows + s.corner[0] * work_.out_stride + s.corner[1] * int64_t(channels);

    depth_ = 1;
    for (size_t i = 0; i < s.axes[0].first.size(); ++i)
        depth_ = std::max<int64_t>(depth_, s.axes[0].end[i] - s.axes[0].first[i]);
    changed_.resize(size_t(depth_ * words_));
    any_.resize(size_t(depth_));
    reach_ = Reach(work_.columns, int32_t(s.axes[1].first.size()), extent_[1]);
    together_.resize(size_t(words_ + reach_.spare_words()));
}

int64_t Picture::nbytes() const {
    return extent_[0] * work_.stride + 2 * scratch_floats_ * int64_t(sizeof(float)) + table_bytes(settings_.axes[0]) +
           table_bytes(settings_.axes[1]) + bytes_of(changed_) + bytes_of(together_) + bytes_of(any_) +
           reach_.nbytes();
}

int64_t Picture::update(const uint8_t* frame, int64_t stride) {
    const int64_t positions = int64_t(settings_.size[0]) * settings_.size[1];
    if (marked_) std::memset(mask_, 0, size_t(positions));
    marked_ = 0;
    frame += origin_[0] * stride + 3 * int64_t(origin_[1]);
    const int64_t width = 3 * int64_t(extent_[1]);
    const std::vector<int32_t>& first = settings_.axes[0].first;
    const std::vector<int32_t>& end = settings_.axes[0].end;
    // A source row is compared just before the first output row that reads it, which then finds it in the cache. Rows
    // that none reads are passed over.
    for (int32_t y = 0, next = 0; y < int32_t(first.size()); ++y) {
        for (next = std::max(next, first[size_t(y)]); next < end[size_t(y)]; ++next) {
            const uint8_t* now = frame + next * stride;
            uint8_t* kept = source_.get() + next * work_.stride;
            const int64_t slot = next % depth_;
            uint64_t* changed = changed_.data() + slot * words_;
            if (first_frame_) {
                std::memcpy(kept, now, size_t(width));
                std::fill_n(changed, words_, ~uint64_t(0));
                any_[size_t(slot)] = 1;
            } else {
                any_[size_t(slot)] = kernels_.compare_bytes(now, kept, width, changed) != 0;
            }
        }
        if (find_changes(y)) marked_ += update_row(y);
    }
    if (first_frame_) {
        std::memset(mask_, 1, size_t(positions));
        marked_ = positions;
        first_frame_ = false;
    }
    return marked_;
}

// together_ becomes what changed in any source row of this output row; false where nothing did.
bool Picture::find_changes(int32_t row) {
    bool found = false;
    for (int32_t r = work_.rows.first[row]; r < work_.rows.end[row]; ++r) {
        if (!any_[size_t(r % depth_)]) continue;
        const uint64_t* changed = changed_.data() + (r % depth_) * words_;
        if (!found) std::copy_n(changed, words_, together_.data());
        else
            for (int64_t i = 0; i < words_; ++i) together_[size_t(i)] |= changed[i];
        found = true;
    }
    return found;
}

// Marks the positions of an output row that read a changed source pixel, and computes them. Returns how many they are.
int64_t Picture::update_row(int32_t row) {
    uint8_t* mask = mask_ + (settings_.corner[0] + row) * int64_t(settings_.size[1]) + settings_.corner[1];
    const Reach::Marked marked = reach_.mark(together_.data(), mask);
    int32_t from = marked.begin, to = marked.begin;
    for (int32_t x = marked.begin; x < marked.end; x += 8) {
        uint64_t eight = 0;
        std::memcpy(&eight, mask + x, size_t(std::min(8, marked.end - x)));
        if (!eight) continue;
        if (x - to > gap) {
            kernels_.resample_row(work_, row, from, to);
            from = x;
        }
        to = std::min(x + 8, marked.end);
    }
    if (from < to) kernels_.resample_row(work_, row, from, to);
    return marked.count;
}

}  // namespace saccade
