// Fresh rows go into their value, and what to announce is decided: one pass over each row. Rows of fewer channels than
// a vector has lanes are taken together, a block of positions at a time; the others go one by one.
#include "channels.h"
#include "routines.h"
#include "vector_math.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

namespace {

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

struct Fresh {
    const int32_t* positions;
    int64_t count;
    const float* rows;
    int64_t ld;
};

float neighbour(float x, int32_t step) {  // of x >= 0
    int32_t u;
    memcpy(&u, &x, 4);
    u += step;
    memcpy(&x, &u, 4);
    return x;
}

// The largest number whose square root, rounded, is no more than the threshold: comparing with it decides as taking
// the root at every position would.
float largest_square(float threshold) {
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

// Rows of at least one vector. How far a row moved is found vector by vector: all lanes count, or only the last n. The
// order of a sum depends on the channels alone.
class Bits {
public:
    explicit Bits(const Keep&) {}
    void take(int, Vec now, Vec before, int64_t) { differ |= ubits(now) ^ ubits(before); }
    void take_last(Vec now, Vec before, int64_t, int64_t n) {
        differ |= ubits(last_lanes(from_ubits(ubits(now) ^ ubits(before)), n));
    }
    bool any() const {
#if defined(__AVX512F__)
        return _mm512_test_epi32_mask((__m512i)differ, (__m512i)differ) != 0;
#elif defined(__AVX2__)
        return !_mm256_testz_si256((__m256i)differ, (__m256i)differ);
#else
        const ULVec two = reinterpret_cast<ULVec>(differ);
        return (two[0] | two[1]) != 0;
#endif
    }

private:
    UVec differ = {};
};

template <bool weighted>
class Squares {
public:
    explicit Squares(const Keep& k) : weights(k.weights) {}
    void take(int sum, Vec now, Vec before, int64_t c) {
        const Vec d = now - before;
        sums[sum] = weighted ? fma(load(weights + c), d * d, sums[sum]) : fma(d, d, sums[sum]);
    }
    void take_last(Vec now, Vec before, int64_t c, int64_t n) {
        const Vec d = now - before;
        sums[1] += last_lanes(weighted ? load(weights + c) * (d * d) : d * d, n);
    }
    float total() const { return sum_lanes(sums[0] + sums[1]); }

private:
    const float* weights;
    Vec sums[2] = {};
};

// Writes the row into the value, and gives each vector of it to `change` with what is in `before`: the value's own row
// or the record's. Fresh numbers beyond the channels are not read.
template <class V, class B, class Change>
SACCADE_INLINE void write_row(const float* fresh, V* value, const B* before, int64_t channels, Change& change) {
    // The last vector ends with the row; what it has in common with the one ahead of it is counted there. It is read
    // before that one is written, as it would have to wait for it otherwise.
    const int64_t rest = channels % lanes, last = channels - lanes;
    Vec end = {};
    if (rest) {
        end = rounded<V>(load(fresh + last));
        change.take_last(end, load_as(before + last), last, rest);
    }
    int64_t c = 0;
    for (; c + 2 * lanes <= channels; c += 2 * lanes)
        for (int i = 0; i < 2; ++i) {
            const Vec now = rounded<V>(load(fresh + c + i * lanes));
            change.take(i, now, load_as(before + c + i * lanes), c + i * lanes);
            store_as(value + c + i * lanes, now);
        }
    if (c + lanes <= channels) {
        const Vec now = rounded<V>(load(fresh + c));
        change.take(0, now, load_as(before + c), c);
        store_as(value + c, now);
    }
    if (rest) store_as(value + last, end);
}

// Writes the row, as it is in a value of type V, to memory of type T.
template <class V, class T>
SACCADE_INLINE void copy_row(const float* fresh, T* to, int64_t channels) {
    const int64_t last = channels - lanes;
    for (int64_t c = 0; c <= last; c += lanes) {
        const Vec now = load(fresh + c);
        store_as(to + c, sizeof(V) == 4 ? rounded<T>(now) : rounded<V>(now));
    }
    if (channels % lanes) {
        const Vec now = load(fresh + last);
        store_as(to + last, sizeof(V) == 4 ? rounded<T>(now) : rounded<V>(now));
    }
}

// `write(position, fresh row)` writes the row and returns whether to announce it.
template <class Write>
SACCADE_INLINE int64_t one_by_one(const Fresh& f, uint8_t* announced, Write write) {
    int64_t total = 0;
    for (int64_t i = 0; i < f.count; ++i) {
        const int64_t p = f.positions[i];
        const bool told = write(p, f.rows + i * f.ld);
        announced[p] = uint8_t(announced[p] | uint8_t(told));
        total += told;
    }
    return total;
}

template <class V>
int64_t keep_all(const Keep& k, const Fresh& f) {
    const bool copies = k.first && k.form == Record::reference, sums = k.first && k.form == Record::accumulated;
    return one_by_one(f, k.announced, [k, copies, sums](int64_t p, const float* fresh) {
        copy_row<V>(fresh, row_of<V>(k.value, p), k.channels);
        if (copies && k.record.type == Type::f32) copy_row<V>(fresh, row_of<float>(k.record, p), k.channels);
        if (copies && k.record.type == Type::bf16) copy_row<V>(fresh, row_of<uint16_t>(k.record, p), k.channels);
        if (sums) static_cast<float*>(const_cast<void*>(k.record.data))[p] = 0.0f;
        return true;
    });
}

template <class V>
int64_t keep_exact(const Keep& k, const Fresh& f) {
    return one_by_one(f, k.announced, [k](int64_t p, const float* fresh) {
        V* value = row_of<V>(k.value, p);
        Bits change(k);
        write_row(fresh, value, value, k.channels, change);
        return change.any();
    });
}

template <class V, class R, bool weighted>
int64_t keep_reference(const Keep& k, const Fresh& f) {
    return one_by_one(f, k.announced, [k, gate = Gate(k)](int64_t p, const float* fresh) {
        R* record = row_of<R>(k.record, p);
        Squares<weighted> change(k);
        write_row(fresh, row_of<V>(k.value, p), record, k.channels, change);
        const bool told = gate.passes(change.total());
        if (told) copy_row<V>(fresh, record, k.channels);
        return told;
    });
}

template <class V, bool weighted>
int64_t keep_accumulated(const Keep& k, const Fresh& f) {
    float* moved = static_cast<float*>(const_cast<void*>(k.record.data));
    return one_by_one(f, k.announced, [k, gate = Gate(k), moved](int64_t p, const float* fresh) {
        V* value = row_of<V>(k.value, p);
        Squares<weighted> change(k);
        write_row(fresh, value, value, k.channels, change);
        return gate.passes(change.total(), moved + p);
    });
}

template <class V>
int64_t keep_wide(const Keep& k, const Fresh& f) {
    if (k.first || k.form == Record::none) return keep_all<V>(k, f);
    if (k.form == Record::exact) return keep_exact<V>(k, f);
    if (k.form == Record::accumulated)
        return k.weights ? keep_accumulated<V, true>(k, f) : keep_accumulated<V, false>(k, f);
    if (k.record.type == Type::f32)
        return k.weights ? keep_reference<V, float, true>(k, f) : keep_reference<V, float, false>(k, f);
    return k.weights ? keep_reference<V, uint16_t, true>(k, f) : keep_reference<V, uint16_t, false>(k, f);
}

// A block of rows of fewer channels than lanes: first all are read, then all are written. A vector read right after a
// part of it was written, as between neighbours in memory, would wait for that.
constexpr int64_t block = 32;

struct Places {
    const int32_t* positions;  // null: row i is the i-th
    int64_t count;
    bool together;  // nothing lies between the rows

    Places(const int32_t* list, int64_t n, bool dense)
        : positions(list), count(n), together(dense && (!list || list[n - 1] - list[0] == n - 1)) {}
    int64_t operator[](int64_t i) const { return positions ? positions[i] : i; }
};

#if defined(__AVX512F__)
constexpr size_t least_partial = 2;  // bytes per element from which a part of a vector can be read at once
#elif defined(__AVX2__)
constexpr size_t least_partial = 4;
#else
constexpr size_t least_partial = 8;
#endif

// Rows side by side in fp32. A vector of memory may be written beyond the last.
template <class T>
void gather(const T* data, int64_t stride, int64_t channels, const Places& at, float* out) {
    if (at.together) {
        const T* from = data + at[0] * stride;
        const int64_t n = at.count * channels;
        int64_t i = 0;
        for (; i + lanes <= n; i += lanes) store(out + i, load_as(from + i));
        for (; i < n; ++i) out[i] = number(from + i);
    } else {
        for (int64_t i = 0; i < at.count; ++i) {
            const T* from = data + at[i] * stride;
            if (sizeof(T) >= least_partial)
                store(out + i * channels, load_first(from, channels));
            else
                for (int64_t c = 0; c < channels; ++c) out[i * channels + c] = number(from + c);
        }
    }
}

template <class T>
SACCADE_INLINE void put_row(T* to, const float* row, int64_t channels) {
#if defined(__AVX512F__)
    const __mmask16 first = __mmask16((1u << channels) - 1u);
    const __m512 v = (__m512)rounded<T>(load(row));
    if (sizeof(T) == 4)
        _mm512_mask_storeu_ps(to, first, v);
    else
        _mm256_mask_storeu_epi16(to, first, _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(v), 16)));
#else
    for (int64_t c = 0; c < channels; ++c) set_number(to + c, row[c]);
#endif
}

template <class T>
void scatter(const float* rows, int64_t channels, const Places& at, T* data, int64_t stride) {
    if (at.together) {
        T* to = data + at[0] * stride;
        const int64_t n = at.count * channels;
        int64_t i = 0;
        for (; i + lanes <= n; i += lanes) store_as(to + i, rounded<T>(load(rows + i)));
        for (; i < n; ++i) set_number(to + i, rows[i]);
    } else {
        for (int64_t i = 0; i < at.count; ++i) put_row(data + at[i] * stride, rows + i * channels, channels);
    }
}

class Narrow {
public:
    explicit Narrow(const Keep& task) : k(task), gate(task), channels(task.channels) {}

    int64_t run(const int32_t* positions, int64_t count, const float* rows, int64_t ld) {
        const Places fresh(nullptr, count, ld == channels);
        gather(rows, ld, channels, fresh, now);
        if (k.value.type == Type::bf16) round();
        const Places in_value(positions, count, k.value.stride == channels);
        for (int64_t i = 0; i < count; ++i) told[i] = 1;
        if (!k.first) decide(in_value, positions, count);
        write(k.value, in_value);
        return announce(positions, count);
    }

private:
    void round() {
        for (int64_t i = 0; i < block * channels; i += lanes) store(now + i, round_to_bf16(load(now + i)));
    }

    void read(const Rows& rows, const Places& at) {
        if (rows.type == Type::f32)
            gather(static_cast<const float*>(rows.data), rows.stride, channels, at, before);
        else
            gather(static_cast<const uint16_t*>(rows.data), rows.stride, channels, at, before);
    }

    void write(const Rows& rows, const Places& at) {
        if (rows.type == Type::f32)
            scatter(now, channels, at, row_of<float>(rows, 0), rows.stride);
        else
            scatter(now, channels, at, row_of<uint16_t>(rows, 0), rows.stride);
    }

    void decide(const Places& in_value, const int32_t* positions, int64_t count) {
        const int64_t n = count * channels;
        if (k.form == Record::exact) {
            read(k.value, in_value);
            for (int64_t i = 0; i < n; i += lanes)
                store(before + i, from_ubits(ubits(load(now + i)) ^ ubits(load(before + i))));
            for (int64_t i = 0; i < count; ++i) {
                uint32_t differ = 0;
                for (int64_t c = 0; c < channels; ++c) {
                    uint32_t one;
                    memcpy(&one, before + i * channels + c, 4);
                    differ |= one;
                }
                told[i] = differ != 0;
            }
        } else if (k.form != Record::none) {
            const bool copies = k.form == Record::reference;
            read(copies ? k.record : k.value,
                 copies ? Places(positions, count, k.record.stride == channels) : in_value);
            for (int64_t i = 0; i < n; i += lanes) {
                const Vec d = load(now + i) - load(before + i);
                store(before + i, d * d);
            }
            float* moved = static_cast<float*>(const_cast<void*>(k.record.data));
            for (int64_t i = 0; i < count; ++i) {
                const float squares = sum(before + i * channels);
                told[i] = copies ? gate.passes(squares) : gate.passes(squares, moved + positions[i]);
            }
        }
    }

    float sum(const float* squares) const {
        float total = 0.0f;
        for (int64_t c = 0; c < channels; ++c) total += k.weights ? k.weights[c] * squares[c] : squares[c];
        return total;
    }

    int64_t announce(const int32_t* positions, int64_t count) {
        int64_t total = 0;
        for (int64_t i = 0; i < count; ++i) {
            const int64_t p = positions[i];
            k.announced[p] = uint8_t(k.announced[p] | told[i]);
            total += told[i];
            if (!told[i]) continue;
            const float* row = now + i * channels;
            if (k.form == Record::reference && k.record.type == Type::f32)
                put_row(row_of<float>(k.record, p), row, channels);
            else if (k.form == Record::reference)
                put_row(row_of<uint16_t>(k.record, p), row, channels);
            else if (k.form == Record::accumulated)
                static_cast<float*>(const_cast<void*>(k.record.data))[p] = 0.0f;
        }
        return total;
    }

    const Keep k;
    const Gate gate;
    const int64_t channels;
    uint8_t told[block];
    float now[(block + 1) * lanes] = {}, before[(block + 1) * lanes] = {};
};

}  // namespace

int64_t keep(const Keep& k, const int32_t* positions, int64_t count, const float* rows, int64_t ld) {
    if (k.channels >= lanes) {
        const Fresh fresh = {positions, count, rows, ld};
        return k.value.type == Type::f32 ? keep_wide<float>(k, fresh) : keep_wide<uint16_t>(k, fresh);
    }
    Narrow narrow(k);
    int64_t total = 0;
    for (int64_t at = 0; at < count; at += block)
        total += narrow.run(positions + at, count - at < block ? count - at : block, rows + at * ld, ld);
    return total;
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
