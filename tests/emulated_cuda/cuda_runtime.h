#pragma once

// As much of CUDA as the kernels in csrc/ use, on one thread of the processor: they are compiled
// unchanged and run lane by lane. A lane is a fiber that gives way where it waits for others, so
// that one that overtakes the rest reads what is not there yet; `reversed` turns the order round.
// watch.hpp looks at the memory that the lanes touch.

#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "watch.hpp"

#define __device__
#define __host__
#define __global__
#define __forceinline__
#define __grid_constant__
#define __launch_bounds__(...)

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
struct dim3 {
  unsigned x = 1;
  dim3(unsigned count = 1) : x(count) {}
};
inline dim3 threadIdx, blockIdx, gridDim;

namespace emulation {

constexpr int lanes = 32;
inline bool reversed = false;

// What lanes wait for each other in: all of them in the same.
enum class Meeting { none, threads, warp, shuffle, vote, product };

// A point where `size` lanes wait for each other.
struct Barrier {
  int size = 0;
  int arrived = 0;
  Meeting meeting = Meeting::none;
  std::uint64_t passed = 0;
};

struct Warp {
  Barrier barrier{.size = lanes};
  double left[2][lanes];  // what the lanes hand each other: two sets, used in turn
  double right[2][lanes];
  std::vector<int> turns = std::vector<int>(lanes, 0);
};

struct Fiber {
  static constexpr std::size_t stack_bytes = 1 << 17;
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[stack_bytes]};
  bool done = false;
  watch::Place place;
};

inline ucontext_t scheduler;
inline std::vector<Fiber> fibers;
inline std::vector<Warp> warps;
inline Barrier block;
inline std::function<void()> body;
inline std::uint64_t progress = 0;  // barriers passed and lanes ended

[[noreturn]] inline void fail(const char* words) {
  std::fprintf(stderr, "emulated CUDA: %s\n", words);
  std::abort();
}

inline void wait(Barrier& barrier, Meeting meeting) {
  if (barrier.arrived == 0) barrier.meeting = meeting;
  if (barrier.meeting != meeting) fail("lanes wait for each other in different instructions");
  if (++barrier.arrived == barrier.size) {
    barrier.arrived = 0;
    ++barrier.passed;
    ++progress;
    return;
  }
  for (const auto before = barrier.passed; barrier.passed == before;) {
    swapcontext(&fibers[threadIdx.x].context, &scheduler);
  }
}

inline Warp& warp() { return warps[threadIdx.x / lanes]; }
inline int lane() { return static_cast<int>(threadIdx.x) % lanes; }
inline watch::Place& place() { return fibers[threadIdx.x].place; }

inline void look() {
  const auto& fiber = fibers[threadIdx.x];
  watch::begin(&fiber.place, fiber.stack.get(), Fiber::stack_bytes);
}

// What the emulation does for a lane is not the kernel's doing.
struct Aside {
  Aside() { watch::end(); }
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;
  ~Aside() { look(); }
};

inline void enter() {
  look();
  body();
  watch::end();
  fibers[threadIdx.x].done = true;
  ++progress;
}

inline void run_block(unsigned threads) {
  block = {.size = static_cast<int>(threads)};
  warps.assign(threads / lanes, Warp{});
  if (fibers.size() != threads) fibers = std::vector<Fiber>(threads);
  watch::begin_block();
  for (unsigned lane = 0; lane < threads; ++lane) {
    auto& fiber = fibers[lane];
    fiber.done = false;
    fiber.place = {.block = blockIdx.x, .lane = lane};
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = Fiber::stack_bytes;
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, enter, 0);
  }
  for (unsigned left = threads; left > 0;) {
    const auto before = progress;
    for (unsigned turn = 0; turn < threads; ++turn) {
      threadIdx.x = reversed ? threads - 1 - turn : turn;
      auto& fiber = fibers[threadIdx.x];
      if (fiber.done) continue;
      swapcontext(&scheduler, &fiber.context);
      if (fiber.done) --left;
    }
    if (progress == before) fail("lanes wait for others that never come");
  }
}

// sums += left · rightᵀ: lane 4 r + k holds element (r, k) of both 8 × 4 factors and entries
// (r, 2 k), (r, 2 k + 1) of the sums (PTX ISA, mma.m8n8k4 with .f64).
inline void multiply(double (&sums)[2], double left, double right) {
  const Aside aside;
  auto& own = warp();
  const int set = own.turns[static_cast<std::size_t>(lane())]++ % 2;
  own.left[set][lane()] = left;
  own.right[set][lane()] = right;
  wait(own.barrier, Meeting::product);
  for (int c = 0; c < 2; ++c) {
    for (int k = 0; k < 4; ++k) {
      sums[c] = std::fma(own.left[set][lane() / 4 * 4 + k],
                         own.right[set][(lane() % 4 * 2 + c) * 4 + k], sums[c]);
    }
  }
}

// What lane `source` hands over.
inline double handed(double value, int source) {
  const Aside aside;
  auto& own = warp();
  const int set = own.turns[static_cast<std::size_t>(lane())]++ % 2;
  own.left[set][lane()] = value;
  wait(own.barrier, Meeting::shuffle);
  return source < lanes ? own.left[set][source] : value;
}

}  // namespace emulation

inline void __syncthreads() {
  const emulation::Aside aside;
  emulation::wait(emulation::block, emulation::Meeting::threads);
  ++emulation::place().block_barriers;
}
inline void __syncwarp() {
  const emulation::Aside aside;
  emulation::wait(emulation::warp().barrier, emulation::Meeting::warp);
  ++emulation::place().warp_barriers;
}
inline double __shfl_sync(unsigned, double value, int source) {
  return emulation::handed(value, source);
}
inline double __shfl_down_sync(unsigned, double value, unsigned distance) {
  return emulation::handed(value, emulation::lane() + static_cast<int>(distance));
}
inline int __any_sync(unsigned, bool own) {
  const emulation::Aside aside;
  bool any = false;
  auto& warp = emulation::warp();
  const int set = warp.turns[static_cast<std::size_t>(emulation::lane())]++ % 2;
  warp.left[set][emulation::lane()] = own ? 1.0 : 0.0;
  emulation::wait(warp.barrier, emulation::Meeting::vote);
  for (const double other : warp.left[set]) any |= other != 0.0;
  return any ? 1 : 0;
}

inline uint4 __ldg(const uint4* address) {
  emulation::watch::read(address, sizeof *address);  // all of it, whatever is made of it
  const emulation::Aside aside;
  return *address;
}
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline double __hiloint2double(int high, int low) {
  return std::bit_cast<double>(std::uint64_t{static_cast<unsigned>(high)} << 32 |
                               static_cast<unsigned>(low));
}
inline int __double2loint(double x) { return static_cast<int>(std::bit_cast<std::uint64_t>(x)); }
inline int __double2hiint(double x) {
  return static_cast<int>(std::bit_cast<std::uint64_t>(x) >> 32);
}
inline float __double2float_rn(double x) { return static_cast<float>(x); }
inline float __double2float_rz(double x) {
  const auto nearest = static_cast<float>(x);
  const bool away = std::fabs(static_cast<double>(nearest)) > std::fabs(x);
  return away ? std::nextafter(nearest, 0.0f) : nearest;
}
using std::isfinite;

// ------------------------------------------------------------------------------------- the runtime

using cudaError_t = int;
using cudaStream_t = void*;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
};
enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerBlockOptin
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
#define CUDART_VERSION 13000
constexpr cudaError_t cudaSuccess = 0;

inline const char* cudaGetErrorString(cudaError_t) { return "error"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
// an H100's
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const bool shared = attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin;
  return *value = shared                                           ? 232448
                  : attribute == cudaDevAttrMultiProcessorCount    ? 132
                  : attribute == cudaDevAttrComputeCapabilityMajor ? 9
                                                                   : 0,
         cudaSuccess;
}

template <class... Parameters>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Parameters... arguments) {
  static void (*called)(Parameters...);
  static std::tuple<Parameters...> given;
  called = kernel;
  given = {arguments...};
  emulation::body = [] { std::apply(called, given); };
  emulation::watch::begin_launch(config->dynamicSmemBytes);
  gridDim = config->gridDim;
  for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) {
    emulation::run_block(config->blockDim.x);
  }
  return cudaSuccess;
}
