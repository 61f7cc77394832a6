#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "common/gradient_table.hpp"

namespace pyfront {

// Instruction sets that this processor can run, the fastest first: `simd` below counts in them.
std::vector<std::string_view> simd_levels();

// C = J Jᵀ, [m × m] row-major. Each product is exact in float64 (float32 and narrower inputs) and
// the sums run in an order that depends on the lengths alone, never on `threads`: two calls give
// the same bits, for float32 and narrower on any instruction set. NaN and infinity in a gradient
// reach its row of C: its diagonal always, the rest where both tasks have a block there. A
// panel costs the pairs of the tasks that have it, so that heads of one task each cost little.
void gramian(const GradientTable& jacobian, std::span<double> c, int threads, std::size_t simd = 0);

// d = Jᵀ w into `direction`, a table of one task with the jacobian's blocks: Σ_j w_j g_j in
// float64, rounded once. A null block of `direction` is left out; a null gradient counts as zero;
// no weight is skipped, so that 0 · ∞ stays visible as NaN.
void combine(const GradientTable& jacobian, std::span<const double> weights,
             const GradientTable& direction, int threads, std::size_t simd = 0);

// Whether no gradient holds NaN or infinity. Nothing is squared, so that nothing can overflow.
bool all_finite(const GradientTable& table, int threads, std::size_t simd = 0);

}  // namespace pyfront
