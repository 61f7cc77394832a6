#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "solvers/dual_simplex.hpp"

namespace pyfront {

enum class LpStatus { optimal, infeasible, failed };

struct LpResult {
  LpStatus status = LpStatus::failed;
  double objective = 0.0;
};

// maximise costᵀβ over β ≥ 0 with A_0 β = 1 and A_j β ≥ lower_j for the other rows. Row 0 is Σβ = 1
// and lower_0 = 1; cost and rows are of order 1. The simplex method may start at `basis`, which
// need not be feasible: k + 1 variables, β_i as i and the slack of row j as m + j.
struct ScaledProgram {
  std::span<const double> cost;         // [m]
  std::span<const double> rows;         // A, [(k + 1) × m] row-major
  std::span<const double> lower;        // [k + 1]
  std::span<const std::int32_t> basis;  // [k + 1]
};

// Another solver of the same program, HiGHS. With `optimal` it has written β [m] and the rows'
// duals [k + 1], which are ≤ 0 but for row 0; whether they are optimal is checked here. What it
// throws passes through `LinearProgram::solve`, which can be called again.
using OtherSolver =
    std::function<LpStatus(const ScaledProgram&, std::span<double> beta, std::span<double> duals)>;

// maximise costᵀβ over the simplex {β ≥ 0, Σβ = 1} subject to A β ≥ lower.
// Our own dual simplex method solves nearly every program; where rounding keeps its answer from
// being certified, the other solver is asked. Not to be shared between threads. No solve starts
// from the one before: the answer depends on the input alone.
class LinearProgram {
 public:
  // `highs_only` leaves out our own method, so that the two can be compared.
  explicit LinearProgram(OtherSolver highs, bool highs_only = false);

  // `rows` is A, [k × m] row-major with m = cost.size() ≥ 1 and k = lower.size(); the scale of the
  // cost and of each row is free. `optimal` is only said of an answer whose optimality was checked
  // here; anything not finite is `failed`. Only `optimal` writes `beta`: β ≥ 0, |Σβ − 1| < 1e-12.
  LpResult solve(std::span<const double> cost, std::span<const double> rows,
                 std::span<const double> lower, std::span<double> beta);

 private:
  bool collect_rows(std::span<const double> rows, std::span<const double> lower);
  bool vertex_is_feasible(std::size_t vertex) const;
  LpStatus run_dual_simplex(std::size_t vertex);
  LpStatus run_highs(std::size_t vertex);
  void set_basis(std::size_t vertex);
  bool normalise();
  bool certify(std::span<const double> multipliers);
  bool certify_infeasible(std::span<const double> multipliers);
  double bound(std::span<const double> cost, std::span<const double> multipliers);

  OtherSolver highs_;
  bool highs_only_;
  DualSimplex dual_simplex_;
  std::size_t tasks_ = 0;
  std::vector<double> cost_, values_, row_lower_;  // the scaled program
  std::vector<std::int32_t> basis_;
  std::vector<double> beta_, duals_;  // its answer
  std::vector<double> reduced_, zeros_;
};

}  // namespace pyfront
