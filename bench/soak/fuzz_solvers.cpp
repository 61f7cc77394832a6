// Fuzzes the solvers on m numbers and checks every answer in quadruple precision. With
// -DSOAK_RANDOM a program that draws its inputs (fuzz_solvers COUNT SEED), else a target of
// libFuzzer.

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "cases.hpp"
#include "epo_vertices.hpp"
#include "quadruple.hpp"
#include "solvers/epo.hpp"
#include "solvers/min_norm.hpp"
#include "solvers/pareto_mtl.hpp"

namespace pf = pyfront;

namespace {

struct Counts {
  std::int64_t inputs = 0, min_norm = 0, epo = 0, pareto_mtl = 0, non_uniformity = 0;
  std::int64_t capped = 0;         // min-norm met its cap
  std::int64_t capped_scaled = 0;  // of these, with lengths over several decades
  std::int64_t fallback = 0;       // EPO took another program's answer
  ~Counts() {
    std::printf("inputs %" PRId64 ": min-norm %" PRId64 ", EPO %" PRId64 ", Pareto MTL %" PRId64
                ", non-uniformity %" PRId64 "\nmin-norm at its cap %" PRId64
                ", of these lengths over decades %" PRId64 "; EPO fallbacks %" PRId64 "\n",
                inputs, min_norm, epo, pareto_mtl, non_uniformity, capped, capped_scaled, fallback);
  }
} counts;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

void check_min_norm(soak::Bytes& bytes) {
  ++counts.min_norm;
  const auto j = soak::read_jacobian(bytes, 12);
  const auto c = soak::gramian(j);
  const auto m = static_cast<std::size_t>(j.rows);
  std::vector<double> weights(m);
  std::vector<double> linear;
  const bool warm = bytes.below(4) == 0;
  for (auto& w : weights) w = warm ? bytes.below(8) : 0.0;
  weights[0] += warm;
  if (bytes.below(4) == 0) {
    double largest = 0.0;
    for (std::size_t i = 0; i < m; ++i) largest = std::max(largest, c[i * (m + 1)]);
    const double size = largest * bytes.power(-12, 3);
    for (std::size_t i = 0; i < m; ++i) linear.push_back(size * (bytes.below(17) - 8));
  }
  const auto answer = pf::MinNormSolver(j.rows).solve(c, linear, weights, {}, warm);
  const auto certificate = soak::certify(c, weights, linear);
  require(!certificate.negative, "min-norm: w ≥ 0");
  require(certificate.distance < 1e-12, "min-norm: Σw = 1");
  require(answer.gap >= 0.0, "min-norm: gap ≥ 0");
  switch (answer.status) {
    case pf::Status::stationary:
      for (const double entry : c) require(entry == 0.0, "min-norm: stationary where C = 0 only");
      return;
    case pf::Status::iteration_limit:
      ++counts.capped;
      counts.capped_scaled += j.decades > 0.0;
      // the reported gap is the true one up to rounding
      require(
          std::abs(answer.gap - certificate.gap) <= 1e-6 * certificate.gap + certificate.reachable,
          "min-norm: the gap of an answer at the cap");
      return;
    default:
      require(answer.status == pf::Status::ok, "min-norm: a status");
      require(certificate.gap <= certificate.allowed * (1 + 1e-9), "min-norm: the stop rule");
  }
}

// d = Jᵀw is the min-norm point of the rows M J: rᵀCw ≥ wᵀCw for each row r of M.
void check_pareto_mtl(soak::Bytes& bytes) {
  ++counts.pareto_mtl;
  const auto j = soak::read_jacobian(bytes, 6);
  const auto c = soak::gramian(j);
  const auto m = static_cast<std::size_t>(j.rows);
  const auto count = static_cast<std::size_t>(1 + bytes.below(8));
  std::vector<double> vectors(count * m);
  for (std::size_t k = 0; k < count; ++k) {
    double square = 0.0;
    for (std::size_t i = 0; i < m; ++i) {
      const double u = bytes.below(32);
      vectors[k * m + i] = u;
      square += u * u;
    }
    if (square == 0.0) vectors[k * m] = square = 1.0;
    for (std::size_t i = 0; i < m; ++i) vectors[k * m + i] /= std::sqrt(square);
  }
  std::vector<double> losses(m);
  for (auto& l : losses) l = bytes.below(64);
  const auto index = static_cast<std::size_t>(bytes.below(static_cast<int>(count)));
  const pf::Phase phases[] = {pf::Phase::feasibility, pf::Phase::descent, pf::Phase::convergence};
  const auto phase = phases[bytes.below(3)];
  const double epsilon = bytes.below(8) / 16.0;
  std::vector<double> weights(m);
  const auto answer = pf::ParetoMtlSolver(j.rows, static_cast<std::int64_t>(count))
                          .solve(losses, c, vectors, static_cast<std::int64_t>(index), weights,
                                 {.phase = phase, .epsilon = epsilon});
  for (const double w : weights) require(std::isfinite(w), "Pareto MTL: finite weights");
  if (answer.status == pf::Status::iteration_limit) {
    ++counts.capped;
    counts.capped_scaled += j.decades > 0.0;
  }
  if (answer.status != pf::Status::ok) return;

  std::vector<std::vector<double>> rows;
  for (std::size_t i = 0; i < m && phase != pf::Phase::feasibility; ++i) {
    rows.emplace_back(m, 0.0).at(i) = 1.0;
  }
  double norm = 0.0;
  for (const double l : losses) norm += l * l;
  const double bound = phase == pf::Phase::feasibility ? 0.0 : -epsilon;
  for (std::size_t k = 0; k < count && phase != pf::Phase::convergence; ++k) {
    std::vector<double> row(m);
    double g = 0.0;
    for (std::size_t i = 0; i < m; ++i) {
      row[i] = vectors[k * m + i] - vectors[index * m + i];
      g += row[i] * losses[i];
    }
    // what is within rounding of the bound may be active or not
    if (k != index && g / std::sqrt(std::max(norm, 1.0)) > bound + 1e-12) rows.push_back(row);
  }
  std::vector<soak::Quad> slopes(m);
  soak::Quad value = 0;
  double longest = 0.0;
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t k = 0; k < m; ++k) slopes[i] += soak::Quad(c[i * m + k]) * weights[k];
    value += weights[i] * slopes[i];
    longest += c[i * (m + 1)];
  }
  const double rounding = 0x1p-53 * 64.0 * static_cast<double>(m + count) * longest;
  for (const auto& row : rows) {
    soak::Quad along = 0;
    for (std::size_t i = 0; i < m; ++i) along += row[i] * slopes[i];
    require(static_cast<double>(value - along) <= 1e-9 * static_cast<double>(value) + rounding,
            "Pareto MTL: no row is behind the min-norm point");
  }
}

double take_positive(soak::Bytes& bytes, bool extreme) {
  const double mantissa = 1.0 + bytes.take<std::uint16_t>() / 65536.0;
  return std::ldexp(mantissa,
                    extreme ? bytes.take<std::uint16_t>() % 2044 - 1022 : bytes.below(16) - 8);
}

void check_epo(soak::Bytes& bytes) {
  ++counts.epo;
  const auto j = soak::read_jacobian(bytes, 3);
  const auto c = soak::gramian(j);
  const auto m = static_cast<std::size_t>(j.rows);
  std::vector<double> losses(m), preference(m), weights(m);
  for (auto& l : losses) l = bytes.below(8) == 0 ? 0.0 : take_positive(bytes, false);
  for (auto& r : preference) r = take_positive(bytes, false);
  const bool restricted = bytes.below(2) == 0;
  const double epsilon = bytes.below(2) == 0 ? 1e-4 : 10.0;
  // the core's own simplex method alone: where it does not certify its answer, there is none
  pf::EpoSolver solver([](const auto&...) { return pf::LpStatus::failed; });
  const auto answer = solver.solve(
      losses, c, preference, weights,
      {.epsilon = epsilon, .descent = restricted ? pf::Descent::restricted : pf::Descent::relaxed});
  double total = 0.0;
  for (const double w : weights) {
    require(w >= 0.0, "EPO: w ≥ 0");
    total += w;
  }
  require(std::abs(total - 1.0) < 1e-12, "EPO: Σw = 1");
  require(answer.non_uniformity >= 0.0, "EPO: μ ≥ 0");
  counts.fallback += answer.status == pf::Status::fallback_min_norm ||
                     answer.status == pf::Status::fallback_relaxed;
  if (answer.status == pf::Status::ok) {
    const auto program = soak::epo_program(losses, c, preference, answer.phase, restricted);
    require(soak::is_optimal(program, weights), "EPO: feasible and best among all vertices");
  }
}

// μ with the shares of r∘l, whose exponents are beyond any type's, scaled in integers.
void check_non_uniformity(soak::Bytes& bytes) {
  ++counts.non_uniformity;
  const auto m = static_cast<std::size_t>(1 + bytes.below(8));
  std::vector<double> losses(m), preference(m);
  for (auto& l : losses) l = bytes.below(8) == 0 ? 0.0 : take_positive(bytes, true);
  for (auto& r : preference) r = take_positive(bytes, true);
  // a long double holds 10^±4932: the product of two doubles and its share
  long double sum = 0.0L;
  for (std::size_t i = 0; i < m; ++i) sum += static_cast<long double>(losses[i]) * preference[i];
  long double expected = 0.0L;
  for (std::size_t i = 0; i < m; ++i) {
    const long double share = static_cast<long double>(losses[i]) * preference[i] / sum;
    if (share > 0.0L) expected += share * std::log(static_cast<long double>(m) * share);
  }
  if (sum == 0.0L) expected = 0.0L;
  const double found = pf::non_uniformity(losses, preference);
  require(found >= 0.0 && std::abs(found - static_cast<double>(expected)) <= 1e-14 * (1.0 + found),
          "non-uniformity");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  soak::Bytes bytes({data, size});
  ++counts.inputs;
  switch (bytes.below(8)) {
    case 0:
      check_pareto_mtl(bytes);
      break;
    case 1:
      check_epo(bytes);
      break;
    case 2:
      check_non_uniformity(bytes);
      break;
    default:
      check_min_norm(bytes);
  }
  return 0;
}

#ifdef SOAK_RANDOM
int main(int count, char** arguments) {
  const auto inputs = count > 1 ? std::atoll(arguments[1]) : 1000;
  std::mt19937_64 engine(count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 0);
  std::vector<std::uint8_t> data(160);
  for (long long i = 0; i < inputs; ++i) {
    for (auto& byte : data) byte = static_cast<std::uint8_t>(engine());
    LLVMFuzzerTestOneInput(data.data(), data.size());
  }
}
#endif
