// Fresh rows go into their value, and what to announce is decided: one pass over each row.
#include "gate.h"
#include "narrow_rows.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

namespace {

struct Fresh {
    const int32_t* positions;
    int64_t count;
    const float* rows;
    int64_t ld;
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

// Bits, and what changed along the way.
template <class V, bool rows, bool norms>
class Changes {
public:
    Changes(const Keep& k, int64_t position)
        : bits(k), r(rows ? static_cast<V*>(k.change.rows) + position * k.channels : nullptr) {}
    void take(int, Vec now, Vec before, int64_t c) {
        bits.take(0, now, before, c);
        const Vec d = rounded<V>(now - before);
        if (rows) store_as(r + c, d);
        if (norms) sum += absolute(d);
    }
    void take_last(Vec now, Vec before, int64_t c, int64_t n) {
        bits.take_last(now, before, c, n);
        const Vec d = rounded<V>(now - before);
        if (rows) store_as(r + c, d);
        if (norms) sum += last_lanes(absolute(d), n);
    }
    bool any() const { return bits.any(); }
    float norm() const { return sum_lanes(sum); }

private:
    Bits bits;
    V* r;
    Vec sum = {};
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

template <class V, bool rows, bool norms>
int64_t keep_changes(const Keep& k, const Fresh& f) {
    return one_by_one(f, k.announced, [k](int64_t p, const float* fresh) {
        V* value = row_of<V>(k.value, p);
        Changes<V, rows, norms> change(k, p);
        write_row(fresh, value, value, k.channels, change);
        const bool told = change.any();
        // What is not announced has no change, not even inf - inf.
        if (norms) k.change.norms[p] = told ? change.norm() : 0.0f;
        if (rows && !told) memset(static_cast<V*>(k.change.rows) + p * k.channels, 0, size_t(k.channels) * sizeof(V));
        return told;
    });
}

// As `write_row`, of a row that something becomes of first. What is the same for all rows is asked for every vector:
// that costs less than a copy of this for each case.
template <class V, class Change>
SACCADE_INLINE void write_sum(const float* fresh, const Summing& s, float* sum, const V* other, V* value,
                              int64_t channels, Change& change) {
    const Vec floor = splat(s.floor);
    const auto total_at = [&](int64_t c) __attribute__((always_inline)) {
        return s.adds ? load(fresh + c) + load(sum + c) : load(fresh + c);
    };
    const auto pass = [&](Vec total, int64_t c) __attribute__((always_inline)) {
        return rounded<V>(larger(floor, other ? total + load_as(other + c) : total));
    };
    const int64_t rest = channels % lanes, last = channels - lanes;
    Vec end = {}, end_total = {};
    if (rest) {
        end_total = total_at(last);
        end = pass(end_total, last);
        change.take_last(end, load_as(value + last), last, rest);
    }
    for (int64_t c = 0; c + lanes <= channels; c += lanes) {
        const Vec total = total_at(c);
        const Vec now = pass(total, c);
        change.take(0, now, load_as(value + c), c);
        if (sum) store(sum + c, total);
        store_as(value + c, now);
    }
    if (rest) {
        if (sum) store(sum + last, end_total);
        store_as(value + last, end);
    }
}

// Asks for a row some rows ahead of its turn: most were last touched a frame ago.
SACCADE_INLINE void fetch_row(const void* row, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(static_cast<const char*>(row) + at, 1);
}

template <class V, bool rows, bool norms>
int64_t keep_sum(const Keep& k, const Fresh& f) {
    const Summing& s = k.summing;
    constexpr int64_t ahead = 8;
    int64_t next = ahead;
    return one_by_one(f, k.announced, [&](int64_t p, const float* fresh) {
        if (next < f.count) {
            const int64_t then = f.positions[next++];
            fetch_row(row_of<V>(k.value, then), k.channels * int64_t(sizeof(V)));
            if (s.sum) fetch_row(s.sum + then * k.channels, k.channels * 4);
            if (s.plus.data) fetch_row(row_of<V>(s.plus, then), k.channels * int64_t(sizeof(V)));
        }
        Changes<V, rows, norms> change(k, p);
        float* sum = s.sum ? s.sum + p * k.channels : nullptr;
        const V* other = s.plus.data ? row_of<V>(s.plus, p) : nullptr;
        write_sum(fresh, s, sum, other, row_of<V>(k.value, p), k.channels, change);
        const bool told = change.any();
        if (norms) k.change.norms[p] = told ? change.norm() : 0.0f;
        if (rows && !told) memset(static_cast<V*>(k.change.rows) + p * k.channels, 0, size_t(k.channels) * sizeof(V));
        return told;
    });
}

template <class V>
int64_t keep_sums(const Keep& k, const Fresh& f) {
    if (k.change.rows && k.change.norms) return keep_sum<V, true, true>(k, f);
    if (k.change.rows) return keep_sum<V, true, false>(k, f);
    if (k.change.norms) return keep_sum<V, false, true>(k, f);
    return keep_sum<V, false, false>(k, f);
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
    if (k.form == Record::exact) {
        if (k.summing.given) return keep_sums<V>(k, f);
        if (k.change.rows && k.change.norms) return keep_changes<V, true, true>(k, f);
        if (k.change.rows) return keep_changes<V, true, false>(k, f);
        if (k.change.norms) return keep_changes<V, false, true>(k, f);
        return keep_exact<V>(k, f);
    }
    if (k.form == Record::accumulated)
        return k.weights ? keep_accumulated<V, true>(k, f) : keep_accumulated<V, false>(k, f);
    if (k.record.type == Type::f32)
        return k.weights ? keep_reference<V, float, true>(k, f) : keep_reference<V, float, false>(k, f);
    return k.weights ? keep_reference<V, uint16_t, true>(k, f) : keep_reference<V, uint16_t, false>(k, f);
}

}  // namespace

int64_t keep(const Keep& k, const int32_t* positions, int64_t count, const float* rows, int64_t ld) {
    if (k.channels >= lanes) {
        const Fresh fresh = {positions, count, rows, ld};
        return k.value.type == Type::f32 ? keep_wide<float>(k, fresh) : keep_wide<uint16_t>(k, fresh);
    }
    NarrowRows narrow(k);
    int64_t total = 0;
    for (int64_t at = 0; at < count; at += narrow_block)
        total += narrow.run(positions + at, count - at < narrow_block ? count - at : narrow_block, rows + at * ld, ld);
    return total;
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
