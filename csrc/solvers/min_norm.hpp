#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "solvers/nearest_point.hpp"

namespace pyfront {

// minimise ½ wᵀCw + cᵀw over the simplex on the CPU; the loop is in nearest_point.hpp. Holds the
// workspace for m tasks: solving allocates nothing.
class MinNormSolver {
 public:
  explicit MinNormSolver(std::int64_t tasks);
  MinNormSolver(const MinNormSolver&) = delete;  // the solver points into the memory
  MinNormSolver& operator=(const MinNormSolver&) = delete;

  // `linear` is c, empty for c = 0. `weights` receives w; with `warm_start` it also holds the
  // starting point (any point of the simplex; std::invalid_argument if no weight is positive). NaN
  // or infinity in C or c: status `nonfinite`, NaN weights.
  MinNormResult solve(std::span<const double> gramian, std::span<const double> linear,
                      std::span<double> weights, const MinNormSettings& settings = {},
                      bool warm_start = false);

 private:
  std::vector<double> memory_;
  std::vector<std::int64_t> vertices_;
  NearestPoint<SerialTeam> solver_;
};

}  // namespace pyfront
