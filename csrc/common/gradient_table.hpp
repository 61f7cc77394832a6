#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace pyfront {

enum class DType : std::uint8_t { float32, float64, bfloat16, float16 };

constexpr std::int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::float64:
      return 8;
    case DType::float32:
      return 4;
    case DType::bfloat16:
    case DType::float16:
      return 2;
  }
  return 0;
}

// Non-owning view of the Jacobian: m tasks × T blocks, one block a parameter. Element k of block b
// is the same parameter element in every task, and every block is dense, so that a block is a
// pointer and a length. A null pointer is a block of zeros. All memory is on one device.
struct GradientTable {
  std::int64_t tasks = 0;
  std::int64_t blocks = 0;
  std::span<void* const> pointers;        // [tasks × blocks], row-major
  std::span<const std::int64_t> lengths;  // [blocks], elements
  std::span<const DType> dtypes;          // [blocks]
  int device = cpu;                       // or the number of a CUDA device

  static constexpr int cpu = -1;

  void* at(std::int64_t task, std::int64_t block) const {
    return pointers[static_cast<std::size_t>(task * blocks + block)];
  }
  std::int64_t length(std::int64_t block) const { return lengths[static_cast<std::size_t>(block)]; }
  DType dtype(std::int64_t block) const { return dtypes[static_cast<std::size_t>(block)]; }
};

// d is one row whose blocks are laid out as those of the gradients.
inline void check_direction(const GradientTable& in, const GradientTable& out) {
  if (out.tasks != 1 || out.blocks != in.blocks) {
    throw std::invalid_argument("direction: expected one row of " + std::to_string(in.blocks) +
                                " blocks");
  }
  for (std::int64_t block = 0; block < in.blocks; ++block) {
    if (out.at(0, block) == nullptr) continue;
    bool present = false;
    for (std::int64_t task = 0; task < in.tasks; ++task) present |= in.at(task, block) != nullptr;
    if (present && (out.length(block) != in.length(block) || out.dtype(block) != in.dtype(block))) {
      throw std::invalid_argument("direction[" + std::to_string(block) +
                                  "]: its size or dtype differs from the gradients'");
    }
  }
}

}  // namespace pyfront
