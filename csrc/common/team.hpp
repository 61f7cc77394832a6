#pragma once

#include <cstdint>

// Functions that are compiled for the processor and, by nvcc, for the GPU.
#if defined(__CUDACC__)
#define PYFRONT_HOST_DEVICE __host__ __device__
// what is called from many places or seldom: the GPU has little room for instructions
#define PYFRONT_HOST_DEVICE_CALL __host__ __device__ __noinline__
#else
#define PYFRONT_HOST_DEVICE
#define PYFRONT_HOST_DEVICE_CALL
#endif

namespace pyfront {

// A team runs one algorithm together: every member calls every function with equal arguments and
// takes equal decisions, scalars are kept by each, arrays are shared, and a loop over an array is
// dealt out by rank. Each element is computed by one member in the order of a single thread, so
// that the result does not depend on the size of the team, to the bit. Writes are fenced by sync()
// on both sides. On the CPU the team is one thread, on the GPU one warp (device_team.cuh).
struct SerialTeam {
  using Index = std::int64_t;
  static constexpr Index chunk = 4;  // neighbouring elements that one member takes in a row
  static constexpr Index block = 8;  // rows of a product that one member sums in registers
  PYFRONT_HOST_DEVICE static constexpr Index rank() { return 0; }
  PYFRONT_HOST_DEVICE static constexpr Index size() { return 1; }
  PYFRONT_HOST_DEVICE static void sync() {}
  PYFRONT_HOST_DEVICE static bool any(bool own) { return own; }
};

// std::max and std::min, for both.
template <class T>
PYFRONT_HOST_DEVICE constexpr T larger(T a, T b) {
  return a < b ? b : a;
}
template <class T>
PYFRONT_HOST_DEVICE constexpr T smaller(T a, T b) {
  return b < a ? b : a;
}

inline constexpr double unit_roundoff = 0x1p-53;

}  // namespace pyfront
