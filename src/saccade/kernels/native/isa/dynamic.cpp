// Dynamic convolutions (VA-RED2): frames and channels that were left out, from those that were computed.
#include "routines.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

void sum_frames(const FrameSum& sum, int64_t stride, int32_t channels, int64_t positions, float* out) {
    for (int64_t p = 0; p < positions; ++p) {
        const int64_t row = p * stride;
        for (int64_t c = 0; c < channels; c += lanes) {
            Vec v = load(sum.rows[0] + row + c) * load(sum.weights[0] + c);
            for (int32_t s = 1; s < sum.count; ++s) v = fma(load(sum.rows[s] + row + c), load(sum.weights[s] + c), v);
            store(out + row + c, v);
        }
    }
}

void add_rows(const float* rows, int64_t ld, int64_t count, int32_t channels, float* sum) {
    for (int64_t c = 0; c < channels; c += lanes) {
        Vec v = load(sum + c);
        for (int64_t i = 0; i < count; ++i) v += load(rows + i * ld + c);
        store(sum + c, v);
    }
}

namespace {

// The taps of a filter that lie inside the frame at one position.
struct Inside {
    int32_t count;
    const float* rows[most_taps];
    int32_t taps[most_taps];
};

SACCADE_INLINE void find_inside(const Spread& s, const float* const* lines, int64_t stride, int32_t x, Inside& in) {
    in.count = 0;
    for (int32_t i = 0; i < s.kernel[0]; ++i) {
        if (!lines[i]) continue;
        for (int32_t j = 0; j < s.kernel[1]; ++j) {
            const int32_t column = x + j - s.kernel[1] / 2;
            if (column < 0 || column >= s.width) continue;
            in.rows[in.count] = lines[i] + column * stride;
            in.taps[in.count++] = i * s.kernel[1] + j;
        }
    }
}

SACCADE_INLINE void add(float* out, Vec v, bool fresh, int64_t left) {
    if (left >= lanes) return store(out, fresh ? v : v + load(out));
    store_part(out, fresh ? v : v + load_part(out, left), left);
}

constexpr int columns_together = 8;  // that share what is read of a filter

// Channels [c, c + lanes) of P neighbouring columns, made by taps that lie inside for all of them.
template <int P>
SACCADE_INLINE void filter_columns(const Inside& in, const float* filter, int64_t rest, int64_t stride, int64_t c,
                                   int64_t left, Vec weight, bool fresh, float* out, int64_t ld) {
    Vec v[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) v[p] = splat(0.0f);
    for (int32_t t = 0; t < in.count; ++t) {
        const float* taps = filter + in.taps[t] * rest;
        const Vec tap = left >= lanes ? load(taps) : load_part(taps, left);
        const float* source = in.rows[t] + c;
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p)
            v[p] = fma(tap, left >= lanes ? load(source + p * stride) : load_part(source + p * stride, left), v[p]);
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) add(out + p * ld, weight * v[p], fresh, left);
}

// P columns from x on; `in`: the taps of the first.
template <int P>
void spread_columns(const Spread& s, const Inside& in, const float* z, int64_t stride, float* out, int64_t ld) {
    for (int32_t o = 0; o < s.options; ++o) {
        const Vec weight = splat(s.weight[o]);
        const int64_t kept = s.kept[o], rest = s.channels - kept;
        for (int p = 0; p < P; ++p)
            for (int64_t c = 0; c < kept; c += lanes) {
                const int64_t left = kept - c;
                const float* own = z + p * stride + c;
                add(out + p * ld + c, weight * (left >= lanes ? load(own) : load_part(own, left)), o == 0, left);
            }
        for (int64_t from = 0; from < rest; from += kept) {  // channels made of 0 .. kept once more
            const int64_t here = rest - from < kept ? rest - from : kept;
            for (int64_t c = 0; c < here; c += lanes)
                filter_columns<P>(in, s.filters[o] + from + c, rest, stride, c, here - c, weight, o == 0,
                                  out + kept + from + c, ld);
        }
    }
}

}  // namespace

void spread(const Spread& s, const float* const* lines, int64_t stride, int32_t first, int64_t count, float* out,
            int64_t ld) {
    const int32_t half = s.kernel[1] / 2, end = first + int32_t(count);
    Inside in;
    for (int32_t x = first; x < end;) {
        const float* z = lines[s.kernel[0] / 2] + x * stride;
        find_inside(s, lines, stride, x, in);
        const bool inside = half == 0 || (x >= half && x + columns_together + half <= s.width);
        const bool together = inside && x + columns_together <= end;
        const int32_t now = together ? columns_together : 1;
        (together ? spread_columns<columns_together> : spread_columns<1>)(s, in, z, stride, out, ld);
        x += now;
        out += now * ld;
    }
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
