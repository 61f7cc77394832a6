#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pyfront {

// The corral of Wolfe's method: affinely independent vertices x_0 … x_{k−1}, their weights, and the
// inverse Cholesky factor R of the Gramian of differences from the base vertex x_0,
//   D_ij = (x_i − x_0)ᵀ(x_j − x_0) = C_ij − C_i0 − C_j0 + C_00,   i, j ≥ 1,   RᵀR = D⁻¹.
// D is positive definite exactly when the corral is affinely independent, wherever the origin lies;
// a base of small norm keeps the differences free of cancellation on badly scaled C. Products with
// R have no chain of dependent operations, which solving with a factor of D would have.
class Corral {
 public:
  explicit Corral(std::size_t capacity);

  // Empties the corral; `gramian` is column-major with `stride` doubles a column.
  void reset(const double* gramian, std::size_t stride);

  std::size_t size() const { return size_; }
  std::size_t vertex(std::size_t position) const { return vertices_[position]; }
  double weight(std::size_t position) const { return weights_[position]; }
  bool contains(std::size_t vertex) const;

  // Returns false if the vertex lies, to rounding, in the affine hull of the others. It is appended
  // all the same: it may replace one of them.
  bool append(std::size_t vertex, double weight);
  void drop_last() { --size_; }

  // δ with Σδ = 0 that cancels the slopes s of the objective: D δ = −(s − s_0).
  void newton(std::span<const double> slopes, std::span<double> direction);

  // Drops vertices of weight 0 that `direction` would make negative. Returns whether there were
  // any.
  bool prune(std::span<const double> direction);

  // Gives the base what the other weights leave of 1.
  void balance();

  // Moves by the longest t ≤ 1 that keeps the weights ≥ 0 and drops the vertices that reach 0.
  // Returns whether t = 1.
  bool step(std::span<const double> direction);

 private:
  double entry(std::size_t i, std::size_t j) const { return gramian_[i * stride_ + j]; }
  double* row(std::size_t i) { return inverse_.data() + i * row_stride_; }
  const double* row(std::size_t i) const { return inverse_.data() + i * row_stride_; }
  void swap(std::size_t i, std::size_t j);
  bool add_row(std::size_t position);
  void factor();
  void remove(std::size_t position);
  void remove_base();

  double noise_;  // pivots below noise_ (C_jj + C_00) are rounding
  std::size_t row_stride_;
  std::size_t size_ = 0;
  std::size_t stride_ = 0;
  const double* gramian_ = nullptr;
  std::vector<std::size_t> vertices_;
  std::vector<double> weights_;
  std::vector<double> inverse_;  // R by rows; row and column i belong to position i, 0 is unused
  std::vector<double> differences_;
  std::vector<double> product_;
};

}  // namespace pyfront
