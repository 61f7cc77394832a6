#pragma once

// Elements of gradients on a CUDA device: 16 bytes of them at a time, widened to float64 and back.

#include <cuda_fp16.h>

#include <cstdint>

#include "cuda/plan.hpp"

namespace pyfront::device {

struct Float32 {
  static constexpr int vector = 4;
};
struct Float64 {
  static constexpr int vector = 2;
};
struct BFloat16 {
  static constexpr int vector = 8;
};
struct Float16 {
  static constexpr int vector = 8;
};

union Vector {
  uint4 whole;
  unsigned words[4];
};

// Element v of a vector, v a constant after unrolling.
__device__ __forceinline__ double widen(Float32, const Vector& x, int v) {
  return static_cast<double>(__uint_as_float(x.words[v]));
}
__device__ __forceinline__ double widen(Float64, const Vector& x, int v) {
  return __hiloint2double(static_cast<int>(x.words[2 * v + 1]), static_cast<int>(x.words[2 * v]));
}
__device__ __forceinline__ double widen(BFloat16, const Vector& x, int v) {
  const unsigned bits = v % 2 == 0 ? x.words[v / 2] << 16 : x.words[v / 2] & 0xffff0000u;
  return static_cast<double>(__uint_as_float(bits));
}
__device__ __forceinline__ double widen(Float16, const Vector& x, int v) {
  const auto bits = static_cast<unsigned short>(x.words[v / 2] >> (16 * (v % 2)));
  return static_cast<double>(__half2float(__ushort_as_half(bits)));
}

// The nearest float32 whose last bit says whether anything was lost: rounding it to a type of at
// least two bits less is rounding x itself, once.
__device__ __forceinline__ float round_to_odd(double x) {
  const float cut = __double2float_rz(x);
  const unsigned bits = __float_as_uint(cut) | (static_cast<double>(cut) != x ? 1u : 0u);
  return __uint_as_float(bits);
}

__device__ __forceinline__ void narrow(Float32, Vector& out, int v, double x) {
  out.words[v] = __float_as_uint(__double2float_rn(x));
}
__device__ __forceinline__ void narrow(Float64, Vector& out, int v, double x) {
  out.words[2 * v] = static_cast<unsigned>(__double2loint(x));
  out.words[2 * v + 1] = static_cast<unsigned>(__double2hiint(x));
}
__device__ __forceinline__ void put_half(Vector& out, int v, unsigned short bits) {
  const unsigned shift = 16 * (v % 2);
  const unsigned kept = v % 2 == 0 ? 0u : out.words[v / 2];
  out.words[v / 2] = kept | static_cast<unsigned>(bits) << shift;
}
__device__ __forceinline__ void narrow(BFloat16, Vector& out, int v, double x) {
  const float odd = round_to_odd(x);
  const unsigned bits = __float_as_uint(odd);
  const unsigned half = 0x7fffu + (bits >> 16 & 1u);  // ties go to the even one
  put_half(out, v, static_cast<unsigned short>(odd != odd ? 0x7fffu : (bits + half) >> 16));
}
__device__ __forceinline__ void narrow(Float16, Vector& out, int v, double x) {
  put_half(out, v, __half_as_ushort(__float2half_rn(round_to_odd(x))));
}

// The vector that starts at an element, in one load; `row` null: zeros.
template <class T>
__device__ __forceinline__ Vector load_whole(T, const void* row, std::int64_t column) {
  constexpr int bytes = vector_bytes / T::vector;
  Vector x;
  x.whole = make_uint4(0, 0, 0, 0);
  if (row != nullptr) {
    x.whole = __ldg(reinterpret_cast<const uint4*>(static_cast<const char*>(row) + column * bytes));
  }
  return x;
}

// The same element by element, zeros from `length` on.
template <class T>
__device__ __forceinline__ Vector load_some(T, const void* row, std::int64_t column,
                                            std::int64_t length) {
  Vector x;
  x.whole = make_uint4(0, 0, 0, 0);
  if (row == nullptr) return x;
#pragma unroll
  for (int v = 0; v < T::vector; ++v) {
    if (column + v >= length) continue;
    if constexpr (T::vector == 8) {
      const unsigned bits = static_cast<const unsigned short*>(row)[column + v];
      x.words[v / 2] |= bits << (16 * (v % 2));
    } else if constexpr (T::vector == 4) {
      x.words[v] = static_cast<const unsigned*>(row)[column + v];
    } else {
      const auto bits = static_cast<const unsigned long long*>(row)[column + v];
      x.words[2 * v] = static_cast<unsigned>(bits);
      x.words[2 * v + 1] = static_cast<unsigned>(bits >> 32);
    }
  }
  return x;
}

template <class T>
__device__ __forceinline__ void store_some(T, void* row, std::int64_t column, std::int64_t length,
                                           const Vector& x) {
#pragma unroll
  for (int v = 0; v < T::vector; ++v) {
    if (column + v >= length) continue;
    if constexpr (T::vector == 8) {
      static_cast<unsigned short*>(row)[column + v] =
          static_cast<unsigned short>(x.words[v / 2] >> (16 * (v % 2)));
    } else if constexpr (T::vector == 4) {
      static_cast<unsigned*>(row)[column + v] = x.words[v];
    } else {
      static_cast<unsigned long long*>(row)[column + v] =
          x.words[2 * v] | static_cast<unsigned long long>(x.words[2 * v + 1]) << 32;
    }
  }
}

// Calls f with the element type.
template <class F>
void with_type(DType dtype, const F& f) {
  switch (dtype) {
    case DType::float32:
      return f(Float32{});
    case DType::float64:
      return f(Float64{});
    case DType::bfloat16:
      return f(BFloat16{});
    case DType::float16:
      return f(Float16{});
  }
}

}  // namespace pyfront::device
