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

// `point`: filters have one tap, which lies inside everywhere.
template <bool point>
void spread_line(const Spread& s, const float* const* lines, int64_t stride, int32_t first, int64_t count, float* out,
                 int64_t ld) {
    Inside in;
    for (int32_t x = first; x < first + count; ++x, out += ld) {
        const float* z = lines[point ? 0 : s.kernel[0] / 2] + x * stride;
        if (!point) find_inside(s, lines, stride, x, in);
        for (int32_t o = 0; o < s.options; ++o) {
            const Vec weight = splat(s.weight[o]);
            const int64_t kept = s.kept[o], rest = s.channels - kept;
            for (int64_t c = 0; c < kept; c += lanes) {
                const int64_t left = kept - c;
                add(out + c, weight * (left >= lanes ? load(z + c) : load_part(z + c, left)), o == 0, left);
            }
            for (int64_t from = 0; from < rest; from += kept) {  // channels made of 0 .. kept once more
                const int64_t here = rest - from < kept ? rest - from : kept;
                for (int64_t c = 0; c < here; c += lanes) {
                    const int64_t left = here - c;
                    Vec v = splat(0.0f);
                    for (int32_t t = 0; t < (point ? 1 : in.count); ++t) {
                        const float* filter = s.filters[o] + (point ? 0 : in.taps[t]) * rest + from + c;
                        const float* source = (point ? z : in.rows[t]) + c;
                        v = left >= lanes ? fma(load(filter), load(source), v)
                                          : fma(load_part(filter, left), load_part(source, left), v);
                    }
                    add(out + kept + from + c, weight * v, o == 0, left);
                }
            }
        }
    }
}

}  // namespace

void spread(const Spread& s, const float* const* lines, int64_t stride, int32_t first, int64_t count, float* out,
            int64_t ld) {
    const bool point = s.kernel[0] * s.kernel[1] == 1;
    (point ? spread_line<true> : spread_line<false>)(s, lines, stride, first, count, out, ld);
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
