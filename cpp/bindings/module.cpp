#include "common.hpp"

void bind_build(py::module_& m);
void bind_cubature(py::module_& m);
void bind_exact(py::module_& m);
void bind_forward(py::module_& m);
void bind_gaussian(py::module_& m);
void bind_jacobian(py::module_& m);
void bind_network(py::module_& m);
void bind_points(py::module_& m);
void bind_propagation(py::module_& m);
void bind_sampling(py::module_& m);
void bind_training(py::module_& m);
void bind_transformer(py::module_& m);

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
    m.doc() = "C++ core of outsample. Private: the public interface is the outsample package.";
    bind_build(m);
    bind_cubature(m);
    bind_exact(m);
    bind_forward(m);
    bind_gaussian(m);
    bind_jacobian(m);
    bind_network(m);
    bind_points(m);
    bind_propagation(m);
    bind_sampling(m);
    bind_training(m);
    bind_transformer(m);
}
