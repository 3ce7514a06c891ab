// Keeping rows of fewer channels than a vector has lanes: a block of positions at a time, side by side. All of a block
// is read before any of it is written, as a vector read where a part of it was just written waits for that.
#pragma once
#include "gate.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

constexpr int64_t narrow_block = 32;

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
SACCADE_INLINE void gather(const T* data, int64_t stride, int64_t channels, const Places& at, float* out) {
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
SACCADE_INLINE void scatter(const float* rows, int64_t channels, const Places& at, T* data, int64_t stride) {
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

class NarrowRows {
public:
    explicit NarrowRows(const Keep& task) : k(task), gate(task), channels(task.channels) {}

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
        for (int64_t i = 0; i < narrow_block * channels; i += lanes) store(now + i, round_to_bf16(load(now + i)));
    }

    float* sums() const { return static_cast<float*>(const_cast<void*>(k.record.data)); }

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
            for (int64_t i = 0; i < count; ++i) {
                const float squares = sum(before + i * channels);
                told[i] = copies ? gate.passes(squares) : gate.passes(squares, sums() + positions[i]);
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
                sums()[p] = 0.0f;
        }
        return total;
    }

    const Keep& k;
    const Gate gate;
    const int64_t channels;
    uint8_t told[narrow_block];
    float now[(narrow_block + 1) * lanes] = {}, before[(narrow_block + 1) * lanes] = {};
};

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
