#pragma once

// Names of attributes as CPython looks them up fastest: one object each for the whole process, by
// which it remembers where a type has the attribute.

#include <pybind11/pybind11.h>

namespace pyfront {

inline pybind11::str interned(const char* name) {
  auto found = pybind11::reinterpret_steal<pybind11::str>(PyUnicode_InternFromString(name));
  if (!found) throw pybind11::error_already_set();
  return found;
}

}  // namespace pyfront
