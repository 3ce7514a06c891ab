// The routines of one instruction set, by file; table.cpp puts them into the kernel list.
#pragma once
#include "../kernels.h"
#include "../simd.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

// convolve.cpp
int64_t packed_bytes(const Convolution&);
void pack(const Convolution&, const float* weight, const float* bias, void* into);
int64_t convolve_scratch_bytes(const Convolution&);
int64_t convolve_chunk(const Convolution&);
void convolve(const Convolution&, Rows in, const int32_t* positions, int64_t count, int32_t prefix, float* out,
              int64_t ld, void* scratch, Rows next);

// windows.cpp
void pool(const Pooling&, Rows in, const int32_t* positions, int64_t count, float* out, int64_t ld);
void interpolate(const Interpolation&, Rows in, const int32_t* positions, int64_t count, float* out, int64_t ld);

// lines.cpp
void reduce(const Reduction&, Rows in, const int32_t* positions, int64_t count, float* out, int64_t ld);
void normalise(const Normalisation&, Rows in, const int32_t* positions, int64_t count, float* out, int64_t ld);

// rows.cpp
void load_rows(Rows in, int32_t channels, const int32_t* map, int32_t broadcast, const int32_t* positions,
               int64_t count, float* out, int64_t ld);
void apply(const RowOp* ops, int32_t op_count, int32_t channels, const int32_t* positions, int64_t count, float* rows,
           int64_t ld);

// keep.cpp
int64_t keep(const Keep&, const int32_t* positions, int64_t count, const float* rows, int64_t ld);

// gated.cpp
void score(const Scoring&, Rows in, const int32_t* positions, int64_t count, float* out);
void difference(Rows now, Rows last, int32_t channels, const Change&, const int32_t* positions, int64_t count);
void accumulate(float* sum, int32_t channels, int32_t add, const int32_t* positions, int64_t count, float* rows,
                int64_t ld);

// dynamic.cpp
void sum_frames(const FrameSum&, int64_t stride, int32_t channels, int64_t positions, float* out);
void spread(const Spread&, const float* const* lines, int64_t stride, int32_t first, int64_t count, float* out,
            int64_t ld);
void add_rows(const float* rows, int64_t ld, int64_t count, int32_t channels, float* sum);

// masks.cpp
void dilate(const Window&, int32_t transposed, const uint8_t* in, uint8_t* out);
void mask_or(const uint8_t* in, uint8_t* out, int64_t count);
void mask_or_map(const uint8_t* in, const int32_t* map, uint8_t* out, int64_t count);
int64_t collect(const uint8_t* mask, int64_t count, int32_t* positions);

// resize.cpp
int64_t compare_bytes(const uint8_t* now, uint8_t* kept, int64_t bytes, uint64_t* changed);
void resample_row(const Resampling&, int32_t row, int32_t first, int32_t end);

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
