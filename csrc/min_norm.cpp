#include "min_norm.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace pyfront {
namespace {

constexpr double unit_roundoff = std::numeric_limits<double>::epsilon() / 2;
// Vertices that violate at least this fraction of the worst violation enter together: one factor
// for all of them instead of one iteration for each.
constexpr double batch_fraction = 1.0 / 3.0;
constexpr std::size_t block = 8;  // rows of Cw summed together, in registers

// a · b = product + error, exactly (Dekker; no fused multiply-add on the baseline).
void multiply_exactly(double a, double b, double& product, double& error) {
  constexpr double splitter = 0x1p27 + 1;
  const double a_shifted = splitter * a;
  const double b_shifted = splitter * b;
  const double a_high = a_shifted - (a_shifted - a);
  const double b_high = b_shifted - (b_shifted - b);
  const double a_low = a - a_high;
  const double b_low = b - b_high;
  product = a * b;
  error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
}

// (sum, error) ← sum + error + a · b, with the rounding of the sum kept in `error` (Knuth).
void accumulate_exactly(double a, double b, double& sum, double& error) {
  double product;
  double product_error;
  multiply_exactly(a, b, product, product_error);
  const double total = sum + product;
  const double shifted = total - sum;
  error += product_error + ((sum - (total - shifted)) + (product - shifted));
  sum = total;
}

}  // namespace

MinNormSolver::MinNormSolver(std::int64_t tasks)
    : tasks_(static_cast<std::size_t>(tasks)),
      stride_((tasks_ + block - 1) / block * block),
      gramian_(tasks_ * stride_),
      linear_(stride_),
      norms_(tasks_),
      slopes_(stride_),
      targets_(tasks_),
      direction_(tasks_),
      corral_(tasks_) {}

// Scales by a power of two, so that nothing rounds, to a largest entry of about 1. Returns that
// power, 0 if C and c are zero, NaN if they are not finite.
double MinNormSolver::load(std::span<const double> gramian, std::span<const double> linear) {
  double largest = 0.0;
  double poison = 0.0;  // NaN as soon as one entry is not finite
  for (std::size_t i = 0; i < tasks_; ++i) {
    largest = std::max(largest, gramian[i * tasks_ + i]);
  }
  for (const double value : linear) {
    largest = std::max(largest, std::abs(value));
    poison += 0.0 * value;
  }
  for (const double value : gramian) poison += 0.0 * value;
  if (poison != 0.0) return std::numeric_limits<double>::quiet_NaN();
  if (largest == 0.0) return 0.0;

  largest_norm_ = 0.0;
  const double scale = std::ldexp(1.0, -std::clamp(std::ilogb(largest), -1022, 1022));
  for (std::size_t j = 0; j < tasks_; ++j) {
    for (std::size_t i = 0; i < tasks_; ++i) {
      gramian_[j * stride_ + i] = scale * gramian[j * tasks_ + i];
    }
    norms_[j] = std::sqrt(std::max(gramian_[j * stride_ + j], 0.0));
    largest_norm_ = std::max(largest_norm_, norms_[j]);
    linear_[j] = linear.empty() ? 0.0 : scale * linear[j];
  }
  return scale;
}

// s = Cw + c.
void MinNormSolver::slopes() {
  for (std::size_t first = 0; first < stride_; first += block) {
    double sum[block];
    std::copy_n(linear_.data() + first, block, sum);
    for (std::size_t position = 0; position < corral_.size(); ++position) {
      const double weight = corral_.weight(position);
      const double* const column = gramian_.data() + corral_.vertex(position) * stride_ + first;
      for (std::size_t i = 0; i < block; ++i) sum[i] += weight * column[i];
    }
    std::copy_n(sum, block, slopes_.data() + first);
  }
}

// s = Cw + c as if in twice the precision, for vertices so much longer than the corral's point that
// the rounding of s_j hides the sign of their violation.
void MinNormSolver::exact_slopes() {
  for (std::size_t j = 0; j < tasks_; ++j) {
    const double* const row = gramian_.data() + j * stride_;
    double sum = linear_[j];
    double error = 0.0;
    for (std::size_t position = 0; position < corral_.size(); ++position) {
      accumulate_exactly(corral_.weight(position), row[corral_.vertex(position)], sum, error);
    }
    slopes_[j] = sum + error;
  }
}

MinNormSolver::Certificate MinNormSolver::certify(double relative_gap) const {
  Certificate certificate;
  const auto end = slopes_.begin() + static_cast<std::ptrdiff_t>(tasks_);
  const double smallest = *std::min_element(slopes_.begin(), end);
  double objective = 0.0;  // wᵀCw + 2 cᵀw
  for (std::size_t position = 0; position < corral_.size(); ++position) {
    const auto i = corral_.vertex(position);
    const double weight = corral_.weight(position);
    certificate.gap += weight * (slopes_[i] - smallest);
    certificate.norm += weight * norms_[i];
    certificate.level += weight * slopes_[i];
    certificate.linear += weight * std::abs(linear_[i]);
    objective += weight * (slopes_[i] + linear_[i]);
  }
  const double floor = 4 * unit_roundoff * static_cast<double>(tasks_) *
                       (certificate.norm * certificate.norm + certificate.linear);
  certificate.allowed = relative_gap * std::abs(objective) + floor;
  certificate.noise = unit_roundoff * static_cast<double>(tasks_) *
                      (certificate.norm * largest_norm_ + certificate.linear);
  return certificate;
}

// Appends the vertices that violate s_j ≥ λ about as much as the worst does. Returns false if none
// does beyond what the rounding of s_j explains.
bool MinNormSolver::grow(const Certificate& certificate, bool compensated) {
  const double unit = compensated ? 0.0 : unit_roundoff * static_cast<double>(tasks_);
  const auto violation = [&](std::size_t j) {
    const double noise = certificate.norm * norms_[j] + certificate.linear + std::abs(linear_[j]);
    return certificate.level - slopes_[j] - unit * noise;
  };
  std::size_t worst = 0;
  for (std::size_t j = 1; j < tasks_; ++j) {
    if (violation(j) > violation(worst)) worst = j;
  }
  const double largest = violation(worst);
  if (largest <= 0.0) return false;
  if (corral_.contains(worst)) return true;  // refines the weights first
  corral_.append(worst, 0.0);
  for (std::size_t j = 0; j < tasks_; ++j) {
    if (violation(j) < batch_fraction * largest || corral_.contains(j)) continue;
    if (!corral_.append(j, 0.0)) corral_.drop_last();
  }
  return true;
}

// m = 2: w_0 : w_1 = (C_11 − C_01 + c_1 − c_0) : (C_00 − C_01 + c_0 − c_1) where both are positive,
// else the better vertex. Returns w_0.
double MinNormSolver::pair_weight() const {
  const double cross = gramian_[1];
  const double first = (gramian_[stride_ + 1] - cross) + (linear_[1] - linear_[0]);
  const double second = (gramian_[0] - cross) + (linear_[0] - linear_[1]);
  if (first > 0.0 && second > 0.0) return first / (first + second);
  return first == second ? 0.5 : first > second ? 1.0 : 0.0;
}

void MinNormSolver::start(std::span<const double> weights, bool warm_start) {
  corral_.reset(gramian_.data(), stride_);
  if (warm_start) return start_from(weights);
  if (tasks_ == 2) {
    const double first = pair_weight();
    if (first > 0.0) corral_.append(0, first);
    if (first < 1.0) corral_.append(1, 1.0 - first);
    return;
  }
  std::size_t best = 0;
  const auto value = [&](std::size_t j) { return 0.5 * gramian_[j * stride_ + j] + linear_[j]; };
  for (std::size_t j = 1; j < tasks_; ++j) {
    if (value(j) < value(best)) best = j;
  }
  corral_.append(best, 1.0);
}

// The support of w, the vertex of smallest norm first. The weight of vertices that depend on the
// others goes to that one.
void MinNormSolver::start_from(std::span<const double> weights) {
  std::size_t base = tasks_;
  double sum = 0.0;
  for (std::size_t j = 0; j < tasks_; ++j) {
    if (!(weights[j] > 0.0)) continue;
    sum += weights[j];
    if (base == tasks_ || norms_[j] < norms_[base]) base = j;
  }
  if (base == tasks_ || !std::isfinite(sum)) {
    throw std::invalid_argument("start: expected a point of the simplex");
  }
  corral_.append(base, weights[base] / sum);
  for (std::size_t j = 0; j < tasks_; ++j) {
    if (j == base || !(weights[j] > 0.0)) continue;
    if (!corral_.append(j, weights[j] / sum)) corral_.drop_last();
  }
  corral_.balance();
}

// One step of Wolfe's method from the slopes at w: towards the minimiser over the corral's affine
// hull. Returns whether it was reached; if not, a vertex has left the corral. Of the vertices that
// have just entered, those that would leave the simplex at once go first; some descend, since their
// slopes are below λ and all others are at it, so one always stays.
bool MinNormSolver::correct(double slack) {
  do {
    for (std::size_t position = 0; position < corral_.size(); ++position) {
      const auto i = corral_.vertex(position);
      targets_[position] = slopes_[i] - slack * norms_[i];
    }
    corral_.newton(targets_, direction_);
  } while (corral_.prune(direction_));
  return corral_.step(direction_);
}

MinNormResult MinNormSolver::iterate(const MinNormSettings& settings) {
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

MinNormResult MinNormSolver::solve(std::span<const double> gramian, std::span<const double> linear,
                                   std::span<double> weights, const MinNormSettings& settings,
                                   bool warm_start) {
  const double scale = load(gramian, linear);
  if (std::isnan(scale)) {
    std::ranges::fill(weights, scale);
    return {.status = Status::nonfinite, .gap = scale};
  }
  if (scale == 0.0) {
    std::ranges::fill(weights, 1.0 / static_cast<double>(tasks_));
    return {.status = linear.empty() ? Status::stationary : Status::ok};
  }
  start(weights, warm_start);
  auto result = iterate(settings);
  result.gap /= scale;
  std::ranges::fill(weights, 0.0);
  for (std::size_t position = 0; position < corral_.size(); ++position) {
    weights[corral_.vertex(position)] = corral_.weight(position);
  }
  return result;
}

}  // namespace pyfront
