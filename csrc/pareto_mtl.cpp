#include "pareto_mtl.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace pyfront {

namespace {

double dot(const double* a, const double* b, std::int64_t length) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < length; ++i) sum += a[i] * b[i];
  return sum;
}

// True if the min-norm point is 0 to rounding: βᵀPβ ≤ 16 u p (Σ_i β_i √P_ii)².
bool vanishes(std::span<const double> inner, std::span<const double> dual) {
  const auto size = static_cast<std::int64_t>(dual.size());
  double value = 0.0;
  double scale = 0.0;
  for (std::int64_t i = 0; i < size; ++i) {
    value += dual[i] * dot(inner.data() + i * size, dual.data(), size);
    scale += dual[i] * std::sqrt(inner[i * size + i]);
  }
  constexpr double unit_roundoff = 0x1p-53;
  return value <= 16.0 * unit_roundoff * static_cast<double>(size) * scale * scale;
}

// ‖l‖₂ and the unit that keeps its squares finite: l / (unit · norm) is a unit vector.
struct Norm {
  double unit = 1.0;
  double norm = 1.0;
};

Norm norm_of(std::span<const double> losses) {
  Norm result;
  double largest = 0.0;
  for (const double loss : losses) largest = std::max(largest, std::abs(loss));
  if (largest == 0.0) return result;
  double square = 0.0;
  for (const double loss : losses) square += (loss / largest) * (loss / largest);
  result.unit = largest;
  result.norm = std::sqrt(square);
  return result;
}

}  // namespace

ParetoMtlSolver::ParetoMtlSolver(std::int64_t tasks, std::int64_t vectors)
    : tasks_(tasks), vectors_(vectors) {
  const auto rows = static_cast<std::size_t>(tasks + vectors);
  const auto m = static_cast<std::size_t>(tasks);
  rows_.resize(rows * m);
  product_.resize(rows * m);
  inner_.resize(rows * rows);
  dual_.resize(rows);
}

std::int64_t ParetoMtlSolver::collect_rows(std::span<const double> losses,
                                           std::span<const double> vectors, std::int64_t index,
                                           const ParetoMtlSettings& settings) {
  const auto m = tasks_;
  double* row = rows_.data();
  std::int64_t count = 0;
  if (settings.phase != Phase::feasibility) {
    std::fill_n(row, m * m, 0.0);
    for (std::int64_t i = 0; i < m; ++i) row[i * m + i] = 1.0;
    count = m;
  }
  if (settings.phase == Phase::convergence) return count;
  const auto [unit, norm] = norm_of(losses);
  const double bound = settings.phase == Phase::feasibility ? 0.0 : -settings.epsilon;
  const double* own = vectors.data() + index * m;
  for (std::int64_t j = 0; j < vectors_; ++j) {
    if (j == index) continue;  // identically zero: with it the min-norm point would be 0
    double* difference = rows_.data() + count * m;
    for (std::int64_t i = 0; i < m; ++i) difference[i] = vectors[j * m + i] - own[i];
    double g = 0.0;
    for (std::int64_t i = 0; i < m; ++i) g += difference[i] * (losses[i] / unit);
    if (g / norm < bound) continue;
    ++count;
  }
  return count;
}

ParetoMtlResult ParetoMtlSolver::solve(std::span<const double> losses,
                                       std::span<const double> gramian,
                                       std::span<const double> reference_vectors,
                                       std::int64_t index, std::span<double> weights,
                                       const ParetoMtlSettings& settings) {
  const auto m = tasks_;
  ParetoMtlResult result;
  std::ranges::fill(weights, 0.0);
  const auto rows = collect_rows(losses, reference_vectors, index, settings);
  if (rows == 0) {
    result.status = Status::feasible;
    return result;
  }
  for (std::int64_t p = 0; p < rows; ++p) {
    for (std::int64_t i = 0; i < m; ++i) {
      product_[p * m + i] = dot(rows_.data() + p * m, gramian.data() + i * m, m);
    }
    for (std::int64_t q = 0; q <= p; ++q) {
      const double value = dot(product_.data() + p * m, rows_.data() + q * m, m);
      inner_[p * rows + q] = value;
      inner_[q * rows + p] = value;
    }
  }
  const auto size = static_cast<std::size_t>(rows);
  MinNormSolver solver(rows);
  const auto dual = std::span(dual_).first(size);
  const auto inner = std::span<const double>(inner_).first(size * size);
  const auto answer = solver.solve(inner, {}, dual, {});
  result.status = answer.status;
  result.gap = answer.gap;
  if (answer.status == Status::nonfinite) {
    std::ranges::fill(weights, answer.gap);
    return result;
  }
  if (settings.phase == Phase::feasibility && vanishes(inner, dual)) {
    result.status = Status::stationary;  // the active constraints pull against each other
    return result;
  }
  // w = λ + Aᵀ β = Mᵀ (λ, β)
  for (std::int64_t p = 0; p < rows; ++p) {
    for (std::int64_t i = 0; i < m; ++i) weights[i] += dual_[p] * rows_[p * m + i];
  }
  return result;
}

}  // namespace pyfront
