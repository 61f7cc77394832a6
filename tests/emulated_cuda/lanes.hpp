#pragma once

// What the kernels in csrc/ call: they are compiled unchanged and run lane by lane. A lane is a
// fiber that gives way where it waits for others, so that one that overtakes the rest reads what is
// not there yet; `reversed` turns the order round. watch.hpp looks at the memory that they touch.

#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "watch.hpp"

#define __device__
#define __host__
#define __global__
#define __forceinline__
#define __grid_constant__
#define __launch_bounds__(...)

// loaded and stored whole, and at any address: watch.cpp looks at the address
using uint4 = unsigned __attribute__((vector_size(16), aligned(4)));
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return uint4{x, y, z, w};
}
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

// What the lanes of a warp hand each other.
struct Exchange {
  double left[lanes];
  double right[lanes];
};

struct Warp {
  Barrier barrier{.size = lanes};
  Exchange exchanges[2];  // used in turn: a lane may be at the next while another reads the last
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

inline Warp& warp() { return warps[threadIdx.x / lanes]; }
inline int lane() { return static_cast<int>(threadIdx.x) % lanes; }
inline watch::Place& place() { return fibers[threadIdx.x].place; }
inline void give_way() { swapcontext(&fibers[threadIdx.x].context, &scheduler); }

inline void wait(Barrier& barrier, Meeting meeting) {
  if (barrier.arrived == 0) barrier.meeting = meeting;
  if (barrier.meeting != meeting) {
    watch::fault(watch::name(place()) + " waits in another instruction than the others");
    for (;;) give_way();  // until run_block() ends the thread block
  }
  if (++barrier.arrived == barrier.size) {
    barrier.arrived = 0;
    ++barrier.passed;
    ++progress;
    return;
  }
  for (const auto before = barrier.passed; barrier.passed == before;) give_way();
}

// What all lanes of the warp hand over in one instruction.
inline const Exchange& exchange(Meeting meeting, double left, double right = 0.0) {
  auto& own = warp();
  auto& all = own.exchanges[own.turns[static_cast<std::size_t>(lane())]++ % 2];
  all.left[lane()] = left;
  all.right[lane()] = right;
  wait(own.barrier, meeting);
  return all;
}

// All lanes meet: that is all that the kernels need, and all that is emulated.
inline void require_all_lanes(unsigned mask) {
  if (mask != 0xffffffffu) watch::fault(watch::name(place()) + " leaves lanes out by a mask");
}

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
    const Fiber* waiting = nullptr;
    for (unsigned turn = 0; turn < threads; ++turn) {
      threadIdx.x = reversed ? threads - 1 - turn : turn;
      auto& fiber = fibers[threadIdx.x];
      if (fiber.done) continue;
      swapcontext(&scheduler, &fiber.context);
      fiber.done ? void(--left) : void(waiting = &fiber);
    }
    if (progress == before) {
      return watch::fault(watch::name(waiting->place) + " waits for others that never come");
    }
  }
}

// The one instruction that is emulated, and its operands.
inline constexpr std::string_view product_statement =
    R"("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};" )"
    R"(: "+d"(sums[0]), "+d"(sums[1]) : "d"(left), "d"(right))";

// sums += left · rightᵀ: lane 4 r + k holds element (r, k) of both 8 × 4 factors and entries
// (r, 2 k), (r, 2 k + 1) of the sums (PTX ISA, mma.m8n8k4 with .f64).
inline void multiply(double (&sums)[2], double left, double right) {
  const Aside aside;
  const auto& all = exchange(Meeting::product, left, right);
  for (int c = 0; c < 2; ++c) {
    for (int k = 0; k < 4; ++k) {
      sums[c] =
          std::fma(all.left[lane() / 4 * 4 + k], all.right[(lane() % 4 * 2 + c) * 4 + k], sums[c]);
    }
  }
}

// What lane `source` hands over.
inline double handed(unsigned mask, double value, int source) {
  const Aside aside;
  require_all_lanes(mask);
  const auto& all = exchange(Meeting::shuffle, value);
  return source < lanes ? all.left[source] : value;
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
inline double __shfl_sync(unsigned mask, double value, int source) {
  return emulation::handed(mask, value, source);
}
inline double __shfl_down_sync(unsigned mask, double value, unsigned distance) {
  return emulation::handed(mask, value, emulation::lane() + static_cast<int>(distance));
}
inline int __any_sync(unsigned mask, bool own) {
  const emulation::Aside aside;
  emulation::require_all_lanes(mask);
  bool any = false;
  const auto& all = emulation::exchange(emulation::Meeting::vote, own ? 1.0 : 0.0);
  for (const double other : all.left) any |= other != 0.0;
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
