#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <utility>

#include "bindings.h"
#include "instruction_sets.h"
#include "picture.h"

namespace nb = nanobind;

namespace saccade {

void bind_picture(nb::module_& m) {
    using Pair = std::array<int32_t, 2>;
    nb::class_<AxisTable>(m, "AxisTable")
        .def(
            "__init__",
            [](AxisTable* self, int32_t taps, std::vector<int32_t> start, std::vector<int32_t> first,
               std::vector<int32_t> end, std::vector<float> weights) {
                new (self) AxisTable{taps, std::move(start), std::move(first), std::move(end), std::move(weights)};
            },
            nb::arg("taps"), nb::arg("start"), nb::arg("first"), nb::arg("end"), nb::arg("weights"));
    nb::class_<Picture>(m, "Picture")
        .def(
            "__init__",
            [](Picture* self, const std::string& isa, Pair source, Pair size, Pair corner, const AxisTable& rows,
               const AxisTable& columns, int32_t order, bool clip, std::array<float, 3> luma, float scale,
               std::vector<float> mean, std::vector<float> deviation, uintptr_t out, uintptr_t mask) {
                PictureSettings settings{
                    {source[0], source[1]}, {size[0], size[1]}, {corner[0], corner[1]}, {rows, columns},
                    Order(order), clip, {luma[0], luma[1], luma[2]}, scale, std::move(mean), std::move(deviation)};
                new (self) Picture(find_kernels(isa), std::move(settings), reinterpret_cast<float*>(out),
                                   reinterpret_cast<uint8_t*>(mask));
            },
            nb::arg("isa"), nb::kw_only(), nb::arg("source"), nb::arg("size"), nb::arg("corner"), nb::arg("rows"),
            nb::arg("columns"), nb::arg("order"), nb::arg("clip"), nb::arg("luma"), nb::arg("scale"), nb::arg("mean"),
            nb::arg("deviation"), nb::arg("out"), nb::arg("mask"))
        .def(
            "update",
            [](Picture& self, uintptr_t frame, int64_t stride) {
                return self.update(reinterpret_cast<const uint8_t*>(frame), stride);
            },
            nb::arg("frame"), nb::arg("stride"), nb::call_guard<nb::gil_scoped_release>())
        .def("reset", &Picture::reset)
        .def_prop_ro("nbytes", &Picture::nbytes);
}

}  // namespace saccade
