#include "bind_network.hpp"
#include "outsample/cubature.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace {

std::vector<float> floats(const Array<float>& array) { return {array.data(), array.data() + array.size()}; }
std::vector<int> integers(const Array<int>& array) { return {array.data(), array.data() + array.size()}; }

void check_targets(const outsample::Forest& forest, int outputs) {
    for (int target : forest.target())
        if (target < 0 || target >= outputs)
            throw std::invalid_argument("target must be between 0 and " + std::to_string(outputs - 1) + ", got " +
                                        std::to_string(target));
}

Array<float> signals(const outsample::Forest& forest, const Array<float>& weights, int hidden_size, int outputs,
                     bool all, int threads) {
    check_threads(threads);
    check_targets(forest, outputs);
    if (all && outputs < 3)
        throw std::invalid_argument("outputs must be at least 3 for there to be two others, got " +
                                    std::to_string(outputs));
    const auto pointers = rows(weights, hidden_size, outputs);
    const py::ssize_t count = pointers.size();
    std::vector<py::ssize_t> shape{forest.leaves()};
    if (all) shape.push_back(3);
    shape.push_back(count);
    Array<float> result(shape);
    float* out = result.mutable_data();
    {
        py::gil_scoped_release release;
        outsample::point_signals(forest, hidden_size, outputs, pointers.data(), count, all, out, threads);
    }
    return result;
}

// Features of all points of a forest, described by numpy arrays that must live as long.
outsample::FeatureView feature_view(const outsample::Forest& forest, int outputs, int count,
                                    const Array<float>& inverse_scale, const Array<float>& shift) {
    if (count != 3 && count != 5 && count != 7)
        throw std::invalid_argument("features must be 3, 5 or 7 per point, got " + std::to_string(count));
    if (count > 3 && outputs < 3) throw std::invalid_argument("more than 3 features per point need 3 outputs or more");
    const int signals = count == 3 ? 1 : 3;
    const bool powers = outputs == 1;
    if (inverse_scale.size() != py::ssize_t(forest.leaves()) * signals)
        throw std::invalid_argument("inverse_scale must have " + std::to_string(signals) + " entries per point");
    if (shift.size() != (powers || count > 3 ? forest.leaves() : 0))
        throw std::invalid_argument("shift must have one entry per point with one output or more than 3 features");
    return {powers ? outsample::FeatureKind::powers : outsample::FeatureKind::tanh, count, signals,
            inverse_scale.data(), shift.data()};
}

Array<float> features(const outsample::Forest& forest, const Array<float>& weights, int hidden_size, int outputs,
                      const Array<float>& inverse_scale, const Array<float>& shift, const Array<float>& mean,
                      const Array<float>& inverse_sd, int threads) {
    check_threads(threads);
    check_targets(forest, outputs);
    const auto pointers = rows(weights, hidden_size, outputs);
    const int per_point = static_cast<int>(mean.size() / forest.leaves());
    const auto view = feature_view(forest, outputs, per_point, inverse_scale, shift);
    const py::ssize_t features = py::ssize_t(forest.leaves()) * per_point, count = pointers.size();
    if (mean.size() != features || inverse_sd.size() != features)
        throw std::invalid_argument("mean and inverse_sd must have one entry per feature");
    Array<float> result({features, count});
    float* out = result.mutable_data();
    const float *at = mean.data(), *by = inverse_sd.data();
    {
        py::gil_scoped_release release;
        outsample::point_features(forest, hidden_size, outputs, view, at, by, pointers.data(), count, out, threads);
    }
    return result;
}

Array<float> tangents(const outsample::Forest& forest, const Array<float>& weights, int hidden_size, int outputs,
                      const Array<float>& inverse_scale, const Array<float>& shift, const Array<float>& coefficients,
                      int threads) {
    check_threads(threads);
    check_targets(forest, outputs);
    const auto pointers = rows(weights, hidden_size, outputs);
    const py::ssize_t count = pointers.size();
    const bool shared = coefficients.ndim() == 1;
    if (!(shared || (coefficients.ndim() == 2 && coefficients.shape(1) == count)) ||
        coefficients.shape(0) % forest.leaves())
        throw std::invalid_argument("coefficients must have shape (features,) or (features, " + std::to_string(count) +
                                    ")");
    const int per_point = static_cast<int>(coefficients.shape(0) / forest.leaves());
    const auto view = feature_view(forest, outputs, per_point, inverse_scale, shift);
    Array<float> result({py::ssize_t(forest.nodes()), count});
    const float* in = coefficients.data();
    float* out = result.mutable_data();
    {
        py::gil_scoped_release release;
        outsample::point_tangents(forest, hidden_size, outputs, view, pointers.data(), count, in, shared, out, threads);
    }
    return result;
}

void check_network(const outsample::Cubature& cubature, const outsample::Network& network) {
    if (network.hidden_size != cubature.hidden_size() || network.seq_len != cubature.seq_len() ||
        network.output_size != cubature.outputs() || network.b_h || network.b_o)
        throw std::invalid_argument("network must have hidden_size " + std::to_string(cubature.hidden_size()) +
                                    ", seq_len " + std::to_string(cubature.seq_len()) + " and no biases");
}

outsample::CubatureResult evaluated(const outsample::Cubature& cubature, const PyNetwork& network) {
    check_network(cubature, network.view());
    py::gil_scoped_release release;
    return cubature.evaluate(network.view().W_hh);
}

std::size_t closest_of(const std::vector<std::shared_ptr<outsample::Cubature>>& candidates, const PyNetwork& network) {
    if (candidates.empty()) throw std::invalid_argument("candidates must hold at least one");
    if (candidates.size() == 1) return 0;
    std::size_t closest = 0;
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < candidates.size(); ++i) {
        check_network(*candidates[i], network.view());
        const auto noise = candidates[i]->noise(network.view().W_hh);
        if (noise.small + noise.large < least) {
            least = noise.small + noise.large;
            closest = i;
        }
    }
    return closest;
}

py::tuple evaluate_closest(const std::vector<std::shared_ptr<outsample::Cubature>>& candidates,
                           const PyNetwork& network) {
    const std::size_t closest = closest_of(candidates, network);
    const auto r = evaluated(*candidates[closest], network);
    return py::make_tuple(closest, r.value, r.standard_error, r.small, r.large);
}

}  // namespace

void bind_cubature(py::module_& m) {
    using outsample::Cubature;
    using outsample::Forest;
    py::class_<Forest, std::shared_ptr<Forest>>(m, "Forest", "Input points that share prefixes, immutable.")
        .def(py::init([](const Array<int>& level_sizes, const Array<int>& parent, const Array<float>& x,
                         const Array<int>& target) {
                 return Forest(integers(level_sizes), integers(parent), floats(x), integers(target));
             }),
             "level_sizes"_a, "parent"_a, "x"_a, "target"_a)
        .def_property_readonly("leaves", &Forest::leaves)
        .def_property_readonly("nodes", &Forest::nodes)
        .def("multiply_adds", &Forest::multiply_adds, "hidden_size"_a, "outputs"_a)
        .def(
            "margins",
            [](const Forest& forest, const Array<float>& weights, int hidden_size, int outputs, int threads) {
                return signals(forest, weights, hidden_size, outputs, false, threads);
            },
            "weights"_a, "hidden_size"_a, "outputs"_a, "threads"_a = 1, "Margins (leaves, networks).")
        .def(
            "signals",
            [](const Forest& forest, const Array<float>& weights, int hidden_size, int outputs, int threads) {
                return signals(forest, weights, hidden_size, outputs, true, threads);
            },
            "weights"_a, "hidden_size"_a, "outputs"_a, "threads"_a = 1,
            "Margins, right answers' logits, and those less the second-best other ones (leaves, 3, networks).")
        .def("features", &features, "weights"_a, "hidden_size"_a, "outputs"_a, "inverse_scale"_a, "shift"_a, "mean"_a,
             "inverse_sd"_a, "threads"_a = 1, "Standardised features (features of all leaves, networks).")
        .def("tangents", &tangents, "weights"_a, "hidden_size"_a, "outputs"_a, "inverse_scale"_a, "shift"_a,
             "coefficients"_a, "threads"_a = 1,
             "Derivatives (nodes, networks) of the sum of coefficient times feature; coefficients (features of all "
             "leaves, networks), or one of each for all networks.");

    py::class_<Cubature, std::shared_ptr<Cubature>>(m, "Cubature", "Points with a readout, immutable.")
        .def(py::init([](const Forest& forest, int hidden_size, int outputs, const Array<float>& inverse_scale,
                         const Array<float>& linear, double intercept, const Array<float>& hidden,
                         const Array<float>& bias, const Array<float>& out, const Array<int>& index,
                         const Array<float>& sign, const Array<double>& sum, const Array<double>& scale,
                         const Array<double>& laws, const Array<double>& levels, const Array<double>& error,
                         const Array<float>& shift, bool relative) {
                 const py::ssize_t count = laws.ndim() ? laws.shape(0) : 0;
                 if (count < 1) throw std::invalid_argument("laws must hold at least one");
                 require_shape(laws, "laws", {count, 5});
                 require_shape(levels, "levels", {3, 2});
                 require_shape(error, "error", {count});
                 Cubature::Readout readout;
                 for (py::ssize_t i = 0; i < count; ++i) {
                     const double* l = laws.data(i, 0);
                     const double squared_error = error.at(i) * error.at(i);
                     readout.error.laws.push_back({l[0], l[1], l[2], l[3], l[4], squared_error, std::log(l[2] * l[4])});
                 }
                 const double* r = levels.data();
                 readout.error.small = {r[0], r[1]};
                 readout.error.large = {r[2], r[3]};
                 readout.error.mean = {r[4], r[5]};
                 readout.sketch.index = integers(index);
                 readout.sketch.sign = floats(sign);
                 readout.sketch.sum = {sum.data(), sum.data() + sum.size()};
                 readout.sketch.scale = {scale.data(), scale.data() + scale.size()};
                 readout.inverse_scale = floats(inverse_scale);
                 readout.features = static_cast<int>(linear.size() / forest.leaves());
                 readout.linear = floats(linear);
                 readout.hidden = floats(hidden);
                 readout.bias = floats(bias);
                 readout.out = floats(out);
                 readout.shift = floats(shift);
                 readout.intercept = intercept;
                 readout.relative = relative;
                 return Cubature(forest, hidden_size, outputs, std::move(readout));
             }),
             "forest"_a, "hidden_size"_a, "outputs"_a, "inverse_scale"_a, "linear"_a, "intercept"_a, "hidden"_a,
             "bias"_a, "out"_a, "index"_a, "sign"_a, "sum"_a, "scale"_a, "laws"_a, "levels"_a, "error"_a,
             "shift"_a = Array<float>(0), "relative"_a = false)
        .def_property_readonly("multiply_adds", &Cubature::multiply_adds)
        .def(
            "evaluate",
            [](const Cubature& cubature, const PyNetwork& network) {
                const auto r = evaluated(cubature, network);
                return py::make_tuple(r.value, r.standard_error, r.small, r.large);
            },
            "network"_a, "Value, its standard error, and noise of the small and large weights, of one network.")
        .def(
            "noise",
            [](const Cubature& cubature, const PyNetwork& network) {
                check_network(cubature, network.view());
                const auto result = cubature.noise(network.view().W_hh);
                return py::make_tuple(result.small, result.large);
            },
            "network"_a, "Noise of the small and large weights of one network.")
        .def(
            "standard_error",
            [](const Cubature& cubature, const PyNetwork& network) {
                check_network(cubature, network.view());
                return cubature.standard_error(network.view().W_hh);
            },
            "network"_a, "The standard error that `evaluate` will state, by the sketch alone.")
        .def(
            "evaluate_many",
            [](const Cubature& cubature, const py::list& networks, int threads) {
                check_threads(threads);
                // The list holds the networks; shared pointers to them would take as long as a tenth of a small rule.
                std::vector<const float*> pointers;
                pointers.reserve(networks.size());
                for (const auto& item : networks) {
                    const auto& network = item.cast<const PyNetwork&>().view();
                    check_network(cubature, network);
                    pointers.push_back(network.W_hh);
                }
                Array<double> result({py::ssize_t(networks.size()), py::ssize_t(4)});
                static_assert(sizeof(outsample::CubatureResult) == 4 * sizeof(double));
                auto* out = reinterpret_cast<outsample::CubatureResult*>(result.mutable_data());
                {
                    py::gil_scoped_release release;
                    cubature.evaluate_many(pointers.data(), static_cast<std::int64_t>(pointers.size()), out, threads);
                }
                return result;
            },
            "networks"_a, "threads"_a = 1,
            "Values, standard errors and noise of small and large weights (networks, 4).");

    m.def("closest", &closest_of, "candidates"_a, "network"_a,
          "Index of the candidate whose trained network is closest, the first of equals.");
    m.def(
        "evaluate_closest", &evaluate_closest, "candidates"_a, "network"_a,
        "Index of the candidate whose trained network is closest, the first of equals, and what its `evaluate` says.");
}
