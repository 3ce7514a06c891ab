// One stream's picture: the last frame, and what a network takes for it, brought up to date where the frame changed.
#pragma once
#include <cstdint>
#include <vector>

#include "../kernels.h"
#include "aligned.h"
#include "reach.h"

namespace saccade {

// As `Axis`, in indices of the whole source.
struct AxisTable {
    int32_t taps;
    std::vector<int32_t> start, first, end;
    std::vector<float> weights;
};

struct PictureSettings {
    int32_t source[2];  // height and width
    int32_t size[2];    // of the output
    int32_t corner[2];  // row and column of the output where the tables begin; around them is padding
    AxisTable axes[2];  // rows and columns
    Order order;
    bool clip;
    float luma[3];
    float scale;
    std::vector<float> mean, deviation;  // one number per channel of the output
};

class Picture {
public:
    // rows: fp32 (height, width, channels), padding filled in already; mask: a byte per position. Both stay the
    // caller's. Throws std::invalid_argument where the settings are not possible.
    Picture(const Kernels& kernels, PictureSettings settings, float* rows, uint8_t* mask);
    Picture(const Picture&) = delete;  // `work_` points into its own
    Picture& operator=(const Picture&) = delete;

    // Takes the next frame, pixels of 3 bytes side by side in rows `stride` bytes apart. Afterwards `mask` is 1 at the
    // positions whose source pixels changed, and the rows are those of this frame. Returns how many positions those
    // are: all of them, padding too, on the first frame. Unchanged positions close to changed ones may be computed with
    // them, to the value they had: less than 8 columns beside, about 16 between. They are not counted.
    int64_t update(const uint8_t* frame, int64_t stride);

    void reset() { first_frame_ = true; }  // the next frame is a first one

    int64_t nbytes() const;  // of everything but the rows and the mask

private:
    bool find_changes(int32_t row);
    int64_t update_row(int32_t row);

    const Kernels& kernels_;
    PictureSettings settings_;
    Resampling work_{};
    uint8_t* mask_;
    int32_t origin_[2], extent_[2];  // of the part of the source that any output reads: only that is kept
    Aligned<uint8_t> source_;
    int64_t scratch_floats_;  // in each of line_ and cells_
    Aligned<float> line_, cells_;

    // What changed, a bit per byte, of the source rows that the current output row reads: source row r is in slot
    // r % depth_. A slot without changes is marked in any_ and its words are not read.
    int64_t words_, depth_;
    std::vector<uint64_t> changed_, together_;
    std::vector<uint8_t> any_;
    Reach reach_;
    int64_t marked_ = 0;
    bool first_frame_ = true;
};

}  // namespace saccade
