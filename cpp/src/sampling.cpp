#include "outsample/sampling.hpp"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "outsample/parallel.hpp"

namespace outsample {

namespace {

// Samples of one piece of work: long enough to hide the cost of starting it, short enough to share evenly.
constexpr std::int64_t piece = 1 << 16;

void require_position_task(Task task) {
    if (task == Task::median)
        throw std::invalid_argument(
            "task must be one with a right position (2nd_argmax, argmax, argmedian), got median");
}

}  // namespace

std::int64_t sampling_scratch(const Network& network) {
    return (network.seq_len + 2 * network.hidden_size + network.output_size) * std::int64_t{64};
}

std::int64_t count_correct(const Network& network, Task task, std::int64_t samples, std::uint64_t key,
                           std::int64_t first, int threads) {
    const Network* networks[] = {&network};
    std::int64_t correct;
    count_correct_many(networks, 1, task, samples, &key, first, threads, &correct);
    return correct;
}

void count_correct_many(const Network* const* networks, std::int64_t count, Task task, std::int64_t samples,
                        const std::uint64_t* keys, std::int64_t first, int threads, std::int64_t* correct) {
    require_position_task(task);
    const std::int64_t pieces = (samples + piece - 1) / piece;
    std::vector<std::int64_t> partial(count * pieces);
    parallel_for(count * pieces, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        std::vector<float> scratch;
        for (std::int64_t i = begin; i < end; ++i) {
            const Network& network = *networks[i / pieces];
            scratch.resize(sampling_scratch(network));
            const std::int64_t from = first + i % pieces * piece;
            const std::int64_t to = std::min(from + piece, first + samples);
            partial[i] =
                OUTSAMPLE_KERNEL(count_correct_kernel)(network, task, keys[i / pieces], from, to, scratch.data());
        }
    });
    for (std::int64_t i = 0; i < count; ++i) {
        correct[i] = 0;
        for (std::int64_t j = 0; j < pieces; ++j) correct[i] += partial[i * pieces + j];
    }
}

}  // namespace outsample
