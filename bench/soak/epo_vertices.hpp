#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "quadruple.hpp"
#include "solvers/epo.hpp"

namespace soak {

// maximise costᵀβ over the simplex subject to rows β ≥ lower.
struct Program {
  bool defined = true;  // false where rounding decides which tasks are in J or J*
  Quad terms = 0;       // size of what the cost sums
  std::vector<Quad> cost;
  std::vector<std::vector<Quad>> rows;
  std::vector<Quad> lower;
};

// Program (24) of EPO Search as the paper writes it, on C / max_j C_jj.
inline Program epo_program(std::span<const double> losses, std::span<const double> gramian,
                           std::span<const double> preference, pyfront::Phase phase,
                           bool restricted) {
  const auto m = losses.size();
  Quad sum = 0;
  Quad weight = 0;
  Quad unit = 0;
  for (std::size_t i = 0; i < m; ++i) {
    sum += Quad(losses[i]) * preference[i];
    weight += preference[i];
    unit = std::max(unit, Quad(gramian[i * (m + 1)]));
  }
  std::vector<Quad> share(m), a(m), ca(m);
  Quad largest = 0;
  Quad mu = 0;
  for (std::size_t i = 0; i < m; ++i) {
    share[i] = Quad(losses[i]) * preference[i] / sum;
    largest = std::max(largest, share[i]);
    const auto s = static_cast<long double>(share[i]);
    if (s > 0.0L) mu += s * std::log(static_cast<long double>(m) * s);
  }
  Program program;
  for (const Quad s : share) {
    const double off = static_cast<double>((largest - s) / largest);
    program.defined &= off == 0.0 || off < 5e-13 || off > 2e-12;
  }
  std::size_t dominant = 0;
  for (const Quad s : share) dominant += s >= Quad(1.0 - 1e-12) * largest;
  for (std::size_t i = 0; i < m && dominant < m; ++i) {
    const auto s = std::max(static_cast<long double>(share[i]) * m, 1e-12L);
    a[i] = preference[i] / weight * (std::log(s) - mu);
  }
  const auto c = [&](std::size_t i, std::size_t k) { return gramian[i * m + k] / unit; };
  Quad most = -1e30;
  bool decreasing = false;
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t k = 0; k < m; ++k) ca[i] += c(i, k) * a[k];
    most = std::max(most, ca[i]);
    decreasing |= ca[i] > 0;
  }
  Quad reach = 0;
  for (const Quad entry : a) reach = std::max(reach, entry < 0 ? -entry : entry);
  for (const Quad entry : ca) {
    program.defined &= entry == 0 || std::abs(static_cast<double>(entry)) > 1e-12 * reach;
  }
  for (std::size_t i = 0; i < m * m; ++i) {
    const Quad entry = gramian[i] / unit;
    program.terms = std::max(program.terms, entry < 0 ? -entry : entry);
  }
  if (phase == pyfront::Phase::balance) program.terms *= reach;
  const auto add = [&](std::size_t i, Quad lower) {
    auto& row = program.rows.emplace_back(m);
    for (std::size_t k = 0; k < m; ++k) row[k] = c(i, k);
    program.lower.push_back(lower);
  };
  if (phase == pyfront::Phase::balance) {
    program.cost = ca;
    for (std::size_t i = 0; i < m; ++i) {
      if (share[i] >= Quad(1.0 - 1e-12) * largest) {
        add(i, 0);
      } else if (!(ca[i] > 0)) {
        add(i, decreasing ? ca[i] : Quad(0));
      }
    }
    return program;
  }
  program.cost.resize(m);
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t k = 0; k < m; ++k) program.cost[i] += c(i, k);
    add(i, 0);
  }
  if (restricted) {
    program.rows.push_back(ca);
    program.lower.push_back(std::min(most, Quad(0)));
  }
  return program;
}

// Largest violation of the constraints at β, each row measured in its largest entry.
inline Quad violation(const Program& program, std::span<const Quad> beta) {
  Quad worst = 0;
  for (const Quad b : beta) worst = std::max(worst, -b);
  for (std::size_t j = 0; j < program.rows.size(); ++j) {
    Quad value = -program.lower[j];
    Quad size = 0;
    for (std::size_t i = 0; i < beta.size(); ++i) {
      value += program.rows[j][i] * beta[i];
      size = std::max(size, program.rows[j][i] < 0 ? -program.rows[j][i] : program.rows[j][i]);
    }
    if (size > 0) worst = std::max(worst, -value / size);
  }
  return worst;
}

// The vertex where the constraints `active` are equalities (0 … m − 1: β_i = 0, then the rows), by
// elimination; empty where they do not meet in one point.
inline std::vector<Quad> vertex(const Program& program, std::span<const std::size_t> active) {
  const auto m = program.cost.size();
  std::vector<std::vector<Quad>> system;
  system.emplace_back(m + 1, 1);
  for (const auto k : active) {
    auto& row = system.emplace_back(m + 1);
    if (k < m) {
      row[k] = 1;
      continue;
    }
    for (std::size_t i = 0; i < m; ++i) row[i] = program.rows[k - m][i];
    row[m] = program.lower[k - m];
  }
  for (std::size_t column = 0; column < m; ++column) {
    const auto size = [&](std::size_t r) {
      const Quad entry = system[r][column];
      return entry < 0 ? -entry : entry;
    };
    std::size_t pivot = column;
    for (std::size_t r = column + 1; r < m; ++r) {
      if (size(r) > size(pivot)) pivot = r;
    }
    if (size(pivot) < 1e-25) return {};
    std::swap(system[pivot], system[column]);
    for (std::size_t r = 0; r < m; ++r) {
      if (r == column) continue;
      const Quad factor = system[r][column] / system[column][column];
      for (std::size_t k = column; k <= m; ++k) system[r][k] -= factor * system[column][k];
    }
  }
  std::vector<Quad> beta(m);
  for (std::size_t i = 0; i < m; ++i) beta[i] = system[i][m] / system[i][i];
  return beta;
}

// Whether β is feasible, and no feasible vertex is better, to the solver's tolerance of 1e-7.
inline bool is_optimal(const Program& program, std::span<const double> weights) {
  constexpr double tolerance = 1e-7;
  if (!program.defined) return true;
  const auto m = program.cost.size();
  const std::vector<Quad> beta(weights.begin(), weights.end());
  if (violation(program, beta) > tolerance) return false;
  const auto value = [&](std::span<const Quad> point) {
    Quad sum = 0;
    for (std::size_t i = 0; i < m; ++i) sum += program.cost[i] * point[i];
    return sum;
  };
  Quad scale = 0;
  for (const Quad entry : program.cost) scale = std::max(scale, entry < 0 ? -entry : entry);
  const Quad enough = value(beta) + tolerance * scale + 1e-14 * program.terms;
  const auto constraints = m + program.rows.size();
  std::vector<std::size_t> active(m - 1);
  // every choice of m − 1 constraints: m is at most 3
  for (std::size_t first = 0; first < constraints; ++first) {
    for (std::size_t second = m > 2 ? first + 1 : first; second < constraints; ++second) {
      if (m > 1) active[0] = first;
      if (m > 2) active[1] = second;
      const auto point = vertex(program, active);
      if (!point.empty() && violation(program, point) <= 1e-20 && value(point) > enough) {
        return false;
        return false;
      }
      if (m < 3) break;
    }
  }
  return true;
}

}  // namespace soak
