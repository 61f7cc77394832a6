#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/status.hpp"

namespace pyfront {

struct DualConeResult {
  Status status = Status::ok;
  double gap =
      0.0;  // Σ_j λ̂_j |s_j| + Σ_j v̂_j max_j(−s_j, 0) of unit gradients; zero at the optimum
};

// Projects d = Jᵀu onto the dual cone {d : Jd ≥ 0} of the task gradients, known by C = J Jᵀ alone:
// the projection is Jᵀv with v = argmin ½ vᵀCv subject to v ≥ u. With λ = v − u this is a
// nonnegative least-squares problem, solved by the active-set method of Lawson and Hanson on unit
// gradients, so that the length of no gradient matters. Gradients may depend on each other: what is
// minimised is ½ vᵀĈv + ½ ε‖λ̂‖² with ε at the rounding of Ĉ, so that, for a Ĉ that exact,
// ‖λ̂‖ ≤ ‖d̂(u)‖ / √ε, and s_j ≥ −√ε ‖d̂(u)‖ where Ĉ tells no more. Holds the workspace for one
// Gramian.
class DualConeSolver {
 public:
  // `gramian` is C [m × m], row-major, finite.
  explicit DualConeSolver(std::span<const double> gramian, std::int64_t tasks);

  // `floor` is u ≥ 0 [m], finite; `weights` receives v [m]. Allocates nothing.
  DualConeResult project(std::span<const double> floor, std::span<double> weights);

 private:
  void load_floor(std::span<const double> floor);
  void slopes();
  bool grow();
  bool append(std::int64_t task, double smallest_pivot = 0.0);
  void shrink();
  void solve(double ridge);
  void advance();
  void refine();

  // How far the optimality system is from being met; zero at the optimum.
  struct Residual {
    double size = 0.0;             // Σ_j v̂_j
    double violation = 0.0;        // max_j (−s_j, 0)
    double complementarity = 0.0;  // Σ_j λ̂_j |s_j|
    double gap() const { return complementarity + size * violation; }
  };
  Residual residual() const;

  std::int64_t tasks_;
  std::vector<double> gramian_;  // Ĉ_jk = C_jk / (‖g_j‖ ‖g_k‖), zero where a gradient is zero
  std::vector<double> norms_;    // ‖g_j‖ / 2^exponent_
  double scale_ = 1.0;           // 2^exponent_
  double ridge_ = 0.0;           // ε
  std::vector<double> factor_;   // rows of L, L Lᵀ = Ĉ + εI on the passive set
  std::vector<std::int64_t> passive_;
  std::vector<std::int64_t> pending_;  // what follows in the factor a task that leaves
  std::vector<bool> blocked_;          // passive, or has just left, or has no gradient
  std::vector<double> floor_;          // û_j = u_j ‖g_j‖
  std::vector<double> excess_;         // λ̂ ≥ 0
  std::vector<double> before_;         // λ̂ before a refinement
  std::vector<double> target_;         // λ̂ that solves the passive equations
  std::vector<double> slopes_;         // Ĉ(û + λ̂)
  double noise_ = 0.0;                 // rounding of a slope
};

}  // namespace pyfront
