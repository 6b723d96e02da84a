// Matrix times a block of samples, the inner loop of every forward pass.
//
// A block is `width` vectors of samples side by side; an array over hidden units holds width x lanes floats per unit.
#pragma once

#include "vmath.hpp"

namespace outsample::OUTSAMPLE_ISA {

// Rows computed together and vectors per block: as many accumulators as the registers hold beside the operands.
#if defined(__AVX512F__)
constexpr int row_block = 4, width = 4;
#elif defined(__aarch64__)
constexpr int row_block = 4, width = 4;
#else
constexpr int row_block = 4, width = 2;
#endif
constexpr int block = width * lanes;  // samples

// out[i] = act(W[i] h + w_x[i] x + bias[i]) for `Rows` rows. D: inner size if known at compile time, else 0.
template <int Rows, int D, bool Relu>
OUTSAMPLE_INLINE void layer_rows(int inner, const float* W, std::ptrdiff_t row_stride, const float* h, const float* w_x,
                                 const float* x, const float* bias, float* out) {
    vfloat sum[Rows][width];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < width; ++v) {
            sum[r][v] = bias ? broadcast(bias[r]) : vfloat{};
            if (w_x) sum[r][v] += broadcast(w_x[r]) * load<vfloat>(x + v * lanes);
        }
    }
    const int count = D ? D : inner;
    for (int j = 0; j < count; ++j) {
        vfloat in[width];
#pragma GCC unroll 8
        for (int v = 0; v < width; ++v) in[v] = load<vfloat>(h + (j * width + v) * lanes);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
            const vfloat weight = broadcast(W[r * row_stride + j]);
#pragma GCC unroll 8
            for (int v = 0; v < width; ++v) sum[r][v] += weight * in[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < width; ++v) store(out + (r * width + v) * lanes, Relu ? relu(sum[r][v]) : sum[r][v]);
}

template <int D, bool Relu>
OUTSAMPLE_INLINE void layer(int rows, int inner, const float* W, const float* h, const float* w_x, const float* x,
                            const float* bias, float* out) {
    const std::ptrdiff_t stride = D ? D : inner;
    int i = 0;
    for (; i + row_block <= rows; i += row_block)
        layer_rows<row_block, D, Relu>(inner, W + i * stride, stride, h, w_x ? w_x + i : nullptr, x,
                                       bias ? bias + i : nullptr, out + i * block);
    for (; i < rows; ++i)
        layer_rows<1, D, Relu>(inner, W + i * stride, stride, h, w_x ? w_x + i : nullptr, x, bias ? bias + i : nullptr,
                               out + i * block);
}

}  // namespace outsample::OUTSAMPLE_ISA
