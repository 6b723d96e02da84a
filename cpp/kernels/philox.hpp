// Philox 4x32-10, the only random source of the core: a function of a 128-bit counter and a 64-bit key.
//
// J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC '11.
#pragma once

#include "simd.hpp"

namespace outsample::OUTSAMPLE_ISA {

// 64-bit products of the low halves of 64-bit lanes; what stands in the high halves does not matter.
OUTSAMPLE_INLINE vulong multiply_low_halves(vulong a, vulong b) {
#if defined(__AVX512F__)
    return (vulong)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (vulong)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
    return (vulong)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

OUTSAMPLE_INLINE vulong broadcast(std::uint64_t value) { return value - vulong{}; }

// Ten rounds on lanes / 2 counters. Counter words and results stand in the low halves of the 64-bit lanes; the high
// halves hold anything, which saves all masking.
OUTSAMPLE_INLINE void philox_rounds(vulong& c0, vulong& c1, vulong& c2, vulong& c3, std::uint64_t key) {
    std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    const vulong m0 = broadcast(std::uint64_t{0xD2511F53}), m1 = broadcast(std::uint64_t{0xCD9E8D57});
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
        const vulong p0 = multiply_low_halves(m0, c0), p1 = multiply_low_halves(m1, c2);
        c0 = (p1 >> 32) ^ c1 ^ broadcast(std::uint64_t{k0});
        c1 = p1;
        c2 = (p0 >> 32) ^ c3 ^ broadcast(std::uint64_t{k1});
        c3 = p0;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
}

// Low halves of `even` into the even 32-bit lanes, those of `odd` into the odd ones.
OUTSAMPLE_INLINE vuint interleave_low_halves(vulong even, vulong odd) {
#if defined(__AVX512F__)
    return (vuint)_mm512_mask_blend_epi32(0xAAAA, (__m512i)even, _mm512_slli_epi64((__m512i)odd, 32));
#elif defined(__AVX2__)
    return (vuint)_mm256_blend_epi32((__m256i)even, _mm256_slli_epi64((__m256i)odd, 32), 0xAA);
#else
    return (vuint)((even & 0xffffffffu) | (odd << 32));
#endif
}

// Four words for each of `lanes` counters (lane l: low 64 bits first + l, then words c2 and c3).
OUTSAMPLE_INLINE void philox(std::uint64_t first, std::uint32_t c2, std::uint32_t c3, std::uint64_t key, vuint& w0,
                             vuint& w1, vuint& w2, vuint& w3) {
    vulong even;
#pragma GCC unroll 8
    for (int i = 0; i < lanes / 2; ++i) even[i] = 2 * static_cast<std::uint64_t>(i);
    even += broadcast(first);
    vulong a0 = even, a1 = even >> 32, a2 = broadcast(std::uint64_t{c2}), a3 = broadcast(std::uint64_t{c3});
    const vulong odd = even + 1u;
    vulong b0 = odd, b1 = odd >> 32, b2 = a2, b3 = a3;
    philox_rounds(a0, a1, a2, a3, key);
    philox_rounds(b0, b1, b2, b3, key);
    w0 = interleave_low_halves(a0, b0);
    w1 = interleave_low_halves(a1, b1);
    w2 = interleave_low_halves(a2, b2);
    w3 = interleave_low_halves(a3, b3);
}

}  // namespace outsample::OUTSAMPLE_ISA
