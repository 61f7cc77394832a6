#pragma once

// bfloat16 as the kernels in csrc/ use it.

#include "cuda_runtime.h"

struct __nv_bfloat16 {
  unsigned short bits;
};

inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  const unsigned bits = std::bit_cast<unsigned>(x);
  if (std::isnan(x)) return {0x7fff};
  const unsigned half = 0x7fffu + (bits >> 16 & 1u);  // ties go to the even one
  return {static_cast<unsigned short>((bits + half) >> 16)};
}
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
