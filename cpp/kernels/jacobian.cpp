#include "outsample/jacobian.hpp"

#include "simd.hpp"

namespace outsample::OUTSAMPLE_ISA {

namespace {

constexpr int half = jacobian_chunk / 2;
// Networks and vectors of coefficients that are multiplied at once: as many sums as the registers hold.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int tile_networks = 4;
#else
constexpr int tile_networks = 2;
#endif
constexpr int tile_rows = 4;
static_assert(jacobian_networks % tile_networks == 0);

// Two bfloat16 of each word.
struct Pair {
    vfloat low, high;
};
OUTSAMPLE_INLINE Pair unpack(const std::uint32_t* words) {
    const vuint w = load<vuint>(words);
    return {(vfloat)(w << 16), (vfloat)(w & 0xffff0000u)};
}

// out[m][k] = inner product of network m and row k of a, of as many chunks.
template <int K>
void inner_products(const std::uint32_t* words, std::int64_t stride, int chunks, const float* a, float* out,
                    int out_stride) {
    vfloat sum[tile_networks][K];
#pragma GCC unroll 4
    for (int m = 0; m < tile_networks; ++m)
#pragma GCC unroll 4
        for (int k = 0; k < K; ++k) sum[m][k] = vfloat{};
    const std::int64_t length = std::int64_t(chunks) * jacobian_chunk;
    for (int c = 0; c < chunks; ++c)
#pragma GCC unroll 4
        for (int i = 0; i < half; i += lanes) {
            const float* at = a + c * jacobian_chunk + i;
            vfloat low[K], high[K];
#pragma GCC unroll 4
            for (int k = 0; k < K; ++k) {
                low[k] = load<vfloat>(at + k * length);
                high[k] = load<vfloat>(at + k * length + half);
            }
#pragma GCC unroll 4
            for (int m = 0; m < tile_networks; ++m) {
                const Pair p = unpack(words + m * stride + c * half + i);
#pragma GCC unroll 4
                for (int k = 0; k < K; ++k) sum[m][k] += p.low * low[k] + p.high * high[k];
            }
        }
    constexpr int sums = tile_networks * K, filled = (sums + lanes - 1) / lanes * lanes;
    float lane_sums[filled * lanes], sums_of_lanes[filled];
    for (int m = 0; m < tile_networks; ++m)
        for (int k = 0; k < K; ++k) store(lane_sums + (m * K + k) * lanes, sum[m][k]);
    add_lanes(lane_sums, sums, sums_of_lanes);
    for (int m = 0; m < tile_networks; ++m)
        for (int k = 0; k < K; ++k) out[m * out_stride + k] = sums_of_lanes[m * K + k];
}

// out[k] += sum over networks of r[m][k] times network m, C chunks.
template <int K, int C>
void outer_products(const std::uint32_t* words, std::int64_t stride, int networks, const float* r, int r_stride,
                    float* out, std::int64_t length) {
    for (int i = 0; i < half; i += lanes) {
        vfloat low[C][K], high[C][K];
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c)
#pragma GCC unroll 4
            for (int k = 0; k < K; ++k) {
                const float* at = out + k * length + c * jacobian_chunk + i;
                low[c][k] = load<vfloat>(at);
                high[c][k] = load<vfloat>(at + half);
            }
        for (int m = 0; m < networks; ++m) {
            Pair p[C];
#pragma GCC unroll 4
            for (int c = 0; c < C; ++c) p[c] = unpack(words + m * stride + c * half + i);
#pragma GCC unroll 4
            for (int k = 0; k < K; ++k) {
                const vfloat factor = broadcast(r[m * r_stride + k]);
#pragma GCC unroll 4
                for (int c = 0; c < C; ++c) {
                    low[c][k] += factor * p[c].low;
                    high[c][k] += factor * p[c].high;
                }
            }
        }
#pragma GCC unroll 4
        for (int c = 0; c < C; ++c)
#pragma GCC unroll 4
            for (int k = 0; k < K; ++k) {
                float* at = out + k * length + c * jacobian_chunk + i;
                store(at, low[c][k]);
                store(at + half, high[c][k]);
            }
    }
}

template <int K>
struct Rows {
    static constexpr int count = K;
};

// work(first, Rows<K>) for tiles of rows, as even as can be.
template <class Work>
OUTSAMPLE_INLINE void for_tiles(int rows, Work work) {
    static_assert(tile_rows == 4);
    const int tiles = (rows + tile_rows - 1) / tile_rows;
    for (int t = 0, k = 0, count; t < tiles; ++t, k += count) {
        count = (rows - k) / (tiles - t);
        switch (count) {
            case 1:
                work(k, Rows<1>{});
                break;
            case 2:
                work(k, Rows<2>{});
                break;
            case 3:
                work(k, Rows<3>{});
                break;
            default:
                work(k, Rows<4>{});
        }
    }
}

void all_inner_products(const std::uint32_t* words, std::int64_t stride, int networks, int chunks, const float* a,
                        int rows, float* out) {
    const std::int64_t length = std::int64_t(chunks) * jacobian_chunk;
    for (int m = 0; m < networks; m += tile_networks)
        for_tiles(rows, [&](int k, auto tile) {
            inner_products<tile.count>(words + m * stride, stride, chunks, a + k * length, out + m * rows + k, rows);
        });
}

void all_outer_products(const std::uint32_t* words, std::int64_t stride, int networks, int chunks, const float* r,
                        int rows, float* out) {
    const std::int64_t length = std::int64_t(chunks) * jacobian_chunk;
    for_tiles(rows, [&](int k, auto tile) {
        int c = 0;
        // Two chunks at once, so that there are enough independent sums of few rows.
        for (; c + 2 <= chunks; c += 2)
            outer_products<tile.count, 2>(words + c * half, stride, networks, r + k, rows,
                                          out + k * length + c * jacobian_chunk, length);
        if (c < chunks)
            outer_products<tile.count, 1>(words + c * half, stride, networks, r + k, rows,
                                          out + k * length + c * jacobian_chunk, length);
    });
}

}  // namespace

void jacobian_product(const JacobianView& view, int first, int networks, const JacobianVector* along, const float* v,
                      float* scratch, JacobianVector& result) {
    const int units = view.units, rows = 1 + units;
    const std::uint32_t* words = view.words + first * view.stride;
    const std::uint32_t* input_words = words + std::int64_t(view.feature_chunks) * half;
    float* through = scratch;              // networks x rows: features times coefficients, then their derivatives
    float* r = scratch + networks * rows;  // networks
    if (along) {
        all_inner_products(words, view.stride, networks, view.feature_chunks, along->features, rows, through);
        all_inner_products(input_words, view.stride, networks, view.input_chunks, along->inputs, 1, r);
    }
    for (int m = 0; m < networks; ++m) {
        const std::int64_t at = first + m;
        const float *g = view.g + at * units, *slope = view.slope + at * units;
        float value;
        if (along) {
            value = along->intercept + through[m * rows] + r[m];
            for (int u = 0; u < units; ++u)
                value += along->out[u] * g[u] + slope[u] * (along->bias[u] + through[m * rows + 1 + u]);
            value *= view.root[at];
        } else {
            value = v[at];
        }
        value *= view.root[at];
        r[m] = value;
        through[m * rows] = value;
        result.intercept += value;
        for (int u = 0; u < units; ++u) {
            const float down = value * slope[u];
            through[m * rows + 1 + u] = down;
            result.out[u] += value * g[u];
            result.bias[u] += down;
        }
    }
    all_outer_products(words, view.stride, networks, view.feature_chunks, through, rows, result.features);
    all_outer_products(input_words, view.stride, networks, view.input_chunks, r, 1, result.inputs);
}

}  // namespace outsample::OUTSAMPLE_ISA
