#include "solvers/linear_program.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>

#include "solvers/highs_library.hpp"

namespace pyfront {

namespace {

// HiGHS's tolerances are absolute; cost and rows are scaled to order 1 first.
constexpr double solver_tolerance = 1e-9;
// What the answer may miss after negative entries were clipped and β renormalised.
constexpr double certificate_tolerance = 1e-9;
constexpr const char* strategy_option = "simplex_strategy";

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

LinearProgram::LinearProgram(std::shared_ptr<const HighsLibrary> library, bool highs_only)
    : library_(std::move(library)),
      handle_(library_->create(), library_->destroy),
      highs_only_(highs_only) {
  if (!handle_) throw std::runtime_error("HiGHS: cannot create a solver");
  const auto check = [](HighsInt status, const std::string& option) {
    if (status != 0) throw HighsUnavailable("HiGHS: the option " + option + " was refused");
  };
  const auto set = [&](const char* option, auto value) {
    auto* const solver = handle_.get();
    if constexpr (std::is_same_v<decltype(value), bool>) {
      check(library_->set_bool(solver, option, value), option);
    } else if constexpr (std::is_same_v<decltype(value), HighsInt>) {
      check(library_->set_int(solver, option, value), option);
    } else if constexpr (std::is_same_v<decltype(value), double>) {
      check(library_->set_double(solver, option, value), option);
    } else {
      check(library_->set_string(solver, option, value), option);
    }
  };
  set("output_flag", false);
  set("presolve", "off");
  set("solver", "simplex");
  set("parallel", "off");
  set("threads", HighsInt{1});
  // dual simplex from a dual feasible basis; Devex weights need no start-up solves there
  set(strategy_option, highs::dual_simplex);
  set("simplex_dual_edge_weight_strategy", highs::devex);
  set("simplex_scale_strategy", HighsInt{0});
  set("primal_feasibility_tolerance", solver_tolerance);
  set("dual_feasibility_tolerance", solver_tolerance);
}

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

// On nearly dependent rows the dual method can end inaccurate, and its answer is not certified; the
// primal method takes better pivots there.
LpStatus LinearProgram::run_highs(std::size_t vertex) {
  const auto status = attempt(vertex);
  if (status != LpStatus::failed) return status;
  auto* const solver = handle_.get();
  if (library_->set_int(solver, strategy_option, highs::primal_simplex) != 0) return status;
  const auto second = attempt(vertex);
  return library_->set_int(solver, strategy_option, highs::dual_simplex) == 0 ? second : status;
}

LpStatus LinearProgram::attempt(std::size_t vertex) {
  if (!pass_and_run(vertex)) return LpStatus::failed;
  const auto status = library_->model_status(handle_.get());
  if (status == highs::infeasible) return LpStatus::infeasible;
  if (status != highs::optimal || !read_solution() ||
      !certify(std::span<const double>(row_duals_).subspan(1)))
    return LpStatus::failed;
  return LpStatus::optimal;
}

// The start is the vertex of greatest cost: β_vertex basic in Σβ = 1 and every other row slack. It
// is dual feasible, so that the dual simplex method has only the violated rows to repair.
bool LinearProgram::pass_and_run(std::size_t vertex) {
  const auto count = row_lower_.size();
  constexpr double infinity = std::numeric_limits<double>::infinity();
  row_upper_.assign(count, infinity);
  row_upper_[0] = 1.0;
  column_lower_.assign(tasks_, 0.0);
  column_upper_.assign(tasks_, infinity);
  starts_.resize(count + 1);
  indices_.resize(count * tasks_);
  for (std::size_t j = 0; j <= count; ++j) starts_[j] = static_cast<HighsInt>(j * tasks_);
  for (std::size_t j = 0; j < count; ++j) {
    std::iota(indices_.begin() + starts_[j], indices_.begin() + starts_[j + 1], HighsInt{0});
  }
  column_basis_.assign(tasks_, highs::at_bound);
  column_basis_[vertex] = highs::basic;
  row_basis_.assign(count, highs::basic);
  row_basis_[0] = highs::at_bound;
  // a warning is an entry below 1e-9 that HiGHS dropped: the answer is checked with it
  return library_->pass_lp(handle_.get(), static_cast<HighsInt>(tasks_),
                           static_cast<HighsInt>(count), starts_[count], highs::row_wise,
                           highs::maximize, 0.0, cost_.data(), column_lower_.data(),
                           column_upper_.data(), row_lower_.data(), row_upper_.data(),
                           starts_.data(), indices_.data(), values_.data()) != highs::error &&
         library_->set_basis(handle_.get(), column_basis_.data(), row_basis_.data()) == 0 && run();
}

// Another user of HiGHS in this thread may have started its scheduler with a thread count of its
// own, and then `run` refuses ours. 0 takes what is there; with parallel = off nothing else
// changes.
bool LinearProgram::run() {
  if (library_->run(handle_.get()) != highs::error) return true;
  if (library_->set_int(handle_.get(), "threads", 0) != 0) return false;
  const bool solved = library_->run(handle_.get()) != highs::error;
  return library_->set_int(handle_.get(), "threads", 1) == 0 && solved;
}

bool LinearProgram::read_solution() {
  beta_.resize(tasks_);
  column_duals_.resize(tasks_);
  row_values_.resize(row_lower_.size());
  row_duals_.resize(row_lower_.size());
  if (library_->solution(handle_.get(), beta_.data(), column_duals_.data(), row_values_.data(),
                         row_duals_.data()) == highs::error) {
    return false;
  }
  for (double& dual : row_duals_) dual = std::max(-dual, 0.0);
  return normalise();
}

// β ≥ 0 and Σβ = 1 exactly, up to the rounding of one division.
bool LinearProgram::normalise() {
  double sum = 0.0;
  for (double& value : beta_) sum += value = std::max(value, 0.0);
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

// With β feasible and the bound met, both are optimal, whatever the solver said.
bool LinearProgram::certify(std::span<const double> multipliers) {
  for (std::size_t j = 1; j < row_lower_.size(); ++j) {
    const double value = dot(values_.data() + j * tasks_, beta_.data(), tasks_);
    if (!(value >= row_lower_[j] - certificate_tolerance)) return false;
  }
  const double gap = bound(cost_, multipliers) - dot(cost_.data(), beta_.data(), tasks_);
  const double sum = std::accumulate(multipliers.begin(), multipliers.end(), 0.0);
  return std::abs(gap) <= certificate_tolerance * (1.0 + sum);
}

// With cost 0 a negative bound says that no β is feasible.
bool LinearProgram::certify_infeasible(std::span<const double> multipliers) {
  zeros_.assign(tasks_, 0.0);
  const double sum = std::accumulate(multipliers.begin(), multipliers.end(), 0.0);
  return bound(zeros_, multipliers) < -certificate_tolerance * sum;
}

}  // namespace pyfront
