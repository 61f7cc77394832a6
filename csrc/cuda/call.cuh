#pragma once

// Checked calls of the CUDA runtime.

#include <cuda_runtime.h>

#include <string>

#include "cuda/device.hpp"

namespace pyfront::device {

inline void check(cudaError_t error, const char* call, int device) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // what we report must not fail someone else's next check
  // 700 to 719: a kernel has failed that was started some time before, by anybody
  const bool late = static_cast<int>(error) >= 700 && static_cast<int>(error) < 720;
  throw Error(std::string(call) + " on CUDA device " + std::to_string(device) + ": " +
              cudaGetErrorString(error) +
              (late ? "; earlier work may be the cause (CUDA_LAUNCH_BLOCKING=1 shows which)" : ""));
}

inline int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute", device);
  return value;
}

// Makes a device current, and the one before again.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) : device_(device) {
    check(cudaGetDevice(&before_), "cudaGetDevice", device);
    if (before_ != device_) check(cudaSetDevice(device_), "cudaSetDevice", device);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  ~DeviceGuard() {
    if (before_ != device_) cudaSetDevice(before_);
  }

 private:
  int device_;
  int before_ = 0;
};

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const char* name, unsigned grid, unsigned block,
            std::size_t shared, Stream stream, const Arguments&... arguments) {
  const DeviceGuard guard(stream.device);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(grid);
  config.blockDim = dim3(block);
  config.dynamicSmemBytes = shared;
  config.stream = static_cast<cudaStream_t>(stream.handle);
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), name,
        stream.device);
}

}  // namespace pyfront::device
