#pragma once

#include <pybind11/pybind11.h>

namespace pyfront {

// Adds to the module what computes on a CUDA device, or why nothing does.
void add_device(pybind11::module_& m);

}  // namespace pyfront
