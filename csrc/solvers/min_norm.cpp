#include "solvers/min_norm.hpp"

#include <cmath>
#include <cstddef>
#include <stdexcept>

namespace pyfront {
namespace {

// Throws unless some weight is positive and the positive ones have a finite sum.
void check_start(std::span<const double> weights) {
  double sum = 0.0;
  for (const double weight : weights) sum += weight > 0.0 ? weight : 0.0;
  if (!(sum > 0.0) || !std::isfinite(sum)) {
    throw std::invalid_argument("start: expected a point of the simplex");
  }
}

}  // namespace

MinNormSolver::MinNormSolver(std::int64_t tasks)
    : memory_(static_cast<std::size_t>(NearestPoint<SerialTeam>::memory(tasks))),
      vertices_(static_cast<std::size_t>(tasks)),
      solver_(SerialTeam{}, tasks, memory_.data(), vertices_.data()) {}

MinNormResult MinNormSolver::solve(std::span<const double> gramian, std::span<const double> linear,
                                   std::span<double> weights, const MinNormSettings& settings,
                                   bool warm_start) {
  if (warm_start) check_start(weights);
  return solver_.solve(gramian.data(), linear.empty() ? nullptr : linear.data(), weights.data(),
                       settings, warm_start);
}

}  // namespace pyfront
