#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "common/status.hpp"
#include "solvers/linear_program.hpp"
#include "solvers/min_norm.hpp"

namespace pyfront {

enum class Descent { restricted, relaxed };
struct EpoSettings {
  double epsilon = 1e-4;  // balance while μ > ε
  Descent descent = Descent::restricted;
};

struct EpoResult {
  Status status = Status::ok;
  Phase phase = Phase::balance;
  double non_uniformity = 0.0;  // μ
  double objective = 0.0;       // γ*, the value of the linear program on the given C
};

// μ = Σ_j l̂_j log(m l̂_j) with l̂ = r∘l / Σ r_j l_j: how far r∘l is from uniform.   (EPO eq. 9 to 11)
double non_uniformity(std::span<const double> losses, std::span<const double> preference);

// The weights of EPO Search, exact: the linear program (24) at (l, C, r).
class EpoSolver {
 public:
  explicit EpoSolver(OtherSolver highs);

  // losses l ≥ 0 [m], gramian C [m × m], preference r > 0 [m] (scaled to sum 1 here). With status
  // `nonfinite` the weights, μ and γ* are NaN, so that what is made of them cannot pass for a step.
  EpoResult solve(std::span<const double> losses, std::span<const double> gramian,
                  std::span<const double> preference, std::span<double> weights,
                  const EpoSettings& settings = {});

 private:
  void resize(std::size_t tasks);
  void scale_gramian(std::span<const double> gramian, double largest);
  void set_adjustments(std::span<const double> preference, double non_uniformity);
  bool is_dominant(std::size_t task) const { return shares_[task] >= dominant_share_; }  // J* (23)
  void add_row(std::span<const double> row, double lower);
  double solve_program(std::span<double> weights, Descent descent, EpoResult& result);
  LpResult solve_balance(std::span<double> weights);
  LpResult solve_descent(std::span<double> weights, Descent descent);

  LinearProgram program_;
  std::optional<MinNormSolver> min_norm_;
  std::size_t tasks_ = 0;
  double dominant_share_ = 0.0;      // tasks of J* have a share of at least this
  std::vector<double> gramian_;      // C / max_j C_jj
  std::vector<double> shares_;       // l̂ (11)
  std::vector<double> adjustments_;  // a (13)
  std::vector<double> progress_;     // C a: task j falls along d = Jᵀa where it is positive
  std::vector<double> cost_, rows_, lower_;
};

}  // namespace pyfront
