#include "solvers/dual_cone.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace pyfront {
namespace {

constexpr double unit_roundoff = std::numeric_limits<double>::epsilon() / 2;

// Slopes at least this fraction of the most negative one enter together: fewer steps.
constexpr double batch_fraction = 1.0 / 3.0;
// Of these, one that nearly depends on the others waits until it is the most negative one.
constexpr double batch_pivot = 1e-4;
// Slopes below this part of the weights are a failure, and not rounding.
constexpr double tolerance = 1e-6;

// A power of two near the square root of `value` > 0, so that dividing by its square is exact.
double root_scale(double value) { return std::ldexp(1.0, std::ilogb(value) / 2); }

}  // namespace

DualConeSolver::DualConeSolver(std::span<const double> gramian, std::int64_t tasks)
    : tasks_(tasks),
      gramian_(gramian.size()),
      norms_(static_cast<std::size_t>(tasks)),
      factor_(gramian.size()),
      blocked_(norms_.size()),
      floor_(norms_.size()),
      excess_(norms_.size()),
      before_(norms_.size()),
      target_(norms_.size()),
      slopes_(norms_.size()) {
  passive_.reserve(norms_.size());
  pending_.reserve(norms_.size());
  ridge_ = 4 * unit_roundoff * static_cast<double>(tasks);
  double largest = 0.0;
  for (std::int64_t j = 0; j < tasks; ++j) largest = std::max(largest, gramian[j * tasks + j]);
  if (largest > 0.0) scale_ = root_scale(largest);
  for (std::int64_t j = 0; j < tasks; ++j) {
    norms_[j] = std::sqrt(std::max(gramian[j * tasks + j], 0.0)) / scale_;
  }
  for (std::int64_t j = 0; j < tasks; ++j) {
    for (std::int64_t k = 0; k < tasks; ++k) {
      const bool zero = norms_[j] == 0.0 || norms_[k] == 0.0;
      const double entry = gramian[j * tasks + k] / (scale_ * norms_[j]) / (scale_ * norms_[k]);
      gramian_[j * tasks + k] = zero ? 0.0 : j == k ? 1.0 : entry;
    }
  }
}

void DualConeSolver::load_floor(std::span<const double> floor) {
  for (std::int64_t j = 0; j < tasks_; ++j) floor_[j] = floor[j] * norms_[j];
  std::ranges::fill(excess_, 0.0);
  for (std::int64_t j = 0; j < tasks_; ++j) blocked_[j] = norms_[j] == 0.0;
  passive_.clear();
}

// s = Ĉ(û + λ̂), and how much of it may be rounding.
void DualConeSolver::slopes() {
  double size = 0.0;
  std::ranges::fill(slopes_, 0.0);
  for (std::int64_t k = 0; k < tasks_; ++k) {
    const double weight = floor_[k] + excess_[k];
    if (weight == 0.0) continue;
    size += weight;
    for (std::int64_t j = 0; j < tasks_; ++j) slopes_[j] += weight * gramian_[k * tasks_ + j];
  }
  noise_ = 2 * unit_roundoff * static_cast<double>(tasks_ + 4) * size;
}

// Appends the tasks whose slopes are about as negative as the worst one's. False if none is
// negative beyond rounding.
bool DualConeSolver::grow() {
  double least = 0.0;
  for (bool appended = false; !appended;) {
    std::int64_t worst = -1;
    least = -noise_;
    for (std::int64_t j = 0; j < tasks_; ++j) {
      if (blocked_[j] || slopes_[j] >= least) continue;
      least = slopes_[j];
      worst = j;
    }
    if (worst < 0) return false;
    appended = append(worst);
    blocked_[worst] = true;
  }
  for (std::int64_t j = 0; j < tasks_; ++j) {
    if (!blocked_[j] && slopes_[j] <= batch_fraction * least) append(j, batch_pivot);
  }
  return true;
}

// Adds a row to the factor of Ĉ + εI, whose pivots are at least ε: a little less is rounding. False
// if the pivot is below `smallest_pivot`: below 0 it is that of an Ĉ less exact than float64, to
// which the gradient adds nothing.
bool DualConeSolver::append(std::int64_t task, double smallest_pivot) {
  const auto size = static_cast<std::int64_t>(passive_.size());
  double* const row = &factor_[size * tasks_];
  double pivot = 1.0 + ridge_;
  for (std::int64_t p = 0; p < size; ++p) {
    const double* const earlier = &factor_[p * tasks_];
    double sum = gramian_[task * tasks_ + passive_[p]];
    for (std::int64_t q = 0; q < p; ++q) sum -= row[q] * earlier[q];
    row[p] = sum / earlier[p];
    pivot -= row[p] * row[p];
  }
  if (!(pivot >= smallest_pivot)) return false;
  row[size] = std::sqrt(std::max(pivot, ridge_));
  passive_.push_back(task);
  blocked_[task] = true;
  return true;
}

// Takes the passive tasks out whose λ̂ is zero and would become negative, and keeps the factor of
// those before the first.
void DualConeSolver::shrink() {
  const auto size = static_cast<std::int64_t>(passive_.size());
  std::int64_t first = 0;
  while (first < size && (excess_[passive_[first]] > 0.0 || target_[first] > 0.0)) ++first;
  pending_.clear();
  for (std::int64_t p = first; p < size; ++p) {
    if (excess_[passive_[p]] > 0.0 || target_[p] > 0.0) pending_.push_back(passive_[p]);
  }
  passive_.resize(static_cast<std::size_t>(first));
  for (const std::int64_t task : pending_) {
    if (!append(task)) excess_[task] = 0.0;
  }
}

// The λ̂ that makes the passive tasks' slopes s + ρλ̂ zero, from those at the present one, which
// refines it where the factor is ill-conditioned.
void DualConeSolver::solve(double ridge) {
  const auto size = static_cast<std::int64_t>(passive_.size());
  for (std::int64_t p = 0; p < size; ++p) {
    double sum = -slopes_[passive_[p]] - ridge * excess_[passive_[p]];
    for (std::int64_t q = 0; q < p; ++q) sum -= factor_[p * tasks_ + q] * target_[q];
    target_[p] = sum / factor_[p * tasks_ + p];
  }
  for (std::int64_t p = size - 1; p >= 0; --p) {
    double sum = target_[p];
    for (std::int64_t q = p + 1; q < size; ++q) sum -= factor_[q * tasks_ + p] * target_[q];
    target_[p] = sum / factor_[p * tasks_ + p];
  }
  for (std::int64_t p = 0; p < size; ++p) target_[p] += excess_[passive_[p]];
}

// Goes towards the solution of the passive equations until it is reached. Tasks whose λ̂ falls to
// zero on the way leave; of those that have just entered, the ones that would become negative leave
// at once, and one always stays: it has the slope that makes the step a descent.
void DualConeSolver::advance() {
  bool moved = false;
  while (!passive_.empty()) {
    solve(ridge_);
    // the part of the way on which λ̂ stays positive; beyond 1 if it does on all of it
    const auto room = [&](std::size_t p) {
      const double now = excess_[passive_[p]];
      return target_[p] > 0.0 ? 2.0 : now > 0.0 ? now / (now - target_[p]) : 0.0;
    };
    double step = 2.0;
    for (std::size_t p = 0; p < passive_.size(); ++p) step = std::min(step, room(p));
    const bool reached = step > 1.0;
    for (std::size_t p = 0; p < passive_.size(); ++p) {
      double& now = excess_[passive_[p]];
      now = reached ? target_[p] : room(p) <= step ? 0.0 : now + step * (target_[p] - now);
    }
    moved = moved || step > 0.0;
    if (reached) break;
    shrink();
    slopes();
  }
  if (!moved) return;  // what has entered and left stays out
  for (std::int64_t j = 0; j < tasks_; ++j) blocked_[j] = norms_[j] == 0.0;
  for (const std::int64_t j : passive_) blocked_[j] = true;
}

DualConeSolver::Residual DualConeSolver::residual() const {
  Residual left;
  for (std::int64_t j = 0; j < tasks_; ++j) {
    left.size += floor_[j] + excess_[j];
    left.violation = std::max(left.violation, -slopes_[j]);
    left.complementarity += excess_[j] * std::fabs(slopes_[j]);
  }
  return left;
}

// Goes from the solution for Ĉ + εI towards that for Ĉ, as long as the optimality system is met
// better: where the passive gradients depend on each other, rounding soon wins.
void DualConeSolver::refine() {
  double gap = residual().gap();
  while (gap > 0.0 && !passive_.empty()) {
    solve(0.0);
    std::ranges::copy(excess_, before_.begin());
    for (std::size_t p = 0; p < passive_.size(); ++p) {
      excess_[passive_[p]] = std::max(target_[p], 0.0);
    }
    slopes();
    const double refined = residual().gap();
    if (!(refined < gap)) {
      std::ranges::copy(before_, excess_.begin());
      slopes();
      return;
    }
    if (refined > 0.5 * gap) return;
    gap = refined;
  }
}

DualConeResult DualConeSolver::project(std::span<const double> floor, std::span<double> weights) {
  DualConeResult result;
  load_floor(floor);
  slopes();
  const std::int64_t cap = 100 + 20 * tasks_;
  for (std::int64_t iteration = 0;; ++iteration) {
    if (!grow()) break;
    if (iteration == cap) {
      result.status = Status::iteration_limit;
      break;
    }
    advance();
    slopes();
  }
  refine();
  const Residual left = residual();
  for (std::int64_t j = 0; j < tasks_; ++j) {
    weights[j] = norms_[j] == 0.0 ? floor[j] : floor[j] + excess_[j] / norms_[j];
  }
  // NaN and ∞ are in the size, whatever became of the maximum
  if (!std::isfinite(left.size) || left.violation > tolerance * left.size)
    result.status = Status::iteration_limit;
  result.gap = left.gap() * scale_ * scale_;
  return result;
}

}  // namespace pyfront
