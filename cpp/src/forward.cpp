#include "outsample/forward.hpp"

#include <vector>

#include "outsample/parallel.hpp"

namespace outsample {

std::int64_t forward_scratch(const Network& network) { return (2 * network.hidden_size + 1) * 16; }

void forward(const Network& network, const float* x, std::int64_t count, float* logits, float* hidden, int threads) {
    const std::int64_t n = network.seq_len, d = network.hidden_size, outputs = network.output_size;
    parallel_for(count, 1024, threads, [&](std::int64_t first, std::int64_t last) {
        std::vector<float> scratch(forward_scratch(network));
        OUTSAMPLE_KERNEL(forward_block)
        (network, x + first * n, last - first, logits + first * outputs,
         hidden ? hidden + first * (n + 1) * d : nullptr, scratch.data());
    });
}

}  // namespace outsample
