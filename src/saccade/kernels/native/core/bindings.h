// What each file adds to the Python module. Pointers are passed as integers (tensor.data_ptr()): Python checks shapes,
// types and contiguity before it calls.
#pragma once
#include <nanobind/nanobind.h>

namespace saccade {

void bind_rows(nanobind::module_&);         // apply, keep, load
void bind_windows(nanobind::module_&);      // pool, interpolate, reduce, normalise, masks
void bind_convolution(nanobind::module_&);  // pack, convolve
void bind_program(nanobind::module_&);      // whole plans
void bind_picture(nanobind::module_&);      // a frame as the network's input
void bind_moving(nanobind::module_&);       // rows that move with the picture

}  // namespace saccade
