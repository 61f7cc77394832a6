#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "solvers/dual_simplex.hpp"

namespace pyfront {

// The HiGHS shared library could not be used; the message says what to install.
struct HighsUnavailable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct HighsLibrary;  // highs_library.hpp: the C functions found in the shared library

// Opens the HiGHS shared library at `path` and checks its version and integer size.
// Throws HighsUnavailable.
std::shared_ptr<const HighsLibrary> load_highs(const std::string& path);

enum class LpStatus { optimal, infeasible, failed };

struct LpResult {
  LpStatus status = LpStatus::failed;
  double objective = 0.0;
};

// maximise costᵀβ over the simplex {β ≥ 0, Σβ = 1} subject to A β ≥ lower.
// Our own dual simplex method solves nearly every program in the time that HiGHS takes to accept
// it; where rounding keeps its answer from being certified, HiGHS decides. One HiGHS handle, reused
// by every solve; not to be shared between threads. No solve starts from the one before: the answer
// depends on the input alone.
class LinearProgram {
 public:
  // `highs_only` leaves out our own method, so that the two can be compared.
  explicit LinearProgram(std::shared_ptr<const HighsLibrary> library, bool highs_only = false);

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
  LpStatus attempt(std::size_t vertex);
  bool pass_and_run(std::size_t vertex);
  bool run();
  bool read_solution();
  bool normalise();
  bool certify(std::span<const double> multipliers);
  bool certify_infeasible(std::span<const double> multipliers);
  double bound(std::span<const double> cost, std::span<const double> multipliers);

  std::shared_ptr<const HighsLibrary> library_;
  std::unique_ptr<void, void (*)(void*)> handle_;
  bool highs_only_;
  DualSimplex dual_simplex_;
  std::size_t tasks_ = 0;
  // The program as HiGHS sees it; row 0 is Σβ = 1, cost and rows are of order 1.
  std::vector<double> cost_, values_, row_lower_, row_upper_;
  std::vector<double> column_lower_, column_upper_;
  std::vector<std::int32_t> starts_, indices_, column_basis_, row_basis_;
  // Its answer.
  std::vector<double> beta_, column_duals_, row_values_, row_duals_;
  std::vector<double> reduced_, zeros_;
};

}  // namespace pyfront
