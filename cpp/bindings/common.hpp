// What every binding file shares. Include it first.
//
// A binding converts and checks its arguments with the GIL held, takes plain pointers, releases the GIL once, calls
// the core, and returns. No Python object is touched after the release.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace py = pybind11;
using namespace pybind11::literals;

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;
