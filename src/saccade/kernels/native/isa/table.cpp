#include "routines.h"

#define SACCADE_TEXT_OF(name) #name
#define SACCADE_TEXT(name) SACCADE_TEXT_OF(name)

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

extern const Kernels kernel_list;
const Kernels kernel_list = {
    SACCADE_TEXT(SACCADE_ISA_NAMESPACE),
    lanes,
    packed_bytes,
    pack,
    convolve_scratch_bytes,
    convolve_chunk,
    convolve,
    pool,
    interpolate,
    reduce,
    normalise,
    load_rows,
    apply,
    keep,
    score,
    difference,
    accumulate,
    sum_frames,
    spread,
    add_rows,
    dilate,
    mask_or,
    mask_or_map,
    collect,
    compare_bytes,
    resample_row,
};

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
