#include "outsample/points.hpp"

#include "evaluate.hpp"
#include "label.hpp"
#include "last_input.hpp"
#include "last_input_squared.hpp"
#include "strata.hpp"

namespace outsample::OUTSAMPLE_ISA {

namespace {

constexpr std::uint32_t conditional_domain = 1;

using Walk = decltype(&right_probability<0, 0, false>);

// Logits stay in registers for as many as AlgZoo's networks have.
template <int Width, bool Full>
OUTSAMPLE_INLINE Walk walk_of_outputs(int outputs) {
    switch (outputs) {
        case 3:
            return right_probability<Width, 3, Full>;
        case 4:
            return right_probability<Width, 4, Full>;
        case 5:
            return right_probability<Width, 5, Full>;
        case 6:
            return right_probability<Width, 6, Full>;
        case 7:
            return right_probability<Width, 7, Full>;
        case 8:
            return right_probability<Width, 8, Full>;
        case 10:
            return right_probability<Width, 10, Full>;
        case 11:
            return right_probability<Width, 11, Full>;
        default:
            return right_probability<Width, 0, Full>;
    }
}

OUTSAMPLE_INLINE Walk walk_of(int d, int outputs) {
    const int width = walk_width(d);
    if (d == 16) return walk_of_outputs<16, true>(outputs);
    if (width == 8) return walk_of_outputs<8, false>(outputs);
    if (width == 16) return right_probability<16, 0, false>;
    return width ? walk_of_outputs<widest_walk, false>(outputs) : right_probability<0, 0, false>;
}

using SquaredWalk = decltype(&expected_square<0, false>);

OUTSAMPLE_INLINE SquaredWalk squared_walk_of(int d) {
    const int width = walk_width(d);
    if (d == 16) return expected_square<16, true>;
    if (width == 8) return expected_square<8, false>;
    if (width == 16) return expected_square<16, false>;
    return width ? expected_square<widest_walk, false> : expected_square<0, false>;
}

// A network made ready for many points: what is computed once per call stands here.
struct Prepared {
    Network network;
    LastStep last;
    const float* second;  // from second_step_weights
    float *h, *next;      // states; values of the last input that stand for its walk use both
    float* x;
    float* c;      // pre-activations of the last step without the last input, or logits of given points
    float* start;  // logits at the lower end of the last input's range
    float* work;
    Walk walk;
    SquaredWalk squared_walk;  // for the median task
};

OUTSAMPLE_INLINE bool same_answers(const Network& network, int a, int b) {
    const int d = network.hidden_size;
    for (int k = 0; k < d; ++k)
        if (network.W_oh[a * d + k] != network.W_oh[b * d + k]) return false;
    return !network.b_o || network.b_o[a] == network.b_o[b];
}

OUTSAMPLE_INLINE vint lane_numbers() {
    vint number;
    for (int lane = 0; lane < lanes; ++lane) number[lane] = lane;
    return number;
}

template <int D>
OUTSAMPLE_INLINE void prepare_last_step(const Network& network, LastStep& last, float*& p) {
    const int d = D ? D : network.hidden_size, outputs = network.output_size, stride = last_step_stride(d);
    float* jump = p;
    float* weights = jump + outputs * stride;
    float* offset = weights + outputs * d;
    float* slope = offset + outputs;
    float* root = slope + outputs;
    int* matters = (int*)(root + d);
    Unit* kind = (Unit*)(matters + d);
    int* comparator = (int*)(kind + d);
    last = {d, outputs, stride, network.W_hi, weights, offset, jump, slope, root, kind, 0, 0, comparator, 1};
    // Every call comes through here: loops go through all entries rather than branch on signs, which cannot be
    // predicted.
    bool copies = false;  // perhaps: answers that are alike have the same first weight
    for (int o = 1; o < outputs; ++o)
        for (int other = 0; other < o; ++other) copies |= network.W_oh[o * d] == network.W_oh[other * d];
    for (int o = 0; o < outputs; ++o) {
        // A copy of an earlier answer never wins: ties go to the lower index.
        bool copy = false;
        for (int other = 0; copies && other < o; ++other) copy = copy || same_answers(network, o, other);
        offset[o] = copy ? -1e30f : network.b_o ? network.b_o[o] : 0.0f;
        for (int k = 0; k < d; ++k) {
            const float weight = copy ? 0.0f : network.W_oh[o * d + k];
            weights[o * d + k] = weight;
            jump[o * stride + k] = __builtin_fabsf(network.W_hi[k]) * weight;
        }
        for (int k = d; k < stride; ++k) jump[o * stride + k] = 0.0f;
        if (offset[o] > offset[last.dead_answer]) last.dead_answer = o;
        slope[o] = 0.0f;
        for (int k = 0; k < d; ++k) slope[o] += (network.W_hi[k] < 0.0f ? network.W_hi[k] : 0.0f) * weights[o * d + k];
    }
    for (int k = 0; k < d; ++k) matters[k] = 0;
    for (int o = 1; o < outputs; ++o)
        for (int k = 0; k < d; ++k) matters[k] |= weights[o * d + k] != weights[k];
    for (int k = 0; k < d; ++k) {
        const float w = network.W_hi[k];
        const float limit = -1.0f / w;  // finite, so that it times zero is not a not-a-number
        root[k] = w == 0.0f ? 0.0f : limit > 3e38f ? 3e38f : limit < -3e38f ? -3e38f : limit;
        const Unit what = w > 0.0f ? Unit::wakes : w < 0.0f ? Unit::falls_asleep : Unit::constant;
        kind[k] = matters[k] ? what : Unit::does_not_matter;
    }
    const int keys = walk_size(d) + 2;
    while (last.number_mask < keys - 1) last.number_mask = 2 * last.number_mask + 1;
    const bool known = walk_width(d) == 8 || walk_width(d) == 16;  // at compile time
    for (int q = 1; !known && q < keys; q *= 2)
        for (int k = q; k >= 1; k /= 2)
            for (int j = k % q; j + k < keys; j += 2 * k)
                for (int i = 0; i < k && i + j + k < keys; ++i)
                    if ((i + j) / (2 * q) == (i + j + k) / (2 * q)) {
                        comparator[2 * last.comparators] = i + j;
                        comparator[2 * last.comparators + 1] = i + j + k;
                        ++last.comparators;
                    }
    p = (float*)(comparator + 2 * last.comparators);
}

template <int D>
OUTSAMPLE_INLINE void prepare(const Network& network, float* scratch, Prepared& prepared) {
    const int d = D ? D : network.hidden_size, n = network.seq_len, outputs = network.output_size;
    prepared.network = network;
    prepared.h = scratch;
    const int widest = d > outputs ? d : outputs, rows = widest > 2 ? widest : 2;
    prepared.next = prepared.h + rows * block;
    prepared.x = prepared.next + rows * block;
    prepared.c = prepared.x + n * block;
    prepared.start = prepared.c + rows * block;
    prepared.work = prepared.start + outputs * block;
    float* p = prepared.work + (2 * outputs + 3 * (walk_size(d) + 3)) * lanes;
    prepare_last_step<D>(network, prepared.last, p);
    // Biases of zero are biases here, as in rule_cost.
    prepared.second = network.b_h ? nullptr : second_step_weights(network, p);
    prepared.walk = walk_of(d, outputs);
    prepared.squared_walk = squared_walk_of(d);
}

// States after inputs x (rows `block` floats apart), into prepared.h.
template <int D>
OUTSAMPLE_INLINE void states(Prepared& prepared, const float* x, int steps) {
    const Network& network = prepared.network;
    const int d = D ? D : network.hidden_size;
    int t = 0;
    if (steps >= 2 && prepared.second) {
        // What the first input leaves, in the place of a state.
        for (int v = 0; v < width; ++v) {
            const vfloat x0 = load<vfloat>(x + v * lanes);
            store(prepared.next + v * lanes, relu(x0));
            store(prepared.next + block + v * lanes, relu(-x0));
        }
        layer<2, true>(d, 2, prepared.second, prepared.next, network.W_hi, x + block, nullptr, prepared.h);
        t = 2;
    }
    for (; t < steps; ++t) {
        if (t == 0)
            layer<0, true>(d, 0, network.W_hi, prepared.h, network.W_hi, x, network.b_h, prepared.next);
        else
            layer<D, true>(d, d, network.W_hh, prepared.h, network.W_hi, x + t * block, network.b_h, prepared.next);
        float* swap = prepared.h;
        prepared.h = prepared.next;
        prepared.next = swap;
    }
}

template <int D>
OUTSAMPLE_INLINE void before_last_input(Prepared& prepared, const float* x, float range) {
    const Network& network = prepared.network;
    const int d = network.hidden_size;
    states<D>(prepared, x, network.seq_len - 1);
    layer<D, false>(d, d, network.W_hh, prepared.h, nullptr, nullptr, network.b_h, prepared.c);
    for (int k = 0; k < d; ++k)
        for (int v = 0; v < width; ++v) {
            const vfloat c = load<vfloat>(prepared.c + k * block + v * lanes);
            store(prepared.h + k * block + v * lanes, relu(c - broadcast(network.W_hi[k] * range)));
        }
    layer<D, false>(network.output_size, d, prepared.last.weights, prepared.h, nullptr, nullptr, prepared.last.offset,
                    prepared.start);
}

OUTSAMPLE_INLINE float range_of(Task task) { return task == Task::median ? squared_range : last_range; }

OUTSAMPLE_INLINE vfloat value_at(const float* x, vint position, int count, std::ptrdiff_t stride) {
    vfloat value{};
    for (int i = 0; i < count; ++i) value = position == i ? load<vfloat>(x + i * stride) : value;
    return value;
}

// Where on the last input's line the right position changes, given the earlier inputs.
OUTSAMPLE_INLINE void order_switches(Task task, const float* x, int n, std::ptrdiff_t stride, vfloat& before,
                                     vfloat& after, vint& before_label, vint& after_label) {
    const vfloat infinity = broadcast(__builtin_inff());
    if (task == Task::second_argmax) {
        after_label = argmax(x, n - 1, stride);
        before_label = n > 2 ? second_argmax(x, n - 1, stride) : after_label;
        before = n > 2 ? value_at(x, before_label, n - 1, stride) : -infinity;
        after = value_at(x, after_label, n - 1, stride);
    } else if (task == Task::argmax) {
        before_label = after_label = argmax(x, n - 1, stride);
        before = value_at(x, before_label, n - 1, stride);
        after = infinity;
    } else {
        before_label = position_of_rank(x, n - 1, stride, n / 2);
        after_label = position_of_rank(x, n - 1, stride, n / 2 - 1);
        before = value_at(x, before_label, n - 1, stride);
        after = value_at(x, after_label, n - 1, stride);
    }
}

OUTSAMPLE_INLINE Allowance allowance(const Network& network, std::int64_t samples, std::int64_t intervals) {
    return {samples * intervals, samples, network.hidden_size + 3, intervals_of_values(network)};
}

// The median moves with the last input between the order statistics of this rank (0: the largest) and the next of the
// n - 1 earlier inputs; for an even n between those of this rank and the next but one.
constexpr int upper_rank_of_median(int n) { return (n - 3) / 2; }

// upper, lower: of ranks upper_rank_of_median(n) and one more; below: the value next to them.
OUTSAMPLE_INLINE MedianPiece median_piece(int n, vfloat upper, vfloat lower, vfloat below) {
    if (n % 2) return {lower, upper, vfloat{}, 1.0f};
    return {below, upper, 0.5f * lower, 0.5f};
}

OUTSAMPLE_INLINE MedianPiece find_median_piece(const float* x, int n) {
    const vfloat infinity = broadcast(__builtin_inff());
    if (n == 2) return median_piece(n, infinity, load<vfloat>(x), -infinity);
    vfloat upper{}, lower{}, below{};
    const int rank = upper_rank_of_median(n);
    at_rank(x, n - 1, block, rank, upper);
    at_rank(x, n - 1, block, rank + 1, lower);
    at_rank(x, n - 1, block, rank + 2, below);
    return median_piece(n, upper, lower, below);
}

OUTSAMPLE_INLINE std::int64_t sum_of_lanes(vint a) {
    std::int64_t sum = 0;
    for (int lane = 0; lane < lanes; ++lane) sum += a[lane];
    return sum;
}

OUTSAMPLE_INLINE void add_up(vfloat values, vdouble& total) {
    for (int lane = 0; lane < double_lanes; ++lane)
        total[lane] += static_cast<double>(values[lane]) + values[lane + double_lanes];
}

// Weights of the next points of a table, 0 beyond its last `count`.
OUTSAMPLE_INLINE vfloat weights_within(const float* weights, std::int64_t count) {
    const vfloat all = load<vfloat>(weights);
    if (count >= lanes) return all;
    return select(greater(broadcast(static_cast<int>(count)), lane_numbers()), all, vfloat{});
}

// Points of positive weight; the others fill up copies.
OUTSAMPLE_INLINE std::int64_t count_points(const PointTable& table, int n) {
    const float* weights = table.data + (point_rows(n, table.exact_last) - 1) * table.row_stride;
    const std::int64_t total = table.copies * table.points;
    vint count{};
    for (std::int64_t i = 0; i < total; i += lanes) {
        const float* here = weights + i / points_per_group * table.group_stride + i % points_per_group;
        count += select(less(vfloat{}, weights_within(here, total - i)), broadcast(1), vint{});
    }
    return sum_of_lanes(count);
}

OUTSAMPLE_INLINE double sum_of_lanes(vdouble a) {
    double sum = 0.0;
    for (int lane = 0; lane < double_lanes; ++lane) sum += a[lane];
    return sum;
}

// Adds up values in a row, so many for each sum.
struct SumsInARow {
    double* sums;
    std::int64_t values;
    double rest = 0.0;  // of the first sum that is not complete, from vectors in which a sum ends
};

// The first `count` lanes of a vector in which sums end, the first one after `left` values. How many are missing from
// the next one then. Out of line, since it is rare and would cost registers.
__attribute__((noinline)) std::int64_t add_across(SumsInARow& row, vfloat values, std::int64_t count,
                                                  std::int64_t left) {
    float value[lanes];
    store(value, values);
    for (int lane = 0; lane < lanes && lane < count; ++lane) {
        row.rest += value[lane];
        if (--left > 0) continue;
        *row.sums++ = row.rest;
        row.rest = 0.0;
        left = row.values;
    }
    return left;
}

// Multiples of the golden ratio modulo 1, from number `first` on: evenly spread, however many of them are taken.
OUTSAMPLE_INLINE vfloat golden_sequence(std::int64_t first) {
    vuint number;
    for (int lane = 0; lane < lanes; ++lane) number[lane] = static_cast<std::uint32_t>(first) + lane;
    return to_uniform(number * 2654435769u >> 16);
}

// Labels of a table whose inputs stand elsewhere in the sequence.
OUTSAMPLE_INLINE vint moved(const int* position, int inputs, vint label) {
    const float* entries = (const float*)position;
    return inputs <= least_positions ? (vint)lookup<least_positions>(entries, label) : (vint)lookup<0>(entries, label);
}

template <int D>
std::int64_t point_sums(const Network& network, const PointTable& table, std::int64_t first, std::int64_t intervals,
                        float* scratch, double* sums) {
    const int d = D ? D : network.hidden_size, n = network.seq_len, outputs = network.output_size;
    const int inputs = table.exact_last ? n - 1 : n, rows = point_rows(n, table.exact_last);
    const std::ptrdiff_t row_stride = table.row_stride;
    const std::int64_t total = table.copies * table.points;
    Prepared prepared;
    prepare<D>(network, scratch, prepared);
    SumsInARow copies{sums, table.points};
    vdouble copy_total{};
    std::int64_t copy_left = table.points, walked = 0;
    Allowance left = allowance(network, count_points(table, n), intervals);
    for (std::int64_t group = 0; group * points_per_group < total; ++group) {
        const float* data = table.data + group * table.group_stride;
        // Large tables are not in the near caches, and processors do not look far enough ahead.
        if ((group + 1) * points_per_group < total)
            for (int t = 0; t < rows; ++t)
                for (int i = 0; i < points_per_group; i += 16)
                    __builtin_prefetch(data + table.group_stride + t * row_stride + i);
        for (int part = 0; part < points_per_group && group * points_per_group + part < total; part += block) {
            const float* points = data + part;
            for (int t = 0; t < inputs; ++t) {
                float* x = prepared.x + (table.position ? table.position[t] : t) * block;
                for (int v = 0; v < width; ++v) store(x + v * lanes, load<vfloat>(points + t * row_stride + v * lanes));
            }
            if (table.exact_last) {
                before_last_input<D>(prepared, prepared.x, last_range);
            } else {
                states<D>(prepared, prepared.x, n);
                layer<D, false>(outputs, d, network.W_oh, prepared.h, nullptr, nullptr, network.b_o, prepared.c);
            }
            const std::int64_t here_on = total - group * points_per_group - part;
            const int used = here_on >= block ? width : static_cast<int>((here_on + lanes - 1) / lanes);
            for (int v = 0; v < used; ++v) {
                const std::int64_t number = group * points_per_group + part + v * lanes;
                const float* row = points + inputs * row_stride + v * lanes;
                const vfloat weight = weights_within(row + (table.exact_last ? 4 : 1) * row_stride, total - number);
                vfloat value{};
                if (table.exact_last) {
                    const vfloat before = load<vfloat>(row), after = load<vfloat>(row + row_stride);
                    vint before_label = load<vint>(row + 2 * row_stride);
                    vint after_label = load<vint>(row + 3 * row_stride);
                    if (table.position) {
                        before_label = moved(table.position, inputs, before_label);
                        after_label = moved(table.position, inputs, after_label);
                    }
                    const vint count_me = select(less(vfloat{}, weight), broadcast(1), vint{});
                    const std::int64_t here = sum_of_lanes(count_me);
                    std::int64_t taken = here * left.values;
                    if (here == 0) {
                        // All of these fill up a copy.
                    } else if (left.walk(here)) {
                        vint walked_here{};
                        value = prepared.walk(prepared.last, prepared.c + v * lanes, prepared.start + v * lanes, before,
                                              after, before_label, after_label, count_me, walked_here, prepared.work);
                        taken = sum_of_lanes(walked_here);
                    } else {
                        const vfloat u = golden_sequence(first + number);
                        value = right_share<D>(prepared.last, prepared.c + v * lanes, u, before, after, before_label,
                                               after_label, prepared.h, prepared.next);
                    }
                    left.spend(here, taken);
                    walked += taken;
                } else {
                    const vint answer = argmax(prepared.c + v * lanes, outputs, block);
                    vint label = load<vint>(row);
                    if (table.position) label = moved(table.position, inputs, label);
                    value = select(equal(answer, label), broadcast(1.0f), vfloat{});
                }
                if (copy_left < lanes) {
                    copies.rest += sum_of_lanes(copy_total);
                    copy_total = vdouble{};
                    copy_left = add_across(copies, value * weight, total - number, copy_left);
                    continue;
                }
                add_up(value * weight, copy_total);
                if ((copy_left -= lanes) == 0) {
                    *copies.sums++ = copies.rest + sum_of_lanes(copy_total);
                    copies.rest = 0.0;
                    copy_total = vdouble{};
                    copy_left = table.points;
                }
            }
        }
    }
    return walked;
}

template <int D>
RuleSum conditional_sum(const Network& network, Task task, std::uint64_t key, std::int64_t count, std::int64_t first,
                        std::int64_t last, std::int64_t intervals, float* scratch) {
    const int n = network.seq_len, inputs = n - 1;
    const int rank = task == Task::median ? upper_rank_of_median(n) : task == Task::argmedian ? n / 2 - 1 : 0;
    Prepared prepared;
    prepare<D>(network, scratch, prepared);
    const Strata strata = make_strata(task, count, inputs);
    const vint lane_number = lane_numbers();
    vdouble total{}, squares{};
    std::int64_t walked = 0;
    Allowance left = allowance(network, 2 * (last - first), intervals);
    // Even vectors hold the first samples of as many strata as there are lanes, odd ones the second samples.
    for (std::int64_t begin = first; begin < last; begin += block / 2) {
        vfloat before[width], after[width], weight[width];
        vint before_label[width], after_label[width];
        MedianPiece median[width];
        vuint words[2 * width];
        int used = 0;  // vectors
        for (; used < width && begin + used / 2 * lanes < last; used += 2) {
            const std::int64_t stratum = begin + used / 2 * lanes;
            float* x = prepared.x + used * lanes;
            vuint* here = words + 2 * used;
            normal_pairs(key, conditional_domain, static_cast<std::uint64_t>(stratum), inputs, x, x + lanes, block);
            philox(static_cast<std::uint64_t>(stratum), static_cast<std::uint32_t>((inputs + 1) / 2),
                   conditional_domain, key, here[0], here[1], here[2], here[3]);
        }
        for (int v = used; v < width; ++v)
            for (int t = 0; t < inputs; ++t) store(prepared.x + t * block + v * lanes, vfloat{});
        if (inputs >= 2) {
            // Step by step for all vectors: each step has to wait for its results, and the next vector's need not.
            Place place[width];
            Neighbours old[width];
            for (int v = 0; v < used; ++v)
                place[v] = random_place(strata, begin + v / 2 * lanes, words[2 * v], words[2 * v + 1]);
            for (int v = 0; v < used; ++v) old[v] = find_neighbours(prepared.x + v * lanes, inputs, rank);
            for (int v = 0; v < used; ++v) draw_values(place[v], old[v], rank, inputs, after[v], before[v]);
            for (int v = 0; v < used; ++v) {
                trade_places(place[v], old[v], after[v], before[v], prepared.x + v * lanes, inputs);
                if (task == Task::median) median[v] = median_piece(n, after[v], before[v], old[v].below);
                weight[v] = place[v].weight;
                after_label[v] = place[v].upper;
                before_label[v] = place[v].lower;
                if (task == Task::argmax) {
                    before_label[v] = place[v].upper;
                    before[v] = after[v];
                    after[v] = broadcast(__builtin_inff());
                }
            }
        } else {
            for (int v = 0; v < used; ++v) {
                const float* x = prepared.x + v * lanes;
                weight[v] = broadcast(1.0f);
                if (task == Task::median)
                    median[v] = find_median_piece(x, n);
                else
                    order_switches(task, x, n, block, before[v], after[v], before_label[v], after_label[v]);
            }
        }
        before_last_input<D>(prepared, prepared.x, range_of(task));
        for (int v = 0; v < used; v += 2) {
            const std::int64_t stratum = begin + v / 2 * lanes;
            const int here = last - stratum < lanes ? static_cast<int>(last - stratum) : lanes;
            const vmask mine = greater(broadcast(here), lane_number);
            const vint count_me = select(mine, broadcast(1), vint{});
            vfloat value[2];
            for (int i = 0; i < 2; ++i) {
                const float *c = prepared.c + (v + i) * lanes, *start = prepared.start + (v + i) * lanes;
                vint walked_here{};
                if (task == Task::median) {
                    value[i] = prepared.squared_walk(prepared.last, c, start, median[v + i], count_me, walked_here,
                                                     prepared.work);
                } else if (left.walk(here)) {
                    value[i] = prepared.walk(prepared.last, c, start, before[v + i], after[v + i], before_label[v + i],
                                             after_label[v + i], count_me, walked_here, prepared.work);
                } else {
                    vuint word[4];
                    philox(static_cast<std::uint64_t>(stratum), static_cast<std::uint32_t>((inputs + 1) / 2 + 1),
                           conditional_domain, key, word[0], word[1], word[2], word[3]);
                    value[i] = right_share<D>(prepared.last, c, to_uniform(word[i] >> 16), before[v + i], after[v + i],
                                              before_label[v + i], after_label[v + i], prepared.h, prepared.next);
                    walked_here = count_me * static_cast<std::int32_t>(left.values);
                }
                value[i] *= weight[v + i];
                const std::int64_t taken = sum_of_lanes(walked_here);
                left.spend(here, taken);
                walked += taken;
            }
            const vfloat difference = value[0] - value[1];
            add_up(select(mine, value[0] + value[1], vfloat{}), total);
            add_up(select(mine, difference * difference, vfloat{}), squares);
        }
    }
    return {sum_of_lanes(total), sum_of_lanes(squares), walked};
}

template <int D>
void conditional_values(const Network& network, Task task, const float* x, std::int64_t count, float* scratch,
                        float* expectations) {
    const int n = network.seq_len;
    Prepared prepared;
    prepare<D>(network, scratch, prepared);
    vint walked{};
    for (std::int64_t begin = 0; begin < count; begin += block) {
        for (int i = 0; i < block; ++i)
            for (int t = 0; t < n - 1; ++t)
                prepared.x[t * block + i] = begin + i < count ? x[(begin + i) * (n - 1) + t] : 0.0f;
        before_last_input<D>(prepared, prepared.x, range_of(task));
        float values[block];
        for (int v = 0; v < width; ++v) {
            if (task == Task::median) {
                store(
                    values + v * lanes,
                    prepared.squared_walk(prepared.last, prepared.c + v * lanes, prepared.start + v * lanes,
                                          find_median_piece(prepared.x + v * lanes, n), vint{}, walked, prepared.work));
                continue;
            }
            vfloat before, after;
            vint before_label, after_label;
            order_switches(task, prepared.x + v * lanes, n, block, before, after, before_label, after_label);
            store(values + v * lanes,
                  prepared.walk(prepared.last, prepared.c + v * lanes, prepared.start + v * lanes, before, after,
                                before_label, after_label, vint{}, walked, prepared.work));
        }
        for (int i = 0; i < block && begin + i < count; ++i) expectations[begin + i] = values[i];
    }
}

}  // namespace

#define OUTSAMPLE_BY_SHAPE(function, arguments)                   \
    if (network.hidden_size == 16) return function<16> arguments; \
    return function<0> arguments;

std::int64_t point_sums_kernel(const Network& network, const PointTable& table, std::int64_t first,
                               std::int64_t intervals, float* scratch, double* sums){
    OUTSAMPLE_BY_SHAPE(point_sums, (network, table, first, intervals, scratch, sums))}

RuleSum conditional_sum_kernel(const Network& network, Task task, std::uint64_t key, std::int64_t strata,
                               std::int64_t first, std::int64_t last, std::int64_t intervals, float* scratch) {
    OUTSAMPLE_BY_SHAPE(conditional_sum, (network, task, key, strata, first, last, intervals, scratch))
}

void conditional_expectations_kernel(const Network& network, Task task, const float* x, std::int64_t count,
                                     float* scratch, float* expectations) {
    OUTSAMPLE_BY_SHAPE(conditional_values, (network, task, x, count, scratch, expectations))
}

}  // namespace outsample::OUTSAMPLE_ISA
