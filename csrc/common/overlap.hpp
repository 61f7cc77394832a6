#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/gradient_table.hpp"

namespace pyfront {

// Whether no block of the one row of `out` shares memory with another of them or with `in`.
inline bool are_apart(const GradientTable& in, const GradientTable& out) {
  using Range = std::pair<std::uintptr_t, std::uintptr_t>;  // begin and end
  const auto range = [](const GradientTable& table, std::int64_t task, std::int64_t block) {
    const auto begin = reinterpret_cast<std::uintptr_t>(table.at(task, block));
    const auto bytes = table.length(block) * size_of(table.dtype(block));
    return Range(begin, begin + static_cast<std::uintptr_t>(bytes));
  };
  std::vector<Range> written;
  for (std::int64_t block = 0; block < out.blocks; ++block) {
    if (out.at(0, block) != nullptr) written.push_back(range(out, 0, block));
  }
  std::ranges::sort(written);
  for (std::size_t k = 1; k < written.size(); ++k) {
    if (written[k].first < written[k - 1].second) return false;
  }
  for (std::int64_t task = 0; task < in.tasks; ++task) {
    for (std::int64_t block = 0; block < in.blocks; ++block) {
      if (in.at(task, block) == nullptr) continue;
      const auto [begin, end] = range(in, task, block);
      const auto next = std::ranges::upper_bound(written, begin, {}, &Range::second);
      if (next != written.end() && next->first < end) return false;
    }
  }
  return true;
}

}  // namespace pyfront
