// Decisions on m numbers on a CUDA device, by one warp: the algorithms of nearest_point.hpp and
// pareto_mtl.hpp, compiled without fused multiply-add, so that they give the bits of the CPU.

#include <cmath>
#include <cstdint>
#include <limits>

#include "cuda/call.cuh"
#include "solvers/nearest_point.hpp"
#include "solvers/pareto_mtl.hpp"

namespace pyfront::device {
namespace {

struct WarpTeam {
  using Index = int;
  static constexpr Index chunk = 1;
  static constexpr Index block = 1;
  __device__ static Index rank() { return static_cast<Index>(threadIdx.x); }
  __host__ __device__ static constexpr Index size() { return warp_lanes; }
  __device__ static void sync() { __syncwarp(); }
  __device__ static bool any(bool own) { return __any_sync(0xffffffffu, own) != 0; }
};

// Bytes of shared memory that solving for m weights takes.
constexpr std::size_t shared_bytes(int rows) {
  return static_cast<std::size_t>(NearestPoint<WarpTeam>::memory(rows)) * sizeof(double) +
         static_cast<std::size_t>(rows) * sizeof(std::int64_t);
}

extern __shared__ double shared[];

__device__ MinNormResult solve_min_norm(const double* gramian, int rows, double* weights) {
  const int doubles = NearestPoint<WarpTeam>::memory(rows);
  __syncwarp();
  for (int i = WarpTeam::rank(); i < doubles; i += WarpTeam::size()) shared[i] = 0.0;
  __syncwarp();
  NearestPoint<WarpTeam> solver({}, rows, shared,
                                reinterpret_cast<std::int64_t*>(shared + doubles));
  return solver.solve(gramian, nullptr, weights, {}, false);
}

__device__ bool all_finite(const double* values, int count) {
  bool bad = false;
  for (int i = WarpTeam::rank(); i < count; i += WarpTeam::size()) bad |= !isfinite(values[i]);
  return !WarpTeam::any(bad);
}

// NaN weights: what is made of them cannot pass for a step.
__device__ void refuse(int tasks, double* weights, MinNormResult& result) {
  result.status = Status::nonfinite;
  result.gap = std::numeric_limits<double>::quiet_NaN();
  __syncwarp();
  for (int i = WarpTeam::rank(); i < tasks; i += WarpTeam::size()) weights[i] = result.gap;
}

__global__ void __launch_bounds__(warp_lanes)
    min_norm_kernel(const double* gramian, int tasks, const double* losses, double* weights,
                    double* outcome) {
  auto result = solve_min_norm(gramian, tasks, weights);
  if (losses != nullptr && !all_finite(losses, tasks)) refuse(tasks, weights, result);
  if (WarpTeam::rank() == 0) {
    outcome[0] = static_cast<double>(result.status);
    outcome[1] = result.gap;
  }
}

// Weights of the descent phase times m / Σ|w|.
__device__ void rescale(double* weights, int tasks) {
  double sum = 0.0;
  for (int i = 0; i < tasks; ++i) sum += std::fabs(weights[i]);
  __syncwarp();
  for (int i = WarpTeam::rank(); sum > 0.0 && i < tasks; i += WarpTeam::size()) {
    weights[i] *= tasks / sum;
  }
  __syncwarp();
}

// Counts a step of the feasibility phase, and ends it: in the region, where the constraints pull
// against each other, or after the last step. The bias of the running average does not change its
// side of a constraint.
__device__ void advance(const ParetoMtlStep& step, const ParetoMtl<WarpTeam>& solver,
                        const double* losses, Status status, double* state) {
  double* const mean = state + 3;
  const double steps = state[1] + 1.0;
  __syncwarp();
  for (int i = WarpTeam::rank(); i < step.tasks; i += WarpTeam::size()) {
    mean[i] = step.average * mean[i] + (1.0 - step.average) * losses[i];
  }
  __syncwarp();
  const bool inside = solver.inside(mean);
  __syncwarp();
  if (WarpTeam::rank() != 0) return;
  state[1] = steps;
  if (inside || status == Status::stationary || steps >= static_cast<double>(step.warmup_steps)) {
    state[0] = static_cast<double>(Phase::descent);
    state[2] = inside ? 1.0 : 0.0;
  }
}

__global__ void __launch_bounds__(warp_lanes)
    pareto_mtl_kernel(ParetoMtlStep step, const double* losses, const double* gramian,
                      const double* reference_vectors, double* state, double* workspace,
                      double* weights, double* outcome) {
  const auto phase = static_cast<Phase>(static_cast<int>(state[0]));
  const int tasks = static_cast<int>(step.tasks);
  ParetoMtl<WarpTeam> solver({},
                             {.tasks = step.tasks,
                              .vectors = step.vectors,
                              .index = step.index,
                              .losses = losses,
                              .gramian = gramian,
                              .reference_vectors = reference_vectors},
                             workspace);
  MinNormResult result;
  if (!all_finite(losses, tasks) || !all_finite(gramian, tasks * tasks)) {
    refuse(tasks, weights, result);
  } else {
    const auto answer = solver.solve({.phase = phase, .epsilon = step.epsilon}, weights,
                                     [](const double* inner, int rows, double* dual) {
                                       return solve_min_norm(inner, rows, dual);
                                     });
    result = {.status = answer.status, .gap = answer.gap};
    if (phase == Phase::feasibility) advance(step, solver, losses, answer.status, state);
    if (phase == Phase::descent && step.rescale) rescale(weights, tasks);
  }
  if (WarpTeam::rank() == 0) {
    outcome[0] = static_cast<double>(result.status);
    outcome[1] = result.gap;
    outcome[2] = static_cast<double>(phase);
  }
}

// Bytes of shared memory for so many rows; what the device has sets the limit on m. The kernel may
// use all of it whatever the rows: to lower that would undo it for a larger problem in the same
// CUDA graph.
template <class Kernel>
std::size_t reserve_shared(Kernel kernel, std::int64_t rows, int device) {
  const auto bytes = shared_bytes(static_cast<int>(rows));
  const int limit = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (bytes > static_cast<std::size_t>(limit)) {
    throw std::invalid_argument("min-norm problem of " + std::to_string(rows) +
                                " weights: it needs " + std::to_string(bytes) +
                                " bytes of shared memory, CUDA device " + std::to_string(device) +
                                " has " + std::to_string(limit));
  }
  const DeviceGuard guard(device);
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, limit),
        "cudaFuncSetAttribute", device);
  return bytes;
}

}  // namespace

std::int64_t most_weights(int device) {
  const auto limit =
      static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  int rows = 1;
  while (shared_bytes(rows + 1) <= limit) ++rows;
  return rows;
}

void min_norm(const double* gramian, std::int64_t tasks, const double* losses, double* weights,
              double* outcome, Stream stream) {
  const auto bytes = reserve_shared(min_norm_kernel, tasks, stream.device);
  launch(min_norm_kernel, "launch of the min-norm kernel", 1, warp_lanes, bytes, stream, gramian,
         static_cast<int>(tasks), losses, weights, outcome);
}

std::int64_t pareto_mtl_workspace(std::int64_t tasks, std::int64_t vectors) {
  return ParetoMtl<WarpTeam>::memory(static_cast<int>(tasks), static_cast<int>(vectors));
}

void pareto_mtl(const ParetoMtlStep& step, const double* losses, const double* gramian,
                const double* reference_vectors, double* state, double* workspace, double* weights,
                double* outcome, Stream stream) {
  const auto rows = step.tasks + step.vectors - 1;
  const auto bytes = reserve_shared(pareto_mtl_kernel, rows, stream.device);
  launch(pareto_mtl_kernel, "launch of the Pareto MTL kernel", 1, warp_lanes, bytes, stream, step,
         losses, gramian, reference_vectors, state, workspace, weights, outcome);
}

}  // namespace pyfront::device
