#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

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

}  // namespace pyfront
