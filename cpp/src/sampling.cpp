#include "outsample/sampling.hpp"

#include <algorithm>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "outsample/parallel.hpp"
#include "scratch.hpp"

namespace outsample {

namespace {

// Samples of one piece of work: long enough to hide the cost of starting it, short enough to share evenly.
constexpr std::int64_t piece = 1 << 16;

void require_position_task(Task task) {
    if (task == Task::median)
        throw std::invalid_argument(
            "task must be one with a right position (2nd_argmax, argmax, argmedian), got median");
}

std::int64_t pieces_of(std::int64_t samples) { return (samples + piece - 1) / piece; }

}  // namespace

std::int64_t sampling_scratch(const Network& network) {
    const std::int64_t d = network.hidden_size, largest_block = 64, alignment = 16;
    return 2 * d + alignment + (network.seq_len + 2 * d + network.output_size) * largest_block;
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
    const std::int64_t pieces = pieces_of(samples);
    std::vector<std::int64_t> partial(count * pieces);
    parallel_for(count * pieces, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        thread_local Scratch scratch;
        for (std::int64_t i = begin; i < end; ++i) {
            const Network& network = *networks[i / pieces];
            const std::int64_t from = first + i % pieces * piece;
            partial[i] = OUTSAMPLE_KERNEL(count_correct_kernel)(network, task, keys[i / pieces], from,
                                                                std::min(from + piece, first + samples),
                                                                scratch.floats(sampling_scratch(network)));
        }
    });
    for (std::int64_t i = 0; i < count; ++i) {
        correct[i] = 0;
        for (std::int64_t j = 0; j < pieces; ++j) correct[i] += partial[i * pieces + j];
    }
}

Moments sample_moments(const Network& network, Task task, std::int64_t samples, std::uint64_t key, std::int64_t first,
                       int threads) {
    std::vector<double> partial(2 * pieces_of(samples));
    parallel_for(pieces_of(samples), 1, threads, [&](std::int64_t begin, std::int64_t end) {
        thread_local Scratch scratch;
        for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t from = first + i * piece;
            OUTSAMPLE_KERNEL(moments_kernel)
            (network, task, key, from, std::min(from + piece, first + samples),
             scratch.floats(sampling_scratch(network)), &partial[2 * i]);
        }
    });
    Moments total{};
    for (std::size_t i = 0; i < partial.size(); i += 2) {
        total.sum += partial[i];
        total.squares += partial[i + 1];
    }
    return total;
}

void count_confusion(const Network& network, Task task, std::int64_t samples, std::uint64_t key, std::int64_t first,
                     int threads, std::int64_t* counts) {
    require_position_task(task);
    const std::int64_t cells = static_cast<std::int64_t>(network.output_size) * network.output_size;
    std::fill(counts, counts + cells, 0);
    std::mutex lock;
    parallel_for(samples, piece, threads, [&](std::int64_t begin, std::int64_t end) {
        thread_local Scratch scratch;
        std::vector<std::int64_t> own(cells);
        OUTSAMPLE_KERNEL(confusion_kernel)
        (network, task, key, first + begin, first + end, scratch.floats(sampling_scratch(network)), own.data());
        const std::lock_guard<std::mutex> guard(lock);
        for (std::int64_t i = 0; i < cells; ++i) counts[i] += own[i];
    });
}

void sample_normals(std::uint64_t key, std::int64_t first, std::int64_t count, int n, int threads, float* x) {
    parallel_for(count, piece, threads, [&](std::int64_t begin, std::int64_t end) {
        thread_local Scratch scratch;
        OUTSAMPLE_KERNEL(normals_kernel)
        (key, first + begin, first + end, n, scratch.floats(std::int64_t{64} * n), x + begin * n);
    });
}

}  // namespace outsample
