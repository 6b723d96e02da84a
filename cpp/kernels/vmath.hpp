// Elementary functions of float vectors.
//
// Polynomials are weighted minimax fits on the reduced interval. Errors quoted are relative to the result, in exact
// arithmetic; rounding adds about one unit in the last place (6e-8).
#pragma once

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "simd.hpp"

namespace outsample::OUTSAMPLE_ISA {

OUTSAMPLE_INLINE vint broadcast(std::int32_t value) { return value - vint{}; }
OUTSAMPLE_INLINE vfloat to_float(vint a) { return __builtin_convertvector(a, vfloat); }

OUTSAMPLE_INLINE vfloat vsqrt(vfloat a) {
#if defined(__AVX512F__)
    return (vfloat)_mm512_sqrt_ps((__m512)a);
#elif defined(__AVX2__)
    return (vfloat)_mm256_sqrt_ps((__m256)a);
#elif defined(__x86_64__)
    return (vfloat)_mm_sqrt_ps((__m128)a);
#elif defined(__aarch64__)
    return (vfloat)vsqrtq_f32((float32x4_t)a);
#else
    for (int lane = 0; lane < lanes; ++lane) a[lane] = __builtin_sqrtf(a[lane]);
    return a;
#endif
}

// Splits a positive normal a into 2^exponent (1 + fraction) with 1 + fraction in [sqrt(1/2), sqrt(2)). `bias` is added
// to the exponent.
OUTSAMPLE_INLINE void split(vfloat a, int bias, vint& exponent, vfloat& fraction) {
    const vint bits = (vint)a;
    exponent = (bits - 0x3f3504f3) >> 23;
    fraction = (vfloat)(bits - (exponent << 23)) - 1.0f;
    exponent += bias;
}

// Natural logarithm of positive normal numbers; 3e-8.
OUTSAMPLE_INLINE vfloat vlog(vfloat a) {
    vint exponent;
    vfloat f;
    split(a, 0, exponent, f);
    vfloat p = 0.08722355f * f - 0.14366843f;
    p = p * f + 0.14952266f;
    p = p * f - 0.16562393f;
    p = p * f + 0.19956833f;
    p = p * f - 0.25002074f;
    p = p * f + 0.33334187f;
    p = p * f - 0.4999999f;
    const vfloat e = to_float(exponent);
    // ln 2 in two parts, the first exact times any exponent.
    return e * 0.693359375f + (f + (f * f * p - e * 2.12194440e-4f));
}

// Exponential, clamped to the range of normal numbers: below -87 it gives about 1.6e-38, above 88 about 1.7e38; 8e-8.
OUTSAMPLE_INLINE vfloat vexp(vfloat a) {
    a = min(max(a, broadcast(-87.0f)), broadcast(88.0f));
    // Adding 1.5 x 2^23 rounds to the nearest integer, which then stands in the low bits.
    const vfloat shifted = a * 1.44269504f + 12582912.0f;
    const vfloat k = shifted - 12582912.0f;
    const vfloat r = (a - k * 0.693359375f) + k * 2.12194440e-4f;
    vfloat p = 0.0013836846f * r + 0.0083748158f;
    p = p * r + 0.041668225f;
    p = p * r + 0.1666642f;
    p = p * r + 0.4999999f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return (vfloat)((vint)p + (((vint)shifted) << 23));
}

// Sine and cosine of x pi / 2 for x in [-1, 1]; absolute errors 3e-9 and 5e-8.
OUTSAMPLE_INLINE void half_turn(vfloat x, vfloat& sine, vfloat& cosine) {
    const vfloat s = x * x;
    vfloat p = 1.5082056e-4f * s - 4.6722279e-3f;
    p = p * s + 7.9688482e-2f;
    p = p * s - 6.4596337e-1f;
    p = p * s + 1.57079625f;
    sine = p * x;
    p = 8.5819064e-4f * s - 2.0810629e-2f;
    p = p * s + 2.5365075e-1f;
    p = p * s - 1.2336982f;
    cosine = p * s + 0.99999994f;
}

}  // namespace outsample::OUTSAMPLE_ISA
