#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "common/exact_sum.hpp"
#include "common/status.hpp"
#include "common/team.hpp"
#include "solvers/corral.hpp"
#include "solvers/simplex_objective.hpp"

namespace pyfront {

struct MinNormSettings {
  double relative_gap = 1e-12;      // stop at gap ≤ relative_gap · wᵀCw + rounding floor
  std::int64_t max_iterations = 0;  // 0: a cap that grows with m
};

struct MinNormResult {
  Status status = Status::ok;
  double gap = 0.0;  // wᵀ(Cw + c) − min_j (Cw + c)_j ≥ 0: zero exactly at the optimum
  std::int64_t iterations = 0;
};

// minimise ½ wᵀCw + cᵀw over the simplex {w ≥ 0, Σw = 1}, C [m × m] symmetric positive
// semidefinite, by Wolfe's method: one algorithm for the CPU and the GPU, in memory of its caller.
//
// In exact arithmetic a step that is not cut short minimises over the corral's affine hull, and no
// corral comes twice. Rounding breaks both where vertices nearly depend on each other, as almost
// opposite gradients do: a factor that removals have turned is wrong by u times its condition, its
// curvatures are then wrong by many times themselves, and steps crawl or go in a circle. So a
// minimiser is believed when its slopes are equal; where they are not, D is factored anew, and
// where that is not enough, slopes, directions and steps are computed as if in twice the precision.
template <class Team>
class NearestPoint {
 public:
  using Index = typename Team::Index;

  // Doubles of memory for m tasks, and vertices.
  PYFRONT_HOST_DEVICE static constexpr Index memory(Index tasks) {
    return SimplexObjective<Team>::memory(tasks) + 4 * tasks + Corral<Team>::memory(tasks);
  }

  // `memory` must be zeros; `vertices` [m] may hold anything.
  PYFRONT_HOST_DEVICE NearestPoint(Team team, Index tasks, double* memory, std::int64_t* vertices)
      : team_(team),
        tasks_(tasks),
        objective_(team, tasks, memory),
        targets_(memory + SimplexObjective<Team>::memory(tasks)),
        direction_(targets_ + tasks),
        refinement_(direction_ + tasks),
        products_(refinement_ + tasks),
        corral_(team, tasks, products_ + tasks, vertices) {}

  // `gramian` is C, row-major; `linear` is c, null for c = 0. `weights` receives w; with
  // `warm_start` it also holds the starting point, at least one entry of it positive and all
  // finite. Status `nonfinite`: NaN or infinity in C or c, NaN weights. `out_of_range`: the C_ii
  // are too many decades apart, all weight on the shortest vertex.
  PYFRONT_HOST_DEVICE MinNormResult solve(const double* gramian, const double* linear,
                                          double* weights, const MinNormSettings& settings,
                                          bool warm_start) {
    const auto loaded = objective_.load(gramian, linear);
    if (loaded == Status::nonfinite) {
      constexpr double nan = std::numeric_limits<double>::quiet_NaN();
      fill(weights, nan);
      return {.status = loaded, .gap = nan};
    }
    if (loaded == Status::stationary) {
      fill(weights, 1.0 / static_cast<double>(tasks_));
      return {.status = linear == nullptr ? loaded : Status::ok};
    }
    if (loaded == Status::out_of_range) return take_shortest(gramian, weights);
    start(weights, warm_start);
    auto result = iterate(settings);
    result.gap /= objective_.scale();
    fill(weights, 0.0);
    for (Index position = team_.rank(); position < corral_.size(); position += team_.size()) {
      weights[corral_.vertex(position)] = corral_.weight(position);
    }
    team_.sync();
    return result;
  }

 private:
  // Vertices that violate at least this fraction of the worst violation enter together: one factor
  // for all of them instead of one iteration for each.
  static constexpr double batch_fraction = 1.0 / 3.0;
  // Slopes of the corral that differ by this fraction of the worst violation are equal.
  static constexpr double balance_fraction = 1e-9;

  PYFRONT_HOST_DEVICE void fill(double* values, double value) const {
    team_.sync();
    for (Index i = team_.rank(); i < tasks_; i += team_.size()) values[i] = value;
    team_.sync();
  }

  PYFRONT_HOST_DEVICE_CALL MinNormResult take_shortest(const double* gramian,
                                                       double* weights) const {
    Index best = 0;
    for (Index j = 1; j < tasks_; ++j) {
      if (gramian[j * tasks_ + j] < gramian[best * tasks_ + best]) best = j;
    }
    const double square = gramian[best * tasks_ + best];
    double smallest = square;
    for (Index j = 0; j < tasks_; ++j) smallest = smaller(smallest, gramian[best * tasks_ + j]);
    fill(weights, 0.0);
    if (team_.rank() == 0) weights[best] = 1.0;
    team_.sync();
    return {.status = Status::out_of_range, .gap = square - smallest};
  }

  // Appends the vertices that violate s_j ≥ λ about as much as the worst does, or that one alone.
  // Returns false if none does beyond what the rounding of s_j explains.
  PYFRONT_HOST_DEVICE_CALL bool grow(const Certificate& certificate, bool compensated, bool alone) {
    const double noise = compensated ? 0.0 : unit_roundoff * static_cast<double>(tasks_);
    const auto violation = [&](Index j) {
      return certificate.level - objective_.slope(j) - noise * objective_.unit(certificate, j);
    };
    Index worst = 0;
    for (Index j = 1; j < tasks_; ++j) {
      if (violation(j) > violation(worst)) worst = j;
    }
    const double largest = violation(worst);
    if (largest <= 0.0) return false;
    if (corral_.contains(worst)) return true;  // refines the weights first
    corral_.append(worst, 0.0);
    for (Index j = 0; j < tasks_ && !alone; ++j) {
      if (violation(j) < batch_fraction * largest || corral_.contains(j)) continue;
      if (!corral_.append(j, 0.0)) corral_.drop_last();
    }
    return true;
  }

  // The largest |s_i − λ| of the corral, in units of the rounding of s_i.
  PYFRONT_HOST_DEVICE double imbalance(const Certificate& certificate) const {
    double worst = 0.0;
    for (Index position = 0; position < corral_.size(); ++position) {
      const auto i = corral_.vertex(position);
      const double off = std::fabs(objective_.slope(i) - certificate.level);
      worst = larger(worst, off / objective_.unit(certificate, i));
    }
    return worst / (unit_roundoff * static_cast<double>(tasks_));
  }

  // Whether an imbalance is rounding, or too small beside the worst violation to matter.
  PYFRONT_HOST_DEVICE bool balanced(const Certificate& certificate, double imbalance) const {
    constexpr double rounding = 8.0;
    if (imbalance <= rounding) return true;
    const double share = imbalance * unit_roundoff * static_cast<double>(tasks_) / balance_fraction;
    for (Index j = 0; j < tasks_; ++j) {
      const double violation = certificate.level - objective_.slope(j);
      if (violation >= share * objective_.unit(certificate, j)) return true;
    }
    return false;
  }

  // m = 2: w_0 : w_1 = (C_11 − C_01 + c_1 − c_0) : (C_00 − C_01 + c_0 − c_1) where both are
  // positive, else the better vertex. Returns w_0.
  PYFRONT_HOST_DEVICE double pair_weight() const {
    const double cross = objective_.entry(0, 1);
    const double slope = objective_.linear(1) - objective_.linear(0);
    const double first = (objective_.entry(1, 1) - cross) + slope;
    const double second = (objective_.entry(0, 0) - cross) - slope;
    if (first > 0.0 && second > 0.0) return first / (first + second);
    return first == second ? 0.5 : first > second ? 1.0 : 0.0;
  }

  PYFRONT_HOST_DEVICE Index best_vertex() const {
    const auto value = [&](Index j) { return 0.5 * objective_.entry(j, j) + objective_.linear(j); };
    Index best = 0;
    for (Index j = 1; j < tasks_; ++j) {
      if (value(j) < value(best)) best = j;
    }
    return best;
  }

  // A vertex of norm 0 is the optimum where c = 0: other weights would only shrink towards 0.
  PYFRONT_HOST_DEVICE void start(const double* weights, bool warm_start) {
    corral_.reset(objective_.gramian(), objective_.stride());
    if (tasks_ == 2 && !warm_start) {
      const double first = pair_weight();
      if (first > 0.0) corral_.append(0, first);
      if (first < 1.0) corral_.append(1, 1.0 - first);
      return;
    }
    const auto best = best_vertex();
    if (warm_start && !(objective_.homogeneous() && objective_.norm(best) == 0.0))
      return start_from(weights);
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
      if (base == tasks_ || objective_.norm(j) < objective_.norm(base)) base = j;
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
  PYFRONT_HOST_DEVICE bool correct(double slack, bool careful) {
    do {
      team_.sync();
      for (Index position = team_.rank(); position < corral_.size(); position += team_.size()) {
        const auto i = corral_.vertex(position);
        targets_[position] = objective_.slope(i) - slack * objective_.norm(i);
      }
      team_.sync();
      corral_.newton(targets_, direction_);
      if (careful) refine();
    } while (corral_.prune(direction_));
    return corral_.step(direction_, careful ? exact_length() : 1.0);
  }

  // δ ← δ + δ' with D δ' = −(s + Cδ − (s + Cδ)_0), twice.
  PYFRONT_HOST_DEVICE_CALL void refine() {
    for (int round = 0; round < 2; ++round) {
      objective_.multiply(corral_, direction_, targets_, products_);
      corral_.newton(products_, refinement_);
      for (Index p = team_.rank(); p < corral_.size(); p += team_.size()) {
        direction_[p] += refinement_[p];
      }
      team_.sync();
    }
  }

  // t = −sᵀδ / δᵀCδ minimises along δ; where there is no curvature, any longer step.
  PYFRONT_HOST_DEVICE_CALL double exact_length() {
    objective_.multiply(corral_, direction_, nullptr, products_);
    double slope = 0.0;
    double slope_error = 0.0;
    double curvature = 0.0;
    double curvature_error = 0.0;
    for (Index p = 0; p < corral_.size(); ++p) {
      accumulate_exactly(direction_[p], targets_[p], slope, slope_error);
      accumulate_exactly(direction_[p], products_[p], curvature, curvature_error);
    }
    slope += slope_error;
    curvature += curvature_error;
    if (!(slope < 0.0)) return 1.0;
    return curvature > 0.0 ? -slope / curvature : std::numeric_limits<double>::max();
  }

  PYFRONT_HOST_DEVICE MinNormResult iterate(const MinNormSettings& settings) {
    constexpr double never = std::numeric_limits<double>::max();
    const auto patience = static_cast<std::int64_t>(25 + 5 * tasks_);
    const auto cap = settings.max_iterations > 0 ? settings.max_iterations : 4 * patience;
    MinNormResult result;
    bool compensated = false;
    bool careful = false;                  // directions and steps are refined
    bool alone = false;                    // vertices enter one at a time
    bool corrected = corral_.size() == 1;  // w minimises over the affine hull of the corral
    double last_imbalance = never;
    for (;;) {
      if (result.iterations == patience) compensated = careful = true;
      if (result.iterations == 2 * patience && !alone) {
        corral_.reset(objective_.gramian(), objective_.stride());
        corral_.append(best_vertex(), 1.0);
        corrected = alone = true;
      }
      compensated ? objective_.take_exact_slopes(corral_) : objective_.take_slopes(corral_);
      const auto certificate = objective_.certify(corral_, settings.relative_gap, compensated);
      result.gap = certificate.gap;
      if (certificate.gap + certificate.noise <= certificate.allowed) break;
      if (certificate.gap <= certificate.allowed && !compensated) {
        compensated = true;  // rounding may hide a violation: look closer
        continue;
      }
      if (result.iterations == cap) {
        result.status = Status::iteration_limit;
        break;
      }
      if (corrected && corral_.size() > 1) {
        const double now = imbalance(certificate);
        const bool falls = now < 0.5 * last_imbalance;
        last_imbalance = now;
        if (!balanced(certificate, now)) {
          corrected = corral_.fresh() && !falls;  // else Newton's step is repeated
          if (corrected && !compensated) {
            compensated = true;
            continue;
          }
          careful = careful || corrected;
          if (!corral_.fresh()) corral_.refactor();
        }
      }
      if (corrected) {
        last_imbalance = never;
        if (!grow(certificate, compensated, alone) && !compensated) {
          compensated = true;
          continue;
        }
      }
      // Rounding of w moves s_j by u S √C_jj. Aiming above by a little more than that leaves no
      // vertex below λ, and costs the gap no more than the stop rule allows.
      const double slack = compensated ? 4 * unit_roundoff * certificate.norm : 0.0;
      corrected = correct(slack, careful) || corral_.size() == 1;
      ++result.iterations;
    }
    return result;
  }

  Team team_;
  Index tasks_;
  SimplexObjective<Team> objective_;
  double* targets_;
  double* direction_;
  double* refinement_;
  double* products_;
  Corral<Team> corral_;
};

}  // namespace pyfront
