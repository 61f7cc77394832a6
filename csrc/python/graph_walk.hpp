#pragma once

// Walks the graph of autograd through the public attributes of its nodes.

#include <pybind11/pybind11.h>

#include <cstring>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "python/interned.hpp"

namespace pyfront {

namespace py = pybind11;

// Whether a node of the type `wanted` is among those behind the losses. Nodes of the type `leaf`
// end the graph. Nodes are held to the end: a wrapper that is freed could come back as another one
// at the same address.
class GraphWalk {
 public:
  GraphWalk(std::string wanted, std::string leaf)
      : wanted_(std::move(wanted)), leaf_(std::move(leaf)) {}

  bool holds(py::handle losses) {
    for (const py::handle loss : losses) add(attribute(loss, grad_fn_));
    for (std::size_t next = 0; next < nodes_.size(); ++next) {
      const py::handle node = nodes_[next];
      const std::string_view name = type_name(node);
      if (name == wanted_) return true;
      if (name == leaf_) continue;
      const py::object edges = attribute(node, next_functions_);
      for (const py::handle edge : edges) {
        auto child = py::reinterpret_steal<py::object>(PySequence_GetItem(edge.ptr(), 0));
        if (!child) throw py::error_already_set();
        add(std::move(child));
      }
    }
    return false;
  }

 private:
  static py::object attribute(py::handle object, const py::str& name) {
    auto found = py::reinterpret_steal<py::object>(PyObject_GetAttr(object.ptr(), name.ptr()));
    if (!found) throw py::error_already_set();
    return found;
  }

  // The name of a type without that of its module, which a type made in C may have before it.
  static std::string_view type_name(py::handle node) {
    const char* const name = Py_TYPE(node.ptr())->tp_name;
    const char* const dot = std::strrchr(name, '.');
    return dot == nullptr ? name : dot + 1;
  }

  void add(py::object node) {
    if (!node.is_none() && seen_.insert(node.ptr()).second) nodes_.push_back(std::move(node));
  }

  std::string wanted_, leaf_;
  py::str grad_fn_ = interned("grad_fn"), next_functions_ = interned("next_functions");
  std::unordered_set<PyObject*> seen_;
  std::vector<py::object> nodes_;
};

}  // namespace pyfront
