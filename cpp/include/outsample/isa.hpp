// Instruction sets: which are compiled in, which this machine runs, which one is in use.
//
// Kernels (cpp/kernels) are compiled once per instruction set into namespace outsample::<set>. A header declares a
// kernel once with OUTSAMPLE_DECLARE_KERNEL and the caller picks it with OUTSAMPLE_KERNEL(name)(arguments...):
//
//     OUTSAMPLE_DECLARE_KERNEL(void, relu_forward, (const Network& network, const float* x, float* logits))
//     OUTSAMPLE_KERNEL(relu_forward)(network, x, logits);
#pragma once

#include <string>
#include <vector>

#if defined(__x86_64__)
#define OUTSAMPLE_DECLARE_KERNEL(result, name, arguments) \
    namespace sse2 {                                      \
    result name arguments;                                \
    }                                                     \
    namespace avx2 {                                      \
    result name arguments;                                \
    }                                                     \
    namespace avx512 {                                    \
    result name arguments;                                \
    }
#define OUTSAMPLE_KERNEL(name)                                                         \
    (::outsample::active_isa() == ::outsample::Isa::avx512 ? ::outsample::avx512::name \
     : ::outsample::active_isa() == ::outsample::Isa::avx2 ? ::outsample::avx2::name   \
                                                           : ::outsample::sse2::name)
#elif defined(__aarch64__)
#define OUTSAMPLE_DECLARE_KERNEL(result, name, arguments) \
    namespace neon {                                      \
    result name arguments;                                \
    }
#define OUTSAMPLE_KERNEL(name) (::outsample::neon::name)
#else
#define OUTSAMPLE_DECLARE_KERNEL(result, name, arguments) \
    namespace generic {                                   \
    result name arguments;                                \
    }
#define OUTSAMPLE_KERNEL(name) (::outsample::generic::name)
#endif

namespace outsample {

enum class Isa { sse2, avx2, avx512, neon, generic };

std::string isa_name(Isa isa);

// Compiled in, weakest first.
std::vector<Isa> compiled_isas();

// Compiled in and supported by this processor, weakest first; never empty.
std::vector<Isa> supported_isas();

// The one in use: the strongest supported, unless the environment variable OUTSAMPLE_ISA or use_isa() says otherwise.
Isa active_isa();

// Switches all later calls of this process. Throws std::invalid_argument for a name that is not supported here.
void use_isa(const std::string& name);

}  // namespace outsample
