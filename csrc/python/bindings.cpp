#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gramian/gramian.hpp"
#include "python/bindings_cuda.hpp"
#include "python/graph_walk.hpp"
#include "python/tensor_table.hpp"
#include "solvers/dual_cone.hpp"
#include "solvers/epo.hpp"
#include "solvers/linear_program.hpp"
#include "solvers/min_norm.hpp"
#include "solvers/pareto_mtl.hpp"

namespace py = pybind11;
namespace pf = pyfront;

namespace {

using Array = py::array_t<double, py::array::c_style | py::array::forcecast>;

std::span<const double> view(const Array& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}
std::span<double> view_mut(Array& array) {
  return {array.mutable_data(), static_cast<std::size_t>(array.size())};
}

// The extension checks shapes only: values are checked where the user's names are known.
std::int64_t square_size(const Array& gramian) {
  if (gramian.ndim() != 2 || gramian.shape(0) != gramian.shape(1) || gramian.shape(0) == 0) {
    throw py::value_error("gramian: expected a square matrix of at least 1 × 1");
  }
  return gramian.shape(0);
}
void expect_length(const Array& array, std::int64_t tasks, const char* name) {
  if (array.ndim() != 1 || array.shape(0) != tasks) {
    throw py::value_error(std::string(name) + ": expected " + std::to_string(tasks) + " values");
  }
}

// The processor must not follow the pointers of a GPU.
void expect_cpu(const pf::TensorTable& table, const char* name) {
  if (table.device() != pf::GradientTable::cpu) {
    throw py::value_error(
        std::string(name) +
        ": expected tensors on the CPU, got tensors on cuda:" + std::to_string(table.device()));
  }
}

Array gramian(const pf::TensorTable& table, int threads, std::size_t simd) {
  expect_cpu(table, "gradients");
  Array c({table.tasks(), table.tasks()});
  const auto out = view_mut(c);
  const py::gil_scoped_release release;
  pf::gramian(table.view(), out, threads, simd);
  return c;
}

void combine(const pf::TensorTable& table, const Array& weights, const pf::TensorTable& direction,
             int threads, std::size_t simd) {
  expect_length(weights, table.tasks(), "weights");
  expect_cpu(table, "gradients");
  expect_cpu(direction, "direction");
  const auto in = table.view();
  const auto out = direction.view();
  pf::check_direction(in, out);
  const auto w = view(weights);
  const py::gil_scoped_release release;
  pf::combine(in, w, out, threads, simd);
}

bool all_finite(const pf::TensorTable& table, int threads, std::size_t simd) {
  expect_cpu(table, "gradients");
  const py::gil_scoped_release release;
  return pf::all_finite(table.view(), threads, simd);
}

using MinNorm = std::tuple<Array, double, pf::Status>;

MinNorm min_norm(const Array& gramian, const std::optional<Array>& linear,
                 const std::optional<Array>& start, std::int64_t max_iterations) {
  const auto tasks = square_size(gramian);
  if (linear) expect_length(*linear, tasks, "linear");
  if (start) expect_length(*start, tasks, "start");
  Array weights(tasks);
  const auto w = view_mut(weights);
  if (start) std::ranges::copy(view(*start), w.begin());
  const auto c = view(gramian);
  const auto q = linear ? view(*linear) : std::span<const double>{};
  pf::MinNormResult result;
  {
    const py::gil_scoped_release release;
    pf::MinNormSolver solver(tasks);
    result = solver.solve(c, q, w, {.max_iterations = max_iterations}, start.has_value());
  }
  return {weights, result.gap, result.status};
}

// For each row u of `floors` [k, m] the weights of the projection of Jᵀu, the largest gap, and the
// status of the last one that met its cap.
std::tuple<Array, double, pf::Status> dual_cone(const Array& gramian, const Array& floors) {
  const auto tasks = square_size(gramian);
  if (floors.ndim() != 2 || floors.shape(1) != tasks) {
    throw py::value_error("floors: expected a table [k, m]");
  }
  const auto rows = floors.shape(0);
  Array weights({rows, static_cast<py::ssize_t>(tasks)});
  const auto c = view(gramian);
  const auto u = view(floors);
  const auto v = view_mut(weights);
  double gap = 0.0;
  pf::Status status = pf::Status::ok;
  {
    const py::gil_scoped_release release;
    pf::DualConeSolver solver(c, tasks);
    const auto size = static_cast<std::size_t>(tasks);
    for (std::size_t row = 0; row < static_cast<std::size_t>(rows); ++row) {
      const auto result = solver.project(u.subspan(row * size, size), v.subspan(row * size, size));
      if (!(result.gap <= gap)) gap = result.gap;  // NaN too
      if (result.status != pf::Status::ok) status = result.status;
    }
  }
  return {weights, gap, status};
}

double non_uniformity(const Array& losses, const Array& preference) {
  expect_length(preference, losses.size(), "preference");
  return pf::non_uniformity(view(losses), view(preference));
}

using Epo = std::tuple<Array, pf::Phase, pf::Status, double, double>;

Epo epo(pf::EpoSolver& solver, const Array& losses, const Array& gramian, const Array& preference,
        double epsilon, bool restricted) {
  const auto tasks = square_size(gramian);
  expect_length(losses, tasks, "losses");
  expect_length(preference, tasks, "preference");
  Array weights(tasks);
  const auto w = view_mut(weights);
  const auto l = view(losses);
  const auto c = view(gramian);
  const auto r = view(preference);
  pf::EpoResult result;
  {
    const py::gil_scoped_release release;
    result = solver.solve(l, c, r, w,
                          {.epsilon = epsilon,
                           .descent = restricted ? pf::Descent::restricted : pf::Descent::relaxed});
  }
  return {weights, result.phase, result.status, result.non_uniformity, result.objective};
}

using ParetoMtl = std::tuple<Array, pf::Status, double>;

ParetoMtl pareto_mtl(const Array& losses, const Array& gramian, const Array& reference_vectors,
                     std::int64_t index, pf::Phase phase, double epsilon) {
  const auto tasks = square_size(gramian);
  expect_length(losses, tasks, "losses");
  if (reference_vectors.ndim() != 2 || reference_vectors.shape(1) != tasks) {
    throw py::value_error("reference_vectors: expected rows of " + std::to_string(tasks) +
                          " values");
  }
  const auto vectors = reference_vectors.shape(0);
  if (index < 0 || index >= vectors) throw py::index_error("index: out of range");
  Array weights(tasks);
  const auto w = view_mut(weights);
  pf::ParetoMtlResult result;
  {
    const py::gil_scoped_release release;
    pf::ParetoMtlSolver solver(tasks, vectors);
    result = solver.solve(view(losses), view(gramian), view(reference_vectors), index, w,
                          {.phase = phase, .epsilon = epsilon});
  }
  return {weights, result.status, result.gap};
}

// The arrays own their values, so that Python may keep them.
template <typename T>
py::array_t<T> array_of(std::span<const T> values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

// highs(cost [m], rows [k + 1, m], lower [k + 1], basis [k + 1])
// -> (status, β [m], duals [k + 1])
pf::OtherSolver other_solver(py::object highs) {
  return [highs = std::move(highs)](const pf::ScaledProgram& program, std::span<double> beta,
                                    std::span<double> duals) {
    const py::gil_scoped_acquire acquire;
    const auto rows = array_of(program.rows).reshape({duals.size(), beta.size()});
    const py::object answer =
        highs(array_of(program.cost), rows, array_of(program.lower), array_of(program.basis));
    const auto [status, b, d] = answer.cast<std::tuple<std::string, py::object, py::object>>();
    if (status == "infeasible") return pf::LpStatus::infeasible;
    if (status == "failed") return pf::LpStatus::failed;
    if (status != "optimal") throw py::value_error("highs: unknown status '" + status + "'");
    const auto x = b.cast<Array>();
    const auto y = d.cast<Array>();
    expect_length(x, static_cast<std::int64_t>(beta.size()), "highs: beta");
    expect_length(y, static_cast<std::int64_t>(duals.size()), "highs: duals");
    std::ranges::copy(view(x), beta.begin());
    std::ranges::copy(view(y), duals.begin());
    return pf::LpStatus::optimal;
  };
}

std::tuple<Array, double, std::string> maximize(pf::LinearProgram& program, const Array& cost,
                                                const Array& rows, const Array& lower) {
  if (rows.ndim() != 2 || rows.shape(0) != lower.size() || rows.shape(1) != cost.size()) {
    throw py::value_error("rows: expected one row a lower bound and one column a cost");
  }
  Array beta(cost.size());
  const auto out = view_mut(beta);
  pf::LpResult result;
  {
    const py::gil_scoped_release release;
    result = program.solve(view(cost), view(rows), view(lower), out);
  }
  const char* status = result.status == pf::LpStatus::optimal      ? "optimal"
                       : result.status == pf::LpStatus::infeasible ? "infeasible"
                                                                   : "failed";
  return {beta, result.objective, status};
}

// The names of an enumeration, up to its last value.
template <class E>
std::vector<std::string> names_of(E last) {
  std::vector<std::string> names;
  for (int value = 0; value <= static_cast<int>(last); ++value) {
    names.emplace_back(pf::to_string(static_cast<E>(value)));
  }
  return names;
}

}  // namespace

namespace pybind11::detail {
// Status and Phase cross the border as their names.
template <typename E>
struct name_caster {
  static handle cast(E value, return_value_policy, handle) {
    const auto name = pf::to_string(value);
    return PyUnicode_FromStringAndSize(name.data(), static_cast<Py_ssize_t>(name.size()));
  }
  static constexpr auto name = const_name("str");
};
template <>
struct type_caster<pf::Status> : name_caster<pf::Status> {};
template <>
struct type_caster<pf::Phase> : name_caster<pf::Phase> {};
}  // namespace pybind11::detail

PYBIND11_MODULE(_core, m) {
  m.doc() = "Compiled core of pyfront: Gramian, combination, min-norm point, EPO linear program.";

  py::class_<pf::TensorTable>(m, "TensorTable")
      .def(py::init<py::sequence, py::handle, bool>(), py::arg("rows"), py::arg("tensor_type"),
           py::arg("use_exchange_api") = true)
      .def_property_readonly("tasks", &pf::TensorTable::tasks)
      .def_property_readonly("blocks", &pf::TensorTable::blocks)
      .def_property_readonly("device", &pf::TensorTable::device)
      .def_property_readonly("irregular", &pf::TensorTable::irregular)
      .def_property_readonly("first_tasks", &pf::TensorTable::first_tasks)
      .def("destination", &pf::TensorTable::destination, py::arg("out"), py::arg("tensor_type"),
           py::arg("plain"));
  m.def(
      "graph_holds",
      [](const py::sequence& losses, const std::string& type, const std::string& leaf) {
        return pf::GraphWalk(type, leaf).holds(losses);
      },
      py::arg("losses"), py::arg("type"), py::arg("leaf"));
  pf::add_device(m);
  // in the order of their numbers, which is how a device reports them
  m.attr("STATUSES") = names_of<pf::Status>(pf::Status::nonfinite);
  m.attr("PHASES") = names_of<pf::Phase>(pf::Phase::convergence);
  m.def("simd_levels", &pf::simd_levels);
  m.def("gramian", &gramian, py::arg("table"), py::arg("threads"), py::arg("simd") = 0);
  m.def("combine", &combine, py::arg("table"), py::arg("weights"), py::arg("direction"),
        py::arg("threads"), py::arg("simd") = 0);
  m.def("all_finite", &all_finite, py::arg("table"), py::arg("threads"), py::arg("simd") = 0);
  m.def("min_norm", &min_norm, py::arg("gramian"), py::arg("linear") = py::none(),
        py::arg("start") = py::none(), py::arg("max_iterations") = 0);
  m.def("dual_cone", &dual_cone, py::arg("gramian"), py::arg("floors"));

  m.def(
      "pareto_mtl",
      [](const Array& losses, const Array& gramian, const Array& vectors, std::int64_t index,
         const std::string& phase, double epsilon) {
        for (const auto p : {pf::Phase::feasibility, pf::Phase::descent, pf::Phase::convergence}) {
          if (phase == pf::to_string(p)) {
            return pareto_mtl(losses, gramian, vectors, index, p, epsilon);
          }
        }
        throw py::value_error("phase: unknown");
      },
      py::arg("losses"), py::arg("gramian"), py::arg("reference_vectors"), py::arg("index"),
      py::arg("phase"), py::arg("epsilon"));

  m.def("non_uniformity", &non_uniformity, py::arg("losses"), py::arg("preference"));
  py::class_<pf::LinearProgram>(m, "LinearProgram")
      .def(py::init([](py::object highs, bool highs_only) {
             return std::make_unique<pf::LinearProgram>(other_solver(std::move(highs)), highs_only);
           }),
           py::arg("highs"), py::kw_only(), py::arg("highs_only") = false)
      .def("maximize", &maximize, py::arg("cost"), py::arg("rows"), py::arg("lower"));
  py::class_<pf::EpoSolver>(m, "EpoSolver")
      .def(py::init([](py::object highs) {
             return std::make_unique<pf::EpoSolver>(other_solver(std::move(highs)));
           }),
           py::arg("highs"))
      .def("solve", &epo, py::arg("losses"), py::arg("gramian"), py::arg("preference"),
           py::arg("epsilon"), py::arg("restricted"));
}
