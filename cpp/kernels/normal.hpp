// Standard normals from random words: Box-Muller, two normals from two 32-bit words.
#pragma once

#include "philox.hpp"
#include "vmath.hpp"

namespace outsample::OUTSAMPLE_ISA {

// radius = sqrt(-2 ln u) with u = (k + 1/2) / 2^31, k the high 31 bits of `radius_word`: up to 6.66, a tail of 3e-11.
// The low 31 bits of `angle_word` give the angle in [-pi/2, pi/2), its top bit the sign of the cosine.
OUTSAMPLE_INLINE void box_muller(vuint radius_word, vuint angle_word, vfloat& a, vfloat& b) {
    vint exponent;
    vfloat f;
    split(to_float((vint)(radius_word >> 1)) + 0.5f, -31, exponent, f);
    // -2 ln(1 + f) / f; 2e-7.
    vfloat p = 0.20213781f * f - 0.32445157f;
    p = p * f + 0.3450166f;
    p = p * f - 0.39800331f;
    p = p * f + 0.49939817f;
    p = p * f - 0.6667012f;
    p = p * f + 1.00000727f;
    p = p * f - 1.99999988f;
    const vfloat radius = vsqrt(to_float(exponent) * -1.38629436f + p * f);
    vfloat sine, cosine;
    half_turn(to_float((vint)(angle_word << 1)) * 4.65661287e-10f, sine, cosine);
    a = radius * (vfloat)((vuint)cosine ^ (angle_word & 0x80000000u));
    b = radius * sine;
}

// Inputs of 2 x lanes samples: those with numbers 2 (first + l) in even[t], 2 (first + l) + 1 in odd[t], t = 0 ... n -
// 1 (pointers to vectors `stride` floats apart).
//
// This is the definition of the stream that every sampler shares: step t of the pair (2 i, 2 i + 1) is the Box-Muller
// pair made of words 2 (t mod 2) and 2 (t mod 2) + 1 of the Philox block with the counter
// (i mod 2^32, i / 2^32, t / 2, domain).
OUTSAMPLE_INLINE void normal_pairs(std::uint64_t key, std::uint32_t domain, std::uint64_t first, int n, float* even,
                                   float* odd, std::ptrdiff_t stride) {
    for (int t = 0; t < n; t += 2) {
        vuint w0, w1, w2, w3;
        philox(first, static_cast<std::uint32_t>(t / 2), domain, key, w0, w1, w2, w3);
        vfloat a, b;
        box_muller(w0, w1, a, b);
        store(even + t * stride, a);
        store(odd + t * stride, b);
        if (t + 1 < n) {
            box_muller(w2, w3, a, b);
            store(even + (t + 1) * stride, a);
            store(odd + (t + 1) * stride, b);
        }
    }
}

}  // namespace outsample::OUTSAMPLE_ISA
