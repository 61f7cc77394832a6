#include "solvers/dual_simplex.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace pyfront {

namespace {

// ‖x‖², in four sums that do not wait for each other.
double squared_norm(std::span<const double> x) {
  std::array<double, 4> sums{};
  const auto whole = x.size() - x.size() % sums.size();
  for (std::size_t i = 0; i < whole; i += sums.size()) {
    for (std::size_t lane = 0; lane < sums.size(); ++lane) {
      sums[lane] += x[i + lane] * x[i + lane];
    }
  }
  for (std::size_t i = whole; i < x.size(); ++i) sums[0] += x[i] * x[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace

SimplexStatus DualSimplex::solve(std::span<const double> cost, std::span<const double> rows,
                                 std::span<const double> lower, std::size_t vertex,
                                 const SimplexSettings& settings) {
  start(cost, rows, lower, vertex);
  for (std::size_t left = settings.iterations_a_row * height_; left > 0; --left) {
    const auto leaving = leaving_row(settings.tolerance);
    if (leaving == 0) {
      read_optimum();
      return SimplexStatus::optimal;
    }
    const auto entering = entering_column(leaving, settings.tolerance);
    if (entering == 0) {
      read_ray(leaving);
      return SimplexStatus::unbounded;
    }
    pivot(leaving, entering);
  }
  return SimplexStatus::iteration_limit;
}

// With β_v = 1 − Σ_{i≠v} β_i:  s_j = (a_jv − lower_j) + Σ_{i≠v} (a_ji − a_jv) β_i.
void DualSimplex::start(std::span<const double> cost, std::span<const double> rows,
                        std::span<const double> lower, std::size_t vertex) {
  tasks_ = cost.size();
  width_ = tasks_;
  height_ = lower.size() + 2;
  dictionary_.resize(height_ * width_);
  basic_.resize(height_);
  zero_.resize(width_);
  weights_.assign(height_, 0.0);
  for (std::size_t i = 0, column = 1; i < tasks_; ++i) {
    if (i != vertex) zero_[column++] = i;
  }
  const auto fill = [&](double* out, std::span<const double> a, double offset) {
    out[0] = a[vertex] - offset;
    for (std::size_t c = 1; c < width_; ++c) out[c] = a[zero_[c]] - a[vertex];
  };
  fill(row(0), cost, 0.0);
  row(1)[0] = 1.0;
  std::fill_n(row(1) + 1, width_ - 1, -1.0);
  basic_[1] = vertex;
  for (std::size_t j = 0; j < lower.size(); ++j) {
    fill(row(j + 2), rows.subspan(j * tasks_, tasks_), lower[j]);
    basic_[j + 2] = tasks_ + j;
  }
  for (std::size_t i = 1; i < height_; ++i) {
    weights_[i] = 1.0 + squared_norm({row(i) + 1, width_ - 1});
  }
}

// The negative variable farthest from feasibility, in the norm of its row; 0 if there is none.
std::size_t DualSimplex::leaving_row(double tolerance) const {
  std::size_t best = 0;
  double farthest = 0.0;
  for (std::size_t i = 1; i < height_; ++i) {
    const double value = row(i)[0];
    if (value >= -tolerance || value * value <= farthest * weights_[i]) continue;
    farthest = value * value / weights_[i];
    best = i;
  }
  return best;
}

// Among the columns that can raise the row, one that keeps the objective row ≤ `tolerance`, and of
// those the largest pivot (Harris); 0 if no column can.
std::size_t DualSimplex::entering_column(std::size_t leaving, double tolerance) const {
  const double* objective = row(0);
  const double* d = row(leaving);
  double bound = std::numeric_limits<double>::infinity();
  for (std::size_t c = 1; c < width_; ++c) {
    if (d[c] > tolerance) bound = std::min(bound, (tolerance - objective[c]) / d[c]);
  }
  std::size_t best = 0;
  for (std::size_t c = 1; c < width_; ++c) {
    const bool allowed = d[c] > tolerance && -objective[c] <= bound * d[c];
    if (allowed && (best == 0 || d[c] > d[best])) best = c;
  }
  return best;
}

// x_r = b + Σ_c D_c x_c is solved for x_e, and that is put into every other row.
void DualSimplex::pivot(std::size_t leaving, std::size_t entering) {
  double* source = row(leaving);
  const double inverse = 1.0 / source[entering];
  for (std::size_t c = 0; c < width_; ++c) source[c] *= -inverse;
  source[entering] = inverse;
  std::swap(basic_[leaving], zero_[entering]);
  for (std::size_t i = 0; i < height_; ++i) {
    double* target = row(i);
    const double factor = target[entering];
    if (i != leaving && factor != 0.0) {
      target[entering] = 0.0;
      for (std::size_t c = 0; c < width_; ++c) target[c] += factor * source[c];
    }
    weights_[i] = 1.0 + squared_norm({target + 1, width_ - 1});
  }
}

void DualSimplex::read_optimum() {
  beta_.assign(tasks_, 0.0);
  multipliers_.assign(height_ - 2, 0.0);
  for (std::size_t i = 1; i < height_; ++i) {
    if (basic_[i] < tasks_) beta_[basic_[i]] = std::max(row(i)[0], 0.0);
  }
  for (std::size_t c = 1; c < width_; ++c) {
    if (zero_[c] >= tasks_) multipliers_[zero_[c] - tasks_] = std::max(-row(0)[c], 0.0);
  }
}

// x_r = b + Σ_c D_c x_c with b < 0 and every D_c ≤ 0: the slacks among x_r and x_c give
// yᵀ(A β − lower) ≤ b for all β of the simplex.
void DualSimplex::read_ray(std::size_t leaving) {
  multipliers_.assign(height_ - 2, 0.0);
  if (basic_[leaving] >= tasks_) multipliers_[basic_[leaving] - tasks_] = 1.0;
  for (std::size_t c = 1; c < width_; ++c) {
    if (zero_[c] >= tasks_) multipliers_[zero_[c] - tasks_] = std::max(-row(leaving)[c], 0.0);
  }
}

}  // namespace pyfront
