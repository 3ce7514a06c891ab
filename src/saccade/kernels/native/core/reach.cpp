#include "reach.h"

#include <algorithm>
#include <cstring>

namespace saccade {

namespace {

// The first bit of `at` to `end` that is set, or with `flip` all ones that is not; `end` where there is none.
int64_t find_bit(const uint64_t* words, int64_t at, int64_t end, uint64_t flip) {
    while (at < end) {
        const uint64_t rest = (words[at / 64] ^ flip) >> (at % 64);
        if (rest) return std::min(end, at + __builtin_ctzll(rest));
        at = (at / 64 + 1) * 64;
    }
    return end;
}

}  // namespace

Reach::Reach(const Axis& columns, int32_t count, int32_t source) : count_(count) {
    for (int32_t c = 0, from = 0, to = 0; c < source; ++c) {
        while (from < count && columns.end[from] <= c) ++from;
        while (to < count && columns.first[to] <= c) ++to;
        from_.push_back(from);
        to_.push_back(to);
    }
    int32_t widest = 0;
    for (int32_t x = 0; x < count; ++x) widest = std::max(widest, columns.end[x] - columns.first[x]);
    window_words_ = (3 * int64_t(widest) + 7 + 63) / 64;  // a window begins up to 7 bits into its first byte
    windows_.resize(size_t(count * window_words_));
    for (int32_t x = 0; x < count; ++x) {
        const int64_t from = 3 * int64_t(columns.first[x]), to = 3 * int64_t(columns.end[x]);
        window_at_.push_back(int32_t(from / 8));
        for (int64_t bit = from % 8; bit < from % 8 + to - from; ++bit)
            windows_[size_t(x * window_words_ + bit / 64)] |= uint64_t(1) << (bit % 64);
    }
}

Reach::Marked Reach::mark(const uint64_t* changed, uint8_t* mask) const {
    const int64_t bits = 3 * int64_t(from_.size());
    Marked marked = {0, count_, 0};
    // Run by run: cheap where things move. Noise has too many runs: then each column is asked.
    int32_t patience = count_ / 32 + 1;
    for (int64_t at = 0; marked.end < count_;) {
        const int64_t from = find_bit(changed, at, bits, 0);
        if (from == bits) break;
        at = find_bit(changed, from, bits, ~uint64_t(0));
        const int32_t begin = std::max(marked.end, from_[size_t(from / 3)]);
        const int32_t end = to_[size_t((at - 1) / 3)];
        if (begin >= end) continue;  // marked by the run before, or between the pixels that are read
        marked.begin = std::min(marked.begin, begin);
        if (patience-- > 0) {
            std::memset(mask + begin, 1, size_t(end - begin));
            marked.count += end - begin;
            marked.end = end;
        } else {
            marked.count += mark_each(changed, mask, begin);
            marked.end = count_;
        }
    }
    return marked;
}

int64_t Reach::mark_each(const uint64_t* changed, uint8_t* mask, int32_t begin) const {
    const char* bytes = reinterpret_cast<const char*>(changed);
    const int32_t* at = window_at_.data();
    const uint64_t* window = windows_.data() + begin * window_words_;
    const int64_t words = window_words_;
    const int32_t end = count_;
    int64_t count = 0;
    for (int32_t x = begin; x < end; ++x) {
        uint64_t any = 0;
        for (int64_t i = 0; i < words; ++i) {
            uint64_t bits;
            std::memcpy(&bits, bytes + at[x] + 8 * i, 8);
            any |= bits & *window++;
        }
        mask[x] = any != 0;
        count += any != 0;
    }
    return count;
}

}  // namespace saccade
