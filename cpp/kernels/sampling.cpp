#include "outsample/sampling.hpp"

#include "evaluate.hpp"
#include "label.hpp"
#include "normal.hpp"

namespace outsample::OUTSAMPLE_ISA {

namespace {

constexpr std::uint32_t sampling_domain = 0;

// Inputs of the samples begin ... begin + block - 1; begin is a multiple of block. In a block, even vectors hold the
// samples of even number and odd vectors those of odd number.
void block_inputs(std::uint64_t key, std::int64_t begin, int n, float* x) {
    for (int v = 0; v < width; v += 2)
        normal_pairs(key, sampling_domain, static_cast<std::uint64_t>(begin / 2 + v / 2 * lanes), n, x + v * lanes,
                     x + (v + 1) * lanes, block);
}

// Place in the block of sample begin + i.
OUTSAMPLE_INLINE int place(int i) { return (i / (2 * lanes) * 2 + i % 2) * lanes + i % (2 * lanes) / 2; }

// -1 at the places of samples among first ... last - 1, else 0.
OUTSAMPLE_INLINE void mark_inside(std::int64_t begin, std::int64_t first, std::int64_t last, std::int32_t* inside) {
    for (int i = 0; i < block; ++i) inside[place(i)] = begin + i >= first && begin + i < last ? -1 : 0;
}

// Working space, each part a multiple of 64 bytes.
struct Space {
    float *second, *x, *states, *logits;
};

OUTSAMPLE_INLINE Space divide(const Network& network, float* scratch) {
    const int d = network.hidden_size;
    float* x = scratch + (2 * d + 15) / 16 * 16;
    float* states = x + network.seq_len * block;
    return {scratch, x, states, states + 2 * d * block};
}

}  // namespace

std::int64_t count_correct_kernel(const Network& network, Task task, std::uint64_t key, std::int64_t first,
                                  std::int64_t last, float* scratch) {
    const int n = network.seq_len, outputs = network.output_size;
    const Space space = divide(network, scratch);
    const float* second = second_step_weights(network, space.second);
    // Minus the number correct; 32 bits per lane are enough for the samples of one call.
    vint total{};
    for (std::int64_t begin = first / block * block; begin < last; begin += block) {
        block_inputs(key, begin, n, space.x);
        evaluate_block(network, second, space.x, space.states, false, space.logits);
        const bool edge = begin < first || begin + block > last;
        alignas(64) std::int32_t inside[block];
        if (edge) mark_inside(begin, first, last, inside);
        for (int v = 0; v < width; ++v) {
            vint correct =
                argmax(space.logits + v * lanes, outputs, block) == label(task, space.x + v * lanes, n, block);
            if (edge) correct &= load<vint>(inside + v * lanes);
            total += correct;
        }
    }
    std::int64_t sum = 0;
    for (int lane = 0; lane < lanes; ++lane) sum -= total[lane];
    return sum;
}

void moments_kernel(const Network& network, Task task, std::uint64_t key, std::int64_t first, std::int64_t last,
                    float* scratch, double* moments) {
    const int n = network.seq_len, outputs = network.output_size;
    const Space space = divide(network, scratch);
    const float* second = second_step_weights(network, space.second);
    double sum[block] = {}, squares[block] = {};
    for (std::int64_t begin = first / block * block; begin < last; begin += block) {
        block_inputs(key, begin, n, space.x);
        evaluate_block(network, second, space.x, space.states, false, space.logits);
        alignas(64) float values[block];
        alignas(64) std::int32_t inside[block];
        mark_inside(begin, first, last, inside);
        for (int v = 0; v < width; ++v) {
            const float *x = space.x + v * lanes, *logits = space.logits + v * lanes;
            vfloat value;
            if (task == Task::median) {
                value = load<vfloat>(logits) - median(x, n, block);
                value *= value;
            } else {
                value = cross_entropy(logits, outputs, block, label(task, x, n, block));
            }
            store(values + v * lanes, load<vint>(inside + v * lanes) ? value : vfloat{});
        }
        for (int i = 0; i < block; ++i) {
            const double value = values[i];
            sum[i] += value;
            squares[i] += value * value;
        }
    }
    moments[0] = moments[1] = 0;
    for (int i = 0; i < block; ++i) {
        moments[0] += sum[i];
        moments[1] += squares[i];
    }
}

void confusion_kernel(const Network& network, Task task, std::uint64_t key, std::int64_t first, std::int64_t last,
                      float* scratch, std::int64_t* counts) {
    const int n = network.seq_len, outputs = network.output_size;
    const Space space = divide(network, scratch);
    const float* second = second_step_weights(network, space.second);
    for (std::int64_t begin = first / block * block; begin < last; begin += block) {
        block_inputs(key, begin, n, space.x);
        evaluate_block(network, second, space.x, space.states, false, space.logits);
        std::int32_t cells[block];
        for (int v = 0; v < width; ++v)
            store(cells + v * lanes, label(task, space.x + v * lanes, n, block) * outputs +
                                         argmax(space.logits + v * lanes, outputs, block));
        for (int i = 0; i < block; ++i)
            if (begin + i >= first && begin + i < last) ++counts[cells[place(i)]];
    }
}

void normals_kernel(std::uint64_t key, std::int64_t first, std::int64_t last, int n, float* scratch, float* x) {
    for (std::int64_t begin = first / block * block; begin < last; begin += block) {
        block_inputs(key, begin, n, scratch);
        for (int i = 0; i < block; ++i)
            if (begin + i >= first && begin + i < last)
                for (int t = 0; t < n; ++t) x[(begin + i - first) * n + t] = scratch[t * block + place(i)];
    }
}

void philox_kernel(std::uint64_t key, std::uint64_t first, std::int64_t count, std::uint32_t c2, std::uint32_t c3,
                   std::uint32_t* words) {
    for (std::int64_t i = 0; i < count; i += lanes) {
        vuint w0, w1, w2, w3;
        philox(first + static_cast<std::uint64_t>(i), c2, c3, key, w0, w1, w2, w3);
        for (int lane = 0; lane < lanes && i + lane < count; ++lane) {
            std::uint32_t* out = words + 4 * (i + lane);
            out[0] = w0[lane];
            out[1] = w1[lane];
            out[2] = w2[lane];
            out[3] = w3[lane];
        }
    }
}

}  // namespace outsample::OUTSAMPLE_ISA
