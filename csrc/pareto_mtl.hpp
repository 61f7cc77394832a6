#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "min_norm.hpp"
#include "status.hpp"

namespace pyfront {

struct ParetoMtlSettings {
  Phase phase = Phase::descent;  // feasibility, descent or convergence
  double epsilon = 0.0;          // descent: a constraint is active from G_j ≥ −ε
};

struct ParetoMtlResult {
  Status status = Status::ok;
  double gap = 0.0;  // of the min-norm problem that was solved
};

// Weights of subproblem k of K reference vectors u: constraints G_j = (u_j − u_k)ᵀ l / ‖l‖₂ ≤ 0 for
// j ≠ k, whose gradients are combinations of the task gradients, so that every inner product that
// is needed is one of M C Mᵀ with M = A (feasibility) or [I; A] (descent), A the rows u_j − u_k of
// the active constraints.
class ParetoMtlSolver {
 public:
  ParetoMtlSolver(std::int64_t tasks, std::int64_t vectors);

  // losses [m], gramian C [m × m], reference_vectors U [K × m] of unit 2-norm, index k < K.
  ParetoMtlResult solve(std::span<const double> losses, std::span<const double> gramian,
                        std::span<const double> reference_vectors, std::int64_t index,
                        std::span<double> weights, const ParetoMtlSettings& settings);

 private:
  // Fills rows_ with M and returns the number of its rows.
  std::int64_t collect_rows(std::span<const double> losses, std::span<const double> vectors,
                            std::int64_t index, const ParetoMtlSettings& settings);

  std::int64_t tasks_;
  std::int64_t vectors_;
  std::vector<double> rows_;     // M, [p × m]
  std::vector<double> product_;  // M C, [p × m]
  std::vector<double> inner_;    // M C Mᵀ, [p × p]
  std::vector<double> dual_;     // (λ, β), [p]
};

}  // namespace pyfront
