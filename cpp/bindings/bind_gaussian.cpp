#include "common.hpp"
#include "outsample/gaussian.hpp"

namespace {

using outsample::Moments;
using outsample::TruncatedMoments;

// The Python side broadcasts, so that all arrays have the same shape here.
py::tuple relu_moments(const Array<double>& mean, const Array<double>& variance) {
    Array<double> m(mean.size()), v(mean.size());
    for (py::ssize_t i = 0; i < mean.size(); ++i) {
        const Moments moments = outsample::relu_moments(mean.data()[i], variance.data()[i]);
        m.mutable_data()[i] = moments.mean;
        v.mutable_data()[i] = moments.variance;
    }
    return py::make_tuple(m, v);
}

py::tuple truncated_normal_moments(const Array<double>& mean, const Array<double>& variance, const Array<double>& lower,
                                   const Array<double>& upper) {
    Array<double> p(mean.size()), m(mean.size()), v(mean.size());
    for (py::ssize_t i = 0; i < mean.size(); ++i) {
        const TruncatedMoments moments =
            outsample::truncated_normal_moments(mean.data()[i], variance.data()[i], lower.data()[i], upper.data()[i]);
        p.mutable_data()[i] = moments.probability;
        m.mutable_data()[i] = moments.mean;
        v.mutable_data()[i] = moments.variance;
    }
    return py::make_tuple(p, m, v);
}

Array<double> bivariate_normal_cdf(const Array<double>& h, const Array<double>& k, const Array<double>& rho) {
    Array<double> p(h.size());
    for (py::ssize_t i = 0; i < h.size(); ++i)
        p.mutable_data()[i] = outsample::bivariate_normal_cdf(h.data()[i], k.data()[i], rho.data()[i]);
    return p;
}

Array<double> normal_quantile(const Array<double>& p) {
    Array<double> x(p.size());
    for (py::ssize_t i = 0; i < p.size(); ++i) x.mutable_data()[i] = outsample::normal_quantile(p.data()[i]);
    return x;
}

// mean (count, d), covariance (count, d, d); shapes are checked on the Python side.
py::tuple relu_covariance(const Array<double>& mean, const Array<double>& covariance) {
    const py::ssize_t count = mean.shape(0), d = mean.shape(1);
    Array<double> m({count, d}), c({count, d, d});
    const double *in_m = mean.data(), *in_c = covariance.data();
    double *out_m = m.mutable_data(), *out_c = c.mutable_data();
    {
        py::gil_scoped_release release;
        for (py::ssize_t i = 0; i < count; ++i)
            outsample::relu_covariance(static_cast<int>(d), in_m + i * d, in_c + i * d * d, out_m + i * d,
                                       out_c + i * d * d);
    }
    return py::make_tuple(m, c);
}

py::tuple condition_on_half_space(const Array<double>& mean, const Array<double>& covariance,
                                  const Array<double>& normal, double offset) {
    const py::ssize_t d = mean.size();
    Array<double> m(d), c({d, d});
    const double p = outsample::condition_on_half_space(static_cast<int>(d), mean.data(), covariance.data(),
                                                        normal.data(), offset, m.mutable_data(), c.mutable_data());
    return py::make_tuple(p, m, c);
}

py::tuple orthant_genz(const Array<double>& mean, const Array<double>& covariance, double tolerance,
                       std::int64_t max_points) {
    outsample::Probability p{};
    const int d = static_cast<int>(mean.size());
    const double *m = mean.data(), *c = covariance.data();
    {
        py::gil_scoped_release release;
        p = outsample::orthant_genz(d, m, c, tolerance, max_points);
    }
    return py::make_tuple(p.value, p.error);
}

double orthant_mendell_elston(const Array<double>& mean, const Array<double>& covariance) {
    return outsample::orthant_mendell_elston(static_cast<int>(mean.size()), mean.data(), covariance.data());
}

}  // namespace

void bind_gaussian(py::module_& m) {
    m.def("bivariate_normal_cdf", &bivariate_normal_cdf, "h"_a, "k"_a, "rho"_a);
    m.def("condition_on_half_space", &condition_on_half_space, "mean"_a, "covariance"_a, "normal"_a, "offset"_a);
    m.def("normal_quantile", &normal_quantile, "p"_a);
    m.def("orthant_genz", &orthant_genz, "mean"_a, "covariance"_a, "tolerance"_a, "max_points"_a);
    m.def("orthant_mendell_elston", &orthant_mendell_elston, "mean"_a, "covariance"_a);
    m.def("relu_covariance", &relu_covariance, "mean"_a, "covariance"_a);
    m.def("relu_moments", &relu_moments, "mean"_a, "variance"_a);
    m.def("truncated_normal_moments", &truncated_normal_moments, "mean"_a, "variance"_a, "lower"_a, "upper"_a);
}
