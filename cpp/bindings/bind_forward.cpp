#include "bind_network.hpp"
#include "outsample/forward.hpp"

namespace {

py::object forward(const PyNetwork& network, const Array<float>& x, bool hidden_states, int threads) {
    const auto& view = network.view();
    if (x.ndim() != 2 || x.shape(1) != view.seq_len)
        throw std::invalid_argument("x must have shape (count, " + std::to_string(view.seq_len) + ")");
    const py::ssize_t count = x.shape(0);
    Array<float> logits({count, static_cast<py::ssize_t>(view.output_size)});
    Array<float> hidden;
    if (hidden_states) hidden = Array<float>({count, py::ssize_t(view.seq_len) + 1, py::ssize_t(view.hidden_size)});
    {
        const float* in = x.data();
        float* out = logits.mutable_data();
        float* states = hidden_states ? hidden.mutable_data() : nullptr;
        py::gil_scoped_release release;
        outsample::forward(view, in, count, out, states, threads);
    }
    if (hidden_states) return py::make_tuple(logits, hidden);
    return logits;
}

}  // namespace

void bind_forward(py::module_& m) {
    m.def("forward", &forward, "network"_a, "x"_a, "hidden_states"_a = false, "threads"_a = 1,
          "Logits (count, outputs) of inputs x (count, n); with hidden states also those, (count, n + 1, d).");
}
