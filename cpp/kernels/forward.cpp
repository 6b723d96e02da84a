#include "outsample/forward.hpp"

#include "simd.hpp"

namespace outsample::OUTSAMPLE_ISA {

// Samples in lanes: one vector of `lanes` samples per hidden unit. The last, partial group is padded with zero inputs,
// so a sample's result does not depend on where in a batch it stands.
void forward_block(const Network& network, const float* x, std::int64_t count, float* logits, float* hidden,
                   float* scratch) {
    const int d = network.hidden_size, n = network.seq_len, outputs = network.output_size;
    float* h = scratch;
    float* next = h + d * lanes;
    float* input = next + d * lanes;
    for (std::int64_t first = 0; first < count; first += lanes) {
        const int filled = count - first < lanes ? static_cast<int>(count - first) : lanes;
        for (int i = 0; i < d * lanes; ++i) h[i] = 0;
        for (int t = 0; t < n; ++t) {
            for (int lane = 0; lane < lanes; ++lane) input[lane] = lane < filled ? x[(first + lane) * n + t] : 0.0f;
            const vfloat xt = load<vfloat>(input);
            for (int i = 0; i < d; ++i) {
                vfloat sum = broadcast(network.W_hi[i]) * xt;
                if (network.b_h) sum += broadcast(network.b_h[i]);
                if (t > 0)
                    for (int j = 0; j < d; ++j) sum += broadcast(network.W_hh[i * d + j]) * load<vfloat>(h + j * lanes);
                store(next + i * lanes, relu(sum));
            }
            float* swap = h;
            h = next;
            next = swap;
            if (hidden)
                for (int lane = 0; lane < filled; ++lane) {
                    float* out = hidden + (first + lane) * (n + 1) * d;
                    for (int i = 0; i < d; ++i) out[(t + 1) * d + i] = h[i * lanes + lane];
                    if (t == 0)
                        for (int i = 0; i < d; ++i) out[i] = 0;
                }
        }
        for (int o = 0; o < outputs; ++o) {
            vfloat sum = network.b_o ? broadcast(network.b_o[o]) : vfloat{};
            for (int j = 0; j < d; ++j) sum += broadcast(network.W_oh[o * d + j]) * load<vfloat>(h + j * lanes);
            for (int lane = 0; lane < filled; ++lane) logits[(first + lane) * outputs + o] = sum[lane];
        }
    }
}

}  // namespace outsample::OUTSAMPLE_ISA
