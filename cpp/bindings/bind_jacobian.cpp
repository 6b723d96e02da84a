#include "common.hpp"
#include "outsample/jacobian.hpp"

void bind_jacobian(py::module_& m) {
    using outsample::Jacobian;
    py::class_<Jacobian>(m, "Jacobian", "Derivatives of some networks' cubature estimates, immutable.")
        .def(py::init([](const Array<float>& phi, const Array<float>& tangent, const Array<float>& g,
                         const Array<float>& slope, const Array<float>& root) {
                 if (root.ndim() != 1) throw std::invalid_argument("root must have one entry per network");
                 const py::ssize_t networks = root.shape(0), features = phi.ndim() ? phi.shape(0) : 0,
                                   inputs = tangent.ndim() ? tangent.shape(0) : 0, units = g.ndim() ? g.shape(0) : 0;
                 require_shape(phi, "phi", {features, networks});
                 require_shape(tangent, "tangent", {inputs, networks});
                 require_shape(g, "g", {units, networks});
                 require_shape(slope, "slope", {units, networks});
                 py::gil_scoped_release release;
                 return Jacobian(static_cast<int>(networks), static_cast<int>(features), static_cast<int>(inputs),
                                 static_cast<int>(units), phi.data(), tangent.data(), g.data(), slope.data(),
                                 root.data());
             }),
             "phi"_a, "tangent"_a, "g"_a, "slope"_a, "root"_a)
        .def(
            "transposed",
            [](const Jacobian& jacobian, const Array<float>& v) {
                require_shape(v, "v", {jacobian.networks()});
                Array<float> result(jacobian.parameters());
                float* out = result.mutable_data();
                py::gil_scoped_release release;
                jacobian.transposed(v.data(), out);
                return result;
            },
            "v"_a, "The transposed derivatives times a vector.")
        .def(
            "normal",
            [](const Jacobian& jacobian, const Array<float>& v) {
                require_shape(v, "v", {static_cast<py::ssize_t>(jacobian.parameters())});
                Array<float> result(jacobian.parameters());
                float* out = result.mutable_data();
                py::gil_scoped_release release;
                jacobian.normal(v.data(), out);
                return result;
            },
            "v"_a, "The transposed derivatives times the derivatives times a vector.");
}
