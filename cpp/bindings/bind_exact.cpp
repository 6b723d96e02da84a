#include "bind_network.hpp"
#include "outsample/exact.hpp"

namespace {

py::dict integrate_exactly(const PyNetwork& network, const std::string& task, int threads) {
    const outsample::Task parsed = outsample::parse_task(task);
    outsample::ExactResult result;
    {
        py::gil_scoped_release release;
        result = outsample::integrate_exactly(network.view(), parsed, threads);
    }
    py::dict out;
    out["value"] = result.value;
    out["error_bound"] = result.error_bound;
    out["coverage"] = result.coverage;
    out["cells"] = result.cells;
    out["multiply_adds"] = result.multiply_adds;
    return out;
}

}  // namespace

void bind_exact(py::module_& m) {
    m.def(
        "integrate_exactly", &integrate_exactly, "network"_a, "task"_a, "threads"_a = 1,
        "Exact accuracy (or mean squared error) for up to three inputs; a dict of value, error_bound, coverage, cells "
        "and multiply_adds.");
}
