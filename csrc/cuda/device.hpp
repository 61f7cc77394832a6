#pragma once

// What the core computes on a CUDA device; compiled by nvcc alone. Pointers are device memory, work
// is queued on the given stream, and nothing here waits for the device or allocates memory, so that
// a CUDA graph can capture it.

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

#include "common/gradient_table.hpp"
#include "cuda/plan.hpp"

namespace pyfront::device {

// A CUDA call failed: the message names the call and the device.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Stream {
  int device = 0;
  void* handle = nullptr;  // cudaStream_t
};

// Why no device can be used; empty if one can.
std::string unavailable();

int multiprocessors(int device);

// C = J Jᵀ [m × m]; `partials` has room for plan.slots · m (m + 1) / 2 doubles. Products of float32
// and narrower are exact and summed in float64 in an order that depends on the lengths, m and the
// number of multiprocessors alone: two calls give the same bits.
void gramian(const Plan& plan, std::int64_t tasks, double* c, double* partials, Stream stream);

// d = Jᵀ w for weights [m] in device memory.
void combine(const Plan& plan, std::int64_t tasks, const double* weights, Stream stream);

// The most weights that a min-norm problem on a device can have: its shared memory holds it.
std::int64_t most_weights(int device);

// Min-norm weights of C [m × m]. `losses` [count] are looked at for NaN and infinity alone; null
// for none. `outcome` receives status and gap.
void min_norm(const double* gramian, std::int64_t tasks, const double* losses, double* weights,
              double* outcome, Stream stream);

// What Pareto MTL keeps from step to step, in device memory: 3 + m doubles.
//   [0] phase, [1] steps of the feasibility phase, [2] whether it ended in the region, [3…] running
//   average of the losses.
struct ParetoMtlStep {
  std::int64_t tasks = 0;
  std::int64_t vectors = 0;
  std::int64_t index = 0;
  double epsilon = 0.0;
  std::int64_t warmup_steps = 0;
  double average = 0.0;  // the share of what was before
  bool rescale = false;
};

// Doubles of work space.
std::int64_t pareto_mtl_workspace(std::int64_t tasks, std::int64_t vectors);

// Pareto MTL's weights in the phase that `state` says, and the next state. `outcome` receives
// status, gap and the phase that was solved for.
void pareto_mtl(const ParetoMtlStep& step, const double* losses, const double* gramian,
                const double* reference_vectors, double* state, double* workspace, double* weights,
                double* outcome, Stream stream);

}  // namespace pyfront::device
