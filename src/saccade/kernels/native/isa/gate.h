// Elements of a value's or record's type, and when a change is announced. Of keep.cpp.
#pragma once
#include "channels.h"
#include "routines.h"
#include "vector_math.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

// Elements of type T as vectors of fp32. What goes to memory has been rounded to T before.
template <class T>
SACCADE_INLINE Vec rounded(Vec v) {
    return sizeof(T) == 4 ? v : round_to_bf16(v);
}

SACCADE_INLINE void store_as(float* p, Vec v) { store(p, v); }
SACCADE_INLINE void store_as(uint16_t* p, Vec v) { store_upper_halves(p, v); }
SACCADE_INLINE float number(const float* p) { return *p; }
SACCADE_INLINE float number(const uint16_t* p) { return widen(*p); }
SACCADE_INLINE void set_number(float* p, float x) { *p = x; }
SACCADE_INLINE void set_number(uint16_t* p, float x) { *p = narrow(x); }

template <class T>
SACCADE_INLINE T* row_of(const Rows& rows, int64_t position) {
    return static_cast<T*>(const_cast<void*>(rows.data)) + position * rows.stride;
}

SACCADE_INLINE float neighbour(float x, int32_t step) {  // of x >= 0
    int32_t u;
    memcpy(&u, &x, 4);
    u += step;
    memcpy(&x, &u, 4);
    return x;
}

// The largest number whose square root, rounded, is no more than the threshold: comparing with it decides as taking
// the root at every position would.
SACCADE_INLINE float largest_square(float threshold) {
    constexpr float most = __FLT_MAX__;
    if (!(threshold <= most)) return threshold;
    float square = threshold * threshold;
    if (square > most) square = most;
    while (__builtin_sqrtf(square) > threshold) square = neighbour(square, -1);
    while (square < most && __builtin_sqrtf(neighbour(square, 1)) <= threshold) square = neighbour(square, 1);
    return square;
}

// What a weighted sum of squares leads to. `scale` stands for the weights where there are none.
struct Gate {
    float scale, threshold, bound;

    explicit Gate(const Keep& k)
        : scale(k.weights ? 1.0f : 1.0f / float(k.channels)),
          threshold(k.threshold),
          bound(k.form == Record::reference ? largest_square(k.threshold) : 0.0f) {}

    bool passes(float squares) const { return !(squares * scale <= bound); }  // NaN passes

    bool passes(float squares, float* moved) const {
        const float total = *moved + __builtin_sqrtf(squares * scale);
        const bool told = !(total <= threshold);
        *moved = told ? 0.0f : total;
        return told;
    }
};

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
