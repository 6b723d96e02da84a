#include "bind_network.hpp"
#include "outsample/propagation.hpp"

using outsample::CellPlan;

namespace {

std::shared_ptr<CellPlan> make_plan(const Array<int>& symbols, const Array<double>& mean, const Array<double>& variance,
                                    const std::optional<Array<int>>& labels, bool share) {
    if (symbols.ndim() != 2) throw std::invalid_argument("symbols must have shape (cells, seq_len)");
    if (mean.ndim() != 1 || variance.ndim() != 1 || mean.size() != variance.size())
        throw std::invalid_argument("mean and variance must be one-dimensional and of the same length");
    if (labels && (labels->ndim() != 1 || labels->size() != symbols.shape(0)))
        throw std::invalid_argument("labels must have shape (cells,)");
    py::gil_scoped_release release;
    return std::make_shared<CellPlan>(symbols.data(), symbols.shape(0), static_cast<int>(symbols.shape(1)), mean.data(),
                                      variance.data(), mean.size(), labels ? labels->data() : nullptr, share);
}

py::tuple propagate(const PyNetwork& network, const CellPlan& plan, int order, bool single, int threads) {
    Array<double> value(plan.cells()), variance(plan.cells());
    {
        double *out = value.mutable_data(), *spread = variance.mutable_data();
        py::gil_scoped_release release;
        outsample::propagate(network.view(), plan, order, single, out, spread, nullptr, threads);
    }
    return py::make_tuple(value, plan.has_labels() ? py::object(py::none()) : py::object(variance));
}

py::tuple propagate_states(const PyNetwork& network, const Array<double>& mean, const Array<double>& variance,
                           int order, bool single, int threads) {
    const auto& view = network.view();
    const py::ssize_t n = view.seq_len, d = view.hidden_size;
    if (mean.ndim() != 2 || variance.ndim() != 2 || mean.shape(1) != n || variance.shape(1) != n ||
        mean.shape(0) != variance.shape(0))
        throw std::invalid_argument("input means and variances must have shape (components, " + std::to_string(n) +
                                    ")");
    if (order != 1 && order != 2) throw std::invalid_argument("order must be 1 or 2, got " + std::to_string(order));
    const py::ssize_t cells = mean.shape(0);
    Array<double> means({cells, n, d});
    Array<double> covariances = order == 2 ? Array<double>({cells, n, d, d}) : Array<double>({cells, n, d});
    Array<int> exponents({cells, n});
    {
        const outsample::StateMoments states{means.mutable_data(), covariances.mutable_data(),
                                             exponents.mutable_data()};
        const double *m = mean.data(), *v = variance.data();
        py::gil_scoped_release release;
        std::vector<int> symbols(cells * n);
        for (size_t i = 0; i < symbols.size(); ++i) symbols[i] = static_cast<int>(i);
        const CellPlan plan(symbols.data(), cells, static_cast<int>(n), m, v, cells * n, nullptr, false);
        std::vector<double> value(cells), spread(cells);
        outsample::propagate(view, plan, order, single, value.data(), spread.data(), &states, threads);
    }
    return py::make_tuple(means, covariances, exponents);
}

}  // namespace

void bind_propagation(py::module_& m) {
    py::class_<CellPlan, std::shared_ptr<CellPlan>>(m, "CellPlan", "Cells sorted into a forest of shared prefixes.")
        .def(py::init(&make_plan), "symbols"_a, "mean"_a, "variance"_a, "labels"_a = py::none(), "share"_a = true)
        .def_property_readonly("cells", &CellPlan::cells)
        .def_property_readonly("nodes", &CellPlan::nodes)
        .def_property_readonly("inner_nodes", &CellPlan::inner_nodes);
    m.def("propagate", &propagate, "network"_a, "plan"_a, "order"_a = 2, "single"_a = true, "threads"_a = 1,
          "Per cell: (P(label wins), None), or the output's (mean, variance) for a plan without labels.");
    m.def("propagate_states", &propagate_states, "network"_a, "mean"_a, "variance"_a, "order"_a = 2, "single"_a = false,
          "threads"_a = 1, "(means, covariances, exponents) of the hidden state after every step, per component.");
}
