#include "outsample/forward.hpp"

#include "evaluate.hpp"

namespace outsample::OUTSAMPLE_ISA {

// The last, partial block is padded with zero inputs, so a sample's result does not depend on where in a batch it
// stands.
void forward_kernel(const Network& network, const float* x, std::int64_t count, float* logits, float* hidden,
                    float* scratch) {
    const int d = network.hidden_size, n = network.seq_len, outputs = network.output_size;
    const float* second = second_step_weights(network, scratch);
    float* inputs = scratch + (2 * d + 15) / 16 * 16;
    float* results = inputs + n * block;
    float* states = results + outputs * block;
    for (std::int64_t first = 0; first < count; first += block) {
        const int filled = count - first < block ? static_cast<int>(count - first) : block;
        if (filled < block)
            for (int i = 0; i < n * block; ++i) inputs[i] = 0;
        for (int s = 0; s < filled; ++s)
            for (int t = 0; t < n; ++t) inputs[t * block + s] = x[(first + s) * n + t];
        evaluate_block(network, second, inputs, states, hidden != nullptr, results);
        for (int s = 0; s < filled; ++s)
            for (int o = 0; o < outputs; ++o) logits[(first + s) * outputs + o] = results[o * block + s];
        if (hidden)
            for (int s = 0; s < filled; ++s) {
                float* out = hidden + (first + s) * (n + 1) * d;
                for (int i = 0; i < d; ++i) out[i] = 0;
                for (int i = 0; i < n * d; ++i) out[d + i] = states[i * block + s];
            }
    }
}

}  // namespace outsample::OUTSAMPLE_ISA
