#include "outsample/peak.hpp"

#include "simd.hpp"

namespace outsample::OUTSAMPLE_ISA {

// Enough independent chains to hide the latency of a multiply-add, few enough to stay in registers.
constexpr int chains = 12;

int multiply_adds_per_round() { return chains * lanes; }

float multiply_add_chains(std::int64_t rounds) {
    vfloat sums[chains];
    for (int i = 0; i < chains; ++i) sums[i] = broadcast(static_cast<float>(i));
    const vfloat factor = broadcast(0.999f), term = broadcast(1e-3f);
    for (std::int64_t round = 0; round < rounds; ++round)
        for (int i = 0; i < chains; ++i) sums[i] = sums[i] * factor + term;
    for (int i = 1; i < chains; ++i) sums[0] += sums[i];
    return sums[0][0];
}

}  // namespace outsample::OUTSAMPLE_ISA
