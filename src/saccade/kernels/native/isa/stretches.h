// Lists of positions as stretches of one row of the map, and which taps of a window fall inside the input.
#pragma once
#include "../kernels.h"
#include "../simd.h"

namespace saccade {
namespace SACCADE_ISA_NAMESPACE {

// Positions list[start ...] are `count` consecutive positions of one row; the first lies at (n, at).
struct Stretch {
    int64_t start, count;
    int32_t n, at[3];
    bool new_row;  // not the row of the stretch before
};

class Stretches {
public:
    Stretches(const int32_t* map_sizes, const int32_t* list, int64_t count)
        : sizes(map_sizes), positions(list), left(count), s{0, 0, 0, {0, 0, -1}, true} {}

    bool next() {
        s.start += s.count;
        if (left == 0) return false;
        const int32_t position = positions[s.start];
        move_to(position);
        const int64_t room = sizes[2] - s.at[2] < left ? sizes[2] - s.at[2] : left;
        int64_t n = 1;
        while (n < room && positions[s.start + n] - position == n) ++n;
        s.count = n;
        left -= n;
        return true;
    }

    const Stretch& operator*() const { return s; }
    const Stretch* operator->() const { return &s; }

private:
    // Positions ascend, so most lie in the row of the one before or in the next: no division there.
    void move_to(int32_t position) {
        int32_t x = s.at[2] + (position - last);
        s.new_row = last < 0 || position < last || x >= sizes[2];
        if (position < last) {
            s.n = s.at[0] = s.at[1] = 0;
            x = position;
        }
        last = position;
        if (x >= sizes[2]) {
            carry(x, s.at[1], sizes[2]);
            if (s.at[1] >= sizes[1]) {
                carry(s.at[1], s.at[0], sizes[1]);
                if (s.at[0] >= sizes[0]) carry(s.at[0], s.n, sizes[0]);
            }
        }
        s.at[2] = x;
    }

    SACCADE_INLINE void carry(int32_t& at, int32_t& above, int32_t size) {
        const int32_t over = at < 2 * size ? 1 : at / size;
        at -= over * size;
        above += over;
    }

    const int32_t* sizes;
    const int32_t* positions;
    int64_t left;
    int32_t last = -1;
    Stretch s;
};

// Taps [from, to) of a window that starts at `first` along an axis fall inside the input; none where from == to.
struct Reach {
    int32_t first, from, to;
};

SACCADE_INLINE Reach reach(const Window& w, int axis, int32_t out) {
    const int32_t step = w.dilation[axis], size = w.in[axis];
    Reach r = {out * w.stride[axis] - w.pad[axis], 0, w.kernel[axis]};
    if (r.first < 0) r.from = step == 1 ? -r.first : (step - 1 - r.first) / step;
    if (r.first + (r.to - 1) * step >= size) {
        const int32_t room = size - r.first;
        r.to = room <= 0 ? 0 : step == 1 ? room : (room + step - 1) / step;
    }
    if (r.from > r.to) r.from = r.to;
    return r;
}

// Outputs [from, to) along an axis read no padding.
struct Inside {
    int32_t from, to;
};

SACCADE_INLINE Inside inside(const Window& w, int axis) {
    const int32_t last = w.in[axis] - 1 + w.pad[axis] - (w.kernel[axis] - 1) * w.dilation[axis];
    Inside i = {(w.pad[axis] + w.stride[axis] - 1) / w.stride[axis], last < 0 ? 0 : last / w.stride[axis] + 1};
    if (i.to > w.out[axis]) i.to = w.out[axis];
    if (i.from > i.to) i.from = i.to;
    return i;
}

SACCADE_INLINE int64_t in_row(const Window& w, int64_t n, int64_t d, int64_t h, int64_t x) {
    return ((n * w.in[0] + d) * w.in[1] + h) * w.in[2] + x;
}

}  // namespace SACCADE_ISA_NAMESPACE
}  // namespace saccade
