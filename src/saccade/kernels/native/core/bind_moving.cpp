// Rows that move with the picture, in place.
#include <nanobind/stl/array.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "bindings.h"

namespace nb = nanobind;

namespace saccade {

namespace {

struct Map {
    int64_t size[2];    // lines, rows of a line
    int64_t stride[2];  // bytes from line to line, from row to row
    int64_t bytes;      // of a row
};

// What was at p + by is at p afterwards; where nothing comes from, what was there stays. Lines, and rows within a line,
// are taken in the order in which none is overwritten before it was read.
void move_map(char* data, const Map& map, int64_t down, int64_t right) {
    const int64_t first = std::max<int64_t>(0, -right), end = std::min(map.size[1], map.size[1] - right);
    if (first >= end) return;
    const int64_t lines = map.size[0] - std::abs(down);
    for (int64_t i = 0; i < lines; ++i) {
        const int64_t y = down >= 0 ? i : map.size[0] - 1 - i;
        char* to = data + y * map.stride[0];
        const char* from = to + down * map.stride[0] + right * map.stride[1];
        if (map.stride[1] == map.bytes) {
            std::memmove(to + first * map.bytes, from + first * map.bytes, size_t((end - first) * map.bytes));
            continue;
        }
        for (int64_t j = first; j < end; ++j) {
            const int64_t x = right >= 0 ? j : first + end - 1 - j;
            std::memcpy(to + x * map.stride[1], from + x * map.stride[1], size_t(map.bytes));
        }
    }
}

}  // namespace

void bind_moving(nb::module_& m) {
    using Pair = std::array<int64_t, 2>;
    m.def(
        "move_rows",
        [](const std::vector<uintptr_t>& planes, Pair size, Pair stride, int64_t bytes, Pair by) {
            const Map map{{size[0], size[1]}, {stride[0], stride[1]}, bytes};
            for (uintptr_t plane : planes) move_map(reinterpret_cast<char*>(plane), map, by[0], by[1]);
        },
        nb::arg("planes"), nb::kw_only(), nb::arg("size"), nb::arg("stride"), nb::arg("bytes"), nb::arg("by"),
        nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace saccade
