#pragma once

#include <cmath>
#include <cstdint>

#include "common/team.hpp"

namespace pyfront {

inline constexpr std::int64_t dot_lanes = 4;  // independent partial sums of an inner product

// Rows of R are padded with zeros to whole lanes.
template <class Index>
PYFRONT_HOST_DEVICE constexpr Index padded(Index count) {
  constexpr Index lanes = dot_lanes;
  return (count + lanes - 1) / lanes * lanes;
}

// The corral of Wolfe's method: affinely independent vertices x_0 … x_{k−1}, their weights, and the
// inverse Cholesky factor R of the Gramian of differences from the base vertex x_0,
//   D_ij = (x_i − x_0)ᵀ(x_j − x_0) = C_ij − C_i0 − C_j0 + C_00,   i, j ≥ 1,   RᵀR = D⁻¹.
// D is positive definite exactly when the corral is affinely independent, wherever the origin lies;
// a base of small norm keeps the differences free of cancellation on badly scaled C. Products with
// R have no chain of dependent operations, which solving with a factor of D would have.
template <class Team>
class Corral {
 public:
  using Index = typename Team::Index;

  // Doubles of memory for `capacity` vertices.
  PYFRONT_HOST_DEVICE static constexpr Index memory(Index capacity) {
    return capacity + (capacity + 3) * padded(capacity);
  }

  // `memory` must be zeros; `vertices` [capacity] may hold anything.
  PYFRONT_HOST_DEVICE Corral(Team team, Index capacity, double* memory, std::int64_t* vertices)
      : team_(team),
        noise_(4 * unit_roundoff * static_cast<double>(capacity)),
        row_stride_(padded(capacity)),
        weights_(memory),
        inverse_(weights_ + capacity),
        differences_(inverse_ + capacity * row_stride_),
        product_(differences_ + row_stride_),
        dots_(product_ + row_stride_),
        vertices_(vertices) {}

  // Empties the corral; `gramian` is column-major with `stride` doubles a column.
  PYFRONT_HOST_DEVICE void reset(const double* gramian, Index stride) {
    gramian_ = gramian;
    stride_ = stride;
    size_ = 0;
  }

  PYFRONT_HOST_DEVICE Index size() const { return size_; }
  PYFRONT_HOST_DEVICE Index vertex(Index position) const {
    return static_cast<Index>(vertices_[position]);
  }
  PYFRONT_HOST_DEVICE double weight(Index position) const { return weights_[position]; }
  PYFRONT_HOST_DEVICE bool contains(Index vertex) const {
    for (Index position = 0; position < size_; ++position) {
      if (vertices_[position] == vertex) return true;
    }
    return false;
  }

  // Returns false if the vertex lies, to rounding, in the affine hull of the others. It is appended
  // all the same: it may replace one of them.
  PYFRONT_HOST_DEVICE_CALL bool append(Index vertex, double weight) {
    team_.sync();
    if (team_.rank() == 0) {
      vertices_[size_] = vertex;
      weights_[size_] = weight;
    }
    team_.sync();
    ++size_;
    fresh_ = false;
    const auto base = this->vertex(0);
    if (entry(vertex, vertex) < 0.25 * entry(base, base)) {
      swap(0, size_ - 1);
      factor();
      return true;
    }
    return size_ == 1 || add_row(size_ - 1);
  }

  PYFRONT_HOST_DEVICE void drop_last() { --size_; }

  // Whether R was made by refactor() from the vertices that are in the corral now.
  PYFRONT_HOST_DEVICE bool fresh() const { return fresh_; }

  // Factors D anew, the vertex farthest from the affine hull of those before it next: the backward
  // error is then u times the largest entry of D, and pivots that are rounding come last.
  PYFRONT_HOST_DEVICE_CALL void refactor() {
    swap(0, shortest());
    double* const distances = product_;  // squared, from the hull of the positions that are done
    for (Index i = 1 + team_.rank(); i < size_; i += team_.size()) {
      distances[i] = difference(vertex(i), vertex(i));
    }
    team_.sync();
    for (Index position = 1; position < size_; ++position) {
      Index farthest = position;
      for (Index i = position + 1; i < size_; ++i) {
        if (distances[i] > distances[farthest]) farthest = i;
      }
      swap(position, farthest);
      if (team_.rank() == 0) distances[farthest] = distances[position];
      add_row(position);
      for (Index i = position + 1 + team_.rank(); i < size_; i += team_.size()) {
        double y = 0.0;
        for (Index k = 1; k <= position; ++k) {
          y += row(position)[k] * difference(vertex(i), vertex(k));
        }
        distances[i] -= y * y;
      }
      team_.sync();
    }
    fresh_ = true;
  }

  // δ with Σδ = 0 that cancels the slopes s of the objective: D δ = −(s − s_0).
  PYFRONT_HOST_DEVICE_CALL void newton(const double* slopes, double* direction) {
    team_.sync();
    for (Index i = 1 + team_.rank(); i < size_; i += team_.size()) {
      differences_[i] = slopes[0] - slopes[i];
    }
    for (Index i = team_.rank(); i < padded(size_); i += team_.size()) product_[i] = 0.0;
    take_dots(size_);
    for (Index i = 1; i < size_; ++i) add(product_, row(i), dots_[i], padded(i + 1));
    team_.sync();
    double sum = 0.0;
    for (Index i = 1; i < size_; ++i) sum += product_[i];
    for (Index i = team_.rank(); i < size_; i += team_.size()) {
      direction[i] = i == 0 ? -sum : product_[i];
    }
    team_.sync();
  }

  // Drops vertices of weight 0 that `direction` would make negative. Returns whether there were
  // any.
  PYFRONT_HOST_DEVICE bool prune(const double* direction) {
    const auto before = size_;
    for (Index i = size_ - 1; i > 0; --i) {
      if (weights_[i] == 0.0 && direction[i] <= 0.0) remove(i);
    }
    if (weights_[0] == 0.0 && direction[0] <= 0.0 && size_ > 1) remove_base();
    return size_ < before;
  }

  // Gives the base what the other weights leave of 1. As the vertex of smallest norm it takes the
  // rounding of Σw = 1: that moves Cw least.
  PYFRONT_HOST_DEVICE void balance() {
    double others = 0.0;
    for (Index i = 1; i < size_; ++i) others += weights_[i];
    team_.sync();
    if (team_.rank() == 0) weights_[0] = larger(1.0 - others, 0.0);
    team_.sync();
  }

  // Moves by the longest t ≤ `length` that keeps the weights ≥ 0 and drops the vertices that reach
  // 0. Returns whether t = `length`.
  PYFRONT_HOST_DEVICE_CALL bool step(const double* direction, double length) {
    Index blocking = size_;
    for (Index i = 0; i < size_; ++i) {
      if (weights_[i] < -length * direction[i]) {
        length = -weights_[i] / direction[i];
        blocking = i;
      }
    }
    const bool full = blocking == size_;
    team_.sync();
    for (Index i = team_.rank(); i < size_; i += team_.size()) {
      const double moved = weights_[i] + length * direction[i];
      const bool zero = i == blocking || moved <= cancellation * weights_[i];
      weights_[i] = zero ? 0.0 : moved;
    }
    team_.sync();
    for (Index i = size_ - 1; i > 0; --i) {
      if (weights_[i] == 0.0) remove(i);
    }
    if (weights_[0] == 0.0 && size_ > 1) remove_base();
    balance();
    return full;
  }

 private:
  // A weight that falls to this fraction of itself is zero up to rounding.
  static constexpr double cancellation = 128 * unit_roundoff;
  // Keeps 1/pivot finite where two vertices are both zero.
  static constexpr double smallest_pivot = 0x1p-968;

  PYFRONT_HOST_DEVICE double entry(Index i, Index j) const { return gramian_[i * stride_ + j]; }
  // (x_i − x_b)ᵀ(x_j − x_b), x_b the base vertex
  PYFRONT_HOST_DEVICE double difference(Index i, Index j) const {
    const Index base = vertex(0);
    return (entry(i, j) - entry(i, base)) - (entry(j, base) - entry(base, base));
  }
  PYFRONT_HOST_DEVICE double* row(Index i) { return inverse_ + i * row_stride_; }
  PYFRONT_HOST_DEVICE const double* row(Index i) const { return inverse_ + i * row_stride_; }

  // y ← y + a x, over whole lanes
  PYFRONT_HOST_DEVICE void add(double* y, const double* x, double a, Index count) const {
    for (Index i = team_.rank() * Team::chunk; i < count; i += team_.size() * Team::chunk) {
      for (Index k = 0; k < Team::chunk; ++k) y[i + k] += a * x[i + k];
    }
  }

  PYFRONT_HOST_DEVICE static double dot(const double* x, const double* y, Index count) {
    double sum[dot_lanes] = {};
    for (Index i = 0; i < count; i += dot_lanes) {
      for (Index lane = 0; lane < dot_lanes; ++lane) sum[lane] += x[i + lane] * y[i + lane];
    }
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
  }

  // The products of the rows of R before `end` with the differences.
  PYFRONT_HOST_DEVICE void take_dots(Index end) {
    team_.sync();
    for (Index i = 1 + team_.rank(); i < end; i += team_.size()) {
      dots_[i] = dot(row(i), differences_, padded(i + 1));
    }
    team_.sync();
  }

  PYFRONT_HOST_DEVICE void swap(Index i, Index j) {
    team_.sync();
    if (team_.rank() == 0) {
      const auto vertex = vertices_[i];
      const auto weight = weights_[i];
      vertices_[i] = vertices_[j];
      weights_[i] = weights_[j];
      vertices_[j] = vertex;
      weights_[j] = weight;
    }
    team_.sync();
  }

  PYFRONT_HOST_DEVICE void factor() {
    for (Index position = 1; position < size_; ++position) add_row(position);
  }

  // With y = R D_{·j} over the rows before, the pivot is ρ = D_jj − yᵀy and the new row of R is
  // (−yᵀR, 1) / √ρ. A vertex within rounding of the others' affine hull gets the noise as its pivot
  // (a negative pivot shows how much there is). The model then overestimates the curvature, so a
  // step still descends, and a slope above rounding makes it long enough to drop a vertex.
  PYFRONT_HOST_DEVICE_CALL bool add_row(Index position) {
    const double* const base = gramian_ + vertices_[0] * stride_;
    const auto added = vertices_[position];
    const double* const column = gramian_ + added * stride_;
    const double shift = column[vertices_[0]] - base[vertices_[0]];
    double* const fresh = row(position);
    team_.sync();
    for (Index i = 1 + team_.rank(); i < position; i += team_.size()) {
      differences_[i] = (column[vertices_[i]] - base[vertices_[i]]) - shift;
    }
    for (Index i = team_.rank(); i < row_stride_; i += team_.size()) fresh[i] = 0.0;
    take_dots(position);
    double pivot = (column[added] - base[added]) - shift;
    for (Index i = 1; i < position; ++i) {
      add(fresh, row(i), -dots_[i], padded(i + 1));
      pivot -= dots_[i] * dots_[i];
    }
    const double noise = noise_ * (column[added] + base[vertices_[0]]);
    const double inverse = 1.0 / std::sqrt(larger(larger(std::fabs(pivot), noise), smallest_pivot));
    team_.sync();
    for (Index i = 1 + team_.rank(); i <= position; i += team_.size()) {
      fresh[i] = i == position ? inverse : fresh[i] * inverse;
    }
    team_.sync();
    return pivot > noise;
  }

  // values[first + k] ← values[first + k + 1] up to values[last]
  template <class T>
  PYFRONT_HOST_DEVICE void shift_left(T* values, Index first, Index last) const {
    for (Index start = first; start < last; start += team_.size()) {
      const auto i = start + team_.rank();
      const T next = i < last ? values[i + 1] : T{};
      team_.sync();
      if (i < last) values[i] = next;
      team_.sync();
    }
  }

  // Rotations of neighbouring rows collect column r of R in the last row, which then goes with it:
  // what is left is the inverse factor of D without row and column r.
  PYFRONT_HOST_DEVICE_CALL void remove(Index position) {
    for (Index i = position; i + 1 < size_; ++i) {
      double* const upper = row(i);
      double* const lower = row(i + 1);
      const double length =
          std::sqrt(upper[position] * upper[position] + lower[position] * lower[position]);
      const double cosine = lower[position] / length;
      const double sine = upper[position] / length;
      team_.sync();
      for (Index j = team_.rank(); j < padded(i + 2); j += team_.size()) {
        const double rotated = cosine * upper[j] - sine * lower[j];
        lower[j] = sine * upper[j] + cosine * lower[j];
        upper[j] = rotated;
      }
      team_.sync();
      shift_left(upper, position, i + 1);
      if (team_.rank() == 0) upper[i + 1] = 0.0;
      team_.sync();
    }
    fresh_ = false;
    team_.sync();
    shift_left(vertices_, position, size_ - 1);
    shift_left(weights_, position, size_ - 1);
    --size_;
  }

  PYFRONT_HOST_DEVICE_CALL void remove_base() {
    fresh_ = false;
    swap(0, size_ - 1);
    --size_;
    swap(0, shortest());
    factor();
  }

  // The position of the vertex of smallest norm.
  PYFRONT_HOST_DEVICE Index shortest() const {
    Index best = 0;
    for (Index i = 1; i < size_; ++i) {
      if (entry(vertex(i), vertex(i)) < entry(vertex(best), vertex(best))) best = i;
    }
    return best;
  }

  Team team_;
  double noise_;  // pivots below noise_ (C_jj + C_00) are rounding
  Index row_stride_;
  Index size_ = 0;
  bool fresh_ = false;
  Index stride_ = 0;
  const double* gramian_ = nullptr;
  double* weights_;
  double* inverse_;  // R by rows; row and column i belong to position i, 0 is unused
  double* differences_;
  double* product_;
  double* dots_;
  std::int64_t* vertices_;
};

}  // namespace pyfront
