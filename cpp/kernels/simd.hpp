// Vector types of the instruction set this file is compiled for: `lanes` floats (samples) side by side.
//
// Included by kernel files only. Everything is in the namespace of the instruction set, and kernels must not
// instantiate inline functions or templates of the standard library: the linker would merge them across instruction
// sets and might keep a copy that this machine cannot run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace outsample::OUTSAMPLE_ISA {

#if defined(__AVX512F__)
constexpr int lanes = 16;
#elif defined(__AVX2__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif

typedef float vfloat __attribute__((vector_size(lanes * 4)));
typedef std::int32_t vint __attribute__((vector_size(lanes * 4)));
typedef std::uint32_t vuint __attribute__((vector_size(lanes * 4)));
typedef double vdouble __attribute__((vector_size(lanes * 4)));      // lanes / 2 doubles
typedef std::int64_t vlong __attribute__((vector_size(lanes * 4)));  // mask type of vdouble
typedef std::uint64_t vulong __attribute__((vector_size(lanes * 4)));
constexpr int double_lanes = lanes / 2;

// always_inline, so that no out-of-line copy of a vector function ever exists.
#define OUTSAMPLE_INLINE static inline __attribute__((always_inline))

OUTSAMPLE_INLINE vfloat broadcast(float value) { return value - vfloat{}; }
OUTSAMPLE_INLINE vdouble broadcast(double value) { return value - vdouble{}; }

template <class V, class T>
OUTSAMPLE_INLINE V load(const T* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
template <class V, class T>
OUTSAMPLE_INLINE void store(T* p, V v) {
    std::memcpy(p, &v, sizeof v);
}

// The second argument where the comparison fails, so also where one is not a number. Spelt out where compilers make
// two instructions of the conditional.
#if defined(__AVX512F__)
OUTSAMPLE_INLINE vfloat max(vfloat a, vfloat b) { return (vfloat)_mm512_max_ps((__m512)a, (__m512)b); }
OUTSAMPLE_INLINE vfloat min(vfloat a, vfloat b) { return (vfloat)_mm512_min_ps((__m512)a, (__m512)b); }
#else
OUTSAMPLE_INLINE vfloat max(vfloat a, vfloat b) { return a > b ? a : b; }
OUTSAMPLE_INLINE vfloat min(vfloat a, vfloat b) { return a < b ? a : b; }
#endif
OUTSAMPLE_INLINE vfloat relu(vfloat a) { return max(vfloat{}, a); }  // in this order it passes NaN on

// Whether any lane of a comparison's result is true.
template <class I>
OUTSAMPLE_INLINE bool any(I mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_epi8((__m256i)mask) != 0;
#elif defined(__x86_64__)
    return _mm_movemask_epi8((__m128i)mask) != 0;
#else
    bool result = false;
    for (int lane = 0; lane < static_cast<int>(sizeof(I) / sizeof(mask[0])); ++lane) result |= mask[lane] != 0;
    return result;
#endif
}

// The sums of neighbouring lanes: of a in the lower half of the result, of b in the upper.
OUTSAMPLE_INLINE vfloat add_neighbours(vfloat a, vfloat b) {
#if defined(__AVX512F__)
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif defined(__AVX2__)
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
#endif
}

// out[i] = sum of the lanes of in[i]. `in` has room for, and `out` gets, a multiple of `lanes` values.
OUTSAMPLE_INLINE void add_lanes(const float* in, int count, float* out) {
    for (int first = 0; first < count; first += lanes) {
        vfloat part[lanes];
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) part[i] = load<vfloat>(in + (first + i) * lanes);
#pragma GCC unroll 4
        for (int size = lanes / 2; size > 0; size /= 2)
#pragma GCC unroll 8
            for (int i = 0; i < size; ++i) part[i] = add_neighbours(part[2 * i], part[2 * i + 1]);
        store(out + first, part[0]);
    }
}

}  // namespace outsample::OUTSAMPLE_ISA
