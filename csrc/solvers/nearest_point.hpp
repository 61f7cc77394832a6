#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "common/exact_sum.hpp"
#include "common/status.hpp"
#include "common/team.hpp"
#include "solvers/corral.hpp"

namespace pyfront {

struct MinNormSettings {
  double relative_gap = 1e-12;      // stop at gap ≤ relative_gap · wᵀCw + rounding floor
  std::int64_t max_iterations = 0;  // 0: a cap that grows with m and is never met by a sound input
};

struct MinNormResult {
  Status status = Status::ok;
  double gap = 0.0;  // wᵀ(Cw + c) − min_j (Cw + c)_j ≥ 0: zero exactly at the optimum
  std::int64_t iterations = 0;
};

// minimise ½ wᵀCw + cᵀw over the simplex {w ≥ 0, Σw = 1}, C [m × m] symmetric positive
// semidefinite, by Wolfe's method: one algorithm for the CPU and the GPU, in memory of its caller.
template <class Team>
class NearestPoint {
 public:
  using Index = typename Team::Index;

  static constexpr std::int64_t column_pad = 8;  // columns of C are padded with zeros to this

  // Doubles of memory for m tasks, and vertices.
  PYFRONT_HOST_DEVICE static constexpr Index memory(Index tasks) {
    return tasks * stride_of(tasks) + 2 * stride_of(tasks) + 3 * tasks +
           Corral<Team>::memory(tasks);
  }

  // `memory` must be zeros; `vertices` [m] may hold anything.
  PYFRONT_HOST_DEVICE NearestPoint(Team team, Index tasks, double* memory, std::int64_t* vertices)
      : team_(team),
        tasks_(tasks),
        stride_(stride_of(tasks)),
        gramian_(memory),
        linear_(gramian_ + tasks * stride_),
        slopes_(linear_ + stride_),
        norms_(slopes_ + stride_),
        targets_(norms_ + tasks),
        direction_(targets_ + tasks),
        corral_(team, tasks, direction_ + tasks, vertices) {}

  // `gramian` is C, row-major; `linear` is c, null for c = 0. `weights` receives w; with
  // `warm_start` it also holds the starting point, at least one entry of it positive and all
  // finite. NaN or infinity in C or c: status `nonfinite`, NaN weights.
  PYFRONT_HOST_DEVICE MinNormResult solve(const double* gramian, const double* linear,
                                          double* weights, const MinNormSettings& settings,
                                          bool warm_start) {
    MinNormResult result;
    const double scale = load(gramian, linear);
    if (!(scale > 0.0)) {
      const bool nonfinite = scale != 0.0;
      if (nonfinite) result.gap = scale;
      result.status = nonfinite           ? Status::nonfinite
                      : linear == nullptr ? Status::stationary
                                          : Status::ok;
      fill(weights, nonfinite ? scale : 1.0 / static_cast<double>(tasks_));
      return result;
    }
    start(weights, warm_start);
    result = iterate(settings);
    result.gap /= scale;
    fill(weights, 0.0);
    for (Index position = team_.rank(); position < corral_.size(); position += team_.size()) {
      weights[corral_.vertex(position)] = corral_.weight(position);
    }
    team_.sync();
    return result;
  }

 private:
  // How far w is from the optimum, and how far rounding lets anyone see.
  struct Certificate {
    double gap = 0.0;      // Σ_i w_i (s_i − min_j s_j), s = Cw + c
    double allowed = 0.0;  // the stop rule's right-hand side
    double noise = 0.0;    // rounding of s where it is not compensated
    double norm = 0.0;     // S = Σ_i w_i √C_ii
    double level = 0.0;    // λ = wᵀs
    double linear = 0.0;   // Σ_i w_i |c_i|
  };

  // Vertices that violate at least this fraction of the worst violation enter together: one factor
  // for all of them instead of one iteration for each.
  static constexpr double batch_fraction = 1.0 / 3.0;

  PYFRONT_HOST_DEVICE static constexpr Index stride_of(Index tasks) {
    constexpr Index pad = column_pad;
    return (tasks + pad - 1) / pad * pad;
  }

  PYFRONT_HOST_DEVICE void fill(double* values, double value) const {
    team_.sync();
    for (Index i = team_.rank(); i < tasks_; i += team_.size()) values[i] = value;
    team_.sync();
  }

  // Scales by a power of two, so that nothing rounds, to a largest entry of about 1. Returns that
  // power, 0 if C and c are zero, NaN if they are not finite.
  PYFRONT_HOST_DEVICE_CALL double load(const double* gramian, const double* linear) {
    double largest = 0.0;
    double poison = 0.0;  // NaN as soon as one entry is not finite
    for (Index i = 0; i < tasks_; ++i) largest = larger(largest, gramian[i * tasks_ + i]);
    for (Index i = 0; linear != nullptr && i < tasks_; ++i) {
      largest = larger(largest, std::fabs(linear[i]));
      poison += 0.0 * linear[i];
    }
    for (Index j = team_.rank(); j < tasks_; j += team_.size()) {
      double row = 0.0;  // of its own, so that the rows' sums run side by side
      for (Index i = 0; i < tasks_; ++i) row += 0.0 * gramian[j * tasks_ + i];
      poison += row;
    }
    if (team_.any(poison != 0.0)) return std::numeric_limits<double>::quiet_NaN();
    if (largest == 0.0) return 0.0;

    const int exponent = smaller(larger(std::ilogb(largest), -1022), 1022);
    const double scale = std::ldexp(1.0, -exponent);
    team_.sync();
    for (Index j = 0; j < tasks_; ++j) {
      for (Index i = team_.rank(); i < tasks_; i += team_.size()) {
        gramian_[j * stride_ + i] = scale * gramian[j * tasks_ + i];
      }
    }
    team_.sync();
    for (Index i = team_.rank(); i < tasks_; i += team_.size()) {
      norms_[i] = std::sqrt(larger(gramian_[i * stride_ + i], 0.0));
      linear_[i] = linear == nullptr ? 0.0 : scale * linear[i];
    }
    team_.sync();
    largest_norm_ = 0.0;
    for (Index j = 0; j < tasks_; ++j) largest_norm_ = larger(largest_norm_, norms_[j]);
    return scale;
  }

  // s = Cw + c.
  PYFRONT_HOST_DEVICE void slopes() {
    constexpr Index block = Team::block;
    team_.sync();
    for (Index first = team_.rank() * block; first < stride_; first += team_.size() * block) {
      double sum[block];
      for (Index i = 0; i < block; ++i) sum[i] = linear_[first + i];
      for (Index position = 0; position < corral_.size(); ++position) {
        const double weight = corral_.weight(position);
        const double* const column = gramian_ + corral_.vertex(position) * stride_ + first;
        for (Index i = 0; i < block; ++i) sum[i] += weight * column[i];
      }
      for (Index i = 0; i < block; ++i) slopes_[first + i] = sum[i];
    }
    team_.sync();
  }

  // s = Cw + c as if in twice the precision, for vertices so much longer than the corral's point
  // that the rounding of s_j hides the sign of their violation.
  PYFRONT_HOST_DEVICE_CALL void exact_slopes() {
    team_.sync();
    for (Index j = team_.rank(); j < tasks_; j += team_.size()) {
      const double* const row = gramian_ + j * stride_;
      double sum = linear_[j];
      double error = 0.0;
      for (Index position = 0; position < corral_.size(); ++position) {
        accumulate_exactly(corral_.weight(position), row[corral_.vertex(position)], sum, error);
      }
      slopes_[j] = sum + error;
    }
    team_.sync();
  }

  PYFRONT_HOST_DEVICE Certificate certify(double relative_gap) const {
    Certificate certificate;
    double smallest = slopes_[0];
    for (Index j = 1; j < tasks_; ++j) smallest = smaller(smallest, slopes_[j]);
    double objective = 0.0;  // wᵀCw + 2 cᵀw
    for (Index position = 0; position < corral_.size(); ++position) {
      const auto i = corral_.vertex(position);
      const double weight = corral_.weight(position);
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
    certificate.noise =
        unit_roundoff * tasks * (certificate.norm * largest_norm_ + certificate.linear);
    return certificate;
  }

  // Appends the vertices that violate s_j ≥ λ about as much as the worst does. Returns false if
  // none does beyond what the rounding of s_j explains.
  PYFRONT_HOST_DEVICE_CALL bool grow(const Certificate& certificate, bool compensated) {
    const double unit = compensated ? 0.0 : unit_roundoff * static_cast<double>(tasks_);
    const auto violation = [&](Index j) {
      const double noise =
          certificate.norm * norms_[j] + certificate.linear + std::fabs(linear_[j]);
      return certificate.level - slopes_[j] - unit * noise;
    };
    Index worst = 0;
    for (Index j = 1; j < tasks_; ++j) {
      if (violation(j) > violation(worst)) worst = j;
    }
    const double largest = violation(worst);
    if (largest <= 0.0) return false;
    if (corral_.contains(worst)) return true;  // refines the weights first
    corral_.append(worst, 0.0);
    for (Index j = 0; j < tasks_; ++j) {
      if (violation(j) < batch_fraction * largest || corral_.contains(j)) continue;
      if (!corral_.append(j, 0.0)) corral_.drop_last();
    }
    return true;
  }

  // m = 2: w_0 : w_1 = (C_11 − C_01 + c_1 − c_0) : (C_00 − C_01 + c_0 − c_1) where both are
  // positive, else the better vertex. Returns w_0.
  PYFRONT_HOST_DEVICE double pair_weight() const {
    const double cross = gramian_[1];
    const double first = (gramian_[stride_ + 1] - cross) + (linear_[1] - linear_[0]);
    const double second = (gramian_[0] - cross) + (linear_[0] - linear_[1]);
    if (first > 0.0 && second > 0.0) return first / (first + second);
    return first == second ? 0.5 : first > second ? 1.0 : 0.0;
  }

  PYFRONT_HOST_DEVICE void start(const double* weights, bool warm_start) {
    corral_.reset(gramian_, stride_);
    if (warm_start) return start_from(weights);
    if (tasks_ == 2) {
      const double first = pair_weight();
      if (first > 0.0) corral_.append(0, first);
      if (first < 1.0) corral_.append(1, 1.0 - first);
      return;
    }
    Index best = 0;
    const auto value = [&](Index j) { return 0.5 * gramian_[j * stride_ + j] + linear_[j]; };
    for (Index j = 1; j < tasks_; ++j) {
      if (value(j) < value(best)) best = j;
    }
    corral_.append(best, 1.0);
  }

  // The support of w, the vertex of smallest norm first. The weight of vertices that depend on the
  // others goes to that one.
  PYFRONT_HOST_DEVICE_CALL void start_from(const double* weights) {
    Index base = tasks_;
    double sum = 0.0;
    for (Index j = 0; j < tasks_; ++j) {
      if (!(weights[j] > 0.0)) continue;
      sum += weights[j];
      if (base == tasks_ || norms_[j] < norms_[base]) base = j;
    }
    corral_.append(base, weights[base] / sum);
    for (Index j = 0; j < tasks_; ++j) {
      if (j == base || !(weights[j] > 0.0)) continue;
      if (!corral_.append(j, weights[j] / sum)) corral_.drop_last();
    }
    corral_.balance();
  }

  // One step of Wolfe's method from the slopes at w: towards the minimiser over the corral's affine
  // hull. Returns whether it was reached; if not, a vertex has left the corral. Of the vertices
  // that have just entered, those that would leave the simplex at once go first; some descend,
  // since their slopes are below λ and all others are at it, so one always stays.
  PYFRONT_HOST_DEVICE bool correct(double slack) {
    do {
      team_.sync();
      for (Index position = team_.rank(); position < corral_.size(); position += team_.size()) {
        const auto i = corral_.vertex(position);
        targets_[position] = slopes_[i] - slack * norms_[i];
      }
      team_.sync();
      corral_.newton(targets_, direction_);
    } while (corral_.prune(direction_));
    return corral_.step(direction_);
  }

  PYFRONT_HOST_DEVICE MinNormResult iterate(const MinNormSettings& settings) {
    const auto cap = settings.max_iterations > 0 ? settings.max_iterations
                                                 : static_cast<std::int64_t>(100 + 20 * tasks_);
    MinNormResult result;
    bool compensated = false;
    bool corrected = corral_.size() == 1;  // w minimises over the affine hull of the corral
    for (;;) {
      compensated ? exact_slopes() : slopes();
      const auto certificate = certify(settings.relative_gap);
      result.gap = certificate.gap;
      if (certificate.gap <= certificate.allowed) {
        if (compensated || certificate.gap + certificate.noise <= certificate.allowed) break;
        compensated = true;  // rounding may hide a violation: look closer
        continue;
      }
      if (result.iterations == cap) {
        result.status = Status::iteration_limit;
        break;
      }
      if (corrected && !grow(certificate, compensated) && !compensated) {
        compensated = true;
        continue;
      }
      // Rounding of w moves s_j by u S √C_jj. Aiming above by a little more than that leaves no
      // vertex below λ, and costs the gap no more than the stop rule allows.
      const double slack = compensated ? 4 * unit_roundoff * certificate.norm : 0.0;
      corrected = correct(slack) || corral_.size() == 1;
      ++result.iterations;
    }
    return result;
  }

  Team team_;
  Index tasks_;
  Index stride_;     // tasks_ rounded up to whole blocks: padding is zero
  double* gramian_;  // C, scaled, by columns
  double* linear_;   // c, scaled
  double* slopes_;   // Cw + c
  double* norms_;    // √C_ii
  double* targets_;
  double* direction_;
  double largest_norm_ = 0.0;
  Corral<Team> corral_;
};

}  // namespace pyfront
