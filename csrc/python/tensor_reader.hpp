#pragma once

// Reads one Python tensor.

#include <pybind11/pybind11.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/gradient_table.hpp"
#include "python/dlpack.hpp"
#include "python/interned.hpp"
#include "python/tensor_view.hpp"

namespace pyfront {

namespace py = pybind11;

// Reads one tensor, through the tensor type's C function table where it has one (torch 2.13 has:
// tens of nanoseconds) and through its Python attributes otherwise. Returns false where the values
// do not lie in strided memory (a sparse tensor, or a lazily negated view of another one).
class TensorReader {
 public:
  TensorReader(py::handle tensor_type, bool use_exchange_api)
      : type_(reinterpret_cast<PyTypeObject*>(tensor_type.ptr())) {
    if (!use_exchange_api || !py::hasattr(tensor_type, "__dlpack_c_exchange_api__")) return;
    const py::object capsule = tensor_type.attr("__dlpack_c_exchange_api__");
    const auto* api = static_cast<dlpack::ExchangeApi*>(
        PyCapsule_GetPointer(capsule.ptr(), dlpack::capsule_name));
    if (api == nullptr) throw py::error_already_set();
    while (api != nullptr && api->major != dlpack::major_version) api = api->previous;
    api_ = api != nullptr && api->tensor_from_py_object != nullptr ? api : nullptr;
  }

  bool is_tensor(py::handle object) const { return PyObject_TypeCheck(object.ptr(), type_); }
  bool is_plain(py::handle tensor) const {
    return Py_TYPE(tensor.ptr()) == type_ && !tensor.attr(requires_grad_).cast<bool>();
  }

  bool read(py::handle tensor, TensorView& view) {
    if (is_negated(tensor)) return false;
    return api_ != nullptr ? read_exchange(tensor, view) : read_attributes(tensor, view);
  }

 private:
  bool is_negated(py::handle tensor) const {
    const auto answer =
        py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(tensor.ptr(), is_neg_.ptr()));
    if (!answer) throw py::error_already_set();
    return answer.ptr() == Py_True;
  }

  bool read_exchange(py::handle tensor, TensorView& view) const {
    dlpack::Tensor raw;
    if (api_->tensor_from_py_object(tensor.ptr(), &raw) != 0) {
      PyErr_Clear();  // a layout without strided memory
      return false;
    }
    const auto rank = static_cast<std::size_t>(raw.ndim);
    view.data = static_cast<std::byte*>(raw.data) + raw.byte_offset;
    view.dtype = dtype_of(raw);
    if (rank > 0 && raw.strides == nullptr) return false;
    view.device = device_of(raw.device_type == dlpack::cpu,
                            raw.device_type == dlpack::cuda ? raw.device_id : -1);
    view.shape = {raw.shape, rank};
    view.strides = {raw.strides, rank};
    return true;
  }

  bool read_attributes(py::handle tensor, TensorView& view) {
    if (!is_strided(tensor.attr("layout"))) return false;
    auto& [shape, strides] = storage_.emplace_back();
    shape = tensor.attr("shape").cast<std::vector<std::int64_t>>();
    strides = tensor.attr("stride")().cast<std::vector<std::int64_t>>();
    view.data = reinterpret_cast<void*>(tensor.attr("data_ptr")().cast<std::uintptr_t>());
    view.dtype = dtype_of(tensor.attr("dtype"));
    const bool cpu = tensor.attr("is_cpu").ptr() == Py_True;
    const bool cuda = !cpu && tensor.attr("is_cuda").ptr() == Py_True;
    view.device = device_of(cpu, cuda ? tensor.attr("get_device")().cast<int>() : -1);
    view.shape = shape;
    view.strides = strides;
    return true;
  }

  // Layouts and dtypes are one object each, so that the last one is known again without its name.
  bool is_strided(const py::object& layout) {
    if (!layout.is(strided_)) {
      if (py::str(layout).cast<std::string>() != "torch.strided") return false;
      strided_ = layout;
    }
    return true;
  }
  std::optional<DType> dtype_of(const py::object& dtype) {
    if (!dtype.is(last_dtype_)) {
      last_number_ = dtype_of(py::str(dtype).cast<std::string>());
      last_dtype_ = dtype;
    }
    return last_number_;
  }

  // `cuda` is the number of a CUDA device, −1 for another kind.
  static std::optional<int> device_of(bool cpu, [[maybe_unused]] int cuda) {
    if (cpu) return GradientTable::cpu;
#if defined(PYFRONT_CUDA)
    if (cuda >= 0) return cuda;
#endif
    return {};
  }

  static std::optional<DType> dtype_of(const dlpack::Tensor& raw) {
    if (raw.type_lanes != 1) return {};
    if (raw.type_code == dlpack::bfloat && raw.type_bits == 16) return DType::bfloat16;
    if (raw.type_code != dlpack::floating) return {};
    switch (raw.type_bits) {
      case 16:
        return DType::float16;
      case 32:
        return DType::float32;
      case 64:
        return DType::float64;
      default:
        return {};
    }
  }

  static std::optional<DType> dtype_of(const std::string& name) {
    constexpr std::array<std::pair<const char*, DType>, 4> names{
        {{"torch.float32", DType::float32},
         {"torch.float64", DType::float64},
         {"torch.bfloat16", DType::bfloat16},
         {"torch.float16", DType::float16}}};
    for (const auto& [key, dtype] : names) {
      if (name == key) return dtype;
    }
    return {};
  }

  PyTypeObject* type_;
  py::str requires_grad_ = interned("requires_grad");
  py::str is_neg_ = interned("is_neg");
  const dlpack::ExchangeApi* api_ = nullptr;
  py::object strided_;  // torch.strided, once seen
  py::object last_dtype_;
  std::optional<DType> last_number_;
  // moving a vector keeps its elements in place, so the spans in the views stay valid
  std::vector<std::pair<std::vector<std::int64_t>, std::vector<std::int64_t>>> storage_;
};

}  // namespace pyfront
