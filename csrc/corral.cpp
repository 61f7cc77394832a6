#include "corral.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace pyfront {
namespace {

constexpr double unit_roundoff = std::numeric_limits<double>::epsilon() / 2;
// A weight that falls to this fraction of itself is zero up to rounding.
constexpr double cancellation = 128 * unit_roundoff;
// Keeps 1/pivot finite where two vertices are both zero.
constexpr double smallest_pivot = 0x1p-968;

constexpr std::size_t lanes =
    4;  // independent partial sums; rows are padded with zeros to whole lanes

std::size_t padded(std::size_t count) { return (count + lanes - 1) / lanes * lanes; }

// y ← y + a x, over whole lanes
void add(double* y, const double* x, double a, std::size_t count) {
  for (std::size_t i = 0; i < count; i += lanes) {
    for (std::size_t lane = 0; lane < lanes; ++lane) y[i + lane] += a * x[i + lane];
  }
}

double dot(const double* x, const double* y, std::size_t count) {
  double sum[lanes] = {};
  for (std::size_t i = 0; i < count; i += lanes) {
    for (std::size_t lane = 0; lane < lanes; ++lane) sum[lane] += x[i + lane] * y[i + lane];
  }
  return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

}  // namespace

Corral::Corral(std::size_t capacity)
    : noise_(4 * unit_roundoff * static_cast<double>(capacity)),
      row_stride_(padded(capacity)),
      vertices_(capacity),
      weights_(capacity),
      inverse_(capacity * row_stride_),
      differences_(row_stride_),
      product_(row_stride_) {}

void Corral::reset(const double* gramian, std::size_t stride) {
  gramian_ = gramian;
  stride_ = stride;
  size_ = 0;
}

bool Corral::contains(std::size_t vertex) const {
  const auto end = vertices_.begin() + static_cast<std::ptrdiff_t>(size_);
  return std::find(vertices_.begin(), end, vertex) != end;
}

void Corral::swap(std::size_t i, std::size_t j) {
  std::swap(vertices_[i], vertices_[j]);
  std::swap(weights_[i], weights_[j]);
}

bool Corral::append(std::size_t vertex, double weight) {
  vertices_[size_] = vertex;
  weights_[size_] = weight;
  ++size_;
  const auto base = vertices_[0];
  if (entry(vertex, vertex) < 0.25 * entry(base, base)) {
    swap(0, size_ - 1);
    factor();
    return true;
  }
  return size_ == 1 || add_row(size_ - 1);
}

void Corral::factor() {
  for (std::size_t position = 1; position < size_; ++position) add_row(position);
}

// With y = R D_{·j} over the rows before, the pivot is ρ = D_jj − yᵀy and the new row of R is
// (−yᵀR, 1) / √ρ. A vertex within rounding of the others' affine hull gets the noise as its pivot
// (a negative pivot shows how much there is). The model then overestimates the curvature, so a step
// still descends, and a slope above rounding makes it long enough to drop a vertex.
bool Corral::add_row(std::size_t position) {
  const auto* const base = gramian_ + vertices_[0] * stride_;
  const auto added = vertices_[position];
  const auto* const column = gramian_ + added * stride_;
  const double shift = column[vertices_[0]] - base[vertices_[0]];
  for (std::size_t i = 1; i < position; ++i) {
    differences_[i] = (column[vertices_[i]] - base[vertices_[i]]) - shift;
  }
  double* const fresh = row(position);
  std::fill_n(fresh, row_stride_, 0.0);
  double pivot = (column[added] - base[added]) - shift;
  for (std::size_t i = 1; i < position; ++i) {
    const auto count = padded(i + 1);
    const double y = dot(row(i), differences_.data(), count);
    add(fresh, row(i), -y, count);
    pivot -= y * y;
  }
  const double noise = noise_ * (column[added] + base[vertices_[0]]);
  const double inverse = 1.0 / std::sqrt(std::max({std::abs(pivot), noise, smallest_pivot}));
  fresh[position] = 1.0;
  for (std::size_t i = 1; i <= position; ++i) fresh[i] *= inverse;
  return pivot > noise;
}

void Corral::newton(std::span<const double> slopes, std::span<double> direction) {
  for (std::size_t i = 1; i < size_; ++i) differences_[i] = slopes[0] - slopes[i];
  std::fill_n(product_.begin(), padded(size_), 0.0);
  for (std::size_t i = 1; i < size_; ++i) {
    const auto count = padded(i + 1);
    add(product_.data(), row(i), dot(row(i), differences_.data(), count), count);
  }
  double sum = 0.0;
  for (std::size_t i = 1; i < size_; ++i) {
    direction[i] = product_[i];
    sum += product_[i];
  }
  direction[0] = -sum;
}

bool Corral::prune(std::span<const double> direction) {
  const auto before = size_;
  for (std::size_t i = size_ - 1; i > 0; --i) {
    if (weights_[i] == 0.0 && direction[i] <= 0.0) remove(i);
  }
  if (weights_[0] == 0.0 && direction[0] <= 0.0 && size_ > 1) remove_base();
  return size_ < before;
}

bool Corral::step(std::span<const double> direction) {
  double length = 1.0;
  std::size_t blocking = size_;
  for (std::size_t i = 0; i < size_; ++i) {
    if (weights_[i] < -length * direction[i]) {
      length = -weights_[i] / direction[i];
      blocking = i;
    }
  }
  const bool full = blocking == size_;
  for (std::size_t i = 0; i < size_; ++i) {
    const double moved = weights_[i] + length * direction[i];
    const bool zero = i == blocking || moved <= cancellation * weights_[i];
    weights_[i] = zero ? 0.0 : moved;
  }
  for (std::size_t i = size_ - 1; i > 0; --i) {
    if (weights_[i] == 0.0) remove(i);
  }
  if (weights_[0] == 0.0 && size_ > 1) remove_base();
  balance();
  return full;
}

// The vertex of smallest norm takes the rounding of Σw = 1: it moves Cw least.
void Corral::balance() {
  double others = 0.0;
  for (std::size_t i = 1; i < size_; ++i) others += weights_[i];
  weights_[0] = std::max(1.0 - others, 0.0);
}

// Rotations of neighbouring rows collect column r of R in the last row, which then goes with it:
// what is left is the inverse factor of D without row and column r.
void Corral::remove(std::size_t position) {
  for (std::size_t i = position; i + 1 < size_; ++i) {
    double* const upper = row(i);
    double* const lower = row(i + 1);
    const double length =
        std::sqrt(upper[position] * upper[position] + lower[position] * lower[position]);
    const double cosine = lower[position] / length;
    const double sine = upper[position] / length;
    for (std::size_t j = 0; j < padded(i + 2); ++j) {
      const double rotated = cosine * upper[j] - sine * lower[j];
      lower[j] = sine * upper[j] + cosine * lower[j];
      upper[j] = rotated;
    }
    std::copy(upper + position + 1, upper + i + 2, upper + position);
    upper[i + 1] = 0.0;
  }
  const auto shift = [&](auto& values) {
    const auto first = values.begin() + static_cast<std::ptrdiff_t>(position);
    std::copy(first + 1, values.begin() + static_cast<std::ptrdiff_t>(size_), first);
  };
  shift(vertices_);
  shift(weights_);
  --size_;
}

void Corral::remove_base() {
  swap(0, size_ - 1);
  --size_;
  std::size_t smallest = 0;
  for (std::size_t i = 1; i < size_; ++i) {
    const auto candidate = vertices_[i];
    const auto best = vertices_[smallest];
    if (entry(candidate, candidate) < entry(best, best)) smallest = i;
  }
  swap(0, smallest);
  factor();
}

}  // namespace pyfront
