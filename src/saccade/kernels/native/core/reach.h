// Which output columns of a picture read which bytes of a source row.
#pragma once
#include <cstdint>
#include <vector>

#include "../kernels.h"

namespace saccade {

// The bytes of a vector, for what a picture says it keeps.
template <class T>
int64_t bytes_of(const std::vector<T>& v) {
    return int64_t(v.capacity() * sizeof(T));
}

class Reach {
public:
    struct Marked {
        int64_t count;
        int32_t begin, end;  // the first and one after the last
    };

    Reach() = default;
    // From `count` columns of a table to a source of `source` pixels of 3 bytes.
    Reach(const Axis& columns, int32_t count, int32_t source);

    // changed: a bit per byte of the source row, spare_words() more words, and at least one bit set or none marked.
    // Sets mask[x] to 1 where a byte that column x reads has its bit set; mask is 0 before.
    Marked mark(const uint64_t* changed, uint8_t* mask) const;

    int64_t spare_words() const { return window_words_; }
    int64_t nbytes() const { return bytes_of(from_) + bytes_of(to_) + bytes_of(windows_) + bytes_of(window_at_); }

private:
    int64_t mark_each(const uint64_t* changed, uint8_t* mask, int32_t begin) const;

    int32_t count_ = 0;
    // By source column c: the columns that read c or one after it begin at from_[c], those that read c or one before it
    // end at to_[c].
    std::vector<int32_t> from_, to_;
    // By output column: the bits it reads, in window_words_ words from byte window_at_ of a row's bits on.
    std::vector<uint64_t> windows_;
    std::vector<int32_t> window_at_;
    int64_t window_words_ = 0;
};

}  // namespace saccade
