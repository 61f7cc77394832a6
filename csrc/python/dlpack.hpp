#pragma once

// The part of the DLPack 1.x C ABI that reading a tensor needs (struct layouts and codes as the
// DLPack specification fixes them).

#include <cstdint>

namespace pyfront::dlpack {

inline constexpr std::uint32_t major_version = 1;
inline constexpr const char* capsule_name = "dlpack_exchange_api";

enum DeviceType : std::int32_t { cpu = 1, cuda = 2 };
enum TypeCode : std::uint8_t { floating = 2, bfloat = 4 };

struct Tensor {
  void* data;
  std::int32_t device_type;
  std::int32_t device_id;
  std::int32_t ndim;
  std::uint8_t type_code;
  std::uint8_t type_bits;
  std::uint16_t type_lanes;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements
  std::uint64_t byte_offset;
};

// Function table that a tensor type publishes as `__dlpack_c_exchange_api__`.
struct ExchangeApi {
  std::uint32_t major, minor;
  ExchangeApi* previous;
  void* managed_tensor_allocator;
  void* managed_tensor_from_py_object;
  void* managed_tensor_to_py_object;
  int (*tensor_from_py_object)(void* py_object, Tensor* out);  // non-owning, no synchronisation
  void* current_work_stream;
};

}  // namespace pyfront::dlpack
