#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "common.hpp"
#include "outsample/transformer.hpp"

namespace {

// Immutable after construction, so it can be shared between threads without a lock.
class PyTransformer {
  public:
    PyTransformer(const Array<float>& embed, const Array<float>& pos_embed, const Array<float>& in_proj,
                  const Array<float>& out_proj, const Array<float>& unembed) {
        if (embed.ndim() != 2 || embed.shape(0) < 1 || embed.shape(1) < 1)
            throw std::invalid_argument("embed must have shape (seq_len, hidden_size), got " + shape_text(embed));
        const py::ssize_t n = embed.shape(0), d = embed.shape(1);
        if (in_proj.ndim() != 3 || in_proj.shape(0) < 1)
            throw std::invalid_argument("in_proj must have shape (layers, 3 hidden_size, hidden_size), got " +
                                        shape_text(in_proj));
        const py::ssize_t layers = in_proj.shape(0);
        require_shape(pos_embed, "pos_embed", {n, d});
        require_shape(in_proj, "in_proj", {layers, 3 * d, d});
        require_shape(out_proj, "out_proj", {layers, d, d});
        require_shape(unembed, "unembed", {n, d});
        for (const auto* array : {&embed, &pos_embed, &in_proj, &out_proj, &unembed})
            weights_.insert(weights_.end(), array->data(), array->data() + array->size());
        const float* p = weights_.data();
        view_.hidden_size = static_cast<int>(d);
        view_.seq_len = static_cast<int>(n);
        view_.layers = static_cast<int>(layers);
        view_.embed = p;
        view_.pos_embed = p += n * d;
        view_.in_proj = p += n * d;
        view_.out_proj = p += layers * 3 * d * d;
        view_.unembed = p + layers * d * d;
    }

    const outsample::Transformer& view() const { return view_; }

  private:
    std::vector<float> weights_;
    outsample::Transformer view_;
};

py::ssize_t checked_count(const PyTransformer& model, const Array<std::int32_t>& x) {
    if (x.ndim() != 2 || x.shape(1) != model.view().seq_len)
        throw std::invalid_argument("x must have shape (count, " + std::to_string(model.view().seq_len) + "), got " +
                                    shape_text(x));
    return x.shape(0);
}

Array<double> transformer_forward(const PyTransformer& model, const Array<std::int32_t>& x, int threads) {
    const py::ssize_t count = checked_count(model, x);
    Array<double> logits({count, static_cast<py::ssize_t>(model.view().seq_len)});
    const std::int32_t* in = x.data();
    double* out = logits.mutable_data();
    {
        py::gil_scoped_release release;
        outsample::forward(model.view(), in, count, out, threads);
    }
    return logits;
}

std::int64_t transformer_count(const PyTransformer& model, const Array<std::int32_t>& x, int threads) {
    const py::ssize_t count = checked_count(model, x);
    const std::int32_t* in = x.data();
    py::gil_scoped_release release;
    return outsample::count_correct(model.view(), in, count, threads);
}

std::int64_t transformer_count_range(const PyTransformer& model, std::int64_t first, std::int64_t count, int threads) {
    py::gil_scoped_release release;
    return outsample::count_correct_range(model.view(), first, count, threads);
}

}  // namespace

void bind_transformer(py::module_& m) {
    py::class_<PyTransformer, std::shared_ptr<PyTransformer>>(
        m, "Transformer", "Weights of an attention-only transformer, float32, immutable.")
        .def(py::init<const Array<float>&, const Array<float>&, const Array<float>&, const Array<float>&,
                      const Array<float>&>(),
             "embed"_a, "pos_embed"_a, "in_proj"_a, "out_proj"_a, "unembed"_a)
        .def_property_readonly("forward_multiply_adds", [](const PyTransformer& model) {
            return outsample::forward_multiply_adds(model.view());
        });
    m.def("transformer_forward", &transformer_forward, "model"_a, "x"_a, "threads"_a = 1,
          "Logits (count, n), float64, of inputs x (count, n).");
    m.def("transformer_count_correct", &transformer_count, "model"_a, "x"_a, "threads"_a = 1,
          "How many of the inputs x (count, n) are labelled correctly.");
    m.def("transformer_count_correct_range", &transformer_count_range, "model"_a, "first"_a, "count"_a, "threads"_a = 1,
          "The same over the inputs numbered first to first + count, in lexicographic order.");
}
