#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "corral.hpp"
#include "status.hpp"

namespace pyfront {

struct MinNormSettings {
  double relative_gap = 1e-12;      // stop at gap ≤ relative_gap · wᵀCw + rounding floor
  std::int64_t max_iterations = 0;  // 0: a cap that grows with m and is never met by a sound input
};

struct MinNormResult {
  Status status = Status::ok;
  double gap = 0.0;  // wᵀ(Cw + c) − min_j (Cw + c)_j ≥ 0: zero exactly at the optimum
  std::int64_t iterations = 0;
};

// minimise ½ wᵀCw + cᵀw over the simplex {w ≥ 0, Σw = 1}, C [m × m] symmetric positive
// semidefinite. Holds the workspace for m tasks: solving allocates nothing.
class MinNormSolver {
 public:
  explicit MinNormSolver(std::int64_t tasks);

  // `linear` is c, empty for c = 0. `weights` receives w; with `warm_start` it also holds the
  // starting point (any point of the simplex; std::invalid_argument if no weight is positive). NaN
  // or infinity in C or c: status `nonfinite`, NaN weights.
  MinNormResult solve(std::span<const double> gramian, std::span<const double> linear,
                      std::span<double> weights, const MinNormSettings& settings = {},
                      bool warm_start = false);

 private:
  // How far w is from the optimum, and how far rounding lets anyone see.
  struct Certificate {
    double gap = 0.0;      // Σ_i w_i (s_i − min_j s_j), s = Cw + c
    double allowed = 0.0;  // the stop rule's right-hand side
    double noise = 0.0;    // rounding of s where it is not compensated
    double norm = 0.0;     // S = Σ_i w_i √C_ii
    double level = 0.0;    // λ = wᵀs
    double linear = 0.0;   // Σ_i w_i |c_i|
  };

  double load(std::span<const double> gramian, std::span<const double> linear);
  double pair_weight() const;
  void start(std::span<const double> weights, bool warm_start);
  void start_from(std::span<const double> weights);
  void slopes();
  void exact_slopes();
  Certificate certify(double relative_gap) const;
  bool grow(const Certificate& certificate, bool compensated);
  bool correct(double slack);
  MinNormResult iterate(const MinNormSettings& settings);

  std::size_t tasks_;
  std::size_t stride_;           // tasks_ rounded up to whole blocks: padding is zero
  std::vector<double> gramian_;  // C, scaled, by columns
  std::vector<double> linear_;   // c, scaled
  std::vector<double> norms_;    // √C_ii
  std::vector<double> slopes_;   // Cw + c
  std::vector<double> targets_;
  std::vector<double> direction_;
  double largest_norm_ = 0.0;
  Corral corral_;
};

}  // namespace pyfront
