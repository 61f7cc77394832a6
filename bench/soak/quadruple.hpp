#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

namespace soak {

using Quad = __float128;

// How far min-norm weights are from the optimum, in quadruple precision on the given numbers.
struct Certificate {
  double gap = 0.0;        // Σ_i w_i (s_i − min_j s_j), s = Cw + c
  double allowed = 0.0;    // 1e-12 |wᵀCw + 2 cᵀw| + 4 u m (S² + Σ_i w_i |c_i|), S = Σ_i w_i √C_ii
  double reachable = 0.0;  // 1e-12 |…| + 8 u m S max_j √C_jj: what rounding of the weights leaves
  double distance = 0.0;   // |Σw − 1|
  bool negative = false;   // a weight that is below 0 or NaN
};

inline Certificate certify(std::span<const double> c, std::span<const double> w,
                           std::span<const double> linear = {}) {
  const auto m = w.size();
  Certificate answer;
  std::vector<Quad> slopes(m);
  Quad total = -1;
  Quad objective = 0;
  Quad norm = 0;
  Quad spread = 0;
  double longest = 0.0;
  for (std::size_t i = 0; i < m; ++i) {
    Quad product = 0;
    for (std::size_t k = 0; k < m; ++k) product += Quad(c[i * m + k]) * w[k];
    const Quad q = linear.empty() ? Quad(0) : Quad(linear[i]);
    slopes[i] = product + q;
    total += w[i];
    objective += w[i] * (product + 2 * q);
    longest = std::max(longest, std::sqrt(std::max(c[i * m + i], 0.0)));
    norm += w[i] * std::sqrt(std::max(c[i * m + i], 0.0));
    spread += w[i] * (q < 0 ? -q : q);
    answer.negative |= !(w[i] >= 0.0);
  }
  Quad smallest = slopes[0];
  for (const Quad s : slopes) smallest = s < smallest ? s : smallest;
  Quad gap = 0;
  for (std::size_t i = 0; i < m; ++i) gap += w[i] * (slopes[i] - smallest);
  answer.gap = static_cast<double>(gap);
  answer.allowed =
      static_cast<double>(Quad(1e-12) * (objective < 0 ? -objective : objective) +
                          Quad(4 * 0x1p-53 * static_cast<double>(m)) * (norm * norm + spread));
  answer.reachable =
      static_cast<double>(Quad(1e-12) * (objective < 0 ? -objective : objective) +
                          Quad(8 * 0x1p-53 * static_cast<double>(m)) * (norm * longest + spread));
  answer.distance = std::abs(static_cast<double>(total));
  return answer;
}

}  // namespace soak
