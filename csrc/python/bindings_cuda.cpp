// The core on a CUDA device, for Python; where there is no nvcc, why there is none.

#include "python/bindings_cuda.hpp"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "python/tensor_table.hpp"

#if defined(PYFRONT_CUDA)
#include "cuda/device.hpp"
#endif

namespace py = pybind11;
namespace pf = pyfront;

#if defined(PYFRONT_CUDA)
namespace {

// Device memory and streams come as addresses: torch owns them, and knows when they are free.
double* device_pointer(std::uintptr_t address) { return reinterpret_cast<double*>(address); }
pf::device::Stream device_stream(int device, std::uintptr_t stream) {
  return {.device = device, .handle = reinterpret_cast<void*>(stream)};
}

void device_combine(const pf::TensorTable& table, std::uintptr_t weights,
                    const pf::TensorTable& direction, std::uintptr_t stream) {
  const auto in = table.view();
  const auto out = direction.view();
  pf::check_direction(in, out);
  if (out.device != in.device && in.device != pf::GradientTable::cpu &&
      out.device != pf::GradientTable::cpu) {
    throw py::value_error("direction: is on cuda:" + std::to_string(out.device) +
                          ", the gradients are on cuda:" + std::to_string(in.device));
  }
  const int device = std::max(in.device, out.device);
  const auto plan = pf::device::plan_combine(in, out, pf::device::multiprocessors(device));
  pf::device::combine(plan, in.tasks, device_pointer(weights), device_stream(device, stream));
}

}  // namespace

void pf::add_device(py::module_& m) {
  py::register_exception<pf::device::Error>(m, "DeviceError", PyExc_RuntimeError);
  m.def("device_unavailable", &pf::device::unavailable);
  py::class_<pf::device::Plan>(m, "GramianPlan")
      .def(py::init([](const pf::TensorTable& table) {
             return pf::device::plan_gramian(table.view(),
                                             pf::device::multiprocessors(table.device()));
           }),
           py::arg("table"))
      .def_readonly("slots", &pf::device::Plan::slots);
  m.def(
      "device_gramian",
      [](const pf::TensorTable& table, const pf::device::Plan& plan, std::uintptr_t c,
         std::uintptr_t partials, std::uintptr_t stream) {
        pf::device::gramian(plan, table.tasks(), device_pointer(c), device_pointer(partials),
                            device_stream(table.device(), stream));
      },
      py::arg("table"), py::arg("plan"), py::arg("c"), py::arg("partials"), py::arg("stream"));
  m.def("device_combine", &device_combine, py::arg("table"), py::arg("weights"),
        py::arg("direction"), py::arg("stream"));
  m.def("device_most_weights", &pf::device::most_weights, py::arg("device"));
  m.def(
      "device_min_norm",
      [](std::uintptr_t gramian, std::int64_t tasks, std::uintptr_t losses, std::uintptr_t weights,
         std::uintptr_t outcome, int device, std::uintptr_t stream) {
        pf::device::min_norm(device_pointer(gramian), tasks, device_pointer(losses),
                             device_pointer(weights), device_pointer(outcome),
                             device_stream(device, stream));
      },
      py::arg("gramian"), py::arg("tasks"), py::arg("losses"), py::arg("weights"),
      py::arg("outcome"), py::arg("device"), py::arg("stream"));
  m.def("device_pareto_mtl_workspace", &pf::device::pareto_mtl_workspace, py::arg("tasks"),
        py::arg("vectors"));
  m.def(
      "device_pareto_mtl",
      [](std::int64_t tasks, std::int64_t vectors, std::int64_t index, double epsilon,
         std::int64_t warmup_steps, double average, bool rescale, std::uintptr_t losses,
         std::uintptr_t gramian, std::uintptr_t reference_vectors, std::uintptr_t state,
         std::uintptr_t workspace, std::uintptr_t weights, std::uintptr_t outcome, int device,
         std::uintptr_t stream) {
        pf::device::pareto_mtl({.tasks = tasks,
                                .vectors = vectors,
                                .index = index,
                                .epsilon = epsilon,
                                .warmup_steps = warmup_steps,
                                .average = average,
                                .rescale = rescale},
                               device_pointer(losses), device_pointer(gramian),
                               device_pointer(reference_vectors), device_pointer(state),
                               device_pointer(workspace), device_pointer(weights),
                               device_pointer(outcome), device_stream(device, stream));
      },
      py::arg("tasks"), py::arg("vectors"), py::arg("index"), py::arg("epsilon"),
      py::arg("warmup_steps"), py::arg("average"), py::arg("rescale"), py::arg("losses"),
      py::arg("gramian"), py::arg("reference_vectors"), py::arg("state"), py::arg("workspace"),
      py::arg("weights"), py::arg("outcome"), py::arg("device"), py::arg("stream"));
}
#else
void pf::add_device(py::module_& m) {
  m.def("device_unavailable",
        [] { return "pyfront was built without CUDA: no nvcc, or PYFRONT_CUDA=OFF"; });
}
#endif
