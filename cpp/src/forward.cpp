#include "outsample/forward.hpp"

#include "outsample/parallel.hpp"
#include "scratch.hpp"

namespace outsample {

std::int64_t forward_scratch(const Network& network, bool hidden) {
    const std::int64_t d = network.hidden_size, n = network.seq_len, largest_block = 64, alignment = 16;
    const std::int64_t states = hidden && n > 2 ? n : 2;
    return 2 * d + alignment + (n + network.output_size + states * d) * largest_block;
}

void forward(const Network& network, const float* x, std::int64_t count, float* logits, float* hidden, int threads) {
    const std::int64_t n = network.seq_len, d = network.hidden_size, outputs = network.output_size;
    parallel_for(count, 1024, threads, [&](std::int64_t first, std::int64_t last) {
        thread_local Scratch scratch;
        OUTSAMPLE_KERNEL(forward_kernel)
        (network, x + first * n, last - first, logits + first * outputs,
         hidden ? hidden + first * (n + 1) * d : nullptr, scratch.floats(forward_scratch(network, hidden != nullptr)));
    });
}

}  // namespace outsample
