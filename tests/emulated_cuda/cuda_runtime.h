#pragma once

// As much of CUDA as the sources in csrc/ use, on one thread of the processor. What a kernel calls
// is in lanes.hpp; here is what launches it: two devices, of which neither launch nor setting
// carries over to the other, and errors where a GPU gives one.

#include <iterator>
#include <map>
#include <tuple>
#include <utility>

#include "lanes.hpp"

using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;
constexpr cudaError_t cudaErrorInvalidValue = 1;
constexpr cudaError_t cudaErrorInvalidConfiguration = 9;
constexpr cudaError_t cudaErrorInvalidDevice = 101;
constexpr cudaError_t cudaErrorInvalidResourceHandle = 400;
constexpr cudaError_t cudaErrorIllegalAddress = 700;

struct CUstream_st {
  int device = 0;
};
using cudaStream_t = CUstream_st*;
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

namespace emulation {

struct Device {
  int shared_bytes = 0;                 // that a thread block may ask for
  std::map<const void*, int> reserved;  // that the launches of a kernel may ask for
};
inline Device devices[] = {{.shared_bytes = 65536}, {.shared_bytes = 232448}};  // a T4, an H100
inline int current_device = 0;
inline cudaError_t last_error = cudaSuccess;
inline cudaError_t late_error = cudaSuccess;  // of earlier work, that the next launch reports

inline cudaError_t fail(cudaError_t error) { return last_error = error; }
inline bool exists(int device) { return 0 <= device && device < std::ssize(devices); }

// Why a launch fails. The default stream is none for a library: it waits for all others.
inline cudaError_t refusal(const cudaLaunchConfig_t& config, const void* kernel) {
  const auto& reserved = devices[current_device].reserved;
  const auto own = reserved.find(kernel);
  const auto limit = static_cast<std::size_t>(own == reserved.end() ? 48 << 10 : own->second);
  const auto threads = config.blockDim.x;
  if (late_error != cudaSuccess) return std::exchange(late_error, cudaSuccess);
  if (config.stream == nullptr || config.stream->device != current_device) {
    return cudaErrorInvalidResourceHandle;
  }
  if (config.gridDim.x == 0 || threads == 0 || threads > 1024 || threads % lanes != 0) {
    return cudaErrorInvalidConfiguration;
  }
  return config.dynamicSmemBytes > limit ? cudaErrorInvalidValue : cudaSuccess;
}

}  // namespace emulation

inline const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    default:
      return "no error";
  }
}
inline cudaError_t cudaGetLastError() { return std::exchange(emulation::last_error, cudaSuccess); }
inline cudaError_t cudaGetDevice(int* device) {
  return *device = emulation::current_device, cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  if (!emulation::exists(device)) return emulation::fail(cudaErrorInvalidDevice);
  return emulation::current_device = device, cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  return *count = static_cast<int>(std::ssize(emulation::devices)), cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int bytes) {
  auto& device = emulation::devices[emulation::current_device];
  if (bytes > device.shared_bytes) return emulation::fail(cudaErrorInvalidValue);
  return device.reserved[kernel] = bytes, cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (!emulation::exists(device)) return emulation::fail(cudaErrorInvalidDevice);
  const bool shared = attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin;
  return *value = shared ? emulation::devices[device].shared_bytes
                  : attribute == cudaDevAttrMultiProcessorCount    ? 132
                  : attribute == cudaDevAttrComputeCapabilityMajor ? 9
                                                                   : 0,
         cudaSuccess;
}

template <class... Parameters>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Parameters... arguments) {
  const auto error = emulation::refusal(*config, reinterpret_cast<const void*>(kernel));
  if (error != cudaSuccess) return emulation::fail(error);
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
