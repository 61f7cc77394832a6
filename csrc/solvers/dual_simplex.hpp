#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace pyfront {

// optimal: of the numbers in the dictionary. unbounded: the dual, so that no β is feasible.
enum class SimplexStatus { optimal, unbounded, iteration_limit };

struct SimplexSettings {
  double tolerance = 1e-11;  // below it a value is not negative, a reduced cost or a pivot is zero
  std::size_t iterations_a_row = 10;  // cap, times the number of rows
};

// maximise costᵀβ over the simplex subject to A β ≥ lower, by the dual simplex method on a dense
// dictionary: basic variables as affine functions of the others, among β and s = A β − lower ≥ 0.
// It starts at the vertex of greatest cost, β = e_v, where z = c_v + Σ_{i≠v} (c_i − c_v) β_i is
// dual feasible, and ends at an optimal vertex after a few pivots of O(k m) each. What it says is
// to be certified by the caller: nothing here guards against rounding.
class DualSimplex {
 public:
  // A is [k × m] row-major with entries of order 1, as the cost; `vertex` is v.
  SimplexStatus solve(std::span<const double> cost, std::span<const double> rows,
                      std::span<const double> lower, std::size_t vertex,
                      const SimplexSettings& settings = {});

  // After `optimal`: β [m], and the multipliers y ≥ 0 of the rows [k], cᵀβ = max_i (c + Aᵀy)_i −
  // yᵀlower. After `unbounded`: y ≥ 0 with max_i (Aᵀy)_i < yᵀlower.
  std::span<const double> beta() const { return beta_; }
  std::span<const double> multipliers() const { return multipliers_; }

  // After any: the k + 1 basic variables, β_i as i and s_j as m + j.
  std::span<const std::size_t> basis() const { return std::span(basic_).subspan(1); }

 private:
  void start(std::span<const double> cost, std::span<const double> rows,
             std::span<const double> lower, std::size_t vertex);
  std::size_t leaving_row(double tolerance) const;
  std::size_t entering_column(std::size_t row, double tolerance) const;
  void pivot(std::size_t row, std::size_t column);
  void read_optimum();
  void read_ray(std::size_t row);
  double* row(std::size_t i) { return dictionary_.data() + i * width_; }
  const double* row(std::size_t i) const { return dictionary_.data() + i * width_; }

  std::size_t tasks_ = 0;
  std::size_t width_ = 0;                  // m: the constant and the m − 1 variables that are zero
  std::size_t height_ = 0;                 // k + 2: the objective and the k + 1 basic variables
  std::vector<double> dictionary_;         // [height × width], row 0 the objective
  std::vector<double> weights_;            // [height], 1 + ‖row‖²: dual steepest edge
  std::vector<std::size_t> basic_, zero_;  // β_i is variable i, s_j is m + j; [height], [width]
  std::vector<double> beta_, multipliers_;
};

}  // namespace pyfront
