#include "outsample/isa.hpp"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace outsample {

namespace {

bool supported(Isa isa) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    switch (isa) {
        case Isa::sse2:
            return true;
        case Isa::avx2:  // x86-64-v3
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                   __builtin_cpu_supports("bmi2");
        case Isa::avx512:  // x86-64-v4
            return supported(Isa::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl");
        default:
            return false;
    }
#else
    return isa == compiled_isas().front();
#endif
}

Isa parse(const std::string& name, const std::string& argument) {
    std::string known;
    for (Isa isa : supported_isas()) {
        if (isa_name(isa) == name) return isa;
        known += (known.empty() ? "" : ", ") + isa_name(isa);
    }
    throw std::invalid_argument(argument + " must be an instruction set that this build and processor support (" +
                                known + "), got '" + name + "'");
}

std::atomic<Isa>& active() {
    // Function-local: initialised once, on first use, under the language's own lock.
    static std::atomic<Isa> isa = [] {
        const char* wanted = std::getenv("OUTSAMPLE_ISA");
        return wanted && *wanted ? parse(wanted, "environment variable OUTSAMPLE_ISA") : supported_isas().back();
    }();
    return isa;
}

}  // namespace

std::string isa_name(Isa isa) {
    switch (isa) {
        case Isa::sse2:
            return "sse2";
        case Isa::avx2:
            return "avx2";
        case Isa::avx512:
            return "avx512";
        case Isa::neon:
            return "neon";
        case Isa::generic:
            return "generic";
    }
    throw std::runtime_error("isa_name: unknown instruction set");
}

std::vector<Isa> compiled_isas() {
#if defined(__x86_64__)
    return {Isa::sse2, Isa::avx2, Isa::avx512};
#elif defined(__aarch64__)
    return {Isa::neon};
#else
    return {Isa::generic};
#endif
}

std::vector<Isa> supported_isas() {
    std::vector<Isa> result;
    for (Isa isa : compiled_isas())
        if (supported(isa)) result.push_back(isa);
    return result;
}

Isa active_isa() { return active().load(std::memory_order_relaxed); }

void use_isa(const std::string& name) { active().store(parse(name, "name"), std::memory_order_relaxed); }

}  // namespace outsample
