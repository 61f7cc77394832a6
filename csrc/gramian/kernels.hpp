#pragma once

#include <cstdint>

#include "common/gradient_table.hpp"

namespace pyfront {

// Shape of the work that every instruction set shares, so that all sum in one order.
inline constexpr std::int64_t panel_width =
    1024;  // elements of each task that are widened together
inline constexpr std::int64_t panel_stride = panel_width + 8;  // odd in cache lines: no aliasing
inline constexpr std::int64_t sum_lanes = 8;                   // partial sums of one entry of C
inline constexpr std::int64_t row_tile = 4;  // tasks whose products share registers

// Place of C_ij, j ≤ i, in a lower triangle stored row after row. Static: no two instruction sets
// may share one copy.
static constexpr std::int64_t pair_index(std::int64_t i, std::int64_t j) {
  return i * (i + 1) / 2 + j;
}

enum class BFloat16 : std::uint16_t {};  // bit patterns
enum class Float16 : std::uint16_t {};

// The loops over elements, compiled once for each instruction set. `rows` holds one address a task.
struct GramianKernels {
  const char* name;
  // Widens `count` elements to float64.
  void (*widen)(const void* source, DType dtype, std::int64_t count, double* out);
  // sums[pair_index(i, j)][k mod sum_lanes] += x_ik x_jk for k < count ≤ panel_width, a multiple of
  // sum_lanes. `wide` [tasks × panel_stride] is room for the widened rows; memory up to `ahead`
  // bytes behind the rows is prefetched.
  void (*add_products)(const void* const* rows, DType dtype, std::int64_t tasks, std::int64_t count,
                       std::int64_t ahead, double* wide, double* sums);
  // out_k = Σ_j w_j x_jk in float64, in the order of j, rounded once; `streaming` writes past the
  // caches.
  void (*weighted_sum)(const void* const* rows, DType dtype, const double* weights,
                       std::int64_t tasks, std::int64_t count, void* out, bool streaming);
  // Whether none of `count` elements is NaN or infinite.
  bool (*finite)(const void* source, DType dtype, std::int64_t count);
};

#if defined(__x86_64__)
extern const GramianKernels gramian_kernels_avx512;
extern const GramianKernels gramian_kernels_avx2;
#endif
extern const GramianKernels gramian_kernels_baseline;

}  // namespace pyfront
