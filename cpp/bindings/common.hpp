// What every binding file shares. Include it first.
//
// A binding converts and checks its arguments with the GIL held, takes plain pointers, releases the GIL once, calls
// the core, and returns. No Python object is touched after the release.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace py = pybind11;
using namespace pybind11::literals;

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

template <class T>
std::string shape_text(const Array<T>& array) {
    std::string text = "(";
    for (py::ssize_t i = 0; i < array.ndim(); ++i) text += (i ? ", " : "") + std::to_string(array.shape(i));
    return text + ")";
}

template <class T>
void require_shape(const Array<T>& array, const char* name, const std::vector<py::ssize_t>& wanted) {
    bool same = array.ndim() == static_cast<py::ssize_t>(wanted.size());
    for (std::size_t i = 0; same && i < wanted.size(); ++i) same = array.shape(i) == wanted[i];
    if (same) return;
    std::string text;
    for (auto size : wanted) text += (text.empty() ? "" : ", ") + std::to_string(size);
    throw std::invalid_argument(std::string(name) + " must have shape (" + text + "), got " + shape_text(array));
}

inline void require_key_for_each(std::size_t keys, std::size_t networks) {
    if (keys != networks)
        throw std::invalid_argument("keys must have one entry per network, got " + std::to_string(keys) + " for " +
                                    std::to_string(networks));
}

inline void check_threads(int threads) {
    if (threads < 1) throw std::invalid_argument("threads must be at least 1, got " + std::to_string(threads));
}
