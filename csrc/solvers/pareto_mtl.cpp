#include "solvers/pareto_mtl.hpp"

#include <cstddef>

namespace pyfront {

ParetoMtlSolver::ParetoMtlSolver(std::int64_t tasks, std::int64_t vectors)
    : tasks_(tasks),
      vectors_(vectors),
      memory_(static_cast<std::size_t>(ParetoMtl<SerialTeam>::memory(tasks, vectors))) {}

ParetoMtlResult ParetoMtlSolver::solve(std::span<const double> losses,
                                       std::span<const double> gramian,
                                       std::span<const double> reference_vectors,
                                       std::int64_t index, std::span<double> weights,
                                       const ParetoMtlSettings& settings) {
  ParetoMtl<SerialTeam> solver({},
                               {.tasks = tasks_,
                                .vectors = vectors_,
                                .index = index,
                                .losses = losses.data(),
                                .gramian = gramian.data(),
                                .reference_vectors = reference_vectors.data()},
                               memory_.data());
  return solver.solve(settings, weights.data(),
                      [](const double* inner, std::int64_t rows, double* dual) {
                        const auto size = static_cast<std::size_t>(rows);
                        return MinNormSolver(rows).solve({inner, size * size}, {}, {dual, size});
                      });
}

}  // namespace pyfront
