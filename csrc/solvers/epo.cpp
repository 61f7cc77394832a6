#include "solvers/epo.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>

namespace pyfront {

namespace {

constexpr double tie = 1e-12;  // relative: r_j l_j this close to the largest are equal to it
constexpr double least_share = 1e-12;  // of m l̂_j in the logarithm of a zero loss

bool all_finite(std::span<const double> values) {
  return std::ranges::all_of(values, [](double value) { return std::isfinite(value); });
}

double dot(std::span<const double> x, std::span<const double> y) {
  return std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
}

// r_j l_j up to a common power of two, so that neither range nor rounding is lost: the exponents of
// r_j and l_j are added as integers.
struct RelativeLosses {
  std::span<const double> losses, preference;
  int unit = std::numeric_limits<int>::min();  // the largest exponent

  struct Product {
    double mantissa;
    int exponent;
  };

  RelativeLosses(std::span<const double> l, std::span<const double> r) : losses(l), preference(r) {
    for (std::size_t j = 0; j < losses.size(); ++j) {
      const auto [mantissa, exponent] = product(j);
      if (mantissa != 0.0) unit = std::max(unit, exponent);
    }
  }
  bool all_zero() const { return unit == std::numeric_limits<int>::min(); }
  double operator[](std::size_t j) const {
    const auto [mantissa, exponent] = product(j);
    return mantissa == 0.0 ? 0.0 : std::ldexp(mantissa, exponent - unit);
  }
  Product product(std::size_t j) const {
    int loss_exponent = 0;
    int preference_exponent = 0;
    const double mantissa =
        std::frexp(losses[j], &loss_exponent) * std::frexp(preference[j], &preference_exponent);
    // of NaN and infinity frexp gives no exponent
    return {mantissa, std::isfinite(mantissa) ? loss_exponent + preference_exponent : 0};
  }
  double sum() const {
    double total = 0.0;
    for (std::size_t j = 0; j < losses.size(); ++j) total += (*this)[j];
    return total;
  }
};

}  // namespace

double non_uniformity(std::span<const double> losses, std::span<const double> preference) {
  if (losses.empty()) return 0.0;
  const RelativeLosses relative(losses, preference);
  if (relative.all_zero()) return 0.0;
  const auto tasks = static_cast<double>(losses.size());
  const double sum = relative.sum();
  double divergence = 0.0;
  for (std::size_t j = 0; j < losses.size(); ++j) {
    const double share = relative[j] / sum;
    if (share != 0.0) divergence += share * std::log(tasks * share);
  }
  return divergence < 0.0 ? 0.0 : divergence;  // NaN passes through
}

EpoSolver::EpoSolver(OtherSolver highs) : program_(std::move(highs)) {}

EpoResult EpoSolver::solve(std::span<const double> losses, std::span<const double> gramian,
                           std::span<const double> preference, std::span<double> weights,
                           const EpoSettings& settings) {
  resize(losses.size());
  if (!all_finite(losses) || !all_finite(gramian) || !all_finite(preference)) {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    std::ranges::fill(weights, nan);
    return {.status = Status::nonfinite, .non_uniformity = nan, .objective = nan};
  }
  EpoResult result;
  result.non_uniformity = pyfront::non_uniformity(losses, preference);
  result.phase = result.non_uniformity > settings.epsilon ? Phase::balance : Phase::descent;
  double largest = 0.0;
  for (std::size_t j = 0; j < tasks_; ++j) largest = std::max(largest, gramian[j * (tasks_ + 1)]);
  const RelativeLosses relative(losses, preference);
  if (relative.all_zero() || largest == 0.0) {
    std::ranges::fill(weights, 1.0 / static_cast<double>(tasks_));
    result.status = Status::stationary;
    return result;
  }
  const double sum = relative.sum();
  for (std::size_t j = 0; j < tasks_; ++j) shares_[j] = relative[j] / sum;
  dominant_share_ = (1.0 - tie) * std::ranges::max(shares_);
  scale_gramian(gramian, largest);
  set_adjustments(preference, result.non_uniformity);

  result.objective = largest * solve_program(weights, settings.descent, result);
  return result;
}

// The value of the program on the scaled C; where the program has no answer, the next one's.
double EpoSolver::solve_program(std::span<double> weights, Descent descent, EpoResult& result) {
  auto answer =
      result.phase == Phase::balance ? solve_balance(weights) : solve_descent(weights, descent);
  if (answer.status != LpStatus::optimal && result.phase == Phase::descent &&
      descent == Descent::restricted) {
    result.status = Status::fallback_relaxed;
    answer = solve_descent(weights, Descent::relaxed);
  }
  if (answer.status == LpStatus::optimal) return answer.objective;
  result.status = Status::fallback_min_norm;
  min_norm_->solve(gramian_, {}, weights);
  return dot(cost_, weights);
}

void EpoSolver::resize(std::size_t tasks) {
  if (tasks == tasks_) return;
  tasks_ = tasks;
  gramian_.resize(tasks * tasks);
  shares_.resize(tasks);
  adjustments_.resize(tasks);
  progress_.resize(tasks);
  cost_.resize(tasks);
  rows_.reserve((tasks + 1) * tasks);
  lower_.reserve(tasks + 1);
  min_norm_.emplace(static_cast<std::int64_t>(tasks));
}

// Divided, not multiplied by 1 / largest, which overflows where `largest` is denormal.
void EpoSolver::scale_gramian(std::span<const double> gramian, double largest) {
  std::ranges::transform(gramian, gramian_.begin(), [=](double c) { return c / largest; });
}

// a_j = r_j (log(m l̂_j) − μ)   (13), Σ r = 1, and C a
void EpoSolver::set_adjustments(std::span<const double> preference, double non_uniformity) {
  const auto tasks = static_cast<double>(tasks_);
  const double unit = std::ranges::max(preference);
  double sum = 0.0;
  for (const double r : preference) sum += r / unit;
  bool uniform = true;
  for (std::size_t j = 0; j < tasks_; ++j) uniform &= is_dominant(j);
  for (std::size_t j = 0; j < tasks_; ++j) {
    const double share = std::max(tasks * shares_[j], least_share);
    const double r = preference[j] / unit / sum;
    // where all r_j l_j are tied a is 0, and what is computed for it is rounding noise
    adjustments_[j] = uniform ? 0.0 : r * (std::log(share) - non_uniformity);
  }
  for (std::size_t j = 0; j < tasks_; ++j) {
    progress_[j] = dot(std::span(gramian_).subspan(j * tasks_, tasks_), adjustments_);
  }
}

void EpoSolver::add_row(std::span<const double> row, double lower) {
  rows_.insert(rows_.end(), row.begin(), row.end());
  lower_.push_back(lower);
}

// max βᵀC a  s.t.  (Cβ)_j ≥ (C a)_j 1_J for j outside J and J*,  (Cβ)_j ≥ 0 on J*   (24)
LpResult EpoSolver::solve_balance(std::span<double> weights) {
  rows_.clear();
  lower_.clear();
  std::ranges::copy(progress_, cost_.begin());
  const bool any_falls = std::ranges::any_of(progress_, [](double p) { return p > 0.0; });
  for (std::size_t j = 0; j < tasks_; ++j) {
    const auto row = std::span<const double>(gramian_).subspan(j * tasks_, tasks_);
    if (is_dominant(j)) {
      add_row(row, 0.0);
    } else if (progress_[j] <= 0.0) {
      add_row(row, any_falls ? progress_[j] : 0.0);
    }  // rows of J alone are free
  }
  return program_.solve(cost_, rows_, lower_, weights);
}

// max βᵀC 1  s.t.  Cβ ≥ 0   (21), restricted also: βᵀC a ≥ min(max_j (C a)_j, 0)   (appendix B)
LpResult EpoSolver::solve_descent(std::span<double> weights, Descent descent) {
  rows_.clear();
  lower_.clear();
  for (std::size_t j = 0; j < tasks_; ++j) {
    const auto row = std::span<const double>(gramian_).subspan(j * tasks_, tasks_);
    cost_[j] = std::accumulate(row.begin(), row.end(), 0.0);
    add_row(row, 0.0);
  }
  if (descent == Descent::restricted) {
    add_row(progress_, std::min(std::ranges::max(progress_), 0.0));
  }
  return program_.solve(cost_, rows_, lower_, weights);
}

}  // namespace pyfront
