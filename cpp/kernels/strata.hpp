// Stratified random inputs, one sample per lane.
//
// The right position changes, as the last input grows, at two neighbouring order statistics of the m earlier inputs;
// the median moves between two such ones, or, of an even number of inputs, between the outer two of three. Independent
// inputs are the same as: who these two are, a uniform pair of positions; the others; and the two values, ordered,
// drawn between their neighbours in rank. The pair and the two values are stratified: they are cut into cells, and
// stratum h of H is the h-th of H equal parts of all the cells in a row. The row is in the order of eight boxes of the
// two values' ranges, position of the lower one, position of the upper one, then finer and finer halves, so that few
// strata share the whole range as well as many do. Boxes have equally many strata, and a sample the weight that makes
// up for the box's probability.
#pragma once

#include "label.hpp"
#include "last_input.hpp"
#include "normal.hpp"

namespace outsample::OUTSAMPLE_ISA {

// Parts of the unit square of the two values' shares of their ranges: entries by box, padded for lookup.
struct Boxes {
    alignas(64) float lower_from[16], lower_size[16], upper_from[16], upper_size[16];
    float weight[16];  // how many times its equal share of the square a box covers
};

constexpr Boxes equal_boxes = {{0.0f, 0.0f, 0.25f, 0.25f, 0.5f, 0.5f, 0.75f, 0.75f},
                               {0.25f, 0.25f, 0.25f, 0.25f, 0.25f, 0.25f, 0.25f, 0.25f},
                               {0.0f, 0.5f, 0.0f, 0.5f, 0.0f, 0.5f, 0.0f, 0.5f},
                               {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f},
                               {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f}};

// For 2nd_argmax: networks err where the second-largest input is close to the third (a lower share near 1) or to the
// largest (an upper share near 1). Nearly Neyman's allocation for trained networks (bench/stratification.py), with
// milder weights, since it loses where a network errs everywhere.
constexpr Boxes second_argmax_boxes = {{0.0f, 0.25f, 0.5f, 0.7f, 0.85f, 0.0f, 0.35f, 0.7f},
                                       {0.25f, 0.25f, 0.2f, 0.15f, 0.15f, 0.35f, 0.35f, 0.3f},
                                       {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.7f, 0.7f, 0.7f},
                                       {0.7f, 0.7f, 0.7f, 0.7f, 0.7f, 0.3f, 0.3f, 0.3f},
                                       {1.4f, 1.4f, 1.12f, 0.84f, 0.84f, 0.84f, 0.84f, 0.72f}};

struct Strata {
    const Boxes* boxes;
    double scale;  // cells per stratum
    vfloat lane;   // number of the lane, plus 2^-25
    int bits;      // finer halvings of a box in each of the two values
    float cells;   // 8 m (m - 1) 2^(2 bits)
    float pairs;   // m (m - 1), pairs of positions
    float others;  // m - 1
    float over_pairs, over_others;
    float fine;    // 2^(2 bits)
    float coarse;  // its inverse
    float width;   // of the finest part of a box
};

// m inputs, at least 2; up to 1,000 they are stratified exactly, and more are not of interest.
OUTSAMPLE_INLINE Strata make_strata(Task task, std::int64_t count, int inputs) {
    Strata strata;
    // Where a stratum reached into the next box, weights would vary within it.
    const bool whole_boxes = count % strata_boxes == 0;
    strata.boxes = task == Task::second_argmax && whole_boxes ? &second_argmax_boxes : &equal_boxes;
    strata.others = static_cast<float>(inputs - 1);
    strata.pairs = static_cast<float>(inputs) * strata.others;
    strata.bits = 5;
    while (strata.bits && strata_boxes * strata.pairs * static_cast<float>(1 << 2 * strata.bits) > 16777216.0f)
        --strata.bits;
    strata.fine = static_cast<float>(1 << 2 * strata.bits);
    strata.coarse = 1.0f / strata.fine;
    strata.cells = strata_boxes * strata.pairs * strata.fine;
    strata.over_pairs = 1.0f / strata.pairs;
    strata.over_others = 1.0f / strata.others;
    strata.width = 1.0f / static_cast<float>(1 << strata.bits);
    strata.scale = static_cast<double>(strata.cells) / static_cast<double>(count);
    for (int i = 0; i < lanes; ++i) strata.lane[i] = static_cast<float>(i) + 2.9802322e-8f;
    return strata;
}

// Every other bit of 10, from the lowest on, as a number.
OUTSAMPLE_INLINE vint every_other_bit(vint a) {
    a &= 0x155;
    a = (a | a >> 1) & 0x133;
    a = (a | a >> 2) & 0x10f;
    return (a | a >> 4) & 0x1f;
}

// Rounded down, for 0 <= a < 2^24.
OUTSAMPLE_INLINE vfloat whole_part(vfloat a) { return to_float(__builtin_convertvector(a, vint)); }

// 16 random bits to the middles of 2^16 parts of (0, 1).
OUTSAMPLE_INLINE vfloat to_uniform(vuint bits) { return (to_float((vint)bits) + 0.5f) * 1.52587891e-5f; }

// What a stratum says: positions of the upper and of the lower value, where in (0, 1) the two stand in their ranges,
// and the sample's weight, 1 on average.
struct Place {
    vint upper, lower;
    vfloat upper_share, lower_share, weight;
};

// A random place in stratum first + lane; the words are used up.
OUTSAMPLE_INLINE Place random_place(const Strata& strata, std::int64_t first, vuint word, vuint other) {
    // Whole numbers are kept as floats, which are exact here and multiply faster.
    const double begin = strata.scale * static_cast<double>(first);
    const double whole = static_cast<double>(static_cast<std::int64_t>(begin));
    const vfloat in_stratum = to_float((vint)(word >> 8)) * 5.9604645e-8f + strata.lane;  // 2^-24
    const vfloat at = in_stratum * static_cast<float>(strata.scale) + static_cast<float>(begin - whole);
    // Lanes beyond the last stratum may be anywhere.
    const vfloat cell = min(whole_part(at) + static_cast<float>(whole), broadcast(strata.cells - 1.0f));
    const vfloat coarse = whole_part(cell * strata.coarse), fine = cell - coarse * strata.fine;
    const vfloat box = whole_part((coarse + 0.5f) * strata.over_pairs), pair = coarse - box * strata.pairs;
    const vfloat lower = whole_part((pair + 0.5f) * strata.over_others);
    const vint fine_bits = __builtin_convertvector(fine, vint), number = __builtin_convertvector(box, vint);
    // Back and forth: strata that hold the end of one lower position and the beginning of the next are not torn apart.
    const vint lower_position = __builtin_convertvector(lower, vint);
    const vfloat forth = pair - lower * strata.others;
    const vfloat upper = select(has_bit(lower_position, 0), strata.others - 1.0f - forth, forth);
    const vfloat a = to_uniform(other >> 16), b = to_uniform(other & 0xffffu);
    const vfloat in_upper = (to_float(every_other_bit(fine_bits)) + a) * strata.width;
    const vfloat in_lower = (to_float(every_other_bit(fine_bits >> 1)) + b) * strata.width;
    const Boxes& by_box = *strata.boxes;
    return {
        __builtin_convertvector(upper < lower ? upper : upper + 1.0f, vint), lower_position,
        lookup<strata_boxes>(by_box.upper_from, number) + lookup<strata_boxes>(by_box.upper_size, number) * in_upper,
        lookup<strata_boxes>(by_box.lower_from, number) + lookup<strata_boxes>(by_box.lower_size, number) * in_lower,
        lookup<strata_boxes>(by_box.weight, number)};
}

// Positions and values of the order statistics of ranks `rank` and `rank` + 1 (0: the largest), and the values of those
// next to them, infinite where there are none.
struct Neighbours {
    vint upper, lower;
    vfloat above, below;
};

OUTSAMPLE_INLINE Neighbours find_neighbours(const float* x, int count, int rank) {
    const vfloat infinity = broadcast(__builtin_inff());
    Neighbours found{{}, {}, infinity, -infinity};
    if (rank == 0) {
        vfloat first = load<vfloat>(x), second = -infinity;
        for (int i = 1; i < count; ++i) {
            const vfloat value = load<vfloat>(x + i * block);
            const vmask above_first = less(first, value), above_second = less(second, value);
            found.lower = select(above_second, broadcast(i), found.lower);
            found.lower = select(above_first, found.upper, found.lower);
            found.upper = select(above_first, broadcast(i), found.upper);
            found.below = max(found.below, min(second, value));
            second = max(second, min(first, value));
            first = max(first, value);
        }
    } else {
        // Every input's rank, once for all four: the number of those above it, and of those before it that equal it.
        for (int i = 0; i < count; ++i) {
            const vfloat value = load<vfloat>(x + i * block);
            vint place = broadcast(-rank);  // its rank less that of the upper one of the two
            for (int j = 0; j < i; ++j) place -= load<vfloat>(x + j * block) >= value;
            for (int j = i + 1; j < count; ++j) place -= load<vfloat>(x + j * block) > value;
            found.upper = select(equal(place, broadcast(0)), broadcast(i), found.upper);
            found.lower = select(equal(place, broadcast(1)), broadcast(i), found.lower);
            found.above = select(equal(place, broadcast(-1)), value, found.above);
            found.below = select(equal(place, broadcast(2)), value, found.below);
        }
    }
    return found;
}

// Values of the order statistics of ranks `rank` and `rank` + 1 of `count` independent normals, given the others, where
// a place says.
OUTSAMPLE_INLINE void draw_values(const Place& place, const Neighbours& old, int rank, int count, vfloat& upper,
                                  vfloat& lower) {
    // Upper tails: the larger of two uniforms between those of the neighbours, and a uniform up to it.
    const vfloat least = rank ? normal_cdf(-old.above) : vfloat{};
    const vfloat range = (rank + 2 < count ? normal_cdf(-old.below) : broadcast(1.0f)) - least;
    const vfloat inner = range * vsqrt(place.lower_share);
    lower = min(max(-normal_quantile(least + inner), old.below), old.above);
    upper = min(max(-normal_quantile(least + inner * place.upper_share), lower), old.above);
}

// Gives these two the positions that a place says; the others of x, which stand `block` floats apart, keep their values
// and trade positions with them.
OUTSAMPLE_INLINE void trade_places(const Place& place, const Neighbours& old, vfloat upper, vfloat lower, float* x,
                                   int count) {
    vfloat at_upper{}, at_lower{};
    for (int i = 0; i < count; ++i) {
        const vfloat value = load<vfloat>(x + i * block);
        at_upper = select(equal(place.upper, broadcast(i)), value, at_upper);
        at_lower = select(equal(place.lower, broadcast(i)), value, at_lower);
    }
    // The one whose place the upper value takes goes to where it was; then the same for the lower value.
    const vint freed = select(equal(old.lower, place.upper), old.upper, old.lower);
    at_lower = select(equal(place.lower, old.upper), at_upper, at_lower);
    for (int i = 0; i < count; ++i) {
        const vint here = broadcast(i);
        vfloat value = load<vfloat>(x + i * block);
        value = select(equal(old.upper, here), at_upper, value);
        value = select(equal(freed, here), at_lower, value);
        value = select(equal(place.upper, here), upper, value);
        value = select(equal(place.lower, here), lower, value);
        store(x + i * block, value);
    }
}

}  // namespace outsample::OUTSAMPLE_ISA
