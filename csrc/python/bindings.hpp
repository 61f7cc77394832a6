#pragma once

// What the two files of bindings share.

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "python/tensor_table.hpp"

namespace pyfront {

// What computes on a CUDA device.
void add_device(pybind11::module_& m);

// d is one row whose blocks are laid out as those of the gradients.
inline void check_direction(const GradientTable& in, const GradientTable& out) {
  if (out.tasks != 1 || out.blocks != in.blocks) {
    throw pybind11::value_error("direction: expected one row of " + std::to_string(in.blocks) +
                                " blocks");
  }
  for (std::int64_t block = 0; block < in.blocks; ++block) {
    if (out.at(0, block) == nullptr) continue;
    bool present = false;
    for (std::int64_t task = 0; task < in.tasks; ++task) present |= in.at(task, block) != nullptr;
    if (present && (out.length(block) != in.length(block) || out.dtype(block) != in.dtype(block))) {
      throw pybind11::value_error("direction[" + std::to_string(block) +
                                  "]: its size or dtype differs from the gradients'");
    }
  }
}

}  // namespace pyfront
