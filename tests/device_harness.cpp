// The CUDA kernels on the CPU, lane by lane, and their plans: compiled by emulated.py, called by
// test_device_plan.py, test_kernels.py and test_weight_kernels.py. Every call declares the memory
// that it hands over.

#include <algorithm>
#include <cstring>
#include <iterator>
#include <vector>

#include "cuda_runtime.h"  // the emulated one

#define __shared__ static  // one thread block runs at a time
#define asm(...)                                               \
  static_assert(#__VA_ARGS__ == emulation::product_statement); \
  emulation::multiply(sums, left, right)
#include "cuda/gramian.cu"
#undef asm
#undef __shared__
#define __shared__  // an array without a length, whose memory is below
#include "cuda/decide.cu"

namespace pyfront::device {
namespace {
alignas(16) double shared[232448 / sizeof(double)];
}
}  // namespace pyfront::device

namespace pf = pyfront;
namespace dev = pyfront::device;
namespace watch = emulation::watch;

namespace {

[[maybe_unused]] const bool shared_is_known = [] {
  watch::set_shared(dev::shared, sizeof dev::shared);
  return true;
}();

void allow(const double* numbers, std::int64_t count) {
  watch::allow(numbers, static_cast<std::size_t>(count) * sizeof *numbers);
}

void allow(const pf::GradientTable& table) {
  for (std::int64_t task = 0; task < table.tasks; ++task) {
    for (std::int64_t block = 0; block < table.blocks; ++block) {
      const auto bytes = table.length(block) * pf::size_of(table.dtype(block));
      watch::allow(table.at(task, block), static_cast<std::size_t>(bytes));
    }
  }
}

// The calls are for device 1, and device 0 is current.
CUstream_st streams[] = {{.device = 0}, {.device = 1}};
dev::Stream stream{.device = 1, .handle = &streams[1]};

// What a call throws, or leaves otherwise than it was, is a fault too.
template <class Call>
void checked(const Call& call) {
  try {
    call();
  } catch (const std::exception& error) {
    watch::fault(error.what());
  }
  if (emulation::current_device != 0) watch::fault("another device than before is current");
  if (cudaGetLastError() != cudaSuccess) watch::fault("the next check would find an old error");
  emulation::current_device = 0;
}

pf::GradientTable table_of(int tasks, int blocks, void** pointers, const std::int64_t* lengths,
                           const std::uint8_t* dtypes) {
  const auto count = static_cast<std::size_t>(blocks);
  return {.tasks = tasks,
          .blocks = blocks,
          .pointers = {pointers, count * static_cast<std::size_t>(tasks)},
          .lengths = {lengths, count},
          .dtypes = {reinterpret_cast<const pf::DType*>(dtypes), count}};
}

void product_kernel(int by_shuffles, const double* left, const double* right, double* sums) {
  const auto lane = threadIdx.x;
  double own[2] = {sums[2 * lane], sums[2 * lane + 1]};
  if (by_shuffles != 0) {
    dev::multiply_by_shuffles(own, left[lane], right[lane]);
  } else {
    dev::multiply_by_matrix_unit(own, left[lane], right[lane]);
  }
  sums[2 * lane] = own[0];
  sums[2 * lane + 1] = own[1];
}

}  // namespace

extern "C" {

// sums [8 × 8] += left · rightᵀ for 8 × 4 matrices.
void emulate_product(int by_shuffles, const double* left, const double* right, double* sums) {
  watch::allow_nothing();
  allow(left, 32);
  allow(right, 32);
  allow(sums, 64);
  checked([&] {
    dev::launch(product_kernel, "product", 1, dev::warp_lanes, 0, stream, by_shuffles, left, right,
                sums);
  });
}

// The device of the calls, the one whose stream they are given, and the bytes of shared memory that
// a thread block of device 1 may ask for.
void set_device(int device, int device_of_stream, int shared_bytes) {
  stream = {.device = device, .handle = &streams[device_of_stream]};
  emulation::devices[1].shared_bytes = shared_bytes;
  for (auto& each : emulation::devices) each.reserved.clear();
}

// As if work before the next launch had read out of bounds.
void fail_late() { emulation::late_error = cudaErrorIllegalAddress; }

// The order in which the lanes of a thread block take their turns.
void run_lanes_backwards(int backwards) { emulation::reversed = backwards != 0; }

// C on a GPU with so many multiprocessors. Returns the number of launches, −1 for a refusal.
int emulate_gramian(int tasks, int blocks, void** pointers, const std::int64_t* lengths,
                    const std::uint8_t* dtypes, int multiprocessors, double* c) {
  const auto jacobian = table_of(tasks, blocks, pointers, lengths, dtypes);
  dev::Plan plan;
  try {
    plan = dev::plan_gramian(jacobian, multiprocessors);
  } catch (const std::invalid_argument&) {
    return -1;
  }
  std::vector<double> partials(static_cast<std::size_t>(plan.slots * tasks * (tasks + 1) / 2), NAN);
  watch::allow_nothing();
  allow(jacobian);
  allow(partials.data(), std::ssize(partials));
  allow(c, tasks * tasks);
  checked([&] { dev::gramian(plan, tasks, c, partials.data(), stream); });
  return static_cast<int>(plan.launches.size());
}

// d into the memory of `direction`.
void emulate_combine(int tasks, int blocks, void** pointers, void** direction,
                     const std::int64_t* lengths, const std::uint8_t* dtypes, const double* weights,
                     int multiprocessors) {
  const auto jacobian = table_of(tasks, blocks, pointers, lengths, dtypes);
  const auto target = table_of(1, blocks, direction, lengths, dtypes);
  watch::allow_nothing();
  allow(jacobian);
  allow(target);
  allow(weights, tasks);
  const auto plan = dev::plan_combine(jacobian, target, multiprocessors);
  checked([&] { dev::combine(plan, tasks, weights, stream); });
}

// The plan for lengths that no memory holds: for each launch tiles, grid, blocks, filled slots, the
// last block's end tile and its length, aligned or not.
int describe_plan(int tasks, int blocks, void** pointers, const std::int64_t* lengths,
                  const std::uint8_t* dtypes, int multiprocessors, int capacity,
                  std::int64_t* rows) {
  const auto plan =
      dev::plan_gramian(table_of(tasks, blocks, pointers, lengths, dtypes), multiprocessors);
  int count = 0;
  for (const auto& launch : plan.launches) {
    if (count == capacity) return -1;
    const int last = launch.table.blocks - 1;
    const std::int64_t values[] = {launch.tiles,
                                   launch.grid,
                                   launch.table.blocks,
                                   launch.filled,
                                   launch.table.end_tile(last),
                                   launch.table.length(last),
                                   launch.table.aligned(last)};
    std::memcpy(rows + 7 * count++, values, sizeof values);
  }
  return count;
}

std::int64_t tile_columns(int tasks, int dtype) {
  const auto type = static_cast<pf::DType>(dtype);
  return dev::gramian_tile(dev::shape_for(tasks), dev::vector_length(type));
}

// `outcome` [2]: status and gap.
void emulate_min_norm(const double* gramian, int tasks, const double* losses, double* weights,
                      double* outcome) {
  watch::allow_nothing();
  allow(gramian, tasks * tasks);
  allow(losses, tasks);
  allow(weights, tasks);
  allow(outcome, 2);
  checked([&] { dev::min_norm(gramian, tasks, losses, weights, outcome, stream); });
}

// `numbers`: epsilon, warm-up steps, share of the average, whether weights are scaled; `state`
// [3 + tasks]; `outcome` [3]: status, gap, phase.
void emulate_pareto_mtl(int tasks, int vectors, int index, const double* numbers,
                        const double* losses, const double* gramian,
                        const double* reference_vectors, double* state, double* weights,
                        double* outcome) {
  const auto count = static_cast<std::size_t>(dev::pareto_mtl_workspace(tasks, vectors));
  std::vector<double> workspace(count, NAN);
  watch::allow_nothing();
  allow(losses, tasks);
  allow(gramian, tasks * tasks);
  allow(reference_vectors, vectors * tasks);
  allow(state, 3 + tasks);
  allow(workspace.data(), std::ssize(workspace));
  allow(weights, tasks);
  allow(outcome, 3);
  const dev::ParetoMtlStep step{.tasks = tasks,
                                .vectors = vectors,
                                .index = index,
                                .epsilon = numbers[0],
                                .warmup_steps = static_cast<std::int64_t>(numbers[1]),
                                .average = numbers[2],
                                .rescale = numbers[3] != 0.0};
  checked([&] {
    dev::pareto_mtl(step, losses, gramian, reference_vectors, state, workspace.data(), weights,
                    outcome, stream);
  });
}
}
