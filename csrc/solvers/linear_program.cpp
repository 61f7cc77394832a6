#include "solvers/linear_program.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace pyfront {

namespace {

// By how much an answer may violate a row, and miss the optimum: cost and rows are of order 1.
constexpr double certificate_tolerance = 1e-9;

bool all_finite(std::span<const double> values) {
  return std::ranges::all_of(values, [](double value) { return std::isfinite(value); });
}

double largest_magnitude(std::span<const double> values) {
  double largest = 0.0;
  for (const double value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

// A power of two, so that scaling is exact: factor · magnitude lies in [1, 2), 1 for magnitude 0.
double scale_factor(double magnitude) {
  if (magnitude == 0.0) return 1.0;
  return std::scalbn(1.0, -std::max(std::ilogb(magnitude), -1022));
}

double dot(const double* x, const double* y, std::size_t size) {
  return std::inner_product(x, x + size, y, 0.0);
}

}  // namespace

LinearProgram::LinearProgram(OtherSolver highs, bool highs_only)
    : highs_(std::move(highs)), highs_only_(highs_only) {}

LpResult LinearProgram::solve(std::span<const double> cost, std::span<const double> rows,
                              std::span<const double> lower, std::span<double> beta) {
  if (cost.empty() || !all_finite(cost) || !all_finite(rows) || !all_finite(lower)) return {};
  tasks_ = cost.size();
  const double factor = scale_factor(largest_magnitude(cost));
  cost_.resize(tasks_);
  std::ranges::transform(cost, cost_.begin(), [=](double value) { return factor * value; });
  if (!collect_rows(rows, lower)) return {.status = LpStatus::infeasible};

  const auto vertex = static_cast<std::size_t>(std::ranges::max_element(cost_) - cost_.begin());
  if (vertex_is_feasible(vertex)) {  // nothing on the simplex costs more
    beta_.assign(tasks_, 0.0);
    beta_[vertex] = 1.0;
  } else {
    auto status = highs_only_ ? LpStatus::failed : run_dual_simplex(vertex);
    if (status == LpStatus::failed) status = run_highs(vertex);
    if (status != LpStatus::optimal) return {.status = status};
  }
  std::ranges::copy(beta_, beta.begin());
  return {.status = LpStatus::optimal, .objective = dot(cost.data(), beta_.data(), tasks_)};
}

// Keeps the rows that some point of the simplex violates; false if every point violates one.
bool LinearProgram::collect_rows(std::span<const double> rows, std::span<const double> lower) {
  values_.assign(tasks_, 1.0);
  row_lower_.assign(1, 1.0);
  for (std::size_t j = 0; j < lower.size(); ++j) {
    const auto row = rows.subspan(j * tasks_, tasks_);
    const auto [least, greatest] = std::ranges::minmax(row);
    if (greatest < lower[j]) return false;
    if (least >= lower[j]) continue;
    const double factor = scale_factor(std::max(-least, greatest));
    for (const double value : row) values_.push_back(factor * value);
    row_lower_.push_back(factor * lower[j]);
  }
  return true;
}

bool LinearProgram::vertex_is_feasible(std::size_t vertex) const {
  for (std::size_t j = 1; j < row_lower_.size(); ++j) {
    if (values_[j * tasks_ + vertex] < row_lower_[j]) return false;
  }
  return true;
}

LpStatus LinearProgram::run_dual_simplex(std::size_t vertex) {
  const auto rows = std::span<const double>(values_).subspan(tasks_);
  const auto lower = std::span<const double>(row_lower_).subspan(1);
  switch (dual_simplex_.solve(cost_, rows, lower, vertex)) {
    case SimplexStatus::optimal:
      beta_.assign(dual_simplex_.beta().begin(), dual_simplex_.beta().end());
      return normalise() && certify(dual_simplex_.multipliers()) ? LpStatus::optimal
                                                                 : LpStatus::failed;
    case SimplexStatus::unbounded:
      return certify_infeasible(dual_simplex_.multipliers()) ? LpStatus::infeasible
                                                             : LpStatus::failed;
    case SimplexStatus::iteration_limit:
      break;
  }
  return LpStatus::failed;
}

LpStatus LinearProgram::run_highs(std::size_t vertex) {
  set_basis(vertex);
  beta_.resize(tasks_);
  duals_.resize(row_lower_.size());
  const auto status = highs_({cost_, values_, row_lower_, basis_}, beta_, duals_);
  if (status != LpStatus::optimal) return status;
  for (double& dual : duals_) dual = std::max(-dual, 0.0);
  return normalise() && certify(std::span<const double>(duals_).subspan(1)) ? LpStatus::optimal
                                                                            : LpStatus::failed;
}

// Where our own method ended, which is near the optimum though not accurate; without it, the vertex
// of greatest cost and the slack of every row but Σβ = 1.
void LinearProgram::set_basis(std::size_t vertex) {
  basis_.clear();
  if (highs_only_) {
    basis_.push_back(static_cast<std::int32_t>(vertex));
    for (std::size_t j = 1; j < row_lower_.size(); ++j) {
      basis_.push_back(static_cast<std::int32_t>(tasks_ + j));
    }
    return;
  }
  for (const auto variable : dual_simplex_.basis()) {  // its rows are those from 1
    basis_.push_back(static_cast<std::int32_t>(variable < tasks_ ? variable : variable + 1));
  }
}

// β ≥ 0 and Σβ = 1 exactly, up to the rounding of one division.
bool LinearProgram::normalise() {
  double sum = 0.0;
  for (double& value : beta_) sum += value = std::max(value, 0.0) + 0.0;  // + 0.0: no -0.0
  for (double& value : beta_) value /= sum;
  return std::abs(sum - 1.0) <= certificate_tolerance;
}

// Weak duality: for every y ≥ 0, max_i (c + Aᵀy)_i − yᵀlower bounds cᵀβ from above.
double LinearProgram::bound(std::span<const double> cost, std::span<const double> multipliers) {
  double offset = 0.0;
  reduced_.assign(cost.begin(), cost.end());
  for (std::size_t j = 0; j < multipliers.size(); ++j) {
    if (multipliers[j] == 0.0) continue;
    const double* row = values_.data() + (j + 1) * tasks_;
    offset += multipliers[j] * row_lower_[j + 1];
    for (std::size_t i = 0; i < tasks_; ++i) reduced_[i] += multipliers[j] * row[i];
  }
  return std::ranges::max(reduced_) - offset;
}

// With β feasible and the bound met, both are optimal, whatever the solver said. It must be met in
// the scale of the cost, and by a bound whose own rounding, about ε Σy, is smaller: an allowance
// that grows with the multipliers says nothing where they are large.
bool LinearProgram::certify(std::span<const double> multipliers) {
  for (std::size_t j = 1; j < row_lower_.size(); ++j) {
    const double value = dot(values_.data() + j * tasks_, beta_.data(), tasks_);
    if (!(value >= row_lower_[j] - certificate_tolerance)) return false;
  }
  const double gap = bound(cost_, multipliers) - dot(cost_.data(), beta_.data(), tasks_);
  const double sum = std::accumulate(multipliers.begin(), multipliers.end(), 0.0);
  return std::abs(gap) <= certificate_tolerance &&
         std::numeric_limits<double>::epsilon() * sum <= certificate_tolerance;
}

// With cost 0 a negative bound says that no β is feasible; it is as large as the multipliers.
bool LinearProgram::certify_infeasible(std::span<const double> multipliers) {
  zeros_.assign(tasks_, 0.0);
  const double sum = std::accumulate(multipliers.begin(), multipliers.end(), 0.0);
  return bound(zeros_, multipliers) < -certificate_tolerance * sum;
}

}  // namespace pyfront
