// Exact mean of the squared error against the median over the last input, one sample per lane.
//
// Given the earlier inputs, the output less the median is a piecewise linear function f of the last input y: the output
// has a breakpoint for each unit (last_input.hpp), and the median is centre + share * y between two values `before` and
// `after` and constant outside. Let f be v at a breakpoint t, where its slope grows from s to s + j, and l the line
// that f is next to y = 0. Then, over a standard normal y,
//
//     E f^2 = E l^2 + sum over breakpoints of j (2 v G(|t|) + sign(t) (2 s + j) H(|t|)),
//     G(t) = E (y - t)_+,  H(t) = E (y - t)_+^2,  E l^2 = l(0)^2 + l'^2:
//
// for t > 0, f^2 from t on is the square of the line before plus 2 j v (y - t) + j (2 s + j) (y - t)^2, and for t < 0
// the same to the left. Far breakpoints, past which l is far from f, hardly count, so that little cancels.
#pragma once

#include "last_input.hpp"

namespace outsample::OUTSAMPLE_ISA {

// Breakpoints beyond |y| = squared_range are moved there.
constexpr float squared_range = 6.0f;

// The eighth roots of G and H on [0, squared_range] are nearly Gaussian, so nearly polynomials: absolute errors of the
// eighth powers 2e-8 and 1e-8, and 2e-7 from rounding.
OUTSAMPLE_INLINE vfloat first_upper_moment(vfloat t) {
    vfloat p = 3.16094656e-6f * t - 3.43040629e-5f;
    p = p * t + 6.63160426e-6f;
    p = p * t + 9.35444783e-4f;
    p = p * t + 1.10678491e-3f;
    p = p * t - 2.08604354e-2f;
    p = p * t - 1.39664099e-1f;
    p = p * t + 8.91484439e-1f;
    p *= p;
    p *= p;
    return p * p;
}

OUTSAMPLE_INLINE vfloat second_upper_moment(vfloat t) {
    vfloat p = 2.41328644e-6f * t - 2.38627526e-5f;
    p = p * t - 1.86816633e-5f;
    p = p * t + 6.46014232e-4f;
    p = p * t + 2.19777413e-3f;
    p = p * t - 1.30759487e-2f;
    p = p * t - 1.82915971e-1f;
    p = p * t + 9.17004049e-1f;
    p *= p;
    p *= p;
    return p * p;
}

// Where the last input moves the median, given the others: the median is centre + share * (y cut to before ... after).
struct MedianPiece {
    vfloat before, after, centre;
    float share;
};

// E((output - median)^2) over a standard normal last input.
//
// c: the last step's pre-activations without the last input; start: the output at y = -squared_range; both `block`
// floats apart. Breakpoints beyond squared_range are moved there, so that f is right within, and lines stand for it
// outside. walked grows, lane by lane, by count_me (0 or 1) for each breakpoint within squared_range. work: room for
// walk_size(d) + 3 vectors.
//
// Full: whether d is Width.
template <int Width, bool Full>
vfloat expected_square(const LastStep& step, const float* c, const float* start, const MedianPiece& median,
                       vint count_me, vint& walked, float* work) {
    const int d = Full ? Width : step.d, size = Width ? Width : d;
    const vfloat bottom = broadcast(-squared_range), top = broadcast(squared_range), share = broadcast(median.share);
    const int bits_of_number = number_bits<Width>(step);
    const vint number_mask = broadcast(bits_of_number), place_mask = ~number_mask;
    const vint before_number = broadcast(size), after_number = broadcast(size + 1);
    float* key = work;
    const auto key_at = [&](int position, vfloat at, int number) __attribute__((always_inline)) {
        store(key + position * lanes, numbered(bits_of_number, min(max(at, bottom), top), number));
    };
    for (int k = 0; k < d; ++k) key_at(k, load<vfloat>(c + k * block) * broadcast(step.root[k]), k);
    key_at(d, median.before, size);
    key_at(d + 1, median.after, size + 1);
    sort_keys<Width>(step, key, d + 2, top);

    // f is level + slope * y on the piece that the walk is on.
    vfloat slope = broadcast(step.slope[0]);
    const vfloat cut = min(max(median.before, bottom), median.after);
    vfloat level = load<vfloat>(start) - (median.centre + share * cut) - slope * bottom;
    vfloat middle_level = level, middle_slope = slope, total{};
    vint walked_here{};
    for (int i = 0; i < d + 2; ++i) {
        const vint bits = load<vint>(key + i * lanes), number = bits & number_mask;
        const vfloat place = (vfloat)(bits & place_mask);
        const vmask in_range = both(less(bottom, place), less(place, top));
        vfloat jump = lookup<Width>(step.jump, number);
        jump = select(equal(number, before_number), -share, jump);
        jump = select(equal(number, after_number), share, jump);
        const vfloat value = level + slope * place, slopes = slope + slope + jump;
        slope += jump;
        level -= jump * place;
        const vmask left = less(place, vfloat{});
        middle_level = select(left, level, middle_level);
        middle_slope = select(left, slope, middle_slope);
        if (!any(in_range)) continue;
        walked_here = select(in_range, walked_here + count_me, walked_here);
        const vfloat distance = max(place, -place);
        const vfloat second = second_upper_moment(distance);
        total += jump * (2.0f * value * first_upper_moment(distance) + slopes * select(left, -second, second));
    }
    walked += walked_here;
    return total + (middle_level * middle_level + middle_slope * middle_slope);
}

}  // namespace outsample::OUTSAMPLE_ISA
