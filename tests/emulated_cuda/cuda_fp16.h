#pragma once

// float16 as the kernels in csrc/ use it; _Float16 rounds to the nearest, ties to the even one.

#include "cuda_runtime.h"

using __half = _Float16;

inline float __half2float(__half x) { return static_cast<float>(x); }
inline __half __ushort_as_half(unsigned short bits) { return std::bit_cast<__half>(bits); }
inline __half __float2half_rn(float x) { return static_cast<__half>(x); }
inline unsigned short __half_as_ushort(__half x) { return std::bit_cast<unsigned short>(x); }
