#include "outsample/points.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "outsample/parallel.hpp"
#include "outsample/sampling.hpp"
#include "scratch.hpp"

namespace outsample {

namespace {

// Results are added up in pieces of this many strata or points, in order, whatever the number of threads.
constexpr std::int64_t strata_per_piece = 2048;
constexpr std::int64_t points_per_piece = 64 * points_per_group;

void require_two_inputs(const Network& network) {
    if (network.seq_len < 2)
        throw std::invalid_argument("seq_len must be at least 2 to leave an input besides the last, got " +
                                    std::to_string(network.seq_len));
}

RuleSum added_up(const std::vector<RuleSum>& parts) {
    RuleSum total{0.0, 0.0, 0};
    for (const RuleSum& part : parts) {
        total.sum += part.sum;
        total.squares += part.squares;
        total.walked += part.walked;
    }
    return total;
}

}  // namespace

std::int64_t points_scratch(const Network& network) {
    const std::int64_t d = network.hidden_size, n = network.seq_len, outputs = network.output_size;
    const std::int64_t keys = std::max<std::int64_t>(d, 32) + 2, stride = keys + 15;
    const std::int64_t blocks = 64 * (n + outputs + 3 * std::max({outputs, d, std::int64_t{2}}));
    const std::int64_t walk = 16 * (2 * outputs + 3 * (keys + 1));
    const std::int64_t weights = 15 + outputs * (stride + d + 2) + 5 * d;
    return blocks + walk + weights + keys * (keys + 1);  // as many numbers of comparators at most
}

PointTable random_run(const PointTable& table, std::int64_t copies, int inputs, std::uint64_t key, int* position) {
    constexpr std::uint32_t run_domain = 2;  // of Philox's counters
    std::uint32_t words[4];
    OUTSAMPLE_KERNEL(philox_kernel)(key, 0, 1, 0, run_domain, words);
    const auto below = [](std::uint32_t word, std::int64_t limit) {
        return static_cast<std::int64_t>(std::uint64_t{word} * static_cast<std::uint64_t>(limit) >> 32);
    };
    const std::int64_t number = below(words[0], table.copies - copies + 1) * table.points;
    PointTable run = table;
    run.data += number / points_per_group * table.group_stride + number % points_per_group;
    run.copies = copies;
    run.position = position;
    const int first = static_cast<int>(below(words[1], inputs));
    for (int t = 0; t < inputs; ++t) position[t] = (first + (words[2] & 1 ? t : inputs - t)) % inputs;
    std::fill(position + inputs, position + std::max(inputs, least_positions), 0);
    return run;
}

std::int64_t point_sums(const Network& network, const PointTable& table, std::int64_t intervals, int threads,
                        double* sums) {
    // A piece is a part of a copy, or as many small copies as it has room for.
    const std::int64_t points = std::max<std::int64_t>(table.points, 1);
    const std::int64_t parts = (points + points_per_piece - 1) / points_per_piece;
    const std::int64_t together = std::max<std::int64_t>(points_per_piece / points, 1);
    const std::int64_t pieces = (table.copies + together - 1) / together * parts;
    std::vector<double> partial(table.copies * parts);
    std::vector<std::int64_t> walked(pieces);
    parallel_for(pieces, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        thread_local Scratch scratch;
        for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t copy = i / parts * together, first = i % parts * points_per_piece;
            const std::int64_t number = copy * table.points + first;
            PointTable piece = table;
            piece.data += number / points_per_group * table.group_stride + number % points_per_group;
            piece.copies = std::min(together, table.copies - copy);
            piece.points = std::min(points_per_piece, table.points - first);
            walked[i] = OUTSAMPLE_KERNEL(point_sums_kernel)(
                network, piece, first, intervals, scratch.floats(points_scratch(network)), &partial[i * together]);
        }
    });
    for (std::int64_t copy = 0; copy < table.copies; ++copy)
        sums[copy] = std::accumulate(&partial[copy * parts], &partial[copy * parts] + parts, 0.0);
    return std::accumulate(walked.begin(), walked.end(), std::int64_t{0});
}

void point_sums_many(const PointJob* jobs, std::int64_t count, std::int64_t intervals, int threads, double* sums,
                     std::int64_t* walked) {
    parallel_for(count, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
            walked[i] = point_sums(*jobs[i].network, jobs[i].table, intervals, 1, sums + i * jobs[i].table.copies);
    });
}

RuleSum conditional_sum(const Network& network, Task task, std::int64_t strata, std::uint64_t key,
                        std::int64_t intervals, int threads) {
    require_two_inputs(network);
    std::vector<RuleSum> partial((strata + strata_per_piece - 1) / strata_per_piece);
    parallel_for(static_cast<std::int64_t>(partial.size()), 1, threads, [&](std::int64_t begin, std::int64_t end) {
        thread_local Scratch scratch;
        for (std::int64_t i = begin; i < end; ++i)
            partial[i] = OUTSAMPLE_KERNEL(conditional_sum_kernel)(network, task, key, strata, i * strata_per_piece,
                                                                  std::min((i + 1) * strata_per_piece, strata),
                                                                  intervals, scratch.floats(points_scratch(network)));
    });
    return added_up(partial);
}

void conditional_sum_many(const Network* const* networks, const std::uint64_t* keys, std::int64_t count, Task task,
                          std::int64_t strata, std::int64_t intervals, int threads, RuleSum* results) {
    parallel_for(count, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
            results[i] = conditional_sum(*networks[i], task, strata, keys[i], intervals, 1);
    });
}

RuleCost rule_cost(const Network& network, Task task, bool exact_last) {
    const long long d = network.hidden_size, n = network.seq_len, outputs = network.output_size;
    const long long known = exact_last ? n - 1 : n;  // inputs that a point gives
    RuleCost cost{0, forward_multiply_adds(network), 0, 0, 0};
    if (known >= 2 && !network.b_h) {
        // The first two steps at once: W_hh relu(W_hi) and W_hh relu(-W_hi) once, three products per unit for a point.
        cost.once += 2 * d * d;
        cost.point += 3 * d - (d + d * d + d);
    }
    if (exact_last) {
        cost.once += outputs * d;         // by how much a breakpoint raises a logit's slope
        cost.point -= d;                  // W_hi x_{n-1}
        cost.point += 2 * d;              // breakpoints; states at one end of the range
        cost.point += outputs * (d + 2);  // slopes
        if (task == Task::median) {
            cost.point += 6;         // median and f at one end; the line next to 0
            cost.interval = 2 * 10;  // upper moments
            cost.interval += 9;      // value, line on the other side of the breakpoint, term of the sum
            cost.most = cost.planned = d + 2;
        } else {
            // intervals_of_values counts on this sum.
            cost.interval = 5 * outputs;  // logit; deficit and slope against the label; two for the root
            cost.interval += 2 * 12;      // normal distribution function at both ends of the piece of right answers
            cost.most = d + 3;
            // Trained networks of such sizes have at most 0.6 of them: with a long memory, few units break within reach
            // of the last input.
            const bool long_memory = d >= 8 && n >= 7;
            cost.planned =
                long_memory ? std::max<long long>(2 * cost.most / 3, intervals_of_values(network)) : cost.most;
        }
    }
    return cost;
}

void conditional_expectations(const Network& network, Task task, const float* x, std::int64_t count, int threads,
                              float* expectations) {
    require_two_inputs(network);
    parallel_for(count, 64, threads, [&](std::int64_t begin, std::int64_t end) {
        thread_local Scratch scratch;
        OUTSAMPLE_KERNEL(conditional_expectations_kernel)
        (network, task, x + begin * (network.seq_len - 1), end - begin, scratch.floats(points_scratch(network)),
         expectations + begin);
    });
}

}  // namespace outsample
