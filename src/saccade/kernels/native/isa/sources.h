// Where the inputs of each position lie: the pointers that the register tile follows.
#pragma once
#include "packing.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

constexpr int64_t max_tiles = 32;  // per call of `convolve`
constexpr int64_t matrix_rows = 32;  // positions of a panel of matrix tiles

SACCADE_INLINE int64_t rows_per_tile(const Packing& p) { return p.tiles ? matrix_rows : tile_rows; }

class Sources {
public:
    SACCADE_INLINE int64_t tiles_at_once(const Convolution& c, const Packing& p) {
        const int64_t fit = 256 * 1024 / (rows_per_tile(p) * padded(c.out_channels) * 4);
        return fit < 4 ? 4 : fit > max_tiles ? max_tiles : fit;
    }
    SACCADE_INLINE int64_t zeros_bytes(const Packing& p) {
        return round_up((p.rows_in_place ? p.run_units : p.in_per_group) * 4, 64);
    }
    SACCADE_INLINE int64_t copy_bytes(const Packing& p) { return p.copied ? round_up(p.units * 4, 64) : 0; }
    SACCADE_INLINE int64_t scratch_bytes(const Convolution& c, const Packing& p) {
        return 64 + zeros_bytes(p) + round_up(p.taps * 8, 64) +
               tiles_at_once(c, p) * rows_per_tile(p) * (round_up(p.runs * 8, 64) + copy_bytes(p));
    }

    Sources(const Convolution& conv, const Packing& packing, Rows rows, void* scratch)
        : c(conv), w(conv.window), pk(packing), in(rows), row_bytes(rows.stride * size_of(rows.type)) {
        char* at = static_cast<char*>(scratch);
        at += (64 - reinterpret_cast<uintptr_t>(at) % 64) % 64;
        zeros = at;
        memset(at, 0, size_t(zeros_bytes(pk)));
        at += zeros_bytes(pk);
        offsets = reinterpret_cast<int64_t*>(at);
        at += round_up(pk.taps * 8, 64);
        pointers = reinterpret_cast<const char**>(at);
        tile_rows_ = rows_per_tile(pk);
        at += tiles_at_once(c, pk) * tile_rows_ * round_up(pk.runs * 8, 64);
        copies = at;
        parts = pk.copied || pk.taps == 0 ? 1 : pk.runs / pk.taps;
        run_bytes = pk.run_units * 4;
        value_bytes = pk.in_per_group * size_of(rows.type);
        set_offsets();
    }

    // Sets the pointers of up to `tiles_at_once` tiles; `rows` gets how many positions each takes. Returns the tiles.
    int64_t fill(int64_t group, const int32_t* positions, int64_t count, int* rows) {
        const char* data = static_cast<const char*>(in.data) + group * value_bytes;
        const int64_t limit = tiles_at_once(c, pk);
        int64_t tiles = 0;
        const bool in_place = !pk.copied || (pk.rows_in_place && in.stride == pk.in_per_group);
        const int64_t run_taps = pk.copied ? pk.along[2].count : 1;
        const bool as_they_lie = in_place && pointwise();
        Place place{-1, 0, {0, 0, 0}, {0, 0, 0}, 0, false, false};
        for (int64_t at = 0; at < count && tiles < limit; ++tiles) {
            const int64_t n = count - at < tile_rows_ ? count - at : tile_rows_;
            const char** to = tile_pointers(tiles);
            const char* firsts[matrix_rows];
            bool all_inside = in_place;
            for (int64_t p = 0; p < n; ++p) {
                if (as_they_lie) {
                    firsts[p] = data + positions[at + p] * row_bytes;
                    continue;
                }
                move_to(place, positions[at + p]);
                const bool inside = place.rows_inside && place.columns_inside;
                firsts[p] = inside && in_place ? first_tap(place, data) : nullptr;
                if (firsts[p]) continue;
                all_inside = false;
                char* copy = copies + (tiles * tile_rows_ + p) * copy_bytes(pk);
                if (pk.copied && in_place) {
                    point_rows(place, data, to + p, n, copy);
                } else if (pk.copied) {
                    copy_inputs(place, data, copy);
                    for (int64_t run = 0; run < pk.runs; ++run) to[run * n + p] = copy + run * run_bytes;
                } else {
                    point_each(place, data, to + p, n);
                }
            }
            joined_[tiles] = all_inside && in.stride == pk.in_per_group ? pk.runs_joined : 1;
            for (int64_t p = 0; p < n; ++p)
                if (firsts[p]) point(firsts[p], to + p, n, run_taps * joined_[tiles]);
            rows[tiles] = int(n);
            at += n;
        }
        return tiles;
    }

    // How many of the packing's runs one run of the tile is.
    int64_t joined(int64_t tile) const { return joined_[tile]; }

    // Behind what `scratch_bytes` counts.
    char* free_scratch() const { return copies + tiles_at_once(c, pk) * tile_rows_ * copy_bytes(pk); }

    const char** tile_pointers(int64_t tile) const {
        return pointers + tile * tile_rows_ * (round_up(pk.runs * 8, 64) / 8);
    }

private:
    // An output position and, along each axis, the input index of its first tap; inside where no tap is on the padding.
    struct Place {
        int32_t position, n, at[3], from[3];
        int64_t row;  // of the matrix, where the input's row begins that holds the first tap
        bool rows_inside, columns_inside;
    };

    // Whether an output position reads the input position of the same number, and no other.
    bool pointwise() const {
        bool same = pk.taps == 1;
        for (int axis = 0; axis < 3; ++axis)
            same = same && w.stride[axis] == 1 && w.pad[axis] == 0 && w.out[axis] == w.in[axis];
        return same;
    }

    void move_to(Place& place, int32_t position) const {
        const int32_t x = place.at[2] + (position - place.position);
        if (place.position >= 0 && x < w.out[2] && position >= place.position) {
            place.at[2] = x;
        } else {
            int32_t rest = position;
            for (int axis = 2; axis >= 0; --axis) {
                place.at[axis] = rest % w.out[axis];
                rest /= w.out[axis];
            }
            place.n = rest;
            const bool depth = set_from(place, 0), height = set_from(place, 1);
            place.rows_inside = depth && height;
            place.row = in_row(place.n, place.from[0], place.from[1], 0);
        }
        place.columns_inside = set_from(place, 2);
        place.position = position;
    }

    bool set_from(Place& place, int axis) const {
        const AxisTaps& taps = pk.along[axis];
        const int32_t out = place.at[axis];
        const int32_t from = c.transposed ? (out + w.pad[axis] - taps.first * w.dilation[axis]) / w.stride[axis]
                                          : out * w.stride[axis] - w.pad[axis];
        const int32_t last = from + (taps.count - 1) * taps.step;
        place.from[axis] = from;
        return from >= 0 && from < w.in[axis] && last >= 0 && last < w.in[axis];
    }

    int64_t in_row(int64_t n, int64_t d, int64_t h, int64_t x) const {
        return ((n * w.in[0] + d) * w.in[1] + h) * w.in[2] + x;
    }

    // Byte offsets of the taps from the first.
    void set_offsets() {
        int64_t tap = 0;
        for (int64_t d = 0; d < pk.along[0].count; ++d)
            for (int64_t h = 0; h < pk.along[1].count; ++h)
                for (int64_t x = 0; x < pk.along[2].count; ++x)
                    offsets[tap++] =
                        in_row(0, d * pk.along[0].step, h * pk.along[1].step, x * pk.along[2].step) * row_bytes;
    }

    const char* first_tap(const Place& p, const char* data) const {
        return data + (p.row + p.from[2]) * row_bytes;
    }

    // Index along one axis of the input that a tap of an output position reads, or -1.
    int32_t source(const Place& p, int axis, int32_t tap) const {
        const int32_t at = p.from[axis] + tap * pk.along[axis].step;
        return at >= 0 && at < w.in[axis] ? at : -1;
    }

    // Calls visit(row or null) for every tap of a position whose window leaves the input.
    template <class Visit>
    void each_tap(const Place& p, const char* data, Visit visit) const {
        for (int32_t kd = 0; kd < pk.along[0].count; ++kd) {
            const int32_t d = source(p, 0, kd);
            for (int32_t kh = 0; kh < pk.along[1].count; ++kh) {
                const int32_t h = source(p, 1, kh);
                for (int32_t kw = 0; kw < pk.along[2].count; ++kw) {
                    const int32_t x = source(p, 2, kw);
                    visit(d >= 0 && h >= 0 && x >= 0 ? data + in_row(p.n, d, h, x) * row_bytes : nullptr);
                }
            }
        }
    }

    // The runs of a position inside; each begins with one tap and spans `run_taps`.
    void point(const char* first, const char** to, int64_t n, int64_t run_taps) const {
        if (parts == 1) {
            for (int64_t tap = 0; tap < pk.taps; tap += run_taps, to += n) *to = first + offsets[tap];
        } else {
            for (int64_t tap = 0; tap < pk.taps; ++tap)
                for (int64_t part = 0; part < parts; ++part, to += n) *to = first + offsets[tap] + part * run_bytes;
        }
    }

    // Window rows of few channels, of a position whose window leaves the input: read in place where they lie inside,
    // zeros where they lie outside, copied where they do in part.
    void point_rows(const Place& p, const char* data, const char** to, int64_t n, char* copy) const {
        const int32_t from = p.from[2], count = pk.along[2].count;
        const int32_t first = from < 0 ? -from : 0, end = w.in[2] - from < count ? w.in[2] - from : count;
        for (int32_t kd = 0; kd < pk.along[0].count; ++kd) {
            const int32_t d = source(p, 0, kd);
            for (int32_t kh = 0; kh < pk.along[1].count; ++kh, to += n, copy += run_bytes) {
                const int32_t h = source(p, 1, kh);
                *to = zeros;
                if (d < 0 || h < 0 || first >= end) continue;
                const char* row = data + in_row(p.n, d, h, from) * row_bytes;
                *to = p.columns_inside ? row : copy;
                if (p.columns_inside) continue;
                zero_bytes_of(copy, first * value_bytes);
                copy_bytes_of(copy + first * value_bytes, row + first * row_bytes, (end - first) * value_bytes);
                zero_bytes_of(copy + end * value_bytes, (count - end) * value_bytes);
            }
        }
    }

    void point_each(const Place& p, const char* data, const char** to, int64_t n) const {
        each_tap(p, data, [&](const char* row) {
            for (int64_t part = 0; part < parts; ++part, to += n)
                *to = row ? row + part * run_bytes : zeros;
        });
    }

    void copy_inputs(const Place& p, const char* data, char* to) const {
        char* const begin = to;
        const bool joined = in.stride == pk.in_per_group && pk.along[2].step == 1;
        if (!pk.widens && p.rows_inside && p.columns_inside) {
            const char* first = first_tap(p, data);
            const int64_t together = joined ? pk.along[2].count : 1, bytes = together * value_bytes;
            for (int64_t tap = 0; tap < pk.taps; tap += together, to += bytes)
                copy_bytes_of(to, first + offsets[tap], bytes);
        } else {
            each_tap(p, data, [&](const char* row) {
                if (pk.widens) {
                    float* out = reinterpret_cast<float*>(to);
                    const uint16_t* from = reinterpret_cast<const uint16_t*>(row);
                    for (int64_t i = 0; i < pk.in_per_group; ++i) out[i] = row ? widen(from[i]) : 0.0f;
                    to += pk.in_per_group * 4;
                } else {
                    if (row)
                        copy_bytes_of(to, row, value_bytes);
                    else
                        zero_bytes_of(to, value_bytes);
                    to += value_bytes;
                }
            });
        }
        zero_bytes_of(to, pk.units * 4 - (to - begin));  // an odd bf16 without partner, units without inputs
    }

    // Few bytes, most often: calls of memcpy and memset would take longer than the sum.
    SACCADE_INLINE void copy_bytes_of(char* to, const char* from, int64_t bytes) {
#if defined(__AVX512F__)
        for (; bytes >= 64; bytes -= 64, to += 64, from += 64) _mm512_storeu_si512(to, _mm512_loadu_si512(from));
        const __mmask64 rest = (uint64_t(1) << bytes) - 1;
        _mm512_mask_storeu_epi8(to, rest, _mm512_maskz_loadu_epi8(rest, from));
#else
        if (bytes > 256) {
            memcpy(to, from, size_t(bytes));
            return;
        }
        for (; bytes >= 16; bytes -= 16, to += 16, from += 16) memcpy(to, from, 16);
        for (; bytes >= 4; bytes -= 4, to += 4, from += 4) memcpy(to, from, 4);
        if (bytes) memcpy(to, from, 2);
#endif
    }

    SACCADE_INLINE void zero_bytes_of(char* to, int64_t bytes) {
#if defined(__AVX512F__)
        for (; bytes >= 64; bytes -= 64, to += 64) _mm512_storeu_si512(to, _mm512_setzero_si512());
        _mm512_mask_storeu_epi8(to, (uint64_t(1) << bytes) - 1, _mm512_setzero_si512());
#else
        memset(to, 0, size_t(bytes));
#endif
    }

    const Convolution& c;
    const Window& w;
    const Packing& pk;
    Rows in;
    int64_t row_bytes, tile_rows_ = tile_rows, parts = 1, run_bytes = 0, value_bytes = 0;
    char* zeros = nullptr;
    int64_t* offsets = nullptr;
    const char** pointers = nullptr;
    char* copies = nullptr;
    int64_t joined_[max_tiles];
};

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
