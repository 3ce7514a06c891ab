// Byte masks, 0 or 1 per position: what a window spreads, unions, and the list of what is set.
#include "routines.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

namespace {

#if defined(__AVX512BW__)
constexpr int64_t width = 64;
#elif defined(__AVX2__)
constexpr int64_t width = 32;
#else
constexpr int64_t width = 16;
#endif
typedef uint8_t Bytes __attribute__((vector_size(width)));
typedef uint16_t Pairs __attribute__((vector_size(width)));
typedef uint8_t Half __attribute__((vector_size(width / 2)));

template <class Word>
SACCADE_INLINE Word read(const uint8_t* p) {
    Word w;
    memcpy(&w, p, sizeof w);
    return w;
}

template <class Word>
SACCADE_INLINE void write(uint8_t* p, Word w) {
    memcpy(p, &w, sizeof w);
}

SACCADE_INLINE bool any_of(Bytes v) {
#if defined(__AVX512BW__)
    return _mm512_test_epi32_mask((__m512i)v, (__m512i)v) != 0;
#elif defined(__AVX2__)
    return !_mm256_testz_si256((__m256i)v, (__m256i)v);
#else
    uint64_t words[2];
    memcpy(words, &v, 16);
    return (words[0] | words[1]) != 0;
#endif
}

// Calls body(first byte, Word) for words that cover `count` bytes; the last may overlap the one before, so what body
// does must be the same when done twice. Fewer bytes than a word come one by one.
template <class Body>
SACCADE_INLINE void over_bytes(int64_t count, Body body) {
    int64_t i = 0;
    if (count >= width) {
        for (; i + width <= count; i += width) body(i, Bytes{});
        if (i < count) body(count - width, Bytes{});
    } else if (count >= 8) {
        for (; i + 8 <= count; i += 8) body(i, uint64_t{});
        if (i < count) body(count - 8, uint64_t{});
    } else {
        for (; i < count; ++i) body(i, uint8_t{});
    }
}

SACCADE_INLINE bool any_set(const uint8_t* p, int64_t count) {
    Bytes wide = {};
    uint64_t rest = 0;
    int64_t i = 0;
    for (; i + width <= count; i += width) wide |= read<Bytes>(p + i);
    for (; i + 8 <= count; i += 8) rest |= read<uint64_t>(p + i);
    for (; i < count; ++i) rest |= p[i];
    return rest || any_of(wide);
}

// to |= from
SACCADE_INLINE void or_bytes(uint8_t* to, const uint8_t* from, int64_t count) {
    over_bytes(count, [&](int64_t i, auto word) {
        using Word = decltype(word);
        write<Word>(to + i, read<Word>(to + i) | read<Word>(from + i));
    });
}

// One axis of a window. Output x reads the places x * stride + offset + t * step for every tap t, and input i lies at
// place i * spread: of a transposed convolution the inputs lie apart, and the taps come in the opposite order.
struct Axis {
    int64_t in, out, taps, stride, spread, offset, step;

    // The input that a tap of an output reads, or -1.
    int64_t input(int64_t output, int64_t tap) const {
        const int64_t place = output * stride + offset + tap * step;
        if (place < 0 || (spread > 1 && place % spread)) return -1;
        const int64_t i = spread > 1 ? place / spread : place;
        return i < in ? i : -1;
    }

    bool keeps_places() const { return taps == 1 && stride == 1 && spread == 1 && offset == 0 && in == out; }
};

Axis axis_of(const Window& w, int axis, bool transposed) {
    const int64_t taps = w.kernel[axis], stride = w.stride[axis], step = w.dilation[axis], pad = w.pad[axis];
    Axis a = {w.in[axis], w.out[axis], taps, stride, 1, -pad, step};
    if (transposed) {
        a.stride = 1;
        a.spread = stride;
        a.offset = pad - (taps - 1) * step;
    }
    return a;
}

constexpr int64_t line_bytes = 8192;  // places of a row that are worked on at once
constexpr int64_t rows_at_once = 16;  // input rows united before they are spread along the row
constexpr int64_t known_rows = 4096;  // rows of one map that are looked at once, to pass over those with nothing set

// to = the union of rows
SACCADE_INLINE void unite(uint8_t* to, const uint8_t* const* rows, int64_t row_count, int64_t from, int64_t count) {
    over_bytes(count, [&](int64_t i, auto word) {
        using Word = decltype(word);
        Word set = read<Word>(rows[0] + from + i);
        for (int64_t r = 1; r < row_count; ++r) set |= read<Word>(rows[r] + from + i);
        write<Word>(to + i, set);
    });
}

// A stretch of the places of a row, and room behind for whole vectors.
struct Line {
    alignas(64) uint8_t at[line_bytes + 4 * width];

    // Bytes go to every `spread`-th place from `start` on, spread > 1; the places between become 0.
    void put_apart(int64_t start, const uint8_t* bytes, int64_t count, int64_t spread) {
        uint8_t* line = at + start;
        if (spread == 2) {
            for (int64_t i = 0; i < count; i += width / 2)
                write(line + 2 * i, __builtin_convertvector(read<Half>(bytes + i), Pairs));
        } else {
            memset(line, 0, size_t((count - 1) * spread + 1));
            for (int64_t i = 0; i < count; ++i) line[i * spread] = bytes[i];
        }
    }

    // at[j] |= at[j + t * step] for every tap t and j < count, in a logarithm of passes.
    void spread_taps(int64_t count, int64_t taps, int64_t step) {
        for (int64_t covered = 1; covered < taps;) {
            const int64_t more = 2 * covered <= taps ? covered : taps - covered;
            covered += more;
            const int64_t needed = count + (taps - covered) * step;
            for (int64_t j = 0; j < needed; j += width)
                write(at + j, read<Bytes>(at + j) | read<Bytes>(at + j + more * step));
        }
    }

    // Every `stride`-th byte comes to the front.
    void move_together(int64_t count, int64_t stride) {
        if (stride == 2)
            for (int64_t i = 0; i < count; i += width / 2)
                write(at + i, __builtin_convertvector(read<Pairs>(at + 2 * i) & 255, Half));
        else if (stride > 2)
            for (int64_t i = 1; i < count; ++i) at[i] = at[i * stride];
    }
};

// to[x] |= any set input under the window along the row, the rows taken together.
void spread_row(const Axis& a, const uint8_t* const* rows, int64_t row_count, uint8_t* to) {
    Line line;  // not cleared as a whole
    const int64_t half = (line_bytes / 2 - 1) / a.step + 1;
    const int64_t taps = a.taps < half ? a.taps : half;
    const int64_t fit = (line_bytes - (taps - 1) * a.step - 1) / a.stride + 1;
    for (int64_t x = 0; x < a.out; x += fit)
        for (int64_t tap = 0; tap < a.taps; tap += taps) {
            const int64_t count = a.out - x < fit ? a.out - x : fit;
            const int64_t now = a.taps - tap < taps ? a.taps - tap : taps;
            const int64_t places = (count - 1) * a.stride + (now - 1) * a.step + 1;
            const int64_t first = x * a.stride + a.offset + tap * a.step;  // place of the line's byte 0
            const int64_t from = first <= 0 ? 0 : (first + a.spread - 1) / a.spread;
            int64_t inputs = first + places <= 0 ? 0 : (first + places - 1) / a.spread + 1 - from;
            if (inputs > a.in - from) inputs = a.in - from;
            if (inputs <= 0) continue;
            const int64_t start = from * a.spread - first, end = start + (inputs - 1) * a.spread + 1;
            if (a.spread == 1) {
                unite(line.at + start, rows, row_count, from, inputs);
            } else {
                uint8_t together[line_bytes / 2 + width];
                unite(together, rows, row_count, from, inputs);
                line.put_apart(start, together, inputs, a.spread);
            }
            memset(line.at, 0, size_t(start));
            memset(line.at + end, 0, size_t(places - end + width));
            line.spread_taps((count - 1) * a.stride + 1, now, a.step);
            line.move_together(count, a.stride);
            or_bytes(to + x, line.at, count);
        }
}

}  // namespace

void dilate(const Window& w, int32_t transposed, const uint8_t* in, uint8_t* out) {
    const Axis depth = axis_of(w, 0, transposed), height = axis_of(w, 1, transposed), row = axis_of(w, 2, transposed);
    if (depth.keeps_places() && height.keeps_places() && row.keeps_places())
        return mask_or(in, out, positions_in(w));
    const int64_t rows_in = depth.in * height.in;
    const bool known = rows_in <= known_rows;
    uint8_t is_set[known_rows];
    for (int64_t n = 0; n < w.batch; ++n, in += rows_in * row.in, out += depth.out * height.out * row.out) {
        bool any = !known;
        for (int64_t r = 0; known && r < rows_in; ++r) {
            is_set[r] = any_set(in + r * row.in, row.in);
            any |= is_set[r];
        }
        if (!any) continue;
        for (int64_t d = 0; d < depth.out; ++d)
            for (int64_t h = 0; h < height.out; ++h) {
                uint8_t* to = out + (d * height.out + h) * row.out;
                const uint8_t* rows[rows_at_once];
                int64_t found = 0;
                for (int64_t i = 0; i < depth.taps; ++i) {
                    const int64_t in_d = depth.input(d, i);
                    if (in_d < 0) continue;
                    for (int64_t j = 0; j < height.taps; ++j) {
                        const int64_t in_h = height.input(h, j), r = in_d * height.in + in_h;
                        if (in_h < 0 || (known && !is_set[r])) continue;
                        rows[found++] = in + r * row.in;
                        if (found == rows_at_once) {
                            spread_row(row, rows, found, to);
                            found = 0;
                        }
                    }
                }
                if (found) spread_row(row, rows, found, to);
            }
    }
}

void mask_or(const uint8_t* in, uint8_t* out, int64_t count) { or_bytes(out, in, count); }

void mask_or_map(const uint8_t* in, const int32_t* map, uint8_t* out, int64_t count) {
    constexpr int64_t together = 64;
    int64_t p = 0;
    for (; p + together <= count; p += together) {
        const int32_t* m = map + p;
        uint32_t lowest = ~0u;  // as an unsigned number, -1 is the highest of all
        int32_t highest = -1, astray = 0;
        for (int32_t i = 0; i < together; ++i) {
            lowest = uint32_t(m[i]) < lowest ? uint32_t(m[i]) : lowest;
            highest = m[i] > highest ? m[i] : highest;
            astray |= (m[i] - i) ^ m[0];
        }
        if (highest < 0) continue;
        // Neighbours mostly come from neighbours, and from where nothing is set.
        const int64_t span = int64_t(highest) - lowest + 1;
        if (span <= 4 * together && !any_set(in + lowest, span)) continue;
        if (astray == 0) {
            or_bytes(out + p, in + m[0], together);
            continue;
        }
        for (int64_t i = 0; i < together; ++i)
            if (m[i] >= 0) out[p + i] |= in[m[i]];
    }
    for (; p < count; ++p)
        if (map[p] >= 0) out[p] |= in[map[p]];
}

int64_t collect(const uint8_t* mask, int64_t count, int32_t* positions) {
    int64_t found = 0, p = 0;
#if defined(__AVX512BW__)
    const __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; p + 64 <= count; p += 64) {
        const __m512i block = _mm512_loadu_si512(mask + p);
        uint64_t set = _mm512_test_epi8_mask(block, block);
        for (int32_t first = int32_t(p); set; set >>= 16, first += 16) {
            const __mmask16 here = __mmask16(set);
            const int n = __builtin_popcount(here);
            const __m512i list = _mm512_maskz_compress_epi32(here, _mm512_add_epi32(index, _mm512_set1_epi32(first)));
            _mm512_mask_storeu_epi32(positions + found, __mmask16((1u << n) - 1u), list);
            found += n;
        }
    }
#else
    constexpr uint64_t all = 0x0101010101010101u;
    for (; p + width <= count; p += width) {
        if (!any_of(read<Bytes>(mask + p))) continue;
        for (int64_t q = p; q < p + width; q += 8) {
            uint64_t set = read<uint64_t>(mask + q);
            if (set == all) {
                for (int32_t i = 0; i < 8; ++i) positions[found + i] = int32_t(q) + i;
                found += 8;
            } else {
                for (; set; set &= set - 1) positions[found++] = int32_t(q) + (__builtin_ctzll(set) >> 3);
            }
        }
    }
#endif
    for (; p < count; ++p)
        if (mask[p]) positions[found++] = int32_t(p);
    return found;
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
