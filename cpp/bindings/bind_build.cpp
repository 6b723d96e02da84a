#include <algorithm>
#include <chrono>

#include "common.hpp"
#include "outsample/isa.hpp"
#include "outsample/peak.hpp"

namespace {

std::vector<std::string> names(const std::vector<outsample::Isa>& isas) {
    std::vector<std::string> result;
    for (auto isa : isas) result.push_back(outsample::isa_name(isa));
    return result;
}

py::dict build_info() {
    py::dict info;
    info["version"] = OUTSAMPLE_VERSION;
#if defined(__clang__)
    info["compiler"] = "clang " __clang_version__;
#else
    info["compiler"] = "gcc " __VERSION__;
#endif
    info["build_type"] = OUTSAMPLE_BUILD_TYPE;
#if defined(NDEBUG)
    info["assertions"] = false;
#else
    info["assertions"] = true;
#endif
    info["compiled_isas"] = names(outsample::compiled_isas());
    info["supported_isas"] = names(outsample::supported_isas());
    info["isa"] = outsample::isa_name(outsample::active_isa());
    return info;
}

// Seconds per float32 multiply-add on registers alone, the least of several trials.
double peak_multiply_add_seconds() {
    constexpr std::int64_t rounds = 20000;
    double best = 1e9;
    volatile float sink = 0;
    for (int trial = 0; trial < 50; ++trial) {
        const auto start = std::chrono::steady_clock::now();
        sink = sink + OUTSAMPLE_KERNEL(multiply_add_chains)(rounds);
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best / (static_cast<double>(rounds) * OUTSAMPLE_KERNEL(multiply_adds_per_round)());
}

}  // namespace

void bind_build(py::module_& m) {
    m.attr("__version__") = OUTSAMPLE_VERSION;
    m.def("build_info", &build_info, "How the core was built and which instruction set is in use.");
    m.def("peak_multiply_add_seconds", &peak_multiply_add_seconds, py::call_guard<py::gil_scoped_release>(),
          "Seconds per float32 multiply-add on registers alone: the machine's limit for one thread.");
    m.def("use_isa", &outsample::use_isa, "name"_a, "Switch all later calls of this process to an instruction set.");
    m.def(
        "active_isa", [] { return outsample::isa_name(outsample::active_isa()); },
        "Name of the instruction set in use.");
}
