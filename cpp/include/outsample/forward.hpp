// Batched evaluation of the network.
#pragma once

#include <cstdint>

#include "outsample/isa.hpp"
#include "outsample/network.hpp"

namespace outsample {

// Logits of `count` inputs. x: count x n, logits: count x output_size, hidden: count x (n + 1) x d (h_0 = 0 first) or
// null. All row-major.
void forward(const Network& network, const float* x, std::int64_t count, float* logits, float* hidden, int threads);

// scratch: forward_scratch(network, hidden != nullptr) floats, aligned to 64 bytes.
OUTSAMPLE_DECLARE_KERNEL(void, forward_kernel,
                         (const Network& network, const float* x, std::int64_t count, float* logits, float* hidden,
                          float* scratch))

// For any instruction set.
std::int64_t forward_scratch(const Network& network, bool hidden);

}  // namespace outsample
