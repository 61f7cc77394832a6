#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "common/gradient_table.hpp"

namespace pyfront {

// A dense tensor's address, element type and layout, valid while the tensor lives.
struct TensorView {
  void* data = nullptr;
  std::optional<DType> dtype;                      // empty: no gradient type of ours
  std::optional<int> device = GradientTable::cpu;  // empty: a kind of device that is not supported
  std::span<const std::int64_t> shape;
  std::span<const std::int64_t> strides;
};

inline std::int64_t element_count(std::span<const std::int64_t> shape) {
  std::int64_t count = 1;
  for (const auto extent : shape) count *= extent;
  return count;
}

// True if the elements fill one run of memory, each exactly once, in any order of the axes.
inline bool is_dense(const TensorView& view) {
  const auto rank = view.shape.size();
  std::int64_t expected = 1;
  auto axis = rank;
  while (axis > 0 && (view.shape[axis - 1] == 1 || view.strides[axis - 1] == expected)) {
    expected *= view.shape[axis - 1];
    --axis;
  }
  if (axis == 0) return true;  // C-contiguous
  std::vector<std::pair<std::int64_t, std::int64_t>> axes;
  for (std::size_t i = 0; i < rank; ++i) {
    if (view.shape[i] != 1) axes.emplace_back(view.strides[i], view.shape[i]);
  }
  std::sort(axes.begin(), axes.end());
  expected = 1;
  for (const auto& [stride, extent] : axes) {
    if (stride != expected) return false;
    expected *= extent;
  }
  return true;
}

// True if equal offsets in memory mean equal elements (strides of axes of extent 1 do not matter).
inline bool same_layout(const TensorView& a, const TensorView& b) {
  for (std::size_t i = 0; i < a.shape.size(); ++i) {
    if (a.shape[i] > 1 && a.strides[i] != b.strides[i]) return false;
  }
  return true;
}

// Whether both hold one block in one layout; false where either has no memory.
inline bool same_block(const TensorView& a, const TensorView& b) {
  return a.data != nullptr && b.data != nullptr && a.dtype == b.dtype &&
         std::ranges::equal(a.shape, b.shape) && same_layout(a, b);
}

}  // namespace pyfront
