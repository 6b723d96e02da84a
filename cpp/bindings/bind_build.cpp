#include "common.hpp"
#include "outsample/isa.hpp"

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

}  // namespace

void bind_build(py::module_& m) {
    m.attr("__version__") = OUTSAMPLE_VERSION;
    m.def("build_info", &build_info, "How the core was built and which instruction set is in use.");
    m.def("use_isa", &outsample::use_isa, "name"_a, "Switch all later calls of this process to an instruction set.");
    m.def(
        "active_isa", [] { return outsample::isa_name(outsample::active_isa()); },
        "Name of the instruction set in use.");
}
