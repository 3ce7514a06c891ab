// The Python module: what it offers, one function per file that binds.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "instruction_sets.h"

NB_MODULE(_native, m) {
    m.def("built_isas", &saccade::built_isas);
    m.def("machine_isas", &saccade::machine_isas);
    saccade::bind_rows(m);
    saccade::bind_windows(m);
    saccade::bind_convolution(m);
    saccade::bind_program(m);
    saccade::bind_picture(m);
    saccade::bind_moving(m);
}
