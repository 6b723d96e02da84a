#include "outsample/sampling.hpp"

#include "label.hpp"
#include "layer.hpp"
#include "normal.hpp"

namespace outsample::OUTSAMPLE_ISA {

namespace {

constexpr std::uint32_t sampling_domain = 0;

// Inputs of the samples begin ... begin + block - 1; begin is a multiple of block.
OUTSAMPLE_INLINE void block_inputs(std::uint64_t key, std::int64_t begin, int n, float* x) {
    for (int v = 0; v < width; v += 2)
        normal_pairs(key, sampling_domain, static_cast<std::uint64_t>(begin / 2 + v / 2 * lanes), n, x + v * lanes,
                     x + (v + 1) * lanes, block);
}

template <int D>
std::int64_t count_correct_fixed(const Network& network, Task task, std::uint64_t key, std::int64_t first,
                                 std::int64_t last, float* scratch) {
    const int d = D ? D : network.hidden_size, n = network.seq_len, outputs = network.output_size;
    float* x = scratch;
    float* h = x + n * block;
    float* next = h + d * block;
    float* logits = next + d * block;
    std::int64_t total = 0;
    for (std::int64_t begin = first / block * block; begin < last; begin += block) {
        block_inputs(key, begin, n, x);
        for (int t = 0; t < n; ++t) {
            if (t == 0)
                layer<0, true>(d, 0, network.W_hi, h, network.W_hi, x, network.b_h, next);
            else
                layer<D, true>(d, d, network.W_hh, h, network.W_hi, x + t * block, network.b_h, next);
            float* swap = h;
            h = next;
            next = swap;
        }
        layer<D, false>(outputs, d, network.W_oh, h, nullptr, nullptr, network.b_o, logits);
        for (int v = 0; v < width; ++v) {
            const vint correct = argmax(logits + v * lanes, outputs, block) == label(task, x + v * lanes, n, block);
            for (int lane = 0; lane < lanes; ++lane) {
                const std::int64_t sample = begin + 2 * (v / 2 * lanes + lane) + v % 2;
                total += sample >= first && sample < last ? -correct[lane] : 0;
            }
        }
    }
    return total;
}

}  // namespace

std::int64_t count_correct_kernel(const Network& network, Task task, std::uint64_t key, std::int64_t first,
                                  std::int64_t last, float* scratch) {
    switch (network.hidden_size) {
        case 16:
            return count_correct_fixed<16>(network, task, key, first, last, scratch);
        default:
            return count_correct_fixed<0>(network, task, key, first, last, scratch);
    }
}

}  // namespace outsample::OUTSAMPLE_ISA
