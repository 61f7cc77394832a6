#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "common/status.hpp"
#include "solvers/min_norm.hpp"

namespace pyfront {

struct ParetoMtlSettings {
  Phase phase = Phase::descent;  // feasibility, descent or convergence
  double epsilon = 0.0;          // descent: a constraint is active from G_j ≥ −ε
};

struct ParetoMtlResult {
  Status status = Status::ok;
  double gap = 0.0;  // of the min-norm problem that was solved
};

// One subproblem of Pareto MTL: m losses l, C [m × m], K reference vectors U [K × m] of unit 2-norm
// of which the `index`-th is the own one.
struct ParetoMtlProblem {
  std::int64_t tasks = 0;
  std::int64_t vectors = 0;
  std::int64_t index = 0;
  const double* losses = nullptr;
  const double* gramian = nullptr;
  const double* reference_vectors = nullptr;
};

// Weights of subproblem k of K reference vectors u: constraints G_j = (u_j − u_k)ᵀ l / ‖l‖₂ ≤ 0 for
// j ≠ k, whose gradients are combinations of the task gradients, so that every inner product that
// is needed is one of M C Mᵀ with M = A (feasibility) or [I; A] (descent), A the rows u_j − u_k of
// the active constraints. One algorithm for the CPU and the GPU, in memory of its caller.
template <class Team>
class ParetoMtl {
 public:
  using Index = typename Team::Index;

  // The most rows that M can have, and the doubles of memory they take.
  PYFRONT_HOST_DEVICE static constexpr Index max_rows(Index tasks, Index vectors) {
    return tasks + vectors - 1;
  }
  PYFRONT_HOST_DEVICE static constexpr Index memory(Index tasks, Index vectors) {
    const auto rows = max_rows(tasks, vectors);
    // a row is written before it is known to be active: one more than can be
    return (rows + 1) * tasks + rows * tasks + rows * rows + rows;
  }

  PYFRONT_HOST_DEVICE ParetoMtl(Team team, const ParetoMtlProblem& problem, double* memory)
      : team_(team),
        problem_(problem),
        tasks_(static_cast<Index>(problem.tasks)),
        vectors_(static_cast<Index>(problem.vectors)),
        rows_(memory),
        product_(rows_ + (max_rows(tasks_, vectors_) + 1) * tasks_),
        dual_(product_ + max_rows(tasks_, vectors_) * tasks_),
        inner_(dual_ + max_rows(tasks_, vectors_)) {}

  // `solve_min_norm(C, rows, dual)` gives the min-norm weights.
  template <class MinNorm>
  PYFRONT_HOST_DEVICE ParetoMtlResult solve(const ParetoMtlSettings& settings, double* weights,
                                            const MinNorm& solve_min_norm) {
    ParetoMtlResult result;
    fill(weights, 0.0);
    const auto rows = collect_rows(settings);
    if (rows == 0) {
      result.status = Status::feasible;
      return result;
    }
    form_inner(rows);
    const MinNormResult answer = solve_min_norm(inner_, rows, dual_);
    result.status = answer.status;
    result.gap = answer.gap;
    if (answer.status == Status::nonfinite) {
      fill(weights, answer.gap);
      return result;
    }
    if (settings.phase == Phase::feasibility && vanishes(rows)) {
      result.status = Status::stationary;  // the active constraints pull against each other
      return result;
    }
    // w = λ + Aᵀ β = Mᵀ (λ, β)
    for (Index i = team_.rank(); i < tasks_; i += team_.size()) {
      for (Index p = 0; p < rows; ++p) weights[i] += dual_[p] * rows_[p * tasks_ + i];
    }
    team_.sync();
    return result;
  }

  // Whether the losses [m] are in the region: no (u_j − u_k)ᵀ l is positive.
  PYFRONT_HOST_DEVICE bool inside(const double* losses) const {
    const double* const own = problem_.reference_vectors + problem_.index * tasks_;
    for (Index j = 0; j < vectors_; ++j) {
      double g = 0.0;
      for (Index i = 0; i < tasks_; ++i) {
        g += losses[i] * (problem_.reference_vectors[j * tasks_ + i] - own[i]);
      }
      if (!(g <= 0.0)) return false;
    }
    return true;
  }

 private:
  PYFRONT_HOST_DEVICE static double dot(const double* a, const double* b, Index length) {
    double sum = 0.0;
    for (Index i = 0; i < length; ++i) sum += a[i] * b[i];
    return sum;
  }

  PYFRONT_HOST_DEVICE void fill(double* values, double value) const {
    team_.sync();
    for (Index i = team_.rank(); i < tasks_; i += team_.size()) values[i] = value;
    team_.sync();
  }

  // Fills rows_ with M and returns the number of its rows.
  PYFRONT_HOST_DEVICE Index collect_rows(const ParetoMtlSettings& settings) {
    const auto m = tasks_;
    Index count = 0;
    team_.sync();
    if (settings.phase != Phase::feasibility) {
      for (Index k = team_.rank(); k < m * m; k += team_.size()) {
        rows_[k] = k / m == k % m ? 1.0 : 0.0;
      }
      count = m;
    }
    if (settings.phase == Phase::convergence) {
      team_.sync();
      return count;
    }
    // ‖l‖₂ = unit · norm; the unit keeps the squares finite
    double unit = 0.0;
    for (Index i = 0; i < m; ++i) unit = larger(unit, std::fabs(problem_.losses[i]));
    double norm = 1.0;
    if (unit == 0.0) {
      unit = 1.0;
    } else {
      double square = 0.0;
      for (Index i = 0; i < m; ++i) {
        square += (problem_.losses[i] / unit) * (problem_.losses[i] / unit);
      }
      norm = std::sqrt(square);
    }
    const double bound = settings.phase == Phase::feasibility ? 0.0 : -settings.epsilon;
    const double* const own = problem_.reference_vectors + problem_.index * m;
    for (Index j = 0; j < vectors_; ++j) {
      if (j == problem_.index) continue;  // identically zero: the min-norm point would be 0
      double* const difference = rows_ + count * m;
      team_.sync();
      for (Index i = team_.rank(); i < m; i += team_.size()) {
        difference[i] = problem_.reference_vectors[j * m + i] - own[i];
      }
      team_.sync();
      double g = 0.0;
      for (Index i = 0; i < m; ++i) g += difference[i] * (problem_.losses[i] / unit);
      if (g / norm < bound) continue;
      ++count;
    }
    team_.sync();
    return count;
  }

  // M C Mᵀ
  PYFRONT_HOST_DEVICE void form_inner(Index rows) {
    const auto m = tasks_;
    for (Index k = team_.rank(); k < rows * m; k += team_.size()) {
      product_[k] = dot(rows_ + k / m * m, problem_.gramian + k % m * m, m);
    }
    team_.sync();
    for (Index k = team_.rank(); k < rows * rows; k += team_.size()) {
      const auto p = larger(k / rows, k % rows);
      const auto q = smaller(k / rows, k % rows);
      inner_[k] = dot(product_ + p * m, rows_ + q * m, m);
    }
    team_.sync();
  }

  // True if the min-norm point is 0 to rounding: βᵀPβ ≤ 16 u p (Σ_i β_i √P_ii)².
  PYFRONT_HOST_DEVICE bool vanishes(Index rows) const {
    double value = 0.0;
    double scale = 0.0;
    for (Index i = 0; i < rows; ++i) {
      value += dual_[i] * dot(inner_ + i * rows, dual_, rows);
      scale += dual_[i] * std::sqrt(inner_[i * rows + i]);
    }
    return value <= 16.0 * unit_roundoff * static_cast<double>(rows) * scale * scale;
  }

  Team team_;
  ParetoMtlProblem problem_;
  Index tasks_;
  Index vectors_;
  double* rows_;     // M, [p × m]
  double* product_;  // M C, [p × m]
  double* dual_;     // (λ, β), [p]
  double* inner_;    // M C Mᵀ, [p × p]
};

// The same on the CPU, with its memory.
class ParetoMtlSolver {
 public:
  ParetoMtlSolver(std::int64_t tasks, std::int64_t vectors);

  // losses [m], gramian C [m × m], reference_vectors U [K × m] of unit 2-norm, index k < K.
  ParetoMtlResult solve(std::span<const double> losses, std::span<const double> gramian,
                        std::span<const double> reference_vectors, std::int64_t index,
                        std::span<double> weights, const ParetoMtlSettings& settings);

 private:
  std::int64_t tasks_;
  std::int64_t vectors_;
  std::vector<double> memory_;
};

}  // namespace pyfront
