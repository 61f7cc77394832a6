#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "common/exact_sum.hpp"
#include "common/status.hpp"
#include "common/team.hpp"
#include "solvers/corral.hpp"

namespace pyfront {

// How far w is from the optimum, and how far rounding lets anyone see.
struct Certificate {
  double gap = 0.0;      // Σ_i w_i (s_i − min_j s_j), s = Cw + c
  double allowed = 0.0;  // the stop rule's right-hand side
  double noise = 0.0;    // rounding of the gap
  double norm = 0.0;     // S = Σ_i w_i √C_ii
  double level = 0.0;    // λ = wᵀs
  double linear = 0.0;   // Σ_i w_i |c_i|
};

// ½ wᵀCw + cᵀw at the point of a corral, C and c scaled by a power of two so that nothing rounds:
// the slopes s = Cw + c and what they say about w.
template <class Team>
class SimplexObjective {
 public:
  using Index = typename Team::Index;

  // Doubles of memory for m tasks.
  PYFRONT_HOST_DEVICE static constexpr Index memory(Index tasks) {
    return tasks * stride_of(tasks) + 2 * stride_of(tasks) + tasks;
  }

  // `memory` must be zeros.
  PYFRONT_HOST_DEVICE SimplexObjective(Team team, Index tasks, double* memory)
      : team_(team),
        tasks_(tasks),
        stride_(stride_of(tasks)),
        gramian_(memory),
        linear_(gramian_ + tasks * stride_),
        slopes_(linear_ + stride_),
        norms_(slopes_ + stride_) {}

  PYFRONT_HOST_DEVICE const double* gramian() const { return gramian_; }  // by columns
  PYFRONT_HOST_DEVICE Index stride() const { return stride_; }
  PYFRONT_HOST_DEVICE double entry(Index i, Index j) const { return gramian_[i * stride_ + j]; }
  PYFRONT_HOST_DEVICE double linear(Index i) const { return linear_[i]; }
  PYFRONT_HOST_DEVICE double slope(Index i) const { return slopes_[i]; }
  PYFRONT_HOST_DEVICE double norm(Index i) const { return norms_[i]; }  // √C_ii
  PYFRONT_HOST_DEVICE double scale() const { return scale_; }
  PYFRONT_HOST_DEVICE bool homogeneous() const { return homogeneous_; }  // c = 0

  // Scales to a largest entry of about 1. `stationary`: C and c are zero; `nonfinite`; and
  // `out_of_range`: c = 0 and the smallest C_ii is positive and below 1e-200 of the largest.
  PYFRONT_HOST_DEVICE_CALL Status load(const double* gramian, const double* linear) {
    double largest = 0.0;
    double poison = 0.0;  // NaN as soon as one entry is not finite
    for (Index i = 0; i < tasks_; ++i) largest = larger(largest, gramian[i * tasks_ + i]);
    double shortest = largest;
    for (Index i = 0; i < tasks_; ++i) shortest = smaller(shortest, gramian[i * tasks_ + i]);
    homogeneous_ = true;
    for (Index i = 0; linear != nullptr && i < tasks_; ++i) {
      homogeneous_ = homogeneous_ && linear[i] == 0.0;
      largest = larger(largest, std::fabs(linear[i]));
      poison += 0.0 * linear[i];
    }
    for (Index j = team_.rank(); j < tasks_; j += team_.size()) {
      double row = 0.0;  // of its own, so that the rows' sums run side by side
      for (Index i = 0; i < tasks_; ++i) row += 0.0 * gramian[j * tasks_ + i];
      poison += row;
    }
    if (team_.any(poison != 0.0)) return Status::nonfinite;
    if (largest == 0.0) return Status::stationary;

    const int exponent = smaller(larger(std::ilogb(largest), -1022), 1022);
    scale_ = std::ldexp(1.0, -exponent);
    team_.sync();
    for (Index j = 0; j < tasks_; ++j) {
      for (Index i = team_.rank(); i < tasks_; i += team_.size()) {
        gramian_[j * stride_ + i] = scale_ * gramian[j * tasks_ + i];
      }
    }
    team_.sync();
    for (Index i = team_.rank(); i < tasks_; i += team_.size()) {
      norms_[i] = std::sqrt(larger(gramian_[i * stride_ + i], 0.0));
      linear_[i] = linear == nullptr ? 0.0 : scale_ * linear[i];
    }
    team_.sync();
    largest_norm_ = 0.0;
    for (Index j = 0; j < tasks_; ++j) largest_norm_ = larger(largest_norm_, norms_[j]);
    const bool wide = homogeneous_ && shortest > 0.0 && scale_ * shortest < least_square;
    return wide ? Status::out_of_range : Status::ok;
  }

  // s = Cw + c.
  PYFRONT_HOST_DEVICE void take_slopes(const Corral<Team>& corral) {
    constexpr Index block = Team::block;
    team_.sync();
    for (Index first = team_.rank() * block; first < stride_; first += team_.size() * block) {
      double sum[block];
      for (Index i = 0; i < block; ++i) sum[i] = linear_[first + i];
      for (Index position = 0; position < corral.size(); ++position) {
        const double weight = corral.weight(position);
        const double* const column = gramian_ + corral.vertex(position) * stride_ + first;
        for (Index i = 0; i < block; ++i) sum[i] += weight * column[i];
      }
      for (Index i = 0; i < block; ++i) slopes_[first + i] = sum[i];
    }
    team_.sync();
  }

  // s = Cw + c as if in twice the precision, for vertices so much longer than the corral's point
  // that the rounding of s_j hides the sign of their violation.
  PYFRONT_HOST_DEVICE_CALL void take_exact_slopes(const Corral<Team>& corral) {
    team_.sync();
    for (Index j = team_.rank(); j < tasks_; j += team_.size()) {
      const double* const row = gramian_ + j * stride_;
      double sum = linear_[j];
      double error = 0.0;
      for (Index position = 0; position < corral.size(); ++position) {
        accumulate_exactly(corral.weight(position), row[corral.vertex(position)], sum, error);
      }
      slopes_[j] = sum + error;
    }
    team_.sync();
  }

  // products_p = (Cδ)_p on the corral as if in twice the precision, plus `shift` unless it is null.
  PYFRONT_HOST_DEVICE_CALL void multiply(const Corral<Team>& corral, const double* direction,
                                         const double* shift, double* products) const {
    team_.sync();
    for (Index p = team_.rank(); p < corral.size(); p += team_.size()) {
      const double* const row = gramian_ + corral.vertex(p) * stride_;
      double sum = shift == nullptr ? 0.0 : shift[p];
      double error = 0.0;
      for (Index q = 0; q < corral.size(); ++q) {
        accumulate_exactly(direction[q], row[corral.vertex(q)], sum, error);
      }
      products[p] = sum + error;
    }
    team_.sync();
  }

  PYFRONT_HOST_DEVICE Certificate certify(const Corral<Team>& corral, double relative_gap,
                                          bool compensated) const {
    Certificate certificate;
    double smallest = slopes_[0];
    for (Index j = 1; j < tasks_; ++j) smallest = smaller(smallest, slopes_[j]);
    double objective = 0.0;  // wᵀCw + 2 cᵀw
    for (Index position = 0; position < corral.size(); ++position) {
      const auto i = corral.vertex(position);
      const double weight = corral.weight(position);
      certificate.gap += weight * (slopes_[i] - smallest);
      certificate.norm += weight * norms_[i];
      certificate.level += weight * slopes_[i];
      certificate.linear += weight * std::fabs(linear_[i]);
      objective += weight * (slopes_[i] + linear_[i]);
    }
    const double tasks = static_cast<double>(tasks_);
    const double floor =
        4 * unit_roundoff * tasks * (certificate.norm * certificate.norm + certificate.linear);
    certificate.allowed = relative_gap * std::fabs(objective) + floor;
    certificate.noise = compensated ? 2 * unit_roundoff * std::fabs(certificate.level)
                                    : unit_roundoff * tasks *
                                          (certificate.norm * largest_norm_ + certificate.linear);
    return certificate;
  }

  // Rounding of s_i is m u times this.
  PYFRONT_HOST_DEVICE double unit(const Certificate& certificate, Index i) const {
    return certificate.norm * norms_[i] + certificate.linear + std::fabs(linear_[i]);
  }

 private:
  static constexpr std::int64_t column_pad = 8;  // columns of C are padded with zeros to this
  // Of C_ii beside the largest: products of weights and slopes stay clear of the smallest double.
  static constexpr double least_square = 1e-200;

  PYFRONT_HOST_DEVICE static constexpr Index stride_of(Index tasks) {
    constexpr Index pad = column_pad;
    return (tasks + pad - 1) / pad * pad;
  }

  Team team_;
  Index tasks_;
  Index stride_;     // tasks_ rounded up to whole blocks: padding is zero
  double* gramian_;  // C, scaled, by columns
  double* linear_;   // c, scaled
  double* slopes_;   // Cw + c
  double* norms_;    // √C_ii
  double largest_norm_ = 0.0;
  double scale_ = 1.0;
  bool homogeneous_ = true;
};

}  // namespace pyfront
