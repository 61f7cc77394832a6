#pragma once

// float16 as the kernels in csrc/ use it.

#include "cuda_runtime.h"

struct __half {
  unsigned short bits;
};

inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }

inline float __half2float(__half x) {
  const int exponent = x.bits >> 10 & 31;
  const int mantissa = x.bits & 1023;
  const double magnitude = exponent == 0    ? std::ldexp(mantissa, -24)
                           : exponent == 31 ? (mantissa != 0 ? NAN : INFINITY)
                                            : std::ldexp(mantissa + 1024, exponent - 25);
  return static_cast<float>((x.bits & 0x8000) != 0 ? -magnitude : magnitude);
}

// To the nearest, ties to the even one; the bits of a carry run on into the exponent.
inline __half __float2half_rn(float x) {
  const unsigned sign = std::signbit(x) ? 0x8000u : 0u;
  const double magnitude = std::fabs(x);
  unsigned bits = 0x7fff;
  if (magnitude >= 65520.0) {
    bits = 0x7c00;
  } else if (!std::isnan(x)) {
    const int exponent = std::max(std::ilogb(std::fmax(magnitude, 0x1p-24)), -14);
    const auto steps = static_cast<unsigned>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
    bits = (static_cast<unsigned>(exponent + 14) << 10) + steps;
  }
  return {static_cast<unsigned short>(sign | bits)};
}
