#include "bind_network.hpp"

#include <cmath>
#include <stdexcept>
#include <string>

PyNetwork::PyNetwork(const Array<float>& W_hh, const Array<float>& W_hi, const Array<float>& W_oh, int seq_len,
                     const std::optional<Array<float>>& b_h, const std::optional<Array<float>>& b_o) {
    if (W_hi.ndim() != 1 || W_hi.shape(0) < 1)
        throw std::invalid_argument("W_hi must have shape (hidden_size,), got " + shape_text(W_hi));
    const py::ssize_t d = W_hi.shape(0);
    require_shape(W_hh, "W_hh", {d, d});
    if (W_oh.ndim() != 2 || W_oh.shape(0) < 1 || W_oh.shape(1) != d)
        throw std::invalid_argument("W_oh must have shape (outputs, " + std::to_string(d) + "), got " +
                                    shape_text(W_oh));
    const py::ssize_t outputs = W_oh.shape(0);
    if (b_h) require_shape(*b_h, "b_h", {d});
    if (b_o) require_shape(*b_o, "b_o", {outputs});
    if (seq_len < 1) throw std::invalid_argument("seq_len must be at least 1, got " + std::to_string(seq_len));

    auto append = [this](const Array<float>& array) {
        weights_.insert(weights_.end(), array.data(), array.data() + array.size());
    };
    append(W_hh);
    append(W_hi);
    append(W_oh);
    if (b_h) append(*b_h);
    if (b_o) append(*b_o);
    for (float w : weights_)
        if (!std::isfinite(w)) throw std::invalid_argument("weights must be finite, got " + std::to_string(w));

    const float* p = weights_.data();
    view_.hidden_size = static_cast<int>(d);
    view_.seq_len = seq_len;
    view_.output_size = static_cast<int>(outputs);
    view_.W_hh = p;
    view_.W_hi = p += d * d;
    view_.W_oh = p += d;
    p += outputs * d;
    view_.b_h = b_h ? p : nullptr;
    if (b_h) p += d;
    view_.b_o = b_o ? p : nullptr;
}

std::vector<const outsample::Network*> views_of_one_shape(const std::vector<std::shared_ptr<PyNetwork>>& networks) {
    std::vector<const outsample::Network*> views;
    for (const auto& network : networks) views.push_back(&network->view());
    for (const auto* view : views)
        if (view->hidden_size != views[0]->hidden_size || view->seq_len != views[0]->seq_len)
            throw std::invalid_argument("networks must have one shape, got hidden_size " +
                                        std::to_string(views[0]->hidden_size) + " and " +
                                        std::to_string(view->hidden_size) + ", seq_len " +
                                        std::to_string(views[0]->seq_len) + " and " + std::to_string(view->seq_len));
    return views;
}

std::vector<const float*> rows(const Array<float>& weights, int hidden_size, int outputs) {
    if (hidden_size < 1) throw std::invalid_argument("hidden_size must be at least 1");
    if (outputs < 1) throw std::invalid_argument("outputs must be at least 1");
    const py::ssize_t size = py::ssize_t(hidden_size) * (hidden_size + 1 + outputs);
    if (weights.ndim() != 2 || weights.shape(1) != size)
        throw std::invalid_argument("weights must have shape (networks, " + std::to_string(size) + ")");
    std::vector<const float*> result;
    for (py::ssize_t i = 0; i < weights.shape(0); ++i) result.push_back(weights.data() + i * size);
    return result;
}

void bind_network(py::module_& m) {
    py::class_<PyNetwork, std::shared_ptr<PyNetwork>>(m, "Network",
                                                      "Weights of a recurrent network, float32, immutable.")
        .def(py::init<const Array<float>&, const Array<float>&, const Array<float>&, int,
                      const std::optional<Array<float>>&, const std::optional<Array<float>>&>(),
             "W_hh"_a, "W_hi"_a, "W_oh"_a, "seq_len"_a, "b_h"_a = py::none(), "b_o"_a = py::none())
        .def_property_readonly("forward_multiply_adds",
                               [](const PyNetwork& network) { return forward_multiply_adds(network.view()); });
}
