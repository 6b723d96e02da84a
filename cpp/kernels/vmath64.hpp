// Elementary functions of double vectors, and the functions of the normal distribution for floats and doubles.
//
// Polynomials are Chebyshev interpolants, made in 50 digits and written in powers of the reduced argument, which stays
// in [-1, 1]. Errors quoted are relative to the result, in exact arithmetic.
#pragma once

#include "vmath.hpp"

namespace outsample::OUTSAMPLE_ISA {

OUTSAMPLE_INLINE vdouble max(vdouble a, vdouble b) { return a > b ? a : b; }
OUTSAMPLE_INLINE vdouble min(vdouble a, vdouble b) { return a < b ? a : b; }

OUTSAMPLE_INLINE vdouble vsqrt(vdouble a) {
#if defined(__AVX512F__)
    return (vdouble)_mm512_sqrt_pd((__m512d)a);
#elif defined(__AVX2__)
    return (vdouble)_mm256_sqrt_pd((__m256d)a);
#elif defined(__x86_64__)
    return (vdouble)_mm_sqrt_pd((__m128d)a);
#elif defined(__aarch64__)
    return (vdouble)vsqrtq_f64((float64x2_t)a);
#else
    for (int lane = 0; lane < double_lanes; ++lane) a[lane] = __builtin_sqrt(a[lane]);
    return a;
#endif
}

// 1 / a and 1 / sqrt(a) of normal numbers. For floats an estimate and one step of Newton's method where there is an
// instruction for it (1e-7), for doubles exact to the last bit or two.
OUTSAMPLE_INLINE vfloat reciprocal(vfloat a) {
#if defined(__AVX512F__)
    const vfloat y = (vfloat)_mm512_rcp14_ps((__m512)a);
    return y * (2.0f - a * y);
#else
    return 1.0f / a;
#endif
}
OUTSAMPLE_INLINE vdouble reciprocal(vdouble a) { return 1.0 / a; }
OUTSAMPLE_INLINE vfloat reciprocal_sqrt(vfloat a) {
#if defined(__AVX512F__)
    const vfloat y = (vfloat)_mm512_rsqrt14_ps((__m512)a);
    return y * (1.5f - 0.5f * a * y * y);
#else
    return 1.0f / vsqrt(a);
#endif
}
OUTSAMPLE_INLINE vdouble reciprocal_sqrt(vdouble a) { return 1.0 / vsqrt(a); }

// Exponential, clamped to the range of normal numbers: below -708 it gives about 3e-308, above 709 about 8e307; 1e-17
// and the rounding of the last bit.
OUTSAMPLE_INLINE vdouble vexp(vdouble a) {
    a = min(max(a, broadcast(-708.0)), broadcast(709.0));
    // Adding 1.5 x 2^52 rounds to the nearest integer, which then stands in the low bits.
    const vdouble shifted = a * 1.4426950408889634 + 6755399441055744.0;
    const vdouble k = shifted - 6755399441055744.0;
    // ln 2 in two parts, the first exact times any exponent.
    const vdouble r = (a - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10;
    vdouble p = 2.092503133830314809e-9 * r + 2.511487021949747532e-8;
    p = p * r + 2.755723946763408148e-7;
    p = p * r + 2.755722495611072294e-6;
    p = p * r + 2.480158736691575705e-5;
    p = p * r + 1.98412699092198422e-4;
    p = p * r + 1.38888888888614221e-3;
    p = p * r + 8.333333333309525639e-3;
    p = p * r + 4.166666666666672166e-2;
    p = p * r + 0.1666666666666670241;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return (vdouble)((vlong)p + (((vlong)shifted) << 52));
}

// Mills' ratio (1 - Phi(x)) / phi(x) for x >= 0, as u P(8 u - 1) with u = 1 / (x + 4); 2e-8 and 2e-17.
OUTSAMPLE_INLINE vfloat mills_ratio(vfloat x) {
    const vfloat u = reciprocal(x + 4.0f);
    const vfloat t = 8.0f * u - 1.0f;
    vfloat p = -5.309786728e-5f * t - 4.339179843e-6f;
    p = p * t + 5.403633229e-4f;
    p = p * t + 3.350193591e-4f;
    p = p * t - 4.065851591e-3f;
    p = p * t - 8.722952689e-3f;
    p = p * t + 1.889425496e-2f;
    p = p * t + 0.1513919463f;
    p = p * t + 0.4675417197f;
    p = p * t + 0.9704095376f;
    p = p * t + 1.523770884f;
    p = p * t + 1.893219064f;
    return p * u;
}
OUTSAMPLE_INLINE vdouble mills_ratio(vdouble x) {
    const vdouble u = 1.0 / (x + 4.0);
    const vdouble t = 8.0 * u - 1.0;
    vdouble p = 8.530838860260529816e-10 * t + 3.007397967239876504e-10;
    p = p * t - 9.351340444824340608e-9;
    p = p * t + 1.472299892374630689e-9;
    p = p * t + 5.371103765158957382e-8;
    p = p * t - 4.473060051450322957e-8;
    p = p * t - 2.177419502203932695e-7;
    p = p * t + 4.004939292511710074e-7;
    p = p * t + 6.829633831673466672e-7;
    p = p * t - 2.568755311229722296e-6;
    p = p * t - 1.578766565467737375e-6;
    p = p * t + 1.484327767908029364e-5;
    p = p * t + 1.796397121404077783e-6;
    p = p * t - 8.809573121072338081e-5;
    p = p * t - 4.783264259417208103e-6;
    p = p * t + 5.792693046478719421e-4;
    p = p * t + 3.34244616232844091e-4;
    p = p * t - 4.087855681200071369e-3;
    p = p * t - 8.722295274260124248e-3;
    p = p * t + 1.890045086171125796e-2;
    p = p * t + 0.1513917623124434735;
    p = p * t + 0.4675409629983324689;
    p = p * t + 0.9704095548675883919;
    p = p * t + 1.523770910819983438;
    p = p * t + 1.893219063308485362;
    return p * u;
}

// phi(a), and Mills' ratio of |a|. Phi(a) is phi R for a <= 0 and 1 - phi R for a > 0.
OUTSAMPLE_INLINE void normal(vfloat a, vfloat& density, vfloat& mills) {
    density = 0.398942280f * vexp(-0.5f * a * a);
    mills = mills_ratio(max(a, -a));
}
OUTSAMPLE_INLINE void normal(vdouble a, vdouble& density, vdouble& mills) {
    density = 0.39894228040143267794 * vexp(-0.5 * a * a);
    mills = mills_ratio(max(a, -a));
}

}  // namespace outsample::OUTSAMPLE_ISA
