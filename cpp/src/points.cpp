#include "outsample/points.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "outsample/parallel.hpp"

namespace outsample {

namespace {

// Results are added up in pieces of this many samples or groups, in order, whatever the number of threads.
constexpr std::int64_t samples_per_piece = 4096;
constexpr std::int64_t groups_per_piece = 64;

void require_position_task(const Network& network, Task task) {
    if (task == Task::median)
        throw std::invalid_argument(
            "task must be one with a right position (2nd_argmax, argmax, argmedian), got median");
    if (network.seq_len < 2)
        throw std::invalid_argument("seq_len must be at least 2 to leave an input besides the last, got " +
                                    std::to_string(network.seq_len));
}

}  // namespace

std::int64_t points_scratch(const Network& network) {
    const std::int64_t d = network.hidden_size, n = network.seq_len, outputs = network.output_size;
    const std::int64_t keys = d + 2, stride = keys + 15;
    const std::int64_t comparators = 2 * keys * (keys + 1) / 2;
    return 64 * (3 * d + n + std::max(outputs, d)) + 16 * (2 * outputs + 2 * keys) + 2 * d +
           outputs * (d + 2 + stride) + 2 * d + stride + comparators;
}

void point_sums(const Network& network, const PointTable& table, std::int64_t segments, int threads, double* sums) {
    if (segments < 1 || table.groups % segments != 0)
        throw std::invalid_argument("segments must divide the number of groups, " + std::to_string(table.groups) +
                                    ", got " + std::to_string(segments));
    const std::int64_t groups = table.groups / segments;
    const std::int64_t pieces = (groups + groups_per_piece - 1) / groups_per_piece;
    std::vector<double> partial(segments * pieces);
    parallel_for(segments * pieces, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        std::vector<float> scratch(points_scratch(network));
        for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t from = i / pieces * groups + i % pieces * groups_per_piece;
            const std::int64_t to = std::min(from + groups_per_piece, (i / pieces + 1) * groups);
            partial[i] = OUTSAMPLE_KERNEL(point_sum_kernel)(network, table, from, to, scratch.data());
        }
    });
    for (std::int64_t s = 0; s < segments; ++s) {
        sums[s] = 0;
        for (std::int64_t i = 0; i < pieces; ++i) sums[s] += partial[s * pieces + i];
    }
}

void conditional_sums(const Network& network, Task task, std::int64_t samples, std::uint64_t key, std::int64_t first,
                      int threads, double sums[2]) {
    require_position_task(network, task);
    const std::int64_t pieces = (samples + samples_per_piece - 1) / samples_per_piece;
    std::vector<double> partial(2 * pieces);
    parallel_for(pieces, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        std::vector<float> scratch(points_scratch(network));
        for (std::int64_t i = begin; i < end; ++i) OUTSAMPLE_KERNEL(conditional_sums_kernel)
        (network, task, key, first + i * samples_per_piece, first + std::min((i + 1) * samples_per_piece, samples),
         scratch.data(), &partial[2 * i]);
    });
    sums[0] = sums[1] = 0;
    for (std::int64_t i = 0; i < pieces; ++i) {
        sums[0] += partial[2 * i];
        sums[1] += partial[2 * i + 1];
    }
}

void point_multiply_adds(const Network& network, bool exact_last, long long* once, long long* each) {
    const long long d = network.hidden_size, n = network.seq_len, outputs = network.output_size;
    // What is computed once: W_hh relu(W_hi) and W_hh relu(-W_hi); the products of the last step's weights.
    const bool two_steps_at_once = n >= 3 - (exact_last ? 0 : 1) && !network.b_h;
    *once = (two_steps_at_once ? 2 * d * d : 0) + (exact_last ? outputs * d : 0);
    *each = forward_multiply_adds(network);
    if (two_steps_at_once) *each += 2 * d - d * d - d;
    if (exact_last) {
        *each -= d;                      // W_hi x_{n-1}
        *each += 2 * d;                  // breakpoints, states at one end of the range
        *each += 6 * outputs * (d + 3);  // slope, logit, its distance and slope to the label's, two for the root
        *each += 10 * 12;                // ten times the normal distribution function
    }
}

void conditional_probabilities(const Network& network, Task task, const float* x, std::int64_t count, int threads,
                               float* probabilities) {
    require_position_task(network, task);
    parallel_for(count, 64, threads, [&](std::int64_t begin, std::int64_t end) {
        std::vector<float> scratch(points_scratch(network));
        OUTSAMPLE_KERNEL(conditional_probabilities_kernel)
        (network, task, x + begin * (network.seq_len - 1), end - begin, scratch.data(), probabilities + begin);
    });
}

}  // namespace outsample
