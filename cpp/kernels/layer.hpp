// Matrix times a block of samples, the inner loop of every forward pass.
//
// A block is `width` vectors of samples side by side: an array over time, hidden units or outputs holds `block` floats
// (one per sample) for each of them.
#pragma once

#include "simd.hpp"

namespace outsample::OUTSAMPLE_ISA {

// Rows computed together and vectors per block: as many accumulators as the registers hold beside the operands. Blocks
// have an even number of vectors, because the sampler makes its inputs in pairs.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int row_block = 4, width = 4;
#else
constexpr int row_block = 4, width = 2;
#endif
constexpr int block = width * lanes;  // samples

// out[i] = act(W[i] h + w_x[i] x + bias[i]) for `Rows` rows of W, which has `inner` columns.
template <int Rows, bool Relu>
OUTSAMPLE_INLINE void layer_rows(int inner, const float* W, const float* h, const float* w_x, const float* x,
                                 const float* bias, float* out) {
    vfloat sum[Rows][width];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
        for (int v = 0; v < width; ++v) {
            sum[r][v] = bias ? broadcast(bias[r]) : vfloat{};
            if (w_x) sum[r][v] += broadcast(w_x[r]) * load<vfloat>(x + v * lanes);
        }
    }
    for (int j = 0; j < inner; ++j) {
        vfloat in[width];
#pragma GCC unroll 8
        for (int v = 0; v < width; ++v) in[v] = load<vfloat>(h + j * block + v * lanes);
#pragma GCC unroll 8
        for (int r = 0; r < Rows; ++r) {
            const vfloat weight = broadcast(W[r * inner + j]);
#pragma GCC unroll 8
            for (int v = 0; v < width; ++v) sum[r][v] += weight * in[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < width; ++v) store(out + r * block + v * lanes, Relu ? relu(sum[r][v]) : sum[r][v]);
}

// All rows. D: columns of W if known at compile time, else 0 and `columns` counts.
template <int D, bool Relu>
OUTSAMPLE_INLINE void layer(int rows, int columns, const float* W, const float* h, const float* w_x, const float* x,
                            const float* bias, float* out) {
    const int inner = D ? D : columns;
    int i = 0;
    for (; i + row_block <= rows; i += row_block)
        layer_rows<row_block, Relu>(inner, W + i * inner, h, w_x ? w_x + i : nullptr, x, bias ? bias + i : nullptr,
                                    out + i * block);
    W += i * inner;
    if (w_x) w_x += i;
    if (bias) bias += i;
    out += i * block;
    switch (rows - i) {
        case 1:
            return layer_rows<1, Relu>(inner, W, h, w_x, x, bias, out);
        case 2:
            return layer_rows<2, Relu>(inner, W, h, w_x, x, bias, out);
        case 3:
            return layer_rows<3, Relu>(inner, W, h, w_x, x, bias, out);
    }
}

}  // namespace outsample::OUTSAMPLE_ISA
